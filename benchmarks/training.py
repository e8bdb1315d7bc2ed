"""How fast training goes, and how much of the time the network waits for data: medseg and nnU-Net v2 side by side.

    python benchmarks/training.py WORK --nnunet-python PYTHON       # two programs, taking turns
    python benchmarks/training.py WORK --networks stunet swin_unetr # on a CUDA GPU: medseg's share of the card's peak
    python benchmarks/training.py WORK --scaling                    # one process on one core, and two on two

Both train one network (a plain U-Net with nnU-Net v2's layout) on the same prepared arrays, with the same patch, batch,
loss, optimiser and probabilities of augmentation, each in a process of its own, several rounds. Each is its own whole
loop: nnU-Net's trainer with its own workers, medseg's `train` with its own. A step is counted from the end of the one
before to its own end; those of the start, in which workers fill their queues and compilers work, are not counted, and
the seconds until then are told. "Waiting" is the share of the time in which a loop waited for its next batch.

WORK keeps data; results go to WORK/training.json and as a Markdown table to the terminal. `mallopt` behind nnU-Net's
name: with the allocator settings that medseg sets itself, which users of nnU-Net do not have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import phantom
import torch
import trained
import yaml
from inference import HERE, machine

from medseg import config
from medseg.data.cache import open_case
from medseg.engine.material import assemble

BASE = "nnU-Net"
CASES, VALIDATING = range(1, 9), 5
"""Seeds of the phantoms; one in five validates, and no step sees it."""
FEATURES = {"cpu": (16, 32, 64, 128), "cuda": (32, 64, 128, 256, 320, 320)}
SIDE = {"cpu": 64, "cuda": 128}
BATCH = 2
STEPS = {"cpu": (4, 12), "cuda": (40, 120)}
"""Steps that are not counted, and those that are."""
SCALING = {"one process, one core": 1, "two processes, two cores": 2}
NETWORKS = {"stunet": {"name": "stunet", "size": "B"}, "swin_unetr": {"name": "swin_unetr", "deep_supervision": False}}


def recipe(
    work: Path, device: str, precision: str = "32", model: Mapping[str, Any] | None = None, **train: Any
) -> config.Recipe:
    """What medseg trains; nnU-Net's ranges and rates are medseg's defaults."""
    model = model or {"name": "unet", "features": list(FEATURES[device])}
    data = {
        "name": "training_benchmark",
        "dataset": {"name": "folder", "root": str(work / "data"), "channels": []},
        "split": {"kind": "kfold", "folds": VALIDATING},
        "prepare": {
            "modalities": ["CT"],
            "spacing_mm": list(phantom.SPACING_MM),
            "patch": [SIDE[device]] * 3,
            "batch": BATCH,
            "crop": "none",
        },
        "cache": str(work / "cache"),
        "model": dict(model),
        "augment": {"mirror": ["left-right", "anterior-posterior", "inferior-superior"]},
        "train": {"epochs": 1000, "steps": 250, "device": device, "precision": precision, **train},
        "metrics": ["dice"],
        "licence": "CC0-1.0",
    }
    return config.parse(data, where="benchmark")


def prepare(work: Path, device: str) -> None:
    """Phantoms, prepared by medseg, and the same arrays for nnU-Net."""
    if (work / "arrays" / "cases.json").exists():
        return
    for seed in CASES:
        image, labels = phantom.phantom(seed)
        phantom.write(image, work / "data" / "images" / f"case{seed}.nii.gz")
        phantom.write(labels, work / "data" / "labels" / f"case{seed}.nii.gz")
    (work / "data" / "labels.yaml").write_text(yaml.safe_dump({"labels": phantom.LABELS}, sort_keys=False))
    material = assemble(recipe(work, device), None, announce=lambda text: print(text, file=sys.stderr))
    (work / "arrays").mkdir()
    for name, folder in material.prepared.items():
        case = open_case(folder)
        np.savez(work / "arrays" / f"{name}.npz", image=np.asarray(case.image), target=np.asarray(case.target))
    sides = {"train": list(material.split.train), "val": list(material.split.validation)}
    (work / "arrays" / "cases.json").write_text(json.dumps(sides), encoding="utf-8")


def scaling(work: Path) -> dict[str, dict[str, Any]]:
    """Jobs of one process that has one core, and of two that have one each."""
    made = {name: recipe(work, "cpu", threads=1, devices=number, workers=0) for name, number in SCALING.items()}
    return {
        name: {"script": "train_by_medseg", "recipe": config.dump(each), "cores": SCALING[name]}
        for name, each in made.items()
    }


def programs(work: Path, device: str, nnunet_python: str | None, networks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Jobs by the names of the table, in the order in which they run."""
    found: dict[str, dict[str, Any]] = {}
    for precision in ("bf16",) if device == "cuda" else ("32", "bf16"):
        name = {"32": "medseg float32", "bf16": "medseg bf16"}[precision]
        found[name] = {"script": "train_by_medseg", "recipe": config.dump(recipe(work, device, precision))}
    for name in networks:
        made = recipe(work, device, "bf16", NETWORKS[name])
        found[f"{name}, medseg bf16"] = {"script": "train_by_medseg", "recipe": config.dump(made)}
    if nnunet_python:
        job = {
            "script": "train_by_nnunet",
            "python": nnunet_python,
            "architecture": trained.architecture(FEATURES[device]),
        }
        found[BASE] = job | {"patch": [SIDE[device]] * 3, "batch": BATCH, "labels": phantom.LABELS}
        if device == "cpu":
            found[f"{BASE}, mallopt"] = found[BASE] | {"mallopt": True}
    return found


