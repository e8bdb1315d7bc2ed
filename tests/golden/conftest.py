"""`pytest tests/golden --parity docs/parity.md` writes the table of how near every network is to its original.

Each golden test says its result through `record_property("parity", <JSON>)`: network, file, parameters (0 where there
are none), error, limit.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

HEAD = """# How near the networks are to their originals

Made by `pytest tests/golden --parity docs/parity.md` on {machine}, torch {torch}. Weights and inputs follow
a rule (`tests/golden/fill.py`, `fill_2d.py`), so no published weights are involved: this compares architectures and
arithmetic. Error: the largest difference to the original's output, in units of its standard deviation (3-D networks) or
of its largest value (2-D networks and pipelines). Limit: what the test allows; the originals' own float32 noise is 1e-7
to 7e-5.

| what | reference | parameters | error | limit |
|---|---|---:|---:|---:|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", type=Path, help="write the table of parity to this file")


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    path = config.getoption("--parity", default=None)  # unknown when the whole suite runs
    if path is None:
        return
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    rows = [json.loads(value) for report in reports for name, value in report.user_properties if name == "parity"]
    if exitstatus or not rows:
        raise pytest.UsageError("--parity: the golden tests must all pass to make the table")
    path.write_text(table(rows), encoding="utf-8")
    terminalreporter.write_line(f"{len(rows)} rows written to {path}")


def table(rows: list[dict]) -> str:
    import torch

    lines = [
        f"| {row['network']} | {row['file']} | {format(row['parameters'], ',') if row['parameters'] else ''} "
        f"| {row['error']:.1e} | {row['limit']:.0e} |"
        for row in sorted(rows, key=lambda row: (row["network"], row["file"]))
    ]
    return (
        HEAD.format(machine=f"{platform.system()} {platform.machine()}", torch=torch.__version__)
        + "\n".join(lines)
        + "\n"
    )
