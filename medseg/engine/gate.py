"""A slice classifier before a segmentation: labels are limited to the slices that it flags, and the cost is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg import scratch
from medseg.case import Case
from medseg.engine import learned
from medseg.engine.learned import Learned
from medseg.engine.memory import FREE, Limits
from medseg.engine.predict import Predictor
from medseg.engine.region import ROWS
from medseg.engine.run import Run
from medseg.prediction import Evidence, Prediction
from medseg.refusal import Refusal
from medseg.statistics import of_each_case, share
from medseg.transforms import native
from medseg.volume import Volume


@dataclass(frozen=True)
class Gate:
    """A loaded slice classifier and the probability from which a slice is flagged (for any of its classes).

    Attributes:
        run: where it comes from.
        cost: what it is known to lose, in a sentence.
    """

    predictor: Predictor
    threshold: float = 0.5
    run: Run | None = None
    cost: str = ""

    @classmethod
    def load(cls, run: Path, *, threshold: float = 0.5, device: str = "auto", limits: Limits = FREE) -> Gate:
        """Raises:
        Refusal: the run is none of a slice classifier, or the threshold is no probability.
        """
        opened = Run.open(run)
        predictor = Predictor.load([opened.folder], device=device, limits=limits)
        if predictor.table.unit != "slice":
            raise Refusal(
                run,
                found=f"a model that tells a class for every {predictor.table.unit}",
                needed="a slice classifier, trained with labels of unit slice",
                remedy="give the run folder of one after --gate",
            )
        if not 0 <= threshold <= 1:
            raise Refusal("--gate-threshold", found=f"{threshold:g}", needed="0 to 1", remedy="correct it")
        return cls(predictor, threshold, opened, _known_cost(opened, threshold))

    @property
    def learned(self) -> Learned:
        """Whom it has learned from, which its data set is listed for; nobody where that is not known (an exported run
        does not say)."""
        return learned.by(self.run) if self.run else Learned()

    def __call__(self, case: Case, scan: Volume, prediction: Prediction) -> tuple[Prediction, dict[str, Any]]:
        """The prediction without what lies outside flagged slices, and facts for the record."""
        return self.limited(prediction, *self.flagged(case, scan))

    def limited(
        self, prediction: Prediction, inside: np.ndarray, facts: dict[str, Any]
    ) -> tuple[Prediction, dict[str, Any]]:
        """The same from what `flagged` has found. Labels and probabilities, which may lie on disk, are changed in
        place."""
        lost = sum(_emptied(channel, inside[0]) for channel in prediction.target.array)
        for channel in () if prediction.probabilities is None else prediction.probabilities:
            _emptied(channel, inside[0])
        facts = {**facts, "voxels taken away": lost}
        provenance = {
            **prediction.provenance,
            "limited to slices flagged by": self.predictor.provenance["model"],
            "gate weights sha256": self.predictor.provenance["weights sha256"],
            "gate threshold": f"{self.threshold:g}",
        }
        return replace(prediction, provenance=provenance), {"gate": facts}

    def flagged(self, case: Case, scan: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """Boolean (1, I, J, K) on the scan's grid of the slices flagged, and their count."""
        found = self.predictor.classify(self.channels(scan), case.id, centre=case.centre)
        flags = found.probabilities.max(axis=0) >= self.threshold
        everywhere = torch.from_numpy(np.where(flags, 1.0, -1.0)).float().expand(1, *found.undo.prepared)
        inside = native.labels(everywhere, found.undo, exclusive=False).view(bool)
        return inside, {"threshold": self.threshold, "slices": len(flags), "slices flagged": int(flags.sum())}

    def channels(self, scan: Volume) -> Volume:
        """The channels that the classifier sees, by their names; one channel fits one channel, whatever its name.

        Raises:
            Refusal: the scan lacks some.
        """
        wanted = self.predictor.plan.channels
        if len(wanted) == len(scan.array) == 1:
            return scan
        missing = [name for name in wanted if name not in scan.channels]
        if missing:
            raise Refusal(
                scan.source.path,
                found=f"channels {', '.join(scan.channels) or 'without names'}",
                needed=f"those of the gate: {', '.join(wanted)}",
                remedy="use a classifier that was trained on channels of the segmentation's scans",
            )
        return scan.with_array(scan.array[[scan.channels.index(name) for name in wanted]], wanted)


