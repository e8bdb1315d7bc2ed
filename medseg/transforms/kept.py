"""What is kept of scores beside labels, on the scan's own grid: probabilities, entropy, disagreement of members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Turn = Callable[[np.ndarray], np.ndarray]
UNCERTAINTY = ("entropy", "disagreement")
"""Maps of one number a voxel."""


class Certainty:
    """The Dice that probabilities promise of each label: what it would be on average if a voxel had a label as often as
    its probability says. Every second place of the prepared grid along each axis is looked at. No temperature is
    applied: what it is compared with was learned before there was one."""

    def __init__(self, channels: int, *, exclusive: bool):
        self._exclusive = exclusive
        self._sums = np.zeros((3, channels))

    def take(self, scores: Tensor) -> None:
        """Scores (C, ...) of some places, each of which comes once."""
        chances = probabilities(scores.flatten(1).float(), exclusive=self._exclusive)
        if self._exclusive:
            highest, which = (one.cpu() for one in chances.max(0))  # on a GPU, sums by class would be in no fixed order
            both, said = (which.bincount(one, minlength=len(chances)) for one in (highest, None))
        else:
            there = chances > 0.5
            both, said = (chances * there).sum(1), there.sum(1)
        for total, one in zip(self._sums, (both, said, chances.sum(1)), strict=True):
            total += one.cpu().double().numpy()

    def dice(self, labels: int) -> list[float]:
        """Of the last so many channels; nan where a label was not said of a place."""
        both, said, likely = self._sums[:, -labels:]
        return np.where(said > 0, 2 * both / np.maximum(said + likely, 1e-9), np.nan).tolist()


@dataclass(frozen=True, eq=False)
class Draw:
    """What is taken from a validation case.

    Attributes:
        numbered: (1, I, J, K) int32, n where the scores of a voxel go into column n - 1, else 0.
        scores: (channels, columns) float32; nan where a voxel got none.
        certainty: of the same case.
    """

    numbered: np.ndarray
    scores: np.ndarray
    certainty: Certainty

    @classmethod
    def of(cls, numbered: np.ndarray, columns: int, channels: int, *, exclusive: bool) -> Draw:
        scores = np.full((channels, columns), np.nan, np.float32)
        return cls(numbered, scores, Certainty(channels, exclusive=exclusive))


@dataclass(frozen=True, eq=False)
class Kept:
    """Arrays that are filled while labels are made; None: not wanted.

    Attributes:
        probabilities: (labels, I, J, K) float32.
        entropy: (1, I, J, K) float32, see `entropy`. It is that of the scores on the prepared grid, resampled linearly:
            to resample every channel for it would take many times as long.
        disagreement: (1, I, J, K) float32, see `engine.dispute`; it comes as a channel behind the scores.
        temperature: scores are divided by it before they become probabilities or entropy. Labels do not change by that.
        draw: scores as they come.
        certainty: adds up what is said of each label.
    """

    probabilities: np.ndarray | None = None
    entropy: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    temperature: float = 1.0
    draw: Draw | None = None
    certainty: Certainty | None = None

    @property
    def maps(self) -> dict[str, Any]:
        """Those that are wanted, by name."""
        found = {name: getattr(self, name) for name in ("probabilities", *UNCERTAINTY)}
        return {name: array for name, array in found.items() if array is not None}

    def promised(self, labels: int) -> list[float]:
        """See `Certainty.dice`; empty where it was not added up."""
        return [] if self.certainty is None else self.certainty.dice(labels)

    @property
    def at_native(self) -> bool:
        """Whether all channels are wanted on the scan's grid."""
        return self.probabilities is not None or self.draw is not None

    @property
    def all_channels(self) -> bool:
        """Whether all channels are looked at in every place."""
        return self.at_native or self.entropy is not None

    def turned(self, turn: Turn) -> Kept:
        """Views of the arrays in another order of axes."""
        draw = self.draw and replace(self.draw, numbered=turn(self.draw.numbered))
        maps: dict[str, Any] = {name: turn(array) for name, array in self.maps.items()}
        return replace(self, draw=draw, **maps)

    def take(self, scores: Tensor, place: tuple[slice, slice, slice], *, exclusive: bool) -> None:
        """Scores (C, ...) of all channels in one place of the scan's grid."""
        if self.probabilities is not None:
            chances = probabilities(scores, self.temperature, exclusive=exclusive)
            self.probabilities[(slice(None), *place)] = chances[-len(self.probabilities) :].cpu().numpy()
        if self.draw is not None:
            numbers = self.draw.numbered[(0, *place)]
            there = numbers > 0
            self.draw.scores[:, numbers[there] - 1] = scores.cpu().numpy()[:, there]


def probabilities(scores: Tensor, temperature: float = 1.0, *, exclusive: bool) -> Tensor:
    """Of logits (C, ...): softmax over the channels, or a sigmoid of each."""
    scores = scores if temperature == 1 else scores / temperature
    return scores.softmax(0) if exclusive else scores.sigmoid()


def entropy(scores: Tensor, temperature: float = 1.0, *, exclusive: bool) -> Tensor:
    """Shannon entropy of probabilities, from 0 (certain) to 1 (all answers are as likely), of logits (C, ...).

    Of C classes that exclude each other it is divided by log C; of regions, each a question of yes or no, it is the
    mean of their entropies in bits.
    """
    scores = scores.float() / temperature
    if exclusive:
        logs = scores.log_softmax(0)
        return logs.exp().mul_(logs).sum(0).div_(-math.log(len(scores)))
    each = torch.nn.functional.softplus(scores) - scores * scores.sigmoid()
    return each.mean(0).div_(math.log(2))
