"""What an optimiser step is made of, and its gradient: in as many parts as memory needs, and nothing stays of one that
failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning_fabric
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medseg.config import Recipe, TrainSettings
from medseg.engine import device as devices
from medseg.engine import groups, memory, objective, schedule
from medseg.engine.objective import Computing
from medseg.engine.state import Position, State, average
from medseg.labels import LabelTable
from medseg.losses import Loss
from medseg.plan import Plan
from medseg.refusal import Refusal

Samples = tuple[Tensor, Tensor, Sequence[str]]
"""Images, targets and names of cases of one step, as far as this process computes it."""
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
"""What lightning-fabric calls the values of `train.precision`."""
LEAST_SCALE = 1e-4
"""Of the loss in float16: below, it is no scale that makes gradients infinite, and no step would ever be done."""


@dataclass(frozen=True)
class Gradient:
    """How gradients come about.

    Attributes:
        fabric: its strategy averages the gradients of the processes.
        computing: its loss is a mean over samples, as far as it does not mix them.
        announce: told when memory runs out.
    """

    fabric: lightning_fabric.Fabric
    computing: Computing
    announce: Callable[[str], None]

    def of(self, samples: Samples, *, at_once: int, seed: int, where: str) -> tuple[Tensor, Tensor, int]:
        """Add the gradient of the mean loss over `samples` to the parameters', which must be none.

        Where memory runs out, half as many samples are computed at once, and all begins again with the same chance
        and the same statistics of batch normalisation.

        Args:
            at_once: samples computed at once.
            seed: of dropout and the like.
            where: for messages.

        Returns:
            losses of the parts, whose sum is the loss of the step; the sum of their counts, see `watch.overlaps`; and
            how many samples were computed at once.

        Raises:
            Refusal: there is not enough memory for one sample, or for one of several processes.
        """
        statistics = [buffer for module in _normalisations(self.computing.network) for buffer in module.buffers()]
        former = [buffer.clone() for buffer in statistics]
        while True:
            torch.manual_seed(seed)
            try:
                return *self.once(samples, at_once), at_once
            except (RuntimeError, MemoryError) as error:
                if not memory.ran_out(error):
                    raise
                said = str(error).partition("\n")[0]
            # only here, where no traceback holds what was computed any more
            self.computing.whole.zero_grad(set_to_none=True)
            devices.give_back(after_error=True)
            with torch.no_grad():
                for buffer, value in zip(statistics, former, strict=True):
                    buffer.copy_(value)
            at_once = self._fewer(min(at_once, len(samples[0])), said, where)

    def once(self, samples: Samples, at_once: int) -> tuple[Tensor, Tensor]:
        """The same without a second attempt: losses of the parts, and the sum of their counts."""
        images, targets = samples[0].split(at_once), samples[1].split(at_once)
        losses, counts = [], []
        for number, (image, target) in enumerate(zip(images, targets, strict=True), start=1):
            # gradients go round between processes once, with those of the last part
            with self.fabric.no_backward_sync(self.computing.whole, enabled=number < len(images)):
                share = len(image) / len(samples[0])
                loss, fits = self.computing.objective(image, target)
                loss = loss * share
                self.fabric.backward(loss)
            losses.append(loss.detach())
            counts.append(fits)
        return torch.stack(losses), torch.stack(counts).sum(0)

    def _fewer(self, at_once: int, said: str, where: str) -> int:
        fewer = -(-at_once // 2)
        if self.fabric.world_size > 1 and at_once > 1:  # the others wait for this one's gradients
            raise Refusal(
                where,
                found=f"too little memory for {at_once} samples at once ({said})",
                needed="fewer at once on each of the devices",
                remedy=f"go on from the last checkpoint with --resume train.micro_batch={fewer}",
            )
        if at_once == 1:
            raise Refusal(
                where,
                found=f"too little memory for a single sample ({said})",
                needed="more memory, or samples that take less",
                remedy="see that nobody else uses the device and run the same command again, which goes on from the "
                "last checkpoint; or train anew with a smaller prepare.patch, train.precision=bf16, a smaller model, "
                "or its option checkpointing=true if it has one",
            )
        self.announce(
            f"{where}: too little memory for {at_once} samples at once ({said}); from here on {fewer} are computed at "
            "once, and their gradients added up before each step"
        )
        return fewer


def set_up(
    fabric: lightning_fabric.Fabric,
    network: nn.Module,
    loss: Loss,
    recipe: Recipe,
    plan: Plan,
    table: LabelTable,
    announce: Callable[[str], None],
) -> tuple[Gradient, State]:
    """What makes a recipe's gradients, and all that its steps change, on the device of `fabric`.

    Raises:
        Refusal: settings that do not go together.
    """
    settings = recipe.train
    # first, because sharding makes other parameters
    computing = objective.set_up(fabric, network, loss, table, settings, announce)
    trained = groups.trained(network, recipe, plan, table)
    # not for "16", whose gradients are scaled back before they are clipped, nor for parts of weights
    fused = fabric.device.type == "cuda" and settings.precision != "16" and not settings.shard
    optimiser = fabric.setup_optimizers(schedule.optimiser(trained, settings, fused=fused))
    return Gradient(fabric, computing, announce), State(network, optimiser, average(network, settings.ema), Position())


def at_once(settings: TrainSettings, batch: int) -> int:
    """Samples of a step that a device computes at once, as long as memory does not run out."""
    return min(batch * settings.accumulate, settings.micro_batch or batch)


def _normalisations(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def mixing(recipe: Recipe, network: nn.Module, table: LabelTable) -> list[str]:
    """Why a step in parts differs from the same step in one; nothing if the loss is a mean over samples."""
    loss = recipe.loss.module()
    reasons = {
        f"{recipe.model.name} normalises by the statistics of what is computed at once": any(
            True for _ in _normalisations(network)
        ),
        f"the loss {recipe.loss.name}, as it is set, looks at all samples together": (
            hasattr(loss, "mixes_samples") and loss.mixes_samples(recipe.loss.options)
        ),
        "samples of which less is labelled come to count more": (
            table.ignore is not None or any(label.unknown for label in table.labels)
        ),
    }
    return [reason for reason, holds in reasons.items() if holds]


def scale_can_fall(fabric: lightning_fabric.Fabric) -> bool:
    """Whether the loss has a scale, as with float16, that is lowered where gradients are not finite: it is too high at
    times, and such a step is passed over."""
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return scaler is not None and scaler.get_scale() > LEAST_SCALE


def not_finite(
    samples: Samples, losses: Tensor, norm: float, *, at_once: int, step: int, kept: str, precision: str
) -> Refusal:
    """What to say of a step whose loss, or the norm of whose gradient, is not finite.

    Args:
        losses: of the parts.
        kept: where the last good state is.
        precision: `train.precision`; what float16 cannot hold, others can.
    """
    images, _, names = samples
    parts = range(0, len(names), at_once)
    bad = [place for place, loss in zip(parts, losses.tolist(), strict=True) if not math.isfinite(loss)]
    suspects = [place for start in bad or parts for place in range(start, min(start + at_once, len(names)))]
    broken = [place for place in suspects if not images[place].isfinite().all()]  # no network can help it then
    return Refusal(
        f"training step {step}",
        found=f"{'loss' if bad else 'gradient'} {float(losses.sum()) if bad else norm} on the cases "
        f"{', '.join(dict.fromkeys(names[place] for place in broken or suspects))}",
        needed="a finite one",
        remedy="look at these cases with `medseg check`, "
        + ("set train.precision=bf16 or 32, " if precision == "16" else "")
        + f"or lower train.lr; the last good state is in {kept}",
    )


def _lost_another(error: BaseException) -> bool:
    """Whether an error means that a process with which this one computes is gone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return isinstance(error, distributed.DistError) or "gloo/transport" in str(error)


@contextmanager
def explained() -> Iterator[None]:
    """Errors of torch that a user can mend, in words.

    Raises:
        Refusal: an operation that cannot be repeated bit for bit on this device; a lack of memory anywhere but in the
            gradient, see `Gradient`; another process of the same training ended.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if memory.ran_out(error):
            raise Refusal(
                "training",
                found=f"too little memory beside the gradient ({said.partition(chr(10))[0]})",
                needed="some for batches, the optimiser, the average of the weights and validation",
                remedy="see that nobody else uses the device and run the same command again, which goes on from the "
                "last checkpoint, with --resume train.micro_batch=1 if need be; or train anew with a smaller "
                "prepare.patch or model",
            ) from error
        if _lost_another(error):
            raise Refusal(
                "training",
                found="that another process of it ended",
                needed="all of them until the end",
                remedy="do what that one says; the same command goes on from the last checkpoint",
            ) from error
        if "deterministic" in said and "use_deterministic_algorithms" in said:
            raise Refusal(
                "train.deterministic",
                found=f"true, with a network or loss that torch cannot repeat here ({said.partition(',')[0]})",
                needed="operations that give the same bits each time",
                remedy="set train.deterministic=false, train on the CPU, or choose another model",
            ) from error
        raise
