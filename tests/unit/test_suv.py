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
from medseg.readers import dicom as dicom_reader
from medseg.refusal import Refusal
from medseg.transforms.prepare import image
from medseg.volume import Source, Volume
from tests import dicom_series as ds
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


MAN, WOMAN = ({"PatientSize": 1.75, "PatientSex": sex} for sex in "MF")
LEAN_G = {"M": 1000 * 9270 * 70 / (6680 + 216 * 22.857143), "F": 1000 * 9270 * 70 / (8780 + 244 * 22.857143)}
SURFACE_CM2 = 18480  # of 70 kg and 1.75 m, in published tables of Du Bois' formula 1.85 m2


def test_lean_body_mass_and_surface() -> None:
    assert suv.body(changed(**MAN), "lbm") == pytest.approx(LEAN_G["M"]) == pytest.approx(55_850, abs=10)
    assert suv.body(changed(**WOMAN), "lbm") == pytest.approx(LEAN_G["F"]) == pytest.approx(45_200, abs=10)
    assert suv.body(changed(**MAN), "bsa") == pytest.approx(SURFACE_CM2, abs=30)
    assert suv.factor([changed(**WOMAN)], "lbm") == pytest.approx(LEAN_G["F"] / 140e6)
    assert suv.factor([changed(**MAN)], "bsa") == pytest.approx(suv.body(changed(**MAN), "bsa") / 140e6)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("lbm", {}, "no PatientSize"),
        ("lbm", {"PatientSize": 1.75}, "no PatientSex"),
        ("lbm", {"PatientSize": 1.75, "PatientSex": "O"}, "PatientSex 'O'"),
        ("bsa", {"PatientSize": 175}, "a patient of 175 m"),
        ("bsa", {"PatientSize": 0}, "PatientSize 0"),
        ("bw", {"Units": "GML", "SUVType": "LBM"}, "SUV of type LBM"),
        ("lbm", {"Units": "GML", "SUVType": "LBMJAMES128", **MAN}, "SUV of type LBMJAMES128"),
    ],
)
def test_what_other_sizes_of_the_body_need(kind: suv.Kind, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        suv.factor([changed(**changes)], kind)


@pytest.mark.parametrize(
    ("kind", "changes", "factor"),
    [
        # already SUV: only the size of the body is exchanged
        ("bw", {"Units": "GML", "SUVType": "BW"}, 1.0),
        ("lbm", {"Units": "GML", **MAN}, LEAN_G["M"] / 70_000),
        ("bw", {"Units": "GML", "SUVType": "LBMJANMA", **WOMAN}, 70_000 / LEAN_G["F"]),
        ("bsa", {"Units": "CM2ML"}, 1.0),
        # Philips' counts: to SUV by weight, or to Bq/ml
        ("bw", {"Units": "CNTS", "PhilipsSUVScaleFactor": "0.003"}, 0.003),
        ("lbm", {"Units": "CNTS", "PhilipsSUVScaleFactor": 0.003, **MAN}, 0.003 * LEAN_G["M"] / 70_000),
        ("bw", {"Units": "CNTS", "PhilipsSUVScaleFactor": 0, "PhilipsActivityScaleFactor": 4.7}, 4.7 * 70_000 / 140e6),
        # Philips' factors beside Bq/ml do not count
        ("bw", {"PhilipsSUVScaleFactor": 0.003, "PhilipsActivityScaleFactor": 4.7}, 70_000 / 140e6),
        # GE's own time of the scan, where the series time was rewritten
        ("bw", {"SeriesTime": "150000", "GEScanDateTime": "20240102120000.00"}, 70_000 / 140e6),
    ],
)
def test_what_vendors_write(kind: suv.Kind, changes: dict[str, Any], factor: float) -> None:
    assert suv.factor([changed(**changes)], kind) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Units": "GML"}, "images with Units BQML and GML"),
        ({"DecayCorrection": "ADMIN"}, "images with DecayCorrection ADMIN and START"),
        ({"PhilipsSUVScaleFactor": 0.25}, "images with PhilipsSUVScaleFactor 0.25 and none"),
        ({"RadionuclideTotalDose": 7e7}, "images with RadionuclideTotalDose"),
    ],
)
def test_images_that_would_need_different_factors_get_none(change: dict[str, Any], words: str) -> None:
    assert suv.factor([changed(), changed(AcquisitionTime="121500")]) == suv.factor([changed()])
    with pytest.raises(Refusal, match=words):
        suv.factor([changed(), changed(**change)])


