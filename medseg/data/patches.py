"""Patches to train on: where to cut, how to cut, and a source of them that any number of workers may read.

Chance comes from `generator_for(seed, epoch, index)`: sample 17 of epoch 3 is the same patch whichever worker cuts it.
Axes shorter than the patch are filled up with 0 on both sides, which is an average voxel after most normalisations and
what nnU-Net does; prediction must fill up in the same way.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cache import PreparedCase, open_case
from medseg.data.chunks import Chunked
from medseg.data.split import Split
from medseg.plan import Sizes
from medseg.refusal import Refusal

FOREGROUND_SHARE = 0.33
"""Part of the patches that are centred on a labelled voxel, as in nnU-Net."""
OPEN_CASES = 64
"""Cases that one worker keeps open; each holds the places of its labels, two megabytes with 100 of them."""


def generator_for(seed: int, epoch: int, index: int, stream: int = 0) -> np.random.Generator:
    """Chance for one sample. Streams are independent (0: patches, 1: augmentation)."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, index, stream]))


def draw_patch(
    generator: np.random.Generator,
    prepared: PreparedCase,
    patch: Sizes,
    *,
    foreground_share: float = FOREGROUND_SHARE,
    small_share: float = 0.0,
    label: int | None = None,
) -> Sizes:
    """First voxel of a patch; it lies inside the volume on every axis that is long enough, else it centres the volume.

    With probability `foreground_share` the patch is centred, as far as the border allows, on a voxel of a label drawn
    evenly from those present; so a small organ is met as often as a large one. Else it is drawn evenly. If `label` is
    given, which the case must have, the patch is centred on that.

    With probability `small_share` the voxel belongs to a connected component drawn evenly from those of the label, so
    that a small lesion is met as often as a large one; else all voxels of the label are as likely.
    """
    size = prepared.image.shape[1:]
    if label is None and generator.random() < foreground_share and prepared.coordinates:
        label = sorted(prepared.coordinates)[generator.integers(len(prepared.coordinates))]
    centre = None if label is None else _centre(generator, prepared, label, small_share)
    start = []
    for axis in range(3):
        room = size[axis] - patch[axis]
        if room <= 0:
            start.append(-(-room // 2))
        elif centre is None:
            start.append(int(generator.integers(room + 1)))
        else:
            start.append(min(max(int(centre[axis]) - patch[axis] // 2, 0), room))
    return start[0], start[1], start[2]


def _centre(generator: np.random.Generator, prepared: PreparedCase, label: int, small_share: float) -> np.ndarray:
    """A voxel (3,) of a label."""
    # a share of 0 draws nothing: recipes without small lesions keep their patches
    if small_share and generator.random() < small_share:
        return prepared.components[label].draw(generator)
    voxels = prepared.coordinates[label]
    return voxels[generator.integers(len(voxels))]


def cut(array: np.ndarray | Chunked, start: Sizes, patch: Sizes) -> np.ndarray:
    """Contiguous copy of (C, *patch) from `start`; 0 wherever it reaches beyond the array."""
    ranges = [
        (max(0, first), max(0, min(first + length, size)))
        for first, length, size in zip(start, patch, array.shape[1:], strict=True)
    ]
    inside = array[(slice(None), *(slice(first, stop) for first, stop in ranges))]
    if inside.shape[1:] == tuple(patch):
        return inside if inside.flags.owndata else np.array(inside, order="C", subok=False)
    result = np.zeros((len(array), *patch), array.dtype)
    place = tuple(
        slice(first - offset, first - offset + length)
        for (first, _), offset, length in zip(ranges, start, inside.shape[1:], strict=True)
    )
    result[(slice(None), *place)] = inside
    return result


def cut_target(target: np.ndarray | Chunked, image: np.ndarray | Chunked, start: Sizes, patch: Sizes) -> np.ndarray:
    """`cut`, but along axes where the target has one entry for the whole image: that entry."""
    single = [have == 1 and size != 1 for have, size in zip(target.shape[1:], image.shape[1:], strict=True)]
    first, second, third = (0 if one else at for at, one in zip(start, single, strict=True))
    sizes = [1 if one else side for side, one in zip(patch, single, strict=True)]
    return cut(target, (first, second, third), (sizes[0], sizes[1], sizes[2]))


@dataclass(frozen=True)
class Rare:
    """The rarest label of a data set.

    Attributes:
        label: its position in the label table.
        folders: prepared cases that have it.
        share: of all patches, those that are centred on it.
    """

    label: int
    folders: tuple[Path, ...]
    share: float


def rarest(folders: Sequence[Path], share: float) -> Rare:
    """The label that the fewest prepared cases have; of several, the one with the fewest voxels in them.

    Raises:
        Refusal: no case has any label.
    """
    holders: dict[int, list[Path]] = {}
    voxels: Counter[int] = Counter()
    for folder in folders:
        case = open_case(folder)
        for label in case.coordinates:
            holders.setdefault(label, []).append(folder)
            voxels[label] += case.voxels[label]
    if not holders:
        raise Refusal(
            "train.rare",
            found=f"no label in any of the {len(folders)} training cases",
            needed="a label that some case has, on which to centre patches",
            remedy="set train.rare to 0, or look at the label maps with `medseg check`",
        )
    label = min(holders, key=lambda one: (len(holders[one]), voxels[one], one))
    return Rare(label, tuple(holders[label]), share)


@dataclass(frozen=True, eq=False)
class PatchSource:
    """A map from sample number to (image, target, case id), for one epoch. It may be pickled to worker processes.

    Attributes:
        groups: folders of prepared cases, as `engine.prepare` gives them; every case must have a target. A sample
            draws its group evenly (centres, or classes of images), then its case.
        patch: (i, j, k).
        length: samples an epoch.
        seed, epoch: decide, with the sample number, every patch.
        context: slices that images have in addition on each side along k; targets have them too, unless they are
            one number for each slice.
        split: given only where slices of one case stand on both sides; then patches are single slices (patch k = 1)
            of the training side, of which every case must have one.
        foreground_share, small_share: see `draw_patch`.
        rare: given if the cases that have the rarest label are to be drawn more often.
    """

    groups: Sequence[Sequence[Path]]
    patch: Sizes
    length: int
    seed: int
    epoch: int = 0
    foreground_share: float = FOREGROUND_SHARE
    context: int = 0
    split: Split | None = None
    small_share: float = 0.0
    rare: Rare | None = None
    _open: OrderedDict[Path, PreparedCase] = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = generator_for(self.seed, self.epoch, index)
        rare = self.rare if self.rare is not None and generator.random() < self.rare.share else None
        prepared = self._case(self._folder(generator, rare))
        if prepared.target is None:
            raise ValueError(f"case {prepared.id} has no target to train on")
        draw = partial(draw_patch, generator, prepared, self.patch, small_share=self.small_share)
        start = draw(foreground_share=self.foreground_share, label=rare.label if rare else None)
        share = min(self.foreground_share, 0.99)  # all labelled slices of a case may stand on the other side
        while self.split is not None and self.split.slice_side(prepared.id, start[2]) == "validation":
            start = draw(foreground_share=share)
        wide = self._widened(start)
        by_voxel = prepared.target.shape[1:] == prepared.image.shape[1:]  # and not one number a slice
        target = cut_target(prepared.target, prepared.image, *(wide if by_voxel else (start, self.patch)))
        return cut(prepared.image, *wide), target, prepared.id

    def _folder(self, generator: np.random.Generator, rare: Rare | None) -> Path:
        if rare:
            return rare.folders[int(generator.integers(len(rare.folders)))]
        group = self.groups[int(generator.integers(len(self.groups))) if len(self.groups) > 1 else 0]
        return group[int(generator.integers(len(group)))]

    def _widened(self, start: Sizes) -> tuple[Sizes, Sizes]:
        """Start and size of a patch with its neighbouring slices."""
        i, j, k = self.patch
        return (start[0], start[1], start[2] - self.context), (i, j, k + 2 * self.context)

    def at(self, epoch: int) -> PatchSource:
        """The same source in another epoch."""
        return replace(self, epoch=epoch)

    def _case(self, folder: Path) -> PreparedCase:
        """Opened once and kept, the least recently used given up first."""
        if folder not in self._open:
            self._open[folder] = open_case(folder)
            if len(self._open) > OPEN_CASES:
                self._open.popitem(last=False)
        self._open.move_to_end(folder)
        return self._open[folder]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}  # each worker opens what it needs
