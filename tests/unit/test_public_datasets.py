"""Adapters of public data sets, each on a small tree with the folders and file names of its release."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from medseg import readers
from medseg.datasets import _examples, autopet, brats, dr_grading, isic, lits, ph2, retina_av
from medseg.refusal import Refusal
from tests import reference


def photographs(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        _examples.write_photograph(root / name, seed)


# --- BraTS ----------------------------------------------------------------------------------------------------------

OLD = ("_flair", "_t1ce", "_t1", "_t2")


def old_brats(root: Path, *cases: str, suffix: str = ".nii.gz") -> None:
    for case in cases:
        name = case.rpartition("/")[2]
        for ending in OLD:
            _examples.write_nifti(root / case / f"{name}{ending}{suffix}", 0)
        _examples.write_nifti(root / case / f"{name}_seg{suffix}", 0, label=True, numbers=(1, 2, 4))


def test_brats_2023(tmp_path: Path) -> None:
    data = brats.cases(brats.example(tmp_path))
    first, second, third = data.cases
    assert (first.patient, first.group, second.group) == ("BraTS-GLI-00000", "000", "001")
    assert second.patient == first.patient != third.patient
    assert data.channels == ("FLAIR", "T1ce", "T1", "T2")
    assert [path.name[len(first.id) :] for path in first.images.values()] == [
        *("-t2f.nii.gz", "-t1c.nii.gz", "-t1n.nii.gz", "-t2w.nii.gz")
    ]
    assert data.labels.encode(np.array([[[0, 1, 2, 3]]])).reshape(3, 4).tolist() == [
        [0, 1, 0, 1],  # TC
        [0, 1, 1, 1],  # WT
        [0, 0, 0, 1],  # ET
    ]
    assert data.labels.names == ("TC", "WT", "ET") and [label.index for label in data.labels.labels] == [1, 2, 3]


def test_brats_paints_its_own_numbers_again(tmp_path: Path) -> None:
    """Although WT comes after TC in the network's channels."""
    table = brats.cases(brats.example(tmp_path)).labels
    numbers = np.array([[[0, 1, 2, 3]]])
    assert np.array_equal(table.paint(table.encode(numbers)), numbers)


def test_brats_2019_in_grade_folders(tmp_path: Path) -> None:
    old_brats(tmp_path, "HGG/BraTS19_CBICA_AAB_1", "HGG/BraTS19_CBICA_AAB_2", "LGG/BraTS19_2013_0_1")
    (tmp_path / "HGG/notes").mkdir()
    data = brats.cases(brats.Options(root=tmp_path))
    assert [case.id for case in data.cases] == [*("BraTS19_2013_0_1", "BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB_2")]
    assert [case.patient for case in data.cases] == ["2013_0", "CBICA_AAB", "CBICA_AAB"]
    assert [(case.centre, case.group) for case in data.cases] == [("2013", "1"), ("CBICA", "1"), ("CBICA", "2")]
    assert data.labels.known_values == {0, 1, 2, 4} and data.labels.labels[2].index == 4


def test_brats_2021_unpacked_and_patients_of_a_table(tmp_path: Path) -> None:
    old_brats(tmp_path, "BraTS2021_00000", "BraTS2021_00002", suffix=".nii")
    data = brats.cases(brats.Options(root=tmp_path))
    assert [case.patient for case in data.cases] == ["BraTS2021_00000", "BraTS2021_00002"]
    assert data.cases[0].target is not None and data.cases[0].target.name == "BraTS2021_00000_seg.nii"
    _examples.write_table(tmp_path / "patients.csv", "case,patient", "BraTS2021_00000,A", "BraTS2021_00002,A")
    assert [case.patient for case in brats.cases(brats.Options(root=tmp_path)).cases] == ["A", "A"]
    by_pattern = brats.cases(brats.Options(root=tmp_path, patient=r"_(\d+)$"))
    assert [case.patient for case in by_pattern.cases] == ["00000", "00002"]


def test_brats_enhancing_tumour_with_3_in_an_old_layout(tmp_path: Path) -> None:
    old_brats(tmp_path, "BraTS2021_00000")
    data = brats.cases(brats.Options(root=tmp_path, enhancing=3, channels=("T1ce", "FLAIR")))
    assert data.labels.known_values == {0, 1, 2, 3} and data.channels == tuple(data.cases[0].images)


