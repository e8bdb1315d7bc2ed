"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from medseg.config import TrainSettings


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Rate for optimiser step `step` (0, 1, ...) of `settings.epochs * settings.steps`; beyond, where a run was resumed
    with fewer, that of the end.

    poly is nnU-Net's (1 - progress)^0.9, cosine is half a period down to 0 (Loshchilov and Hutter 2017).
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / (settings.warmup_steps + 1)
    total = settings.epochs * settings.steps - settings.warmup_steps
    progress = min(1.0, (step - settings.warmup_steps) / max(1, total))
    if settings.schedule == "poly":
        return settings.lr * (1 - progress) ** 0.9
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr


def optimiser(parameters: Iterable[Any], settings: TrainSettings, *, fused: bool = False) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, of parameters or of groups of them; `fused` in one kernel of a GPU."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            weight_decay=settings.weight_decay,
            fused=fused or None,
        )
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused or None)
