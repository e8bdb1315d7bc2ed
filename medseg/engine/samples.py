"""Training samples by number: sample n is the same whoever draws it, in whatever order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medseg.data.patches import PatchSource, generator_for
from medseg.transforms import augment


@dataclass(frozen=True)
class Samples(Dataset[tuple[Tensor, Tensor, str]]):
    """Sample number, counted from the start of training -> (image (C, i, j, k) float32, target (1|R, i, j, k), case
    id). May be pickled to worker processes."""

    source: PatchSource
    augment: augment.Options
    orientation: str

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, str]:
        image, target, case = self.source[number]
        generator = generator_for(self.source.seed, self.source.epoch, number, stream=1)
        drawn = augment.draw(
            generator, self.augment, patch=self.source.patch, channels=len(image), orientation=self.orientation
        )
        if target.dtype != np.uint8:
            target = target.astype(np.int32)  # torch can do little with uint16
        return *augment.apply(drawn, torch.from_numpy(image), torch.from_numpy(target)), case
