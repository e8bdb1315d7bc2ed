"""What is particular to each data set adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.datasets import _examples, _files, _people, bids, folder, msd, nnunet_raw, table
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
    assert _people.patient_of("P07_x", None) == "P07_x"
    assert _people.patient_of("P07_x", r"^(P\d+)") == "P07"
    for pattern, says in (
        (r"^P\d+", "0 groups"),
        ("(", "regular expression"),
        ("^(Q)", "case 'P07_x'"),
        ("(X*)", "P07_x"),
    ):
        with pytest.raises(Refusal, match=says):
            _people.patient_of("P07_x", pattern)


# --- folder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_folder_patients_as_spreadsheets_write_them(tmp_path: Path, delimiter: str) -> None:
    options = folder.example(tmp_path)
    text = "case,patient,centre\na1,A,\na2,A,\nb1,B,Ulm\n".replace(",", delimiter)
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8-sig")
    assert [(case.patient, case.centre) for case in folder.cases(options).cases] == [("A", ""), ("A", ""), ("B", "Ulm")]


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
    _examples.write_nifti(tmp_path / "images/t1/a1.nii.gz", 0)
    with pytest.raises(Refusal, match=r"channels: \[t1\]"):
        folder.cases(options)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"gone: found no such folder; needed one with labels\.yaml") as caught:
        folder.cases(folder.Options(root=tmp_path / "gone"))
    assert "the folder that the command is called in" in caught.value.remedy


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


# --- folder: photographs, masks, classes ------------------------------------------------------------------------------


def photographs(root: Path, labels: str, *, valid: bool = True) -> folder.Options:
    """Three photographs with label maps in colour, and masks."""
    for seed, case in enumerate(("e1", "e2", "e3")):
        _examples.write_photograph(root / "images" / f"{case}.png", seed)
        _examples.write_colours(root / "labels" / f"{case}.png")
        if valid:
            _examples.write_mask(root / "valid" / f"{case}.gif")
    (root / "labels.yaml").write_text(labels, encoding="utf-8")
    return folder.Options(root=root, files_hold=("red", "green", "blue"))


def test_folder_of_photographs(tmp_path: Path) -> None:
    labels = "labels: {artery: [1, 2], vein: [2, 4]}\npaint: [1, 4]\nunknown: {artery: [7]}\nignore: 8\n"
    data = folder.cases(photographs(tmp_path, labels))
    assert data.channels == ("red", "green", "blue")
    assert data.cases[0].images == {"all": tmp_path / "images/e1.png"}
    assert data.cases[0].valid == tmp_path / "valid/e1.gif"
    assert data.labels.encode(np.array([[[0, 1, 2, 4, 7, 8]]])).tolist() == [
        [[[0, 1, 1, 0, 255, 255]]],
        [[[0, 0, 1, 1, 0, 255]]],
    ]


def test_folder_of_one_named_channel(tmp_path: Path) -> None:
    options = folder.example(tmp_path).model_copy(update={"files_hold": ("T1",)})
    data = folder.cases(options)
    assert data.channels == ("T1",) and list(data.cases[0].images) == ["T1"]


def test_folder_valid_needs_ignore_and_every_mask(tmp_path: Path) -> None:
    options = photographs(tmp_path, "labels: {a: 1, b: 2, c: 4, d: 7}\n")
    with pytest.raises(Refusal, match="no 'ignore'"):
        folder.cases(options)
    (tmp_path / "labels.yaml").write_text("labels: {a: 1, b: 2, c: 4, d: 7}\nignore: 8\n", encoding="utf-8")
    assert folder.cases(options).labels.encode(np.array([[[8, 7]]])).tolist() == [[[[255, 4]]]]
    (tmp_path / "valid/e2.gif").unlink()
    with pytest.raises(Refusal, match="case 'e2' in valid"):
        folder.cases(options)
    with pytest.raises(Refusal, match="files_hold"):
        folder.cases(options.model_copy(update={"channels": ("t1",)}))


def test_folder_classes_of_images(tmp_path: Path) -> None:
    options = photographs(tmp_path, "labels: {healthy: 0, ill: [1, 2]}\nunit: image\n", valid=False)
    (tmp_path / "classes.csv").write_text("case,class\ne1,0\ne2,2\ne3,ill\n", encoding="utf-8")
    data = folder.cases(options)
    assert [case.classes for case in data.cases] == [(0,), (2,), (1,)]
    assert {case.target for case in data.cases} == {None} and {case.unit for case in data.cases} == {"image"}
    assert (data.labels.unit, data.labels.exclusive, data.labels.network_channels) == ("image", True, 2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("e1,0\ne2,1\n", "case 'e3' in classes.csv"),
        ("e1,0\ne2,\ne3,1\n", "case 'e2' in classes.csv"),
        ("e1,0\ne2,3\ne3,1\n", "class '3' of case 'e2'; needed one of healthy"),
        ("e1,0\ne2,0;1\ne3,1\n", "class '0;1' of case 'e2'"),
        ("e1,0\ne1,1\ne2,1\ne3,1\n", "case 'e1' twice"),
    ],
)
def test_folder_classes_refused(tmp_path: Path, rows: str, says: str) -> None:
    options = photographs(tmp_path, "labels: {healthy: 0, ill: 1}\nunit: image\n", valid=False)
    (tmp_path / "classes.csv").write_text(f"case,class\n{rows}", encoding="utf-8")
    with pytest.raises(Refusal, match=says):
        folder.cases(options)


def test_folder_several_classes_of_an_image(tmp_path: Path) -> None:
    options = photographs(tmp_path, "labels: {drusen: 0, scar: 1}\nunit: image\nexclusive: false\n", valid=False)
    (tmp_path / "classes.csv").write_text("case,class\ne1,drusen;scar\ne2,1\ne3,0\n", encoding="utf-8")
    data = folder.cases(options)
    assert [case.classes for case in data.cases] == [(0, 1), (1,), (0,)]
    assert data.labels.encode_classes((0, 1)).ravel().tolist() == [1, 1]


def test_folder_classes_of_slices(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "labels.yaml").write_text("labels: {left: 1, right: 2}\nunit: slice\n", encoding="utf-8")
    data = folder.cases(options)
    assert (data.labels.unit, data.labels.exclusive, data.cases[0].unit) == ("slice", False, "slice")
    assert data.labels.encode_slices(np.array([[[0, 1, 2]]])).reshape(2, 3).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_labels_may_be_merged_or_overlap_by_word(tmp_path: Path) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "labels.yaml").write_text("labels: {both: [1, 2]}\nexclusive: true\n", encoding="utf-8")
    merged = folder.cases(options).labels
    assert merged.exclusive and merged.encode(np.array([[[0, 1, 2]]])).tolist() == [[[[0, 1, 1]]]]
    (tmp_path / "labels.yaml").write_text("labels: {left: 1, right: 2}\nexclusive: false\n", encoding="utf-8")
    apart = folder.cases(options).labels
    assert not apart.exclusive and apart.network_channels == 2 and apart.labels[1].index == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unit: pixel", "unit 'pixel'"),
        ("exclusive: 1", "exclusive 1"),
        ("ignore: 0", "ignore 0"),
        ("ignore: 1", "ignore 1"),
        ("ignore: many", "ignore 'many'"),
        ("unknown: {left: [7]}", "exclude each other"),
        ("unknown: {top: [7]}\nexclusive: false", "unknown {'top'"),
        ("unknown: {left: 7}\nexclusive: false", "unknown {'left'"),
        ("unit: slice\nexclusive: true", "several structures"),
        ("unit: slice\nignore: 8", "'ignore' with unit: slice"),
        ("unit: image\npaint: [1, 2]", "'paint' with unit: image"),
    ],
)
def test_label_table_settings_refused(tmp_path: Path, text: str, says: str) -> None:
    options = folder.example(tmp_path)
    (tmp_path / "labels.yaml").write_text(f"labels: {{left: 1, right: 2}}\n{text}\n", encoding="utf-8")
    with pytest.raises(Refusal, match=says):
        folder.cases(options)


@pytest.mark.parametrize("unit", ["voxel", "image"])
def test_a_number_in_two_labels_that_exclude_each_other(tmp_path: Path, unit: str) -> None:
    options = folder.example(tmp_path)
    text = f"labels: {{left: [1, 2], right: [2, 3]}}\nexclusive: true\nunit: {unit}\n"
    (tmp_path / "labels.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal, match="number 2 in two labels"):
        folder.cases(options)


# --- table ----------------------------------------------------------------------------------------------------------


def test_table_facts(tmp_path: Path) -> None:
    data = table.cases(table.example(tmp_path))
    first = data.cases[0]
    assert (first.centre, first.fold, first.attributes) == ("Ulm", 0, {"scanner": "A"})
    assert first.images["t1"] == tmp_path / "t1/P1a.nii.gz" and data.channels == ("t1", "flair")


def test_table_without_labels_and_with_labels_yaml(tmp_path: Path) -> None:
    _examples.write_nifti(tmp_path / "x.nii.gz", 0)
    (tmp_path / "c.csv").write_text("case;patient;image;label\nx;p;x.nii.gz;\n", encoding="utf-8")
    (tmp_path / "labels.yaml").write_text("labels: {liver: 1}\n", encoding="utf-8")
    data = table.cases(table.Options(root=tmp_path / "c.csv"))
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


def test_table_of_photographs(tmp_path: Path) -> None:
    for name in ("x", "y"):
        _examples.write_photograph(tmp_path / f"{name}.png", 0)
        _examples.write_mask(tmp_path / f"{name}_field.png")
    (tmp_path / "c.csv").write_text(
        "case,patient,all,valid,label,age\nx,p,x.png,x_field.png,,50\ny,q,y.png,,y_field.png,\n", encoding="utf-8"
    )
    options = table.Options(
        root=tmp_path / "c.csv", files_hold=("red", "green", "blue"), labels={"lesion": 255}, ignore=8
    )
    data = table.cases(options)
    assert data.channels == ("red", "green", "blue")
    assert [dict(case.images) for case in data.cases] == [{"all": tmp_path / "x.png"}, {"all": tmp_path / "y.png"}]
    assert [case.valid for case in data.cases] == [tmp_path / "x_field.png", None]
    assert data.cases[0].attributes == {"age": "50"} and data.labels.ignore == 8
    with pytest.raises(Refusal, match="'valid', and no number"):
        table.cases(options.model_copy(update={"ignore": None}))
    (tmp_path / "x_field.png").unlink()
    with pytest.raises(Refusal, match=r"x_field\.png"):
        table.cases(options)


def test_table_of_classes(tmp_path: Path) -> None:
    _examples.write_nifti(tmp_path / "x.nii.gz", 0)
    _examples.write_nifti(tmp_path / "z.nii.gz", 1)
    (tmp_path / "c.csv").write_text(
        "case,patient,image,class\nx,p,x.nii.gz,HGG\ny,p,x.nii.gz,0\nz,q,z.nii.gz,\n", encoding="utf-8"
    )
    options = table.Options(root=tmp_path / "c.csv", labels={"LGG": 0, "HGG": 1}, unit="image")
    data = table.cases(options)
    assert [case.classes for case in data.cases] == [(1,), (0,), None] and data.cases[0].attributes == {}
    assert data.labels.unit == "image" and data.labels.exclusive and data.cases[0].unit == "image"
    slices = table.cases(options.model_copy(update={"unit": "slice", "labels": {"tumour": 1}}))
    assert (slices.labels.unit, slices.labels.exclusive, slices.cases[0].classes) == ("slice", False, None)


def test_table_settings_go_before_labels_yaml(tmp_path: Path) -> None:
    options = table.example(tmp_path).model_copy(update={"labels": {}, "exclusive": False})
    (tmp_path / "labels.yaml").write_text("labels: {left: 1, right: 2}\nexclusive: true\nignore: 9\n", encoding="utf-8")
    labels = table.cases(options).labels
    assert (labels.exclusive, labels.ignore) == (False, 9)


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
    _examples.write_nifti(tmp_path / "sub-7/anat/sub-7_T1w.nii.gz", 0)
    _examples.write_nifti(tmp_path / "derivatives/labels/sub-7/anat/sub-7_desc-lesion_mask.nii.gz", 0, label=True)
    data = bids.cases(bids.Options(root=tmp_path, label_suffix="mask", labels={"lesion": 1}))
    assert (data.cases[0].id, data.cases[0].patient, data.cases[0].group) == ("sub-7", "sub-7", "")


def test_bids_two_runs_need_a_choice(tmp_path: Path) -> None:
    options = bids.example(tmp_path)
    place = tmp_path / "sub-01/ses-1/anat"
    (place / "sub-01_ses-1_T1w.nii.gz").rename(place / "sub-01_ses-1_run-1_T1w.nii.gz")
    _examples.write_nifti(place / "sub-01_ses-1_run-2_T1w.nii.gz", 5)
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
