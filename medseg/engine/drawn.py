"""Labels that a person may have drawn or corrected, laid on the scan that they belong to, as a result to be written."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np

from medseg.engine.load import pasted
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms.channels import difference, reoriented, same_place
from medseg.volume import Volume

HAND = "corrected or drawn by a person, or left as it was: the file does not tell"


SEGMENTS = "give a .seg.nrrd, whose segments have names: `medseg predict --output seg_nrrd` makes one"


def on_scan(path: Path, scan: Volume, case: str, table: LabelTable | None = None) -> Prediction:
    """The labels of a file as those of a scan.

    Args:
        path: segmentation of 3D Slicer (.seg.nrrd), which says itself what its segments are, or a label map. On the
            scan's voxels, in any axis order; a segmentation may cover a box of them only.
        table: what the numbers of a label map mean; None: the file says so.

    Raises:
        Refusal: another grid, numbers or channels that nothing explains or that mean two things, a table for a file
            that has its own, two segments of one name, or no voxel of any label.
    """
    labels = read(path)
    if table is not None and labels.source.notes.get("labels"):
        raise Refusal(
            path,
            found="segments with names of their own, beside the labels of a run",
            needed="a label map where the run says what its numbers mean; a .seg.nrrd says it itself",
            remedy="leave --labels out",
        )
    table = table or _own_table(path, labels)
    if len(labels.array) != 1 and len(labels.array) != len(table.labels):
        raise Refusal(
            path,
            found=f"{len(labels.array)} channels",
            needed="a label map with one number for each voxel, or a .seg.nrrd",
            remedy="give one of these",
        )
    placed = _placed(path, labels, scan)
    target = _encoded(path, placed.array[0].astype(np.int64), table) if len(placed.array) == 1 else placed.array
    if not target.any():
        raise Refusal(
            path,
            found=f"not one voxel of {', '.join(one.name for one in table.labels[:10])}",
            needed="something that is drawn",
            remedy="look whether this is the file that you meant",
        )
    provenance = {**labels.source.notes.get("provenance", {}), "edited": HAND}
    return Prediction(case, table, scan.with_array(target), provenance, scan=scan, edited=True)


def _encoded(path: Path, values: np.ndarray, table: LabelTable) -> np.ndarray:
    """The network target of a label map (I, J, K). Of regions, it may hold the numbers that were trained on, or those
    that a prediction is painted with; where it could be either, both have to mean the same."""
    may_be_painted = not table.exclusive and _maybe_painted(values, table)
    covering = _covering(values, table) if may_be_painted else ""
    if covering:
        raise Refusal(
            path,
            found=f"the numbers that predictions are painted with, where {covering} overlap and a voxel shows only one",
            needed="a map from which every region follows",
            remedy=SEGMENTS,
        )
    unknown = table.unknown(values)
    painted = _unpainted(values, table) if may_be_painted else None
    if unknown and painted is None:
        raise Refusal(
            path,
            found=f"the numbers {', '.join(map(str, unknown[:10]))}",
            needed=f"0 for background, and {', '.join(str(one.index) for one in table.labels[:20])}",
            remedy="name the run that these labels are of with --labels, or correct them",
        )
    trained = table.encode(values)
    if painted is None or np.array_equal(trained, painted):
        return trained
    if unknown:
        return painted
    raise Refusal(
        path,
        found="numbers that predictions are painted with, and that mean other regions where labels are trained on",
        needed="a map whose numbers mean one thing",
        remedy=SEGMENTS,
    )


def _maybe_painted(values: np.ndarray, table: LabelTable) -> bool:
    """Whether all numbers are those that predictions are painted with."""
    return set(np.unique(values).tolist()) <= {0, *(label.index for label in table.labels)}


def _covering(values: np.ndarray, table: LabelTable) -> str:
    """Of a map that may be painted, two regions of which one lies on the other without being a part of it."""
    for one, other in combinations(table.labels, 2):
        common = {*one.members} & {*other.members}
        partly = common and common not in ({*one.members}, {*other.members})
        if partly and np.isin(values, (one.index, other.index)).any():
            return f"{one.name} and {other.name}"
    return ""


def _unpainted(values: np.ndarray, table: LabelTable) -> np.ndarray:
    """What was painted, (R, I, J, K): a region lies on top of those that it is a part of."""
    parts = [[one.index for one in table.labels if {*one.members} <= {*label.members}] for label in table.labels]
    return np.stack([np.isin(values, numbers) for numbers in parts]).astype(np.uint8)


def empty(made: Prediction) -> tuple[str, ...]:
    """Names of labels without a voxel, which a DICOM object leaves out."""
    return tuple(one.name for n, one in enumerate(made.table.labels) if not made.mask(n).any())


def _own_table(path: Path, labels: Volume) -> LabelTable:
    told = labels.source.notes.get("labels", ())
    if not told:
        raise Refusal(
            path,
            found="a label map, which does not say what its numbers mean",
            needed="a .seg.nrrd with segments, or a run whose labels these are",
            remedy="name it: --labels RUN",
        )
    twice = [name for name, count in Counter(label.name for label in told).items() if count > 1]
    if twice:
        raise Refusal(
            path, found=f"two segments called '{twice[0]}'", needed="a name for each", remedy="rename one of them"
        )
    return LabelTable(tuple(told), exclusive=len(labels.array) == 1)


def _placed(path: Path, labels: Volume, scan: Volume) -> Volume:
    turned = reoriented(labels, scan)
    if same_place(turned, scan):
        return turned
    whole = pasted(turned, scan)
    if whole is None:
        raise Refusal(
            path,
            found=f"a grid {difference(turned, scan)} from that of {scan.source.path}",
            needed="labels on the voxels of the series that they are to refer to",
            remedy="name the series that they were drawn on, or resample them onto it",
            code="grids-differ",
        )
    return whole
