"""Which slices of a case to show, and how they lie on the page: plain arrays, no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg.geometry import axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.prediction import Prediction
from medseg.volume import Volume

WINDOWS = {"CT": (-160.0, 240.0)}
"""Intensities shown as black and white, by modality (CT: soft tissue); others between their 1st and 99th percentile."""


@dataclass(frozen=True)
class Plane:
    """One way to cut a volume in canonical RAS orientation, and the letters at the four edges of the picture.

    Attributes:
        normal: voxel axis that the slices are stacked along.
        columns: voxel axis that runs from left to right of the picture, reversed.
        rows: voxel axis that runs from top to bottom of the picture, reversed.
    """

    name: str
    normal: int
    columns: int
    rows: int
    left: str
    right: str
    top: str
    bottom: str


# Radiological convention: the patient's right is on the left of the picture. Voxel axes run to R, A and S, and every
# picture wants R (or A), and A (or S), at its beginning; so all in-plane axes are reversed.
PLANES = (
    Plane("axial", normal=2, columns=0, rows=1, left="R", right="L", top="A", bottom="P"),
    Plane("coronal", normal=1, columns=0, rows=2, left="R", right="L", top="S", bottom="I"),
    Plane("sagittal", normal=0, columns=1, rows=2, left="A", right="P", top="S", bottom="I"),
)


@dataclass(frozen=True, eq=False)
class Overlay:
    """One case to look at.

    Attributes:
        case: its id.
        scan: (I, J, K), or (3, I, J, K) for a colour photograph, in canonical RAS orientation, any unit of intensity.
        predicted: label map (I, J, K) with the numbers of the table, as `LabelTable.paint` makes it; or, so that
            overlapping regions show in full, the network target as `LabelTable.encode` makes it.
        spacing_mm: voxel size along I, J, K; of a photograph, pixels.
        window: intensities shown as black and as white.
        table: what the numbers mean, and their colours.
        truth: the reference, coded in either way; None where there is none.
        unit: "px" for photographs, which get neither orientation letters nor a scale bar.

    Raises:
        ValueError: shapes that do not belong together, labels that are not whole numbers, an impossible spacing.
    """

    case: str
    scan: np.ndarray
    predicted: np.ndarray
    spacing_mm: tuple[float, float, float]
    window: tuple[float, float]
    table: LabelTable
    truth: np.ndarray | None = None
    unit: Literal["mm", "px"] = "mm"

    def __post_init__(self) -> None:
        colour = self.scan.ndim == 4 and self.scan.shape[0] == 3
        if (self.scan.ndim != 3 and not colour) or 0 in self.scan.shape:
            raise ValueError(f"case {self.case}: scan of shape {self.scan.shape}; needed (I, J, K) or (3, I, J, K)")
        for name, labels in (("predicted", self.predicted), ("truth", self.truth)):
            if labels is None:
                continue
            if labels.dtype.kind not in "bui":
                raise ValueError(f"case {self.case}: {name} holds {labels.dtype}; needed whole numbers")
            channels = (1 if self.table.exclusive else len(self.table.labels),)
            if labels.shape not in (self.shape, channels + self.shape):
                raise ValueError(f"case {self.case}: {name} of shape {labels.shape}, but the scan has {self.shape}")
        if len(self.spacing_mm) != 3 or not all(0 < float(side) < np.inf for side in self.spacing_mm):
            raise ValueError(f"case {self.case}: spacing {self.spacing_mm}; needed three positive lengths")

    @property
    def errors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where any label is missed, and where any is a false alarm: boolean (I, J, K) each; both at once where one
        label stands for another. None without truth. Where the truth is not known, nothing is an error."""
        if self.truth is None:
            return None
        missed, false = np.zeros(self.shape, bool), np.zeros(self.shape, bool)
        layers = zip(self.layers(self.truth), self.layers(self.predicted), strict=True)
        for (truth, number), (predicted, same) in layers:
            there, found = truth == number, predicted == same
            missed |= there & ~found
            false |= found & ~there & ~self._unknown(truth)
        return missed, false

    def _unknown(self, truth: np.ndarray) -> np.ndarray:
        """Boolean (I, J, K) for one of the truth's layers."""
        coded = self.truth is not None and self.truth.ndim == 4
        ignored = IGNORE if coded else self.table.ignore
        return np.zeros(self.shape, bool) if ignored is None else truth == ignored

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        return self.scan.shape[-3:]

    def layers(self, labels: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """For each label of the table, an array (I, J, K) and the number in it that means 'inside'."""
        if labels.ndim == 3:
            return [(labels, label.index) for label in self.table.labels]
        if self.table.exclusive:
            classes = labels[0]
            return [(classes, position) for position in range(1, len(self.table.labels) + 1)]
        return [(region, 1) for region in labels]


def overlay(scan: Volume, prediction: Prediction, truth: Volume | None) -> Overlay:
    """One case to look at, turned to RAS orientation for the page.

    Args:
        truth: label map on the scan's grid, with the numbers of training files.
    """
    mapping = axis_map(scan.affine, "RAS")
    first, second, third = (float(scan.spacing_mm[old]) for old in mapping.permutation)
    image = mapping.apply(scan.array)
    image = image if scan.unit == "px" and len(image) == 3 else image[0]
    return Overlay(
        case=prediction.case,
        scan=image,
        predicted=mapping.apply(prediction.target.array),
        truth=None if truth is None else mapping.apply(prediction.table.encode(truth.array[0])),
        spacing_mm=(first, second, third),
        window=WINDOWS.get(scan.source.modality) or percentiles(image),
        table=prediction.table,
        unit=scan.unit,
    )


def percentiles(image: np.ndarray) -> tuple[float, float]:
    """A window from the 1st to the 99th percentile, of what is not 0 if anything is."""
    low, high = np.percentile(image[image != 0] if image.any() else image, (1, 99))
    return float(low), float(high) if high > low else float(low) + 1


def planes(shape: tuple[int, int, int]) -> tuple[Plane, ...]:
    """The planes worth showing: those with more than a single line of voxels; a photograph (K = 1) has only one."""
    wide = tuple(plane for plane in PLANES if shape[plane.columns] > 1 and shape[plane.rows] > 1)
    return wide or PLANES[:1]


def cut(array: np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """Slice `index` of an array (..., I, J, K) in RAS orientation as a picture (..., rows, columns), top row first."""
    taken = np.moveaxis(array, plane.normal - 3, 0)[index]  # a view; np.take would copy a strided array as a whole
    return np.swapaxes(taken, -1, -2)[..., ::-1, ::-1]


def pixel_mm(plane: Plane, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """(height, width) of one pixel of `cut`."""
    return float(spacing_mm[plane.rows]), float(spacing_mm[plane.columns])


def busiest(overlay: Overlay, plane: Plane) -> int:
    """Number of the slice with the most foreground, predicted or true; the middle one when there is none.

    Each label counts relative to its own fullest slice, so that a small lesion is not lost behind a large organ. Of
    equally full slices, the middle one is taken.
    """
    scores = np.zeros(overlay.shape[plane.normal])
    for labels in (overlay.predicted, overlay.truth):
        for counts in [] if labels is None else _voxels_per_slice(overlay.layers(labels), plane.normal):
            scores += counts / max(counts.max(), 1)
    best = np.flatnonzero(np.isclose(scores, scores.max()))
    return int(best[len(best) // 2])


def telling(overlay: Overlay, plane: Plane, errors: tuple[np.ndarray, np.ndarray] | None) -> int:
    """Number of the slice with the most errors, or the busiest one where there is no error, or no truth."""
    if errors is None:
        return busiest(overlay, plane)
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    counts = np.count_nonzero(errors[0], axis=others) + np.count_nonzero(errors[1], axis=others)
    return int(counts.argmax()) if counts.any() else busiest(overlay, plane)


def visible(overlay: Overlay, plane: Plane, index: int) -> list[bool]:
    """For each label of the table, whether it is predicted or true anywhere in a slice."""
    found = np.zeros(len(overlay.table.labels), dtype=bool)
    for labels in (overlay.predicted, overlay.truth):
        if labels is not None:
            found |= [bool((cut(array, plane, index) == number).any()) for array, number in overlay.layers(labels)]
    return found.tolist()


def _voxels_per_slice(layers: list[tuple[np.ndarray, int]], normal: int) -> list[np.ndarray]:
    """For each label, its voxels in every slice along axis `normal`. One pass an array, however many labels; slice by
    slice, so that a large scan costs little memory."""
    highest = max(number for _, number in layers)
    histograms: dict[int, np.ndarray] = {}
    for array, _ in layers:
        if id(array) not in histograms:
            slices = np.moveaxis(array, normal, 0)
            histograms[id(array)] = np.stack([_histogram(numbers, highest) for numbers in slices])
    return [histograms[id(array)][:, number] for array, number in layers]


def _histogram(numbers: np.ndarray, highest: int) -> np.ndarray:
    """How often 0 ... highest occur; what lies outside counts as 0, which no label has."""
    known = np.where((numbers >= 0) & (numbers <= highest), numbers, 0)
    return np.bincount(known.ravel().astype(np.int64), minlength=highest + 1)
