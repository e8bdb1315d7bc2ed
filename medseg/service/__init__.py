"""Batch inference for a hospital: studies come in, results go out, and what became of each is on record.

Rooms: `settings` (the site's YAML), `journal` (the record of jobs), `intake` (ways in), `routing` (which model),
`work` (processes that run models), `delivery` (ways out), `web` (REST and the page), `operations` (keeping it well).
Processes meet in the journal alone.
"""
