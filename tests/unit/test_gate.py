"""What a gate costs, on numbers that can be checked on paper; end_to_end/test_tasks.py runs one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medseg import scratch, statistics
from medseg.case import Case
from medseg.engine import gate
from medseg.labels import LabelTable
from medseg.prediction import Evidence, Prediction
from medseg.volume import Volume


def seen(name: str, flags: list[int], sizes: list[int]) -> Evidence:
    """A case of slices of 2 x 2 voxels, of which so many have a label."""
    labelled = np.zeros((4, len(sizes)), bool)
    for k, size in enumerate(sizes):
        labelled[:size, k] = True
    inside = np.broadcast_to(np.array(flags, bool), (2, 2, len(flags)))
    return gate.side_by_side(Case(name, name, {"CT": Path(name)}), inside, labelled.reshape(2, 2, -1))


def test_the_cost_counts_slices_and_voxels_of_all_cases() -> None:
    """Labelled slices: three of four flagged, with 7 of 8 voxels; of four others three are spared."""
    cases = [seen("a", [1, 1, 0, 0], [4, 2, 1, 0]), seen("b", [1, 1, 0, 0], [0, 1, 0, 0])]
    assert gate.cost(cases) == {"sensitivity": 3 / 4, "specificity": 3 / 4, "labelled voxels kept": 7 / 8}


def test_its_interval_draws_patients() -> None:
    """One patient keeps all and one loses all: both drawn one half, one of them twice 1 or 0."""
    cases = [seen("a", [1, 0], [4, 0]), seen("b", [0, 1], [4, 0])]
    bounds = statistics.intervals(gate.cost, cases)
    assert bounds == dict.fromkeys(("sensitivity", "specificity", "labelled voxels kept"), (0, 1))


def test_without_labels_no_sensitivity_is_claimed() -> None:
    found = gate.cost([seen("a", [1, 0], [0, 0])])
    assert found["specificity"] == 0.5
    assert [found[name] for name in ("sensitivity", "labelled voxels kept")] == pytest.approx([np.nan] * 2, nan_ok=True)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("slow", [0, 2])
def test_labels_and_probabilities_outside_flagged_slices_go_where_they_lie(slow: int, regions: bool) -> None:
    """They may lie on disk, larger than memory, so no copy of them is made."""
    table = LabelTable.of({"a": [1, 2], "b": [2]} if regions else {"a": 1, "b": 2})
    shape = (2 if regions else 1, 40, 5, 6)
    target = scratch.zeros(shape, np.uint8, slowest=slow)
    target[:] = np.random.default_rng(0).integers(0, 2, shape)
    chances = scratch.zeros((2, 40, 5, 6), np.float32, slowest=slow)
    chances[:] = 0.5
    inside = np.zeros((1, 40, 5, 6), bool)
    inside[:, 3:30] = True
    expected = np.where(inside, target, 0)
    lost = int(target.sum() - expected.sum())
    closed = gate.Gate(SimpleNamespace(provenance={"model": "g", "weights sha256": "0"}))  # type: ignore[arg-type]
    before = Prediction("x", table, Volume(target, np.eye(4)), probabilities=chances)
    found, facts = closed.limited(before, inside, {"slices": 40})
    assert (found.target.array == expected).all() and np.shares_memory(found.target.array, target)
    assert found.probabilities is chances and (chances == np.where(inside, np.float32(0.5), 0)).all()
    assert facts == {"gate": {"slices": 40, "voxels taken away": lost}}
