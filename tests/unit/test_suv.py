"""SUV factors: by hand, as another implementation has them for real headers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import medseg
from medseg.dicom import suv
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms.prepare import image
from medseg.volume import Source, Volume
from tests import reference

HEADER: dict[str, Any] = {
    "SeriesDate": "20240102",
    "SeriesTime": "120000",
    "AcquisitionDate": "20240102",
    "AcquisitionTime": "120000.0",
    "FrameReferenceTime": 0,
    "ActualFrameDuration": 120000,
    "DecayCorrection": "START",
    "CorrectedImage": ["DECY", "ATTN"],
    "Units": "BQML",
    "PatientWeight": 70,
    "RadionuclideTotalDose": 280e6,
    "RadionuclideHalfLife": 3600.0,
    "RadiopharmaceuticalStartTime": "110000",
}


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**HEADER, **changes}.items() if value is not None}


def test_one_half_life_after_the_injection_half_of_the_dose_is_left() -> None:
    assert suv.factor([HEADER]) == pytest.approx(70_000 / 140e6)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"Units": "GML", "PatientWeight": None}, 1.0),
        ({"DecayCorrection": "ADMIN"}, 70_000 / 280e6),
        ({"CorrectedImage": "DECY"}, 70_000 / 140e6),
        ({"RadiopharmaceuticalStartDateTime": "20240102100000-0500"}, 70_000 / 70e6),
        ({"RadiopharmaceuticalStartDateTime": "20240102100000.00+0100"}, 70_000 / 70e6),
        # injected before midnight, scanned after it
        (
            {"SeriesTime": "003000", "AcquisitionTime": "003000", "RadiopharmaceuticalStartTime": "233000"},
            70_000 / 140e6,
        ),
    ],
)
def test_other_headers(changes: dict[str, Any], factor: float) -> None:
    assert suv.factor([changed(**changes)]) == pytest.approx(factor)


def test_a_series_time_after_the_acquisition_does_not_count() -> None:
    """A rewritten series time: the scan began 10 s before the first frame's mean count rate, about half its length."""
    rewritten = changed(SeriesTime="150000", FrameReferenceTime=10_000, ActualFrameDuration=20_000)
    assert suv.factor([rewritten]) == pytest.approx(suv.factor([HEADER]), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PatientWeight": None}, "no PatientWeight"),
        ({"PatientWeight": 70_000}, "70000 kg"),
        ({"RadionuclideTotalDose": 0}, "RadionuclideTotalDose 0"),
        ({"Units": "CNTS"}, "values in CNTS"),
        ({"DecayCorrection": "NONE"}, "decay correction NONE"),
        ({"CorrectedImage": ["ATTN"]}, "corrected for decay"),
        ({"RadiopharmaceuticalStartTime": None}, "no RadiopharmaceuticalStartTime"),
        ({"SeriesTime": "noon"}, "SeriesTime"),
        ({"PatientWeight": "seventy"}, "PatientWeight 'seventy'"),
        ({"RadionuclideTotalDose": 280}, "a dose of 280 Bq"),
        # dates that anonymisation has changed in one place alone: a factor a little or endlessly wrong, or an overflow
        ({"RadiopharmaceuticalStartDateTime": "20240102130000"}, "1 hours after the scan"),
        ({"RadiopharmaceuticalStartDateTime": "20240101110000"}, "25 hours before the scan"),
        ({"RadiopharmaceuticalStartDateTime": "19000101000000"}, "hours before the scan"),
        ({"RadiopharmaceuticalStartDateTime": "21000101000000"}, "hours after the scan"),
    ],
)
def test_what_is_missing_or_impossible_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        suv.factor([changed(**changes)])


@reference.needed[0]
@reference.needed[1]
def test_real_headers_give_the_published_factors() -> None:
    folder = reference.ROOT / "pet" / "suv_metadata"
    expected = json.loads((folder / "EXPECTED.json").read_text())["expected"]
    assert len(expected) == 4
    for name, value in expected.items():
        instances = json.loads((folder / f"{name}-instances.json").read_text())
        assert suv.factor(instances) == pytest.approx(value, abs=1e-6, rel=1e-6), name


@reference.needed[0]
@reference.needed[1]
def test_a_real_file_has_all_that_is_needed() -> None:
    dataset = pydicom.dcmread(reference.ROOT / "pet" / "acrin_flt" / "1.dcm", stop_before_pixels=True)
    assert 1e-4 < suv.factor([suv.facts(dataset)]) < 1e-3


@reference.needed[0]
@reference.needed[1]
def test_a_pet_series_is_read_as_suv() -> None:
    path = reference.ROOT / "pet" / "acrin_flt" / "1.dcm"
    dataset = pydicom.dcmread(path)
    volume = medseg.read(path)
    factor = suv.factor([suv.facts(dataset)])
    stored = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert volume.source.notes["values"] == "SUVbw"
    np.testing.assert_allclose(volume.array[0, :, :, 0], stored.T * factor, rtol=1e-5)


def test_pet_without_suv_is_not_normalised_as_if_it_were() -> None:
    source = Source(Path("pet"), modality="PT", notes={"values": "BQML", "no_suv": "no PatientWeight"})
    how = Normalisation(kind="suv", mean=0.0, sd=5.0)
    plan = Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=(2, 2, 2),
        batch=1,
        normalisation=(how,),
        crop="none",
        order=1,
        channels=("PET",),
    )
    with pytest.raises(Refusal, match=r"PET in BQML \(no PatientWeight\)"):
        image(Volume(np.ones((1, 2, 2, 2)), np.eye(4), source), plan)
