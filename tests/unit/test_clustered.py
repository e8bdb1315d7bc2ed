"""Means of values that belong to patients, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg import clustered
from tests.tiny import ROOT

NAN, INF = math.nan, math.inf


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def test_means_leave_out_the_undefined_and_keep_the_infinite():
    values = np.array([[1, NAN, 1, NAN], [3, 4, INF, NAN]])
    assert clustered.mean(values).tolist()[:3] == [2, 4, INF] and math.isnan(clustered.mean(values)[3])
    assert np.isnan(clustered.mean(np.zeros((0, 2)))).all()
    of_patients = clustered.sums(column(1, 3, NAN, INF, 5), np.array([0, 0, 1, 2, 2])).means()
    assert of_patients[0, 0] == 2 and math.isnan(of_patients[1, 0]) and of_patients[2, 0] == INF


def test_an_interval_does_not_depend_on_the_columns_beside_it():
    values = np.random.default_rng(0).normal(0.8, 1e-4, size=(20, 1))
    alone = clustered.intervals(values, np.arange(20))[:, 0]
    beside = clustered.intervals(np.concatenate([values, 1e6 + values], axis=1), np.arange(20))[:, 0]
    assert alone == pytest.approx(beside, rel=1e-12)


def test_quantiles_are_numpys_where_all_is_finite_and_stay_defined_where_it_is_not():
    values = np.random.default_rng(0).normal(size=(11, 3))
    for part in (0, 0.25, 0.5, 0.9, 1):
        assert clustered.quantile(values, part) == pytest.approx(np.quantile(values, part, axis=0))
    odd = np.array([[1, INF, NAN, NAN], [2, 3, 7, NAN], [INF, INF, NAN, NAN]])
    assert clustered.quantile(odd, 0.5).tolist()[:3] == [2, INF, 7]
    assert clustered.quantile(odd, 0.25).tolist()[:3] == [1.5, INF, 7]
    assert math.isnan(clustered.quantile(odd, 0.5)[3])


def test_names_are_numbered_whatever_their_order():
    assert clustered.numbered(["b", "a", "b"]).tolist() == [1, 0, 1]
    chosen = clustered.drawn(3, draws=4, seed=1)
    assert clustered.times(chosen).tolist() == [[(row == who).sum() for who in range(3)] for row in chosen]


def studentised_by_hand(values: np.ndarray, who: np.ndarray) -> tuple[float, float]:
    """The same interval of the mean over labels, with a loop over draws of whole patients; values (rows, labels)."""

    def mean_and_error(drawn: list[np.ndarray]) -> tuple[float, float]:
        together = np.concatenate(drawn)
        there = [label for label in range(values.shape[1]) if not np.isnan(together[:, label]).all()]
        means = {label: np.nanmean(together[:, label]) for label in there}
        counts = {label: (~np.isnan(together[:, label])).sum() for label in there}
        own = [sum(np.nansum(some[:, label] - means[label]) / counts[label] for label in there) for some in drawn]
        return float(np.mean(list(means.values()))), math.sqrt(sum(np.square(own))) / len(there)

    patients = [values[who == one] for one in range(who.max() + 1)]
    centre, error = mean_and_error(patients)
    ratios = []
    for chosen in clustered.drawn(len(patients), draws=clustered.DRAWS, seed=0):
        mean, own = mean_and_error([patients[one] for one in chosen])
        ratios.append((mean - centre) / own)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return centre - high * error, centre - low * error


@settings(max_examples=6, deadline=None)
@given(st.integers(9, 12), st.integers(0, 2**32 - 1))
def test_the_interval_is_the_textbooks(patients, seed):
    generator = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), generator.integers(1, 4, patients))
    values = generator.normal(size=(len(who), 1)) + generator.normal(size=patients)[who][:, None]
    expected = studentised_by_hand(values, who)
    assert clustered.intervals(values, who)[:, 0] == pytest.approx(expected)
    undefined = np.append(values, [[NAN]], axis=0), np.append(who, 0)
    assert clustered.intervals(*undefined)[:, 0] == pytest.approx(expected)


def test_the_interval_of_a_mean_of_labels_is_the_textbooks_where_one_is_rare():
    generator = np.random.default_rng(8)
    who = np.repeat(np.arange(10), 2)
    values = generator.normal(size=(20, 2))
    values[4:, 1] = NAN  # of two patients in ten: many draws have none
    found = clustered.intervals_over_labels(values[:, :, None], who)[:, 0]
    assert found == pytest.approx(studentised_by_hand(values, who))


def test_many_images_of_normal_patients_have_the_interval_of_student():
    values = np.random.default_rng(5).normal(size=(200, 1))
    low, high = clustered.intervals(values, np.arange(200), draws=4000)[:, 0]
    expected = stats.t.interval(0.95, 199, values.mean(), stats.sem(values[:, 0]))
    assert (low, high) == pytest.approx(expected, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_with_the_values_and_not_with_the_order_of_rows(order, shift, scale):
    generator = np.random.default_rng(1)
    names, values = [f"p{place % 7}" for place in range(12)], generator.normal(size=(12, 1))
    found = clustered.intervals(values, clustered.numbered(names))
    shuffled = clustered.intervals(values[order], clustered.numbered([names[place] for place in order]))
    assert shuffled == pytest.approx(found)
    moved = clustered.intervals(values * scale + shift, clustered.numbered(names))
    assert moved == pytest.approx(found * scale + shift, abs=1e-6)


def test_no_interval_where_there_is_too_little_or_a_value_is_infinite():
    who, values = np.arange(6), np.random.default_rng(0).normal(size=6)
    few = np.where(who < 4, values, NAN)
    endless = np.where(who == 0, INF, values)
    bounds = clustered.intervals(np.stack([values, few, endless, np.ones(6)], axis=1), who)
    assert bounds[0, 0] < values.mean() < bounds[1, 0]
    assert np.isnan(bounds[:, 1:3]).all()
    assert bounds[:, 3].tolist() == [1, 1]
    assert np.isnan(clustered.intervals(values[:, None], np.zeros(6, int))).all(), "images of one patient"


def test_draws_without_spread_count_as_far_out():
    """19 of 20 found it always: one draw in three is of those alone, whose error is 0, and must not shrink the rest."""
    values = column(*[1.0] * 19, 0.0)
    low, high = clustered.intervals(values, np.arange(20))[:, 0]
    assert low < 0.9 and high > 0.95


def test_the_mean_of_labels_counts_each_label_alike():
    generator = np.random.default_rng(2)
    who = np.arange(30) // 2
    values = generator.normal(size=(30, 1, 2)) + generator.normal(size=15)[who][:, None, None]
    twice = np.concatenate([values, values], axis=1)
    assert clustered.intervals_over_labels(twice, who) == pytest.approx(clustered.intervals(values[:, 0], who))
    rare = np.concatenate([values, np.full_like(values, NAN)], axis=1)
    assert clustered.intervals_over_labels(rare, who) == pytest.approx(clustered.intervals(values[:, 0], who))
    rare[:12, 1] = values[:12, 0] + 10
    low, high = clustered.intervals_over_labels(rare, who)
    centre = (values[:, 0].mean(axis=0) + rare[:12, 1].mean(axis=0)) / 2
    assert (low < centre).all() and (centre < high).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "like Dice"])
def test_of_1000_studies_95_per_cent_hold_the_true_mean_and_naive_intervals_do_not(kind, monkeypatch):
    """50 patients with 1 to 8 images each; docs/evaluation.md has the table of other settings."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import intervals

    found = intervals.coverage(kind, 50, studies=1000)
    assert 0.93 <= found["studentised"] <= 0.97
    assert found["naive"] < 0.75
    assert found["percentiles"] < found["studentised"]
