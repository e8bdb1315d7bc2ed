"""All surface metrics of every label of a large CT, beside MONAI's metrics and DeepMind's surface-distance.

    python benchmarks/metrics.py --labels data/ct/totalsegmentator/example_seg.nii.gz

The label map is enlarged to 512 x 512 x 300 voxels of 1 mm, and a second one is made of it by bending space by up to
four voxels. Each program gets both as arrays of whole numbers and gives, for every label in them, the Hausdorff
distance and its 95th percentile, the average symmetric surface distance and the surface Dice at 2 mm. Each runs in a
process of its own, in turns; reading and imports are not counted. The numbers are compared: medseg must give those of
each program under that program's own definition of a surface.

MONAI's four functions look for surfaces and distances anew, as its users' code does; surface-distance finds them once.
MONAI gets the masks of one label at a time: those of all labels at once would take 13 GB. `--classes 117` adds labels
by cutting the larger ones into blocks, `--medseg-only` leaves the others out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHAPE = (512, 512, 300)
TOLERANCE_MM = 2.0
NAMES = ("hd", "hd95", "assd", "nsd")
SAME = {"MONAI": "medseg, voxels", "surface-distance": "medseg, elements"}
"""Whose definition each program shares."""
Rows = dict[int, list[float]]
"""By label: the numbers of `NAMES`."""


def label_maps(source: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction, (I, J, K) uint8."""
    import nibabel

    small = np.asarray(nibabel.load(source).dataobj).astype(np.uint8)
    places = [np.arange(size) * old // size for size, old in zip(SHAPE, small.shape, strict=True)]
    truth = np.ascontiguousarray(small[np.ix_(*places)])
    found = np.flatnonzero(np.bincount(truth.ravel(), minlength=256))[1:]
    lookup = np.zeros(256, np.uint8)
    lookup[found] = np.arange(1, len(found) + 1)
    truth = lookup[truth]
    if classes > len(found):
        truth = _more(truth, classes)
    bent = [np.arange(size) + 4 * np.sin(np.arange(size) / (17 + 5 * axis)) for axis, size in enumerate(SHAPE)]
    grid = [np.clip(np.rint(line), 0, size - 1).astype(int) for line, size in zip(bent, SHAPE, strict=True)]
    return truth, np.ascontiguousarray(truth[np.ix_(*grid)])


def _more(truth: np.ndarray, classes: int) -> np.ndarray:
    """Labels cut in two along k, the largest first, until there are enough."""
    count = int(truth.max())
    sizes = np.bincount(truth.ravel(), minlength=classes + 1)
    while count < classes:
        sizes[0] = 0
        largest = int(sizes.argmax())
        rows = np.flatnonzero((truth == largest).any(axis=(0, 1)))
        upper = truth[..., rows[len(rows) // 2] :]
        count += 1
        upper[upper == largest] = count
        sizes[count] = np.count_nonzero(upper == count)
        sizes[largest] -= sizes[count]
    return truth


def by_medseg(truth: np.ndarray, predicted: np.ndarray, kind: str) -> Rows:
    from medseg import config
    from medseg.engine import pairs
    from medseg.labels import LabelTable
    from medseg.volume import Volume

    table = LabelTable.of({str(number): number for number in _labels(truth)})
    metrics = [config.choose("metrics", {"name": name, "surface": kind}) for name in NAMES]
    volume = Volume(table.encode(truth), np.eye(4))
    return {
        int(pair.label): [pairs.measure(pair, metrics)[name] for name in NAMES]
        for pair in pairs.of_case(volume, table.encode(predicted), table)
    }


def by_monai(truth: np.ndarray, predicted: np.ndarray) -> Rows:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(os.cpu_count() or 1)
    rows = {}
    for label in _labels(truth):
        masks = [torch.from_numpy(each == label)[None, None] for each in (predicted, truth)]
        whole = {"include_background": True, "spacing": 1.0}
        rows[label] = [
            float(compute_hausdorff_distance(*masks, **whole)),
            float(compute_hausdorff_distance(*masks, percentile=95, **whole)),
            float(compute_average_surface_distance(*masks, symmetric=True, **whole)),
            float(compute_surface_dice(*masks, [TOLERANCE_MM], **whole)),
        ]
    return rows


def by_surface_distance(truth: np.ndarray, predicted: np.ndarray) -> Rows:
    import surface_distance as peer

    rows = {}
    for label in _labels(truth):
        found = peer.compute_surface_distances(truth == label, predicted == label, (1.0, 1.0, 1.0))
        areas = [found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()]
        means = peer.compute_average_surface_distance(found)
        rows[label] = [
            float(peer.compute_robust_hausdorff(found, 100)),
            float(peer.compute_robust_hausdorff(found, 95)),
            float(np.average(means, weights=areas)),
            float(peer.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
        ]
    return rows


PROGRAMS: dict[str, Callable[[np.ndarray, np.ndarray], Rows]] = {
    "medseg, voxels": lambda truth, predicted: by_medseg(truth, predicted, "voxels"),
    "medseg, elements": lambda truth, predicted: by_medseg(truth, predicted, "elements"),
    "MONAI": by_monai,
    "surface-distance": by_surface_distance,
}


def _labels(truth: np.ndarray) -> Iterator[int]:
    yield from range(1, int(truth.max()) + 1)


def run_here(program: str, arrays: Path) -> None:
    """One program in this process; its numbers, seconds and peak memory go to standard output."""
    from medseg.engine import stages

    warnings.simplefilter("ignore")
    truth, predicted = np.load(arrays / "truth.npy"), np.load(arrays / "predicted.npy")
    cube = np.zeros((9, 9, 9), np.uint8)
    cube[2:6, 2:6, 2:6] = 1
    PROGRAMS[program](cube, np.roll(cube, 1, axis=0))  # imports, and tables that are made once
    stages.forget_peak()
    before = stages.peak_mib()
    start = time.perf_counter()
    rows = PROGRAMS[program](truth, predicted)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "before": before, "peak": stages.peak_mib(), "rows": rows}))


def measure(program: str, arrays: Path) -> dict:
    command = [sys.executable, __file__, "--run", program, "--arrays", str(arrays)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def agreement(mine: dict, theirs: dict) -> float:
    """The largest difference of any number of any label."""
    pairs = ((mine["rows"][label], row) for label, row in theirs["rows"].items())
    return max(float(np.abs(np.subtract(*pair)).max()) for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="a label map (NIfTI) with many labels")
    parser.add_argument("--classes", type=int, default=0, help="at least so many")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--medseg-only", action="store_true")
    parser.add_argument("--run", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--arrays", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_here(given.run, given.arrays)
        return
    if given.labels is None:
        parser.error("--labels is needed")
    programs = [name for name in PROGRAMS if "medseg" in name or not given.medseg_only]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "monai", "surface-distance"))
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}; {versions}")
    with tempfile.TemporaryDirectory() as folder:
        truth, predicted = label_maps(given.labels, given.classes)
        print(f"{truth.shape}, {int(truth.max())} labels")
        np.save(Path(folder) / "truth.npy", truth)
        np.save(Path(folder) / "predicted.npy", predicted)
        del truth, predicted
        found: dict[str, list[dict]] = {name: [] for name in programs}
        for _ in range(given.rounds):
            for name in programs:
                found[name].append(measure(name, Path(folder)))
                print(f"  {name}: {found[name][-1]['seconds']:.1f} s", file=sys.stderr)
    best = {name: min(each["seconds"] for each in results) for name, results in found.items()}
    for name in programs:
        peak = max(each["peak"] for each in found[name])
        above = max(each["peak"] - each["before"] for each in found[name])
        line = f"{name:<20}{best[name]:8.1f} s   peak {peak:6.0f} MiB, {above:6.0f} above the arrays"
        if name in SAME:
            line += f"   {best[name] / best[SAME[name]]:5.1f}x {SAME[name]}"
            line += f", numbers differ by at most {agreement(found[SAME[name]][0], found[name][0]):.1e}"
        print(line)


if __name__ == "__main__":
    main()
