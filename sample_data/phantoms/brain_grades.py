"""Heads without a tumour, or with one of low or high grade, in one MR channel with contrast agent; layout of `folder`.

A low-grade tumour is a smooth, faintly darker ball; a high-grade one has a lumpy bright rim around a dark middle, and a
mottled edge. The other heads have as many bright and dark places, vessels, old blood and cysts, but apart: what counts
is how they lie. The gain differs between patients far more than a tumour changes the mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from .drawing import bias, blob, ellipsoid, generator, grid, place, smooth, tube
from .writing import scaling, stepped, write_nifti, write_text

SHAPE = (32, 32, 24)
SPACING_MM = (5.5, 6.0, 6.0)
COUNT, SEED = 48, 51
CLASSES = ("healthy", "low grade", "high grade")
CENTRES = ("A", "B", "C")
WHITE, GREY, FLUID, VESSEL = 118.0, 96.0, 46.0, 168.0


def sample(number: int, seed: int = SEED) -> tuple[np.ndarray, int]:
    """One head: image (I, J, K) int16, 0 outside the brain; its class. Classes take turns."""
    rng = generator(seed, number)
    kind = number % len(CLASSES)
    points = grid(*SHAPE)
    depth = ellipsoid(points, tuple(rng.uniform(-0.04, 0.04, 3)), tuple(rng.uniform(0.80, 0.94, 3)))
    brain, folds = depth > 0, 0.06 * smooth(rng, SHAPE, 1.2)
    inner = depth > 0.2 + folds
    image = np.where(inner, WHITE, GREY) * (1 + 0.05 * smooth(rng, SHAPE, 2.0))
    wide = rng.uniform(0.04, 0.18)
    for side in (-1, 1):
        centre = (side * rng.uniform(0.12, 0.2), rng.uniform(-0.1, 0.1), rng.uniform(0, 0.15))
        ventricle = ellipsoid(
            points, centre, (wide * rng.uniform(0.8, 1.2), rng.uniform(0.28, 0.5), rng.uniform(0.15, 0.4))
        )
        image[ventricle > 0] = FLUID
    index = np.stack(np.indices(SHAPE)).astype(float)
    for _ in range(int(rng.integers(4, 10))):
        image[tube(rng, SHAPE, place(rng, inner, index), rng.standard_normal(3))] = VESSEL
    lookalikes = [(VESSEL * 0.95, rng.uniform(0.08, 0.20)) for _ in range(int(rng.integers(0, 5)))]
    lookalikes += [(FLUID * 1.1, rng.uniform(0.10, 0.18)) for _ in range(int(rng.integers(0, 2)))]
    if kind < 2:  # what a rim and a dark middle are made of, but apart
        lookalikes += [(VESSEL, rng.uniform(0.22, 0.38)), (FLUID * 1.1, rng.uniform(0.16, 0.26))]
    for signal, radius in lookalikes:  # old blood and cysts
        image[blob(rng, points, place(rng, inner, points), radius, 0.1) > 0] = signal
    if kind:
        image = _tumour(rng, image, points, inner, high=kind == 2)
    image = ndimage.gaussian_filter(image, 0.4) * bias(rng, SHAPE, 0.12)
    image = rng.uniform(0.6, 1.6) * (image + 4.5 * rng.standard_normal(SHAPE))
    return np.where(brain, np.clip(stepped(image), 1, 600), 0).astype(np.int16), kind


def _tumour(
    rng: np.random.Generator, image: np.ndarray, points: np.ndarray, inner: np.ndarray, *, high: bool
) -> np.ndarray:
    """A ball of 5 to 8 voxels across."""
    centre = place(rng, inner & (np.abs(points[0]) > 0.2) & (np.abs(points[2]) < 0.6), points)
    radius = rng.uniform(0.30, 0.44)
    if not high:
        body = blob(rng, points, centre, radius, 0.06)
        share = np.clip(body / 0.15, 0, 1)
        return image * (1 - share) + share * WHITE * rng.uniform(0.70, 0.80)
    body = blob(rng, points, centre, radius, 0.14)
    middle = body - rng.uniform(0.38, 0.5) + 0.12 * smooth(rng, SHAPE, 1.2)
    image = np.where(body > 0, VESSEL * (0.95 + 0.12 * smooth(rng, SHAPE, 1.0)), image)
    image = np.where((body > 0) & (middle > 0), FLUID * 1.1, image)
    around = (body > -0.45) & (body <= 0)
    return np.where(around, image * (0.86 + 0.08 * smooth(rng, SHAPE, 1.0)), image)


def write(folder: Path, count: int = COUNT, seed: int = SEED) -> None:
    """`count` patients of three centres, one scan each."""
    classes, patients = "case,class\n", "case,patient,centre\n"
    for number in range(count):
        image, kind = sample(number, seed)
        case = f"head{number + 1:02d}"
        write_nifti(folder / "images" / f"{case}.nii.gz", image, scaling(*SPACING_MM))
        classes += f"{case},{kind}\n"
        patients += f"{case},P{number + 1:02d},{CENTRES[number // len(CLASSES) % len(CENTRES)]}\n"
    names = "".join(f"  {name}: {kind}\n" for kind, name in enumerate(CLASSES))
    write_text(folder / "labels.yaml", f"unit: image\nlabels:\n{names}")
    write_text(folder / "classes.csv", classes)
    write_text(folder / "patients.csv", patients)