def pet(**changes: Any) -> pydicom.Dataset:
    """A PET slice with the facts of HEADER."""
    drug = pydicom.Dataset()
    values = changed(**changes)
    for name in suv.DRUG:
        if name in values:
            setattr(drug, name, values.pop(name))
    private = {name: values.pop(name) for name in suv.PRIVATE if name in values}
    positron = "1.2.840.10008.5.1.4.1.1.128"
    dataset = ds.slice_(ds.places(1)[0], Modality="PT", SOPClassUID=positron, RescaleIntercept=0, **values)
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    for name, value in private.items():
        group, creator, element = suv.PRIVATE[name]
        dataset.private_block(group, creator, create=True).add_new(element, "DS" if group == 0x7053 else "DT", value)
    return dataset


def test_private_factors_are_found_in_the_file(tmp_path: Path) -> None:
    folder = ds.write(tmp_path, [pet(Units="CNTS", PhilipsSUVScaleFactor="0.25", PhilipsActivityScaleFactor="4.7")])
    volume = medseg.read(folder)
    assert volume.source.notes["values"] == "SUVbw"
    stored = pydicom.dcmread(folder / "IM0000.dcm").pixel_array
    np.testing.assert_allclose(volume.array[0, :, :, 0].T, stored * 0.25)
    rewritten = suv.facts(pet(GEScanDateTime="20240102120000"))
    assert rewritten["GEScanDateTime"] == "20240102120000"


@pytest.mark.parametrize(
    ("kind", "values", "factor"),
    [
        ("bw", "SUVbw", 70_000 / 140e6),
        ("lbm", "SUVlbm", LEAN_G["M"] / 140e6),
        ("bsa", "SUVbsa", 1e4 * 0.007184 * 175**0.725 * 70**0.425 / 140e6),
        ("none", "BQML", 1),
    ],
)
def test_the_reader_says_which_values_it_gives(tmp_path: Path, kind: Any, values: str, factor: float) -> None:
    folder = ds.write(tmp_path, [pet(**MAN)])
    volume = dicom_reader.read(folder, dicom_reader.Options(suv=kind))
    assert volume.source.notes["values"] == values
    assert ("no_suv" in volume.source.notes) == (kind == "none")
    stored = pydicom.dcmread(folder / "IM0000.dcm").pixel_array
    np.testing.assert_allclose(volume.array[0, :, :, 0].T, stored * factor, rtol=1e-5)


def test_what_the_header_lacks_is_a_note(tmp_path: Path) -> None:
    folder = ds.write(tmp_path, [pet(PatientWeight=None)])
    volume = medseg.read(folder)
    assert (volume.source.notes["values"], volume.source.notes["no_suv"]) == ("BQML", "no PatientWeight")


def enhanced_pet(unit: str = "Bq/ml", corrected: str = "YES", slope: float = 2.0) -> pydicom.Dataset:
    dataset = pet(DecayCorrection=None, CorrectedImage=None, Units=None, SeriesTime="130000")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
    dataset.DecayCorrected, dataset.DecayCorrectionDateTime = corrected, "20240102120000"
    code, mapping, rescale, shared = (pydicom.Dataset() for _ in range(4))
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    mapping.MeasurementUnitsCodeSequence = [code]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 2.0, 0.0
    rescale.RescaleSlope, rescale.RescaleIntercept = slope, 0.0
    orientation, measures = pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = list(ds.AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.6], 3
    shared.RealWorldValueMappingSequence, shared.PixelValueTransformationSequence = [mapping], [rescale]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    frames = []
    for place in ds.places(2):
        position, frame = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = list(place)
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.NumberOfFrames, dataset.PixelData = 2, 2 * dataset.PixelData
    return dataset


@pytest.mark.parametrize(("unit", "factor"), [("Bq/ml", 70_000 / 140e6), ("{SUVbw}g/ml", 1.0)])
def test_enhanced_pet(tmp_path: Path, unit: str, factor: float) -> None:
    enhanced_pet(unit).save_as(tmp_path / "e", enforce_file_format=True)
    volume = medseg.read(tmp_path / "e")
    stored = pydicom.dcmread(tmp_path / "e").pixel_array
    assert volume.source.notes["values"] == "SUVbw"
    np.testing.assert_allclose(volume.array[0].transpose(2, 1, 0), stored * 2 * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "{counts}"}, "values in {counts}"),
        ({"corrected": "NO"}, "decay correction NONE"),
        ({"slope": 3.0}, "a mapping to real values other than the rescaling"),
    ],
)
def test_enhanced_pet_that_is_no_activity(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    enhanced_pet(**changes).save_as(tmp_path / "e", enforce_file_format=True)
    assert words in medseg.read(tmp_path / "e").source.notes["no_suv"]


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
