"""Pooling, intervals by patient, sets by patient, stratum and certainty."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import ranking, statistics
from medseg.labels import IGNORE
from medseg.prediction import Evidence


def case(name: str, patient: str, truth, chances, **facts) -> Evidence:
    return Evidence(name, patient, np.array(truth, np.uint8), np.array(chances, np.float32), **facts)


def images(*patients: str) -> list[Evidence]:
    return [case(f"{place}", patient, [[place % 2]], [[place / 100]]) for place, patient in enumerate(patients)]


def mean_chance(cases) -> dict[str, float]:
    return {"mean": float(statistics.places(cases, 1).probabilities.mean(dtype=np.float64))}


# --- places ----------------------------------------------------------------------------------------------------------


def test_places_of_all_cases_are_pooled_alike():
    pooled = statistics.places(
        [case("a", "p", [[1, 0], [0, 1]], [[0.9, 0.2], [0.1, 0.8]]), case("b", "p", [[1], [0]], [[0.4], [0.6]])], 2
    )
    assert pooled.truth.tolist() == [[1, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(pooled.probabilities, [[0.9, 0.2, 0.4], [0.1, 0.8, 0.6]], rtol=1e-6)
    assert pooled.exclusive


@pytest.mark.parametrize(
    ("truth", "chances", "exclusive"),
    [
        ([[1], [0]], [[0.3], [0.7]], True),
        ([[1], [0]], [[0.3], [0.6]], False),  # probabilities of separate questions
        ([[1], [1]], [[0.3], [0.7]], False),  # both are there
        ([[0], [0]], [[0.3], [0.7]], False),  # none is
        ([[1]], [[1.0]], False),  # a single label has nothing to exclude
        ([[1, IGNORE], [0, IGNORE]], [[0.3, 0.1], [0.7, 0.1]], True),  # what is not known says nothing
        ([[IGNORE], [IGNORE]], [[0.3], [0.7]], False),
    ],
)
def test_whether_labels_exclude_each_other_is_seen(truth, chances, exclusive):
    assert statistics.places([case("a", "p", truth, chances)], len(truth)).exclusive is exclusive


def test_only_known_places_are_given_out():
    pooled = statistics.places(
        [case("a", "p", [[1, IGNORE, 0], [IGNORE, 0, 1]], [[0.9, 0.8, 0.2], [0.1, 0.2, 0.8]])], 2
    )
    first, second = pooled.of_each()
    assert first[0].tolist() == [True, False] and first[1].tolist() == pytest.approx([0.9, 0.2])
    assert second[0].tolist() == [False, True]
    assert pooled.known().truth.tolist() == [[0], [1]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_drawn_cases_are_pooled_as_if_they_were_listed(sizes, seed):
    generator = np.random.default_rng(seed)
    cases = [
        case(f"{n}", f"{n}", generator.integers(0, 2, (2, size)), generator.random((2, size)))
        for n, size in enumerate(sizes)
    ]
    picks = generator.integers(len(cases), size=generator.integers(0, 8))
    drawn = statistics.Resample(statistics.Pool(cases), picks)
    listed = [cases[pick] for pick in picks]
    assert list(drawn) == listed and drawn[1:3] == listed[1:3]
    for array, expected in zip(statistics.places(drawn, 2)[:2], statistics.places(listed, 2)[:2], strict=True):
        assert array.tolist() == expected.tolist()
    sums = statistics.of_each_case(drawn, lambda one: [one.truth.sum(), 1])
    assert sums.tolist() == [[one.truth.sum(), 1] for one in listed]


def test_each_case_is_measured_once_however_often_it_is_drawn():
    seen: Counter[str] = Counter()

    def measured(one: Evidence, factor: float) -> list[float]:
        seen[one.case] += 1
        return [factor * float(one.probabilities.sum())]

    for drawn in statistics.resamples(images("p", "q", "q"), draws=50, seed=0):
        assert len(statistics.of_each_case(drawn, measured, 2)) == len(drawn)
        statistics.of_each_case(drawn, measured, 3)
    assert seen == {"0": 2, "1": 2, "2": 2}


# --- intervals -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("pqrst"), min_size=1, max_size=12), st.integers(0, 99))
def test_patients_are_drawn_with_all_their_cases(patients, seed):
    cases = images(*patients)
    belongings = {name: sorted(one.case for one in cases if one.patient == name) for name in patients}
    for drawn in statistics.resamples(cases, draws=5, seed=seed):
        seen = Counter(one.case for one in drawn)
        times = {name: {seen[one] for one in members} for name, members in belongings.items()}
        assert all(len(counts) == 1 for counts in times.values())
        assert sum(counts.pop() for counts in times.values()) == len(belongings)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("pqrst"), min_size=2, max_size=12), st.permutations(range(12)))
def test_intervals_repeat_and_do_not_depend_on_the_order(patients, order):
    cases = images(*patients)
    shuffled = [cases[place] for place in order if place < len(cases)]
    draws = [list(drawn) for drawn in statistics.resamples(cases, draws=5, seed=1)]
    assert [list(drawn) for drawn in statistics.resamples(shuffled, draws=5, seed=1)] == draws
    found = statistics.intervals(mean_chance, cases, draws=40)
    assert statistics.intervals(mean_chance, shuffled, draws=40) == found


def test_wider_levels_contain_narrower_ones_and_the_draws_say_where():
    cases = images(*[f"{n}" for n in range(101)])  # chances 0.00 to 1.00, mean 0.5, standard error 0.29 / sqrt(101)
    narrow, wide = (statistics.intervals(mean_chance, cases, level=level)["mean"] for level in (0.5, 0.95))
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    error = math.sqrt((101**2 - 1) / 12) / 100 / math.sqrt(101)
    assert wide == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.006)
    assert narrow == pytest.approx((0.5 - 0.674 * error, 0.5 + 0.674 * error), abs=0.006)


def test_a_statistic_without_spread_has_an_interval_of_one_point_and_nan_has_none():
    cases = images("p", "q", "r")

    def computed(some) -> dict[str, float]:
        patients = {one.patient for one in some}
        return {"one": 1.0, "never": math.nan, "sometimes": math.nan if "p" in patients else 5.0}

    found = statistics.intervals(computed, cases, draws=60)
    assert found["one"] == (1, 1) and found["sometimes"] == (5, 5) and all(map(math.isnan, found["never"]))


def test_the_gap_of_two_sets_is_as_wide_as_both():
    first, second = (images(*[f"{name}{n}" for n in range(60)]) for name in "pq")
    lifted = [case(one.case, one.patient, one.truth, one.probabilities + 0.3) for one in first]
    low, high = statistics.gap_intervals(mean_chance, lifted, second)["mean"]
    single = statistics.intervals(mean_chance, second)["mean"]
    assert low < 0.3 < high and low > 0
    assert high - low == pytest.approx(math.sqrt(2) * (single[1] - single[0]), rel=0.15)


def correlated(generator: np.random.Generator, patients: int, images_each: int) -> list[Evidence]:
    """Scores of a patient's images share a part of their own: they resemble one another."""
    cases = []
    for patient in range(patients):
        ill, own = patient % 2, generator.normal()
        for image in range(images_each):
            score = 1 / (1 + math.exp(-(ill + own + 0.3 * generator.normal())))
            cases.append(case(f"{patient:03d} {image}", f"{patient}", [[ill]], [[score]]))
    return cases


