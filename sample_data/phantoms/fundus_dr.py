"""Small fundus photographs with grades of diabetic retinopathy, in the layout of EyePACS (see `dr_grading`).

Grades are told by dark dots and bright exudates; 2 and above, which are to be referred, have several of both. Spots of
pigment and reflexes are as dark and as bright, but wider. Patients differ in brightness, colour, vessels and unevenness
of the light by more than lesions change any of these. The two eyes of a patient share the colours and resemble each
other in grade.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from .drawing import generator, grid, smooth, tube
from .writing import to_bytes, write_picture, write_text

SIZE = 64
PATIENTS, SEED = 30, 61
EYES = ("left", "right")
SHARES = (0.42, 0.20, 0.18, 0.12, 0.08)
"""Chance of each grade for the left eye; the right one differs by one at most."""
LESIONS = {0: (0, 0), 1: (1, 0), 2: (6, 4), 3: (9, 7), 4: (12, 10)}
"""Dark dots and exudates by grade, or one more."""


def sample(patient: int, eye: str, seed: int = SEED) -> tuple[np.ndarray, int]:
    """One eye: photograph (64, 64, 3) uint8, black outside the field of view, and its grade."""
    number = EYES.index(eye)
    grade = _grades(seed, patient)[number]
    own, rng = generator(seed, patient), generator(seed, patient, number)
    colour = np.array([own.uniform(130, 235), own.uniform(55, 125), own.uniform(15, 65)]) * own.uniform(0.8, 1.1)
    points = grid(SIZE, SIZE)
    field = (points**2).sum(0) < own.uniform(0.86, 0.94) ** 2
    light = 1 + 0.12 * smooth(rng, (SIZE, SIZE), 14) + 0.03 * smooth(rng, (SIZE, SIZE), 2)
    side = 1 if eye == "right" else -1
    disc = np.array([rng.uniform(-0.08, 0.08), side * rng.uniform(0.42, 0.52)])
    light *= 1 - 0.22 * np.exp(-((points[0] ** 2 + (points[1] + 0.1 * side) ** 2) / 0.03))
    light *= 1 - own.uniform(0.2, 0.35) * _vessels(rng, disc)
    image = colour * light[..., None]
    distance = np.sqrt(((points - disc[:, None, None]) ** 2).sum(0))
    bright = np.minimum(colour * own.uniform(1.25, 1.6) + 30, 250)
    image += np.clip((0.17 - distance) / 0.06, 0, 1)[..., None] * (bright - image)
    free = (distance > 0.28) & ((points**2).sum(0) < 0.72)
    for _ in range(int(rng.integers(4))):  # pigment: as dark as a lesion, but wider
        image *= 1 - rng.uniform(0.5, 0.75) * _spot(rng, free, rng.uniform(3.0, 4.5))[..., None]
    for _ in range(int(rng.integers(3))):  # reflexes: as bright, but wider
        image += rng.uniform(0.6, 0.9) * _spot(rng, free, rng.uniform(3.0, 4.5))[..., None] * (bright - image)
    dots, exudates = (few + int(rng.integers(2)) if few else 0 for few in LESIONS[grade])
    for _ in range(dots):
        image *= 1 - 0.55 * _spot(rng, free, rng.uniform(1.2, 1.7))[..., None]
    for _ in range(exudates):
        image += 0.9 * _spot(rng, free, rng.uniform(1.2, 1.7))[..., None] * (bright - image)
    image += 2.0 * rng.standard_normal((SIZE, SIZE, 1))
    return to_bytes(np.where(field[..., None], np.maximum(image, 12), 0)), grade


def _grades(seed: int, patient: int) -> tuple[int, int]:
    """Of the left and the right eye."""
    rng = generator(seed, patient, len(EYES))
    first = int(rng.choice(5, p=SHARES))
    return first, int(np.clip(first + rng.choice([-1, 0, 0, 0, 1]), 0, 4))


def _vessels(rng: np.random.Generator, disc: np.ndarray) -> np.ndarray:
    """From 0 to 1: how much of a pixel is vessel. Four leave the optic disc, up and down."""
    start = (disc + 1) / 2 * (SIZE - 1)
    mask = np.zeros((SIZE, SIZE))
    for down in (-1, 1):
        for across in (-0.6, 0.6):
            mask += tube(rng, (SIZE, SIZE), start, np.array([down, across + rng.uniform(-0.2, 0.2)]))
    return np.minimum(ndimage.gaussian_filter(mask, 0.7) / 0.5, 1)


def _spot(rng: np.random.Generator, free: np.ndarray, radius: float) -> np.ndarray:
    """A soft round spot of a radius in pixels, its middle somewhere in the mask `free`."""
    places = np.argwhere(free)
    row, column = places[rng.integers(len(places))]
    rows, columns = np.ogrid[:SIZE, :SIZE]
    return np.clip(radius + 0.5 - np.hypot(rows - row, columns - column), 0, 1)


def write(folder: Path, patients: int = PATIENTS, seed: int = SEED) -> None:
    """Both eyes of `patients` persons. PNG, because what libraries make of a JPEG differs in the last bit."""
    lines = "image,level\n"
    for patient in range(patients):
        for eye in EYES:
            picture, grade = sample(patient, eye, seed)
            write_picture(folder / "train" / f"{patient + 1}_{eye}.png", picture)
            lines += f"{patient + 1}_{eye},{grade}\n"
    write_text(folder / "trainLabels.csv", lines)
