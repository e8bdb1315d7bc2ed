"""`medseg dicom write`: labels that a person corrected, as DICOM objects that refer to the series that they lie on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medseg import codes, readers
from medseg.dicom import seg
from medseg.engine.drawn import on_scan
from medseg.geometry import axis_map
from medseg.labels import Code, Coded, Label, LabelTable
from medseg.outputs import nifti, seg_nrrd
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_series as ds
from tests import judges, tiny
from tests.slicer import judge
from tests.tiny import medseg_command

MASS = Coded(
    Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    Code("4147007", "SCT", "Mass"),
    side=Code("7771000", "SCT", "Left"),
    site=Code("64033007", "SCT", "Kidney"),
    detail=Code("255216001", "SCT", "Grün"),
)
TABLE = LabelTable(
    (
        Label(4, "Leber ü", (4,), Code("10200004", "SCT", "Liver"), (51, 102, 153)),
        Label(9, "a mass", (9,), None, (1, 200, 30), coded=MASS),
        Label(300, "drawn", (300,)),
    )
)
OBLIQUE = (0.96, 0.28, 0, -0.28, 0.96, 0)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("täst ordner")
    return ds.series(folder / "scan", ds.places(9, orientation=OBLIQUE), orientation=OBLIQUE, rows=14, columns=10)


def drawn(series: Path, table: LabelTable = TABLE) -> Prediction:
    """Boxes without any symmetry in the middle of the scan."""
    scan = readers.read(series)
    target = np.zeros((1 if table.exclusive else len(table.labels), *scan.shape), np.uint8)
    for position in range(len(table.labels)):
        here = target[0 if table.exclusive else position]
        here[2 + position : 5 + position, 3:9, 1 + position : 6] = position + 1 if table.exclusive else 1
    return Prediction("case", table, scan.with_array(target), {"model": "small", "weights sha256": "0123abcd"})


def write(made: Prediction, path: Path) -> Path:
    seg_nrrd.write(made, path, seg_nrrd.Options())
    return path


def at(segmentation: seg.Segmentation, position: int) -> set[tuple[float, ...]]:
    """Places of a segment's voxels in mm."""
    return places(segmentation.mask(position), segmentation.affine)


def places(mask: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    found = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(np.round(place, 2) + 0.0) for place in found}


def written(*words: object) -> Path:
    said = medseg_command("dicom", "write", *words)
    assert said.code == 0, said.err
    [path] = json.loads(said.out)["files"]
    return Path(path)


def refused(*words: object) -> str:
    said = medseg_command("dicom", "write", *words)
    assert (said.code, said.out) == (2, "")
    return said.err