def area(some) -> dict[str, float]:
    pooled = statistics.places(some, 1)
    return {"auroc": ranking.auroc(pooled.truth, pooled.probabilities)}


def test_intervals_by_patient_are_wider_where_a_patients_images_resemble_one_another():
    """Twelve images of a patient that are nearly the same say little more than one: sqrt(12) = 3.5 at the most."""
    cases = correlated(np.random.default_rng(7), patients=40, images_each=12)
    naive = [case(one.case, one.case, one.truth, one.probabilities) for one in cases]
    widths = [np.subtract(*statistics.intervals(area, some, draws=300)["auroc"][::-1]) for some in (cases, naive)]
    assert 2 < widths[0] / widths[1] < 3.6


def test_intervals_by_patient_hold_what_they_promise():
    """The true area of this model is P(N(1, 2 * (1 + 0.09)) > 0). Of 60 intervals of 90 % about 54 contain it."""
    spread = math.sqrt(2 * (1 + 0.3**2))
    truth = 0.5 * (1 + math.erf(1 / spread / math.sqrt(2)))
    generator, inside = np.random.default_rng(3), 0
    for _ in range(60):
        low, high = statistics.intervals(area, correlated(generator, 40, 3), draws=150, level=0.9)["auroc"]
        inside += low <= truth <= high
    assert 48 <= inside <= 59


