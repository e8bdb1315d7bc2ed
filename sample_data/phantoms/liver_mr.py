"""Bellies in T1-weighted MR without contrast agent, with livers and lesions in them, in the layout of `folder`.

The bodies are made like those of the torso CT, but seen otherwise: fat is bright, fluid dark. Lesions are dark, and so
are the liver's vessels, the gallbladder and the spleen; the coil's field and each scan's gain shift all of them. Some
scans count their rows and columns the other way round.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from .drawing import bias, blob, generator, grid, place, smooth, tube
from .torso import LABELS, Anatomy
from .writing import stepped, write_nifti, write_text

SHAPE = (64, 64, 16)
SPACING_MM = (5.0, 4.0, 9.0)
COUNT, SEED = 8, 41
LIVER, LESION = 1, 2
VESSEL, TUMOUR = 96.0, 104.0
AIR = -200.0
"""Darker than this in the CT is air, which gives no signal."""


def tissues(rng: np.random.Generator) -> dict[str, float]:
    """Mean signal of one scan, by the names of `torso.tissues`."""
    u = rng.uniform
    return {
        "fat": u(215, 245),
        "muscle": u(100, 118),
        "bowel": u(95, 130),
        "oral contrast": u(60, 150),
        "bile": u(55, 80),
        "liver": u(142, 160),
        "spleen": u(98, 116),
        "kidney": u(108, 132),
        "blood": u(62, 84),
        "vein": u(62, 84),
        "marrow": u(140, 175),
        "bone": u(40, 55),
        "rib": u(45, 75),
        "disc": u(95, 120),
    }


def sample(number: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scan: image (I, J, K) int16, label map (I, J, K) uint8 of 0, 1 and 2, affine to RAS+ mm."""
    rng = generator(seed, number)
    body = Anatomy(1000 + 97 * seed + number)
    affine = _affine(rng, body, flip=number % 3 == 1)
    index = np.stack(np.meshgrid(*(np.arange(size, dtype=float) for size in SHAPE), indexing="ij"))
    points = np.stack([sum(row[axis] * index[axis] for axis in range(3)) + row[3] for row in affine[:3]])
    signal, organs = body.render(points, tissues(rng))
    signal[signal < AIR] = 0
    liver = ndimage.binary_opening(organs == LABELS["liver"], iterations=1)
    label = np.where(liver, LIVER, 0).astype(np.uint8)
    for _ in range(4):
        start = place(rng, liver, index)
        way = rng.standard_normal(3) * (1, 1, 0.4)
        line = ndimage.binary_dilation(tube(rng, SHAPE, start, way), structure=np.ones((2, 2, 1)))
        signal[line & liver] = VESSEL * rng.uniform(0.85, 1.0)
    inner = ndimage.binary_erosion(liver, structure=np.ones((3, 3, 1)), iterations=2)
    for _ in range(int(rng.integers(1, 5))):
        lesion = _lesion(rng, place(rng, inner if inner.any() else liver, grid(*SHAPE))) & liver
        label[lesion] = LESION
        signal[lesion] = TUMOUR * rng.uniform(0.80, 1.12)
    blurred = ndimage.gaussian_filter(signal, (0.5, 0.5, 0.3))
    image = blurred * bias(rng, SHAPE, 0.16) * (1 + 0.03 * smooth(rng, SHAPE, 1.2))
    real, imaginary = (6.0 * rng.standard_normal(SHAPE) for _ in range(2))
    image = rng.uniform(0.6, 1.7) * np.hypot(image + real, imaginary)  # the noise of a magnitude image
    return stepped(image).astype(np.int16), label, affine


def _affine(rng: np.random.Generator, body: Anatomy, *, flip: bool) -> np.ndarray:
    """The slab around the liver; every third scan counts its rows and columns the other way round."""
    affine = np.diag([*SPACING_MM, 1.0])
    if flip:
        affine[0, 0], affine[1, 1] = -affine[0, 0], -affine[1, 1]
    middle = np.array([0, 0, body.dome - 62]) + rng.uniform(-6, 6, 3)
    affine[:3, 3] = np.round(middle - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2), 3)
    return affine


def _lesion(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """Mask of a lumpy ball of 8 to 20 mm radius."""
    extent = np.array(SPACING_MM) * (np.array(SHAPE) - 1) / 2
    points = grid(*SHAPE) * extent[:, None, None, None]
    return blob(rng, points, centre * extent, rng.uniform(9, 21), 0.10) > 0


def write(folder: Path, count: int = COUNT, seed: int = SEED) -> None:
    """`count` patients, one scan each."""
    for number in range(count):
        image, label, affine = sample(number, seed)
        write_nifti(folder / "images" / f"p{number + 1:02d}.nii.gz", image, affine)
        write_nifti(folder / "labels" / f"p{number + 1:02d}.nii.gz", label, affine)
    write_text(folder / "labels.yaml", f"labels:\n  liver: {LIVER}\n  lesion: {LESION}\n")