def test_names_colours_codes_and_pixels_are_those_of_the_file(series: Path, tmp_path: Path) -> None:
    made = drawn(series)
    path = written(write(made, tmp_path / "a ü.seg.nrrd"), series, tmp_path / "new" / "ö b.dcm")
    assert path == tmp_path / "new" / "ö b.dcm"
    read = seg.read(path)
    assert [one.label for one in read.segments] == ["Leber ü", "a mass", "drawn"]
    for position in range(3):
        assert at(read, position) == places(made.mask(position), made.target.affine)
    dataset = pydicom.dcmread(path)
    [source] = dataset.ReferencedSeriesSequence
    original = pydicom.dcmread(next(series.iterdir()))
    assert source.SeriesInstanceUID == original.SeriesInstanceUID
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (original.PatientID, original.StudyInstanceUID)
    liver, mass, other = dataset.SegmentSequence
    assert {one.SegmentAlgorithmType for one in dataset.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    kind, place = mass.SegmentedPropertyTypeCodeSequence[0], mass.AnatomicRegionSequence[0]
    assert (kind.CodeValue, place.CodeValue) == ("4147007", "64033007")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Grün"
    assert place.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert other.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSEG"
    lab = [
        value * scale / 65535 + shift
        for value, scale, shift in zip(
            mass.RecommendedDisplayCIELabValue, (100, 255, 255), (0, -128, -128), strict=True
        )
    ]
    assert lab[1] < -50 and lab[2] > 40  # green
    assert "small" in liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName


def test_segments_that_overlap(series: Path, tmp_path: Path) -> None:
    made = drawn(
        series, LabelTable(tuple(replace(one, members=(one.index, 1)) for one in TABLE.labels), exclusive=False)
    )
    image = sitk.ReadImage(str(write(made, tmp_path / "a.seg.nrrd")))
    array = sitk.GetArrayFromImage(image)
    array[array == 9] = 4  # a number means something in its layer only, and Slicer begins with 1 in each
    again = sitk.GetImageFromArray(array, isVector=True)
    again.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        again.SetMetaData(
            key, image.GetMetaData(key).replace("9", "4") if "LabelValue" in key else image.GetMetaData(key)
        )
    sitk.WriteImage(again, str(tmp_path / "a.seg.nrrd"))
    read = seg.read(written(tmp_path / "a.seg.nrrd", series, tmp_path / "b.dcm"))
    assert len(read.array) == 3
    for position in range(3):
        assert at(read, position) == places(made.mask(position), made.target.affine)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_file_that_covers_a_box_in_another_axis_order_is_put_into_place(
    series: Path, tmp_path: Path, overlap: bool
) -> None:
    table = LabelTable(TABLE.labels, exclusive=not overlap)
    made = drawn(series, table)
    box = (slice(1, 9), slice(2, 10), slice(1, 8))
    affine = made.target.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [1, 2, 1]
    turn = axis_map(affine, "SRP")
    cut = made.target.array[(slice(None), *box)]
    small = Volume(np.ascontiguousarray(turn.apply(cut)), turn.affine(affine, cut.shape[1:]))
    read = seg.read(written(write(replace(made, target=small), tmp_path / "a.seg.nrrd"), series, tmp_path / "b.dcm"))
    for position in range(3):
        assert at(read, position) == places(made.mask(position), made.target.affine)


def test_another_grid_is_refused_with_its_distance_in_mm(series: Path, tmp_path: Path) -> None:
    made = drawn(series)
    affine = made.target.affine.copy()
    affine[:3, 3] += [0.5, 0, 0]
    file = write(replace(made, target=Volume(made.target.array, affine)), tmp_path / "a.seg.nrrd")
    assert "up to 0.5 mm away" in refused(file, series, tmp_path / "b.dcm")
    assert not (tmp_path / "b.dcm").exists()


def test_a_label_map_needs_to_be_told_what_its_numbers_mean(series: Path, tmp_path: Path) -> None:
    made = drawn(series, LabelTable.of({"left": 1, "right": 2}))
    nifti.write(made, tmp_path / "a.nii.gz", nifti.Options())
    assert "--labels RUN" in refused(tmp_path / "a.nii.gz", series, tmp_path / "b.dcm")
    run = tiny.untrained_run(tmp_path / "run").folder
    read = seg.read(written(tmp_path / "a.nii.gz", series, tmp_path / "b.dcm", "--labels", run))
    assert [one.label for one in read.segments] == ["left", "right"]
    assert at(read, 1) == places(made.mask(1), made.target.affine)
    nifti.write(drawn(series), tmp_path / "c.nii.gz", nifti.Options())
    assert "the numbers 4, 9, 300" in refused(tmp_path / "c.nii.gz", series, tmp_path / "d.dcm", "--labels", run)


BRATS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}


