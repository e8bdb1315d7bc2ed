"""`Prediction`: what the engine hands to outputs, metrics and report."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg import scratch
from medseg.labels import LabelTable
from medseg.volume import Volume

SLAB = 2**21
"""Voxels that are painted or written at once, or one plane."""


@dataclass(frozen=True)
class Quality:
    """What is to be thought of a segmentation, told without the truth; see `quality.judge`.

    Attributes:
        verdict: "pass", "look" or "fail".
        score: from 0 to 1, higher where a poor segmentation is likelier; None: there was nothing to judge by.
        reasons: what stands out, in words, the worst first.
    """

    verdict: str
    score: float | None
    reasons: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For people, in one line."""
        score = "" if self.score is None else f" (score {self.score:.2f})"
        return f"{self.verdict}{score}" + (f": {'; '.join(self.reasons)}" if self.reasons else "")

    def to_json(self) -> dict[str, Any]:
        score = None if self.score is None else round(self.score, 4)
        return {"verdict": self.verdict, "score": score, "reasons": list(self.reasons)}


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of one case on the grid of its scan.

    Attributes:
        case: id of the case.
        table: what the classes mean.
        target: coded as `LabelTable.encode` does: (1, I, J, K) class numbers, or (R, I, J, K) of 0 and 1. Its affine
            and source are those of the scan, so outputs can refer to the original instances.
        probabilities: (labels, I, J, K) float32, one for each label of the table; None unless asked for.
        provenance: model name, weights' sha256, software version, ... as text.
        scan: what was segmented, on the same grid, for outputs that measure it; None if it was not kept.
        uid: of this result alone; the objects written from it derive their identifiers from it and so can name one
            another.
        facts: how this case was worked on, for its record.
        entropy: (1, I, J, K) float32 from 0 to 1, see `transforms.kept.entropy`; None unless asked for.
        disagreement: (1, I, J, K) float32 from 0 to 1, see `engine.dispute`; None unless asked for.
        quality: None where it was not judged.
        edited: whether a person may have had a hand in it.
    """

    case: str
    table: LabelTable
    target: Volume
    provenance: Mapping[str, str] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    scan: Volume | None = None
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    facts: Mapping[str, Any] = field(default_factory=dict)
    entropy: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    quality: Quality | None = None
    edited: bool = False

    @property
    def made_by(self) -> str:
        """By a machine alone or not, in DICOM's words."""
        return "SEMIAUTOMATIC" if self.edited else "AUTOMATIC"

    def painted(self) -> Volume:
        """Label map (1, I, J, K) with the numbers of the table."""
        return self.target.with_array(self.table.paint(self.target.array)[None])

    def slabs(self) -> Iterator[np.ndarray]:
        """`painted`, some planes (I, J, k) at a time, from first to last."""
        planes = max(1, SLAB // self.target.array[0, ..., 0].size)
        for start in range(0, self.target.shape[2], planes):
            yield self.table.paint(self.target.array[..., start : start + planes])
            scratch.let_go(self.target.array)

    def mask(self, position: int) -> np.ndarray:
        """Boolean (I, J, K) of `table.labels[position]`."""
        return self.table.mask(self.target.array, position)


@dataclass(frozen=True, eq=False)
class Classification:
    """Probabilities of the classes of an image, or of each of its slices.

    Attributes:
        case: id of the case.
        table: what the classes mean.
        probabilities: (classes, n) float32; n = 1 for an image, else a column for each slice.
        positions_mm: (n,) where along their axis the slices lie (towards the head, in axial ones); empty for an image.
        undo: how the slices lie on the scan, a `transforms.prepare.Undo`.
        provenance: as in `Prediction`.
        spread: (classes, n) float32, the standard deviation of the probabilities over mirrored images and the members
            of an ensemble; None where there is only one answer.
        scores: (classes, n) float32, the logits that the probabilities were made of; None if they were not kept.
    """

    case: str
    table: LabelTable
    probabilities: np.ndarray
    positions_mm: np.ndarray
    undo: Any = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    spread: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def decisions(self) -> np.ndarray:
        """(classes, n) boolean; see `decided`."""
        return decided(self.probabilities, exclusive=self.table.exclusive)


def decided(probabilities: np.ndarray, *, exclusive: bool) -> np.ndarray:
    """(classes, n) probabilities -> boolean: the likeliest class, or each with a probability above one half."""
    if exclusive:
        return np.arange(len(probabilities))[:, None] == probabilities.argmax(0)
    return probabilities > 0.5


@dataclass(frozen=True, eq=False)
class Evidence:
    """Truth and probabilities of one case side by side, for metrics over a whole set of cases.

    Attributes:
        case: id of the case.
        patient: who it belongs to; intervals resample patients.
        truth: (R, ...) uint8, a row for each label of the table: 1 there, 0 not there, `labels.IGNORE` not known.
        probabilities: (R, ...) float32 from 0 to 1 of the same shape.
        centre: where it was taken; empty if not known.
        attributes: further facts (image quality, ...), for results by stratum.
    """

    case: str
    patient: str
    truth: np.ndarray
    probabilities: np.ndarray
    centre: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