def once(job: Mapping[str, Any], name: str, work: Path, device: str) -> dict[str, Any]:
    """Run a program; what it said."""
    out = work / "out" / name.replace(" ", "_").replace(",", "")
    out.mkdir(parents=True, exist_ok=True)
    skipped, counted = STEPS[device]
    whole = {**job, "work": str(work), "out": str(out), "device": device, "skipped": skipped, "counted": counted}
    (out / "job.json").write_text(json.dumps(whole), encoding="utf-8")
    python = job.get("python", sys.executable)
    pinned = ["taskset", "-c", ",".join(map(str, range(job["cores"])))] if "cores" in job else []
    command = [*pinned, python, str(HERE / "peers" / f"{job['script']}.py"), str(out / "job.json")]
    ours = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    environment = {**os.environ, **(ours if python == sys.executable else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]], peak: float | None) -> str:
    """Markdown: the median step of each program over all rounds, and ratios to nnU-Net as shipped."""
    steps = {name: np.concatenate([one["steps"] for one in several]) for name, several in runs.items()}
    mean = {name: float(np.mean(each)) for name, each in steps.items()}
    heads = [
        "",
        "samples/s",
        "ms a step",
        "median",
        "faster",
        "waiting",
        "GPU busy",
        "of the peak",
        "start s",
        "memory GiB",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, several in runs.items():
        waited = sum(sum(one["waits"]) for one in several) / steps[name].sum()
        busy = [one["busy"] for one in several if one.get("busy") is not None]
        flops = several[0].get("flops")
        cells = [
            f"{BATCH * SCALING.get(name, 1) / mean[name]:.2f}",
            f"{1000 * mean[name]:.0f}",
            f"{1000 * float(np.median(steps[name])):.0f}",
            f"{mean[BASE] / mean[name]:.2f}x" if BASE in mean and "," not in name.replace(f"{BASE},", "") else "",
            f"{waited:.1%}",
            f"{np.mean(busy):.0f} %" if busy else "",
            f"{flops / mean[name] / peak:.0%}" if flops and peak else "",
            f"{min(one['start'] for one in several):.0f}",
            f"{max(one['memory'] for one in several) / 2**30:.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def matrix_peak() -> float:
    """Operations a second of a large product of bf16 matrices on the card, the best of some."""
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        one @ other
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) / 1000)
    return 2 * 8192**3 / best


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("work", type=Path, metavar="WORK", help="folder for data and results")
    asked.add_argument("--nnunet-python", help="Python of an environment with nnunetv2 (see benchmarks/README.md)")
    asked.add_argument("--device", choices=["cpu", "cuda"], help="[default: cuda where there is a GPU]")
    asked.add_argument("--networks", nargs="*", choices=[*NETWORKS], default=[], help="further ones, medseg alone")
    asked.add_argument("--scaling", action="store_true", help="medseg alone, with one and with two CPU processes")
    asked.add_argument("--rounds", type=int, default=3, help="how often each program runs [default: 3]")
    asked.add_argument("--only", nargs="+", metavar="NAME", help="names of the table")
    given = asked.parse_args()
    device = "cpu" if given.scaling else given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    given.work.mkdir(parents=True, exist_ok=True)
    prepare(given.work, device)
    side_by_side = programs(given.work, device, given.nnunet_python, given.networks)
    chosen = scaling(given.work) if given.scaling else side_by_side
    chosen = {name: job for name, job in chosen.items() if not given.only or name in given.only}
    facts = machine(given.nnunet_python) | ({"card": torch.cuda.get_device_name()} if device == "cuda" else {})
    peak = matrix_peak() if device == "cuda" else None
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for number in range(given.rounds):
        for name, job in chosen.items():
            runs[name].append(once(job, name, given.work, device))
            took = 1000 * float(np.mean(runs[name][-1]["steps"]))
            print(f"round {number + 1}: {name} {took:.0f} ms a step", file=sys.stderr, flush=True)
            results = {"machine": facts, "load": os.getloadavg(), "peak": peak, "runs": runs}
            (given.work / "training.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    if peak:
        print(f"product of bf16 matrices: {peak / 1e12:.0f} TFLOP/s")
    print("\n" + table(runs, peak))


if __name__ == "__main__":
    main()
