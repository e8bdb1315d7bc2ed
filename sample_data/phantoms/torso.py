"""A synthetic torso: smooth shapes in patient space, one anatomy per patient, rendered on any grid.

Coordinates are patient millimetres, RAS+: x to the patient's right, y to the front, z to the head. Every structure
is an implicit function of a point, so that two scans of one patient show the same body on different grids, and the
truth is known without resampling anything. Nothing here was measured from a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .drawing import generator

LABELS = {"liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4, "aorta": 5, "spine": 6}


class Waves:
    """A smooth random function of space: a few plane waves of random direction, length and phase."""

    def __init__(self, rng: np.random.Generator, *, shortest_mm: float, longest_mm: float, count: int = 5):
        directions = rng.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(shortest_mm, longest_mm, (count, 1))
        self.vectors = 2 * np.pi * directions / lengths
        self.phases = rng.uniform(0, 2 * np.pi, count)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Value of about unit standard deviation at points (3, ...). No matrix product: BLAS libraries differ."""
        x, y, z = points
        total = np.zeros(x.shape)
        for (a, b, c), phase in zip(self.vectors, self.phases, strict=True):
            total += np.sin(a * x + b * y + c * z + phase)
        return total * np.sqrt(2 / len(self.phases))

    def within(self, region: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The same, worked out in `region` only and 0 elsewhere."""
        total = np.zeros(region.shape)
        total[region] = self(points[:, region])
        return total


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes in mm, and a tilt about the y axis in degrees."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    tilt: float = 0.0

    def __call__(self, p: np.ndarray, grow: float = 1.0) -> np.ndarray:
        """Above 0 inside; 1 at the centre."""
        x, y, z = (p[axis] - self.centre[axis] for axis in range(3))
        angle = np.deg2rad(self.tilt)
        x, z = np.cos(angle) * x + np.sin(angle) * z, np.cos(angle) * z - np.sin(angle) * x
        a, b, c = (length * grow for length in self.half)
        return 1 - np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)


class Anatomy:
    """The body of one patient."""

    def __init__(self, patient: int):
        rng = generator(20240501, patient)
        u = rng.uniform
        self.width, self.depth, self.fat = u(132, 150), u(96, 110), u(9, 20)
        self.inner = self.width - self.fat - 12, self.depth - self.fat - 12
        self.dome = u(45, 75)
        wide, deep = self.inner
        top = self.dome - 45
        organ = {
            "liver": Ellipsoid((wide * 0.48 + u(-6, 6), u(-4, 10), top + u(-12, 4)), (u(58, 72), u(58, 72), u(52, 70))),
            "liver_left": Ellipsoid((u(-8, 10), deep * 0.45, top + u(8, 22)), (u(48, 66), u(26, 36), u(24, 34))),
            "spleen": Ellipsoid(
                (-wide * 0.80 + u(-4, 6), -deep * 0.30 + u(-8, 8), top + u(-6, 16)),
                (u(22, 32), u(36, 46), u(32, 48)),
                u(-12, 12),
            ),
            "kidney_left": Ellipsoid(
                (-u(54, 66), -deep * 0.50 + u(-5, 5), top - u(48, 68)), (u(24, 30), u(23, 28), u(44, 56)), u(4, 18)
            ),
            "kidney_right": Ellipsoid(
                (u(54, 66), -deep * 0.50 + u(-5, 5), top - u(56, 78)), (u(24, 30), u(23, 28), u(44, 56)), -u(4, 18)
            ),
            "stomach": Ellipsoid(
                (-u(42, 56), u(18, 34), top + u(-8, 10)), (u(34, 42), u(26, 34), u(36, 48)), u(-20, 20)
            ),
            "gallbladder": Ellipsoid((u(40, 56), u(38, 50), top - u(30, 44)), (u(11, 15), u(11, 15), u(18, 26))),
            "heart": Ellipsoid((-u(12, 26), u(8, 22), self.dome + u(38, 52)), (u(44, 54), u(38, 46), u(40, 50)), 25),
        }
        self.organ = organ
        self.spine_y = -deep * 0.62 + u(-4, 4)
        self.spine_half = u(20, 25), u(17, 21)
        self.aorta_radius, self.aorta_x = u(14, 17), -u(4, 13)
        self.vena_radius = u(11, 14)
        self.disc_step, self.disc_phase = u(30, 36), u(0, 30)
        self.warp = [Waves(rng, shortest_mm=120, longest_mm=260) for _ in range(3)]
        self.warp_mm = u(3.5, 6.0)
        self.lumps = {name: Waves(rng, shortest_mm=45, longest_mm=110) for name in organ}
        self.bowel = Waves(rng, shortest_mm=45, longest_mm=75, count=8)
        self.content = Waves(rng, shortest_mm=50, longest_mm=90)

    def inside(self, name: str, p: np.ndarray, grow: float = 1.0) -> np.ndarray:
        depth = self.organ[name](p, grow)
        near = depth > -0.3  # the lumps reach 0.07 * sqrt(2 * 5) = 0.22 at most
        return near & (depth > 0.07 * self.lumps[name].within(near, p))

    def render(self, points: np.ndarray, hu: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Hounsfield units and label numbers at points (3, ...) in mm; `hu` gives each tissue's mean."""
        p = points + self.warp_mm * np.stack([wave(points) for wave in self.warp])
        image = np.full(p.shape[1:], -1000.0)
        label = np.zeros(p.shape[1:], np.uint8)
        cavity = self._wall(p, image, hu)
        self._abdomen(p, image, hu, cavity)
        chest = self._chest(p, image, hu, cavity)
        belly = cavity & ~chest

        def put(name: str, region: np.ndarray, tissue: str) -> None:
            image[region] = hu[tissue]
            label[region] = LABELS.get(name, 0)

        put("liver", belly & (self.inside("liver", p) | self.inside("liver_left", p)), "liver")
        put("gallbladder", belly & self.inside("gallbladder", p), "bile")
        put("spleen", belly & self.inside("spleen", p), "spleen")
        for side in ("kidney_left", "kidney_right"):
            kidney = belly & self.inside(side, p) & (label == 0)
            put(side, kidney, "kidney")
            hilum = kidney & self._hilum(side, p)
            put("sinus", hilum, "fat")
        z = p[2]
        bend = 5 * np.sin(z / 60)
        self._tube(p, (self.aorta_x + bend, self.spine_y + self.spine_half[1] + self.aorta_radius + 2), "aorta", put)
        self._tube(p, (22 + bend, self.spine_y + self.spine_half[1] + self.vena_radius), "vena cava", put)
        self._spine(p, put)
        return image, label

    def _wall(self, p: np.ndarray, image: np.ndarray, hu: dict[str, float]) -> np.ndarray:
        """Couch, skin, fat, muscle and ribs; returns the body cavity."""
        x, y, z = p

        def oval(shrink: float) -> np.ndarray:
            return (np.abs(x) / (self.width - shrink)) ** 2.4 + (np.abs(y) / (self.depth - shrink)) ** 2.4 < 1

        image[(np.abs(x) < 130) & (np.abs(y + self.depth + 14) < 4)] = -250
        body, muscle, cavity = oval(0), oval(self.fat), oval(self.fat + 12)
        image[body] = hu["fat"]
        image[muscle] = hu["muscle"]
        ribs = muscle & ~oval(self.fat + 9) & (np.sin((z + 0.35 * y) * 2 * np.pi / 27) > 0.45) & (z > self.dome - 85)
        image[ribs] = hu["rib"]
        return cavity

    def _abdomen(self, p: np.ndarray, image: np.ndarray, hu: dict[str, float], cavity: np.ndarray) -> None:
        """Fat, bowel with mixed contents, stomach and the muscles beside the spine: nothing of it is labelled."""
        x, y, z = p
        image[cavity] = hu["fat"]
        front = cavity & (y > self.spine_y + 45)
        loops = front & (self.bowel.within(front, p) > -0.15)
        image[loops] = hu["bowel"]
        content = self.content.within(loops, p)
        image[loops & (content > 1.1)] = -700
        image[loops & (content < -1.0)] = hu["oral contrast"]
        psoas = np.hypot(np.abs(x) - 38, (y - self.spine_y) * 0.9) < np.clip(14 - (z + 20) / 12, 6, 24)
        back = ((np.abs(x) - 34) / 30) ** 2 + ((y - self.spine_y + 34) / 18) ** 2 < 1
        image[cavity & (psoas | back)] = hu["muscle"]
        for side in ("kidney_left", "kidney_right"):
            image[cavity & (self.organ[side](p, 1.25) > 0)] = hu["fat"]
        stomach = cavity & self.inside("stomach", p)
        image[stomach] = hu["bowel"]
        image[stomach & (y > self.organ["stomach"].centre[1] + 12)] = -800

    def _chest(self, p: np.ndarray, image: np.ndarray, hu: dict[str, float], cavity: np.ndarray) -> np.ndarray:
        """Lungs and heart above a domed diaphragm; returns the chest's part of the cavity."""
        x, y, z = p
        wide, deep = self.inner
        dome = self.dome + 8 * (x > 0) - 45 * ((np.abs(x) - wide * 0.45) / wide) ** 2 - 42 * (y / deep) ** 2
        chest = cavity & (z > dome)
        image[chest] = -850
        image[chest & (self.bowel.within(chest, p * 2.0) > 1.9)] = 20
        image[chest & (np.abs(x) < 22)] = hu["bowel"]
        image[chest & self.inside("heart", p)] = hu["blood"]
        return chest

    def _hilum(self, side: str, p: np.ndarray) -> np.ndarray:
        """The fatty notch on the side of a kidney that faces the spine."""
        x, y, z = self.organ[side].centre
        towards = -np.sign(x) * (p[0] - x)
        return (towards > 6) & (np.abs(p[1] - y) < 8) & (np.abs(p[2] - z) < 14)

    def _tube(self, p: np.ndarray, centre: tuple[np.ndarray, float], name: str, put) -> None:
        radius = self.aorta_radius if name == "aorta" else self.vena_radius
        put(name, np.hypot(p[0] - centre[0], p[1] - centre[1]) < radius, "blood" if name == "aorta" else "vein")

    def _spine(self, p: np.ndarray, put) -> None:
        """Bodies with a dense rim, discs, canal and arches; discs and canal's walls belong to the label."""
        x, y, z = p[0], p[1] - self.spine_y, p[2]
        half_x, half_y = self.spine_half
        radius = np.hypot(x / half_x, y / half_y)
        body = radius < 1
        disc = np.sin((z + self.disc_phase) * 2 * np.pi / self.disc_step) > 0.86
        arch = ((x / 18) ** 2 + ((y + half_y + 9) / 15) ** 2 < 1) | ((np.abs(x) < 6) & (np.abs(y + half_y + 20) < 20))
        processes = (np.abs(x) < 36) & (np.abs(y + half_y + 6) < 6) & ~disc
        put("spine", arch | processes, "bone")
        put("spine", body, "marrow")
        put("spine", body & (radius > 0.86), "bone")
        put("spine", body & disc, "disc")
        put("canal", np.hypot(x, y + half_y + 8) < 8, "bile")


def tissues(rng: np.random.Generator) -> dict[str, float]:
    """Mean Hounsfield units of one scan. Contrast phase differs between scans, so the organs' ranges overlap."""
    u = rng.uniform
    blood = u(105, 150)
    return {
        "fat": u(-112, -95),
        "muscle": u(52, 70),
        "bowel": u(25, 60),
        "oral contrast": u(90, 170),
        "bile": u(5, 20),
        "liver": u(85, 118),
        "spleen": u(88, 125),
        "kidney": u(100, 145),
        "blood": blood,
        "vein": blood - u(-5, 25),
        "marrow": u(130, 180),
        "bone": u(260, 340),
        "rib": u(260, 380),
        "disc": u(75, 100),
    }


def noise(rng: np.random.Generator, shape: tuple[int, ...], white_hu: float, grain_hu: float) -> np.ndarray:
    """White noise plus grain that is correlated over about two voxels."""
    grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.0, mode="wrap")
    return white_hu * rng.standard_normal(shape) + grain_hu * grain / grain.std()
