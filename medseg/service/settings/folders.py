"""Folders of an installation."""

from __future__ import annotations

from pathlib import Path

from medseg.refusal import Refusal


def private(folder: Path) -> Path:
    """Make a folder of patients' data, into which its owner alone can look; one that is there stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def refuse_unsayable(path: Path) -> None:
    """Refuse a path that a journal, whose text is UTF-8, would give back as another one.

    Raises:
        Refusal: its name, or that of a folder above it, is no UTF-8.
    """
    told = str(path.absolute()).encode("utf-8", "replace").decode()
    if told != str(path.absolute()):
        raise Refusal(
            told,
            found="a name that is no UTF-8",
            needed="one that a journal can hold",
            remedy="rename it, or its folder",
        )
