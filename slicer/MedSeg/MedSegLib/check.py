"""The verdict before Apply: whether these volumes suit this model and this machine, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from MedSegLib.models import Model

OK, LOOK, STOP = "ok", "look", "stop"
COARSER = 2.0
"""From so many times the model's voxel size on, small structures are likely to be lost."""
SAME_MM = 0.01
"""Voxel sizes that differ by less are the same: files round them."""
TIGHT = 0.8
"""Share of the free memory from which others on the machine are likely to be in the way."""
SPOKEN = {"PT": "PET", "PET": "PET"}


@dataclass(frozen=True)
class Input:
    """A volume that was chosen for a channel.

    Attributes:
        channel: of the model, by its name.
        name: of the volume, for the user.
        shape: voxels along I, J, K.
        spacing_mm: voxel size along I, J, K.
        modality: as DICOM names it (CT, MR, PT); empty: not known.
    """

    channel: str
    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    modality: str = ""


@dataclass(frozen=True)
class Check:
    """What is to be said before Apply.

    Attributes:
        ok: whether Apply makes sense; there may be something to look at all the same.
        sentences: (level, text), the worst first; levels are `OK`, `LOOK` and `STOP`.
    """

    ok: bool
    sentences: tuple[tuple[str, str], ...]


def verdict(model: Model, inputs: Sequence[Input], dry_run: Mapping[str, Any] | None = None) -> Check:
    """Whether a model can be run on volumes.

    Args:
        inputs: one for each channel that has a volume, in any order.
        dry_run: the JSON of `medseg predict --dry-run --progress json` for this one case, where there is one; it has
            seen an image of the same size, and knows memory and time. A service offers none.
    """
    said = [*_of_model(model), *_of_channels(model, inputs), *_of_grids(model, inputs), *_of_modalities(model, inputs)]
    cases = list((dry_run or {}).get("cases") or ())
    for case in cases:
        said += _of_case(case, str((dry_run or {}).get("device") or ""))
    if not cases:
        said += _of_spacing(model, inputs)
    unique = dict.fromkeys(said)
    ok = all(level != STOP for level, _ in unique)
    if ok and not any(level == OK for level, _ in unique):
        unique[(OK, "Channels and voxel sizes suit the model.")] = None
    order = (STOP, LOOK, OK)
    return Check(ok, tuple(sorted(unique, key=lambda one: order.index(one[0]))))


Said = list[tuple[str, str]]


def _of_model(model: Model) -> Said:
    if model.partial:
        return [(STOP, f"{model.name} is a part of a network: it can be trained from, but it cannot predict.")]
    if not model.weights_bytes:
        return []
    return [(OK, f"The model's weights take {size(model.weights_bytes)}.")]


def _of_channels(model: Model, inputs: Sequence[Input]) -> Said:
    given = [one.channel for one in inputs]
    missing = [name for name in model.channels if name not in given]
    said = [(STOP, f"Choose a volume for the channel {name}.") for name in missing]
    said += [
        (STOP, f"The model has no channel {name}: it needs {', '.join(model.channels)}.")
        for name in dict.fromkeys(given)
        if name not in model.channels
    ]
    said += [
        (STOP, f"Choose one volume for the channel {name}, not {given.count(name)}.")
        for name in dict.fromkeys(given)
        if given.count(name) > 1
    ]
    by_name: dict[str, list[str]] = {}
    for one in inputs:
        by_name.setdefault(one.name, []).append(one.channel)
    said += [
        (LOOK, f"{name} is chosen for {len(channels)} channels: {', '.join(channels)}.")
        for name, channels in by_name.items()
        if len(set(channels)) > 1
    ]
    return said


def _of_grids(model: Model, inputs: Sequence[Input]) -> Said:
    """Only sizes are compared here; where volumes lie, the run itself looks."""
    here = [one for one in inputs if one.channel in model.channels]
    if not here:
        return []
    first = here[0]
    return [
        (
            LOOK,
            f"{one.name} ({_voxels(one)}) lies on another grid than {first.name} ({_voxels(first)}): it is refused "
            "unless the model was trained to resample channels. Resample it onto the other volume first.",
        )
        for one in here[1:]
        if one.shape != first.shape or any(abs(a - b) > SAME_MM for a, b in zip(one.spacing_mm, first.spacing_mm))
    ]


def _of_modalities(model: Model, inputs: Sequence[Input]) -> Said:
    wanted = dict(zip(model.channels, model.modalities))
    return [
        (LOOK, f"{one.name} is {_spoken(one.modality)}, and the model's channel {one.channel} is {_spoken(need)}.")
        for one in inputs
        for need in [wanted.get(one.channel, "")]
        if need and one.modality and _spoken(one.modality) != _spoken(need)
    ]


def _of_spacing(model: Model, inputs: Sequence[Input]) -> Said:
    """Axes of a volume need not be in the model's order, so that sizes are compared in the order of their lengths."""
    if model.spacing_mm is None:
        return []
    said: Said = []
    for one in inputs:
        pairs = zip(sorted(one.spacing_mm), sorted(model.spacing_mm))
        if any(own > COARSER * its for own, its in pairs):
            said.append(
                (
                    LOOK,
                    f"{one.name} has voxels of {_mm(one.spacing_mm)}, and the model works at {_mm(model.spacing_mm)}: "
                    "what is smaller than a voxel cannot be found.",
                )
            )
    return said


def _of_case(case: Mapping[str, Any], device: str) -> Said:
    """What the dry run says of a case."""
    said: Said = [(LOOK, _sentence(str(text))) for text in case.get("warnings") or ()]
    error = case.get("error")
    if case.get("state") == "refused" or error:
        parts = error or {}
        found, needed = str(parts.get("found", "")), str(parts.get("needed", ""))
        what = f"This cannot be run: found {found}; needed {needed}." if found else "This cannot be run."
        return [*said, (STOP, f"{what} {_sentence(str(parts.get('remedy', '')))}".strip())]
    memory = case.get("memory") or {}
    said += _of_memory(memory.get("needed"), memory.get("free"), "memory")
    said += _of_memory(memory.get("gpu_needed"), memory.get("gpu_free"), "the GPU's memory")
    seconds = case.get("seconds")
    if seconds is not None:
        where = {"cpu": " on the processor", "cuda": " on the graphics card"}.get(device.split(":")[0], "")
        said.append((OK, f"It will take {duration(float(seconds))}{where}, and some seconds to start."))
    return said


def _of_memory(needed: float | None, free: float | None, what: str) -> Said:
    if needed is None or free is None:
        return []
    sentence = f"It needs about {size(needed)} of {what}, and {size(free)} can be had."
    if needed > free:
        return [(STOP, f"{sentence} End other programs, or choose a smaller region.")]
    return [(LOOK, f"{sentence} That is tight: end other programs.") if needed > TIGHT * free else (OK, sentence)]


def duration(seconds: float) -> str:
    """In words, and no more exact than it is known: "about 20 seconds", "about 3 minutes"."""
    if seconds < 8:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} seconds"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {round(seconds / 3600)} hours"


def size(count: float) -> str:
    """Bytes, for people: "512 MiB", "3.4 GiB"."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{max(1, round(count / 2**20))} MiB"


def _spoken(modality: str) -> str:
    return SPOKEN.get(modality.upper(), modality.upper())


def _voxels(one: Input) -> str:
    return f"{' x '.join(map(str, one.shape))} voxels of {_mm(one.spacing_mm)}"


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{side:.3g}" for side in spacing) + " mm"


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
