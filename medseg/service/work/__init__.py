"""Processes that take jobs from the journal, and what watches them."""
