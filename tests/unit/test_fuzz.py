"""Damaged files: a reader reads them or refuses them with words, soon and in little memory. See `tests.fuzzing`."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import fuzzing

SAMPLE, ALL, PROCESSES = 500, 20_000, 2


def judge(outcomes: list[dict[str, object]], seeds: range) -> None:
    found = fuzzing.faults(outcomes)
    assert not found, f"{len(found)} of {len(seeds)} files:\n" + "\n".join(found[:10])
    assert sorted(one["seed"] for one in outcomes) == list(seeds)  # type: ignore[type-var]
    for base in fuzzing.bases():  # damage that nobody notices, or that nothing survives, would test nothing
        counts = Counter(one["outcome"] for one in outcomes if one["base"] == base)
        assert counts["refused"] > counts.total() / 5, (base, counts)
        assert counts["read"] > counts.total() / 40, (base, counts)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    judge(fuzzing.run(range(SAMPLE), tmp_path / "fuzz"), range(SAMPLE))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_very_many_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    parts = [range(SAMPLE + first, SAMPLE + ALL, PROCESSES) for first in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        halves = pool.map(fuzzing.run, parts, [tmp_path / str(n) / "fuzz" for n in range(PROCESSES)])
        judge([one for half in halves for one in half], range(SAMPLE, SAMPLE + ALL))


def test_a_seed_says_all() -> None:
    first, again = (fuzzing.bases() for _ in range(2))
    for seed in range(60):
        assert fuzzing.damaged(seed, first) == fuzzing.damaged(seed, again)
    whole = {name: base.content for name, base in first.items() if base.wrap is None}
    changed = [fuzzing.damaged(seed, first) for seed in range(200)]
    assert sum(content != whole[name] for name, content in changed if name in whole) > 130


WATCHED = """
import json, os, sys, threading
good = {"base": "a", "outcome": "read", "words": "", "seconds": 0, "megabytes": 1}
for seed in range(*map(int, sys.argv[2:])):
    print(json.dumps({"begins": seed}), flush=True)
    if seed == 2:
        os._exit(3)
    if seed == 5:
        threading.Event().wait()
    print(json.dumps({"seed": seed, **good}), flush=True)
"""


def test_the_watch_goes_on_after_a_crash_and_after_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "COMMAND", [sys.executable, "-c", WATCHED])
    monkeypatch.setattr(fuzzing, "PATIENCE_S", 2)
    outcomes = fuzzing.run(range(8), tmp_path)
    assert [one["seed"] for one in outcomes] == list(range(8))
    assert {one["seed"]: one["outcome"] for one in outcomes if one["outcome"] != "read"} == {2: "crashed", 5: "hung"}
    assert [text.split()[4:6] for text in fuzzing.faults(outcomes)] == [["2", "3"], ["5", "6"]]


@pytest.mark.parametrize(
    "change", [{"outcome": "broken"}, {"seconds": 10.1}, {"megabytes": 2001}, {"outcome": "crashed"}]
)
def test_what_is_a_fault(change: dict[str, object]) -> None:
    good = {"seed": 1, "base": "a", "outcome": "refused", "words": "x", "seconds": 9.0, "megabytes": 1900}
    assert fuzzing.faults([good]) == []
    assert len(fuzzing.faults([{**good, **change}])) == 1
