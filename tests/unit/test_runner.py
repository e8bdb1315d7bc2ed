"""A case that fails does not stop the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.case import Case
from medseg.engine.runner import run_all
from medseg.refusal import Refusal

CASES = [Case(name, name, {"CT": Path(name)}) for name in ("good", "refused", "broken", "fine")]


def work(case: Case):
    if case.id == "refused":
        raise Refusal("x.nii", found="a", needed="b", remedy="c")
    if case.id == "broken":
        raise ZeroDivisionError("division by zero")
    return (f"{case.id}.nii",), {"ml": 1}


def test_every_case_has_its_outcome():
    outcomes = list(run_all(CASES, work))
    assert [(outcome.case, outcome.state, outcome.files) for outcome in outcomes] == [
        ("good", "done", ("good.nii",)),
        ("refused", "refused", ()),
        ("broken", "failed", ()),
        ("fine", "done", ("fine.nii",)),
    ]
    assert outcomes[1].reason == "x.nii: found a; needed b. What to do: c."
    assert outcomes[2].reason == "ZeroDivisionError: division by zero"
    assert outcomes[0].to_json()["facts"] == {"ml": 1} and outcomes[0].seconds >= 0


def test_an_interrupt_ends_the_batch():
    def interrupted(case: Case):
        if case.id == "refused":
            raise KeyboardInterrupt
        return (), {}

    seen = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(outcome.case for outcome in run_all(CASES, interrupted))
