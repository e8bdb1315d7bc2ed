"""Weights and training state as safetensors with a checksum inside: no pickle, one atomic file each.

The checksum covers every tensor and the position, so that a file that was cut or changed is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medseg import atomic
from medseg.boundary import parsing
from medseg.refusal import Refusal

KEY = "medseg"
"""Under which a file keeps its facts and its checksum."""


def digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """sha256 over the sorted names, types, shapes and bytes of `tensors`, and over `facts`."""
    running = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        running.update(tensor.flatten().view(torch.uint8).numpy().data)
    return running.hexdigest()


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, former: Path | None = None) -> str:
    """Write tensors and JSON facts as one file; on failure the file that is there stays.

    Args:
        former: where the file that is replaced is kept, for `latest`.

    Returns:
        the sha256 that `load` will check.

    Raises:
        Refusal: the disk is full.
    """
    text = json.dumps(facts, sort_keys=True)
    # clones: safetensors refuses tensors that share memory
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    sha256 = digest(own, text)
    try:
        with atomic.replacing(path, former=former) as temporary:
            temporary.touch()
            usual = temporary.stat().st_mode
            # one entry, because safetensors writes several in an order that changes from run to run
            save_file(own, temporary, metadata={KEY: json.dumps({"facts": text, "sha256": sha256})})
            temporary.chmod(usual)  # safetensors lets the owner alone read its files; a run is shared like any other
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in atomic.DISK_FULL:
            raise
        raise disk_full(path, error) from error
    return sha256


def disk_full(path: Path, error: Exception) -> Refusal:
    """What to say when `path` could not be written."""
    free = shutil.disk_usage(path.parent).free / 2**20
    return Refusal(
        path,
        found=f"that it cannot be written ({error}; {free:.0f} MiB free)",
        needed="room on the disk",
        remedy="free some space, then run the same command again; what was saved before is intact",
    )


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, facts and sha256 of a file that `save` wrote.

    Raises:
        Refusal: missing, cut, changed, or not written by `save`.
    """
    remedy = "restore it from a backup, or train again"
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise Refusal(
            path, found="no such file", needed="a checkpoint", remedy="train to the end, or check the path"
        ) from error
    except (SafetensorError, OSError) as error:
        raise Refusal(path, found=f"a damaged file ({error})", needed="a whole checkpoint", remedy=remedy) from error
    if KEY not in metadata:
        raise Refusal(path, found="no checksum inside", needed="a checkpoint of medseg", remedy=remedy)
    with parsing(path, needed="a whole checkpoint", remedy=remedy):
        inside = json.loads(metadata[KEY])
        facts, sha256 = str(inside["facts"]), inside["sha256"]
    if digest(tensors, facts) != sha256:
        raise Refusal(path, found="content that differs from its checksum", needed="it unchanged", remedy=remedy)
    return tensors, json.loads(facts), sha256


def latest(path: Path, former: Path, announce: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of `path`; where that is damaged or gone, of `former`, which takes its place.

    Raises:
        Refusal: both are damaged, or the one that there is.
    """
    try:
        return load(path)[:2]
    except Refusal as refusal:
        if not former.exists():
            raise
        last = refusal
    try:
        tensors, facts, _ = load(former)
    except Refusal as refusal:
        raise Refusal(
            path,
            found=f"{last.found}, and in {former.name} {refusal.found}",
            needed="one checkpoint that is whole",
            remedy=f"restore either from a backup, or train again without {path.parent}",
        ) from refusal
    announce(f"{path}: found {last.found}; going on from the one before it, {former.name}")
    former.replace(path)  # or the next checkpoint would push it out and keep the damaged one
    return tensors, facts


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state split into tensors and plain numbers, each by `<parameter>.<name>`. Its settings are not
    state: they come from the recipe."""
    state = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for parameter, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{parameter}.{name}"] = value
    return tensors, numbers


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """The reverse of `optimiser_tensors`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
