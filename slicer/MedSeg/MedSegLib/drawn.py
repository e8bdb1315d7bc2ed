"""What was drawn, from a file, as a training label map on the whole grid of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLib import labeltable, nrrd
from MedSegLib.labeltable import Table
from MedSegLib.nrrd import Header
from MedSegLib.trouble import Trouble

SAME = 0.01
"""Of the scan's shortest voxel side: grids whose corners are no further apart are one."""
MOST_NAMED = 8


def values(table: Table, file: Header, scan: Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label map (I, J, K) of a segmentation or of a label map, and sentences that the user ought to read.

    Raises:
        Trouble: they do not fit each other.
    """
    place = _place(file, scan)
    layers = nrrd.voxels(file)
    if "Segment0_ID" in file.notes:
        return _of_segments(table, file, layers, place)
    if len(layers) > 1:
        raise Trouble(
            "The label map has several layers.",
            "Save the segmentation as .seg.nrrd, so that its segments have names.",
            "labels",
        )
    whole = place.whole(layers[0])
    odd = sorted(set(np.unique(whole).tolist()) - table.known)
    if odd:
        what = f"The label map has the number {odd[0]}, which no label of the model has."
        raise Trouble(what, "Save the segmentation as .seg.nrrd, so that its segments have names.", "labels")
    notes = _cut({"": (layers[0] != 0, whole != 0)})
    return whole.astype(np.uint8 if max(table.known) < 256 else np.uint16), notes


def _of_segments(table: Table, file: Header, layers: np.ndarray, place: _Place) -> tuple[np.ndarray, tuple[str, ...]]:
    drawn, strange = {}, []
    for name, value, layer in _segments(file, len(layers)):
        if name not in table.names:
            strange.append(name)
        elif name in drawn:
            what = f"Two segments have the name {name}, so that one of them would be lost."
            raise Trouble(what, "Unite them (Segment Editor > Logical operators > Add), or rename one.", "labels")
        else:
            drawn[name] = layers[layer] == value
    if not drawn:
        what = f"None of the segments ({', '.join(strange)}) has the name of one of the model's labels."
        raise Trouble(what, f"Name them: {', '.join(table.names)}.", "labels")
    _refuse_renamed(strange, [name for name in table.names if name not in drawn])
    masks = {name: place.whole(mask) for name, mask in drawn.items()}
    cut = _cut({name: (mask, masks[name]) for name, mask in drawn.items()})
    made, notes = labeltable.numbers(table, masks)
    bare = [name for name in table.names if name not in masks or not masks[name].any()]
    if strange:
        notes = (*notes, f"Left out, as the model has no such label: {', '.join(strange)}.")
    if bare:
        notes = (*notes, f"The case teaches that this is not there: {', '.join(bare)}.")
    return made, (*cut, *notes)


def _refuse_renamed(unknown: Sequence[str], missing: Sequence[str]) -> None:
    """See whether a segment may be a label under another name: then the case would teach that what was drawn is not
    there.

    Args:
        unknown: names of segments that are no label of the model.
        missing: names of labels that have no segment.

    Raises:
        Trouble: only the user can tell.
    """
    if unknown and missing:
        what = (
            f"The model has no label {_listed(unknown)}, and there is no segment {_listed(missing)}: "
            "the case would teach that this is not there."
        )
        remedy = "If it is there, give the segment the label's name; else remove the segment."
        raise Trouble(what, remedy, "absent")


def _segments(file: Header, layers: int) -> list[tuple[str, int, int]]:
    """(name, number in the voxels, layer) of each segment."""
    found: list[tuple[str, int, int]] = []
    try:
        while f"Segment{len(found)}_ID" in file.notes:
            field = f"Segment{len(found)}_"
            value, layer = (int(file.notes[field + part]) for part in ("LabelValue", "Layer"))
            found.append((file.notes[f"{field}Name"], value, layer))
        if any(not 0 <= layer < layers for _, _, layer in found):
            raise ValueError("a layer that is not there")
    except (KeyError, ValueError) as error:
        what = f"{file.path.name} does not say which number is which segment."
        raise Trouble(what, "Save it again from Slicer 5.", "unreadable", repr(error)) from error
    return found


@dataclass(frozen=True)
class _Place:
    """Where a file lies in the grid of the scan.

    Attributes:
        here, there: what both have of the voxels, in the file and in the scan.
        shape: of the scan.
    """

    here: tuple[slice, ...]
    there: tuple[slice, ...]
    shape: tuple[int, int, int]

    def whole(self, part: np.ndarray) -> np.ndarray:
        """The file's voxels (I, J, K) on all of the scan; what lies outside of it is cut off."""
        if part.shape == self.shape == part[self.here].shape:
            return part
        whole = np.zeros(self.shape, part.dtype)
        whole[self.there] = part[self.here]
        return whole


def _place(file: Header, scan: Header) -> _Place:
    """Where the file lies in the scan.

    Raises:
        Trouble: they are not parts of one grid, or lie beside each other.
    """
    start = np.rint((np.linalg.inv(scan.affine) @ file.affine)[:3, 3])
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*np.array(file.shape) - 1, 1]
    moved = np.eye(4)
    moved[:3, 3] = start
    apart = ((file.affine - scan.affine @ moved) @ corners.T)[:3]
    if np.linalg.norm(apart, axis=0).max() > SAME * np.linalg.norm(scan.affine[:3, :3], axis=0).min():
        what = f"The segmentation lies on another grid than the scan ({_grid(file)}, not {_grid(scan)})."
        remedy = "In the Segment Editor, choose the scan as the source volume's geometry, or save it from this panel."
        raise Trouble(what, remedy, "grids-differ")
    begins = [int(one) for one in start]
    low = [max(0, one) for one in begins]
    high = [min(size, one + length) for size, one, length in zip(scan.shape, begins, file.shape)]
    if any(one >= other for one, other in zip(low, high)):
        raise _beside()
    there = tuple(slice(one, other) for one, other in zip(low, high))
    here = tuple(slice(one - begin, other - begin) for one, other, begin in zip(low, high, begins))
    return _Place(here, there, scan.shape)


def _grid(header: Header) -> str:
    sides = np.linalg.norm(header.affine[:3, :3], axis=0)
    return f"{' x '.join(map(str, header.shape))} voxels of {' x '.join(f'{side:.3g}' for side in sides)} mm"


def _cut(drawn: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
    """A sentence about what was cut off. `drawn`: masks before and after, by name.

    Raises:
        Trouble: that is all of it.
    """
    counts = {name: [int(np.count_nonzero(mask)) for mask in both] for name, both in drawn.items()}
    lost = [(name, before - after) for name, (before, after) in counts.items() if before > after]
    if lost and not any(after for _, after in counts.values()):
        raise _beside()
    told = ", ".join(f"{count} voxels{f' of {name}' if name else ''}" for name, count in lost)
    return (f"Cut off, as it lies outside of the scan: {told}.",) if lost else ()


def _beside() -> Trouble:
    what = "What was drawn lies wholly outside of the scan."
    return Trouble(what, "Choose the volume that the segmentation was drawn on.", "outside")


def _listed(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:MOST_NAMED]]
    more = [f"{len(names) - MOST_NAMED} others"] if len(names) > MOST_NAMED else []
    *first, end = [*shown, *more]
    return f"{', '.join(first)} or {end}" if first else end
