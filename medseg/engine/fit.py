"""The training loop, top to bottom."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import lightning_fabric
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medseg.config import Recipe
from medseg.data.cache import PreparedCase
from medseg.data.split import Split
from medseg.engine import checkpoint, schedule, shard, validate
from medseg.engine.batches import Batches, count_workers, numbers
from medseg.engine.display import TrainingDisplay
from medseg.engine.networks import answers
from medseg.engine.run import Run
from medseg.engine.samples import Samples
from medseg.labels import LabelTable
from medseg.optional import need
from medseg.plan import Plan
from medseg.refusal import Refusal


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has saved its state."""


@dataclass
class Position:
    """How far training has come; part of every checkpoint."""

    step: int = 0
    best: float = -1.0
    since_best: int = 0
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """What the loop needs, built and handed in."""

    recipe: Recipe
    plan: Plan
    table: LabelTable
    run: Run
    network: nn.Module
    loss: Callable[[list[Tensor], Tensor], Tensor]
    samples: Samples
    validation: Sequence[PreparedCase]
    announce: Callable[[str], None]
    slices: Split | None = None
    """Given when slices of one case stand on both sides of the split."""


def fit(parts: Parts, fabric: lightning_fabric.Fabric) -> Position:
    """Train until the last epoch, an early stop or an interrupt.

    Every draw depends on (seed, step, sample) alone and the learning rate on the step alone, so a run that was killed
    and resumed from its last checkpoint goes on exactly as if it had not been.

    Raises:
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        Refusal: the loss is not a number any more, or the disk is full. The last good state is kept.
    """
    settings, position = parts.recipe.train, Position()
    network = fabric.setup_module(parts.network)  # first, because sharding makes other parameters
    optimiser = fabric.setup_optimizers(schedule.optimiser(list(network.parameters()), settings))
    average = _average(parts.network, settings.ema)
    if parts.run.path("last.safetensors").exists():
        position = _restore(parts, fabric, optimiser, average)
    kept = average.module if average else parts.network
    total = settings.epochs * settings.steps
    if position.step:
        parts.announce(_where(position, total, settings.patience))
    batches = _batches(parts, fabric, position.step, total)
    started = time.monotonic() - (position.history[-1]["seconds"] if position.history else 0)
    measure = validate.measure(parts.table)
    display = TrainingDisplay(
        measure,
        epochs=settings.epochs,
        steps=settings.steps,
        done_steps=position.step,
        shown=fabric.is_global_zero,
    )
    with _tensorboard(parts, fabric) as writer, display, stop_requests() as stop, batches:
        while position.step < total and not _patience_over(position, settings.patience):
            image, target, names = next(batches)
            rate = schedule.learning_rate(position.step, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate
            torch.manual_seed(parts.recipe.seed * 1_000_003 + position.step)  # dropout and the like
            network.train()
            loss = parts.loss(answers(network(image)), target)
            value = loss.item()
            if not math.isfinite(value):
                raise _not_a_number("loss", value, names, position.step, parts.run)
            fabric.backward(loss)
            norm = fabric.clip_gradients(network, optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)
            if isinstance(norm, DTensor):
                norm = norm.full_tensor()
            if settings.precision != "16" and norm is not None and not norm.isfinite():  # "16" lowers its scale itself
                raise _not_a_number("gradient", float(norm), names, position.step, parts.run)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if average:
                average.update_parameters(parts.network)
                _copy_whole_numbers(parts.network, average.module)
            position.step += 1
            position.loss_sum += value
            display.step(value)
            if position.step % settings.steps == 0:
                epoch = position.step // settings.steps
                entry: dict[str, Any] = {"epoch": epoch, "loss": position.loss_sum / settings.steps, "lr": rate}
                position.loss_sum = 0.0
                pace = batches.pace()
                entry |= {"wait": round(pace.wait, 3), "seconds_a_step": round(pace.seconds_a_step, 4)}
                if epoch % settings.validate_every == 0 or epoch == settings.epochs:
                    _validate(parts, fabric, kept, entry, position)
                entry["seconds"] = round(time.monotonic() - started, 1)
                position.history.append(entry)
                display.epoch(epoch, entry["loss"], entry.get(measure), position.best, pace)
                if fabric.is_global_zero:
                    _log(parts.run, position.history)
                    if complaint := batches.complaint(pace):
                        parts.announce(complaint)
                    if writer:
                        _scalars(writer, entry)
                over = position.step == total or _patience_over(position, settings.patience)
                if epoch % settings.save_every == 0 or over:
                    _save_last(parts, fabric, optimiser, average, position)
            # only after the end of an epoch was dealt with: a resumed run starts with a step
            if _any_asked(stop, fabric):
                _save_last(parts, fabric, optimiser, average, position)
                raise Interrupted
    return position


def _average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Moving average of the weights, and of the statistics of batch normalisation."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _copy_whole_numbers(network: nn.Module, average: nn.Module) -> None:
    """Tables of indices and counters have no average: one would be cut off to other whole numbers."""
    for own, kept in zip(network.buffers(), average.buffers(), strict=True):
        if not own.is_floating_point():
            kept.copy_(own)


def _any_asked(stop: Callable[[], bool], fabric: lightning_fabric.Fabric) -> bool:
    """Whether any process was asked to stop: they stop together, or those that go on would wait for the others."""
    if fabric.world_size == 1:
        return stop()
    asked = torch.tensor(float(stop()), device=fabric.device)
    return bool(fabric.all_reduce(asked, reduce_op="max") > 0)


def _where(position: Position, total: int, patience: int) -> str:
    """What a run that was started before has still to do."""
    if position.step >= total:
        return "the training is complete; --resume with more train.epochs would go on"
    if _patience_over(position, patience):
        return f"the training stopped early at step {position.step}, after {patience} validations that were no better"
    return f"going on after step {position.step} of {total}"


def _batches(parts: Parts, fabric: lightning_fabric.Fabric, first_step: int, total: int) -> Batches:
    settings, device = parts.recipe.train, fabric.device
    wanted = numbers(first_step, total, size=parts.plan.batch, rank=fabric.global_rank, world=fabric.world_size)
    workers = count_workers(settings.workers, device=device, steps=total - first_step, processes=settings.devices)
    return Batches(parts.samples, wanted, device=device, vary_there=device.type == "cuda", workers=workers)


def _validate(
    parts: Parts, fabric: lightning_fabric.Fabric, network: nn.Module, entry: dict[str, Any], position: Position
) -> None:
    """Measure the network, and keep its weights if they are the best so far."""
    measure = validate.measure(parts.table)
    score, per_label = _measured(parts, fabric, network)
    entry[measure] = score
    entry[f"{measure}_per_label"] = {
        name: (None if math.isnan(value) else round(value, 4))
        for name, value in zip(parts.table.names, per_label, strict=True)
    }
    position.since_best += 1
    if math.isnan(score):  # there is nothing to choose by, the latest is kept
        why = "no label in any validation case" if measure == "dice" else "all validation cases are of one class"
        parts.announce(f"{why}: {measure} is undefined, and the latest weights are kept")
        entry[measure] = None
    if entry[measure] is None or score > position.best:
        position.best, position.since_best = max(position.best, entry[measure] or 0.0), 0
        tensors = shard.whole(network.state_dict())
        if fabric.is_global_zero:
            facts = {"epoch": entry["epoch"], measure: entry[measure]}
            checkpoint.save(parts.run.path("weights.safetensors"), tensors, facts)


def _measured(parts: Parts, fabric: lightning_fabric.Fabric, network: nn.Module) -> tuple[float, list[float]]:
    """Mean, and value of each label. For Dice each process takes its share of the cases and the sums are added up, so
    that all know the same number; AUROC is no mean over cases, so each process looks at all of them. So it does with
    a divided network, which computes only where all do."""
    together = parts.recipe.train.shard
    share = parts.validation if together else parts.validation[fabric.global_rank :: fabric.world_size]
    settings = parts.recipe.predict.model_copy(update={"mirror": ()})
    if validate.measure(parts.table) == "dice":
        sums = validate.dice_sums(
            network,
            share,
            plan=parts.plan,
            table=parts.table,
            settings=settings,
            device=fabric.device,
            split=parts.slices,
        )
        if together:  # batch statistics differ between processes, and all must decide alike
            return validate.mean_dice(fabric.broadcast(sums))
        return validate.mean_dice(fabric.all_reduce(sums.float(), reduce_op="sum"))
    values = validate.aurocs(
        network,
        parts.validation,
        plan=parts.plan,
        table=parts.table,
        settings=settings,
        device=fabric.device,
        split=parts.slices,
    )
    values = fabric.broadcast(values)  # batch statistics differ between processes, and all must decide alike
    defined = [value for value in values if not math.isnan(value)]
    return (sum(defined) / len(defined) if defined else math.nan), values


def _patience_over(position: Position, patience: int) -> bool:
    return patience > 0 and position.since_best >= patience


def _save_last(
    parts: Parts,
    fabric: lightning_fabric.Fabric,
    optimiser: torch.optim.Optimizer,
    average: AveragedModel | None,
    position: Position,
) -> None:
    moments, numbers = checkpoint.optimiser_tensors(optimiser)
    tensors = {f"network.{name}": value for name, value in parts.network.state_dict().items()}
    tensors |= {f"optimiser.{name}": value for name, value in moments.items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors = shard.whole(tensors)
    if not fabric.is_global_zero:
        return
    facts = {"position": vars(position), "optimiser": numbers, "scaler": _scaler_state(fabric)}
    checkpoint.save(parts.run.path("last.safetensors"), tensors, facts)


def _restore(
    parts: Parts, fabric: lightning_fabric.Fabric, optimiser: torch.optim.Optimizer, average: AveragedModel | None
) -> Position:
    tensors, facts, _ = checkpoint.load(parts.run.path("last.safetensors"))
    part = {
        name: {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        for name in ("network", "optimiser", "average")
    }
    shard.fill(parts.network, part["network"])
    moments = shard.moments(optimiser, part["optimiser"])
    checkpoint.restore_optimiser(optimiser, moments, facts["optimiser"])
    if average:
        average.load_state_dict(part["average"])
    if facts["scaler"]:
        fabric.strategy.precision.load_state_dict(facts["scaler"])
    return Position(**facts["position"])


def _scaler_state(fabric: lightning_fabric.Fabric) -> dict[str, Any]:
    """Loss scale of float16 training; nothing otherwise."""
    return dict(fabric.strategy.precision.state_dict())


def _not_a_number(what: str, value: float, names: Sequence[str], step: int, run: Run) -> Refusal:
    return Refusal(
        f"training step {step}",
        found=f"{what} {value} on the cases {', '.join(names)}",
        needed="a finite one",
        remedy=f"look at these cases with `medseg check`, or lower train.lr; the last good state is in {run.folder}",
    )


def _log(run: Run, history: list[dict[str, Any]]) -> None:
    """The whole history each time: a resumed run leaves no line twice."""
    from medseg import atomic

    with atomic.replacing(run.path("log.jsonl")) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


@contextmanager
def _tensorboard(parts: Parts, fabric: lightning_fabric.Fabric) -> Iterator[Any]:
    """A writer of TensorBoard logs, closed at the end; None when the recipe wants none."""
    if not (parts.recipe.train.tensorboard and fabric.is_global_zero):
        yield None
        return
    need("tensorboard", extra="tensorboard", purpose="write TensorBoard logs")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(parts.run.path("tensorboard"))) as writer:
        yield writer


def _scalars(writer: Any, entry: dict[str, Any]) -> None:
    for name in ("loss", "lr", "dice", "auroc", "wait", "seconds_a_step"):
        if entry.get(name) is not None:
            writer.add_scalar(name, entry[name], entry["epoch"])
    for measure in ("dice", "auroc"):
        for label, value in entry.get(f"{measure}_per_label", {}).items():
            if value is not None:
                writer.add_scalar(f"{measure}/{label}", value, entry["epoch"])
    writer.flush()


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that the loop asks between steps; the second one stops at
    once. Signals belong to the main thread; elsewhere the answer is always no."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in former:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