def test_brats_without_any_segmentation(tmp_path: Path) -> None:
    old_brats(tmp_path, "BraTS2021_00000", "BraTS2021_00002")
    for path in tmp_path.rglob("*_seg.nii.gz"):
        path.unlink()
    assert [case.target for case in brats.cases(brats.Options(root=tmp_path)).cases] == [None, None]


def test_brats_grades_and_healthy_people(tmp_path: Path) -> None:
    old_brats(tmp_path / "b", "HGG/BraTS19_CBICA_AAB_1", "LGG/BraTS19_2013_0_1")
    for name in ("IXI002-Guys-0828-T1", "IXI012-HH-1211-T1"):
        _examples.write_nifti(tmp_path / "ixi" / f"{name}.nii.gz", 0)
    options = brats.Options(root=tmp_path / "b", task="grade", healthy=tmp_path / "ixi")
    data = brats.cases(options)
    assert [(case.id, case.classes, case.attributes["source"]) for case in data.cases] == [
        ("BraTS19_2013_0_1", (0,), "BraTS"),
        ("BraTS19_CBICA_AAB_1", (1,), "BraTS"),
        ("IXI002-Guys-0828-T1", (2,), "IXI"),
        ("IXI012-HH-1211-T1", (2,), "IXI"),
    ]
    assert (data.cases[2].patient, data.cases[2].centre) == ("IXI002", "Guys")
    assert data.labels.names == ("LGG", "HGG", "healthy") and data.labels.unit == "image"
    assert data.channels == ("T1ce",) == tuple(data.cases[3].images) and data.cases[0].target is None
    two = brats.cases(options.model_copy(update={"healthy": None, "channels": ("T1ce", "FLAIR")}))
    assert two.labels.names == ("LGG", "HGG") and two.channels == ("T1ce", "FLAIR")
    with pytest.raises(Refusal, match="one channel"):
        brats.cases(options.model_copy(update={"channels": ("T1ce", "FLAIR")}))


def test_brats_2020_grades_stand_in_a_table(tmp_path: Path) -> None:
    old_brats(tmp_path, "BraTS20_Training_001", "BraTS20_Training_002")
    lines = ["Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID", "HGG,x,BraTS20_Training_001"]
    _examples.write_table(tmp_path / "name_mapping.csv", *lines)
    with pytest.raises(Refusal, match="grade '' of BraTS20_Training_002"):
        brats.cases(brats.Options(root=tmp_path, task="grade"))
    _examples.write_table(tmp_path / "name_mapping.csv", *lines, "LGG,y,BraTS20_Training_002")
    assert [case.classes for case in brats.cases(brats.Options(root=tmp_path, task="grade")).cases] == [(1,), (0,)]


def test_brats_of_two_kinds_is_refused(tmp_path: Path) -> None:
    options = brats.example(tmp_path)
    old_brats(tmp_path, "BraTS2021_00000")
    with pytest.raises(Refusal, match="one kind"):
        brats.cases(options)


# --- skin -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [2016, 2017, 2018])
def test_isic_parts(tmp_path: Path, year: int) -> None:
    for number, (data, truth) in enumerate(isic.FOLDERS[year].values()):
        photographs(tmp_path / data, f"ISIC_000000{number}.jpg", f"ISIC_000000{number}_superpixels.png")
        (tmp_path / data / f"{data}_metadata.csv").write_text("image_id\n", encoding="utf-8")
        ending = "_Segmentation" if year == 2016 else "_segmentation"
        _examples.write_mask(tmp_path / truth / f"ISIC_000000{number}{ending}.png")
        (tmp_path / truth / "ATTRIBUTION.txt").write_text("x", encoding="utf-8")
    training = isic.cases(isic.Options(root=tmp_path, year=year))
    assert [(case.id, case.patient, case.attributes) for case in training.cases] == [
        ("ISIC_0000000", "ISIC_0000000", {"part": "training"})
    ]
    assert training.channels == ("red", "green", "blue") and training.labels.network_channels == 1
    every = isic.cases(isic.Options(root=tmp_path, year=year, part="all"))
    assert [case.attributes["part"] for case in every.cases] == list(isic.FOLDERS[year])


