"""Who gives a command here, for the audit log."""

from __future__ import annotations

import getpass
import os


def here() -> str:
    """The user of the command line, by name, or by number where the system knows no name (in a container)."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # 3.13 makes it an OSError
        return f"user {os.getuid()} (command line)"
