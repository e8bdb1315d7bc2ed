"""Dice of whole volumes, or AUROC of classes, on prepared cases: for choosing weights while training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from medseg.config import PredictSettings
from medseg.data.cache import PreparedCase
from medseg.data.chunks import Chunked
from medseg.data.split import Split
from medseg.engine import budget, need, tiles
from medseg.engine import device as devices
from medseg.engine.forecast import Task
from medseg.engine.forward import forward
from medseg.engine.memory import FREE
from medseg.engine.need import Need
from medseg.engine.segment import segment, tiling
from medseg.labels import IGNORE, LabelTable
from medseg.plan import Plan
from medseg.ranking import auroc
from medseg.transforms.kept import probabilities
from medseg.transforms.prepare import Undo

Slices = slice | list[bool]
"""Those along k that count."""
Show = Callable[[PreparedCase, Slices, np.ndarray, np.ndarray], None]
"""Takes a case, which of its slices count, and of these the true and the predicted network target."""
Told = tuple[np.ndarray, np.ndarray]
"""Truth and scores, (classes, images) each."""


def overlaps(truth: np.ndarray, predicted: np.ndarray, table: LabelTable) -> np.ndarray:
    """(labels, 2): twice the overlap, and the sum of the sizes, of each label in two network targets."""
    if table.exclusive:
        if table.ignore is not None:
            truth, predicted = truth[truth != IGNORE], predicted[truth != IGNORE]
        count = len(table.labels) + 1
        both = np.bincount(truth.ravel()[truth.ravel() == predicted.ravel()], minlength=count)
        sizes = np.bincount(truth.ravel(), minlength=count) + np.bincount(predicted.ravel(), minlength=count)
        return np.stack([2 * both, sizes], axis=1)[1:].astype(np.float64)
    axes = (1, 2, 3)
    there, said = truth == 1, (predicted > 0) & (truth != IGNORE)
    both = np.logical_and(there, said).sum(axes)
    return np.stack([2 * both, there.sum(axes) + said.sum(axes)], axis=1).astype(np.float64)


def measure(table: LabelTable) -> str:
    """What weights are chosen by: "dice", or "auroc" where the labels are classes."""
    return "dice" if table.unit == "voxel" else "auroc"


def dice_sums(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    *,
    plan: Plan,
    table: LabelTable,
    settings: PredictSettings,
    device: torch.device,
    split: Split | None = None,
    show: Show | None = None,
) -> torch.Tensor:
    """(labels, 2): for each label, the sum of Dice over the cases where it is defined, and their number.

    A label that is neither in the truth nor in the prediction of a case is undefined there and left out. With a split
    by slice, only the slices (along k) of its validation side count. `show` is handed what was compared.
    """
    sums = torch.zeros((len(table.labels), 2), dtype=torch.float64)
    with devices.evaluating(network):
        wanted = None
        for case in cases:
            truth = np.asarray(case.target)
            predicted, wanted = labels(network, case.image, plan, table, settings, device, wanted)
            held_out: Slices = slice(None)
            if split is not None:
                held_out = [split.slice_side(case.id, k) == "validation" for k in range(truth.shape[3])]
                truth, predicted = truth[..., held_out], predicted[..., held_out]
            if show is not None:
                show(case, held_out, truth, predicted)
            counts = overlaps(truth, predicted, table)
            defined = counts[:, 1] > 0
            sums[defined, 0] += torch.from_numpy(counts[defined, 0] / counts[defined, 1])
            sums[defined, 1] += 1
    return sums


def class_scores(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    *,
    plan: Plan,
    table: LabelTable,
    settings: PredictSettings,
    device: torch.device,
    split: Split | None = None,
) -> list[Told]:
    """Of each case, the truth and the probability of each class (classes, images or slices). With a split by
    slice, only the slices of its validation side count."""
    told = []
    with devices.evaluating(network):
        for case in cases:
            found = probabilities(answers(network, case.image, plan, settings, device), exclusive=table.exclusive)
            target = np.asarray(case.target)
            truth = np.stack([table.mask(target, place) for place in range(len(table.labels))])
            columns = np.ones(found[0].numel(), bool)
            if split is not None:
                columns = np.array([split.slice_side(case.id, k) == "validation" for k in range(len(columns))])
            told.append((truth.reshape(len(truth), -1)[:, columns], found.flatten(1).numpy()[:, columns]))
    return told


def aurocs(told: Sequence[Told]) -> list[float]:
    """Area under the ROC curve of each class against the others, over all that `class_scores` told of; nan where it
    holds for none or for all."""
    truths, scores = (np.concatenate(parts, axis=1) for parts in zip(*told, strict=True))
    return [auroc(truth, score) for truth, score in zip(truths, scores, strict=True)]


def _seen(
    network: nn.Module, image: np.ndarray | Chunked, plan: Plan, settings: PredictSettings, device: torch.device
) -> tuple[tiles.Seen, tiles.Tiling]:
    # what auto goes by is only settled when the weights are chosen
    precision = "32" if settings.precision == "auto" else settings.precision
    run = forward(network, passes=tiles.flips(settings.mirror, plan.orientation), precision=precision, device=device)
    seen = torch.from_numpy(np.array(image, dtype=np.float32))
    return tiles.Seen(seen, run), tiling(seen.shape[1:], plan, settings)


def labels(
    network: nn.Module,
    image: np.ndarray | Chunked,
    plan: Plan,
    table: LabelTable,
    settings: PredictSettings,
    device: torch.device,
    wanted: Need | None = None,
) -> tuple[np.ndarray, Need]:
    """Network target of a prepared image (C, i, j, k), on its own grid, and what the network needs for it."""
    seen, places = _seen(network, image, plan, settings, device)
    wanted = wanted or need.measure(
        seen.forward, channels=len(seen.image), tile=plan.patch, context=plan.context, device=device
    )
    undo = Undo.nothing(image.shape[1:])
    channels, exclusive = table.network_channels, table.exclusive
    task = Task(
        undo,
        plan.orientation,
        places,
        wanted,
        channels,
        device,
        results=budget.result_sizes(undo, channels, exclusive=exclusive),
        batch=budget.most(settings),
    )
    course = budget.Course(task, FREE)
    found = segment(
        [seen],
        places,
        undo,
        course.forecast.layout,
        channels=channels,
        exclusive=exclusive,
        smaller=course.smaller,
    )
    return found, wanted


def answers(
    network: nn.Module, image: np.ndarray | Chunked, plan: Plan, settings: PredictSettings, device: torch.device
) -> torch.Tensor:
    """Logits of a classifier for a prepared image (C, i, j, k); see `tiles.answers`."""
    return tiles.answers(*_seen(network, image, plan, settings, device), batch=budget.most(settings) or 1)


def mean_dice(sums: torch.Tensor) -> tuple[float, list[float]]:
    """Mean over labels of the mean over cases, and that mean of each label (nan where never defined)."""
    per_label = sums[:, 0] / sums[:, 1]
    defined = per_label[~per_label.isnan()]
    return (float(defined.mean()) if len(defined) else math.nan), per_label.tolist()