@pytest.mark.parametrize(
    ("names", "paint", "meant"),
    [
        (BRATS, [2, 1, 4], True),
        (BRATS, [11, 12, 13], True),
        (BRATS, None, True),  # 3 is no number that it was trained on
        ({"WT": [1, 2], "TC": [1]}, None, False),
        ({"artery": [1], "vein": [2]}, [7, 9], True),
        ({"artery": [1], "vein": [2]}, [2, 1], False),
    ],
)
def test_regions_are_read_as_they_were_painted_or_not_at_all(
    series: Path, tmp_path: Path, names: dict[str, list[int]], paint: list[int] | None, meant: bool
) -> None:
    """The numbers of a prediction may be other ones than those of the maps that it was trained on."""
    table = LabelTable.of(names, paint=paint)
    made = drawn(series, table)
    target = np.zeros_like(made.target.array)
    for position in range(len(table.labels)):  # each within the one before, or beside it
        target[position, 2:7, 3 : 9 - 2 * position, 1:6] = 1
    if "artery" in names:
        target[0, :, :5] = 0
        target[1, :, 5:] = 0
    made = replace(made, target=made.target.with_array(target))
    nifti.write(made, tmp_path / "a.nii.gz", nifti.Options())
    scan = readers.read(series)
    if meant:
        found = on_scan(tmp_path / "a.nii.gz", scan, "case", table)
        assert np.array_equal(found.target.array, target)
        return
    with pytest.raises(Refusal, match="mean other regions where labels are trained on"):
        on_scan(tmp_path / "a.nii.gz", scan, "case", table)


@pytest.mark.parametrize("numbers", [{"A": [10, 20], "B": [20, 30]}, {"A": [1, 2], "B": [2, 3]}])
def test_a_painted_map_that_hides_a_part_of_a_region_is_refused(
    series: Path, tmp_path: Path, numbers: dict[str, list[int]]
) -> None:
    """Regions that overlap in part: of a voxel of both, the map has the number of one."""
    made = drawn(series, LabelTable.of({**numbers, "C": [40]}, paint=[1, 2, 40]))
    a, b, c = np.zeros_like(made.target.array)
    a[2:7, 3:6], b[2:7, 5:9] = 1, 1
    c[0] = 1
    nifti.write(
        replace(made, target=made.target.with_array(np.stack([a, b, c]))), tmp_path / "a.nii.gz", nifti.Options()
    )
    with pytest.raises(Refusal, match=r"where A and B overlap.*seg\.nrrd"):
        on_scan(tmp_path / "a.nii.gz", readers.read(series), "case", made.table)
    alone = made.target.with_array(np.stack([0 * a, 0 * b, c]))
    nifti.write(replace(made, target=alone), tmp_path / "c.nii.gz", nifti.Options())
    found = on_scan(tmp_path / "c.nii.gz", readers.read(series), "case", made.table)
    assert np.array_equal(found.target.array, alone.array)
    trained = np.where(a[None], numbers["A"][0], 0) + np.where(b[None], numbers["B"][1], 0)
    trained[0, a & b == 1] = numbers["A"][1]
    kept = LabelTable.of({"x": numbers["A"][0], "y": numbers["A"][1], "z": numbers["B"][1]})
    shown = made.target.with_array(np.searchsorted([0, *(one.index for one in kept.labels)], trained).astype(np.uint8))
    nifti.write(Prediction("case", kept, shown), tmp_path / "t.nii.gz", nifti.Options())
    found = on_scan(tmp_path / "t.nii.gz", readers.read(series), "case", made.table)
    assert np.array_equal(found.target.array, np.stack([a, b, 0 * c]))


def test_the_numbers_that_regions_were_trained_on_are_read_too(series: Path, tmp_path: Path) -> None:
    table, scan = LabelTable.of(BRATS, paint=[11, 12, 13]), readers.read(series)
    values = np.zeros((1, *scan.shape), np.uint8)
    values[0, 2:5, 3:6, 1:4] = [[[1]], [[2]], [[4]]]
    made = Prediction(
        "case", LabelTable.of({"a": 1, "b": 2, "c": 4}), scan.with_array(np.where(values == 4, 3, values))
    )
    nifti.write(made, tmp_path / "a.nii.gz", nifti.Options())
    found = on_scan(tmp_path / "a.nii.gz", scan, "case", table)
    assert np.array_equal(found.target.array, table.encode(values[0]))


def test_two_segments_of_one_name_are_refused(series: Path, tmp_path: Path) -> None:
    file = write(drawn(series), tmp_path / "a.seg.nrrd")
    file.write_bytes(file.read_bytes().replace(b"Name:=drawn", b"Name:=a mass"))
    assert "two segments called 'a mass'" in refused(file, series, tmp_path / "b.dcm")


