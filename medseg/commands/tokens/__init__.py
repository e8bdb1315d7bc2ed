"""Tokens of `medseg serve`: who may look, ask for jobs, and administer."""
