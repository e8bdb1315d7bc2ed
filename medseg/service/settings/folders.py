"""Folders of an installation."""

from __future__ import annotations

from pathlib import Path


def private(folder: Path) -> Path:
    """Make a folder of patients' data, into which its owner alone can look; one that is there stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