def test_a_file_with_names_of_its_own_is_not_read_with_those_of_a_run(series: Path, tmp_path: Path) -> None:
    """Its numbers may be others than the run's."""
    run = tiny.untrained_run(tmp_path / "run", labels={"liver": 1, "spleen": 2}).folder
    for exclusive in (True, False):
        table = LabelTable((Label(1, "spleen", (1,)), Label(2, "liver", (2,))), exclusive=exclusive)
        file = write(drawn(series, table), tmp_path / "a.seg.nrrd")
        assert "leave --labels out" in refused(file, series, tmp_path / "b.dcm", "--labels", run)
    assert not (tmp_path / "b.dcm").exists()


def erased(file: Path, *numbers: int) -> Path:
    """Segments stay in a list though a person has erased them."""
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    array[np.isin(array, numbers)] = 0
    again = sitk.GetImageFromArray(array)
    again.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        again.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(again, str(file))
    return file


def test_segments_without_a_voxel_are_told_and_nothing_at_all_is_refused(series: Path, tmp_path: Path) -> None:
    file = write(drawn(series), tmp_path / "a.seg.nrrd")
    said = medseg_command("dicom", "write", erased(file, 9), series, tmp_path / "a.dcm")
    assert (said.code, said.err.strip()) == (0, "a.seg.nrrd: nothing is drawn of a mass")
    assert [one.label for one in seg.read(tmp_path / "a.dcm").segments] == ["Leber ü", "drawn"]
    assert "not one voxel of Leber ü, a mass, drawn" in refused(erased(file, 4, 300), series, tmp_path / "b.dcm")
    assert not (tmp_path / "b.dcm").exists()


def test_nothing_is_replaced_and_nothing_comes_among_the_slices(series: Path, tmp_path: Path) -> None:
    file, slices = write(drawn(series), tmp_path / "a.seg.nrrd"), sorted(series.iterdir())
    before = [path.read_bytes() for path in slices]
    assert "a file of this name" in refused(file, series, slices[0])
    link = tmp_path / "link"
    link.symlink_to(series)
    for out in (series / "new.dcm", series / "deeper" / "new.dcm", series, link / "new.dcm"):
        assert "a place among the files of the series" in refused(file, series, out)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.seg.dcm").write_bytes(b"former")
    several = ("--output", "rtstruct", "--output", "dicom_seg")
    assert "a file of this name" in refused(file, series, tmp_path / "out", *several)
    assert "a file of this name" in refused(file, series, tmp_path / "out" / "a.seg.dcm", *several)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"former"]
    assert sorted(series.iterdir()) == slices
    assert [path.read_bytes() for path in slices] == before


