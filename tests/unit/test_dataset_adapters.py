"""What is particular to each data set adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.datasets import _files, bids, folder, msd, nnunet_raw, table
from medseg.refusal import Refusal


def rewrite(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


# --- names and patients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("a.nii.gz", "a"),
        ("1.2.3.nii", "1.2.3"),
        ("A.NII.GZ", "A"),
        ("x.seg.nrrd", "x"),
        ("eye.png", "eye"),
        ("b.mha", "b"),
    ],
)
def test_case_ids(name: str, case: str) -> None:
    assert _files.case_id(Path(name)) == case


def test_a_folders_name_is_whole(tmp_path: Path) -> None:
    (tmp_path / "1.2.dcm").mkdir()
    assert _files.case_id(tmp_path / "1.2.dcm") == "1.2.dcm"


def test_patient_patterns() -> None:
    assert _files.patient_of("P07_x", None) == "P07_x"
    assert _files.patient_of("P07_x", r"^(P\d+)") == "P07"
    for pattern, says in (
        (r"^P\d+", "0 groups"),
        ("(", "regular expression"),
        ("^(Q)", "case 'P07_x'"),
        ("(X*)", "P07_x"),
    ):
        with pytest.raises(Refusal, match=says):
            _files.patient_of("P07_x", pattern)


# --- folder ---------------------------------------------------------------------------------------------------------


def test_folder_patients(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "patients.csv").write_text("case,patient,centre,age,fold\na1,A,Ulm,40,1\na2,A,Ulm,41,1\nb1,B,Bern,,0\n")
    first = folder.cases(options).cases[0]
    assert (first.patient, first.centre, first.fold, first.attributes) == ("A", "Ulm", 1, {"age": "40"})
    by_pattern = folder.cases(options.model_copy(update={"patient": "^([ab])"}))
    assert [case.patient for case in by_pattern.cases] == ["a", "a", "b"]
    (tmp_path / "patients.csv").unlink()
    assert [case.patient for case in folder.cases(options).cases] == ["a1", "a2", "b1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case,patient\na1,A\na2,A\n", "no line for case 'b1'"),
        ("case,patient\na1,A\na1,A\n", "two lines for case 'a1'"),
        ("case,patient\na1,\n", "no patient for case 'a1'"),
        ("case,patient\n,A\n", "a line without a case"),
        ("case\na1\n", "needed also patient"),
        ("case,patient\na1,A,x\n", "line 2"),
        ("case,patient,fold\na1,A,one\n", "fold 'one'"),
    ],
)
def test_folder_patients_refused(tmp_path: Path, text: str, says: str) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match=says) as caught:
        folder.cases(options)
    assert "patients.csv" in str(caught.value)


def test_folder_with_channels_series_and_no_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.yaml").write_text("labels: {tumour: [2, 3], necrosis: 3}\npaint: [1, 2]\n", encoding="utf-8")
    for channel in ("t1", "t2"):
        (tmp_path / "images" / channel / "s1").mkdir(parents=True)
        (tmp_path / "images" / channel / "s1" / "IM1").write_bytes(b"")
    data = folder.cases(folder.Options(root=tmp_path, channels=("t2", "t1")))
    assert data.channels == ("t2", "t1") and data.cases[0].images["t1"].name == "s1" and data.cases[0].target is None
    assert not data.labels.exclusive and data.labels.labels[0].members == (2, 3)


def test_folder_asks_for_channels(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    _files.write_example(tmp_path / "images/t1/a1.nii.gz", 0)
    with pytest.raises(Refusal, match=r"channels: \[t1\]"):
        folder.cases(options)


def test_folder_incomplete(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "labels/a2.nii.gz").unlink()
    with pytest.raises(Refusal, match="'a2' in labels"):
        folder.cases(options)
    left = folder.cases(options.model_copy(update={"incomplete": "leave_out"}))
    assert [case.id for case in left.cases] == ["a1", "b1"]


def test_folder_two_files_of_one_id(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "images/a1.nrrd").write_bytes(b"")
    with pytest.raises(Refusal, match="second image of case 'a1'"):
        folder.cases(options)


@pytest.mark.parametrize(
    "text",
    [
        "liver: 1",
        "labels: {}",
        "labels: {liver: one}",
        "labels: [liver]",
        "labels: {liver: 1}\npaint: [1, 2]",
        "{",
        "3",
        "labels: {a: 1, b: 1}",
    ],
)
def test_folder_labels_refused(tmp_path: Path, text: str) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "labels.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match="label"):
        folder.cases(options)


# --- table ----------------------------------------------------------------------------------------------------------


def test_table_facts(tmp_path: Path) -> None:
    data = table.cases(table.example(tmp_path))
    first = data.cases[0]
    assert (first.centre, first.fold, first.attributes) == ("Ulm", 0, {"scanner": "A"})
    assert first.images["t1"] == tmp_path / "t1/P1a.nii.gz" and data.channels == ("t1", "flair")


def test_table_without_labels_and_with_labels_yaml(tmp_path: Path) -> None:
    _files.write_example(tmp_path / "x.nii.gz", 0)
    (tmp_path / "c.csv").write_text("case;patient;image;label\nx;p;x.nii.gz;\n", encoding="utf-8")
    (tmp_path / "labels.yaml").write_text("labels: {liver: 1}\n", encoding="utf-8")
    data = table.cases(table.Options(root=tmp_path / "c.csv", delimiter=";"))
    assert data.cases[0].target is None and data.labels.names == ("liver",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case,patient\nx,p\n", "also image"),
        ("case,patient,image\n", "no lines"),
        ("case,patient,image\nx,p,\n", "nothing in column 'image' of case 'x'"),
        ("case,patient,image\nx,p,gone.nii.gz\ny,p,lost.nii.gz\n", r"2 missing files: .*gone.nii.gz, .*lost.nii.gz"),
        ("case,patient,image\nx,p,c.csv\nx,p,c.csv\n", "two lines for case 'x'"),
    ],
)
def test_table_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match=says):
        table.cases(table.Options(root=tmp_path / "c.csv", labels={"liver": 1}))


# --- nnU-Net --------------------------------------------------------------------------------------------------------


def test_nnunet_regions_and_channels(tmp_path: Path) -> None:
    data = nnunet_raw.cases(nnunet_raw.example(tmp_path))
    assert data.channels == ("T1", "FLAIR") and not data.labels.exclusive
    assert [(label.name, label.index, label.members) for label in data.labels.labels] == [
        ("whole", 1, (1, 2)),
        ("core", 2, (2,)),
    ]
    assert data.cases[0].images["FLAIR"].name == "p1_a_0001.nii.gz"


def test_nnunet_version_1(tmp_path: Path) -> None:
    options = nnunet_raw.example(tmp_path)
    labels = {"0": "background", "1": "left", "2": "right"}
    rewrite(
        tmp_path / "dataset.json",
        channel_names=None,
        modality={"0": "T1", "1": "FLAIR"},
        labels=labels,
        file_ending=None,
        regions_class_order=None,
    )
    data = nnunet_raw.cases(options)
    assert data.labels.exclusive and {label.name: label.index for label in data.labels.labels} == {
        "left": 1,
        "right": 2,
    }


def test_nnunet_order_without_regions_stays_exclusive(tmp_path: Path) -> None:
    options = nnunet_raw.example(tmp_path)
    rewrite(tmp_path / "dataset.json", labels={"background": 0, "left": 1, "right": 2})
    assert nnunet_raw.cases(options).labels.exclusive


def test_nnunet_listed_files(tmp_path: Path) -> None:
    options = nnunet_raw.example(tmp_path)
    entry = {"images": ["imagesTr/p1_a_0000.nii.gz", "imagesTr/p1_a_0001.nii.gz"], "label": "labelsTr/p1_a.nii.gz"}
    rewrite(tmp_path / "dataset.json", dataset={"p1_z": entry}, numTraining=1)
    assert [case.id for case in nnunet_raw.cases(options).cases] == ["p1_z"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channel_names": None}, "no 'modality'"),
        ({"channel_names": {"0": "CT"}}, "2 image files"),
        ({"channel_names": {"0": "T1", "1": "T2", "2": "PD"}}, "p1_a_0002"),
        ({"channel_names": {"0": "CT", "1": "CT"}}, "channel_names"),
        ({"channel_names": {"1": "CT", "2": "MR"}}, "channel_names"),
        ({"labels": None}, "no 'labels'"),
        ({"labels": {"a": 1, "ignore": 2}}, "ignore"),
        ({"labels": {"one": "a"}}, "labels"),
        ({"labels": ["a"]}, "labels"),
        ({"numTraining": 4}, "numTraining 4, but 3"),
        ({"file_ending": ".nrrd"}, "no training images"),
        ({"dataset": {"a": {}}}, "'dataset' of another form"),
        ({"dataset": {"a": {"images": ["x_0.nii", "x_1.nii"], "label": "l.nii"}}, "numTraining": 1}, "3 missing files"),
        ({"regions_class_order": [1]}, "paint order"),
    ],
)
def test_nnunet_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    options = nnunet_raw.example(tmp_path)
    rewrite(tmp_path / "dataset.json", **changes)
    with pytest.raises(Refusal, match=says):
        nnunet_raw.cases(options)


def test_broken_json(tmp_path: Path) -> None:
    for adapter in (nnunet_raw, msd):
        options = adapter.example(tmp_path)
        (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
        with pytest.raises(Refusal, match=r"dataset\.json: found unreadable JSON"):
            adapter.cases(options)


# --- Decathlon ------------------------------------------------------------------------------------------------------


def test_msd_channels_are_in_one_file(tmp_path: Path) -> None:
    options = msd.example(tmp_path)
    data = msd.cases(options)
    assert data.channels == ("T2", "ADC") and list(data.cases[0].images) == ["all"]
    rewrite(tmp_path / "dataset.json", modality={"0": "CT"})
    assert list(msd.cases(options).cases[0].images) == ["CT"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": None}, "no 'training'"),
        ({"training": []}, "empty 'training'"),
        ({"training": [{"image": "a.nii.gz"}]}, "'training' of another form"),
        ({"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}, "2 missing files"),
        ({"training": [{"image": "a.nii.gz", "label": "b"}, {"image": "c/a.nii.gz", "label": "b"}]}, "case 'a' twice"),
        ({"modality": None}, "no 'modality'"),
    ],
)
def test_msd_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    options = msd.example(tmp_path)
    rewrite(tmp_path / "dataset.json", **changes)
    with pytest.raises(Refusal, match=says):
        msd.cases(options)


# --- BIDS -----------------------------------------------------------------------------------------------------------


def test_bids_cases(tmp_path: Path) -> None:
    data = bids.cases(bids.example(tmp_path))
    assert [case.id for case in data.cases] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    first, _, last = data.cases
    assert (first.patient, first.group, first.centre, first.attributes["age"]) == ("sub-01", "ses-1", "Ulm", "40")
    assert last.attributes["age"] == "" and data.labels.names == ("left", "right")


def test_bids_without_sessions(tmp_path: Path) -> None:
    _files.write_example(tmp_path / "sub-7/anat/sub-7_T1w.nii.gz", 0)
    _files.write_example(tmp_path / "derivatives/labels/sub-7/anat/sub-7_desc-lesion_mask.nii.gz", 0, label=True)
    data = bids.cases(bids.Options(root=tmp_path, label_suffix="mask", labels={"lesion": 1}))
    assert (data.cases[0].id, data.cases[0].patient, data.cases[0].group) == ("sub-7", "sub-7", "")


def test_bids_two_runs_need_a_choice(tmp_path: Path) -> None:
    options = bids.example(tmp_path)
    place = tmp_path / "sub-01/ses-1/anat"
    (place / "sub-01_ses-1_T1w.nii.gz").rename(place / "sub-01_ses-1_run-1_T1w.nii.gz")
    _files.write_example(place / "sub-01_ses-1_run-2_T1w.nii.gz", 5)
    with pytest.raises(Refusal, match=r"run-1_T1w.*run-2_T1w.*image_entities"):
        bids.cases(options)
    chosen = options.model_copy(
        update={"image_entities": {"run": "2"}, "channels": ("T1w",), "incomplete": "leave_out"}
    )
    assert [case.images["T1w"].name for case in bids.cases(chosen).cases] == ["sub-01_ses-1_run-2_T1w.nii.gz"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"derivatives": "nobody"}, "derivatives.nobody"),
        ({"channels": ("T2w",)}, r"\*_T2w.nii.gz"),
        ({"label_suffix": "mask"}, r"\*_mask.nii.gz"),
        ({"channels": ("T2w",), "incomplete": "leave_out"}, r"\*_T2w.nii.gz"),
    ],
)
def test_bids_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        bids.cases(bids.example(tmp_path).model_copy(update=changes))


def test_bids_label_table_refused(tmp_path: Path) -> None:
    options = bids.example(tmp_path)
    (tmp_path / "derivatives/manual/dseg.tsv").write_text("index\tname\nx\tliver\n", encoding="utf-8")
    with pytest.raises(Refusal, match="index 'x' of 'liver'"):
        bids.cases(options)
    (tmp_path / "derivatives/manual/dseg.tsv").unlink()
    with pytest.raises(Refusal, match=r"dseg\.tsv"):
        bids.cases(options)