def test_isic_2016_has_no_validation_part(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="validation of 2016; needed one of training, test, all"):
        isic.cases(isic.Options(root=tmp_path, year=2016, part="validation"))


def test_white_is_lesion_however_it_is_stored(tmp_path: Path) -> None:
    """One bit, colours, or eight bits of grey."""
    table = ph2.cases(ph2.example(tmp_path)).labels
    assert table.encode(np.array([[[0, 1, 7, 255]]])).tolist() == [[[[0, 1, 1, 1]]]]
    assert table.paint(np.ones((1, 1, 1, 1))).tolist() == [[[255]]]


def test_ph2(tmp_path: Path) -> None:
    data = ph2.cases(ph2.example(tmp_path))
    assert [case.id for case in data.cases] == ["IMD002", "IMD003", "IMD004"]
    first = data.cases[0]
    assert first.target is not None and first.target.parent.name == "IMD002_lesion"
    (tmp_path / "patients.csv").unlink()
    assert [case.patient for case in ph2.cases(ph2.Options(root=tmp_path)).cases] == ["IMD002", "IMD003", "IMD004"]


# --- retina: vessels ------------------------------------------------------------------------------------------------


def vessels(root: Path, images: str, labels: str, masks: str = "") -> None:
    """A photograph with its label map and mask, given as paths below the root."""
    _examples.write_photograph(root / images, 0)
    _examples.write_colours(root / labels)
    if masks:
        _examples.write_mask(root / masks, margin=1)


def test_rite(tmp_path: Path) -> None:
    options = retina_av.example(tmp_path)
    vessels(tmp_path / "test", "images/01_test.tif", "av/01_test.png", "mask/01_test_mask.gif")
    (tmp_path / "patients.csv").unlink()
    data = retina_av.cases(options)
    assert [case.id for case in data.cases] == ["21_training", "22_training", "23_training"]
    assert data.cases[0].valid == tmp_path / "training/mask/21_training_mask.gif"
    assert data.cases[0].attributes == {"part": "training"} and data.cases[0].fold is None
    every = retina_av.cases(options.model_copy(update={"part": "all"}))
    assert [case.attributes["part"] for case in every.cases] == ["test", *["training"] * 3]
    shutil.rmtree(tmp_path / "training/mask")
    assert {case.valid for case in retina_av.cases(options).cases} == {None}


def test_colours_are_arteries_and_veins(tmp_path: Path) -> None:
    """Red artery, green crossing, blue vein, white unknown; 8 outside the field of view."""
    table = retina_av.cases(retina_av.example(tmp_path)).labels
    assert table.names == ("artery", "vein", "vessel") and not table.exclusive
    assert table.encode(np.array([[[0, 1, 2, 4, 7, 8]]])).reshape(3, 6).tolist() == [
        [0, 1, 1, 0, 255, 255],
        [0, 0, 1, 1, 255, 255],
        [0, 1, 1, 1, 1, 255],
    ]
    assert table.unknown(np.array([3, 5, 6])) == [3, 5, 6]


def test_rrwnets_three_maps(tmp_path: Path) -> None:
    """Red artery, green vein, blue vessel: 5, 6 and both, 7; blue alone is a vessel of unknown kind."""
    vessels(tmp_path, "enhanced/21.png", "av3/21.png", "enhanced_masks/21.png")
    data = retina_av.cases(retina_av.Options(root=tmp_path, layout="rrwnet", folds="rrwnet"))
    assert data.labels.encode(np.array([[[0, 5, 6, 7, 4, 8]]])).reshape(3, 6).tolist() == [
        [0, 1, 0, 1, 255, 255],
        [0, 0, 1, 1, 255, 255],
        [0, 1, 1, 1, 1, 255],
    ]
    assert data.cases[0].valid is not None and data.cases[0].fold == 1, "21 is the eighth of twenty"


@pytest.mark.parametrize("layout", ["rite", "rrwnet"])
def test_painted_vessels_are_read_back(tmp_path: Path, layout: str) -> None:
    """But for crossings and unknown ones, a painted map has the numbers of the set's own maps."""
    table = retina_av.LAYOUTS[layout].table
    numbers = np.array([[[0, 1, 4]]]) if layout == "rite" else np.array([[[0, 5, 6]]])
    assert np.array_equal(table.paint(table.encode(numbers)), numbers)


