"""A slice classifier before a segmentation: labels are limited to the slices that it flags, and the cost is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.case import Case
from medseg.engine.predict import Predictor
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume


@dataclass(frozen=True)
class Gate:
    """A loaded slice classifier and the probability from which a slice is flagged (for any of its classes)."""

    predictor: Predictor
    threshold: float = 0.5

    @classmethod
    def load(cls, run: Path, *, threshold: float = 0.5, device: str = "auto") -> Gate:
        """Raises:
        Refusal: the run is none of a slice classifier, or the threshold is no probability.
        """
        predictor = Predictor.load([run], device=device)
        if predictor.table.unit != "slice":
            raise Refusal(
                run,
                found=f"a model that tells a class for every {predictor.table.unit}",
                needed="a slice classifier, trained with labels of unit slice",
                remedy="give the run folder of one after --gate",
            )
        if not 0 <= threshold <= 1:
            raise Refusal("--gate-threshold", found=f"{threshold:g}", needed="0 to 1", remedy="correct it")
        return cls(predictor, threshold)

    def __call__(self, case: Case, scan: Volume, prediction: Prediction) -> tuple[Prediction, dict[str, Any]]:
        """The prediction without what lies outside flagged slices, and facts for the record."""
        inside, facts = self.flagged(case, scan)
        before = prediction.target.array
        limited = np.where(inside, before, before.dtype.type(0))
        facts |= {"voxels taken away": int((before != 0).sum() - (limited != 0).sum())}
        provenance = {
            **prediction.provenance,
            "limited to slices flagged by": self.predictor.provenance["model"],
            "gate weights sha256": self.predictor.provenance["weights sha256"],
            "gate threshold": f"{self.threshold:g}",
        }
        chances = None if prediction.probabilities is None else prediction.probabilities * inside
        target = prediction.target.with_array(limited)
        return replace(prediction, target=target, provenance=provenance, probabilities=chances), {"gate": facts}

    def flagged(self, case: Case, scan: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """Boolean (1, I, J, K) on the scan's grid of the slices flagged, and their count."""
        found = self.predictor.classify(self._channels(scan), case.id, centre=case.centre)
        flags = found.probabilities.max(axis=0) >= self.threshold
        everywhere = torch.from_numpy(np.where(flags, 1.0, -1.0)).float().expand(1, *found.undo.prepared)
        inside = found.undo.to_native(everywhere, exclusive=False).astype(bool)
        return inside, {"threshold": self.threshold, "slices": len(flags), "slices flagged": int(flags.sum())}

    def _channels(self, scan: Volume) -> Volume:
        """The channels that the classifier sees, by their names; one channel fits one channel, whatever its name."""
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


def cost(flagged: Mapping[str, np.ndarray], truths: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What a gate loses and spares, over all cases: masks (I, J, K) by case, flagged and truly labelled.

    Returns:
        Slices are those along the last axis. Sensitivity: share of slices with a label that are flagged; specificity:
        share of the others that are not; share of labelled voxels kept. nan where there are none to count.
    """
    with_label, flags, kept, voxels = [], [], 0, 0
    for case, truth in truths.items():
        inside = flagged[case]
        with_label.append(truth.any(axis=(0, 1)))
        flags.append(inside.any(axis=(0, 1)))
        kept, voxels = kept + int((truth & inside).sum()), voxels + int(truth.sum())
    labelled, said = np.concatenate(with_label), np.concatenate(flags)

    def share(part: np.ndarray) -> float:
        return float(part.mean()) if part.size else float("nan")

    return {
        "sensitivity": share(said[labelled]),
        "specificity": share(~said[~labelled]),
        "labelled voxels kept": kept / voxels if voxels else float("nan"),
    }
