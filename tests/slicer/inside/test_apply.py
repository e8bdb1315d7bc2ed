"""From a volume node to a segmentation node, by the real command line in the background."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import shapes
from conftest import nodes
from database import Database

import slicer
from MedSegLib import dicom, models
from MedSegLib import scene as work
from MedSegLib.apply import Apply, Choices, Result
from MedSegLib.local import Local
from MedSegLib.runs import Entry, Runs
from MedSegLib.steps import Before
from MedSegLib.work import DONE, Order, Outcome, Run

PATIENCE_S = 250
NONE_WRONG = dict.fromkeys(shapes.NUMBERS, 0)


def model(made: Path, name: str) -> models.Model:
    """As `medseg info --json` would tell of it."""
    folder = made / "models" / name
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["labels"]
    described = tuple(models.Label(one["index"], one["name"], tuple(one["colour"]), "", "") for one in labels)
    kind = "image" if name == "classes" else "voxel"
    return models.Model(name, str(folder), tuple(plan["channels"]), (), described, kind, None, "", "", 0)


class Desk:
    """What the panel is for the others: a queue that is polled, and results."""

    def __init__(self, mrml: Any, backend: Any, temporary: Path):
        self.runs, self.temporary, self.scene = Runs(), temporary, mrml
        self.results: list[Result] = []
        self.apply = Apply(backend, self.runs, mrml, shown=self.results.append, temporary=temporary)

    def until(self, reached: Callable[[], bool]) -> None:
        """Poll as Qt's timer does."""
        end = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < end, self.runs.entries
            self.runs.poll()
            time.sleep(0.02)

    def over(self, number: int) -> Entry:
        """The entry of a run that has ended and has been told."""
        self.until(lambda: self.runs.entries[number - 1].over)
        self.runs.poll()
        return self.runs.entries[number - 1]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.rglob("*"))

    def ids(self) -> list[str]:
        return [node.GetID() for node in nodes(self.scene)]


@pytest.fixture
def local(program: list[str], medseg_environment: dict[str, str]) -> Local:
    return Local(program, environment=medseg_environment)


@pytest.fixture
def desk(scene: Any, local: Local, tmp_path: Path) -> Desk:
    return Desk(scene, local, tmp_path / "läuft hier")


