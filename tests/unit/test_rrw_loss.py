"""RRWNet's loss on values that can be checked on paper."""

from __future__ import annotations

import math

import pytest
import torch

from medseg.labels import IGNORE
from medseg.losses import rrw

LOG2 = math.log(2)


def maps(*rows: list[float]) -> torch.Tensor:
    """One case, a channel for each row, pixels along I."""
    return torch.tensor(rows).view(1, len(rows), -1, 1, 1)


def measure(outputs: list[torch.Tensor], target: torch.Tensor, *, exclusive: bool = False) -> float:
    return rrw.build(rrw.Options(), exclusive=exclusive)(outputs, target).item()


def test_labels_add_up():
    # No opinion costs log 2 for each of three labels, whatever is there.
    assert measure([torch.zeros(1, 3, 2, 1, 1)], maps([1, 0], [0, 1], [1, 1])) == pytest.approx(3 * LOG2)


def test_each_label_is_averaged_over_the_places_where_it_is_known():
    # Pixel 2 is a vessel that may be artery or vein, pixel 3 lies outside the field of view. Logits 0: log 2; 50: 0.
    target = maps([1, IGNORE, IGNORE], [0, IGNORE, IGNORE], [1, 1, IGNORE]).to(torch.uint8)
    logits = maps([0.0, 99, 99], [-50.0, 99, 99], [0.0, 50, 99])
    assert measure([logits], target) == pytest.approx(LOG2 + 0 + LOG2 / 2)
    assert measure([logits], target.long()) == pytest.approx(1.5 * LOG2)


def test_what_is_not_known_gets_no_gradient():
    logits = torch.zeros(1, 3, 2, 1, 1, requires_grad=True)
    target = maps([1, IGNORE], [0, IGNORE], [1, 1])
    rrw.build(rrw.Options(), exclusive=False)([logits], target).backward()
    assert (logits.grad.flatten() != 0).tolist() == [True, False, True, False, True, True]


def test_a_label_that_is_known_nowhere_counts_nothing():
    assert measure([torch.zeros(1, 2, 1, 1, 1)], maps([IGNORE], [1])) == pytest.approx(LOG2)
    assert measure([torch.zeros(1, 2, 1, 1, 1)], maps([IGNORE], [IGNORE])) == 0


def test_weights_of_the_recursion():
    assert rrw.recursion_weights(1) == [1]
    assert rrw.recursion_weights(2) == [1, 1]
    assert rrw.recursion_weights(4) == [3 / 6, 2 / 6, 1 / 6, 1]


def test_the_final_answer_comes_first_and_weighs_most():
    target, zero, sure = maps([1]), torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 50.0)
    assert measure([zero, sure, sure], target) == pytest.approx(2 / 3 * LOG2)
    assert measure([sure, zero, sure], target) == pytest.approx(1 / 3 * LOG2)
    assert measure([sure, sure, zero], target) == pytest.approx(LOG2)


def test_labels_that_exclude_each_other():
    target = maps([0, 2, IGNORE])
    logits = torch.zeros(1, 3, 3, 1, 1)
    logits[0, 0, 0] = 99
    assert measure([logits], target, exclusive=True) == pytest.approx(math.log(3) / 2)