# --- sets of cases ---------------------------------------------------------------------------------------------------


def test_of_classes_that_exclude_each_other_a_patient_has_the_first_where_no_image_has_another():
    eyes = [
        case("left", "p", [[1], [0]], [[0.9], [0.1]]),
        case("right", "p", [[0], [1]], [[0.3], [0.7]]),
        case("both", "q", [[1], [0]], [[0.8], [0.2]]),
    ]
    worst, other = statistics.by_patient(eyes, how="max", exclusive=True)
    assert worst.truth.ravel().tolist() == [0, 1] and other.truth.ravel().tolist() == [1, 0]
    assert worst.probabilities.ravel() == pytest.approx([0.3, 0.7])
    mean = statistics.by_patient(eyes, how="mean", exclusive=True)[0]
    assert mean.truth.ravel().tolist() == [0, 1] and mean.probabilities.ravel() == pytest.approx([0.6, 0.4])


def test_a_patient_has_what_any_of_his_images_has():
    cases = [
        case("left", "p", [[1], [0]], [[0.7], [0.3]], centre="A"),
        case("right", "p", [[0], [1]], [[0.2], [0.8]], centre="A"),
        case("one", "q", [[0], [1]], [[0.1], [0.9]], centre="B"),
    ]
    highest, other = statistics.by_patient(cases, how="max")
    assert (highest.case, highest.patient, highest.centre) == ("p", "p", "A")
    assert highest.truth.tolist() == [[1], [1]] and other.truth.tolist() == [[0], [1]]
    assert highest.probabilities.ravel().tolist() == pytest.approx([0.7, 0.8])
    mean, other = statistics.by_patient(cases, how="mean")
    assert mean.probabilities.ravel().tolist() == pytest.approx([0.45, 0.55])
    assert other.probabilities.ravel().tolist() == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(("how", "chance"), [("max", 0.6), ("mean", 0.4)])
def test_what_is_not_known_of_a_patient_is_left_out(how, chance):
    (merged,) = statistics.by_patient([case("a", "p", [[0, IGNORE, 1]], [[0.2, 0.9, 0.6]])], how=how)
    assert merged.truth.tolist() == [[1]] and merged.probabilities.item() == pytest.approx(chance)
    (unknown,) = statistics.by_patient([case("a", "p", [[IGNORE]], [[0.4]])], how=how)
    assert unknown.truth.tolist() == [[IGNORE]] and 0 <= unknown.probabilities.item() <= 1


# --- certainty -------------------------------------------------------------------------------------------------------


def test_entropy_on_paper():
    quarter = math.log(4) / 4 + 3 / 4 * math.log(4 / 3)
    assert statistics.entropy(np.array([0.25, 0.75])) == pytest.approx(quarter)
    assert statistics.entropy(np.array([[0.25, 1.0, 0.5]])).tolist() == pytest.approx([quarter, 0, math.log(2)])
    assert statistics.entropy(np.full(5, 0.2)) == pytest.approx(math.log(5))
    assert statistics.entropy(np.array([0.25, 0.5]), exclusive=False) == pytest.approx(quarter + math.log(2))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_entropy_lies_between_certainty_and_no_idea(count, seed):
    weights = np.random.default_rng(seed).random((count, 7))
    found = statistics.entropy(weights / weights.sum(axis=0))
    assert found.shape == (7,) and (found >= 0).all() and (found <= math.log(count) + 1e-12).all()
