"""Watched folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from medseg.settings import Settings


class Watch(Settings):
    """A folder into which other programs put DICOM files."""

    folder: Path
    quiet_s: Annotated[float, Field(gt=0)] = 10
    """A file is taken when it has not changed for so long."""
    remove: bool = False
    """Whether files go once they are taken; else they stay, and are not taken twice."""
