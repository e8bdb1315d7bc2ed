"""Label tables: structures and regions as before, places that are not known, classes of images and slices."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from medseg.labels import IGNORE, Label, LabelTable
from medseg.refusal import Refusal

VESSELS = LabelTable(
    (
        Label(1, "artery", (1, 3, 5, 7), unknown=(4,)),
        Label(2, "vein", (2, 3, 6, 7), unknown=(4,)),
        Label(3, "vessel", (1, 2, 3, 4, 5, 6, 7)),
    ),
    exclusive=False,
    ignore=8,
)
GRADES = LabelTable.classes({"none or mild": [0, 1], "referable": [2, 3, 4]})
SLICES = LabelTable.classes({"tumour": 1, "node": [2, 3]}, exclusive=False, unit="slice")


def row(*values: int) -> np.ndarray:
    return np.array(values).reshape(-1, 1, 1)


def test_what_is_not_known_is_marked_for_the_labels_concerned() -> None:
    target = VESSELS.encode(row(0, 1, 2, 3, 4, 8))[..., 0, 0]
    assert target.tolist() == [
        [0, 1, 0, 1, IGNORE, IGNORE],
        [0, 0, 1, 1, IGNORE, IGNORE],
        [0, 1, 1, 1, 1, IGNORE],
    ]


def test_masks_leave_out_what_is_not_known() -> None:
    target = VESSELS.encode(row(1, 4, 8))
    assert VESSELS.mask(target, 0).ravel().tolist() == [True, False, False]
    assert VESSELS.known(target, 0).ravel().tolist() == [True, False, False]  # type: ignore[union-attr]
    assert VESSELS.known(target, 2).ravel().tolist() == [True, True, False]  # type: ignore[union-attr]
    assert LabelTable.of({"a": 1}).known(target, 0) is None


def test_a_softmax_table_may_have_unknown_places_too() -> None:
    table = LabelTable((Label(5, "liver", (5,)),), ignore=9)
    target = table.encode(row(0, 5, 9))
    assert target.ravel().tolist() == [0, 1, IGNORE]
    assert table.paint(target).ravel().tolist() == [0, 5, 0]
    assert table.unknown(np.array([0, 5, 7, 9])) == [7]


def test_unknown_numbers_are_known_to_the_table() -> None:
    assert VESSELS.unknown(np.arange(10)) == [9]


def test_classes_of_an_image() -> None:
    assert GRADES.network_channels == 2 and GRADES.channel_names == ("none or mild", "referable")
    assert [GRADES.encode_classes((grade,)).item() for grade in range(5)] == [0, 0, 1, 1, 1]
    target = GRADES.encode_classes((3,))
    assert target.shape == (1, 1, 1, 1)
    assert [GRADES.mask(target, place).item() for place in (0, 1)] == [False, True]


@pytest.mark.parametrize("numbers", [(), (5,), (0, 2)])
def test_impossible_classes_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(Refusal, match="class of an image"):
        GRADES.encode_classes(numbers)


def test_classes_that_do_not_exclude_each_other() -> None:
    table = LabelTable.classes({"haemorrhage": 1, "exudate": 2}, exclusive=False)
    assert table.network_channels == 2
    assert [table.encode_classes(numbers).ravel().tolist() for numbers in [(), (2,), (1, 2)]] == [
        [0, 0],
        [0, 1],
        [1, 1],
    ]


def test_a_slice_has_every_class_whose_structure_appears_in_it() -> None:
    values = np.zeros((2, 2, 3), np.uint8)
    values[0, 1, 1], values[1, 1, 2], values[0, 0, 2] = 1, 3, 1
    assert SLICES.encode_slices(values).tolist() == [[[[0, 1, 1]]], [[[0, 0, 1]]]]
    assert SLICES.mask(SLICES.encode_slices(values), 1).ravel().tolist() == [False, False, True]


def test_number_0_is_a_class_but_no_structure() -> None:
    assert LabelTable.classes({"no": 0, "yes": 1}).names == ("no", "yes")
    with pytest.raises(Refusal, match="0 is background"):
        LabelTable((Label(0, "no", (0,)),))


@pytest.mark.parametrize("table", [VESSELS, GRADES, SLICES])
def test_through_json(table: LabelTable) -> None:
    assert LabelTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_tables_written_before_there_were_classes_still_load() -> None:
    old = LabelTable.of({"a": 1}).to_json()
    for entry in (old, *old["labels"]):
        for name in ("unit", "ignore", "unknown"):
            entry.pop(name, None)
    assert LabelTable.from_json(old) == LabelTable.of({"a": 1})


def test_parts_are_painted_over_the_whole_whatever_their_order() -> None:
    """The published Swin UNETR answers core, whole, enhancing."""
    table = LabelTable.of({"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]}, paint=[1, 2, 4])
    values = row(0, 1, 2, 4)
    assert np.array_equal(table.paint(table.encode(values)), values)


@pytest.mark.parametrize("name", ["", "  ", "bell\x07", "carriage\rreturn", "escape\x1b$B"])
def test_names_that_cannot_be_read_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match="names that can be read"):
        LabelTable.of({"liver": 1, name: 2})


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_boxes_do_not_depend_on_the_order_in_memory(order: tuple[int, ...]) -> None:
    target = np.zeros((1, 5, 6, 7), np.uint8)
    target[0, 1, 2:4, 3:7] = 2
    laid = np.ascontiguousarray(target.transpose(order)).transpose(np.argsort(order))
    box = (slice(1, 2), slice(2, 4), slice(3, 7))
    assert LabelTable.of({"a": 1, "b": 2}).boxes(laid) == {1: box}
    assert LabelTable.of({"a": [1, 2], "b": [2]}).boxes(np.concatenate([laid * 0, laid // 2])) == {1: box}


@pytest.mark.parametrize("table", [
    LabelTable.of({"a": 1, "b": 2}),
    LabelTable.of({"a": [1, 2], "b": [2]}),
    LabelTable.classes({"a": [0], "b": [1]}),
    LabelTable.classes({"a": [0], "b": [1]}, exclusive=False),
    LabelTable.classes({"a": [0], "b": [1]}, unit="slice"),
])  # fmt: skip
def test_boxes_are_those_of_masks(table: LabelTable) -> None:
    generator = np.random.default_rng(5)
    many = not table.exclusive or table.unit == "slice"
    target = (generator.random((2 if many else 1, 3, 4, 5)) < 0.05).astype(np.uint8)
    boxes = table.boxes(target)
    for position in range(2):
        places = np.nonzero(table.mask(target, position))
        expected = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in places) if len(places[0]) else None
        assert boxes.get(position) == expected
