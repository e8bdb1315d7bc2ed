"""`medseg dicom check`: what a person sees of a tree of DICOM files before anything is computed from them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from medseg import readers
from medseg.dicom import signature, survey, sweep
from medseg.dicom.preflight import Verdict
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from tests import dicom_series as ds
from tests import reference
from tests.tiny import ENVIRONMENT, ROOT, medseg_command

PLACES = ds.places(6)


def facts(*paths: Path) -> dict[str, Any]:
    said = medseg_command("dicom", "check", *paths, "--json", "-")
    assert said.code in (0, 1)
    return json.loads(said.out)


def tree(root: Path) -> Path:
    """Two good series, one to repair, one refused, and what is no scan."""
    ds.series(root / "a" / "b" / "good", PLACES)
    more = {"Modality": "MR", "SeriesDescription": "T2 [fat] ß", "SpecificCharacterSet": "ISO_IR 100"}
    volumes = [
        ds.slice_(place, series="1.5", SeriesNumber=12, EchoTime=time, **more)  # type: ignore[arg-type]
        for time in (2, 4)
        for place in PLACES
    ]
    ds.write(root / "echoes", volumes)
    ds.series(root / "tilted", ds.places(6, tilt=15), series="1.6", SeriesNumber=3)
    ds.series(root / "doubled", np.concatenate([PLACES, PLACES]), series="1.7", SeriesNumber=4, number=1)
    structures = ds.slice_((0, 0, 0), series="1.9", SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(structures, name)
    segmentation = ds.slice_((0, 0, 0), series="1.8", SOPClassUID=SegmentationStorage, Modality="SEG")
    report = ds.slice_((0, 0, 0), series="1.10", SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    del report.ImagePositionPatient
    ds.write(root / "others", [structures, segmentation, report])
    (root / "others" / "README.txt").write_text("not DICOM")
    (root / "others" / "broken.dcm").write_bytes(b"\0" * 300)
    return root


def test_a_tree_is_sorted_into_series_and_volumes(tmp_path: Path) -> None:
    found = facts(tree(tmp_path))
    verdicts = {
        (one["number"], volume["number"], volume["name"]): volume["verdict"]
        for one in found["series"]
        for volume in one["volumes"]
    }
    assert verdicts == {
        ("3", 1, ""): "repairable",
        ("4", 1, ""): "refused",
        ("7", 1, ""): "good",
        ("12", 1, "echo 1, 2 ms"): "repairable",
        ("12", 2, "echo 2, 4 ms"): "repairable",
    }
    assert [one["number"] for one in found["series"]] == ["3", "4", "7", "12"]  # as people count
    assert found["series"][3]["description"] == "T2 [fat] ß"
    assert [one["modality"] for one in found["others"]] == ["RTSTRUCT", "SEG", "OT"]
    assert [Path(one["file"]).name for one in found["unreadable"]] == ["broken.dcm"]
    tilted = found["series"][0]["volumes"][0]
    assert tilted["geometry"]["tilt_degrees"] == pytest.approx(15)
    assert tilted["slices"] == 6 and tilted["rows_columns"] == [12, 10] and tilted["spacing_mm"] == [0.8, 0.6]
    assert [Path(one["file"]).name for one in tilted["instances"]] == [f"IM{n:04d}.dcm" for n in range(6)]
    assert [(one["kind"], one["repair"]) for one in tilted["findings"]] == [("tilt", "straighten")]


def test_the_table_says_the_same_in_words(tmp_path: Path) -> None:
    said = medseg_command("dicom", "check", tree(tmp_path))
    assert said.code == 1
    assert re.search(r"^ 12/2 .* 6 +0.6 x 0.8 x 3 +0.000 +0.00 +repairable", said.out, flags=re.MULTILINE)
    for text in (
        "4 series, 5 volumes: 1 good, 3 repairable, 1 refused",
        "3 other objects: 1 RTSTRUCT, 1 SEG, 1 OT picture",
        "straighten: a stack that leans by 15.00 degrees",
        "split: 2 volumes in one series, told apart by echo: echo 1, 2 ms; echo 2, 4 ms",
        "refused: 12 slices at 6 places",
        "T2 [fat] ß",
        "series 12/2 in ",
        "broken.dcm: cannot be read\n  no DICOM signature in a file of 300 bytes",
    ):
        assert text in said.out, text


def test_exit_codes(tmp_path: Path) -> None:
    good, tilted = ds.series(tmp_path / "good", PLACES), ds.series(tmp_path / "tilted", ds.places(6, tilt=5))
    assert medseg_command("dicom", "check", good).code == 0
    assert medseg_command("dicom", "check", tilted).code == 0
    gap = ds.series(tmp_path / "gap", np.delete(PLACES, range(2, 4), axis=0))
    assert medseg_command("dicom", "check", gap).code == 0
    assert medseg_command("dicom", "check", gap, "--gap-mm", 8).code == 1
    jitter = ds.series(tmp_path / "jitter", PLACES + np.eye(6)[2][:, None] * [0, 0, 0.3])
    assert "good" not in medseg_command("dicom", "check", jitter).out
    assert "1 good" in medseg_command("dicom", "check", jitter, "--tolerance-mm", 0.5).out
    (tmp_path / "empty").mkdir()
    for words in ([tmp_path / "empty"], [tmp_path / "absent"], [good, "--gap-mm", "nan"], [good, "--tolerance-mm", 0]):
        said = medseg_command("dicom", "check", *words)
        assert said.code == 2 and "What to do" in said.err, words


def test_files_can_be_given_one_by_one_and_json_goes_to_a_file(tmp_path: Path) -> None:
    folder = ds.series(tmp_path / "scan", PLACES)
    out = tmp_path / "new" / "check.json"
    said = medseg_command("dicom", "check", folder / "IM0001.dcm", folder / "IM0002.dcm", folder, "--json", out)
    assert said.code == 0 and "1 series, 1 volumes: 1 good" in said.out  # a file given twice is one file
    assert json.loads(out.read_text())["series"][0]["volumes"][0]["slices"] == 6


def test_descriptions_do_not_steer_the_terminal_nor_fill_it(tmp_path: Path) -> None:
    folder = ds.series(tmp_path / "in", PLACES, SeriesDescription="a\x1b[31m\nb" + "W" * 3000)
    said = medseg_command("dicom", "check", folder)
    assert said.code == 0 and "\x1b" not in said.out and 200 < said.out.count("W") < 300


def test_a_volume_of_a_series_without_number_is_named_as_the_reader_takes_it(tmp_path: Path) -> None:
    slices = [ds.slice_(place, SeriesNumber=None, EchoTime=time) for time in (2, 4) for place in PLACES]
    folder = ds.write(tmp_path, slices)
    assert f"series /2 in {folder}: repairable" in medseg_command("dicom", "check", folder).out
    assert readers.read(folder, series="/2").shape == (10, 12, 6)


def test_names_that_the_terminal_does_not_know_are_shown(tmp_path: Path) -> None:
    """A file name that is not UTF-8, as old discs have them, and a description in another alphabet."""
    folder = ds.series(tmp_path, PLACES, SeriesDescription="брюшная", SpecificCharacterSet="ISO_IR 192")
    (folder / os.fsdecode(b"\xff.dcm")).write_bytes(b"\0" * 300)
    for encoding, description in (("utf-8:strict", "брюшная"), ("ascii:strict", r"\u0431\u0440")):
        command = [sys.executable, "-m", "medseg", "dicom", "check", folder]
        done = subprocess.run(command, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding}, capture_output=True)
        said = done.stdout.decode()
        assert done.returncode == 1 and r"\udcff.dcm: cannot be read" in said and description in said, done.stderr


def test_help_teaches() -> None:
    said = medseg_command("dicom", "check", "--help")
    for word in ("good", "repairable", "refused", "Exit code", "--tolerance-mm", "--gap-mm", "--json", "--workers"):
        assert word in said.out


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned in", "burned into the pixels of 1 image (IM0005.dcm)"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "capture", "secondary captures (IM0005.dcm)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived", "DERIVED SECONDARY MPR"),
        ({"ImageType": "SECONDARY"}, "derived", "SECONDARY"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted", "MONOCHROME1"),
        ({"RescaleSlope": 2}, "rescale", "its own rescale slope (1 to 2)"),
        ({"RescaleSlope": 0}, "rescale", "a rescale slope of 0 (IM0005.dcm)"),
        ({"RescaleType": "US"}, "units", "RescaleType none, US"),
        ({"SOPInstanceUID": "1.2.77"}, "identifier", "share a SOPInstanceUID"),
        ({"StudyInstanceUID": "1.2.78"}, "identifier", "2 StudyInstanceUIDs in one series"),
    ],
)
def test_what_is_said_of_values_but_stops_nothing(
    tmp_path: Path, change: dict[str, object], kind: str, text: str
) -> None:
    slices = [ds.slice_(place) for place in PLACES]
    slices[5] = ds.slice_(PLACES[5], **change)  # type: ignore[arg-type]
    if "SOPInstanceUID" in change:
        slices[4] = ds.slice_(PLACES[4], **change)  # type: ignore[arg-type]
    (one,) = facts(ds.write(tmp_path, slices))["series"]
    findings = one["volumes"][0]["findings"]
    assert [finding["kind"] for finding in findings if text in finding["text"]] == [kind]
    assert one["volumes"][0]["verdict"] == "good"


@pytest.mark.parametrize("lost", [1, 6])
def test_ct_that_has_lost_its_rescale_is_told_so_once(tmp_path: Path, lost: int) -> None:
    """Refused where the other slices have one, noted where none has."""
    none: dict[str, object] = {"RescaleSlope": None, "RescaleIntercept": None}
    other: dict[str, object] = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    slices = [ds.slice_(place, **(none if n < lost else other)) for n, place in enumerate(PLACES)]  # type: ignore[arg-type]
    (one,) = facts(ds.write(tmp_path, slices))["series"]
    (finding,) = (one for one in one["volumes"][0]["findings"] if one["kind"] == "rescale" and one["remedy"])
    assert finding["remedy"].startswith("export the series again" if lost == 1 else "make sure that stored values")


def test_units_of_pet_and_absent_frames_of_reference(tmp_path: Path) -> None:
    more = {"SOPClassUID": PositronEmissionTomographyImageStorage, "Modality": "PT", "FrameOfReferenceUID": None}
    for units, expected in (("BQML", {"frame of reference"}), ("CNTS", {"frame of reference", "units"})):
        (one,) = facts(ds.series(tmp_path / units, PLACES, Units=units, **more))["series"]
        assert {finding["kind"] for finding in one["volumes"][0]["findings"]} == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"ImagePositionPatient": [1, 2]}, "no ImagePositionPatient"),
        ({"ImagePositionPatient": ["1e30", "0", "0"]}, "ImagePositionPatient [1e+30, 0.0, 0.0]"),
        ({"ImageOrientationPatient": ["nan", "0", "0", "0", "1", "0"]}, "ImageOrientationPatient [nan, "),
        ({"PixelSpacing": ["inf", "1"]}, "PixelSpacing [inf, 1.0]"),
        ({"RescaleSlope": "nan"}, "rescale slope nan"),
        ({"Columns": 0}, "12 rows and 0 columns"),
        ({"NumberOfFrames": 10**9}, "1000000000 frames without a position for each"),
        ({"NumberOfFrames": -3}, "-3 frames"),
        ({"Rows": 65535}, "pixels cut short (240 of 1310700 bytes)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "many slices tiled into one picture (Siemens mosaic)"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    from pydicom import config

    with config.disable_value_validation():
        folder = ds.write(tmp_path, [ds.slice_(PLACES[0], **change)])  # type: ignore[arg-type]
    found = facts(folder)
    assert not found["series"]
    assert reason in found["unplaced"][0]["reason"]
    assert medseg_command("dicom", "check", folder).code == 1
    with pytest.raises(Refusal, match="IM0000"):
        readers.read(folder)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3.4.5"], ids=["MPEG2", "unknown"])
def test_pixels_that_no_codec_reads_are_refused(tmp_path: Path, syntax: str) -> None:
    slices = [ds.slice_(place) for place in PLACES]
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.PixelData = encapsulate([dataset.PixelData])
        dataset["PixelData"].is_undefined_length = True
    tmp_path.mkdir(exist_ok=True)
    for number, dataset in enumerate(slices):
        dataset.save_as(tmp_path / f"{number}.dcm", implicit_vr=False, little_endian=True)
    (one,) = facts(tmp_path)["series"]
    assert [(finding["kind"], finding["severity"]) for finding in one["volumes"][0]["findings"]] == [
        ("codec", "refused")
    ]


def test_numbers_of_a_palette_are_no_grey_values(tmp_path: Path) -> None:
    folder = ds.series(tmp_path, PLACES, PhotometricInterpretation="PALETTE COLOR")
    found = facts(folder)
    assert not found["series"] and [one["kind"] for one in found["others"]] == ["colour pixels"] * 6
    with pytest.raises(Refusal, match="colour pixels"):
        readers.read(folder)


def test_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(ds.series(tmp_path, ds.places(150)).iterdir())
    files[7].write_bytes(b"\0" * 200)
    monkeypatch.setattr(sweep, "WORTH_A_PROCESS", 50)
    ticks: list[int] = []
    together = sweep.look(files, workers=2, done=lambda: ticks.append(1))
    alone = sweep.look(files, workers=1)
    assert [str(one) for one in together] == [str(one) for one in alone]
    assert len(ticks) == 150 and isinstance(together[7], Refusal)
    assert together[8] == alone[8]


def test_the_benchmark_runs() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "dicom_preflight.py", "--files", "12", "--repeat", "1"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "medseg dicom check: 12 files" in done.stdout and "pydicom, a loop over dcmread: 12 files" in done.stdout


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_never_stop_the_check(tmp_path: Path) -> None:
    """Whatever is in them, each file is placed, listed or named, and the others are still judged."""
    rng = np.random.default_rng(11)
    folder = ds.series(tmp_path, ds.places(4))
    whole = (folder / "IM0001.dcm").read_bytes()
    unharmed = 0
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            changed[rng.integers(132, len(whole) - 240)] = rng.integers(0, 256)
        (folder / "IM0001.dcm").write_bytes(changed if rng.random() < 0.8 else changed[: rng.integers(0, len(whole))])
        result = survey.check(sweep.look(sorted(folder.iterdir()), workers=1), DicomSettings())
        json.dumps(survey.facts(result), allow_nan=False)
        unharmed += not result.refused
    assert 0 < unharmed < 150


REFUSED = {  # folder in the reference data, number of the series: why
    ("dicom/nibabel", "100"): "a single slice without SliceThickness",
    ("dicom/rt_utils/one_slice_data", ""): "a single slice without SliceThickness",
    ("dicom/pydicom_data", ""): "a single slice without SliceThickness",
    ("dicom/dicom2nifti/failing/notavolume/001", "4"): "4 slices at 1 place",
    ("dicom/pydicom", "1"): "pixels cut short (8130 of 8192 bytes) among the slices (MR_truncated.dcm)",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", ["dicom", "pet", "ct"])
@pytest.mark.reference_data
@pytest.mark.skipif(not reference.ROOT.is_dir(), reason="MEDSEG_REFERENCE_DATA names no folder of reference scans")
def test_what_is_called_good_is_read(folder: str, tmp_path: Path) -> None:
    """Folder by folder, because copies lie in several: the files of a good volume, by themselves, are read as they
    were measured; the refused are named here with their reason."""
    refused = {}
    for place in sorted({path.parent for path in (reference.ROOT / folder).rglob("*") if path.is_file()}):
        found = sweep.look([file for file in signature.files(place) if file.parent == place], workers=1)
        for one in survey.check(found, DicomSettings()).series:
            name = str(place.relative_to(reference.ROOT))
            for volume in one.volumes:
                if volume.verdict is Verdict.REFUSED:
                    refused[name, one.head.series_number] = "; ".join(finding.text for finding in volume.findings)
                if volume.verdict is not Verdict.GOOD:
                    continue
                alone = tmp_path / f"{len(list(tmp_path.iterdir()))}"
                alone.mkdir()
                for header in one.series.headers:
                    shutil.copy(header.path, alone)
                read = readers.read(alone)
                np.testing.assert_array_equal(read.affine, volume.judgement.geometry.affine)
                assert read.shape[2] == len(volume.stack.frames)
    expected = {key: text for key, text in REFUSED.items() if key[0].startswith(folder)}
    assert refused.keys() == expected.keys()
    assert all(text in refused[key] for key, text in expected.items()), refused
