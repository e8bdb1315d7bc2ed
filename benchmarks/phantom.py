"""A synthetic CT that a small network learns in minutes: a body in air, a liver with lesions, two kidneys, noise."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE = (200, 200, 200)
SPACING_MM = (0.8, 0.8, 1.2)
LABELS = {"body": 1, "liver": 2, "kidneys": 3, "lesions": 4}
HU = {"air": -1000, "body": 40, "fat": -90, "bone": 600, "liver": 120, "kidneys": 220, "lesions": 360}
NOISE_HU = 15
LESIONS = 8


def phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """int16 HU and uint8 labels (I, J, K), whose axes run towards the patient's right, front and head.

    Sizes are parts of the extent, so that a smaller shape holds the same scene.
    """
    random = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    hu = np.full(shape, HU["air"], np.float32)
    labels = np.zeros(shape, np.uint8)

    def paint(what: str, centre: np.ndarray, radii: np.ndarray, number: int) -> None:
        """An ellipsoid; the body alone may take the place of air."""
        terms = (((axis - at) / radius) ** 2 for axis, at, radius in zip(axes, centre, radii, strict=True))
        inside = sum(terms) <= 1
        if what != "body":
            inside &= labels > 0
        hu[inside], labels[inside] = HU[what], number

    def shifted(*centre: float, by: float = 0.04) -> np.ndarray:
        return np.array(centre) + random.uniform(-by, by, 3)

    def sized(*radii: float) -> np.ndarray:
        return np.array(radii) * random.uniform(0.9, 1.1, 3)

    paint("body", shifted(0, 0, 0), sized(0.82, 0.66, 0.95), LABELS["body"])
    paint("bone", shifted(0, -0.45, 0), sized(0.1, 0.1, 0.8), LABELS["body"])
    for _ in range(6):
        paint("fat", random.uniform(-0.5, 0.5, 3), sized(0.12, 0.12, 0.1), LABELS["body"])
    liver, size = shifted(0.3, 0.1, 0.15), sized(0.36, 0.34, 0.36)
    paint("liver", liver, size, LABELS["liver"])
    for side in (-1, 1):
        paint("kidneys", shifted(0.42 * side, -0.28, -0.3), sized(0.14, 0.14, 0.2), LABELS["kidneys"])
    for _ in range(LESIONS):
        place = liver + size * random.uniform(-0.55, 0.55, 3)
        paint("lesions", place, sized(0.07, 0.07, 0.05) * random.uniform(0.8, 1.4), LABELS["lesions"])
    hu = ndimage.gaussian_filter(hu, 0.7) + ndimage.gaussian_filter(random.normal(0, 2 * NOISE_HU, shape), 0.5)
    return np.rint(hu).astype(np.int16), labels


def write(array: np.ndarray, path: Path, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Path:
    """As gzipped NIfTI, axes towards R, A and S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing_mm, 1])), path)
    return path


def dice(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Dice of each label between two label maps; 1 where neither has it."""
    found = {}
    for name, number in LABELS.items():
        first, second = one == number, other == number
        total = int(first.sum()) + int(second.sum())
        found[name] = 2 * int((first & second).sum()) / total if total else 1.0
    return found
