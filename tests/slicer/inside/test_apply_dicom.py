"""Series of the DICOM database become folders, and corrected segments DICOM segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import shapes
from applied import Canned, Desk, model, scan
from database import Database

from MedSegLib import dicom
from MedSegLib import scene as work
from MedSegLib.apply import Choices
from MedSegLib.local import Local
from MedSegLib.steps import Before
from MedSegLib.work import DONE, Order, Outcome, Run


def test_series_of_the_dicom_database_become_folders(desk: Desk, made: Path, tmp_path: Path) -> None:
    database, into = Database(made / "dicom"), tmp_path / "Ergebnisse für alle"
    (patient,) = dicom.patients(database)
    (one,) = dicom.series(database, patient)
    assert (patient.name, one.title, one.modality, one.images) == ("Phantom^One", "7 thorax CT", "CT", 6)
    before = desk.ids()
    (number,) = desk.apply.batch_dicom(database, [[one]], model(made, "organs"), Choices(), into)
    entry = desk.over(number)
    assert entry.state == "done", entry.log
    assert [path.name for path in into.iterdir()] == ["P1_20240102_7"]
    assert sorted(path.name for path in (into / "P1_20240102_7").iterdir()) == [
        "P1_20240102_7.seg.dcm",
        "P1_20240102_7.seg.nrrd",
    ]
    assert desk.results[0].folder == into / "P1_20240102_7"
    assert desk.ids() == before
    assert len(list((made / "dicom").iterdir())) == 6


def test_two_series_of_one_name_get_a_folder_each(scene: Any, made: Path, tmp_path: Path) -> None:
    def done(order: Order) -> Outcome:
        assert len(list(order.dicom.iterdir())) == 6
        (order.folder / "x.seg.nrrd").write_bytes(b"a result")
        return Outcome(DONE, {"x.seg.nrrd": order.folder / "x.seg.nrrd"})

    desk, database = Desk(scene, Canned(done), tmp_path / "läuft"), Database(made / "dicom")
    one = dicom.series(database, next(dicom.patients(database)))[0]
    numbers = desk.apply.batch_dicom(database, [[one], [one]], model(made, "organs"), Choices(), tmp_path / "nach")
    assert [desk.over(number).state for number in numbers] == ["done", "done"]
    folders = sorted((tmp_path / "nach").iterdir())
    assert [path.name for path in folders] == ["P1_20240102_7", "P1_20240102_7 (2)"]
    assert [path.name for folder in folders for path in folder.iterdir()] == ["x.seg.nrrd"] * 2


def test_dicom_files_that_are_gone_are_told(desk: Desk, made: Path, tmp_path: Path) -> None:
    database = Database(made / "dicom")
    one = dicom.series(database, next(dicom.patients(database)))[0]
    database.filesForSeries = lambda uid: ["/gone/1.dcm"]  # type: ignore[method-assign]
    (number,) = desk.apply.batch_dicom(database, [[one]], model(made, "organs"), Choices(), tmp_path / "nach")
    assert "1 of 1 DICOM files are not where Slicer's database has seen them" in str(desk.over(number).outcome.failure)
    assert list((tmp_path / "nach").iterdir()) == []


def loaded(scene: Any, made: Path) -> Any:
    """The DICOM series as a volume node, as Slicer's own loader marks it."""
    with np.load(made / "series.npz") as kept:
        node = shapes.volume(scene, kept["image"], kept["affine"], "7: thorax")
    uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in (made / "dicom").iterdir()]
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    return node


def test_corrected_segments_become_a_dicom_segmentation_of_their_series(
    scene: Any, desk: Desk, local: Local, made: Path, tmp_path: Path
) -> None:
    """Though the volume, with the segmentation, was moved to somewhere else on the screen."""
    volume, out = loaded(scene, made), tmp_path / "für das Archiv.dcm"
    mask = np.zeros(work.described(volume).shape, np.uint8)
    mask[2:5, 3:9, 1:4] = 1
    node = shapes.segmentation(scene, volume, {"liver": mask, "Gefäß": np.roll(mask, 3, axis=0)})
    moved = np.eye(4)
    moved[:3, 3] = (100, 50, -20)
    shapes.transform(scene, moved, volume, node)
    entry = desk.over(desk.apply.export(node, volume, Database(made / "dicom"), local.ask, out))
    assert entry.state == "done", entry.log
    written = pydicom.dcmread(out)
    assert [one.SegmentLabel for one in written.SegmentSequence] == ["liver", "Gefäß"]
    places = {}
    for path in (made / "dicom").iterdir():
        head = pydicom.dcmread(path, stop_before_pixels=True)
        places[head.SOPInstanceUID] = head.InstanceNumber - 1
    found = np.zeros((2, *mask.shape), np.uint8)
    for frame, pixels in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[segment - 1, :, :, places[source]] = pixels.T
    assert (found[0] == mask).all()
    assert (found[1] == np.roll(mask, 3, axis=0)).all()
    assert desk.left() == []


