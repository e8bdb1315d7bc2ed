"""From a recipe, the command line and Python, settings of DICOM reach the reader, and options reach the outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml

import medseg
from medseg import config, readers
from medseg.dicom.settings import DicomSettings
from medseg.engine import material, scans
from medseg.engine.batch import predict_all
from medseg.engine.predict import Predictor
from medseg.refusal import Refusal
from tests import dicom_series as ds
from tests import dicom_study, tiny

RULES = "dicom.select={must: {modality: CT, plane: axial, phase: arterial}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.untrained_run(tmp_path_factory.mktemp("model") / "run", changes=(RULES,)).folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series = dicom_study.abdomen()
    wanted = {
        name: series[name][:12] for name in ("localiser", "native thin", "arterial", "portal thin", "seg", "dose")
    }
    return dicom_study.write(tmp_path_factory.mktemp("in") / "patient7", wanted)


def test_predict_chooses_by_the_rules_of_the_run(
    run: Path, study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = tiny.medseg_command(
        *("predict", run, study, tmp_path / "out", "--device", "cpu", "--output", "nifti"),
        *("--output", "dicom_seg:type=labelmap,series_number=412,series_description=Two halves, arterial"),
    )
    assert done.code == 0, done.err
    assert (
        "series 4 'Abdomen arteriell 1.0' (CT, 12 slices), chosen by the rules from 6 series, of which 1 fits"
        in caplog.text
    )
    [case] = json.loads((tmp_path / "out" / "predict.json").read_text())["cases"]
    assert case["case"] == "patient7" and case["facts"]["series"].startswith("series 4 'Abdomen arteriell 1.0'")
    [written] = [tmp_path / "out" / name for name in case["files"] if name.endswith(".dcm")]
    made = pydicom.dcmread(written)
    assert (made.SeriesNumber, made.SeriesDescription) == (412, "Two halves, arterial")
    assert made.SegmentationType == "LABELMAP"
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"


def test_a_series_named_and_a_setting_changed_go_before_the_recipe(
    run: Path, study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("predict", run, study, tmp_path / "out", "--device", "cpu")
    done = tiny.medseg_command(*words, "--set", "dicom.select.must.phase=portal venous")
    assert done.code == 0 and "series 6 'Abdomen portal" in caplog.text
    done = tiny.medseg_command(*words, "--series", "nativ")
    assert done.code == 0 and "series 3 'Abdomen nativ 1.0' (CT, 12 slices, 1.2.3.3), chosen by 'nativ'" in caplog.text
    done = tiny.medseg_command(*words, "--set", "dicom.select.must.phase=delayed")
    assert done.code == 1 and "none of 6 series that fits the rules" in done.err
    done = tiny.medseg_command(*words, "--set", "dicom.tolerance=1")
    assert done.code == 2 and "dicom.tolerance: no such key; did you mean 'tolerance_mm'" in done.err
    done = tiny.medseg_command(*words, "--repair", "mend")
    assert done.code == 2 and "dicom.repair: found 'mend'; input should be 'refuse', 'report' or 'fix'" in done.err


CHANNELS = """dicom.channels={
    T1: {must: {description: t1, contrast: no, plane: axial}}, T1c: {must: {description: t1, contrast: yes}},
    FLAIR: {must: {description: flair}}}"""


def test_each_channel_is_a_series_of_the_study(tmp_path: Path) -> None:
    names = ("T1", "T1c", "FLAIR")
    changes = (CHANNELS,)
    run = tiny.untrained_run(tmp_path / "run", channels=names, changes=changes).folder
    wanted = {name: slices[:14] for name, slices in dicom_study.head().items()}
    study = dicom_study.write(tmp_path / "in" / "p9", wanted)
    done = tiny.medseg_command("predict", run, tmp_path / "in", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done.err
    [case] = json.loads((tmp_path / "out" / "predict.json").read_text())["cases"]
    assert [part in case["facts"]["series"] for part in ("T1: series 9 ", "T1c: series 10 ", "FLAIR: series 3 ")] == [
        True
    ] * 3
    predictor = Predictor.load([run], device="cpu")
    scan = predictor.read_scan(scans.of_study(scans.single(study, names), names))
    assert scan.channels == names
    expected = [readers.read(study, series=number).array[0] for number in ("9", "10", "3")]
    np.testing.assert_array_equal(scan.array, np.stack(expected))
    assert medseg.predict(run, study, device="cpu").target.shape == scan.shape  # type: ignore[union-attr]
    said = tiny.medseg_command("dicom", "select", run, study)
    assert said.code == 0 and said.out.count(", channel ") == 3
    with pytest.raises(Refusal, match=r"dicom\.channels: found rules for T2; needed rules for each channel"):
        Predictor.load([run], device="cpu", changes=["dicom.channels={T2: {}}"])


def test_one_series_is_never_two_channels(tmp_path: Path) -> None:
    names = ("T1", "T1c")
    wide = "dicom.channels={T1: {must: {description: t1}}, T1c: {must: {description: t1, contrast: yes}}}"
    run = tiny.untrained_run(tmp_path / "run", channels=names, changes=(wide,)).folder
    study = dicom_study.write(tmp_path / "in" / "p9", {"t1c": dicom_study.head()["t1c"][:14]})
    done = tiny.medseg_command("predict", run, study, tmp_path / "out", "--device", "cpu")
    assert done.code == 1 and "found the same images as channel T1 and as channel T1c" in done.err
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    said = tiny.medseg_command("dicom", "select", run, study)
    assert said.code == 1 and "one series for several channels: T1, T1c" in said.out


def test_python_takes_the_same(run: Path, study: Path) -> None:
    prediction = medseg.predict(run, study, device="cpu")
    assert prediction.target.source.notes["series_number"] == "4"  # type: ignore[union-attr]
    with pytest.raises(Refusal, match=r"repair=mend: found repair: found 'mend'"):
        medseg.read(study / "arterial", repair="mend")


@pytest.mark.parametrize("given", ["python", "convert", "info", "recipe"])
def test_settings_reach_the_reader(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DicomSettings] = []
    from medseg.readers import dicom

    original = dicom.read
    monkeypatch.setattr(dicom, "read", lambda path, options: (seen.append(options), original(path, options))[1])
    folder = ds.series(tmp_path / "s", ds.places(3))
    if given == "python":
        medseg.read(folder, repair="refuse")
    elif given == "convert":
        assert tiny.medseg_command("convert", folder, tmp_path / "a.nii.gz", "--repair", "refuse").code == 0
    elif given == "info":
        done = tiny.medseg_command("info", folder, "--repair", "refuse")
        assert done.code == 0 and "series       7 'thorax' 1.2.3.4" in done.out
    else:
        data = yaml.safe_load(tiny.recipe(tmp_path / "r.yaml", folder).read_text())
        made = config.parse({**data, "dicom": {"repair": "refuse"}}, where="r.yaml")
        material.reader(made)(folder)
    assert [options.repair for options in seen] == ["refuse"]


def test_a_data_set_of_studies_is_read_by_the_rules_and_prepared_anew_for_others(tmp_path: Path) -> None:
    series = dicom_study.abdomen()
    root = tmp_path / "data"
    for case in tiny.CASES:
        wanted = {name: series[name][:18] for name in ("native thin", "arterial", "portal thin")}
        for images in wanted.values():  # the pixels go on by a slice, as no two patients look the same
            pixels = [image.PixelData for image in images]
            for image, other in zip(images, pixels[1:] + pixels[:1], strict=True):
                image.PixelData = other
        dicom_study.write(root / "images" / case, wanted)
        scan = readers.read(root / "images" / case, series="4")
        label = np.zeros(scan.shape, np.uint8)
        label[1:3, 1:3, 3:9] = 1
        label[1:3, 1:3, 9:15] = 2
        tiny.nifti(root / "labels" / f"{case}.nii.gz", label, scan.affine)
    (root / "labels.yaml").write_text("labels: {left: 1, right: 2}\n")
    (root / "patients.csv").write_text("case,patient\n" + "".join(f"{case},{case[:2]}\n" for case in tiny.CASES))
    words = ("prepare", tiny.recipe(tmp_path / "r.yaml", root), "prepare.spacing_mm=[0.6, 0.8, 1]")
    assert tiny.medseg_command(*words).code == 2  # three series and no rule
    done = tiny.medseg_command(*words, RULES)
    assert done.code == 0 and "4 cases prepared" in done.err, done.err
    before = set((tmp_path / "cache").glob("*/image.chunks"))
    assert tiny.medseg_command(*words, RULES).code == 0
    assert set((tmp_path / "cache").glob("*/image.chunks")) == before and len(before) == 4
    assert tiny.medseg_command(*words, "dicom.select={must: {phase: portal venous}}").code == 0
    assert len(set((tmp_path / "cache").glob("*/image.chunks"))) == 8


def test_one_format_twice_is_refused(run: Path, study: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="the same format twice"):
        predict_all(
            Predictor.load([run], device="cpu"), [], tmp_path, formats=["dicom_seg", "dicom_seg:series_number=3"]
        )
