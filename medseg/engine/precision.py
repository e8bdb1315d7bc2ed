"""Which number format a model predicts in: bf16 only where its own labels have shown that nothing is lost by it.

`settle` compares, writes what it saw into the run's precision.json, pins the outcome in plan.json and puts a line into
card.md; `chosen` is what a prediction makes of that pin.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from medseg import card, progress
from medseg.data.cache import PreparedCase
from medseg.engine import device as devices
from medseg.engine.agreement import OfClasses, OfLabels
from medseg.engine.run import Run
from medseg.refusal import Refusal
from medseg.settings import Settings

FILE = "precision.json"
CARD_LINE = "number format of predictions"
MOST = {"voxel": 5, "slice": 5, "image": 100}
"""Cases that are looked at, by what the labels are of. A number and not a time, so that a repeated run agrees."""

Images = Mapping[str, Callable[[], np.ndarray]]
"""How to get the prepared image of each case, float32 (C, i, j, k), by the case's id."""
Announce = Callable[[str], None]


class Evidence(Settings):
    """What was seen, and what follows from it; the content of precision.json."""

    verdict: Literal["32", "bf16"] | None
    """None: not tried, and nothing is pinned."""
    reason: str
    weights_sha256: str
    machine: dict[str, str]
    cases: tuple[str, ...] = ()
    answers: int = 0
    """Voxels of the prepared images, or slices or images, of all cases together."""
    labels: dict[str, dict[str, float]] = Field(default={})
    """Of each label that occurs, by name: dice, lowest_dice_of_a_case, voxels; of classes: largest_change, changed."""
    absent: tuple[str, ...] = ()
    """Labels that neither format found in any case: nothing is known of them."""
    seconds: dict[str, float] = Field(default={})
    """What each format took, the first call of its kernels included."""


def chosen(wanted: str, pinned: Sequence[str | None], device: torch.device) -> tuple[str, str]:
    """Number format of a prediction, and why.

    Args:
        wanted: `predict.precision`; auto goes by the pins.
        pinned: what the plan of each run says. An ensemble takes bf16 where all of its members may.
    """
    if wanted != "auto":
        return wanted, "as the settings say"
    if "32" in pinned:
        return "32", "pinned in the plan"
    if None in pinned:
        return "32", "nothing is pinned in the plan"
    if not devices.has_bf16(device):
        return "32", f"bf16 is pinned in the plan, but this {device.type} has no instructions for it"
    return "bf16", "pinned in the plan"


def settle(run: Run, images: Images, *, device: torch.device, announce: Announce) -> Evidence:
    """Compare the labels in bf16 with those in float32, pin the format in the run's plan, and put on record why.

    Two answers are compared, so no truth is needed. The first `MOST` cases are looked at, on the prepared grid, with
    the recipe's tiles, without mirrored passes, which would only smooth both.

    Args:
        run: a folder with weights. One that was unzipped takes what is written into it along when it goes.
        images: best of cases that the weights were not trained on.

    Raises:
        Refusal: an image cannot be read, or the weights give no finite values in float32 either.
    """
    network, weights = run.load_network()
    common: dict[str, Any] = {"weights_sha256": weights, "machine": devices.described(device)}
    lacking = "" if images else "there is no case to compare on"
    if not devices.has_bf16(device):
        lacking = f"this {device.type} has no instructions for it"
    if lacking:  # which takes nothing away from what was seen elsewhere
        reason = f"bf16 was not tried: {lacking}"
        evidence = _known(run, weights) or Evidence(verdict=None, reason=reason, **common)
    else:
        shown = dict(itertools.islice(images.items(), MOST[run.table.unit]))
        with devices.evaluating(network.to(device)):
            evidence = Evidence(**_compared(network, run, shown, device), **common)
    _record(run, evidence)
    announce(f"precision {evidence.verdict or '32'}: {evidence.reason}")
    return evidence


def settle_once(run: Run, images: Images, *, device: torch.device, announce: Announce) -> Evidence:
    """`settle`, unless that was done with these very weights: then what was seen holds."""
    known = _known(run, run.load_network()[1])
    if known is None:
        return settle(run, images, device=device, announce=announce)
    _record(run, known)
    return known


def _known(run: Run, weights: str) -> Evidence | None:
    """What was seen of the weights with this sha256, if they were compared."""
    if not run.path(FILE).exists():
        return None
    known = run.parsed(FILE, Evidence)
    return known if known.verdict and known.weights_sha256 == weights else None


def telling(cases: Sequence[PreparedCase]) -> list[PreparedCase]:
    """The cases in an order in which the first few show as many of the labels as they can."""
    left, ordered = list(cases), []
    unseen: set[int] = set()
    while left:
        there = [{place for place, voxels in enumerate(case.voxels) if voxels} for case in left]
        unseen = unseen or set().union(*there)
        best = max(range(len(left)), key=lambda number: len(there[number] & unseen))
        unseen = unseen - there[best]
        ordered.append(left.pop(best))
    return ordered


def _record(run: Run, evidence: Evidence) -> None:
    run.write(FILE, evidence.model_dump(mode="json"))
    run.pin_precision(evidence.verdict)
    if (page := run.path("card.md")).exists():  # not yet in a run whose training was stopped
        card.state(page, CARD_LINE, f"{evidence.verdict or '32'}: {evidence.reason}")


def _compared(network: nn.Module, run: Run, images: Images, device: torch.device) -> dict[str, Any]:
    """Fields of `Evidence`. A case that gives no finite values in bf16 ends the comparison."""
    settings = run.recipe.predict.model_copy(update={"mirror": ()})
    comparison: OfLabels | OfClasses = OfLabels(run.table) if run.table.unit == "voxel" else OfClasses(run.table)
    seconds = {"32": 0.0, "bf16": 0.0}
    facts: dict[str, Any] = {"cases": tuple(images), "seconds": seconds}
    with progress.counting("comparing bf16 with float32", total=2 * len(images)) as done:
        for load in images.values():
            image, found = load(), []
            for precision in seconds:
                started = time.monotonic()
                asked = settings.model_copy(update={"precision": precision})
                try:
                    found.append(comparison.answer(network, image, run.plan, asked, device))
                except Refusal as refusal:
                    if precision == "32":
                        raise
                    return facts | {"verdict": "32", "reason": f"in bf16, {refusal.where}: {refusal.found}"}
                finally:
                    seconds[precision] = round(seconds[precision] + time.monotonic() - started, 3)
                done()
            comparison.add(*found)
    return facts | comparison.outcome()