def _emptied(channel: np.ndarray, inside: np.ndarray) -> int:
    """Make (I, J, K) 0 outside, in place and some planes at a time; how many voxels were not."""
    slow, lost = int(np.argmax(np.abs(channel.strides))), 0
    planes, kept = np.moveaxis(channel, slow, 0), np.moveaxis(inside, slow, 0)
    for start in range(0, len(planes), ROWS):
        part = planes[start : start + ROWS]
        goes = (part != 0) & ~kept[start : start + ROWS]
        part[goes] = 0
        lost += int(np.count_nonzero(goes))
    scratch.let_go(channel)
    return lost


def side_by_side(case: Case, inside: np.ndarray, labelled: np.ndarray) -> Evidence:
    """What `cost` counts of a case.

    Args:
        inside: boolean (I, J, K), whether a voxel lies in a flagged slice; slices lie along the last axis.
        labelled: boolean (I, J, K), whether a voxel truly has a label.
    """
    flags = inside[None].astype(np.float32)
    return Evidence(case.id, case.patient, labelled[None].astype(np.uint8), flags, case.centre)


def _known_cost(run: Run, threshold: float) -> str:
    """The sensitivity that the classifier's own evaluation found at this threshold, if it did."""
    unknown = f"gate: what it loses at {threshold:g} was not measured; `medseg evaluate RUN --gate {run.folder}` does"
    usual = [getattr(one.options, "threshold", None) for one in run.recipe.metrics if one.name == "classification"]
    measured_at = usual[0] if usual and usual[0] is not None else 0.5
    if not run.path("metrics.json").exists() or threshold != measured_at:
        return unknown
    found = {
        row["row"]: row
        for row in run.read("metrics.json")["over all cases"]
        if (row["over"], row["metric"]) == ("slice", "classification") and row["row"].endswith(": sensitivity")
    }
    said = [
        f"{row['value']:.3f}"
        + (f" ({row['low']:.3f} to {row['high']:.3f})" if row["low"] is not None else "")
        + f" of the slices with {name.removesuffix(': sensitivity')}"
        for name, row in found.items()
        if row["value"] is not None and not name.startswith("mean: ")
    ]
    return f"gate: on its own held-out cases it flags {', '.join(said)}; the others are lost" if said else unknown


def cost(cases: Sequence[Evidence]) -> dict[str, float]:
    """What a gate loses and spares, over all cases, which are as `side_by_side` makes them.

    Returns:
        Sensitivity: share of the slices with a label that are flagged; specificity: share of the others that are not;
        share of the labelled voxels kept. nan where there are none to count.
    """
    found, labelled, spared, others, kept, voxels = of_each_case(cases, _counts).sum(axis=0)
    return {
        "sensitivity": share(found, labelled),
        "specificity": share(spared, others),
        "labelled voxels kept": share(kept, voxels),
    }


def _counts(case: Evidence) -> tuple[int, int, int, int, int, int]:
    """Slices with a label that are flagged and in all, slices without one that are not and in all, voxels with a label
    in flagged slices and in all."""
    truth, inside = case.truth[0] == 1, case.probabilities[0] > 0
    labelled, flagged = truth.any(axis=(0, 1)), inside.any(axis=(0, 1))
    slices = (labelled & flagged, labelled, ~labelled & ~flagged, ~labelled)
    first, second, third, fourth = (int(np.count_nonzero(each)) for each in slices)
    return first, second, third, fourth, int((truth & inside).sum()), int(truth.sum())
