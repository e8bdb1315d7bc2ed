"""Training samples by number: sample n is the same whoever draws it, in whatever order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from medseg.data.patches import PatchSource, generator_for
from medseg.engine import device as devices
from medseg.plan import Sizes
from medseg.transforms import augment, shrink


class Cut(NamedTuple):
    """A batch of patches as they were cut, and what chance decided for each of them."""

    images: list[Tensor]
    """Of (C, i, j, k) float32; with context, further slices on both sides along k."""
    targets: list[Tensor]
    """Of (1|R, i, j, k) whole numbers."""
    draws: list[augment.Draw]
    cases: list[str]
    shape: Sizes | None = None
    """What images are to be shrunk to, before the draws, which are for that size; None: they stay."""

    def to(self, device: torch.device) -> Cut:
        """The same on a device; from pinned memory to a GPU without waiting for what computes there."""
        images, targets = (
            [one.to(device, non_blocking=True) for one in these] for these in (self.images, self.targets)
        )
        return self._replace(images=images, targets=targets)


class Varied(NamedTuple):
    """A batch to train on."""

    images: Tensor
    """(B, C, i, j, k) float32; with context, further slices on both sides along k."""
    targets: Tensor
    """(B, 1|R, i, j, k), without the slices of context."""
    cases: list[str]


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
    stages: Sequence[tuple[int, Sizes]] = ()
    """Of a curriculum: from which number on patches are shrunk to which size."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, str]:
        images, targets, cases = self.vary(self.cut([number]))
        return images[0], targets[0], cases[0]

    def cut(self, numbers: Sequence[int]) -> Cut:
        """The patches of these samples, all of one step, from the prepared cases, without a change to any value."""
        shape = self._shape(numbers[0])
        images, targets, draws, cases = [], [], [], []
        for number in numbers:
            image, target, case = self.source[number]
            generator = generator_for(self.source.seed, self.source.epoch, number, stream=1)
            drawn = augment.draw(
                generator, self.augment, patch=image.shape[1:], channels=len(image), orientation=self.orientation
            )
            draws.append(shrink.smaller(drawn, image.shape[1:], shape) if shape else drawn)
            if target.dtype != np.uint8:
                target = target.astype(np.int32)  # torch can do little with uint16
            images.append(torch.from_numpy(image))
            targets.append(torch.from_numpy(target))
            cases.append(case)
        return Cut(images, targets, draws, cases, shape)

    def vary(self, cut: Cut) -> Varied:
        """Do what was drawn, where the patches are.

        On a CPU in one thread, because the order of a sum, and with it its last bit, hangs on the number of threads:
        so a worker and the training process make the same. On a GPU places are the same as on a CPU, values differ by
        rounding, and noise is made of other numbers.
        """
        with devices.one_thread(cut.images[0].device):
            pairs = [
                augment.apply(drawn, *(shrink.shrink(image, target, cut.shape) if cut.shape else (image, target)))
                for drawn, image, target in zip(cut.draws, cut.images, cut.targets, strict=True)
            ]
        images, targets = default_collate([image for image, _ in pairs]), default_collate([one for _, one in pairs])
        if self.planes:
            images = self._with_planes(images, cut.cases)
        context = self.source.context
        if context and targets.shape[4] > 1:
            targets = targets[..., context:-context]
        return Varied(images, targets, cut.cases)

    def _shape(self, number: int) -> Sizes | None:
        """To which a patch is shrunk, its context included; None: it is whole."""
        patch = next((patch for first, patch in reversed(self.stages) if first <= number), self.source.patch)
        return None if patch == self.source.patch else (*patch[:2], patch[2] + 2 * self.source.context)

    def _with_planes(self, images: Tensor, cases: Sequence[str]) -> Tensor:
        values = torch.tensor([self.planes[case] for case in cases])[..., None, None, None]
        values = values.to(images.device, non_blocking=True)
        return torch.cat([images, values.expand(-1, -1, *images.shape[2:])], dim=1)
