"""Values in words."""

import math

import numpy as np
import pytest

from medseg import wording


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (math.nan, "undefined"),
        (np.float32("nan"), "undefined"),
        (math.inf, "infinite: one mask empty"),
        (-math.inf, "minus infinity"),
        (0.91234, "0.912"),
        (np.float32(0.5), "0.500"),
        (0.0, "0.000"),
        (3e-4, "0.0003"),
        (41.26, "41.3"),
        (12345.6, "12,346"),
        (7, "7"),
        (np.int64(7), "7"),
        (True, "True"),
        (None, "–"),
        ("as it is", "as it is"),
    ],
)
def test_value(given: object, words: str) -> None:
    assert wording.value(given) == words


def test_one_column_has_one_number_of_digits() -> None:
    assert wording.digits_for([0.9, math.nan, 1.0, "text", None]) == 3
    assert wording.digits_for([4.2, 31.0, math.inf]) == 2
    assert wording.digits_for([4.2, -310.0]) == 1
    assert wording.digits_for([1, 2, 3]) is None, "whole numbers stay whole"
    assert wording.digits_for([3e-4, 1e-5]) is None, "fixed digits would print zero"
    assert wording.value(4.2, digits=2) == "4.20"
    assert wording.value(math.nan, digits=2) == "undefined"


def test_is_number() -> None:
    assert [wording.is_number(v) for v in (1, 1.0, np.float32(1), math.nan)] == [True] * 4
    assert [wording.is_number(v) for v in ("1", None, True)] == [False] * 3
