"""How DICOM series are chosen and what may be done to those whose slices lie unevenly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medseg.settings import Settings


class DicomSettings(Settings):
    """Of a recipe, and of the reader."""

    repair: Literal["refuse", "report", "fix"] = "fix"
    """What becomes of a series that one affine cannot place: refused; refused, with what `fix` would do; or repaired,
    where the repaired voxels lie right to within tolerance_mm and nothing is interpolated over more than gap_mm."""
    tolerance_mm: float = Field(default=0.01, gt=0)
    """How far one affine may put any voxel from where its own slice's header puts it."""
    gap_mm: float = Field(default=10.0, ge=0)
    """Widest distance between neighbouring slices over which values are interpolated."""
