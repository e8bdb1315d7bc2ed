"""Preparation: what is refused, sizes on paper, and speed where it hurts."""

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare
from medseg.volume import Volume

PLAN = Plan(
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=1,
    channels=("CT",),
)


def test_sizes_round_halves_up_and_ignore_the_last_digits():
    assert prepare.prepared_shape((5, 5, 5), [1.0, 1 - 1e-9, 1 + 1e-9], (2.0, 2.0, 2.0)) == (3, 3, 3)
    assert prepare.prepared_shape((1, 512, 100), [0.1, 0.78125, 5.0], (1.0, 1.0, 1.0)) == (1, 400, 500)
    assert prepare.prepared_shape((4, 5, 6), [9, 9, 9], "native") == (4, 5, 6)


def test_wrong_number_of_channels_is_refused():
    with pytest.raises(Refusal, match="found 2 channels; needed 1: CT"):
        prepare.image(Volume(np.zeros((2, 3, 3, 3)), np.eye(4)), PLAN)


def test_label_map_of_another_shape_is_refused():
    _, undo = prepare.image(Volume(np.zeros((1, 3, 3, 3)), np.eye(4)), PLAN)
    with pytest.raises(Refusal, match=r"\(3, 3, 3\)"):
        prepare.target(Volume(np.zeros((1, 3, 3, 4), np.uint8), np.eye(4)), undo, LabelTable.of({"a": 1}))


def test_the_input_is_not_written_into():
    array = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    plan = PLAN.model_copy(update={"normalisation": (Normalisation(kind="zscore"),)})
    prepare.image(Volume(array, np.eye(4)), plan)
    assert array.flatten().tolist() == list(range(27))


def test_all_zero_scan_survives_the_nonzero_crop():
    plan = PLAN.model_copy(update={"crop": "nonzero"})
    array, undo = prepare.image(Volume(np.zeros((1, 3, 4, 5)), np.eye(4)), plan)
    assert array.shape == (1, 3, 4, 5) and undo.crop == ((0, 3), (0, 4), (0, 5))


def test_a_structure_between_the_samples_vanishes_quietly():
    values = np.zeros((1, 16, 1, 1), np.uint8)
    values[0, 0] = 1
    plan = PLAN.model_copy(update={"spacing_mm": (8.0, 1.0, 1.0)})
    _, undo = prepare.image(Volume(values, np.eye(4)), plan)
    assert not prepare.target(Volume(values, np.eye(4)), undo, LabelTable.of({"a": 1})).any()


def test_more_than_256_classes():
    table = LabelTable.of({f"l{n}": n for n in range(1, 301)})
    values = np.arange(1, 301, dtype=np.int32).reshape(1, 300, 1, 1)
    scan = Volume(values, np.eye(4))
    plan = PLAN.model_copy(update={"spacing_mm": (0.5, 1.0, 1.0)})
    _, undo = prepare.image(scan, plan)
    got = prepare.target(scan, undo, table)
    assert got.dtype == np.uint16
    assert got[0, :, 0, 0].tolist() == [n for n in range(1, 301) for _ in range(2)]
