"""What every clean-up step of the registry keeps to."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from medseg import plugins, scratch
from medseg.labels import LabelTable

NAMES = plugins.names("postprocess")
EACH = pytest.mark.parametrize("name", NAMES)
EXCLUSIVE = LabelTable.of({"one": 1, "two": 2})
MANY = LabelTable.of({f"label {number}": number for number in range(1, 301)})
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})
BOTH = pytest.mark.parametrize("table", [EXCLUSIVE, REGIONS, MANY], ids=["exclusive", "regions", "300 labels"])


def target_of(table: LabelTable) -> np.ndarray:
    values = np.random.default_rng(13).integers(0, 3, (9, 8, 7))
    return table.encode(values * 100 if table is MANY else values)


def clean(name: str, target: np.ndarray, table: LabelTable, **options) -> np.ndarray:
    step = plugins.find("postprocess", name)
    spacing = np.array([10.0, 8.0, 12.0])
    return step.apply(target.copy(), table=table, spacing_mm=spacing, options=step.Options(**options))


def test_the_list_equals_the_folder():
    assert tuple(sorted(file.stem for file in (plugins.PACKAGE / "postprocess").glob("[!_]*.py"))) == NAMES


@EACH
def test_has_a_summary_and_documented_options(name):
    assert plugins.summary("postprocess", name)
    options = plugins.find("postprocess", name).Options
    assert all(field.description for field in options.model_fields.values())
    with pytest.raises(ValidationError):
        options(no_such_option=1)


@EACH
@BOTH
def test_shape_and_type_stay_and_a_second_run_changes_nothing(name, table):
    target = target_of(table)
    after = clean(name, target, table)
    assert (after.shape, after.dtype) == (target.shape, target.dtype)
    assert after.max() <= target.max()
    assert (clean(name, after, table) == after).all()


@EACH
@BOTH
def test_nothing_stays_nothing(name, table):
    empty = np.zeros_like(target_of(table))
    assert not clean(name, empty, table).any()


@EACH
def test_labels_that_are_not_named_stay(name):
    target = target_of(EXCLUSIVE)
    after = clean(name, target, EXCLUSIVE, labels=("one",))
    assert ((after == 2) == (target == 2)).all()
    regions = target_of(REGIONS)
    assert (clean(name, regions, REGIONS, labels=("whole",))[1] == regions[1]).all()


@EACH
def test_a_target_on_disk_is_cleaned_where_it_lies(name, tmp_path):
    with scratch.on_disk(tmp_path, above=0):
        target = scratch.zeros((1, 9, 8, 7), np.uint8, slowest=2)
    target[:] = target_of(EXCLUSIVE)
    step = plugins.find("postprocess", name)
    after = step.apply(target, table=EXCLUSIVE, spacing_mm=np.array([10.0, 8, 12]), options=step.Options())
    assert after is target and (after == clean(name, target_of(EXCLUSIVE), EXCLUSIVE)).all()


@EACH
def test_a_slice_is_cleaned_too(name):
    assert clean(name, target_of(EXCLUSIVE)[..., :1], EXCLUSIVE).shape == (1, 9, 8, 1)
