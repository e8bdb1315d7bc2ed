"""Coarse patches first: which size the patches of a step have is a function of the step and the settings alone.

The idea is that of EfficientTrain (Wang et al. 2023, arXiv:2211.09703): networks learn low frequencies first, and these
fit into fewer voxels, which cost less.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from medseg.config import Recipe, TrainSettings
from medseg.engine import footprint
from medseg.plan import Plan, Sizes
from medseg.refusal import Refusal
from medseg.transforms import shrink


class Stage(NamedTuple):
    """From which step on patches have which size."""

    step: int
    patch: Sizes


def stages(recipe: Recipe, plan: Plan) -> list[Stage]:
    """In the order in which they come, the last one of whole patches; nothing without a curriculum.

    Raises:
        Refusal: the network takes no smaller patch.
    """
    chosen = recipe.train.curriculum
    if chosen is None:
        return []
    divisor = recipe.model.module().divisor(recipe.model.options)
    spacing = (1.0, 1.0, 1.0) if plan.spacing_mm == "native" else plan.spacing_mm
    found: list[Stage] = []
    for number in range(chosen.stages):
        share = chosen.start + (1 - chosen.start) * number / chosen.stages
        patch = shrink.sides(plan.patch, share, spacing_mm=spacing, divisor=divisor)
        if patch != plan.patch and patch not in [stage.patch for stage in found]:
            found.append(Stage(round(whole_from(recipe.train) * number / chosen.stages), patch))
    if not found:
        raise Refusal(
            "train.curriculum",
            found=f"patches of {list(plan.patch)}, with a network that takes multiples of {list(divisor)}",
            needed="patches that can be shrunk",
            remedy="leave train.curriculum out, or set its start lower",
        )
    return [*found, Stage(whole_from(recipe.train), plan.patch)]


def whole_from(settings: TrainSettings) -> int:
    """The first step with whole patches."""
    share = settings.curriculum.whole_from if settings.curriculum else 0
    return round(settings.epochs * settings.steps * share)


def check(recipe: Recipe, plan: Plan, *, out_channels: int) -> None:
    """Show the network patches of each stage, as shapes alone.

    Raises:
        Refusal: it cannot compute one of them.
    """
    for _, patch in stages(recipe, plan)[:-1]:
        try:
            footprint.kept(recipe, plan.model_copy(update={"patch": patch}), out_channels=out_channels)
        except (Refusal, ValueError, RuntimeError) as error:
            said = error.found if isinstance(error, Refusal) else str(error).partition("\n")[0].rstrip(".")
            raise Refusal(
                "train.curriculum",
                found=f"patches of {list(patch)}, which {recipe.model.name} cannot compute ({said})",
                needed="patches that it can",
                remedy="set train.curriculum.start higher, or leave train.curriculum out",
            ) from error


def in_words(found: Sequence[Stage]) -> str:
    """For people, such as "patches of 64 x 64 x 64 until step 300, then of 128 x 128 x 128"."""
    parts = [
        f"of {' x '.join(map(str, stage.patch))} until step {following.step}"
        for stage, following in itertools.pairwise(found)
    ]
    return f"curriculum: patches {', '.join(parts)}, then of {' x '.join(map(str, found[-1].patch))}"
