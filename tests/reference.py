"""Real scans that are not part of the repository: where they are, and a skip that says so when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("MEDSEG_REFERENCE_DATA", "/absent"))
needed = [
    pytest.mark.reference_data,
    pytest.mark.skipif(not ROOT.is_dir(), reason="MEDSEG_REFERENCE_DATA names no folder of reference scans"),
]


def files(folder: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Files below a folder of the reference data, by suffix ("" for none); empty when the data are absent."""
    return sorted(
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix.lower() in suffixes and not path.name.startswith("LICENCE")
    )
