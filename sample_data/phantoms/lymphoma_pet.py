"""PET and CT of torsos, some slices with tumours: for classes of slices, and to see what a leaking split does.

Tumours are small blobs of uptake in unusual places; bladder, bowel and heart, which are as bright, are where they
belong.

`correlated`: the slices of each third of a patient (pelvis, abdomen, chest) resemble one another in body outline and in
the texture of CT and PET, and nearly all tumours are in one third. Who recognises the patient's slices knows the answer
without looking for a tumour: a split by slices promises more than it keeps. Otherwise every slice has an appearance and
a chance of a tumour of its own, as if it were of another patient, and there is nothing to recognise: the control.
Single slices look alike in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .drawing import ellipsoid, generator, grid, smooth
from .writing import scaling, stepped, write_nifti, write_text

SIDE, SLICES = 32, 24
COUNT, SEED = 32, 71
SPACING_MM = (12.0, 12.0, 20.0)
CENTRES = ("north", "south")
ORGANS = ((0.0, 0.25), (0.0, 0.05), (-0.12, 0.25))
"""Where bladder, bowel and heart lie in the slices of pelvis, abdomen and chest."""
PREVALENCE = (0.03, 0.9)
"""Chance of a tumour in a slice: in one third of a patient (patients take turns which) the higher one."""


@dataclass(frozen=True)
class Appearance:
    """What a third of a patient (or, in the control, a slice) looks like.

    Attributes:
        half: of the body's outline, from -1 to 1.
        ct, pet: (32, 32) texture of mean 0 and standard deviation 1.
        diseased: chance of a tumour in a slice.
    """

    half: tuple[float, float]
    ct: np.ndarray
    pet: np.ndarray
    diseased: float


def appearance(rng: np.random.Generator, diseased: float) -> Appearance:
    """Drawn anew."""
    half = (rng.uniform(0.78, 0.94), rng.uniform(0.6, 0.8))
    ct, pet = (smooth(rng, (SIDE, SIDE), 2.0) for _ in range(2))
    return Appearance(half, ct, pet, diseased)


def sample(number: int, seed: int = SEED, *, correlated: bool = True) -> dict[str, np.ndarray | str]:
    """One patient: `SUV` (32, 32, 24) float32, `CT` in HU int16, `label` uint8 (1 is tumour), and `centre`.

    Slices run from the feet upwards. The second centre measures 0.8 of the first's uptake, and 20 HU more.
    """
    rng = generator(seed, number)
    thirds = [appearance(rng, PREVALENCE[third == number % 3]) for third in range(3)]
    slices = []
    for k in range(SLICES):
        own = generator(seed, number, k)
        third = k * len(thirds) // SLICES
        looks = thirds[third] if correlated else appearance(own, PREVALENCE[int(own.integers(3) == 0)])
        slices.append(_slice(own, looks, third))
    pet, ct, mask = (np.stack(planes, axis=-1) for planes in zip(*slices, strict=True))
    centre = CENTRES[number // 2 % len(CENTRES)]
    if centre == "south":
        pet, ct = 0.8 * pet, np.where(ct > -1000, ct + 20, ct)
    return {
        "SUV": stepped(pet, 0.25).astype(np.float32),
        "CT": stepped(ct, 16).astype(np.int16),
        "label": mask.astype(np.uint8),
        "centre": centre,
    }


def _slice(rng: np.random.Generator, looks: Appearance, third: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One slice of pelvis (0), abdomen (1) or chest (2)."""
    points = grid(SIDE, SIDE)
    shape = (SIDE, SIDE)
    body = ellipsoid(points, (0, 0), looks.half) > 0
    ct = 30 + 45 * looks.ct + 15 * rng.standard_normal(shape)
    ct[ellipsoid(points, (0, -0.45), (0.14, 0.14)) > 0] = 400
    pet = rng.uniform(0.6, 2.6) * (1 + 0.25 * looks.pet + 0.12 * rng.standard_normal(shape))
    if third == 2:
        for side in (-1, 1):
            lung = ellipsoid(points, (0.42 * side, 0), (0.27, 0.42)) > 0
            ct[lung], pet[lung] = -750 + 0.5 * ct[lung], 0.4 * pet[lung]
    pet += rng.uniform(2, 9) * _blob(rng, points, ORGANS[third], rng.uniform(0.12, 0.2))
    mask = np.zeros(shape, bool)
    if rng.random() < looks.diseased:
        for strength in rng.uniform(2.8, 4.6, 1 + rng.integers(2)):
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.8)
            centre = (far * looks.half[0] * np.cos(angle), far * looks.half[1] * np.sin(angle))
            blob = _blob(rng, points, centre, rng.uniform(0.1, 0.16))
            pet += strength * blob
            mask |= blob > 0.5
    return np.where(body, np.maximum(pet, 0), 0), np.where(body, ct, -1000), mask & body


def _blob(rng: np.random.Generator, points: np.ndarray, centre: tuple[float, float], radius: float) -> np.ndarray:
    """1 in its middle, one half at a radius, less beyond; somewhat longer than wide."""
    stretch = rng.uniform(0.85, 1.2)
    squares = ((points[0] - centre[0]) / (radius * stretch)) ** 2 + ((points[1] - centre[1]) * stretch / radius) ** 2
    return np.exp(-np.log(2) * squares)


def write(folder: Path, count: int = COUNT, seed: int = SEED, *, correlated: bool = True) -> None:
    """`count` patients of two centres, in turn by twos, in the layout of `folder` with classes of slices."""
    affine = scaling(*SPACING_MM)
    affine[:3, 3] = -np.array(SPACING_MM) * (np.array([SIDE, SIDE, SLICES]) - 1) / 2
    patients = "case,patient,centre\n"
    for number in range(count):
        parts = sample(number, seed, correlated=correlated)
        case = f"p{number + 1:02d}"
        for name, where in (("SUV", "images/SUV"), ("CT", "images/CT"), ("label", "labels")):
            write_nifti(folder / where / f"{case}.nii.gz", parts[name], affine)
        patients += f"{case},P{number + 1:02d},{parts['centre']}\n"
    write_text(folder / "labels.yaml", "unit: slice\nlabels:\n  tumour: 1\n")
    write_text(folder / "patients.csv", patients)
