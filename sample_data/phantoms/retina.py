"""Retinas with two trees of vessels that cross, in the layout of RITE (see `medseg/datasets/retina_av.py`).

At the optic disc a vein is plainly darker and wider than an artery, which has a bright line along its middle. Farther
out both pale, and each stretch is a little darker or brighter than it should be, so that a short piece could be either:
what it is can be told by following it back to the disc. Here and there a vessel is interrupted; its label map is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from .drawing import generator, grid, smooth
from .writing import to_bytes, write_picture

SIZE = 96
FINE = 3
"""Points per pixel edge while drawing; averaged in the end."""
COUNT, SEED = 20, 31
TRAINING = 14
"""Photographs of the training part; the others are test."""
FIRST = {"training": 21, "test": 1}
"""Number of each part's first photograph, as in DRIVE."""
STEP = 0.032
"""Length of a step along a vessel, in the range of the grid (-1 to 1)."""
DARKNESS = {"vein": (0.45, 0.36), "artery": (0.30, 0.28)}
"""Share of the light that a vessel takes: at the disc, and far from it, where they differ less."""
INTERRUPTED = 0.2
"""Share of the stretches with a place that can hardly be seen."""
LEAD = 0.30
"""By how much (rad) arcades of arteries and of veins leave the disc to either side of straight up or down."""
WIDTH = {"vein": 3.0, "artery": 2.5}
"""At the disc, in pixels."""
ABSORBS = np.array([0.35, 1.0, 0.55])
"""How much of a vessel's darkness shows in red, green and blue."""


def sample(number: int, seed: int = SEED) -> dict[str, np.ndarray]:
    """One eye: `image` (rows, columns, 3), `av` label map in colour, `vessel` and `mask` (rows, columns), all uint8.

    In `av` red is artery, blue vein, green a crossing, white a twig of which it is not known what it is.
    """
    rng = generator(seed, number)
    side = 1 if number % 2 else -1
    disc = np.array([rng.uniform(-0.08, 0.08), side * rng.uniform(0.45, 0.60)])
    leads = {1: LEAD * rng.choice([-1, 1]), -1: LEAD * rng.choice([-1, 1])}
    trees = {
        name: _tree(rng, disc, side, WIDTH[name], {way: sign * lead for way, lead in leads.items()})
        for name, sign in (("vein", 1), ("artery", -1))
    }
    points = grid(SIZE, SIZE)
    inside = np.hypot(*points) < 0.96
    darkness = np.zeros((SIZE, SIZE))
    covers = {}
    for name, segments in trees.items():
        drawn = _draw(rng, segments, name)
        darkness = np.maximum(darkness, drawn["darkness"])
        covers[name] = drawn["cover"] & inside
        covers[f"{name} twigs"] = drawn["twigs"] & inside
    image = _fundus(rng, points, disc) * (1 - darkness[..., None] * ABSORBS)
    image *= rng.uniform(0.8, 1.15) * (1 + 0.05 * rng.standard_normal((SIZE, SIZE, 3)))
    image[~inside] = 2
    return {"image": to_bytes(image), **_maps(covers), "mask": np.where(inside, 255, 0).astype(np.uint8)}


@dataclass(frozen=True)
class Segment:
    """A stretch of vessel between two forks.

    Attributes:
        path: (n, 2) points in the range of the grid.
        width: in pixels.
        far: way from the disc to its beginning.
        twig: whether it is one of the last.
    """

    path: np.ndarray
    width: float
    far: float
    twig: bool


def _tree(
    rng: np.random.Generator, disc: np.ndarray, side: int, widest: float, leads: dict[int, float]
) -> list[Segment]:
    """An arcade below and one above the macula (1, -1), with branches; `side` is 1 where the disc is on the right."""
    segments: list[Segment] = []
    for way in (1, -1):
        lead = leads[way] + rng.uniform(-0.12, 0.12)
        angle = way * side * (np.pi / 2 + lead) if side > 0 else way * (np.pi / 2 - lead)
        heads = [(disc, angle, widest, 0.0, way * side * rng.uniform(0.026, 0.050), 0)]
        while heads:
            start, angle, width, far, bend, level = heads.pop()
            length = int(rng.integers(6, 11))
            path = [start]
            for _ in range(length):
                angle += 0.07 * rng.standard_normal() + bend
                path.append(path[-1] + STEP * np.array([np.sin(angle), np.cos(angle)]))
            end, far_end = path[-1], far + length * STEP
            last = width < 1.1 or level > 6 or np.hypot(*end) > 0.97
            segments.append(Segment(np.array(path), width, far, last))
            if last:
                continue
            turn = rng.uniform(0.5, 0.95) * (1 if rng.random() < 0.5 else -1)
            heads.append((end, angle - 0.2 * turn, width * 0.90, far_end, bend, level + 1))
            heads.append((end, angle + turn, width * rng.uniform(0.55, 0.72), far_end, 0.0, level + 2))
    return segments


