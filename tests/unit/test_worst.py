"""Which cases a report has pictures of."""

import math

from hypothesis import given
from hypothesis import strategies as st

from medseg.engine.scores import Score
from medseg.engine.worst import Worst
from medseg.report import Drawn

DICE = st.one_of(st.floats(0, 1), st.just(math.nan))


def rows(case: str, values: list[float]) -> list[Score]:
    return [Score(case, case, f"label {place}", {"dice": value}) for place, value in enumerate(values)]


def drawn(case: str) -> Drawn:
    return Drawn(case, (), (), (), True)


def kept(cases: dict[str, list[float]], most: int) -> list[str]:
    worst = Worst(most)
    for case, values in cases.items():
        worst.offer(case, rows(case, values), lambda case=case: drawn(case))
    return [one.case for one in worst.drawn]


def test_the_lowest_mean_dice_comes_first_and_ties_go_by_name():
    cases = {"d": [0.9, 0.7], "b": [0.8], "a": [0.8, math.nan], "c": [0.1], "e": [0.95]}
    assert kept(cases, 3) == ["c", "a", "b"]


def test_a_case_without_any_defined_dice_comes_last():
    assert kept({"a": [math.nan], "b": [1.0]}, 2) == ["b", "a"]


def test_only_what_is_on_the_list_is_drawn():
    def never() -> Drawn:
        raise AssertionError("drawn for nothing")

    worst = Worst(1)
    worst.offer("a", rows("a", [0.2]), lambda: drawn("a"))
    worst.offer("b", rows("b", [0.3]), never)
    assert [one.case for one in worst.drawn] == ["a"]


@given(cases=st.dictionaries(st.text(max_size=3), st.lists(DICE, max_size=3), max_size=9), most=st.integers(1, 4))
def test_the_order_in_which_cases_come_does_not_matter(cases, most):
    assert kept(cases, most) == kept(dict(reversed(cases.items())), most)
    assert len(kept(cases, most)) == min(most, len(cases))
