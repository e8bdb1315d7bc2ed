"""A data set, a recipe and a run so small that everything from a recipe on can be tested in seconds."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import torch
from torch import nn

import medseg
from medseg import config
from medseg.__main__ import main
from medseg.engine import checkpoint
from medseg.engine.forward import once
from medseg.engine.members import Member
from medseg.engine.run import Run, build_network
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan

ROOT = Path(medseg.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
"""For child processes."""
CASES = ("p1_a", "p1_b", "p2_a", "p3_a")
"""Of three patients."""
SHAPE = (24, 20, 18)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 2, 5.5], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def medseg_command(*words: object) -> Said:
    """Run the command line within this process: a process of its own spends seconds on imports."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["medseg", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright and a dark ball in it, int16; and their label map (1 and 2)."""
    generator = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"))
    label = np.zeros(shape, np.uint8)
    for number, place in ((1, (0.3, 0.4, 0.5)), (2, (0.7, 0.6, 0.4))):
        centre = np.array(place) * shape + generator.uniform(-1, 1, 3)
        label[((index - centre[:, None, None, None]) ** 2).sum(0) < 16] = number
    image = generator.normal(0, 40, shape) + np.array([0, 400, -400])[label]
    return image.astype(np.int16), label


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def data_set(root: Path, *, channels: tuple[str, ...] = (), labels: str = "left: 1\n  right: 2") -> Path:
    """The `folder` layout: a channel, or a subfolder of images/ for each of `channels`."""
    for seed, case in enumerate(CASES):
        image, label = phantom(seed)
        for number, channel in enumerate(channels or ("",)):
            nifti(root / "images" / channel / f"{case}.nii.gz", image // (number + 1))
        nifti(root / "labels" / f"{case}.nii.gz", label)
    (root / "labels.yaml").write_text(f"labels:\n  {labels}\n", encoding="utf-8")
    rows = "".join(f"{case},{case[:2]}\n" for case in CASES)
    (root / "patients.csv").write_text(f"case,patient\n{rows}", encoding="utf-8")
    return root


RECIPE = """
name: tiny
dataset: {{name: folder, root: {root}}}
split: {{kind: kfold, folds: 3}}
prepare: {{spacing_mm: [1.5, 1.5, 2], patch: [16, 16, 16], batch: 1, workers: 0}}
cache: {cache}
model: {{name: residual_unet, channels: [4, 8], blocks: 1}}
train: {{epochs: 2, steps: 2, optimiser: adamw, lr: 3e-3, validate_every: 1, threads: 1, workers: 0, device: cpu}}
metrics: [dice, volume]
licence: CC0-1.0
"""


def recipe(path: Path, root: Path) -> Path:
    """A recipe for `data_set(root)`, with a cache beside it."""
    path.write_text(RECIPE.format(root=root, cache=path.parent / "cache"), encoding="utf-8")
    return path


def untrained_run(
    folder: Path,
    *,
    channels: tuple[str, ...] = ("image",),
    labels: dict[str, int | list[int]] | LabelTable | None = None,
    seed: int = 0,
    spacing: tuple[float, float, float] = (1.5, 1.5, 2),
    changes: tuple[str, ...] = (),
) -> Run:
    """A complete run folder with random weights: enough for whatever does not ask how good the labels are."""
    folder.mkdir(parents=True)
    made = config.load(recipe(folder.parent / "recipe.yaml", folder / "no-data"), changes)
    (folder / "recipe.yaml").write_text(config.dump(made), encoding="utf-8")
    run = Run(folder)
    table = labels if isinstance(labels, LabelTable) else LabelTable.of(labels or {"left": 1, "right": 2})
    how = Normalisation(kind="zscore")
    plan = Plan(
        orientation="RAS",
        spacing_mm=spacing,
        patch=(16, 16, 16),
        batch=1,
        normalisation=(how,) * len(channels),
        crop="none",
        order=3,
        channels=channels,
        modalities=made.prepare.modalities,
    )
    run.write("plan.json", plan.model_dump(mode="json"))
    run.write("labels.json", table.to_json())
    run.write("split.json", {"kind": "none", "fold": 0, "folds": []})
    (folder / "card.md").write_text("# card\n", encoding="utf-8")
    torch.manual_seed(seed)
    network = build_network(made, plan, table)
    checkpoint.save(folder / "weights.safetensors", network.state_dict(), {"epoch": 1, "dice": 0.0})
    return run


def member(network: nn.Module, plan: Plan) -> Member:
    """A network of any kind as a model's, in float32 on the CPU."""
    return Member(network, plan, once(network, precision="32", device=torch.device("cpu")))