def _draw(rng: np.random.Generator, segments: list[Segment], name: str) -> dict[str, np.ndarray]:
    """`darkness` (rows, columns) of a tree, where it is (`cover`), and where its unclear twigs are (`twigs`)."""
    size = SIZE * FINE
    dark, reflex = np.zeros((size, size)), np.zeros((size, size))
    cover, twigs = np.zeros((size, size), bool), np.zeros((size, size), bool)
    for segment in segments:
        steps = np.linspace(0, len(segment.path) - 1, 6 * len(segment.path))
        line = np.stack([np.interp(steps, np.arange(len(segment.path)), column) for column in segment.path.T])
        rows, columns = np.rint((line + 1) / 2 * (size - 1)).astype(int)
        keep = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        rows, columns, along = rows[keep], columns[keep], steps[keep] * STEP
        if not len(rows):
            continue
        plain = np.exp(-(segment.far + along) / 0.5)
        near, away = DARKNESS[name]
        strength = (near * plain + away * (1 - plain)) * _wander(rng, len(rows), 0.28 * (1 - 0.7 * plain))
        if segment.far > 0 and rng.random() < INTERRUPTED:
            gap = int(rng.integers(len(rows)))
            strength[max(0, gap - 6) : gap + 6] *= 0.1
        brush = _disc(segment.width * FINE / 2)
        box, rows_in, columns_in = _box(rows, columns, len(brush), size)
        line_in = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start))
        line_in[rows_in, columns_in] = strength
        dark[box] = np.maximum(dark[box], ndimage.grey_dilation(line_in, footprint=brush))
        target = twigs if segment.twig and rng.random() < 0.15 else cover
        target[box] |= ndimage.binary_dilation(line_in > 0, structure=brush)
        if name == "artery":
            reflex[rows, columns] = np.maximum(reflex[rows, columns], 0.55 * plain)
    dark *= 1 - np.clip(ndimage.gaussian_filter(reflex, 1.0) * 2.2, 0, 0.7)
    return {"darkness": _pixels(dark), "cover": _pixels(cover) >= 0.5, "twigs": _pixels(twigs) >= 0.5}


def _box(
    rows: np.ndarray, columns: np.ndarray, margin: int, size: int
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The part of a (size, size) grid around these points, and the points in it."""
    first, last = (rows.min() - margin, columns.min() - margin), (rows.max() + margin, columns.max() + margin)
    box = tuple(slice(max(0, int(a)), min(size, int(b) + 1)) for a, b in zip(first, last, strict=True))
    return (box[0], box[1]), rows - box[0].start, columns - box[1].start


def _wander(rng: np.random.Generator, length: int, strength: float | np.ndarray) -> np.ndarray:
    """Factor around 1 that changes slowly along a vessel."""
    noise = ndimage.gaussian_filter1d(rng.standard_normal(length + 80), 12)[40 : 40 + length]
    return 1 + strength * noise * 6.5


def _disc(radius: float) -> np.ndarray:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.hypot(y, x) <= max(radius, 0.5)


def _pixels(fine: np.ndarray) -> np.ndarray:
    """Mean over the points of each pixel."""
    return fine.reshape(SIZE, FINE, SIZE, FINE).astype(float).mean(axis=(1, 3))


def _fundus(rng: np.random.Generator, points: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """The ground that the vessels lie on: choroid, disc, macula; light falls off unevenly."""
    colour = np.array([198, 112, 62]) * rng.uniform(0.85, 1.12, 3)
    ground = 1 + 0.07 * smooth(rng, (SIZE, SIZE), 10.0) + 0.03 * smooth(rng, (SIZE, SIZE), 2.0)
    ground -= 0.05 * np.clip(smooth(rng, (SIZE, SIZE), (0.8, 2.4)), 0, None)  # the choroid's own vessels
    ground -= 0.20 * (smooth(rng, (SIZE, SIZE), 1.6) > 2.7)  # spots of pigment
    ground *= 1 + 0.15 * (rng.standard_normal() * points[0] + rng.standard_normal() * points[1]) / 1.4
    ground *= 1 - 0.18 * np.hypot(*points) ** 2
    away = np.hypot(points[0] - disc[0], points[1] - disc[1])
    macula = np.hypot(points[0] - disc[0], points[1] - disc[1] + np.sign(disc[1]) * 0.75)
    ground *= 1 - 0.25 * np.exp(-((macula / 0.16) ** 2))
    bright = 1 / (1 + np.exp((away - 0.15) / 0.02))
    return colour * ground[..., None] * (1 + bright[..., None] * np.array([0.15, 0.55, 0.75]))


def _maps(covers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Label maps `av` and `vessel`."""
    artery, vein = covers["artery"], covers["vein"]
    unclear = (covers["artery twigs"] | covers["vein twigs"]) & ~artery & ~vein
    av = np.zeros((SIZE, SIZE, 3), np.uint8)
    av[artery], av[vein], av[artery & vein], av[unclear] = (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)
    return {"av": av, "vessel": np.where(artery | vein | unclear, 255, 0).astype(np.uint8)}


def write(folder: Path, count: int = COUNT, seed: int = SEED, training: int = TRAINING) -> None:
    """`count` photographs, each of a person of its own, the first `training` of them in the training part."""
    for number in range(count):
        part = "training" if number < training else "test"
        name = f"{FIRST[part] + number - (0 if part == 'training' else training):02d}_{part}"
        pictures = sample(number, seed)
        for kind, where in (("image", "images"), ("av", "av"), ("vessel", "vessel"), ("mask", "mask")):
            ending = "_mask" if kind == "mask" else ""
            write_picture(folder / part / where / f"{name}{ending}.png", pictures[kind])
