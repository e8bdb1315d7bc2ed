"""How far the answers of one network in bf16 and in float32 agree, over several cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from medseg.config import PredictSettings
from medseg.engine import validate
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.prediction import decided
from medseg.transforms.kept import probabilities

BAR = 0.995
"""Dice between the labels of both formats that every label must reach, over the voxels of all cases together."""
CHANCE = 0.01
"""How far the probability of a class may move. Its decisions may not."""


@dataclass
class OfLabels:
    """Dice between label maps. The voxels of all cases are counted together, as a single voxel of a small structure
    would decide over a mean of cases; the lowest Dice of a case is told beside it."""

    table: LabelTable
    counts: np.ndarray = field(init=False)
    lowest: np.ndarray = field(init=False)
    answers: int = 0
    cases: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.table.labels), 2))
        self.lowest = np.ones(len(self.table.labels))

    def answer(
        self, network: nn.Module, image: np.ndarray, plan: Plan, settings: PredictSettings, device: torch.device
    ) -> np.ndarray:
        """Network target (1 or R, i, j, k) of a prepared image."""
        return validate.labels(network, image, plan, self.table, settings, device)[0]

    def add(self, full: np.ndarray, half: np.ndarray) -> None:
        """The answers of a case in float32 and in bf16."""
        counts = validate.overlaps(full, half, self.table)
        there = counts[:, 1] > 0
        self.counts += counts
        self.lowest[there] = np.minimum(self.lowest[there], counts[there, 0] / counts[there, 1])
        self.answers += int(np.prod(full.shape[1:]))
        self.cases += 1

    def outcome(self) -> dict[str, Any]:
        """Verdict, reason and what they rest on; see `precision.Evidence`."""
        there = np.flatnonzero(self.counts[:, 1])
        dice = {place: self.counts[place, 0] / self.counts[place, 1] for place in there}
        names, of_cases = self.table.names, f"over {self.cases} case{'s' * (self.cases != 1)}"
        absent = tuple(name for place, name in enumerate(names) if place not in dice)
        worst = min(dice, key=lambda place: dice[place], default=None)
        if worst is None:
            fine, reason = False, f"no label was found {of_cases}, so there was nothing to compare with bf16"
        else:
            fine = dice[worst] >= BAR
            reason = f"Dice between bf16 and float32 labels {of_cases} is " + (
                f"{_down(dice[worst])} or more for every label found ({len(dice)} of {len(names)})"
                if fine
                else f"{_down(dice[worst])} for {names[worst]}, below {BAR}"
            )
        labels = {
            names[place]: {
                "dice": dice[place],
                "lowest_dice_of_a_case": self.lowest[place],
                "voxels": int(self.counts[place, 1]) / 2,
            }
            for place in there
        }
        return _fields(fine, reason, self.answers, labels) | {"absent": absent}


@dataclass
class OfClasses:
    """Decisions and probabilities of classes, of whole images or of slices."""

    table: LabelTable
    changed: np.ndarray = field(init=False)
    moved: np.ndarray = field(init=False)
    answers: int = 0

    def __post_init__(self) -> None:
        self.changed = np.zeros(len(self.table.labels), int)
        self.moved = np.zeros(len(self.table.labels))

    def answer(
        self, network: nn.Module, image: np.ndarray, plan: Plan, settings: PredictSettings, device: torch.device
    ) -> np.ndarray:
        """Probabilities (classes, n) of a prepared image."""
        scores = validate.answers(network, image, plan, settings, device)
        return probabilities(scores, exclusive=self.table.exclusive).flatten(1).numpy()

    def add(self, full: np.ndarray, half: np.ndarray) -> None:
        """The answers of a case in float32 and in bf16."""
        decisions = [decided(chances, exclusive=self.table.exclusive) for chances in (full, half)]
        self.changed += (decisions[0] != decisions[1]).sum(axis=1)
        self.moved = np.maximum(self.moved, np.abs(full - half).max(axis=1))
        self.answers += full.shape[1]

    def outcome(self) -> dict[str, Any]:
        """Verdict, reason and what they rest on; see `precision.Evidence`."""
        fine = not self.changed.any() and bool((self.moved <= CHANCE).all())
        most = f"probabilities differ by {math.ceil(self.moved.max() * 1e4) / 1e4:.4f} at most"
        reason = (
            f"in bf16 {self.changed.max()} decisions on a class differ from float32, and {most}, over "
            f"{self.answers} {self.table.unit}s" + ("" if fine else f"; allowed are none, and {CHANCE}")
        )
        rows = zip(self.table.names, self.changed, self.moved, strict=True)
        labels = {name: {"changed": int(changed), "largest_change": float(moved)} for name, changed, moved in rows}
        return _fields(fine, reason, self.answers, labels)


def _fields(fine: bool, reason: str, answers: int, labels: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {"verdict": "bf16" if fine else "32", "reason": reason, "answers": answers, "labels": labels}


def _down(dice: float) -> str:
    """Four digits, never rounded up to the bar."""
    return f"{math.floor(dice * 1e4) / 1e4:.4f}"
