"""Volumes and values of labels against plain NumPy, and the tables that they are written into."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medseg import measurements, readers
from medseg.case import Case
from medseg.dicom import objects
from medseg.engine.load import load_image
from medseg.labels import LabelTable
from medseg.outputs import statistics_csv, statistics_json
from medseg.prediction import Prediction
from medseg.volume import Source, Volume
from tests import dicom_series as ds
from tests import dicom_sources

LABELS = LabelTable.of({"liver": 5, "spleen": 1, "kidney_left": 9})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
AFFINE = np.array([[0.5, 0.1, 0, 3], [0, 2, 0, 1], [0.2, 0, 4, -7], [0, 0, 0, 1]])
VOXEL_ML = 0.5 * 2 * 4 / 1000
SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


def scan(array: np.ndarray, modality: str = "CT", **notes: object) -> Volume:
    return Volume(array, AFFINE, Source(Path("folder/scan"), modality=modality, notes=notes))


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    shape, table = draw(SHAPES), draw(st.sampled_from([LABELS, REGIONS]))
    kinds = st.sampled_from([np.dtype("int16"), np.dtype("float32")])
    count = draw(st.integers(1, 2))
    values = draw(arrays.arrays(draw(kinds), (count, *shape), elements=st.integers(-1024, 3000)))
    channels, highest = (1, 3) if table.exclusive else (3, 1)
    target = draw(arrays.arrays(np.uint8, (channels, *shape), elements=st.integers(0, highest)))
    if draw(st.booleans()):  # as readers of DICOM and of NIfTI lay arrays in memory
        values, target = np.asfortranarray(values), np.asfortranarray(target)
    volume = scan(values)
    return Prediction("c", table, volume.with_array(target), scan=volume)


@given(predictions())
def test_as_plain_numpy_would_say(prediction: Prediction) -> None:
    table = measurements.measure(prediction)
    assert prediction.scan is not None and len(table.rows) == 3 and len(table.channels) == len(prediction.scan.array)
    for place, row in enumerate(table.rows):
        mask = prediction.mask(place)
        assert (row.label, row.voxels) == (prediction.table.labels[place], mask.sum())
        assert row.volume_ml == pytest.approx(mask.sum() * VOXEL_ML)
        assert len(row.values) == (len(prediction.scan.array) if mask.any() else 0)
        for channel, values in zip(prediction.scan.array, row.values, strict=False):
            found = channel[mask].astype(np.float64)
            expected = found.mean(), found.std(), found.min(), found.max(), np.median(found)
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)


@given(predictions())
def test_the_scan_and_the_labels_are_left_alone(prediction: Prediction) -> None:
    assert prediction.scan is not None
    before = prediction.scan.array.copy(), prediction.target.array.copy()
    measurements.measure(prediction)
    np.testing.assert_array_equal(prediction.scan.array, before[0])
    np.testing.assert_array_equal(prediction.target.array, before[1])


def test_without_the_scan_volumes_alone() -> None:
    target = scan(np.ones((1, 2, 3, 4), np.uint8))
    table = measurements.measure(Prediction("c", LABELS, target))
    assert table.channels == () and [row.values for row in table.rows] == [(), (), ()]
    assert [row.volume_ml for row in table.rows] == pytest.approx([24 * VOXEL_ML, 0, 0])
    assert measurements.volumes_ml(Prediction("c", LABELS, target)) == {"liver": 0.096, "spleen": 0, "kidney_left": 0}


def test_a_photograph_has_no_volume(tmp_path: Path) -> None:
    photograph = Volume(np.zeros((3, 4, 5, 1), np.uint8), np.eye(4), unit="px", channels=("red", "green", "blue"))
    made = Prediction("c", LABELS, photograph.with_array(np.ones((1, 4, 5, 1), np.uint8)), scan=photograph)
    assert measurements.volumes_ml(made) == {}
    statistics_csv.write(made, tmp_path / "a.csv", statistics_csv.Options())
    row = rows(tmp_path / "a.csv")[0]
    assert (row["voxels"], row["volume_ml"], row["green_mean"]) == ("20", "", "0")


def test_the_number_for_not_known_is_no_label() -> None:
    target = np.full((1, 2, 3, 4), 255, np.uint8)
    target[0, 0, 0, 0] = 3
    volume = scan(np.full((1, 2, 3, 4), 7, np.int16))
    table = measurements.measure(Prediction("c", LABELS, volume.with_array(target), scan=volume))
    assert [row.voxels for row in table.rows] == [0, 0, 1] and table.rows[2].values[0].max == 7


@pytest.mark.parametrize(
    ("modality", "notes", "quantity", "unit", "column"),
    [
        ("CT", {}, "HU", "HU", "mean_HU"),
        ("CT", {"values": "Z_EFF"}, "", "", "mean"),
        ("PT", {"values": "SUVbw"}, "SUVbw", "g/ml", "mean_SUVbw_g/ml"),
        ("PT", {"values": "BQML"}, "", "Bq/ml", "mean_Bq/ml"),
        ("PT", {"values": "CNTS"}, "", "", "mean"),
        ("MR", {}, "", "", "mean"),
        ("", {}, "", "", "mean"),
    ],
)
def test_units_are_those_that_the_files_state(
    modality: str, notes: dict[str, str], quantity: str, unit: str, column: str, tmp_path: Path
) -> None:
    volume = scan(np.ones((1, 2, 3, 4), np.float32), modality, **notes)
    made = Prediction("c", LABELS, volume.with_array(np.ones((1, 2, 3, 4), np.uint8)), scan=volume)
    (channel,) = measurements.measure(made).channels
    assert (channel.modality, channel.quantity, channel.unit) == (modality, quantity, unit)
    statistics_csv.write(made, tmp_path / "a.csv", statistics_csv.Options())
    assert column in rows(tmp_path / "a.csv")[0]


def test_channels_of_several_modalities_have_their_own_columns(tmp_path: Path) -> None:
    volume = scan(
        np.stack([np.full((2, 3, 4), value) for value in (2.5, -7)]),
        "PT",
        **{measurements.MODALITIES: ("PT", "CT"), measurements.VALUES: ("SUVbw", "HU")},
    )
    volume = volume.with_array(volume.array, ("SUV", "CTres"))
    made = Prediction("c", LABELS, volume.with_array(np.full((1, 2, 3, 4), 2, np.uint8)), scan=volume)
    statistics_csv.write(made, tmp_path / "a.csv", statistics_csv.Options())
    liver, spleen, _ = rows(tmp_path / "a.csv")
    assert (spleen["SUV_mean_SUVbw_g/ml"], spleen["CTres_median_HU"]) == ("2.5", "-7")
    assert liver["voxels"] == "0" and liver["SUV_mean_SUVbw_g/ml"] == liver["CTres_sd_HU"] == ""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("changes", "quantity"), [({}, "HU"), ({"RescaleType": "HU"}, "HU"), ({"RescaleType": "Z_EFF"}, "")]
)
def test_ct_that_is_not_in_hounsfield_units_is_not_called_so(
    changes: dict[str, Any], quantity: str, tmp_path: Path
) -> None:
    read = readers.read(ds.series(tmp_path / "ct", ds.places(4), **changes))
    assert [channel.quantity for channel in measurements.channels(read)] == [quantity]
    assert ("not Hounsfield units (RescaleType Z_EFF)" in read.source.notes[objects.NOTE_OF_CHECK]) == (not quantity)


def test_ct_without_a_rescale_has_no_unit(tmp_path: Path) -> None:
    folder = ds.series(tmp_path / "ct", ds.places(4))
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        del header.RescaleSlope, header.RescaleIntercept
        header.save_as(file)
    (channel,) = measurements.channels(readers.read(folder))
    assert (channel.quantity, channel.unit) == ("", "")


def test_every_series_of_a_case_is_accounted_for(tmp_path: Path) -> None:
    """PET, then a CT of other values that lacks a slice: units are each channel's, and the result says all of it."""
    pet = dicom_sources.pet(tmp_path / "pet", ds.places(6))
    ct = dicom_sources.ct(tmp_path / "ct", np.delete(ds.places(6), 2, axis=0))
    image = load_image(Case("a", "p", {"PET": pet, "CT": ct}), readers.read, policy="resample")
    assert [(one.name, one.quantity) for one in measurements.channels(image)] == [("PET", "SUVbw"), ("CT", "HU")]
    told = objects.account(Prediction("a", LABELS, image.with_array(np.zeros((1, *image.shape), np.uint8))))
    assert "check of the series: PET: good; CT: " in told and "missing" in told
    series = pydicom.dcmread(next(ct.iterdir())).SeriesInstanceUID
    assert f"other input: CT: series {series} (5 images)" in told


