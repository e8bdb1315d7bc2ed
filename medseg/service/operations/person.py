"""What a person does to jobs on the command line, and who that is, for the audit log."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterable

from medseg.refusal import Refusal
from medseg.service.journal import Journal


def here() -> str:
    """The user of the command line, by name, or by number where the system knows no name (in a container)."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # 3.13 makes it an OSError
        return f"user {os.getuid()} (command line)"


def does(what: str, jobs: Iterable[int], change: Callable[[int], str], journal: Journal) -> int:
    """Change jobs one by one, and put that on record; one that does not let itself be changed keeps no other from it.

    Args:
        what: in the audit log; empty: nothing is changed.
        change: of a job; what is to be printed of it.

    Returns:
        How many were refused.
    """
    refused = 0
    for number in jobs:
        try:
            print(change(number))
        except Refusal as refusal:
            print(f"error: {refusal}", file=sys.stderr)
            refused += 1
        else:
            if what:
                journal.audit.add(here(), what, f"job {number}")
    return refused
