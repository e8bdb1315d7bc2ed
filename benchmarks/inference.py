"""How long a scan takes from file to label file, and in how much memory: medseg, nnU-Net v2 and MONAI side by side.

    python benchmarks/inference.py WORK --train                     # once: data and weights, minutes
    python benchmarks/inference.py WORK --nnunet-python PYTHON      # the comparison

All run one set of weights (a plain U-Net with nnU-Net v2's layout) on one synthetic CT, each in a process of its own,
one after another, several rounds. Imports and the loading of weights are not part of the seconds, and are told beside
them. Memory is the peak of the resident set above what it was when imports and weights were there.

WORK keeps data, weights and labels; results go to WORK/results.json and as a Markdown table to the terminal. `mallopt`
behind a peer's name: with the allocator settings that medseg sets itself, which users of the peer do not have. "As it
comes": no setting given, so that the run's own proof decides on bf16, and `medseg tune WORK/run`, if it was called, on
the back end; the other rows of medseg are PyTorch's eager mode.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BASE = "nnU-Net"
MEDSEG = "medseg float32"
SAME = 0.995
"""Foreground Dice of every label between labels that should be the same."""
LEARNED = 0.8
"""Dice with the truth from which weights count as trained."""
AGREE = (
    (MEDSEG, BASE),
    ("medseg bf16", MEDSEG),
    ("medseg bf16, air skipped", "medseg bf16"),
    ("medseg float32, air skipped", MEDSEG),
    ("medseg as it comes", MEDSEG),
)
"""Pairs whose labels must be the same; the others are told."""
TOLD = (
    ("medseg bf16", BASE),
    ("medseg bf16, tiles around the body", "medseg bf16"),
    ("nnU-Net, torch resampling", BASE),
    ("MONAI", BASE),
    ("MONAI tuned", "MONAI"),
)
SKIPPING = {
    "": ["skip_air=false"],
    ", air skipped": ["skip_air=true"],
    ", tiles around the body": ["skip_air=true", "fit_body=true"],
}
"""What is done about the air around the patient."""
LIMIT = "1GiB"
"""More than the work takes; but under a limit no freed memory is kept, see `device.tune_allocator`."""
STAGES = ("read", "prepare", "network", "tiles", "reduce", "write")


@dataclass(frozen=True)
class Program:
    """One line of the table: a script of peers/, the Python that runs it, and what its job says besides."""

    script: str
    python: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def programs(work: Path, nnunet_python: str | None, every_peer_tuned: bool) -> dict[str, Program]:
    """In the order in which they are run."""
    ours = sys.executable
    run = {"model": str(work / "run")}
    found = {}
    for precision, name in (("32", "float32"), ("bf16", "bf16")):
        for words, skipping in SKIPPING.items():
            changes = [f"precision={precision}", *skipping, "backend=eager"]
            found[f"medseg {name}{words}"] = Program("by_medseg", ours, {**run, "changes": changes})
        within = {**run, "changes": [f"precision={precision}", *SKIPPING[""], "backend=eager"], "max_memory": LIMIT}
        found[f"medseg {name}, --max-memory {LIMIT}"] = Program("by_medseg", ours, within)
    found["medseg as it comes"] = Program("by_medseg", ours, {**run, "changes": []})
    peers = {}
    if nnunet_python:
        for resampling, name in (("default", BASE), ("torch", f"{BASE}, torch resampling")):
            peers[name] = Program("by_nnunet", nnunet_python, {"model": str(work / f"nnunet_{resampling}")})
    for tuned in (False, True):
        peers["MONAI" + " tuned" * tuned] = Program("by_monai", ours, {**run, "tuned": tuned})
    found |= peers
    if every_peer_tuned:
        for name, peer in peers.items():
            found[f"{name}, mallopt"] = Program(peer.script, peer.python, {**peer.settings, "mallopt": True})
    return found


def once(program: Program, name: str, work: Path, threads: int) -> dict[str, Any]:
    """Run a program on the scan; what it said, and where its labels are."""
    out = work / "out" / name.replace(" ", "_").replace(",", "")
    out.mkdir(parents=True, exist_ok=True)
    job = {"scan": str(work / "scan_0000.nii.gz"), "out": str(out), "threads": threads, **program.settings}
    (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [program.python, str(HERE / "peers" / f"{program.script}.py"), str(out / "job.json")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if program.python == sys.executable else None
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]), labels=str(next(out.glob("scan*.nii.gz"))))


def judged(runs: Mapping[str, Sequence[Mapping[str, Any]]], truth: Path) -> tuple[dict[str, Any], list[str]]:
    """Dice of every program with the truth and between programs; and sentences on what is below its bar."""
    import nibabel as nib
    import numpy as np
    import phantom

    def labels(path: Any) -> Any:
        return np.asarray(nib.load(path).dataobj).astype(np.uint8)

    found = {name: labels(several[-1]["labels"]) for name, several in runs.items()}
    told: dict[str, Any] = {"truth": {name: phantom.dice(each, labels(truth)) for name, each in found.items()}}
    low = [f"{name}: Dice {min(dice.values()):.3f} with the truth" for name, dice in told["truth"].items()]
    low = [line for line, dice in zip(low, told["truth"].values(), strict=True) if min(dice.values()) < LEARNED]
    for one, other in (*AGREE, *TOLD):
        if one in found and other in found:
            dice = told[f"{one} / {other}"] = phantom.dice(found[one], found[other])
            if (one, other) in AGREE and min(dice.values()) < SAME:
                low.append(f"{one} / {other}: Dice {min(dice.values()):.4f}, needed {SAME}")
    return told, low


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]], dice: Mapping[str, Any]) -> str:
    """Markdown: the fastest run of each program, its stages, the highest peak, and ratios to nnU-Net as shipped."""
    best = {name: min(several, key=lambda one: one["seconds"]) for name, several in runs.items()}
    peaks = {name: max(one["peak"] for one in several) for name, several in runs.items()}
    base = best.get(BASE)
    after = ("rest", "peak MiB", f"of {BASE}'s", "load s", "imports s", "Dice")
    heads = ["", "s", "median", "CPU s", "faster", *STAGES, *after]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, one in best.items():
        several = sorted(each["seconds"] for each in runs[name])
        stages = [one["stages"].get(stage) for stage in STAGES]
        rest = one["seconds"] - sum(one["stages"].values())
        cells = [
            f"{one['seconds']:.1f}",
            f"{several[len(several) // 2]:.1f}",
            f"{min(each['cpu'] for each in runs[name]):.1f}",
            f"{base['seconds'] / one['seconds']:.2f}x" if base else "",
            *("" if seconds is None else f"{seconds:.2f}" for seconds in stages),
            f"{rest:.2f}",
            f"{peaks[name] / 2**20:.0f}",
            f"{peaks[name] / peaks[BASE]:.2f}" if base else "",
            f"{one['load']:.1f}",
            f"{one['imports']:.1f}",
            f"{min(dice['truth'][name].values()):.3f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| labels | " + " | ".join(next(iter(dice["truth"].values()))) + " |", "|---|" + "---:|" * 4]
    for pair, each in dice.items():
        if pair != "truth":
            lines.append(f"| {pair} | {' | '.join(f'{value:.4f}' for value in each.values())} |")
    return "\n".join(lines)


def machine(nnunet_python: str | None) -> dict[str, str]:
    """What was measured on what."""
    from importlib.metadata import version

    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    found = {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "monai", "numpy", "nibabel")},
    }
    if nnunet_python:
        asks = "from importlib.metadata import version as v; print(v('nnunetv2'), v('torch'))"
        said = subprocess.run([nnunet_python, "-c", asks], capture_output=True, text=True, check=True).stdout.split()
        found |= {"nnunetv2": said[0], "torch beside nnunetv2": said[1]}
    return found


def prepare(work: Path) -> None:
    """Train, write the weights for nnU-Net, and the scan with its truth."""
    import phantom
    import trained

    work.mkdir(parents=True, exist_ok=True)
    trained.for_nnunet(trained.learned(work), work)
    image, labels = phantom.phantom(0)
    phantom.write(image, work / "scan_0000.nii.gz")
    phantom.write(labels, work / "truth.nii.gz")


def _save(results: Mapping[str, Any], work: Path) -> None:
    (work / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("work", type=Path, metavar="WORK", help="folder for data, weights and results")
    asked.add_argument("--train", action="store_true", help="make data and weights first; goes on where it was stopped")
    asked.add_argument("--nnunet-python", help="Python of an environment with nnunetv2 (see benchmarks/README.md)")
    asked.add_argument("--rounds", type=int, default=3, help="how often each program runs [default: 3]")
    asked.add_argument("--only", nargs="+", metavar="NAME", help="names of the table, or how they begin")
    asked.add_argument("--threads", type=int, default=0, help="of torch; 0: as each program has it")
    asked.add_argument("--no-mallopt", action="store_true", help="leave out the peers with allocator settings")
    given = asked.parse_args()
    if given.train:
        prepare(given.work)
    if not (given.work / "scan_0000.nii.gz").exists():
        sys.exit(f"{given.work}: no data and weights there; add --train")
    chosen = programs(given.work, given.nnunet_python, not given.no_mallopt)
    if given.only:
        chosen = {name: each for name, each in chosen.items() if name.startswith(tuple(given.only))}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    results: dict[str, Any] = {"machine": machine(given.nnunet_python), "load": os.getloadavg(), "runs": runs}
    for number in range(given.rounds):
        for name, program in chosen.items():
            runs[name].append(once(program, name, given.work, given.threads))
            print(f"round {number + 1}: {name} {runs[name][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
            _save(results, given.work)  # an hour's work may be stopped
    dice, low = judged(runs, given.work / "truth.nii.gz")
    _save({**results, "dice": dice, "below": low}, given.work)
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items()) + "\n")
    print(table(runs, dice))
    if low:
        sys.exit("\n" + "\n".join(f"Below the bar: {line}" for line in low))


if __name__ == "__main__":
    main()
