"""How far folds and mirrored passes disagree on a tile: the standard deviation of their probabilities.

It is found tile by tile and then blended like a channel of the logits, so that a whole scan costs a channel more. What
tiles at different places say of a voxel is no part of it. Nor is the temperature, which is fitted on the mean of all
answers; and quality control learns what is usual before there is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.engine import tiles
from medseg.transforms.kept import probabilities


def mean(
    members: Sequence[tiles.Seen],
    corners: Sequence[Sequence[int]],
    tiling: tiles.Tiling,
    *,
    exclusive: bool,
) -> Tensor:
    """Mean logits of tiles, bit for bit as without this, and behind them the disagreement, (B, N + 1, ...) float32.

    The disagreement is 0 where all answers are the same and at most 0.71. Of classes that exclude each other it is the
    root of half the sum of their variances: of two classes, the standard deviation of the probability of either. Of
    regions, each a question of yes or no, it is the root of the sum of their variances.
    """
    spread = _Spread(exclusive)
    total = torch.zeros(())
    for place, member in enumerate(members):
        cut, own = tiles.cut_all(member.image, corners, tiling), torch.zeros(())
        for number, run in enumerate(member.each):
            scores = run(cut).float()
            spread.add(torch.stack([probabilities(one, exclusive=exclusive) for one in scores]))
            own = own.add_(scores) if number else scores
            del scores
        own.div_(len(member.each))
        total = total.add_(own) if place else own
        del own
    return torch.cat((total.div_(len(members)), spread.found()[:, None]), dim=1)


class _Spread:
    """Running variance over answers (B, N, ...), as Welford has it: it is 0 where all are the same."""

    def __init__(self, exclusive: bool):
        self._exclusive = exclusive
        self._count = 0
        self._mean = self._squares = torch.zeros(())

    def add(self, chances: Tensor) -> None:
        """One answer more; it is overwritten."""
        self._count += 1
        if self._count == 1:
            self._mean, self._squares = chances, torch.zeros_like(chances[:, 0])
            return
        step = chances.sub_(self._mean)
        for channel in range(step.shape[1]):  # of all at once, the squares would be a copy
            self._squares.addcmul_(step[:, channel], step[:, channel], value=(self._count - 1) / self._count)
        self._mean.add_(step, alpha=1 / self._count)

    def found(self) -> Tensor:
        """(B, ...)"""
        return self._squares.div(self._count * (2 if self._exclusive else 1)).sqrt_()
