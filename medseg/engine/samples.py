"""Training samples by number: sample n is the same whoever draws it, in whatever order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medseg.data import patches
from medseg.data.cache import PreparedCase
from medseg.transforms import augment


@dataclass(frozen=True)
class Samples(Dataset[tuple[Tensor, Tensor, str]]):
    """Sample number -> (image (C, i, j, k) float32, target (1|R, i, j, k), case id). Picklable, for spawned workers."""

    cases: tuple[PreparedCase, ...]
    patch: tuple[int, int, int]
    foreground: float
    augment: augment.Options
    orientation: str
    seed: int

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, str]:
        generator = patches.generator_for(self.seed, number)
        case = self.cases[int(generator.integers(len(self.cases)))]
        start = patches.draw(generator, case, patch=self.patch, foreground=self.foreground)
        image = torch.from_numpy(patches.cut(case.image, start, self.patch))
        target = torch.from_numpy(patches.cut(case.target, start, self.patch))
        drawn = augment.draw(
            generator, self.augment, patch=self.patch, channels=len(image), orientation=self.orientation
        )
        image, target = augment.apply(drawn, image, target)
        return image, target, case.id
