"""Peak memory of a prediction under a limit, as the operating system counts it for the whole process.

    python benchmarks/memory.py --classes 105 --native 512 512 300 --prepared 320 320 400 --patch 96 --max-memory 4GiB
    python benchmarks/memory.py --native 512 512 300 --prepared 96 96 150 --max-memory 2GiB --lengths 200 400 800 1600

Makes a scan of noise and an untrained network with so many classes, and predicts the one with the other in a process of
its own, file to label file. What the labels are does not matter for memory. With `--lengths` the scan has so many
slices in turn, and labels are cleaned up as well: anonymous memory (what is not mapped from a file) should stay as it
is, and time grow with the length.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).parents[1]
RECIPE = """
name: memory
dataset: {{name: none}}
labels: {{{labels}}}
prepare: {{orientation: RAS, spacing_mm: [1, 1, 1], patch: [{patch}, {patch}, {patch}], crop: none}}
model: {{name: residual_unet, channels: [{channels}], blocks: 1}}
predict: {{skip_air: false}}
{extra}
"""
SETTLED = '{{"orientation": "RAS", "spacing_mm": [1, 1, 1], "patch": [{0}, {0}, {0}], "batch": 1, "crop": "none", '
SETTLED += '"order": 1, "channels": ["CT"], "normalisation": [{{"kind": "fixed", "mean": 0, "sd": 100}}]}}'
CLEAN_UP = "postprocess: [{name: keep_largest}, {name: fill_holes}]"
BLOB = 8
"""Sides of the cubes of noise that a scan is made of, in voxels; labels come in pieces of that size and more."""
GLANCE_S = 0.01
CHILD = f"""
import sys, threading, time
from medseg.__main__ import main

def status(name):
    lines = open('/proc/self/status', encoding='ascii').read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ':'))

anonymous, done = [0], threading.Event()
def watch():  # of all memory the kernel knows the peak, of this part alone it does not
    while not done.wait({GLANCE_S}):
        anonymous[0] = max(anonymous[0], status('RssAnon'))
watching = threading.Thread(target=watch)
watching.start()
try:
    main()
finally:
    done.set()
    watching.join()
    print(status('VmHWM'), anonymous[0], file=sys.stderr)
"""


@dataclass(frozen=True)
class Peak:
    """What a process took.

    Attributes:
        code: its exit code.
        peak_mib: the most that was resident, mapped files included.
        anonymous_mib: without those, looked at every hundredth of a second.
        seconds: from start to end.
        estimate_mib: what it said before; None where it refused.
        told: what it wrote on standard error.
    """

    code: int
    peak_mib: float
    anonymous_mib: float
    seconds: float
    estimate_mib: int | None
    told: str


def make_run(folder: Path, *, classes: int, patch: int, channels: Sequence[int] = (8, 16), extra: str = "") -> Path:
    """A run folder with random weights; `extra` is a further line of the recipe."""
    import torch

    from medseg import config
    from medseg.engine import checkpoint
    from medseg.engine.run import Run, build_network
    from medseg.labels import LabelTable

    folder.mkdir(parents=True)
    names = {f"organ {number}": number for number in range(1, classes)}
    text = RECIPE.format(
        labels=", ".join(f"{name}: {number}" for name, number in names.items()),
        patch=patch,
        channels=", ".join(map(str, channels)),
        extra=extra,
    )
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    (folder / "plan.json").write_text(SETTLED.format(patch), encoding="utf-8")
    (folder / "card.md").write_text("# card\n", encoding="utf-8")
    run, table = Run(folder), LabelTable.of(names)
    run.write("labels.json", table.to_json())
    (folder / "recipe.yaml").write_text(config.dump(run.recipe), encoding="utf-8")
    torch.manual_seed(0)
    network = build_network(run.recipe, run.plan, table)
    checkpoint.save(folder / "weights.safetensors", network.state_dict(), {"epoch": 1, "dice": 0.0})
    return folder


def make_scan(path: Path, native: Sequence[int], prepared: Sequence[int]) -> Path:
    """Cubes of noise, int16, with a voxel size by which it becomes so many voxels of 1 mm."""
    generator = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.int16, tuple(native))
    sides = [-(-size // BLOB) for size in native[:2]]
    for number, plane in enumerate(np.moveaxis(voxels, 2, 0)):
        if number % BLOB == 0:
            cubes = generator.integers(-1000, 1000, sides, np.int16).repeat(BLOB, 0).repeat(BLOB, 1)
        plane[:] = cubes[: native[0], : native[1]]
    affine = np.diag([*(new / old for new, old in zip(prepared, native, strict=True)), 1.0])
    nib.save(nib.Nifti1Image(voxels, affine), path)
    path.with_suffix(".npy").unlink()
    return path


def predict(run: Path, scan: Path, out: Path, *options: str, threads: int = 2) -> Peak:
    """Predict in a process of its own, on the CPU."""
    words = ["predict", str(run), str(scan), str(out), "--device", "cpu", "--threads", str(threads), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    *told, last = done.stderr.splitlines()
    peak, anonymous = (int(word) / 1024 for word in last.split())
    facts = {}
    if (out / "predict.json").exists():
        facts = json.loads((out / "predict.json").read_text(encoding="utf-8"))["cases"][0]["facts"]
    return Peak(done.returncode, peak, anonymous, seconds, facts.get("memory_estimate_mib"), "\n".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=105, help="background included")
    parser.add_argument("--native", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--prepared", type=int, nargs=3, default=(320, 320, 400))
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--channels", type=int, nargs="+", default=(16, 32, 64, 128), help="of the network's stages")
    parser.add_argument("--max-memory", default="4GiB")
    parser.add_argument("--lengths", type=int, nargs="+", help="numbers of slices, one scan after another")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("options", nargs="*", help="further words for `medseg predict`, after --")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        extra = CLEAN_UP if words.lengths else ""
        run = make_run(
            Path(folder) / "run", classes=words.classes, patch=words.patch, channels=words.channels, extra=extra
        )
        for length in words.lengths or [words.native[2]]:
            prepared = (*words.prepared[:2], max(1, length * words.prepared[2] // words.native[2]))
            scan = make_scan(Path(folder) / "scan.nii", (*words.native[:2], length), prepared)
            options = ("--max-memory", words.max_memory, *words.options)
            peak = predict(run, scan, Path(folder) / f"out {length}", *options, threads=words.threads)
            scan.unlink()
            shutil.rmtree(Path(folder) / f"out {length}")
            print(peak.told)
            print(
                f"{length} slices: exit code {peak.code}, peak {peak.peak_mib:.0f} MiB, anonymous "
                f"{peak.anonymous_mib:.0f} MiB, estimate {peak.estimate_mib} MiB, {peak.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
