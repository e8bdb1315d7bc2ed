"""Paired tests by patient, Holm's correction and rankings, beside SciPy's and numbers worked out on paper."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg import paired

NAN, INF = math.nan, math.inf
SOME = st.lists(st.floats(-3, 3, allow_subnormal=False) | st.integers(-3, 3), min_size=3, max_size=8)


def test_differences_of_what_is_infinite():
    found = paired.differences(np.array([INF, INF, 1, NAN, 2]), np.array([INF, 1, INF, 1, 0.5]))
    assert found[[0, 1, 2, 4]].tolist() == [0, INF, -INF, 1.5] and math.isnan(found[3])


@settings(max_examples=20, deadline=None)
@given(SOME)
def test_signed_ranks_are_scipys(values):
    given_ = np.array(values, np.float64)
    found = paired.wilcoxon(np.append(given_, NAN))
    if given_.any():
        assert found.p == pytest.approx(stats.wilcoxon(given_, zero_method="pratt").pvalue)
    else:
        assert found == (1, 0)
    assert paired.wilcoxon(-given_) == (pytest.approx(found.p), -found.side)


def test_signed_ranks_of_more_patients_are_scipys_too():
    ties = np.array([1, 1, 2, 2, 3, -3, 4, 0, 0, 5, 6, -1, 2, 7, 8.0])
    for values in (ties, ties[:13], np.random.default_rng(0).normal(0.3, size=40)):
        assert paired.wilcoxon(values).p == pytest.approx(stats.wilcoxon(values, zero_method="pratt").pvalue)


def test_infinite_differences_are_larger_than_finite_ones_and_not_left_out():
    finite, endless = (np.array([last, 1, -2, 3, 4, 5]) for last in (99, INF))
    assert paired.wilcoxon(endless) == paired.wilcoxon(finite)
    assert paired.permutation(endless) == paired.permutation(np.array([6.0, 1, -2, 3, 4, 5]))


def test_flipped_signs_of_few_patients_are_all_patterns():
    values = np.array([0.3, -0.1, 0.5, 0.2, 0.4, 0.1])
    flipped = [abs((values * signs).mean()) for signs in itertools.product((1, -1), repeat=6)]
    expected = np.mean([one >= abs(values.mean()) - 1e-12 for one in flipped])
    assert paired.permutation(values) == (pytest.approx(expected), 1)
    assert paired.permutation(-values) == (pytest.approx(expected), -1)
    assert paired.permutation(np.zeros(5)) == (1, 0)


@pytest.mark.parametrize("test", paired.TESTS.values())
def test_nothing_to_test(test):
    assert math.isnan(test(np.array([NAN, NAN])).p) and test(np.array([0.5])).p == 1


@pytest.mark.parametrize("test", paired.TESTS.values())
def test_without_a_difference_p_is_even(test):
    """Of 200 tests at 5 %, about 10 find something; where patients differ by their spread, nearly all do."""
    generator = np.random.default_rng(4)
    none = [test(generator.normal(size=9)).p < 0.05 for _ in range(200)]
    some = [test(generator.normal(1.5, 1, size=12)).p < 0.05 for _ in range(40)]
    assert 2 <= sum(none) <= 20 and sum(some) > 35


def test_holm_on_paper():
    """0.01 x 4, then 0.02 x 3, then 0.03 x 2 = 0.06, and what comes after is never less."""
    assert paired.holm([0.03, 0.01, NAN, 0.02, 0.055])[:2] == pytest.approx([0.06, 0.04])
    assert paired.holm([0.03, 0.01, NAN, 0.02, 0.055])[3:] == pytest.approx([0.06, 0.06])
    assert math.isnan(paired.holm([NAN])[0]) and paired.holm([0.6, 0.7]) == [1, 1] and paired.holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(values):
    corrected = paired.holm(values)
    assert all(p <= found <= min(1, p * len(values)) + 1e-12 for p, found in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= -1e-12).all()


def test_ranks_by_direction():
    values = np.array([[0.5, -0.9, 0.7], [INF, 3, INF], [NAN, 1, 2]])
    assert paired.ranks(values, "higher")[0].tolist() == [2, 3, 1]
    assert paired.ranks(values, "lower")[:2].tolist() == [[2, 1, 3], [2.5, 1, 2.5]]
    assert paired.ranks(values, "nearer zero")[0].tolist() == [1, 3, 2]
    assert np.isnan(paired.ranks(values, "lower")[2]).all(), "a case in which one is undefined ranks none"


def test_a_run_that_is_always_best_keeps_its_place_and_two_that_take_turns_do_not():
    ranks = np.array([[1, 2, 3], [1, 3, 2]] * 10, np.float64)
    found = paired.ranking(ranks, np.arange(20))
    assert found.mean.tolist() == [1, 2.5, 2.5] and found.place.tolist() == [1, 2.5, 2.5]
    assert found.shares[0].tolist() == [1, 0, 0] and found.shares[1, 1] == pytest.approx(0.6, abs=0.1)
    assert found.shares.sum(axis=1) == pytest.approx(1)
    one_patient = paired.ranking(np.repeat(ranks[:1], 20, axis=0), np.zeros(20, np.int64))
    assert one_patient.tau == 1 and one_patient.shares.tolist() == np.eye(3).tolist()


def test_agreement_of_draws_is_kendalls_tau():
    generator = np.random.default_rng(3)
    ranks = paired.ranks(generator.normal(size=(12, 5)) + np.arange(5) / 3, "lower")
    who = np.arange(12) // 2
    found = paired.ranking(ranks, who, draws=60)
    whole = ranks.mean(axis=0)
    taus = []
    for chosen in np.random.default_rng(0).integers(6, size=(60, 6)):
        drawn = np.concatenate([ranks[who == one] for one in chosen]).mean(axis=0)
        taus.append(stats.kendalltau(whole, drawn).statistic)
    assert found.tau == pytest.approx(np.mean(taus))
    assert math.isnan(paired.ranking(np.ones((4, 3)) * 2, np.arange(4)).tau)
