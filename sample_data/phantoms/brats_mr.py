"""Heads with tumours in four MR channels, in the layout of BraTS 2021 (see `medseg/datasets/brats.py`).

No channel shows a region by itself. FLAIR and T2 are bright in oedema, but also in the caps of the ventricles; T1ce is
bright in enhancing tumour, but also in vessels, and like T1 in old blood; necrosis looks like fluid except in FLAIR.
Gain differs between channels and patients, and drifts across the field.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .drawing import bias, blob, ellipsoid, generator, grid, place, smooth, tube
from .writing import scaling, stepped, write_nifti

CHANNELS = ("flair", "t1ce", "t1", "t2")
SHAPE = (40, 44, 32)
SPACING_MM = (4.0, 4.0, 4.5)
COUNT, SEED = 8, 11
TISSUES = {
    #              FLAIR T1ce  T1   T2
    "white matter": (88, 112, 116, 84),
    "grey matter": (108, 92, 92, 104),
    "fluid": (28, 42, 40, 176),
    "cap": (150, 88, 90, 140),
    "oedema": (152, 80, 84, 146),
    "necrosis": (104, 56, 58, 168),
    "enhancing": (124, 158, 92, 118),
    "vessel": (60, 166, 74, 48),
    "old blood": (96, 150, 148, 70),
}
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4


def sample(number: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """One head: channels (4, I, J, K) int16, 0 outside the brain; label map (I, J, K) uint8 of 0, 1, 2 and 4."""
    rng = generator(seed, number)
    points = grid(*SHAPE)
    inner, ventricle, tissue = _brain(rng, points)
    tissue[inner & ~ventricle & (smooth(rng, SHAPE, 2.0) > 1.0)] = "cap"
    for _ in range(6):
        start = place(rng, inner, np.stack(np.indices(SHAPE)).astype(float))
        tissue[tube(rng, SHAPE, start, rng.standard_normal(3)) & inner] = "vessel"
    for _ in range(int(rng.integers(1, 4))):
        spot = blob(rng, points, place(rng, inner, points), rng.uniform(0.10, 0.16), 0.1) > 0
        tissue[spot & inner] = "old blood"
    label = _tumour(rng, points, inner, tissue)
    table = np.array([TISSUES[name] for name in TISSUES], float).T
    index = np.zeros(SHAPE, int)
    for place_in_table, name in enumerate(TISSUES):
        index[tissue == name] = place_in_table
    brain = tissue != ""
    channels = []
    for values in table:
        clean = values[index] * bias(rng, SHAPE, 0.12) * (1 + 0.06 * smooth(rng, SHAPE, 1.5))
        noisy = rng.uniform(0.7, 1.5) * (clean + 5 * rng.standard_normal(SHAPE))
        channels.append(np.where(brain, np.clip(stepped(noisy), 1, 600), 0))
    return np.stack(channels).astype(np.int16), label


def _brain(rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks of the white matter's inside and of the ventricles, and names of tissues ("" outside)."""
    half = rng.uniform(0.82, 0.95, 3)
    depth = ellipsoid(points, tuple(rng.uniform(-0.04, 0.04, 3)), tuple(half)) + 0.02 * smooth(rng, SHAPE, 3.0)
    folds = 0.05 * smooth(rng, SHAPE, 1.3)
    tissue = np.full(SHAPE, "", dtype="<U12")
    tissue[depth > 0] = "fluid"
    tissue[depth > 0.05 + np.abs(folds)] = "grey matter"
    inner = depth > 0.20 + folds
    tissue[inner] = "white matter"
    ventricle = np.zeros(SHAPE, bool)
    for side in (-1, 1):
        centre = (side * rng.uniform(0.13, 0.19), rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.15))
        shape = (rng.uniform(0.07, 0.14), rng.uniform(0.30, 0.42), rng.uniform(0.15, 0.28))
        ventricle |= ellipsoid(points, centre, shape) > 0
    tissue[ventricle & inner] = "fluid"
    rim = np.zeros(SHAPE, bool)
    for axis in range(3):
        for step in (-1, 1):
            rim |= np.roll(ventricle, step, axis)
    tissue[rim & ~ventricle & inner & (points[1] * rng.choice([-1, 1]) > 0.15)] = "cap"
    return inner, ventricle & inner, tissue


def _tumour(rng: np.random.Generator, points: np.ndarray, inner: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Draw a tumour into `tissue`; its label map."""
    centre = place(rng, inner & (np.abs(points[0]) > 0.2) & (np.abs(points[2]) < 0.5), points)
    radius = rng.uniform(0.26, 0.36)
    core = blob(rng, points, centre, radius, 0.10)
    around = blob(rng, points, centre, radius * rng.uniform(1.5, 2.0), 0.22)
    hollow = core - rng.uniform(0.30, 0.45) + 0.12 * smooth(rng, SHAPE, 1.5)
    brain = tissue != ""
    label = np.zeros(SHAPE, np.uint8)
    label[brain & (around > 0) & inner] = OEDEMA
    label[brain & (core > 0)] = ENHANCING
    label[brain & (core > 0) & (hollow > 0)] = NECROSIS
    for number, name in ((OEDEMA, "oedema"), (ENHANCING, "enhancing"), (NECROSIS, "necrosis")):
        tissue[label == number] = name
    return label


def write(folder: Path, count: int = COUNT, seed: int = SEED) -> None:
    """`count` patients, one scan each."""
    for number in range(count):
        channels, label = sample(number, seed)
        case = f"BraTS2021_{number:05d}"
        for name, array in zip((*CHANNELS, "seg"), (*channels, label), strict=True):
            write_nifti(folder / case / f"{case}_{name}.nii.gz", array, scaling(*SPACING_MM))
