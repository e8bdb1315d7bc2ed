"""Processes that run models: workers, who supervises them, and how it is known that one is gone."""