def scan(made: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(made / "scan.npz") as kept:
        return kept["image"], kept["affine"]


def own(made: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What the command line made by itself of a file that Slicer has not seen: (C, I, J, K) and the affine."""
    with np.load(made / f"{name}.npz") as kept:
        return kept["labels"], kept["affine"]


def told(made: Path) -> list[tuple[str, list[int], str]]:
    """Name, colour and terminology of the segments in the command line's own file."""
    header = (made / "organs" / "scan.seg.nrrd").read_bytes().split(b"\n\n", 1)[0].decode()
    names, colours = re.findall(r"_Name:=(.*)", header), re.findall(r"_Color:=(.*)", header)
    entries = re.findall(r"_Tags:=TerminologyEntry:(.*)\|", header)
    rgb = [[round(255 * float(part)) for part in colour.split()] for colour in colours]
    return list(zip(names, rgb, entries, strict=True))


def described(content: Any) -> list[tuple[str, list[int], str]]:
    """The same of the segments in the scene."""
    parts = [content.GetNthSegment(n) for n in range(content.GetNumberOfSegments())]
    return [(one.GetName(), [round(255 * part) for part in one.GetColor()], one.GetTerminology()) for one in parts]


def test_six_orders_of_axes_give_what_the_command_line_gives(scene: Any, desk: Desk, made: Path) -> None:
    image, affine = scan(made)
    chosen = list(shapes.orders(image, affine))[::8]
    volumes = [shapes.volume(scene, array, place, f"Schädel {n}") for n, (array, place) in enumerate(chosen)]
    numbers = desk.apply.batch([{"image": one} for one in volumes], model(made, "organs"), Choices())
    seen: dict[int, list[float]] = {number: [] for number in numbers}

    def all_over() -> bool:
        for number in numbers:
            seen[number].append(desk.runs.entries[number - 1].progress.percent)
        return desk.runs.entries[-1].over

    desk.until(all_over)
    desk.runs.poll()
    assert [entry.state for entry in desk.runs.entries] == ["done"] * 6, [entry.log for entry in desk.runs.entries]
    assert all(percent == sorted(percent) for percent in seen.values())
    assert [result.title for result in desk.results] == [f"Schädel {n}: organs" for n in range(6)]  # in their order
    labels, place = own(made, "organs")
    for result in desk.results:
        assert shapes.differing(result.segmentation, labels[0], place, shapes.NUMBERS) == NONE_WRONG
        assert result.segmentation.GetName() == f"{result.title.replace(':', '')}"
        assert described(result.segmentation.GetSegmentation()) == told(made)
    assert "SCT^10200004^Liver" in str(told(made))
    assert desk.left() == []


def test_all_48_orders_of_axes_in_one_go(
    scene: Any, made: Path, program: list[str], tmp_path: Path, medseg_environment: dict[str, str]
) -> None:
    """Written by Slicer, segmented by one call of the command line, read by Slicer."""
    image, affine = scan(made)
    volumes, scans, out = {}, tmp_path / "Scans", tmp_path / "Ergebnis"
    scans.mkdir()
    for n, (array, place) in enumerate(shapes.orders(image, affine)):
        volumes[f"{n:02}"] = shapes.volume(scene, array, place)
        work.write_volume(volumes[f"{n:02}"], scans / f"{n:02}.nrrd")
    words = [*program, "predict", str(made / "models" / "organs"), str(scans), str(out), "--output", "seg_nrrd"]
    done = subprocess.run(words, env=medseg_environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-2000:]
    labels, place = own(made, "organs")
    for name, volume in volumes.items():
        node = work.add_segmentation(scene, out / f"{name}.seg.nrrd", name, volume)
        assert shapes.differing(node, labels[0], place, shapes.NUMBERS) == NONE_WRONG, name


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_all_48_orders_of_axes_one_by_one(scene: Any, desk: Desk, made: Path) -> None:
    image, affine = scan(made)
    volumes = [shapes.volume(scene, array, place) for array, place in shapes.orders(image, affine)]
    numbers = desk.apply.batch([{"image": one} for one in volumes], model(made, "organs"), Choices())
    labels, place = own(made, "organs")
    for number in numbers:
        assert desk.over(number).state == "done"
        assert shapes.differing(desk.results[-1].segmentation, labels[0], place, shapes.NUMBERS) == NONE_WRONG


def test_two_channels_under_a_transform_within_a_roi(scene: Any, desk: Desk, made: Path) -> None:
    """Overlapping structures, with the uncertainty and a table of volumes: where the scan is shown."""
    image, affine = scan(made)
    labels, place = own(made, "pair")
    assert (labels.sum((1, 2, 3)) > 0).all()
    world = np.eye(4)
    world[:3, :3] = [[0.999, -0.0447, 0], [0.0447, 0.999, 0], [0, 0, 1]]
    world[:3, 3] = (150.5, -40, 7)
    volumes = {"FLAIR": shapes.volume(scene, image // 2, affine, "Müller FLAIR")}
    volumes["T1"] = shapes.volume(scene, image, affine, "Müller T1")
    shapes.transform(scene, world, *volumes.values())
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Kasten")
    turn = world @ affine
    turn[:3, :3] /= np.linalg.norm(turn[:3, :3], axis=0)
    turn[:3, 3] = (world @ affine @ (9.5, 8.5, 6.5, 1))[:3]
    box.SetSize(11.8 * 0.9, 13.8 * 1.3, 7.8 * 2.1)  # i 4 to 15, j 2 to 15, k 3 to 10
    box.SetAndObserveObjectToNodeMatrix(shapes.matrix(turn))
    number = desk.apply.start(volumes, model(made, "pair"), Choices(roi=box, uncertainty=True, table=True))
    entry = desk.over(number)
    assert entry.state == "done", entry.log
    assert "Müller T1: sent as it is shown, under the transform Verschiebung" in entry.log
    (result,) = desk.results
    masks = np.zeros_like(labels)
    masks[:, 4:16, 2:16, 3:11] = labels[:, 4:16, 2:16, 3:11]
    for channel, name in enumerate(("whole", "core")):
        assert shapes.differing(result.segmentation, masks[channel], world @ place, {name: 1}) == {name: 0}
    voxel_ml = 0.9 * 1.3 * 2.1 / 1000
    table = result.table.GetTable()
    found = {table.GetValue(n, 0).ToString(): table.GetValue(n, 1).ToDouble() for n in range(2)}
    assert found == pytest.approx({"whole": masks[0].sum() * voxel_ml, "core": masks[1].sum() * voxel_ml}, rel=1e-3)
    doubt = result.uncertainty
    assert work.described(doubt).shape == image.shape
    assert np.allclose(np.sort(work.described(doubt).spacing_mm), np.sort((0.9, 1.3, 2.1)), atol=1e-5)
    assert doubt.GetDisplayNode().GetColorNode().GetName() == "Iron"
    assert result.facts["tiles"] > 0
    assert desk.left() == []


@pytest.mark.parametrize(
    "past", [{"waiting", "starting"}, {"waiting", "starting", "starting medseg"}], ids=["before", "after"]
)
def test_cancelling_leaves_the_scene_and_the_disk_as_they_were(
    scene: Any, desk: Desk, made: Path, past: set[str]
) -> None:
    """One that runs, and one that waits."""
    volume = shapes.volume(scene, *scan(made))
    before = desk.ids()
    first = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    second = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    desk.until(lambda: desk.runs.entries[0].progress.stage not in past)
    assert desk.left()
    asked = time.monotonic()
    desk.runs.cancel(second)
    desk.runs.cancel(first)
    assert [desk.over(number).state for number in (first, second)] == ["cancelled", "cancelled"]
    assert time.monotonic() - asked < 2
    assert desk.ids() == before
    assert (desk.left(), desk.results) == ([], [])


class Canned:
    """A back end that gives what it is told to."""

    def __init__(self, result: Callable[[Order], Outcome]):
        self._result = result
        self.orders: list[Order] = []

    def start(self, order: Order) -> Run:
        self.orders.append(order)
        return Before([self._result(order)])


def broken(order: Order) -> Outcome:
    (order.folder / "x.seg.nrrd").write_bytes(b"cut short")
    return Outcome(DONE, {"x.seg.nrrd": order.folder / "x.seg.nrrd"})


def test_a_broken_result_is_told_and_leaves_nothing(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Canned(broken)
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made), "Müller^Hans")
    before = desk.ids()
    entry = desk.over(desk.apply.start({"image": volume}, model(made, "organs"), Choices(uncertainty=True)))
    assert (entry.state, str(entry.outcome.failure)) == (
        "failed",
        "The result x.seg.nrrd could not be read. Run it again; see Slicer's error log.",
    )
    assert (desk.ids(), desk.left(), desk.results) == (before, [], [])
    (order,) = backend.orders
    assert "Müller" not in str([file for _, file in order.images])
    assert order.images[0][1].suffix == ".nrrd"


def test_a_classifier_gives_a_table(scene: Any, made: Path, tmp_path: Path) -> None:
    """Of what the command line has written."""
    scores = made / "classes" / "scan.csv"
    backend = Canned(lambda order: Outcome(DONE, {"image-0.csv": scores}))
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    before = desk.ids()
    desk.over(desk.apply.start({"image": volume}, model(made, "classes"), Choices(uncertainty=True, table=True)))
    (result,) = desk.results
    table = result.table.GetTable()
    titles = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert titles == ["probability plain", "probability striped", "decision", "entropy"]
    said = scores.read_text(encoding="utf-8").splitlines()[1].split(",")[1:]
    assert [table.GetValue(0, n).ToDouble() for n in (0, 1, 3)] == [float(said[n]) for n in (0, 1, 3)]
    assert table.GetValue(0, 2).ToString() == said[2]
    assert backend.orders[0].outputs == ("scores",)
    assert desk.ids() == [*before, result.table.GetID()]


class Stopped(Canned):
    """Whose runs go on until they are let go."""

    let_go = False

    def start(self, order: Order) -> Run:
        self.orders.append(order)
        return self

    def poll(self) -> list[Any]:
        return [self._result(self.orders[-1])] if self.let_go else []

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("when", ["it waits", "it runs"])
def test_a_volume_that_is_gone_gets_no_result_and_no_other_one_does(made: Path, tmp_path: Path, when: str) -> None:
    """The scene was closed, and holds another patient by now, whose volume has the same ID."""

    def done(order: Order) -> Outcome:
        return Outcome(DONE, {"x.seg.nrrd": made / "organs" / "scan.seg.nrrd"})

    backend = Stopped(done)
    closed = slicer.vtkMRMLScene()
    desk, volume = Desk(closed, backend, tmp_path / "läuft"), shapes.volume(closed, *scan(made), "der erste")
    key = volume.GetID()
    number = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    if when == "it runs":
        desk.runs.poll()
        assert backend.orders
    closed.Clear(False)
    assert shapes.volume(closed, *scan(made), "der zweite").GetID() == key
    before, backend.let_go = desk.ids(), True
    entry = desk.over(number)
    assert (entry.state, len(backend.orders)) == ("failed", int(when == "it runs"))
    assert str(entry.outcome.failure) == "The volume der erste is no longer in the scene. Load it and run it again."
    assert (desk.ids(), desk.left(), desk.results) == (before, [], [])


def test_what_cannot_be_is_refused_before_it_waits(scene: Any, desk: Desk, made: Path) -> None:
    volume, pair = shapes.volume(scene, *scan(made)), model(made, "pair")
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Kasten")
    box.SetCenter(9000, 0, 0)
    box.SetSize(5, 5, 5)
    for volumes, choices, words in (
        ({"T1": volume}, Choices(), "No volume is chosen for FLAIR."),
        ({"T1": volume, "FLAIR": volume}, Choices(roi=box), "The ROI Kasten lies beside the volume"),
        (
            {"T1": volume, "FLAIR": scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "leer")},
            Choices(),
            "leer holds no",
        ),
    ):
        with pytest.raises(work.Trouble, match=words):
            desk.apply.start(volumes, pair, choices)
        with pytest.raises(work.Trouble):
            desk.apply.batch([{"T1": volume, "FLAIR": volume}, volumes], pair, choices)
    assert desk.runs.entries == ()


def test_a_transform_that_is_not_wanted_stops_a_run_whenever_it_comes(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Canned(broken)
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    number = desk.apply.start({"image": volume}, model(made, "organs"), Choices(harden=False))
    shapes.transform(scene, np.eye(4), volume)
    assert "is under the transform Verschiebung. Harden" in str(desk.over(number).outcome.failure)
    assert backend.orders == []
    with pytest.raises(work.Trouble, match="is under the transform Verschiebung"):
        desk.apply.start({"image": volume}, model(made, "organs"), Choices(harden=False))
    assert desk.left() == []


def test_closing_removes_what_runs_left_behind(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Stopped(lambda order: Outcome(DONE))
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    desk.runs.poll()
    assert "image-0.nrrd" in desk.left()
    desk.apply.close()
    assert desk.left() == []


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
