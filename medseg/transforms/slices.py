"""Axial PET and CT slices as the lymphoma slice classifier takes them: a square picture of numbers from 0 to 1.

Pure functions of one slice in its native matrix. Source: ahxmeds/classification-explanation, whose published weights
need exactly this (arXiv:2403.07105); scikit-image's `resize` with its own defaults is part of it.
"""

from __future__ import annotations

import numpy as np
from skimage.transform import resize

SIDE = 224
"""Pixels a side of the classifier's input."""
SUV_LIMIT = 50.0
"""Standardised uptake at and above which a pixel is 1."""
HU_LIMITS = (-500.0, 500.0)
"""Hounsfield units that become 0 and 1."""


def pet_slice(suv: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Standardised uptake values (I, J) -> float32 (side, side) from 0 to 1.

    Bilinear, and smoothed before where it shrinks; only then clipped to 0 to 50 and divided by 50.
    """
    return (np.clip(_resized(suv, side), 0, SUV_LIMIT) / SUV_LIMIT).astype(np.float32)


def ct_slice(hu: np.ndarray, side: int | None = SIDE) -> np.ndarray:
    """Hounsfield units (I, J) -> float32 (side, side) from 0 to 1: bilinear, then -500 HU and below is 0 and 500 and
    above 1. `side` None leaves the matrix as it is."""
    lower, upper = HU_LIMITS
    values = np.asarray(hu, np.float64) if side is None else _resized(hu, side)
    return ((np.clip(values, lower, upper) - lower) / (upper - lower)).astype(np.float32)


def mask_slice(mask: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Label numbers (I, J) -> the same numbers (side, side): each pixel takes the nearest one."""
    shape = (side, side)
    return resize(mask, shape, order=0, mode="constant", preserve_range=True, anti_aliasing=False).astype(mask.dtype)


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    """Float64 (side, side), bilinear; beyond the edge lies 0."""
    return resize(np.asarray(values, np.float64), (side, side), order=1, mode="constant", cval=0, preserve_range=True)
