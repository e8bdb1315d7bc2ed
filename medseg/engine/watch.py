"""What goes wrong in a training, in words: told from its history, so that a resumed run says what the other would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medseg.labels import IGNORE, LabelTable

NOTHING = 0.01
"""Dice below which a label counts as not found."""
VALIDATIONS = 3
"""For so many in a row, from a tenth of the training on: networks take some time to find what is small."""
MARGIN = 0.2
"""By which Dice on training patches may be above that of the validation cases, twice in a row. Patches are centred on
labels more often, and their Dice is over all voxels together, so that a small margin means nothing."""
STRIDE = 4
"""Every fourth voxel along each axis is counted: patches lie anywhere, so an epoch of them tells the same, and a step
does not get longer."""


def overlaps(logits: Tensor, target: Tensor, table: LabelTable) -> Tensor:
    """(2, labels) float32: twice the overlap, and the sum of the sizes, of each label in every fourth voxel. 0 for
    classes of images, which have none. Computed on the device, without waiting for it.

    Args:
        logits: (B, N, i, j, k).
        target: (B, 1 or R, i, j, k) as the network is taught, with `IGNORE` where the truth is not known.
    """
    if table.unit != "voxel":
        return logits.new_zeros((2, len(table.labels)), dtype=torch.float32)
    step = (slice(None), slice(None), *[slice(None, None, STRIDE)] * 3)
    logits, target = logits[step], target[step]
    if not table.exclusive:
        there, said = target == 1, (logits > 0) & (target != IGNORE)
        return _sums(there.transpose(0, 1), said.transpose(0, 1))
    said, there = logits.argmax(dim=1, keepdim=True), target
    if table.ignore is not None:
        said = torch.where(target == IGNORE, 0, said)
    places = torch.arange(1, len(table.labels) + 1, device=logits.device).view(-1, *[1] * logits.ndim)
    return _sums(there == places, said == places)


def _sums(there: Tensor, said: Tensor) -> Tensor:
    """Of (labels, ...)."""
    axes = tuple(range(1, there.ndim))
    return torch.stack([2 * (there & said).sum(axes), there.sum(axes) + said.sum(axes)]).float()


def taught(counts: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """`train_dice`, and `train_dice_per_label`, of an epoch from what `overlaps` counted, flattened and summed up; None
    where there was nothing to find."""
    pairs = zip(names, counts[: len(names)], counts[len(names) :], strict=True)
    per_label = {name: round(both / sizes, 4) if sizes else None for name, both, sizes in pairs}
    defined = [value for value in per_label.values() if value is not None]
    mean = round(sum(defined) / len(defined), 4) if defined else None
    return {"train_dice": mean, "train_dice_per_label": per_label}


@dataclass(frozen=True)
class State:
    """What is wrong at one validation.

    Attributes:
        collapsed: no label is found, nor much on training patches.
        missed: labels that are not found though others are.
        margin: by which training is better than validation, where that is too much, else 0.
    """

    collapsed: bool = False
    missed: tuple[str, ...] = ()
    margin: float = 0.0


def state(history: Sequence[Mapping[str, Any]], present: Sequence[str], *, epochs: int) -> State:
    """What is wrong at the last validation of a history.

    Args:
        present: labels that some validation case has; of the others nothing can be said.
        epochs: of the whole training.
    """
    validated = [entry for entry in history if "dice_per_label" in entry]
    last = validated[-VALIDATIONS:]
    if len(last) < VALIDATIONS or last[-1]["epoch"] < epochs / 10:
        return State()
    found = {name: max(entry["dice_per_label"][name] or 0.0 for entry in last) >= NOTHING for name in present}
    return State(
        collapsed=bool(found) and not any(found.values()) and _margin(last[-1]) <= MARGIN,
        missed=tuple(name for name in present if not found[name]) if any(found.values()) else (),
        margin=_margin(last[-1]) if all(_margin(entry) > MARGIN for entry in last[-2:]) else 0.0,
    )


def warnings(history: Sequence[Mapping[str, Any]], present: Sequence[str], *, epochs: int) -> list[str]:
    """What is wrong at the last entry of a history and was not at the validation before: each is told once, and again
    only after it went away. `present` and `epochs` are those of `state`."""
    now, before = (state(part, present, epochs=epochs) for part in (history, history[:-1]))
    told = []
    if now.collapsed and not before.collapsed:
        told.append(
            f"the network finds no label in any validation case, {VALIDATIONS} validations in a row: it has collapsed "
            "to background. Lower train.lr, raise train.foreground, and see with `medseg check` that images and label "
            "maps belong together"
        )
    if missed := [name for name in now.missed if name not in before.missed]:
        told.append(
            f"{', '.join(missed)}: not found in any validation case, {VALIDATIONS} validations in a row, while other "
            "labels are. If few cases have it, raise train.rare; if it is small, train.small; and see that the label "
            "table gives it the number that the files have"
        )
    if now.margin and not before.margin:
        entry = history[-1]
        told.append(
            f"Dice {entry['train_dice']:.2f} on training patches and {entry['dice']:.2f} on validation cases: the "
            "network learns its cases by heart, or the validation cases are unlike them. More cases help, or stronger "
            "augmentation, a smaller network or fewer epochs (train.patience); compare the cases with `medseg check`"
        )
    return told


def _margin(entry: Mapping[str, Any]) -> float:
    """Mean over the labels that both measures have."""
    taught, tested = entry.get("train_dice_per_label", {}), entry["dice_per_label"]
    both = [name for name in tested if tested[name] is not None and taught.get(name) is not None]
    return sum(taught[name] - tested[name] for name in both) / len(both) if both else 0.0