def test_both_tables_say_the_same(tmp_path: Path) -> None:
    draws = np.random.default_rng(3)
    volume = scan(draws.normal(40, 200, (1, 9, 8, 7)).astype(np.float32), **{objects.NOTE_OF_CHECK: "good"})
    target = volume.with_array(draws.integers(0, 3, (1, 9, 8, 7)).astype(np.uint8))
    made = Prediction("case-1", LABELS, target, {"model": "unit test", "seed": "7"}, scan=volume)
    statistics_csv.write(made, tmp_path / "a.csv", statistics_csv.Options())
    statistics_json.write(made, tmp_path / "a.json", statistics_json.Options())
    told = json.loads((tmp_path / "a.json").read_text())
    assert (told["case"], told["check"], told["provenance"]["seed"]) == ("case-1", "good", "7")
    assert told["input"]["path"] == "scan"  # no folder of this machine
    table = rows(tmp_path / "a.csv")
    assert [row["label"] for row in table] == [label["name"] for label in told["labels"]] == list(LABELS.names)
    for row, label in zip(table, told["labels"], strict=True):
        assert (int(row["voxels"]), float(row["volume_ml"])) == (label["voxels"], label["volume_ml"])
        for name in ("mean", "sd", "min", "max", "median"):
            told_here = [float(row[f"{name}_HU"])] if row[f"{name}_HU"] else []
            assert told_here == [one[name] for one in label["values"]]
    kidney = told["labels"][2]
    assert (kidney["code"]["value"], kidney["side"]["meaning"], kidney["values"]) == ("64033007", "Left", [])
    assert table[2]["code"] == "SCT:64033007+SCT:7771000" and table[2]["meaning"] == "Kidney, Left"
