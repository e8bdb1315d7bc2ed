"""What is written for a case: everything asked for, and what that refers to."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pydicom
import pytest

from medseg import plugins, readers
from medseg.case import Case
from medseg.engine import device
from medseg.engine.batch import predict_all
from medseg.engine.bench import Bench, Order
from medseg.engine.memory import FREE, Limits
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.progress import Course
from medseg.refusal import Refusal
from medseg.volume import Source, Volume
from tests import dicom_sources

LABELS = LabelTable.of({"liver": 5, "spleen": 1})


class Predictor:
    """As `engine.predict.Predictor` looks to a batch; the lower half of a scan is liver."""

    table = LABELS
    limits = FREE
    provenance = MappingProxyType({"model": "unit test"})

    def read_scan(self, case: Case, *, series: str | None = None) -> Volume:
        return readers.read(next(iter(case.images.values())), series=series)

    def predict(self, scan: Volume, case: str, *_: object, **__: object) -> Prediction:
        target = np.zeros((1, *scan.shape), np.uint8)
        target[..., : scan.shape[2] // 2] = 1
        return Prediction(case, self.table, scan.with_array(target), self.provenance, scan=scan)


def test_a_limit_of_memory_is_for_one_case_at_a_time(tmp_path: Path) -> None:
    predictor = Predictor()
    predictor.limits = Limits.of("1GiB")
    with pytest.raises(Refusal, match="--ahead: found a limit of memory, and three cases at once"):
        predict_all(predictor, [], tmp_path / "out", ahead=True)  # type: ignore[arg-type]
    assert predict_all(predictor, [], tmp_path / "out", ahead=False) == []  # type: ignore[arg-type]
    predictor.limits = Limits.of(None, "1GiB")
    assert predict_all(predictor, [], tmp_path / "out", ahead=True) == []  # type: ignore[arg-type]


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return [Case("a", patient="P1", images={"CT": dicom_sources.ct(tmp_path / "scan")})]


def test_a_report_comes_with_the_segmentation_that_it_is_about(cases: list[Case], tmp_path: Path) -> None:
    said: list[str] = []
    outcomes = predict_all(Predictor(), cases, tmp_path / "out", formats=["dicom_sr"], announce=said.append)  # type: ignore[arg-type]
    assert outcomes[0].state == "done" and outcomes[0].files == ("a.seg.dcm", "a.sr.dcm")
    assert said[0] == "dicom_seg is written too, because dicom_sr refers to it"


def test_what_is_referred_to_is_written_first_and_once(cases: list[Case], tmp_path: Path) -> None:
    said: list[str] = []
    formats = ["nifti", "dicom_sr", "dicom_seg", "statistics_csv"]
    (outcome,) = predict_all(Predictor(), cases, tmp_path / "out", formats=formats, announce=said.append)  # type: ignore[arg-type]
    assert outcome.files == ("a.nii.gz", "a.seg.dcm", "a.sr.dcm", "a.statistics.csv")
    assert len(said) == 1 and said[0].startswith("[1/1] a: done")


def test_memory_of_a_failed_case_is_looked_for_and_of_others_not(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(device, "give_back", lambda *, after_error=False: asked.append(after_error))
    lost = Case("b", patient="P2", images={"CT": tmp_path / "lost.nii.gz"})
    predict_all(Predictor(), [*cases, lost], tmp_path / "out", formats=["nifti"], announce=lambda _: None)  # type: ignore[arg-type]
    assert asked == [True, False], "after the case that failed, and at the end"


def test_a_name_that_is_no_text_does_not_lose_the_record(cases: list[Case], tmp_path: Path) -> None:
    odd = Case("b", patient="P2", images={"CT": tmp_path / os.fsdecode(b"\xff")})
    predict_all(Predictor(), [odd, *cases], tmp_path / "out", formats=["nifti"], announce=lambda _: None)  # type: ignore[arg-type]
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert [one["state"] for one in record["cases"]] == ["refused", "done"]
    assert os.fsencode(record["cases"][0]["reason"]).startswith(os.fsencode(tmp_path) + b"/\xff: found nothing there")


def test_volumes_in_the_record_are_those_of_the_table(cases: list[Case], tmp_path: Path) -> None:
    predict_all(Predictor(), cases, tmp_path / "out", formats=["statistics_csv"], announce=lambda _: None)  # type: ignore[arg-type]
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    with (tmp_path / "out" / "a.statistics.csv").open(newline="") as handle:
        table = {row["label"]: float(row["volume_ml"]) for row in csv.DictReader(handle)}
    assert record["cases"][0]["facts"]["volume_ml"] == table and table["liver"] > table["spleen"] == 0


class Network(Predictor):
    """Counts what it was asked."""

    asked = 0

    def read_scan(self, case: Case, *, series: str | None = None) -> Volume:
        path = next(iter(case.images.values()))
        return Volume(np.zeros((1, 4, 5, 1), np.uint8), np.eye(4), Source(path, "picture"), unit="px")

    def predict(self, scan: Volume, case: str, *_: object, **__: object) -> Prediction:
        self.asked += 1
        return super().predict(scan, case)


WANT_A_SCAN = ["dicom_seg", "rtstruct", "dicom_sr", "dicom_page", "dicom_overlay", "stl", "ply", "glb"]


@pytest.mark.parametrize("output", WANT_A_SCAN)
def test_what_cannot_be_written_is_refused_before_anything_is_predicted(output: str, tmp_path: Path) -> None:
    network, case = Network(), Case("a", patient="P1", images={"CT": tmp_path / "a.png"})
    (outcome,) = predict_all(network, [case], tmp_path / "out", formats=["nifti", output], announce=lambda _: None)  # type: ignore[arg-type]
    assert outcome.state == "refused" and network.asked == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predict.json"]


def test_every_output_that_refuses_scans_can_say_so_before() -> None:
    assert {name for name in plugins.names("outputs") if hasattr(plugins.find("outputs", name), "check")} == {
        *WANT_A_SCAN
    }


def test_a_report_cannot_refer_to_a_label_map(cases: list[Case], tmp_path: Path) -> None:
    formats = ["dicom_seg:type=labelmap", "dicom_sr"]
    with pytest.raises(Refusal, match="type=labelmap beside the output dicom_sr"):
        predict_all(Predictor(), cases, tmp_path / "out", formats=formats, announce=lambda _: None)  # type: ignore[arg-type]


def test_a_record_is_there_even_of_nothing(tmp_path: Path) -> None:
    assert predict_all(Predictor(), [], tmp_path / "out") == []  # type: ignore[arg-type]
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record == {"provenance": {"model": "unit test"}, "cases": []}


def recorded(folder: Path) -> dict[str, dict]:
    return {case["case"]: case for case in json.loads((folder / "predict.json").read_text())["cases"]}


def test_a_later_call_keeps_what_the_record_says_of_other_cases(cases: list[Case], tmp_path: Path) -> None:
    lost = Case("b", patient="P2", images={"CT": tmp_path / "lost.nii.gz"})
    other = Predictor()
    other.provenance = MappingProxyType({"model": "another"})
    for predictor, asked in ((Predictor(), [*cases, lost]), (Predictor(), [lost]), (other, [lost])):
        predict_all(predictor, asked, tmp_path / "out", formats=["nifti"], announce=lambda _: None)  # type: ignore[arg-type]
    found = recorded(tmp_path / "out")
    assert {name: one["state"] for name, one in found.items()} == {"a": "done", "b": "refused"}
    assert found["a"]["provenance"] == {"model": "unit test"} and "provenance" not in found["b"]


def test_what_is_no_record_is_not_replaced_by_one(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "predict.json").write_text("[1, 2]")
    with pytest.raises(Refusal, match=r"predict\.json: found"):
        predict_all(Predictor(), cases, tmp_path, formats=["nifti"], announce=lambda _: None)  # type: ignore[arg-type]
    assert (tmp_path / "predict.json").read_text() == "[1, 2]"


def test_a_case_brings_its_own_identity_and_folder(cases: list[Case], tmp_path: Path) -> None:
    bench = Bench.of(Predictor(), ["dicom_seg"], announce=lambda _: None)  # type: ignore[arg-type]
    folders = [tmp_path / name for name in ("one", "two", "three")]
    orders = [
        Order(cases[0], out, Course(lambda step: None, "a", 1, 1), uid=uid)
        for out, uid in zip(folders, ("job 1", "job 1", "job 2"), strict=True)
    ]
    assert [outcome.state for outcome in bench.run(orders)] == ["done"] * 3
    uids = [pydicom.dcmread(out / "a.seg.dcm").SOPInstanceUID for out in folders]
    assert uids[0] == uids[1] != uids[2]