def test_a_volume_from_elsewhere_cannot_be_exported(scene: Any, desk: Desk, local: Local, made: Path) -> None:
    volume = shapes.volume(scene, *scan(made))
    for database in (Database(made / "dicom"), None):
        with pytest.raises(work.Trouble, match="was not loaded from Slicer's DICOM database"):
            desk.apply.export(volume, volume, database, local.ask, made / "x.dcm")


class Asked:
    """`medseg dicom write` that makes a file and ends as it is told to."""

    def __init__(self, state: str = DONE):
        self._state = state

    def __call__(self, words: Sequence[str]) -> Run:
        Path(words[-1]).write_bytes(b"made")
        return Before([Outcome(self._state, facts={"answer": {"files": [words[-1]]}})])


def drawn(scene: Any, volume: Any, beyond: int = 0) -> Any:
    """A segmentation, of which some planes lie beyond the volume's first slice."""
    mask = np.zeros(work.described(volume).shape, np.uint8)
    mask[2:5, 3:9, : beyond + 1] = 1
    affine = work.own_matrix(volume)
    affine[:3, 3] -= affine[:3, 2] * beyond
    return shapes.segmentation(scene, shapes.volume(scene, mask, affine, "höher"), {"liver": mask})


def test_an_export_appears_when_it_is_done(scene: Any, desk: Desk, made: Path, tmp_path: Path) -> None:
    """And what was cut off is in the log."""
    volume, out = loaded(scene, made), tmp_path / "neuer Ordner" / "ä.dcm"
    node = drawn(scene, volume, beyond=2)
    entry = desk.over(desk.apply.export(node, volume, Database(made / "dicom"), Asked(), out))
    assert (entry.state, out.read_bytes()) == ("done", b"made")
    assert [path.name for path in out.parent.iterdir()] == ["ä.dcm"]
    assert "Cut off, since it lies outside of the volume: liver (36 voxels)." in " ".join(entry.log)
    assert desk.left() == []


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_an_export_that_ends_otherwise_leaves_nothing(
    scene: Any, desk: Desk, made: Path, tmp_path: Path, state: str
) -> None:
    """Though its file was made already."""
    volume, out = loaded(scene, made), tmp_path / "nach" / "ä.dcm"
    out.parent.mkdir()
    number = desk.apply.export(drawn(scene, volume), volume, Database(made / "dicom"), Asked(state), out)
    assert desk.over(number).state == state
    assert (list(out.parent.iterdir()), desk.left()) == ([], [])


def test_an_export_replaces_no_file(scene: Any, desk: Desk, made: Path, tmp_path: Path) -> None:
    volume, database, out = loaded(scene, made), Database(made / "dicom"), tmp_path / "ä.dcm"
    node, slices = drawn(scene, volume), sorted((made / "dicom").iterdir())
    before = [path.read_bytes() for path in slices]
    with pytest.raises(work.Trouble, match="is there already"):
        desk.apply.export(node, volume, database, Asked(), slices[0])
    with pytest.raises(work.Trouble, match="the folder of the DICOM files that the volume was loaded from"):
        desk.apply.export(node, volume, database, Asked(), made / "dicom" / "neu.dcm")
    number = desk.apply.export(node, volume, database, Asked(), out)
    out.write_bytes(b"quicker")
    entry = desk.over(number)
    assert "is there already" in str(entry.outcome.failure)
    assert (out.read_bytes(), desk.left()) == (b"quicker", [])
    assert [path.read_bytes() for path in sorted((made / "dicom").iterdir())] == before


def test_results_that_cannot_be_put_into_their_folder_leave_nothing_there(scene: Any, tmp_path: Path) -> None:
    """The second file is missing: what was moved already goes, too."""
    into, given = tmp_path / "nach", tmp_path / "von"
    given.mkdir()
    (given / "a.seg.nrrd").write_text("x")
    desk = Desk(scene, None, tmp_path / "läuft hier")
    done = Outcome(DONE, {"a": given / "a.seg.nrrd", "b": given / "missing"})
    with pytest.raises(FileNotFoundError):
        desk.apply._into_folder("t", done, into, "P1_20240101_2")
    assert not list(into.iterdir())
    (given / "a.seg.nrrd").write_text("x")
    desk.apply._into_folder("t", Outcome(DONE, {"a": given / "a.seg.nrrd"}), into, "P1_20240101_2")
    assert [path.relative_to(into).as_posix() for path in sorted(into.rglob("*"))] == [
        "P1_20240101_2",
        "P1_20240101_2/a.seg.nrrd",
    ]
