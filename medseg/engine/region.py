"""Which part of a scan gets labels, and which labels: a box, a mask's surroundings, what a coarse pass has found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.engine.load import load_target
from medseg.labels import LabelTable
from medseg.plugins import nearest
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import slabs
from medseg.transforms.prepare import Slices, Undo
from medseg.volume import Volume

Roi = str | Path | Sequence[slice]
"""A box as text ("10:120,:,30:60"), a mask's file, or three slices; voxels of the scan as it is stored."""
TEXT = re.compile(r"\s*(-?\d*):(-?\d*)\s*,\s*(-?\d*):(-?\d*)\s*,\s*(-?\d*):(-?\d*)\s*")
ROWS = 16
"""Planes of a scan that are looked at or changed at once."""


@dataclass(frozen=True)
class Region:
    """The box of a scan that gets labels.

    Attributes:
        box: voxels of the scan as it is stored; None: all of it.
        facts: where it is and how it was found, for the record.
    """

    box: Slices | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def blocks(self, undo: Undo) -> tuple[Slices, ...] | None:
        """What `segment.Layout.blocks` may hold: boxes of the crop in canonical orientation; none where crop and box do
        not meet. None: all of the crop."""
        if self.box is None:
            return None
        parts = []
        for old, flip, (start, stop) in zip(undo.permutation, undo.flips, undo.crop, strict=True):
            part, size = self.box[old], undo.shape[old]
            first, last = (size - part.stop, size - part.start) if flip else (part.start, part.stop)
            parts.append(slice(max(first, start) - start, min(last, stop) - start))
        return ((parts[0], parts[1], parts[2]),) if all(part.stop > part.start for part in parts) else ()


def given(roi: Roi, scan: Volume) -> Region:
    """The region that a user asks for.

    Raises:
        Refusal: no box and no file, a box outside the scan or turned round, a mask that is empty or on another grid.
    """
    if not isinstance(roi, str | Path):
        if not all(isinstance(part, slice) for part in roi):
            raise _no_box(roi, "single numbers", "a stretch of voxels along each axis, as in slice(10, 120)")
        if any(part.step not in (None, 1) for part in roi):
            raise _no_box(roi, "steps", "whole stretches of voxels")
        spans, how = [(part.start, part.stop) for part in roi], "asked for"
    elif found := TEXT.fullmatch(str(roi)):
        numbers = [int(one) if one else None for one in found.groups()]
        spans, how = list(zip(numbers[::2], numbers[1::2], strict=True)), "asked for"
    else:
        return _found(_of_mask(Path(roi), scan), f"around the mask {Path(roi).name}")
    if len(spans) != 3:
        raise _no_box(roi, f"{len(spans)} ranges", "one for each of the axes i, j and k")
    whole = [
        (start or 0, size if stop is None else stop) for (start, stop), size in zip(spans, scan.shape, strict=True)
    ]
    for (start, stop), size, axis in zip(whole, scan.shape, "ijk", strict=True):
        if start < 0 or stop > size:
            raise _no_box(roi, f"{start}:{stop} along {axis}", f"voxels of the scan, which has {size} along {axis}")
        if start >= stop:
            raise _no_box(roi, f"{start}:{stop} along {axis}", "a first voxel before the last; the second is left out")
    first, second, third = (slice(start, stop) for start, stop in whole)
    return _found((first, second, third), how)


def needs_one_scan(roi: Roi | None, scans: int) -> None:
    """Refuse a mask for several scans: it lies on the grid of one."""
    if isinstance(roi, str | Path) and not TEXT.fullmatch(str(roi)) and scans > 1:
        raise Refusal(
            f"--roi {roi}",
            found=f"one mask for {scans} scans",
            needed="a mask on the grid of each scan",
            remedy="segment them one by one, or give a box in voxels, which then holds for all of them",
        )


def around(coarse: Prediction, names: Sequence[str], *, margin_mm: float) -> Region:
    """The region around labels that a coarse pass has found; everything, and a warning, where it found none of them."""
    target, table = coarse.target, coarse.table
    found = slabs.box_of(target.array, lambda part: _looked_for(table, names)[part])
    asked = ", ".join(names)
    if found is None:
        return Region(facts={"warnings": [f"the coarse pass found no {asked}: the whole scan was segmented"]})
    margins = [int(np.ceil(margin_mm / one)) if target.unit == "mm" else 0 for one in target.spacing_mm]
    first, second, third = (
        slice(max(0, start - margin), min(size, stop + margin))
        for (start, stop), margin, size in zip(found, margins, target.shape, strict=True)
    )
    return _found((first, second, third), f"{margin_mm:g} mm around {asked} as a coarse pass found it")


def check_labels(names: Sequence[str], table: LabelTable, where: str = "--labels") -> None:
    """Refuse labels that a model does not know, or that cannot be told from one another.

    Raises:
        Refusal: unknown names, or a model of regions or of classes.
    """
    if not table.exclusive or table.unit != "voxel":
        raise Refusal(
            where,
            found="a model of overlapping regions" if table.unit == "voxel" else f"a class for every {table.unit}",
            needed="a model whose labels exclude each other",
            remedy="leave the option out: "
            + ("regions are parts of one another" if table.unit == "voxel" else "all classes come from one answer"),
        )
    for name in names:
        if name not in table.names:
            raise Refusal(
                where, found=f"'{name}'", needed="the name of a label of this model", remedy=nearest(name, table.names)
            )


def keep(target: np.ndarray, chances: np.ndarray | None, table: LabelTable, names: Sequence[str]) -> None:
    """Make every label but these background, in place, in class numbers (1, I, J, K); their probabilities become 0."""
    wanted = _looked_for(table, names)
    lookup = (np.arange(len(wanted)) * wanted).astype(target.dtype)
    slow = int(np.argmax(np.abs(target.strides[1:])))
    planes = np.moveaxis(target[0], slow, 0)
    for start in range(0, len(planes), ROWS):
        planes[start : start + ROWS] = lookup[planes[start : start + ROWS]]
    if chances is not None:
        for name, channel in zip(table.names, chances, strict=True):
            if name not in names:
                channel[:] = 0


def _looked_for(table: LabelTable, names: Sequence[str]) -> np.ndarray:
    """(classes,) boolean, background included: which are among the names."""
    return np.array([number > 0 and name in names for number, name in enumerate(table.channel_names)])


def _of_mask(path: Path, scan: Volume) -> Slices:
    if not path.exists():
        raise _no_box(path, "neither a box nor a file", "a box such as 10:120,:,30:60, or a mask's file")
    found = slabs.box_of(load_target(path, scan, read).array, lambda part: part != 0)
    if found is None:
        raise Refusal(path, found="a mask without a voxel", needed="at least one that is not 0", remedy="draw it anew")
    first, second, third = (slice(*part) for part in found)
    return first, second, third


def _found(box: Slices, how: str) -> Region:
    text = ",".join(f"{part.start}:{part.stop}" for part in box)
    return Region(box, {"region": f"{text} (voxels i, j, k; {how})"})


def _no_box(roi: Roi, found: str, needed: str) -> Refusal:
    return Refusal(
        f"--roi {roi}",
        found=found,
        needed=needed,
        remedy="count voxels of the scan as it is stored, from 0, as in 10:120,:,30:60",
    )
