"""What a gate costs, on numbers that can be checked on paper; end_to_end/test_tasks.py runs one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg import statistics
from medseg.case import Case
from medseg.engine import gate
from medseg.prediction import Evidence


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
