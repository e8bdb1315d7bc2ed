"""One tiny data set and one tiny training, shared by the tests of this folder; none of them changes these."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tiny


@dataclass(frozen=True)
class Trained:
    """Where things are, and what the training said."""

    data: Path
    recipe: Path
    run: Path
    said: tiny.Said


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    root = tmp_path_factory.mktemp("tiny")
    data = tiny.data_set(root / "data")
    recipe = tiny.recipe(root / "recipe.yaml", data)
    said = tiny.medseg_command("train", recipe, "--out", root / "run")
    assert said.code == 0, said.err
    return Trained(data, recipe, root / "run", said)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """A run with random weights, which labels every voxel of a scan with one of its classes at random."""
    return tiny.untrained_run(tmp_path_factory.mktemp("untrained") / "run", spacing=(2, 2, 2)).folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small-runs", type=Path, help="write the table of the small recipes' runs to this file")


HEAD = """# The small recipes, three seeds each

Made by `pytest tests/end_to_end -m slow -k small --small-runs docs/small-runs.md` on {machine}, cores: {cores}, torch
{torch}. Each recipe of `pipelines/small` is prepared, trained, used and evaluated on the synthetic data of
`sample_data`, with patients held out. Main metric: mean Dice over labels and cases, or mean AUROC over classes.
Baseline: thresholds on intensity fitted on the training side (for AUROC the best of simple features, and at least the
majority class's 0.5). These are phantoms: the numbers show that everything works together, and say nothing about
patients.

| recipe | baseline | seed 1 | seed 2 | seed 3 | mean | minutes a run |
|---|---:|---:|---:|---:|---:|---:|
"""


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    import platform

    import torch

    from medseg.cores import available_cores

    path = config.getoption("--small-runs", default=None)  # unknown when the whole suite runs
    if path is None:
        return
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    values = [value for report in reports for name, value in report.user_properties if name == "small run"]
    # recipes that were not run this time keep their rows
    former = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {line.split(" | ")[0].strip("| "): line for line in former if line.startswith("| ")}
    rows.pop("recipe", None)
    for row in map(json.loads, values):
        rows[row["recipe"]] = (
            f"| {row['recipe']} | {row['baseline']:.3f} | {' | '.join(f'{seed:.3f}' for seed in row['seeds'])} "
            f"| {sum(row['seeds']) / len(row['seeds']):.3f} | {row['minutes']:.1f} |"
        )
    head = HEAD.format(
        machine=f"{platform.system()} {platform.machine()}", cores=available_cores(), torch=torch.__version__
    )
    path.write_text(head + "\n".join(rows[name] for name in sorted(rows)) + "\n", encoding="utf-8")