def test_hrf_parts_and_folds(tmp_path: Path) -> None:
    for case in ("05_g", "06_dr", "15_dr", "15_g"):
        vessels(tmp_path, f"images/{case}.JPG", f"HRF_AV_GT/{case}_AVmanual.png", f"mask/{case}_mask.tif")
    options = retina_av.Options(root=tmp_path, layout="hrf")
    assert [case.id for case in retina_av.cases(options).cases] == ["06_dr", "15_dr", "15_g"]
    test = retina_av.cases(options.model_copy(update={"part": "test"}))
    assert [(case.id, case.patient) for case in test.cases] == [("05_g", "05_g")]
    folds = retina_av.cases(options.model_copy(update={"folds": "rrwnet"}))
    assert [(case.id, case.fold) for case in folds.cases] == [("06_dr", 0), ("15_dr", 3)], "15_g is in no fold"
    with pytest.raises(Refusal, match="no fold of RRWNet's for '05_g'"):
        retina_av.cases(options.model_copy(update={"folds": "rrwnet", "part": "all"}))


def test_les_av_has_no_parts(tmp_path: Path) -> None:
    vessels(tmp_path, "images/275.png", "arteries-and-veins/275.png", "masks/275_mask.gif")
    options = retina_av.Options(root=tmp_path, layout="les_av")
    (case,) = retina_av.cases(options).cases
    assert (case.id, case.attributes) == ("275", {}) and case.valid is not None
    with pytest.raises(Refusal, match="training of les_av"):
        retina_av.cases(options.model_copy(update={"part": "training"}))


@pytest.mark.reference_data
@reference.needed[1]
def test_real_photographs_of_avrdb(tmp_path: Path) -> None:
    source = reference.ROOT / "fundus/avrdb"
    for path in sorted(source.glob("IM*")):
        place = tmp_path / ("av-labels" if "--av" in path.name else "images")
        place.mkdir(exist_ok=True)
        (place / path.name).symlink_to(path)
    data = retina_av.cases(retina_av.Options(root=tmp_path, layout="avrdb"))
    assert [case.id for case in data.cases] == ["IM000001", "IM000004", "IM000023"]
    colours = readers.read(data.cases[0].target).array
    numbers = sum((channel > 127) * bit for channel, bit in zip(colours, (1, 2, 4), strict=True))
    assert data.labels.unknown(numbers) == [] and numbers.shape == readers.read(data.cases[0].images["all"]).shape
    artery, vein, vessel = (data.labels.encode(numbers) == 1).sum(axis=(1, 2, 3)).tolist()
    assert (artery, vein, vessel) == (75740 + 3510, 76414 + 3510, 75740 + 3510 + 76414), "red, blue; green in both"


# --- CT and PET -----------------------------------------------------------------------------------------------------


def test_lits(tmp_path: Path) -> None:
    options = lits.example(tmp_path)
    _examples.write_nifti(tmp_path / "Test/test-volume-3.nii", 0)
    data = lits.cases(options)
    assert [case.id for case in data.cases] == ["volume-0", "volume-1", "volume-10"]
    assert data.labels.exclusive and {label.name: label.index for label in data.labels.labels} == {
        "liver": 1,
        "tumour": 2,
    }
    shutil.copy(tmp_path / "Training Batch 1/volume-0.nii", tmp_path / "volume-0.nii")
    with pytest.raises(Refusal, match="a second volume 0"):
        lits.cases(options)


def test_autopet(tmp_path: Path) -> None:
    options = autopet.example(tmp_path)
    data = autopet.cases(options)
    first = data.cases[0]
    assert (first.id, first.patient) == ("PETCT_0a_01-01-2003-NA-PET-CT-1", "PETCT_0a")
    assert [path.name for path in first.images.values()] == ["SUV.nii.gz", "CTres.nii.gz"]
    assert data.labels.unit == "voxel" and first.unit == "volume"
    slices = autopet.cases(options.model_copy(update={"unit": "slice", "channels": ("SUV",)}))
    assert (slices.labels.unit, slices.labels.exclusive, slices.cases[0].unit) == ("slice", False, "slice")
    assert slices.labels.network_channels == 1


