"""Skin with one lesion, as dermoscopes photograph it, in the layout of ISIC 2018 (see `medseg/datasets/isic.py`).

Complexion, light and colour cast differ from picture to picture; corners are dark, hairs cross the lesion, rulers lie
beside it, freckles look like it. Lesions are brown, black, pink or blue, and some are hardly darker than the skin.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from .drawing import generator, grid, smooth
from .writing import to_bytes, write_picture

SHAPE = (72, 96)
COUNT, SEED = 24, 21
DATA, TRUTH = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
PIGMENTS = {
    # what is taken from red, green and blue of a light skin
    "brown": (62, 74, 62),
    "dark": (105, 92, 70),
    "pink": (8, 52, 40),
    "blue": (88, 66, 28),
    "faint": (34, 46, 38),
}


def sample(number: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """One photograph (rows, columns, 3) uint8 and its mask (rows, columns) of 0 and 255."""
    rng = generator(seed, number)
    points = grid(*SHAPE)
    points[1] *= SHAPE[1] / SHAPE[0]
    complexion = rng.uniform(0.55, 1.0)
    skin = np.array([226, 178, 152]) * complexion * rng.uniform(0.88, 1.12, 3)
    picture = skin * (1 + 0.05 * smooth(rng, SHAPE, 8.0) + 0.02 * smooth(rng, SHAPE, 1.0))[..., None]
    centre = rng.uniform(-0.3, 0.3, 2)
    inside = _outline(rng, points, centre, rng.uniform(0.26, 0.56), rough=rng.uniform(0.08, 0.22))
    pigment = np.array(PIGMENTS[list(PIGMENTS)[number % len(PIGMENTS)]]) * complexion
    mottled = np.clip(0.9 + 0.3 * smooth(rng, SHAPE, 3.0), 0.45, 1.6)
    soft = ndimage.gaussian_filter((inside > 0).astype(float), rng.uniform(0.6, 1.8))
    picture -= pigment * (soft * mottled)[..., None]
    for _ in range(int(rng.integers(0, 5))):
        freckle = _outline(rng, points, rng.uniform(-1.0, 1.0, 2), rng.uniform(0.03, 0.10), rough=0.1) > 0
        picture -= np.array(PIGMENTS["brown"]) * complexion * (freckle & (inside < -0.2))[..., None]
    picture = _light(rng, picture, points)
    for _ in range(int(rng.integers(0, 6))):
        picture = _hair(rng, picture)
    if rng.random() < 0.3:
        picture = _ruler(rng, picture)
    return to_bytes(picture + 3.0 * rng.standard_normal((*SHAPE, 3))), np.where(inside > 0, 255, 0).astype(np.uint8)


def _outline(
    rng: np.random.Generator, points: np.ndarray, centre: np.ndarray, radius: float, *, rough: float
) -> np.ndarray:
    """Above 0 inside a lobed, slightly stretched disc."""
    y, x = points[0] - centre[0], points[1] - centre[1]
    angle, distance = np.arctan2(y, x), np.hypot(y, x * rng.uniform(0.75, 1.3))
    edge = np.ones_like(angle)
    for lobes in range(2, 7):
        edge += rough * rng.standard_normal() / np.sqrt(lobes) * np.sin(lobes * angle + rng.uniform(0, 2 * np.pi))
    return 1 - distance / (radius * np.clip(edge, 0.5, 1.6))


def _light(rng: np.random.Generator, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A slope of light, dark corners (deep ones where the tube shows), and bubbles that shine."""
    slope = 1 + 0.18 * (rng.standard_normal() * points[0] + rng.standard_normal() * points[1]) / 1.3
    distance = np.hypot(points[0] / 1.0, points[1] / (SHAPE[1] / SHAPE[0]))
    if rng.random() < 0.35:
        corners = 1 / (1 + np.exp((distance - rng.uniform(1.0, 1.15)) / 0.03))
    else:
        corners = 1 - rng.uniform(0.05, 0.45) * np.clip(distance - 0.5, 0, None) ** 1.5
    shine = np.clip(smooth(rng, SHAPE, 2.0) - 2.3, 0, None) * 60
    return picture * (slope * corners)[..., None] + shine[..., None]


def _hair(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """One bent hair, dark or grey, of half a pixel to one and a half."""
    ends = rng.uniform((0, 0, 0, 0), (*SHAPE, *SHAPE))
    middle = (ends[:2] + ends[2:]) / 2 + rng.uniform(-14, 14, 2)
    t = np.linspace(0, 1, 200)[:, None]
    line = (1 - t) ** 2 * ends[:2] + 2 * t * (1 - t) * middle + t**2 * ends[2:]
    rows, columns = np.rint(line).astype(int).T
    keep = (rows >= 0) & (rows < SHAPE[0]) & (columns >= 0) & (columns < SHAPE[1])
    mask = np.zeros(SHAPE)
    mask[rows[keep], columns[keep]] = 1
    cover = np.clip(ndimage.gaussian_filter(mask, rng.uniform(0.3, 0.6)) * 2.0, 0, 0.9)[..., None]
    colour = np.array([52, 40, 34]) if rng.random() < 0.8 else np.array([190, 186, 180])
    return picture * (1 - cover) + colour * cover


def _ruler(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Dark ticks along one edge."""
    picture = picture.copy()
    row = int(rng.integers(2, 8)) if rng.random() < 0.5 else SHAPE[0] - int(rng.integers(8, 14))
    for column in range(4, SHAPE[1] - 4, 6):
        picture[row : row + (6 if column % 12 == 4 else 3), column] *= 0.3
    return picture


def write(folder: Path, count: int = COUNT, seed: int = SEED) -> None:
    """`count` photographs, each of a person of its own."""
    for number in range(count):
        picture, mask = sample(number, seed)
        write_picture(folder / DATA / f"ISIC_{number:07d}.png", picture)
        write_picture(folder / TRUTH / f"ISIC_{number:07d}_segmentation.png", mask)
