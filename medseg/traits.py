"""What is measured of a segmentation to tell, without the truth, if it is plausible: sizes, pieces, places, values.

Every n-th voxel of a large scan is looked at, so that they lie about 3 mm apart: a whole CT takes a second, whatever
its labels. What is smaller than that is seen as it happens to be met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import cc3d
import numpy as np

from medseg import scratch
from medseg.geometry import AXIS_CODES, axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.volume import Volume

Traits = Mapping[str, Mapping[str, float]]
"""By label, and under `SCAN` of the scan: numbers by name. A label that was not found has none."""
SCAN = ""
COARSE_MM = 3.0
FEWEST = 48
"""Places along an axis, where it has so many."""
COARSE_PX = 512
"""Places along the longest axis of an image without a physical size."""
PLACE_BYTES = 40
"""Of a place that is looked at: its label, the number of its piece, and its rank among all that have a label."""
PIECE = 0.02
"""Share of a label from which a connected part of it counts as a piece."""
AXES = ("left-right", "back-front", "foot-head")
FACES = {"L": "left", "R": "right", "P": "back", "A": "front", "I": "lower", "S": "upper"}
SCAN_QUANTILES = {"low": 5, "median": 50, "high": 95}


def measure(
    target: np.ndarray, table: LabelTable, scan: Volume, maps: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, float]]:
    """Traits of a network target (1 or R, I, J, K) on the grid of its scan; and means of maps (1, I, J, K) in each.

    Of the scan, of each channel c: `low c`, `median c` and `high c`, its 5th, 50th and 95th percentile.

    Of each label that is there: `volume` in ml (without a physical size: in % of the image); `pieces`, how many
    connected parts (26 neighbours) hold 2 % of it or more (of mere specks none does); `largest`, the share of the
    largest; `x`, `y`, `z`, its centre in mm (or pixels) from the scan's first voxel to the right, front and head, and
    `part x`, ..., the same as a share of the scan; `length x`, ..., the extent of its pieces in mm (pixels);
    `median c`, of the values of channel c in it; `edge left`, `edge upper`, ...: 1 where it touches that face of the
    scan.
    """
    axes = axis_map(scan.affine, "RAS")
    whole = axes.apply(target)
    spacing = scan.spacing_mm[list(axes.permutation)]
    steps = _steps(whole.shape[1:], spacing, scan.unit)
    firsts = [min(step, size) // 2 for step, size in zip(steps.tolist(), whole.shape[1:], strict=True)]
    apart = (slice(None), *(slice(first, None, step) for first, step in zip(firsts, steps.tolist(), strict=True)))
    coarse = np.ascontiguousarray(whole[apart])
    image = np.ascontiguousarray(axes.apply(scan.array)[apart], np.float32)
    further = {name: np.ascontiguousarray(axes.apply(one)[apart])[0] for name, one in (maps or {}).items()}
    scratch.let_go(target)
    size = np.array(coarse.shape[1:]) * steps * spacing
    found: dict[str, dict[str, float]] = {SCAN: _of_scan(image)}
    for position, numbers in _numbers(coarse, table):
        values = _values(numbers, image, further)
        for place, traits in _shapes(numbers, steps * spacing, size, scan.unit).items():
            found[table.names[position + place]] = {**traits, **values[place]}
    for position, name in _edges(whole, table):
        if table.names[position] in found:
            found[table.names[position]][f"edge {name}"] = 1.0
    return found


def footprint(shape: Sequence[int], spacing: np.ndarray, channels: int) -> int:
    """Bytes that `measure` takes for a scan in millimetres, at most."""
    places = np.prod(np.ceil(np.array(shape) / _steps(shape, spacing, "mm")))
    return int(places * (PLACE_BYTES + 4 * channels))


def _steps(shape: Sequence[int], spacing: np.ndarray, unit: str) -> np.ndarray:
    if unit != "mm":
        return np.full(3, max(1, max(shape) // COARSE_PX))
    steps = np.minimum((COARSE_MM / spacing + 0.01).astype(int), np.array(shape) // FEWEST)
    return np.maximum(1, steps)


def _of_scan(image: np.ndarray) -> dict[str, float]:
    found = {}
    for channel, values in enumerate(image):
        for name, value in zip(SCAN_QUANTILES, np.percentile(values, list(SCAN_QUANTILES.values())), strict=True):
            found[f"{name} {channel}"] = float(value)
    return found


def _numbers(target: np.ndarray, table: LabelTable) -> Iterator[tuple[int, np.ndarray]]:
    """Maps (I, J, K) of which 0 is nothing and n the label n - 1 places behind the position given."""
    if table.exclusive:
        yield 0, np.where(target[0] <= len(table.labels), target[0], 0)
        return
    for position, region in enumerate(target):
        yield position, ((region > 0) & (region != IGNORE)).astype(np.uint8)


def _shapes(numbers: np.ndarray, spacing: np.ndarray, size: np.ndarray, unit: str) -> dict[int, dict[str, float]]:
    """By number less one, of all that occur."""
    pieces = cc3d.connected_components(numbers, connectivity=26)
    facts = cc3d.statistics(pieces)
    counts = np.asarray(facts["voxel_counts"], np.float64)
    owner = np.zeros(len(counts), int)
    owner[pieces.ravel()] = numbers.ravel()  # all voxels of a piece have one number
    voxel = float(spacing.prod()) / 1000 if unit == "mm" else 100 / numbers.size
    found = {}
    for number in np.unique(owner[1:]) if len(owner) > 1 else ():
        own = np.flatnonzero(owner == number)
        own = own[own > 0]
        total = counts[own].sum()
        large = own[counts[own] >= PIECE * total]
        boxes = [facts["bounding_boxes"][piece] for piece in (large if len(large) else own)]  # specks may be all
        centre = ((counts[own, None] * facts["centroids"][own]).sum(axis=0) / total + 0.5) * spacing
        traits = {
            "volume": float(total * voxel),
            "pieces": float(len(large)),
            "largest": float(counts[own].max() / total),
        }
        for axis, name in enumerate("xyz"):
            extent = max(box[axis].stop for box in boxes) - min(box[axis].start for box in boxes)
            traits[name] = float(centre[axis])
            traits[f"part {name}"] = float(centre[axis] / size[axis])
            traits[f"length {name}"] = float(extent * spacing[axis])
        found[int(number) - 1] = traits
    return found


def _values(numbers: np.ndarray, image: np.ndarray, maps: Mapping[str, np.ndarray]) -> dict[int, dict[str, float]]:
    """By number less one: the median of each channel, and the mean of each map."""
    flat = numbers.ravel()
    there = np.flatnonzero(flat)
    order = there[np.argsort(flat[there], kind="stable")]
    which, starts = np.unique(flat[order], return_index=True)
    if not len(which):
        return {}

    def summed(values: np.ndarray, how: Callable[[np.ndarray], float]) -> list[float]:
        return [float(how(group)) for group in np.split(values.ravel()[order], starts[1:])]

    columns = {f"median {channel}": summed(values, np.median) for channel, values in enumerate(image)}
    columns |= {name: summed(values, np.mean) for name, values in maps.items()}
    return {
        int(number) - 1: {name: values[place] for name, values in columns.items()}
        for place, number in enumerate(which.tolist())
    }


def _edges(whole: np.ndarray, table: LabelTable) -> Iterator[tuple[int, str]]:
    """Positions of labels with a voxel in an outermost plane, and which; not along axes of a single plane."""
    for axis, codes in enumerate(AXIS_CODES):
        if whole.shape[1 + axis] == 1:
            continue
        for index, code in zip((0, -1), codes, strict=True):
            for position, numbers in _numbers(np.take(whole, [index], axis=1 + axis), table):
                for number in np.unique(numbers):
                    if number:
                        yield position + int(number) - 1, FACES[code]