def test_autopet_lymphoma_alone(tmp_path: Path) -> None:
    options = autopet.example(tmp_path)
    lines = ("Subject ID,diagnosis,age,sex", "PETCT_0a,MELANOMA,50Y,F", "PETCT_0a,MELANOMA,50Y,F")
    _examples.write_table(tmp_path / "clinical.csv", *lines, "PETCT_1b,LYMPHOMA,40Y,M")
    chosen = options.model_copy(update={"metadata": tmp_path / "clinical.csv", "diagnosis": ("Lymphoma",)})
    (case,) = autopet.cases(chosen).cases
    assert (case.patient, case.attributes) == ("PETCT_1b", {"diagnosis": "LYMPHOMA", "age": "40Y", "sex": "M"})
    with pytest.raises(Refusal, match="no metadata"):
        autopet.cases(options.model_copy(update={"diagnosis": ("LYMPHOMA",)}))
    _examples.write_table(tmp_path / "clinical.csv", *lines)
    with pytest.raises(Refusal, match="no line for PETCT_1b"):
        autopet.cases(chosen)


# --- diabetic retinopathy -------------------------------------------------------------------------------------------


def graded(options: dr_grading.Options) -> list[tuple[str, str, str, tuple[int, ...] | None]]:
    return [(case.id, case.patient, case.group, case.classes) for case in dr_grading.cases(options).cases]


def test_eyepacs(tmp_path: Path) -> None:
    options = dr_grading.example(tmp_path)
    assert graded(options) == [
        ("10_left", "10", "left", (0,)),
        ("10_right", "10", "right", (2,)),
        ("13_left", "13", "left", (4,)),
    ]
    data = dr_grading.cases(options)
    assert [data.labels.encode_classes(case.classes or ()).item() for case in data.cases] == [0, 1, 1]
    assert data.labels.names == ("not referable", "referable") and data.cases[0].unit == "image"
    assert data.cases[1].attributes == {"part": "training", "grade": "2"}
    five = dr_grading.cases(options.model_copy(update={"task": "grade"}))
    assert [five.labels.encode_classes(case.classes or ()).item() for case in five.cases] == [0, 2, 4]
    photographs(tmp_path / "test", "1_left.png")
    _examples.write_table(tmp_path / "retinopathy_solution.csv", "image,level,Usage", "1_left,1,Private")
    assert graded(options.model_copy(update={"part": "test"})) == [("1_left", "1", "left", (1,))]
    assert len(graded(options.model_copy(update={"part": "all"}))) == 4


def test_aptos_and_a_table_of_patients(tmp_path: Path) -> None:
    photographs(tmp_path / "train_images", "000c.png", "001d.png")
    _examples.write_table(tmp_path / "train.csv", "id_code,diagnosis", "000c,2", "001d,0")
    options = dr_grading.Options(root=tmp_path, layout="aptos")
    assert graded(options) == [("000c", "000c", "", (2,)), ("001d", "001d", "", (0,))]
    _examples.write_table(tmp_path / "patients.csv", "case,patient,group", "000c,A,left", "001d,A,right")
    assert graded(options) == [("000c", "A", "left", (2,)), ("001d", "A", "right", (0,))]
    with pytest.raises(Refusal, match="test of aptos; needed one of training, all"):
        dr_grading.cases(options.model_copy(update={"part": "test"}))


def test_ddr_leaves_ungradable_photographs_out(tmp_path: Path) -> None:
    photographs(tmp_path / "train", "007-0004-000.jpg", "20170323093305605.jpg", "x.y.jpg")
    lines = ("007-0004-000.jpg 0", "20170323093305605.jpg 5", "x.y.jpg 3")
    _examples.write_table(tmp_path / "train.txt", *lines)
    options = dr_grading.Options(root=tmp_path, layout="ddr")
    assert graded(options) == [("007-0004-000", "007-0004-000", "", (0,)), ("x.y", "x.y", "", (3,))]
    _examples.write_table(tmp_path / "train.txt", *lines, "one two three")
    with pytest.raises(Refusal, match="the line 'one two three'"):
        dr_grading.cases(options)


