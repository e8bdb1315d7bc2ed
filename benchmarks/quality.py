"""What `--quality fast|standard|best` costs in Dice and in network passes, measured on phantoms that no run has seen.

    python benchmarks/quality.py --out quality     trains two folds of the demo there, unless they are there already

Prints a table in Markdown. Seconds are the shortest of several rounds, in which the qualities take turns; network
passes (tiles x mirrored passes x runs) are what they go by, and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sample_data")]

import make  # noqa: E402 - the script that makes the sample data

from medseg import config  # noqa: E402
from medseg.engine import tiles  # noqa: E402
from medseg.engine.predict import Predictor  # noqa: E402
from medseg.engine.quality import Quality  # noqa: E402
from medseg.engine.train import train  # noqa: E402
from medseg.engine.validate import overlaps  # noqa: E402
from medseg.volume import Volume  # noqa: E402

MIRROR = "augment.mirror=[anterior-posterior]"
"""The demo's labels tell left from right."""
WAYS: tuple[tuple[str, Quality, int, tuple[str, ...]], ...] = (
    ("fast", "fast", 2, ()),
    ("standard", "standard", 2, ()),
    ("best", "best", 2, ()),
    ("standard, one run", "standard", 1, ()),
    ("standard, overlap 0.75", "standard", 2, ("overlap=0.75",)),
)


@dataclass(frozen=True)
class Found:
    """What one way of predicting gave on all phantoms."""

    dice: np.ndarray
    seconds: float
    passes: int


def runs(out: Path, epochs: int, threads: int) -> list[Path]:
    """Two folds of the demo."""
    folders = []
    for fold in (0, 1):
        changes = [f"dataset.root={ROOT / 'sample_data' / 'ct'}", f"cache={out / 'cache'}", MIRROR]
        changes += [f"split.fold={fold}", f"train.epochs={epochs}", f"train.threads={threads}"]
        recipe = config.load(ROOT / "pipelines" / "demo_ct.yaml", changes)
        folders.append(train(recipe, out / f"fold{fold}").folder)
    return folders


def phantoms(count: int) -> list[tuple[Volume, Volume]]:
    """Scans of further patients, and their truth."""
    made = []
    for number in range(count):
        scan = replace(make.UNSEEN, case=f"p{101 + number}_a", patient=101 + number)
        image, label, affine = make.render(scan)
        made.append((Volume(image[None], affine), Volume(label[None], affine)))
    return made


def measure(predictor: Predictor, cases: list[tuple[Volume, Volume]]) -> Found:
    """Dice (labels,), each the mean over the cases where it is defined."""
    dice, passes, started = [], 0, time.perf_counter()
    mirrored = len(tiles.flips(predictor.settings.mirror, predictor.plan.orientation))
    for scan, truth in cases:
        found = predictor.predict_volume(scan, "phantom")
        counts = overlaps(predictor.table.encode(truth.array[0]), found.target.array, predictor.table)
        dice.append(np.divide(*counts.T, out=np.full(len(counts), np.nan), where=counts[:, 1] > 0))
        passes += found.facts["tiles"] * mirrored * len(predictor.members)
    return Found(np.nanmean(dice, axis=0), time.perf_counter() - started, passes)


def table(found: dict[str, Found], names: tuple[str, ...], cases: int) -> str:
    usual = found["standard"]
    columns = ("quality", "mean Dice", "beside standard", *names, "network passes a scan", "seconds a scan")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for way, one in found.items():
        mean, labels = one.dice.mean(), " | ".join(f"{dice:.3f}" for dice in one.dice)
        beside = f"{mean - usual.dice.mean():+.4f}"
        passes = f"{one.passes / cases:.0f} ({one.passes / usual.passes:.2f}x)"
        seconds = f"{one.seconds / cases:.2f} ({one.seconds / usual.seconds:.2f}x)"
        lines.append(f"| {way} | {mean:.4f} | {beside} | {labels} | {passes} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--phantoms", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    folders = runs(given.out, given.epochs, given.threads)
    cases = phantoms(given.phantoms)
    loaded = {
        way: Predictor.load(folders[:members], device="cpu", quality=quality, changes=changes)
        for way, quality, members, changes in WAYS
    }
    found: dict[str, Found] = {}
    for _ in range(given.rounds):
        for way, predictor in loaded.items():
            one = measure(predictor, cases)
            found[way] = one if way not in found or one.seconds < found[way].seconds else found[way]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.machine()}, {cores} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f};", end=" ")
    print(f"two folds of {given.epochs} epochs, {len(cases)} phantoms of {' x '.join(map(str, make.UNSEEN.shape))}\n")
    print(table(found, loaded["standard"].table.names, len(cases)))


if __name__ == "__main__":
    main()
