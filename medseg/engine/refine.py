"""Refine probability maps that another method made, with a network that was trained to (RRWNet)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.case import Case
from medseg.engine import device as devices
from medseg.engine import runner, scans
from medseg.engine.run import Run
from medseg.geometry import AxisMap, axis_map
from medseg.outputs import maps as output
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import fundus
from medseg.volume import Volume

MARGIN = 2
"""Maps are padded to multiples of this many of the network's steps, and by one such multiple at least, as RRWNet's
original does it in use (32 pixels)."""


def refine_all(
    run: Run,
    maps: Path,
    out: Path,
    *,
    valid: Path | None = None,
    device: str = "auto",
    announce: Callable[[str], None] = print,
) -> list[runner.Outcome]:
    """Refine every picture in a folder (or one picture) into `out/<name>.png`.

    A map is a colour picture: the network's first three labels as red, green and blue (artery, vein, all vessels),
    0 to 255 for probabilities 0 to 1. The result is of the same form.

    Args:
        valid: folder of masks with the maps' names; outside, the result is 0.

    Raises:
        Refusal: the run's network refines nothing, or there is no map. A map that cannot be read ends its case only.
    """
    network, _ = run.load_network()
    if not hasattr(network, "refine"):
        raise Refusal(
            run.folder,
            found=f"a {run.recipe.model.name}",
            needed="a network that refines maps, such as rrwnet",
            remedy="train one (pipelines/rrwnet_rite.yaml) or import its published weights",
        )
    chosen = devices.choose(device)
    network.to(chosen)
    step = run.recipe.model.module().divisor(run.recipe.model.options)[:2]
    masks = {scans.stem(file): file for file in scans.files(valid)} if valid else {}
    files = _pictures(maps, masks, out)
    out.mkdir(parents=True, exist_ok=True)

    def work(case: Case) -> runner.Steps:
        maps = _read_map(case.images["map"])
        yield
        axes = axis_map(maps.affine, run.plan.orientation)
        refined = _refined(network, maps.array, axes, step, chosen)
        if valid:
            refined = refined * _mask(masks, case.id, valid, maps)
        yield
        name = f"{case.id}{output.SUFFIX}"
        output.save(refined, out / name)
        return (name,), {"largest change": round(float(np.abs(refined - maps.array).max()), 4)}

    cases = [Case(scans.stem(file), scans.stem(file), {"map": file}) for file in files]
    outcomes = []
    for number, outcome in enumerate(runner.run_all(cases, work), start=1):
        outcomes.append(outcome)
        told = ", ".join(outcome.files) if outcome.state == "done" else outcome.reason
        announce(f"[{number}/{len(cases)}] {outcome.case}: {outcome.state} in {outcome.seconds:.1f} s: {told}")
    return outcomes


def _pictures(maps: Path, masks: Mapping[str, Path], out: Path) -> list[Path]:
    """The maps, each of which gets a file of its own in `out`.

    Raises:
        Refusal: there is none, or a result would take the place of another one, of a map or of a mask.
    """
    files = [maps] if maps.is_file() else scans.files(maps)
    if not files:
        raise Refusal(maps, found="no picture", needed="probability maps as PNG", remedy="check the path")
    names = [scans.stem(file) for file in files]
    inputs = {path.resolve() for path in (*files, *masks.values())}
    double = [name for name in names if names.count(name) > 1]
    if double or any((out / f"{name}.png").resolve() in inputs for name in names):
        raise Refusal(
            out,
            found=f"two maps named {double[0]}" if double else "the folder of the maps or masks themselves",
            needed="a file of its own for each refined map",
            remedy="rename one" if double else "choose another folder for the results",
        )
    return files


def _read_map(path: Path) -> Volume:
    """(3, I, J, 1) float32 from 0 to 1; i counts columns and j rows."""
    volume = read(path)
    if volume.array.shape[0] != 3 or volume.array.shape[3] != 1 or volume.array.dtype != np.uint8:
        raise Refusal(
            path,
            found=f"{len(volume.array)} channels of {volume.array.dtype}",
            needed="an 8-bit colour picture: artery, vein and all vessels as red, green and blue",
            remedy="save the probabilities times 255 as a colour PNG",
        )
    return volume.with_array(volume.array.astype(np.float32) / 255)


def _refined(network: Any, maps: np.ndarray, axes: AxisMap, step: tuple[int, int], device: torch.device) -> np.ndarray:
    """(3, I, J, 1) -> the same. The network sees the maps as it saw pictures in training, with zeros around them."""
    seen = torch.from_numpy(np.ascontiguousarray(axes.apply(maps)))
    down, across = (fundus.padding(side, MARGIN * unit) for side, unit in zip(seen.shape[1:3], step, strict=True))
    padded = torch.nn.functional.pad(seen, (0, 0, *across, *down))[None].to(device)
    with torch.inference_mode():
        answer = network.refine(padded)[0][0].float().cpu().numpy()
    return axes.undo(answer[:, down[0] : -down[1], across[0] : -across[1]])


def _mask(masks: dict[str, Path], name: str, folder: Path, maps: Volume) -> np.ndarray:
    """(1, I, J, 1) of 0 and 1."""
    if name not in masks:
        raise Refusal(folder / name, found="no mask", needed="one for every map", remedy="add it, or leave --valid out")
    mask = read(masks[name]).array.max(axis=0, keepdims=True)
    if mask.shape[1:] != maps.shape:
        found, needed = (" x ".join(map(str, shape[:2])) for shape in (mask.shape[1:], maps.shape))
        raise Refusal(masks[name], found=f"{found} pixels", needed=needed, remedy="use the map's own mask")
    return mask > (127 if mask.max() > 1 else 0)