def test_idrid_counts_both_parts_from_one(tmp_path: Path) -> None:
    header = "Image name,Retinopathy grade,Risk of macular edema ,,"
    for letter, part in (("a", "Training"), ("b", "Testing")):
        photographs(tmp_path / f"1. Original Images/{letter}. {part} Set", "IDRiD_001.jpg")
        table = tmp_path / f"2. Groundtruths/{letter}. IDRiD_Disease Grading_{part} Labels.csv"
        _examples.write_table(table, header, f"IDRiD_001,{3 if letter == 'a' else 0},2,,", ",,,,")
    options = dr_grading.Options(root=tmp_path, layout="idrid", part="all")
    assert [(case, classes) for case, _, _, classes in graded(options)] == [
        ("test_IDRiD_001", (0,)),
        ("training_IDRiD_001", (3,)),
    ]


def test_deepdrid(tmp_path: Path) -> None:
    training = tmp_path / "regular-fundus-training"
    photographs(training / "Images/2", "2_l1.jpg", "2_r1.jpg")
    _examples.write_table(
        training / "regular-fundus-training.csv",
        "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level",
        r"2,2_l1,\regular-fundus-training\2\2_l1.jpg,0,1,,3",
        r"2,2_r1,\regular-fundus-training\2\2_r1.jpg,1,,3,3",
    )
    _examples.write_table(
        training / "regular-fundus-source-training.csv", "patient_id,image_id,image_path,Source", "2,2_l1,x,Nicheng"
    )
    options = dr_grading.Options(root=tmp_path, layout="deepdrid")
    assert graded(options) == [("2_l1", "2", "left", (1,)), ("2_r1", "2", "right", (3,))]
    first, second = dr_grading.cases(options).cases
    assert (first.attributes["quality"], second.attributes["quality"], first.centre) == ("0", "1", "Nicheng")
    test = tmp_path / "Online-Challenge1&2-Evaluation"
    photographs(test / "Images/347", "347_r2.jpg")
    _examples.write_table(test / "Challenge1_labels.csv", "image_id,DR_Levels", "347_r2,4")
    assert graded(options.model_copy(update={"part": "test"})) == [("347_r2", "347", "right", (4,))]


def test_messidor_2_pairs(tmp_path: Path) -> None:
    photographs(tmp_path / "IMAGES", "20051020_1_0100_PP.png", "20051020_2_0100_PP.png", "IM000013.JPG")
    rows = ("20051020_1_0100_PP.png,2,1", "20051020_2_0100_PP.png,0.0,1", "IM000013.jpg,,0")
    header = "image_id,adjudicated_dr_grade,adjudicated_gradable"
    _examples.write_table(tmp_path / "messidor_data.csv", header, *rows)
    lines = ("left;right ", "20051020_1_0100_PP.png;20051020_2_0100_PP.png", "IM000013.JPG;IM000012.JPG")
    _examples.write_table(tmp_path / "messidor-2.csv", *lines)
    patient = "20051020_1_0100_PP"
    assert graded(dr_grading.Options(root=tmp_path, layout="messidor2")) == [
        ("20051020_1_0100_PP", patient, "", (2,)),
        ("20051020_2_0100_PP", patient, "", (0,)),
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("image,grade", "10_left,0"), "also level"),
        (("image,level", "10_left,6"), "grade '6' of 10_left"),
        (("image,level", "10_left,"), "grade '' of 10_left"),
        (("image,level", "10,1"), "the name '10'"),
        (("image,level", "10_left,1", "10_left,1"), "case '10_left' 2 times"),
        (("image,level", "11_left,1"), r"train.11_left: found no such photograph"),
        (("image,level", "10_left,5"), "no photograph with a grade"),
    ],
)
def test_gradings_refused(tmp_path: Path, lines: tuple[str, ...], says: str) -> None:
    options = dr_grading.example(tmp_path)
    _examples.write_table(tmp_path / "trainLabels.csv", *lines)
    with pytest.raises(Refusal, match=says):
        dr_grading.cases(options)


def test_two_photographs_of_one_name_are_refused(tmp_path: Path) -> None:
    options = dr_grading.example(tmp_path)
    photographs(tmp_path / "train/more", "10_left.png")
    with pytest.raises(Refusal, match="a second photograph"):
        dr_grading.cases(options)
