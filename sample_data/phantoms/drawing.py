"""What the phantoms share: streams of chance, smooth noise and shapes on grids."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def generator(*key: int) -> np.random.Generator:
    """A stream of its own for every key; PCG64 is named because numpy's default may change."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1; `sigma` in grid points says how smooth."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def grid(*shape: int) -> np.ndarray:
    """Coordinates (axes, *shape), from -1 at the first to 1 at the last point of each axis."""
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))


def ellipsoid(points: np.ndarray, centre: tuple[float, ...], half: tuple[float, ...]) -> np.ndarray:
    """1 at the centre, 0 on the surface, negative outside."""
    squares = sum(((x - c) / h) ** 2 for x, c, h in zip(points, centre, half, strict=True))
    return 1 - np.sqrt(squares)


def blob(rng: np.random.Generator, points: np.ndarray, centre: np.ndarray, radius: float, rough: float) -> np.ndarray:
    """An irregular ball: 1 at the centre, 0 on the surface, which `rough` (0 to about 0.4) makes lumpy."""
    lumps = smooth(rng, points.shape[1:], max(1.0, 0.12 * points.shape[1]))
    return ellipsoid(points, tuple(centre), (radius,) * len(points)) + rough * lumps


def place(rng: np.random.Generator, allowed: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Coordinates of a random grid point in the mask `allowed`."""
    inside = np.flatnonzero(allowed)
    return points.reshape(len(points), -1)[:, inside[rng.integers(len(inside))]]


def tube(rng: np.random.Generator, shape: tuple[int, ...], start: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Mask of a wandering line of one grid point's width, from `start` (grid points), first in direction `towards`."""
    mask = np.zeros(shape, bool)
    at, way = np.array(start, float), np.array(towards, float)
    for _ in range(2 * max(shape)):
        if (at < 0).any() or (np.rint(at) >= shape).any():
            break
        mask[tuple(np.rint(at).astype(int))] = True
        way = way + 0.25 * rng.standard_normal(len(shape))
        way /= np.sqrt((way**2).sum())
        at = at + 0.7 * way
    return mask


def bias(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Factor near 1 that changes slowly over the grid, as a coil's sensitivity does."""
    return np.exp(strength * smooth(rng, shape, tuple(0.3 * size for size in shape)))
