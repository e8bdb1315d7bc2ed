"""Which back end is the fastest for a model on this machine: measured when somebody asks for it, and remembered."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import medseg
from medseg import atomic
from medseg.boundary import parsing
from medseg.engine import backends
from medseg.engine import device as devices
from medseg.engine.forward import Forward
from medseg.engine.run import Run
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.settings import Settings

GAIN = 0.95
"""A back end must take less than this share of the time of eager: what it compiles costs seconds before each run."""
TIMES, MORE = 1.5, 1e-4
"""Of its labels, so many times as many as of eager's in the same number format may differ from eager's in float32, and
this share of all labels besides."""
ROUNDS = 3
"""Of all back ends in turn, at least."""


class Measured(Settings):
    """One back end in one number format.

    Attributes:
        seconds: the fastest tile; None where it cannot be used, and `reason` says why.
        largest_difference: of logits from those of eager in float32.
        equal: share of labels that are those of eager in float32.
    """

    backend: str
    precision: str
    seconds: float | None = None
    largest_difference: float = 0
    equal: float = 1
    reason: str = ""


class Tuned(Settings):
    """What is remembered: the content of a file in the user's cache."""

    identity: dict[str, str]
    backend: str
    measured: tuple[Measured, ...]


def identity(weights: str, plan: Plan, precision: str, device: torch.device) -> dict[str, str]:
    """All that a measurement hangs on.

    Args:
        weights: their sha256.
    """
    machine = devices.described(device)
    if device.type == "cpu":
        machine |= {"processor": _processor(), "threads": str(torch.get_num_threads())}
    return {
        "weights": weights,
        "sees": " x ".join(map(str, backends.seen(plan))),
        "precision": precision,
        "openvino": backends.version("openvino"),
        "medseg": medseg.__version__,
        **machine,
    }


def chosen(wanted: str, about: Mapping[str, str]) -> tuple[str, str]:
    """Back end of a prediction, and why.

    Args:
        wanted: `predict.backend`.
        about: `identity` of the model.

    Raises:
        Refusal: what was remembered is damaged.
    """
    if wanted != "auto":
        return wanted, "as the settings say"
    path = _place(about)
    if not path.exists():
        return "eager", "no other was measured for this model on this machine"
    with parsing(path, needed="the file as it was written", remedy="remove it, or run `medseg tune` again"):
        return Tuned.model_validate_json(path.read_text(encoding="utf-8")).backend, "the fastest by `medseg tune`"


def remember(found: Tuned) -> Path:
    """Write it where `chosen` looks."""
    path = _place(found.identity)
    with atomic.replacing(path) as temporary:
        temporary.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def tune(
    run: Run, *, device: torch.device, seconds: float, on_time: Callable[[int, int], None] | None = None
) -> list[Tuned]:
    """Measure every back end in every number format that the device has, and remember the fastest of each format whose
    labels agree.

    All see one tile of smooth noise, as large as the model's own, and take turns, so that whatever else the machine
    does hits all of them.

    Args:
        seconds: to measure for, what it takes to compile not counted.
        on_time: called with (seconds measured, seconds in all).
    """
    network, weights = run.load_network()
    formats = ("32", "bf16") if devices.has_bf16(device) else ("32",)
    usable, refused = _built(network.to(device), run.plan, formats, device)
    tile = noise(backends.seen(run.plan))
    logits = {key: forward(tile).float().cpu() for key, forward in usable.items()}
    fastest = race(usable, tile, seconds=seconds, on_time=on_time)
    reference = logits["eager", "32"]
    measured = [
        Measured(
            backend=name,
            precision=precision,
            seconds=fastest[name, precision],
            largest_difference=float((own - reference).abs().max()),
            equal=_equal(own, reference, exclusive=run.table.exclusive),
        )
        for (name, precision), own in logits.items()
    ]
    found = []
    for precision in formats:
        rows = judged(one for one in measured if one.precision == precision)
        best = min((one for one in rows if not one.reason), key=lambda one: one.seconds or 0).backend
        rows += [one for one in refused if one.precision == precision]
        found.append(Tuned(identity=identity(weights, run.plan, precision, device), backend=best, measured=tuple(rows)))
        remember(found[-1])
    return found


def _built(
    network: nn.Module, plan: Plan, formats: Sequence[str], device: torch.device
) -> tuple[dict[tuple[str, str], Forward], list[Measured]]:
    """Every back end that can be used, by its name and number format; and the others, with the reason."""
    usable, refused = {}, []
    for precision in formats:
        for name in backends.MAKERS:
            try:
                usable[name, precision] = backends.build(name, network, plan, precision=precision, device=device)
            except Refusal as refusal:
                reason = f"{refusal.where}: {refusal.found}"
                refused.append(Measured(backend=name, precision=precision, reason=reason))
    return usable, refused


def race(
    runs: Mapping[tuple[str, str], Forward],
    tile: Tensor,
    *,
    seconds: float,
    on_time: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[tuple[str, str], float]:
    """The fewest seconds that each took for a tile, in rounds of all until the time is over."""
    fastest = dict.fromkeys(runs, float("inf"))
    started, rounds = clock(), 0
    while rounds < ROUNDS or clock() - started < seconds:
        for key, run in runs.items():
            before = clock()
            run(tile).sum().item()  # which waits for a GPU
            fastest[key] = min(fastest[key], clock() - before)
        rounds += 1
        if on_time:
            on_time(min(int(clock() - started), int(seconds)), int(seconds))
    return fastest


def judged(rows: Iterable[Measured]) -> list[Measured]:
    """Those of one number format, each with the reason why it is not taken, if there is one; eager always may be."""
    listed = list(rows)
    eager = next(one for one in listed if one.backend == "eager")
    assert eager.seconds is not None  # it was measured with the others
    allowed = TIMES * (1 - eager.equal) + MORE
    result = []
    for one in listed:
        reason = ""
        if one is not eager and 1 - one.equal > allowed:
            reason = f"{1 - one.equal:.2%} of its labels are others, of eager's {1 - eager.equal:.2%}"
        elif one is not eager and (one.seconds or 0) > GAIN * eager.seconds:
            reason = f"it is not {1 - GAIN:.0%} faster than eager"
        result.append(one.model_copy(update={"reason": reason}))
    return result


def noise(shape: tuple[int, int, int, int]) -> Tensor:
    """A tile (1, C, i, j, k) with structures of several sizes and the mean and spread of a normalised scan; always the
    same one."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(1, *shape)
    for step in (1, 4, 16):
        coarse = [-(-side // step) for side in shape[1:]]
        total += interpolate(torch.randn(1, shape[0], *coarse, generator=generator), size=shape[1:], mode="trilinear")
    return total / total.std()


def _equal(own: Tensor, reference: Tensor, *, exclusive: bool) -> float:
    """Share of equal labels."""
    mine, theirs = (logits.argmax(dim=1) if exclusive else logits > 0 for logits in (own, reference))
    return float((mine == theirs).float().mean())


def _place(about: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode()).hexdigest()
    return backends.user_cache() / "backends" / f"{digest[:16]}.json"


def _processor() -> str:
    """Model of the CPU, as exactly as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor()
    first = listing.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in pairs}
    return ", ".join(facts[name] for name in ("model name", "cpu family", "model", "stepping") if name in facts)
