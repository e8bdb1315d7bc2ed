"""What the frames of a segmentation object hold: of which segment and slice each is, and its pixels, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from medseg import originals
from medseg.dicom import objects
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.refusal import Refusal

Kind = Literal["binary", "labelmap", "fractional"]
FULL = 255
"""What a probability of 1 is stored as."""
ROWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Content:
    """The frames of one object, made as they are asked for: unpacked together they would take many times the scan.

    Attributes:
        segments: positions in the label table; segment n is the n-th of them.
        places: (segment, slice) of each frame, in the order of the file. Segment 0: a label map of all of them.
        planes: gives the frames' pixels in that order, (rows, columns) each: true and false, segment numbers (uint8 or
            uint16), or probabilities * `FULL` (uint8).
        overlap: whether segments share pixels; None where they have no sharp border.
    """

    segments: list[int]
    places: list[tuple[int, int]]
    planes: Callable[[], Iterator[np.ndarray]]
    overlap: bool | None


def shown(prediction: Prediction, what: str) -> Prediction:
    """The result as an object shows it: as it is, or for a map of one number a voxel as that of a single "label".

    Args:
        what: "probabilities", "entropy" or "disagreement".

    Raises:
        Refusal: that map was not kept.
    """
    if what == "probabilities":
        return prediction
    shares = getattr(prediction, what)
    if shares is None:
        raise Refusal("dicom_seg: of", found=f"no {what}", needed="it, kept", remedy="predict with this output")
    nothing = prediction.target.with_array(np.zeros((1, *prediction.target.shape), np.uint8))
    return replace(prediction, table=LabelTable.of({what: 1}), target=nothing, probabilities=shares)


def of(prediction: Prediction, kind: Kind) -> Content:
    """The frames of a result.

    Raises:
        Refusal: a label map of labels that overlap, or fractions without probabilities.
    """
    return {"binary": _binary, "labelmap": _labelmap, "fractional": _fractional}[kind](prediction)


def stack(prediction: Prediction) -> np.ndarray:
    """(C, n, rows, columns): the label map on the original slices, each slice in one piece of memory."""
    return _turned(originals.lay(prediction.target))


def chances(prediction: Prediction, position: int) -> np.ndarray:
    """(n, rows, columns): probabilities of one label on the original slices, 0 beyond their grid.

    Raises:
        Refusal: they were not kept.
    """
    if prediction.probabilities is None:
        raise Refusal(
            "dicom_seg: type",
            found="a result without probabilities",
            needed="probabilities, which a fractional segmentation holds",
            remedy="predict with probabilities kept, or choose the type binary",
        )
    own = prediction.target.with_array(prediction.probabilities[position : position + 1])
    return _turned(originals.lay(own))[0]


def _turned(laid: np.ndarray) -> np.ndarray:
    """(C, columns, rows, n) -> (C, n, rows, columns) in that order in memory. A few rows at a time stay in the
    processor's cache, which takes a quarter of the time."""
    view = laid.transpose(0, 3, 2, 1)
    if view.flags.c_contiguous:
        return view
    turned = np.empty(view.shape, view.dtype)
    for row in range(0, view.shape[2], ROWS_AT_ONCE):
        turned[:, :, row : row + ROWS_AT_ONCE] = view[:, :, row : row + ROWS_AT_ONCE]
    return turned


def _binary(prediction: Prediction) -> Content:
    """A frame for each label on each slice where it has a pixel."""
    laid, table = stack(prediction), prediction.table
    segments = objects.segments(prediction) or _all(prediction)
    seen = _seen(laid, prediction)
    places = [(number, n) for number, position in enumerate(segments, 1) for n in _or_first(seen[position])]

    def planes() -> Iterator[np.ndarray]:
        for number, n in places:
            yield table.mask(laid[:, n], segments[number - 1])

    return Content(segments, places, planes, _overlap(laid, prediction))


def _labelmap(prediction: Prediction) -> Content:
    """A frame for each slice, also those without a label: it costs little and leaves no doubt about the grid."""
    laid, table = stack(prediction), prediction.table
    if _overlap(laid, prediction):
        raise Refusal(
            "dicom_seg: type",
            found=f"labels that overlap ({', '.join(table.names)})",
            needed="labels of which a pixel has one only, for a label map",
            remedy="choose the type binary",
        )
    segments = objects.segments(prediction) or _all(prediction)
    numbers = np.zeros(len(table.labels) + 1, np.uint8 if len(segments) < 256 else np.uint16)
    numbers[[position + 1 for position in segments]] = np.arange(1, len(segments) + 1)

    def planes() -> Iterator[np.ndarray]:
        for n in range(laid.shape[1]):
            if table.exclusive:
                yield numbers[laid[0, n]]
            else:
                yield np.max([numbers[p + 1] * table.mask(laid[:, n], p) for p in segments], axis=0)

    return Content(segments, [(0, n) for n in range(laid.shape[1])], planes, False)


def _fractional(prediction: Prediction) -> Content:
    """A frame for each label on each slice where its probability is half a step or more; labels that are likely nowhere
    follow those that have pixels, whose numbers they leave alone."""
    likely = np.array([_stored(chances(prediction, p)).any(axis=(1, 2)) for p in _all(prediction)])
    sharp = objects.segments(prediction)
    segments = sharp + [p for p in _all(prediction) if p not in sharp and likely[p].any()] or _all(prediction)
    places = [(number, n) for number, position in enumerate(segments, 1) for n in _or_first(likely[position])]

    def planes() -> Iterator[np.ndarray]:
        for number, group in groupby(places, key=lambda place: place[0]):
            own = chances(prediction, segments[number - 1])
            for _, n in group:
                yield _stored(own[n])

    return Content(segments, places, planes, None)


def _stored(probabilities: np.ndarray) -> np.ndarray:
    return np.floor(probabilities * np.float32(FULL) + np.float32(0.5)).astype(np.uint8)


def _all(prediction: Prediction) -> list[int]:
    return list(range(len(prediction.table.labels)))


def _or_first(slices: np.ndarray) -> list[int]:
    """Slices that are marked, or the first where none is: a segment without a frame is not allowed, and "looked for and
    not found" is a result."""
    return np.flatnonzero(slices).tolist() or [0]


def _seen(laid: np.ndarray, prediction: Prediction) -> np.ndarray:
    """(labels, n) boolean: which labels have a pixel on which slice."""
    table, count = prediction.table, len(prediction.table.labels)
    if table.exclusive:
        found = [np.bincount(plane.ravel(), minlength=count + 1)[1 : count + 1] > 0 for plane in laid[0]]
        return np.array(found).T
    return np.array([[table.mask(laid[:, n], p).any() for n in range(laid.shape[1])] for p in _all(prediction)])


def _overlap(laid: np.ndarray, prediction: Prediction) -> bool:
    return not prediction.table.exclusive and any(
        ((laid[:, n] == 1).sum(axis=0) > 1).any() for n in range(laid.shape[1])
    )
