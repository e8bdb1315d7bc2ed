"""Measurement reports: the numbers of the table, in codes that others read, about segments that they can find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medseg import measurements, originals, readers
from medseg.dicom import objects
from medseg.dicom.settings import DicomSettings
from medseg.labels import LabelTable
from medseg.outputs import dicom_page, dicom_seg, dicom_sr
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Slices, Volume
from tests import dicom_sources, judges

LABELS = LabelTable.of({"liver": 5, "spleen": 1, "kidney_left": 9, "liver_tumour": 4, "Würfel": 3})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
UNITS = {"CT": ("112031", "[hnsf'U]"), "MR": ("110852", "1"), "PT": ("126401", "g/ml{SUVbw}")}
NAMES = {"mean": "373098007", "sd": "386136009", "min": "255605001", "max": "56851009", "median": "373099004"}


def prediction(folder: Path, kind: str = "ct", table: LabelTable = LABELS) -> Prediction:
    """The second, or the third of overlapping ones, was not found."""
    volume = readers.read(dicom_sources.MAKERS[kind](folder / kind))
    draws = np.random.default_rng(1)
    target = draws.choice(np.array([0, 1, 3, 4, 5] if table.exclusive else [0, 1], np.uint8), (1, *volume.shape))
    if not table.exclusive:
        target = np.concatenate([target, target * (draws.random(target.shape) < 0.5), target * 0])
    scan = volume.with_array(draws.normal(40, 90, volume.array.shape).astype(np.float32))
    return Prediction("case-1", table, volume.with_array(target), {"model": "unit test", "seed": "7"}, scan=scan)


def written(made: Prediction, folder: Path) -> hd.sr.EnhancedSR:
    dicom_sr.write(made, folder / "a.sr.dcm", dicom_sr.Options(series_number=77))
    assert [file.name for file in folder.glob("*.dcm")] == ["a.sr.dcm"]
    return hd.sr.srread(folder / "a.sr.dcm")


def by_name(groups: list[Any]) -> dict[str, Any]:
    return {group.tracking_identifier.removeprefix("case-1 "): group for group in groups}


def numbers(group: hd.sr.MeasurementsAndQualitativeEvaluations) -> dict[tuple[str, str], tuple[float, str]]:
    return {
        (one.name.value, one.derivation.value if one.derivation else ""): (one.value, one.unit.value)
        for one in group.get_measurements()
    }


@pytest.mark.parametrize("table", [LABELS, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("kind", ["ct", "mr", "pet", "enhanced_ct", "enhanced_mr"])
def test_the_report_holds_the_numbers_of_the_table(kind: str, table: LabelTable, tmp_path: Path) -> None:
    made = prediction(tmp_path, kind, table)
    content = written(made, tmp_path).content
    groups, absent = (
        by_name(content.get_volumetric_roi_measurement_groups()),
        by_name(content.get_image_measurement_groups()),
    )
    concept, unit = UNITS[made.target.source.modality]
    measured = measurements.measure(made)
    for row in measured.rows:
        found = numbers((groups if row.voxels else absent).pop(row.label.name))
        assert found.pop(("118565006", "")) == (float(measurements.text(row.volume_ml or 0)), "cm3")
        for values in row.values:
            for name, value in values._asdict().items():
                assert found.pop((concept, NAMES[name])) == (float(measurements.text(value)), unit)
        assert not found
    assert not groups and not absent


def test_lean_body_mass_is_by_the_formula_that_was_used(tmp_path: Path) -> None:
    path = dicom_sources.pet(tmp_path / "pet")
    scan = readers.read(path, dicom=DicomSettings(suv="lbm"))
    made = Prediction("case-1", LABELS, scan.with_array(np.ones((1, *scan.shape), np.uint8)), scan=scan)
    found = numbers(by_name(written(made, tmp_path).content.get_volumetric_roi_measurement_groups())["liver"])
    assert found["126405", NAMES["mean"]][1] == "g/ml{SUVlbm(Janma)}"


def test_segments_are_those_of_the_segmentation_beside_it(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    report = written(made, tmp_path)
    dicom_seg.write(made, tmp_path / "a.seg.dcm", dicom_seg.Options())
    segmentation = pydicom.dcmread(tmp_path / "a.seg.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    for group, segment in zip(groups, segmentation.SegmentSequence, strict=True):
        (item,) = group.referenced_segment[0].ReferencedSOPSequence
        assert item.ReferencedSegmentNumber == segment.SegmentNumber
        assert item.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert item.ReferencedSOPClassUID == segmentation.SOPClassUID
        assert (group.tracking_identifier, group.tracking_uid) == (segment.TrackingID, segment.TrackingUID)
        assert group.finding_type.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
    evidence = {
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert (segmentation.SeriesInstanceUID, segmentation.SOPInstanceUID) in evidence


def test_findings_have_codes_and_places(tmp_path: Path) -> None:
    content = written(prediction(tmp_path), tmp_path).content
    groups = by_name(content.get_volumetric_roi_measurement_groups())
    kidney, tumour = groups["kidney_left"], groups["liver_tumour"]
    assert (kidney.finding_type.value, kidney.finding_category.value) == ("64033007", "123037004")
    assert [(site.value.value, site.laterality.meaning) for site in kidney.finding_sites] == [("64033007", "Left")]
    assert (tumour.finding_type.value, tumour.finding_category.value) == ("108369006", "49755003")
    (site,) = tumour.finding_sites
    assert site.value.value == "10200004" and site.laterality is None
    assert groups["Würfel"].finding_type.scheme_designator == "99MEDSEG"


def test_what_was_looked_for_and_not_found_is_said(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    empty = replace(made, target=made.target.with_array(np.zeros_like(made.target.array)))
    report = written(empty, tmp_path)
    assert not report.content.get_volumetric_roi_measurement_groups()
    groups = report.content.get_image_measurement_groups()
    assert list(by_name(groups)) == list(LABELS.names)
    for group in groups:
        assert numbers(group) == {("118565006", ""): (0.0, "cm3")}
        assert ("121052", "121054") in [
            (one.name.value, one.value.value) for one in group.get_qualitative_evaluations()
        ]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    uids = {item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence}
    assert uids == {instance.sop_instance_uid for instance in made.target.source.instances}


@pytest.mark.parametrize("kind", ["ct", "enhanced_mr"])
def test_the_images_that_were_measured_are_listed(kind: str, tmp_path: Path) -> None:
    made = prediction(tmp_path, kind)
    items = list(written(made, tmp_path).ContentSequence)
    library, measured = items[-2:]
    assert [one.ConceptNameCodeSequence[0].CodeValue for one in (library, measured)] == ["111028", "126010"]
    (group,) = library.ContentSequence
    found = [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in group.ContentSequence[2:]]
    assert found == list(dict.fromkeys(instance.sop_instance_uid for instance in made.target.source.instances))
    assert group.ContentSequence[0].ConceptCodeSequence[0].CodeValue == made.target.source.modality


def test_a_repaired_series_is_measured_on_the_repaired_grid(tmp_path: Path) -> None:
    """The fourth slice is missing, and was interpolated; one label lies on it alone, where no instance can hold it."""
    made = prediction(tmp_path, table=LabelTable.of({"liver": 5, "lesion": 4}))
    places, kept = originals.affines(made.target), [0, 1, 2, 4, 5]
    source = made.target.source
    instances, columns_rows = tuple(source.instances[n] for n in kept), made.target.shape[:2]
    source = replace(source, instances=instances, slices=Slices(places[kept], columns_rows))
    target = np.zeros((1, *made.target.shape), np.uint8)
    target[0, 2:6, 2:6, 1:5] = 1
    target[0, 3, 3:5, 3] = 2
    content = written(replace(made, target=Volume(target, made.target.affine, source)), tmp_path).content
    voxel_ml = 0.6 * 0.8 * 3 / 1000
    (liver,), (lesion,) = content.get_volumetric_roi_measurement_groups(), content.get_image_measurement_groups()
    assert numbers(liver)["118565006", ""][0] == pytest.approx(62 * voxel_ml)
    assert numbers(lesion)["118565006", ""][0] == pytest.approx(2 * voxel_ml)
    assert not lesion.get_qualitative_evaluations(name=codes.DCM.PresenceOfProperty)


def test_whose_it_is_and_how_it_came_about(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    report = written(made, tmp_path)
    assert (report.PatientID, report.Modality, report.SeriesNumber) == ("P1", "SR", 77)
    assert report.SOPInstanceUID == objects.uid(made, "SR") and report.VerificationFlag == "UNVERIFIED"
    assert report.SeriesInstanceUID == objects.uid(made, "SR series")
    assert any("seed: 7" in item.ContributionDescription for item in report.ContributingEquipmentSequence)
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {one.SeriesInstanceUID for one in series} == {
        made.target.source.notes["series_uid"],
        objects.uid(made, "SEG series"),
    }
    (observer,) = report.content.get_observer_contexts()
    attributes = observer.observer_identifying_attributes
    assert (attributes.name, attributes.manufacturer_name) == ("unit test", "medseg")
    again = replace(made, uid="another result")
    assert attributes.uid == objects.device_uid(again)
    assert (
        objects.device_uid(replace(made, provenance={"model": "unit test", "weights sha256": "other"}))
        != attributes.uid
    )


def test_an_account_longer_than_a_description_may_be_is_kept_in_full(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    sums = ", ".join(f"{fold:064x}" for fold in range(30))
    report = written(replace(made, provenance={"model": "m", "weights sha256": sums, "seed": "7"}), tmp_path)
    assert f"weights sha256: {sums}" in report.to_json() and "seed: 7" in report.to_json()
    told = [item.ContributionDescription for item in report.ContributingEquipmentSequence]
    assert any(len(text) == 1024 for text in told)


def test_the_procedure_is_the_one_of_the_header(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    items = written(made, tmp_path)[0x0040A730].value

    def procedures() -> list[str]:
        return [item.ConceptCodeSequence[0].CodeValue for item in items if name(item) == "121058"]

    def name(item: pydicom.Dataset) -> str:
        return item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""

    assert procedures() == ["25045-6"]
    for instance in made.target.source.instances:
        header = pydicom.dcmread(instance.path)
        header.ProcedureCodeSequence = [hd.sr.CodedConcept("CTABD", "99HOSPITAL", "CT of the abdomen")]
        header.save_as(instance.path)
    items = written(made, tmp_path)[0x0040A730].value
    assert procedures() == ["CTABD"]


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO 2022 IR 100", ["", "ISO 2022 IR 100"]])
@pytest.mark.parametrize("output", [dicom_sr, dicom_page], ids=["report", "page"])
def test_names_in_any_character_set_survive(output: Any, character_set: str | list[str], tmp_path: Path) -> None:
    made = prediction(tmp_path, table=LabelTable.of({"liver": 5}))
    for instance in made.target.source.instances:
        header = pydicom.dcmread(instance.path)
        header.PatientName, header.SpecificCharacterSet = "Müller^Jörg", character_set
        header.save_as(instance.path)
    output.write(made, tmp_path / "a.dcm", output.Options())
    assert str(pydicom.dcmread(tmp_path / "a.dcm").PatientName) == "Müller^Jörg"


def test_labels_of_any_character_set_survive(tmp_path: Path) -> None:
    content = written(prediction(tmp_path), tmp_path).content
    assert "Würfel" in by_name(content.get_volumetric_roi_measurement_groups())


def test_only_the_first_of_two_channels_that_measure_the_same(tmp_path: Path) -> None:
    made = prediction(tmp_path, "mr")
    assert made.scan is not None
    two = made.scan.with_array(np.concatenate([made.scan.array, made.scan.array + 1000]), ("T1", "T2"))
    report = written(replace(made, scan=two), tmp_path)
    values = [numbers(one)["110852", NAMES["max"]][0] for one in report.content.get_volumetric_roi_measurement_groups()]
    assert values and max(values) < 1000


def test_a_report_that_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prediction(tmp_path)
    honest = dicom_sr._measurement
    monkeypatch.setattr(dicom_sr, "_measurement", lambda number: honest(number._replace(value=number.value + 0.001)))
    with pytest.raises(Refusal, match="after reading it back"):
        dicom_sr.write(made, tmp_path / "a.sr.dcm", dicom_sr.Options())
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


def test_a_report_about_another_segment_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prediction(tmp_path)
    honest = dicom_sr._group
    monkeypatch.setattr(dicom_sr, "_group", lambda *given: honest(*given[:3], given[3] and given[3] % 2 + 1, given[4]))
    with pytest.raises(Refusal, match="after reading it back"):
        dicom_sr.write(made, tmp_path / "a.sr.dcm", dicom_sr.Options())


def test_scans_that_are_not_dicom_are_refused(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, 2, 3, 4), np.uint8), np.eye(4))
    with pytest.raises(Refusal, match="without DICOM instances"):
        dicom_sr.write(Prediction("c", LABELS, volume), tmp_path / "a.sr.dcm", dicom_sr.Options())


@pytest.mark.parametrize("kind", list(dicom_sources.MAKERS))
class TestValidator:
    pytestmark = judges.needs("dciodvfy")

    def test_it_finds_no_error(self, kind: str, tmp_path: Path) -> None:
        made = prediction(tmp_path, kind)
        empty = replace(made, target=made.target.with_array(np.zeros_like(made.target.array)))
        for one in (made, empty):
            dicom_sr.write(one, tmp_path / "a.sr.dcm", dicom_sr.Options())
            assert judges.dciodvfy(tmp_path / "a.sr.dcm") == []


class TestArchive:
    pytestmark = judges.needs("Orthanc", "storescu")

    def test_it_stores_a_report_and_gives_it_back(self, tmp_path: Path) -> None:
        report = written(prediction(tmp_path), tmp_path)
        with judges.orthanc(tmp_path) as archive:
            back = archive.fetch(archive.store(tmp_path / "a.sr.dcm"), tmp_path / "back.dcm")
            assert hd.sr.srread(back).ContentSequence == report.ContentSequence