SLOW_DISK = """
import os, time
sync = os.fsync
os.fsync = lambda handle: (print("written", flush=True), time.sleep(120), sync(handle))
from medseg.__main__ import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program could hear")
def test_asked_to_end_it_leaves_nothing(series: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    file = write(drawn(series), tmp_path / "a.seg.nrrd")
    words = [sys.executable, "-c", SLOW_DISK, "dicom", "write", str(file), str(series), str(tmp_path / "out" / "b.dcm")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        assert len(list((tmp_path / "out").iterdir())) == 1
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_structures_and_several_outputs_go_into_a_folder(series: Path, tmp_path: Path) -> None:
    file, words = write(drawn(series), tmp_path / "a.seg.nrrd"), ("--output", "rtstruct", "--output")
    said = medseg_command("dicom", "write", file, series, tmp_path / "out", *words, "dicom_seg:series_number=7")
    paths = [Path(path) for path in json.loads(said.out)["files"]]
    assert [path.name for path in paths] == ["a.rtstruct.dcm", "a.seg.dcm"]
    structures, segmentation = map(pydicom.dcmread, paths)
    assert {one.ROIGenerationAlgorithm for one in structures.StructureSetROISequence} == {"SEMIAUTOMATIC"}
    assert segmentation.SeriesNumber == 7


@pytest.mark.parametrize("tags", ["", "TerminologyEntry:x~^^~^^", "TerminologyEntry:", "a:b|TerminologyEntry:c"])
def test_a_segment_without_codes_gets_those_of_its_name(series: Path, tmp_path: Path, tags: str) -> None:
    file = write(drawn(series), tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(file))
    image.SetMetaData("Segment0_Tags", tags)
    image.SetMetaData("Segment0_Name", "spleen")
    sitk.WriteImage(image, str(tmp_path / "b.seg.nrrd"))
    first = pydicom.dcmread(written(tmp_path / "b.seg.nrrd", series, tmp_path / "b.dcm")).SegmentSequence[0]
    spleen = codes.of(Label(1, "spleen", (1,)))
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == spleen.kind.value


def test_texts_that_are_too_long_for_dicom_are_cut(series: Path, tmp_path: Path) -> None:
    long = Coded(MASS.category, Code("1", "99X", "Печень" * 20))
    table = LabelTable((Label(1, "name " * 30, (1,), coded=long),))
    [one] = pydicom.dcmread(
        written(write(drawn(series, table), tmp_path / "a.seg.nrrd"), series, tmp_path / "b.dcm")
    ).SegmentSequence
    assert len(one.SegmentLabel) <= 64
    meaning = str(one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning)
    assert meaning == ("Печень" * 20)[:64]


def test_the_reader_gives_back_what_was_written(series: Path, tmp_path: Path) -> None:
    made = drawn(series)
    notes = readers.read(write(made, tmp_path / "a.seg.nrrd")).source.notes
    for label, own in zip(notes["labels"], TABLE.labels, strict=True):
        assert (label.index, label.name, label.colour, label.coded) == (own.index, own.name, own.colour, codes.of(own))
    assert notes["provenance"] == {"model": "small", "weights sha256": "0123abcd"}


class TestValidator:
    pytestmark = judges.needs("dciodvfy")

    def test_nothing_is_wrong_with_it(self, series: Path, tmp_path: Path) -> None:
        path = written(write(drawn(series), tmp_path / "a.seg.nrrd"), series, tmp_path / "b.dcm")
        assert judges.dciodvfy(path) == []


IN_SLICER = """
import sys, slicer
scene = slicer.vtkMRMLScene()
node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
scene.AddNode(node)
scene.AddNode(storage)
storage.SetFileName(sys.argv[1])
assert storage.ReadData(node)
segment = node.GetSegmentation().GetNthSegment(2)
segment.SetName("corrected")
segment.SetColor(0.0, 1.0, 0.0)
segment.SetTag("TerminologyEntry", "any list~SCT^85756007^Tissue~SCT^3120008^Pleura~SCT^24028007^Right~any~^^~^^")
storage.SetCropToMinimumExtent(True)
storage.SetFileName(sys.argv[2])
assert storage.WriteData(node)
"""


@judge.needed
@pytest.mark.parametrize("overlap", [False, True])
def test_what_slicer_saved_cropped_after_a_change(series: Path, tmp_path: Path, overlap: bool) -> None:
    made, folder = drawn(series, LabelTable(TABLE.labels, exclusive=not overlap)), tmp_path / "täst ordner"
    folder.mkdir()
    write(made, folder / "a.seg.nrrd")
    (folder / "edit.py").write_text(IN_SLICER, encoding="utf-8")
    words = [judge.PYTHON, str(folder / "edit.py"), str(folder / "a.seg.nrrd"), str(folder / "b.seg.nrrd")]
    subprocess.run(words, env=judge.environment(), check=True, capture_output=True, timeout=120)
    assert readers.read(folder / "b.seg.nrrd").shape != made.target.shape
    path = written(folder / "b.seg.nrrd", series, folder / "b.dcm")
    read = seg.read(path)
    assert [one.label for one in read.segments] == ["Leber ü", "a mass", "corrected"]
    for position in range(3):
        assert at(read, position) == places(made.mask(position), made.target.affine)
    kinds = [one.SegmentedPropertyTypeCodeSequence[0] for one in pydicom.dcmread(path).SegmentSequence]
    assert [kind.CodeValue for kind in kinds] == ["10200004", "4147007", "3120008"]
    assert kinds[2].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
