"""What a curriculum of coarse patches saves, and what it costs in Dice.

    python benchmarks/curriculum.py WORK [--steps 160] [--seeds 3] [--side 64] [--patch 48]

A small plain U-Net learns phantoms (phantom.py) in three ways, which take turns: whole patches; the default curriculum
with as many steps; and the curriculum with as many steps as fit into the seconds of the whole patches. One process, one
thread, no workers, bf16. Seconds are the processor's between the first and the last step, preparation and validation
left out, because they do not hang on what else the machine does; the clock's are told beside them. Dice is that of
whole validation scans at full resolution, with the last weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import phantom
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from medseg import config
from medseg.engine.train import train

CASES = 8
"""Two of them validate."""
FEATURES = (8, 16, 32, 64)


class Result(NamedTuple):
    """One training."""

    steps: int
    processor_s: float
    clock_s: float
    dice: float
    per_label: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    for name, default in (("steps", 160), ("seeds", 3), ("side", 64), ("patch", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    make_data(wanted.work / f"data{wanted.side}", wanted.side)
    print(
        f"{platform.platform()}, {torch.__version__}, scans of {wanted.side}^3, patches of {wanted.patch}^3", flush=True
    )
    ways: dict[str, list[Result]] = {"whole patches": [], "curriculum": [], "curriculum, equal seconds": []}
    for seed in range(wanted.seeds):
        whole = trained(wanted, seed, wanted.steps, coarse_first=False)
        short = trained(wanted, seed, wanted.steps, coarse_first=True)
        longer = round(wanted.steps * whole.processor_s / short.processor_s)
        for way, result in zip(ways, (whole, short, trained(wanted, seed, longer, coarse_first=True)), strict=True):
            ways[way].append(result)
            print(f"seed {seed}, {way}: {result}", flush=True)
    show(ways)


def make_data(folder: Path, side: int) -> None:
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")
    for seed in range(CASES):
        image, labels = phantom.phantom(seed, (side,) * 3)
        spacing = (2.0, 2.0, 2.0)
        phantom.write(image, partial / "images" / f"p{seed}.nii.gz", spacing)
        phantom.write(labels, partial / "labels" / f"p{seed}.nii.gz", spacing)
    (partial / "labels.yaml").write_text(json.dumps({"labels": phantom.LABELS}), encoding="utf-8")
    partial.rename(folder)


def recipe(wanted: argparse.Namespace, seed: int, steps: int, *, coarse_first: bool) -> config.Recipe:
    """One epoch, so that only the end is validated."""
    data = {
        "name": "curriculum_benchmark",
        "seed": seed,
        "dataset": {"name": "folder", "root": str(wanted.work / f"data{wanted.side}")},
        "split": {"kind": "kfold", "folds": CASES // 2},
        "prepare": {
            "modalities": ["CT"],
            "spacing_mm": [2, 2, 2],
            "patch": [wanted.patch] * 3,
            "batch": 1,
            "crop": "none",
        },
        "cache": str(wanted.work / "cache"),
        "model": {"name": "unet", "features": list(FEATURES)},
        "train": {
            "epochs": 1,
            "steps": steps,
            "optimiser": "adamw",
            "lr": 0.003,
            "schedule": "cosine",
            "warmup_steps": 10,
            "foreground": 0.6,
            "precision": "bf16",
            "curriculum": {} if coarse_first else None,
            "workers": 0,
            "threads": 1,
            "device": "cpu",
        },
        "predict": {"precision": "32"},
        "metrics": ["dice"],
        "licence": "CC0-1.0",
    }
    return config.parse(data, where="benchmark")


def trained(wanted: argparse.Namespace, seed: int, steps: int, *, coarse_first: bool) -> Result:
    """Train anew, and time it from the first step to the last."""
    folder = wanted.work / "runs" / f"{wanted.side}-{wanted.patch}-{steps}-{seed}-{coarse_first}-{time.time_ns()}"
    ticks: list[tuple[float, float]] = []
    hook = register_optimizer_step_post_hook(lambda *_: ticks.append((time.process_time(), time.monotonic())))
    run = train(recipe(wanted, seed, steps, coarse_first=coarse_first), folder, announce=lambda text: None)
    hook.remove()
    entry = json.loads(run.path("log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    processor, clock = ((last - first) * steps / (steps - 1) for first, last in zip(ticks[0], ticks[-1], strict=True))
    return Result(steps, processor, clock, entry["dice"], entry["dice_per_label"])


def show(ways: dict[str, list[Result]]) -> None:
    print(f"\n| | steps | processor (s) | clock (s) | Dice, each seed | mean | {' | '.join(phantom.LABELS)} |")
    print("|---|---:|---:|---:|---|---:|" + "---:|" * len(phantom.LABELS))
    for way, results in ways.items():
        seconds = (f"{mean(getattr(result, name) for result in results):.1f}" for name in ("processor_s", "clock_s"))
        labels = (f"{mean(result.per_label[name] for result in results):.3f}" for name in phantom.LABELS)
        dice = [result.dice for result in results]
        print(
            f"| {way} | {', '.join(sorted({str(result.steps) for result in results}))} | {' | '.join(seconds)} "
            f"| {', '.join(f'{one:.3f}' for one in dice)} | {mean(dice):.3f} | {' | '.join(labels)} |"
        )


if __name__ == "__main__":
    main()
