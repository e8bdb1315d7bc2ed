"""Which series goes to which model, by a table, and why."""
