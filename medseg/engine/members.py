"""The networks of a model, each ready to answer: one, or the folds of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medseg.engine import backends, networks, tuning
from medseg.engine.forward import Forward
from medseg.engine.run import Run
from medseg.plan import Plan
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Member:
    """One network and the plan that its scans are prepared by; the folds of a recipe differ in normalisation."""

    network: nn.Module
    plan: Plan
    run: Forward
    """A single pass, by whichever back end."""


def of_runs(
    runs: Sequence[Run], loaded: Sequence[tuple[nn.Module, str]], backend: str, number_format: str, device: torch.device
) -> tuple[tuple[Member, ...], str]:
    """The networks on the device; and what computes them, and why.

    Args:
        loaded: of each run the network and the sha256 of its weights.
        backend: as `PredictSettings` has it.
        number_format: 32, bf16 or 16.

    Raises:
        Refusal: see `backends.build`.
    """
    members, computed_by = [], []
    for run, (network, weights) in zip(runs, loaded, strict=True):
        name, why = tuning.chosen(backend, tuning.identity(weights, run.plan, number_format, device))
        once = backends.build(name, network.to(device), run.plan, precision=number_format, device=device)
        members.append(Member(network, run.plan, once))
        computed_by.append(f"{name} {backends.version(name)} ({why})")
    return tuple(members), ", ".join(dict.fromkeys(computed_by))


def refuse_different(runs: Sequence[Run]) -> Run:
    """The first run, when all the others can be averaged with it.

    Raises:
        Refusal: one cannot.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.table != first.table or _grid(other.plan) != _grid(first.plan):
            raise Refusal(
                other.folder,
                found="another label table, channels, orientation, crop or spacing than the first run",
                needed="runs of one recipe, for example its folds",
                remedy="predict with each alone; with prepare.spacing_mm given in the recipe, all folds share one",
            )
        _refuse_other_tiles(other, first)
    return first


def _refuse_other_tiles(run: Run, first: Run) -> None:
    """Refuse a network that cannot see the tiles of the first run, which are those of all."""
    model, patch = run.recipe.model, first.plan.patch
    steps = model.module().divisor(model.options)
    flat, first_flat = (networks.context(one.recipe.model) is not None for one in (run, first))
    if flat != first_flat or any(side % step for side, step in zip(patch, steps, strict=True)):
        raise Refusal(
            run.folder,
            found=f"a {'2-D' if flat else '3-D'} network, {model.name}, for sides in multiples of {list(steps)}",
            needed=f"one that takes the first run's tiles, {'single slices of ' if first_flat else ''}{list(patch)}",
            remedy="predict with each alone"
            + ("" if flat != first_flat else ", or name first the run of larger tiles"),
        )


def _grid(plan: Plan) -> tuple[Any, ...]:
    """What must agree for the logits of two members to lie on one grid."""
    return (
        plan.orientation,
        plan.spacing_mm,
        plan.size,
        plan.channels,
        plan.centres,
        plan.crop,
        plan.steps,
        plan.context,
    )
