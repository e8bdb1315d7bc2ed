"""From a volume node to a segmentation node, by the real command line in the background."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapes
from applied import PATIENCE_S, Canned, Desk, model, scan

from MedSegLib import scene as work
from MedSegLib.apply import Choices
from MedSegLib.work import DONE, Outcome

NONE_WRONG = dict.fromkeys(shapes.NUMBERS, 0)


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
        assert result.notes == ()
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
