"""What a training says of itself in words, and the Dice on training patches that it goes by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as some

from medseg.engine import validate, watch
from medseg.labels import IGNORE, Label, LabelTable

TABLE = LabelTable.of({"a": 1, "b": 5, "c": 9})
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})
KNOWN_IN_PART = LabelTable((Label(1, "a", (1,)), Label(2, "b", (2,))), ignore=7)
CPU = torch.device("cpu")


@given(some.integers(0, 2**32), some.sampled_from([(16, 12, 8), (15, 5, 1)]))
def test_counts_are_those_of_validation_in_every_fourth_voxel(seed: int, shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(seed)
    for table, channels, known in ((TABLE, 4, [0, 1, 2, 3]), (KNOWN_IN_PART, 3, [0, 1, 2, IGNORE])):
        logits = generator.normal(size=(2, channels, *shape)).astype(np.float32)
        target = generator.choice(np.array(known, np.uint8), (2, 1, *shape))
        wanted = sum(
            validate.overlaps(truth[:, ::4, ::4, ::4], scores[:, ::4, ::4, ::4].argmax(0)[None], table)
            for truth, scores in zip(target, logits, strict=True)
        )
        found = watch.overlaps(torch.from_numpy(logits), torch.from_numpy(target), table)
        assert found.T.tolist() == wanted.tolist()
    logits = generator.normal(size=(2, 2, *shape)).astype(np.float32)
    target = generator.choice(np.array([0, 1, IGNORE], np.uint8), (2, 2, *shape))
    wanted = sum(
        validate.overlaps(truth[:, ::4, ::4, ::4], scores[:, ::4, ::4, ::4] > 0, REGIONS)
        for truth, scores in zip(target, logits, strict=True)
    )
    assert watch.overlaps(torch.from_numpy(logits), torch.from_numpy(target), REGIONS).T.tolist() == wanted.tolist()


def test_classes_are_not_counted() -> None:
    table = LabelTable.classes({"no": 0, "yes": 1})
    assert watch.overlaps(torch.ones(1, 2, 1, 1, 1), torch.ones(1, 1, 1, 1, 1), table).tolist() == [[0, 0], [0, 0]]


def test_dice_of_an_epoch() -> None:
    assert watch.taught([2.0, 0.0, 0.0, 8.0, 0.0, 4.0], ("a", "b", "c")) == {
        "train_dice": 0.125,
        "train_dice_per_label": {"a": 0.25, "b": None, "c": 0.0},
    }
    assert watch.taught([0.0, 0.0], ("a",))["train_dice"] is None


def epochs(*rows: tuple[float, float] | None, taught: float = 0.0, every: int = 1) -> list[dict[str, Any]]:
    """A history of Dice of a and b; None: not validated."""
    history = []
    for number, row in enumerate(rows, start=1):
        entry: dict[str, Any] = {"epoch": number * every}
        entry |= {"train_dice": taught, "train_dice_per_label": {"a": taught, "b": taught}}
        if row is not None:
            entry |= {"dice": sum(row) / 2, "dice_per_label": dict(zip("ab", row, strict=True))}
        history.append(entry)
    return history


def told(history: list[dict[str, Any]], present: tuple[str, ...] = ("a", "b"), total: int = 10) -> dict[int, list[str]]:
    """What was said after which epoch."""
    said = {
        history[end - 1]["epoch"]: watch.warnings(history[:end], present, epochs=total)
        for end in range(1, len(history) + 1)
    }
    return {epoch: texts for epoch, texts in said.items() if texts}


def test_a_collapse_is_told_once_and_again_after_it_went_away() -> None:
    nothing, something = (0.0, 0.002), (0.5, 0.4)
    said = told(epochs(nothing, nothing, None, nothing, nothing, something, nothing, nothing, nothing, nothing))
    assert list(said) == [4, 9]
    assert all(len(texts) == 1 and "collapsed to background" in texts[0] for texts in said.values())
    assert "train.lr" in said[4][0]


def test_the_beginning_of_a_long_training_is_no_collapse() -> None:
    history = epochs(*[(0.0, 0.0)] * 8, every=5)
    assert list(told(history, total=300)) == [30]  # a tenth of it
    assert list(told(history, total=20)) == [15]  # the third validation


def test_a_label_that_is_never_found_is_named_once() -> None:
    said = told(epochs((0.2, 0.0), (0.5, 0.0), (0.6, 0.005), (0.7, 0.0), (0.7, 0.0)))
    assert list(said) == [3] and said[3][0].startswith("b: not found") and "train.rare" in said[3][0]
    assert len(said[3]) == 1


def test_nothing_is_said_of_labels_that_no_validation_case_has() -> None:
    assert told(epochs(*[(0.8, 0.0)] * 5), present=("a",)) == {}
    assert told(epochs(*[(0.0, 0.0)] * 5), present=()) == {}


def test_a_label_missed_after_another_is_told_by_itself() -> None:
    history = epochs(*[(0.9, 0.0)] * 3, *[(0.0, 0.9)] * 5)
    said = told(history)
    assert [texts[0].partition(":")[0] for texts in said.values()] == ["b", "a"]


def test_training_far_above_validation_is_told_with_both_numbers() -> None:
    said = told(epochs(*[(0.5, 0.5)] * 5, taught=0.75))
    assert list(said) == [3] and "Dice 0.75 on training patches and 0.50 on validation cases" in said[3][0]
    assert told(epochs(*[(0.6, 0.6)] * 5, taught=0.75)) == {}
    mixed = epochs((0.5, 0.5), (0.7, 0.7), (0.5, 0.5), (0.7, 0.7), taught=0.75)  # never twice in a row
    assert told(mixed) == {}


def test_what_is_learned_but_not_found_in_validation_cases_is_no_collapse() -> None:
    (said,) = told(epochs(*[(0.0, 0.0)] * 5, taught=0.6)).values()
    assert len(said) == 1 and said[0].startswith("Dice 0.60 on training patches and 0.00 on validation cases")


def test_a_label_without_a_measure_on_one_side_does_not_count_to_the_margin() -> None:
    history = epochs(*[(0.7, 0.0)] * 4, taught=0.8)
    for entry in history:
        entry["train_dice_per_label"]["b"] = None
    assert told(history, present=("a",)) == {}


@given(some.lists(some.tuples(some.floats(0, 1), some.floats(0, 1)), max_size=8), some.floats(0, 1))
def test_no_history_breaks_it_and_good_ones_are_silent(rows: list[tuple[float, float]], taught: float) -> None:
    told(epochs(*rows, taught=taught))
    good = [(max(a, 0.9), max(b, 0.9)) for a, b in rows]
    assert told(epochs(*good, taught=taught)) == {}


def test_an_epoch_without_validation_says_nothing() -> None:
    history = epochs(*[(0.0, 0.0)] * 3, None)
    assert watch.warnings(history, ("a", "b"), epochs=10) == watch.warnings([], ("a", "b"), epochs=10) == []
