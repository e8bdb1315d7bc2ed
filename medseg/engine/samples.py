"""Training samples by number: sample n is the same whoever draws it, in whatever order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medseg.data.patches import PatchSource, generator_for
from medseg.transforms import augment


@dataclass(frozen=True)
class Samples(Dataset[tuple[Tensor, Tensor, str]]):
    """Sample number, counted from the start of training -> (image (C, i, j, k) float32, target (1|R, i, j, k), case
    id). With context the image has further slices along k, the target only those in the middle. May be pickled to
    worker processes."""

    source: PatchSource
    augment: augment.Options
    orientation: str
    planes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Values of further channels by case, which augmentation leaves alone."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, str]:
        image, target, case = self.source[number]
        generator = generator_for(self.source.seed, self.source.epoch, number, stream=1)
        drawn = augment.draw(
            generator, self.augment, patch=image.shape[1:], channels=len(image), orientation=self.orientation
        )
        if target.dtype != np.uint8:
            target = target.astype(np.int32)  # torch can do little with uint16
        varied, moved = augment.apply(drawn, torch.from_numpy(image), torch.from_numpy(target))
        if case in self.planes:
            values = torch.tensor(self.planes[case]).reshape(-1, 1, 1, 1)
            varied = torch.cat([varied, values.expand(-1, *varied.shape[1:])])
        context = self.source.context
        return varied, moved[..., context:-context] if context and moved.shape[3] > 1 else moved, case
