"""`medseg view`: what becomes of scans and labels on their way into a page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg import viewer
from medseg.engine.view import view
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.viewer import page, voxels
from medseg.volume import Source, Volume
from tests.tiny import AFFINE, ROOT, medseg_command, nifti, phantom


def volume(array: np.ndarray, **more: object) -> Volume:
    return Volume(array, AFFINE, **more)  # type: ignore[arg-type]


def held(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text, validate=True)))


def about(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="about">(.*?)</script>', text)[1])  # type: ignore[index]


@given(st.sampled_from([np.int16, np.uint8, np.int32, np.uint16, np.float32, np.float64]), st.integers(0, 2**17))
def test_the_page_holds_the_voxels_of_the_scan_where_they_are(kind: type, high: int) -> None:
    array = (np.arange(24).reshape(1, 2, 3, 4) * high // 24).astype(kind)
    image = held(voxels.scan(volume(array)))
    assert np.array_equal(np.asarray(image.dataobj), array[0].astype(np.float64))
    assert np.array_equal(image.affine, AFFINE) and image.header["sform_code"] == 1
    assert image.get_data_dtype() in (np.uint8, np.int16, np.float32)


def test_a_photograph_keeps_its_colours_and_other_scans_show_their_first_channel() -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1)).astype(np.uint8)
    pixels = np.asarray(held(voxels.scan(volume(array, unit="px"))).dataobj)
    assert np.array_equal(np.stack([pixels[name] for name in "RGB"]), array)
    assert np.array_equal(np.asarray(held(voxels.scan(volume(array))).dataobj), array[0])


def test_labels_are_numbered_by_their_places_whatever_they_were() -> None:
    array = np.zeros((1, 3, 3, 3), np.uint16)
    array[0, 0, 0, 0], array[0, 1, 1, 1] = 900, 7
    image = np.asarray(held(voxels.labels(volume(array), {7: 1, 900: 2})).dataobj)
    assert image[0, 0, 0] == 2 and image[1, 1, 1] == 1 and np.count_nonzero(image) == 2


def test_names_come_from_the_table_and_numbers_that_it_does_not_know_are_shown(tmp_path: Path) -> None:
    array = np.zeros((1, 6, 6, 6), np.uint8)
    for place, number in enumerate((1, 2, 4, 9)):
        array[0, place, place, place] = number
    tables = {
        "regions": LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4]),
        "merged": LabelTable.of({"lung": [1], "bone": [9]}),
        "none": None,
    }
    maps = [viewer.LabelMap(name, volume(array), table) for name, table in tables.items()]
    viewer.write(tmp_path / "a.html", volume(array), maps, title="t")
    names = {one["name"]: [label["name"] for label in one["labels"]] for one in about(tmp_path / "a.html")["maps"]}
    assert names == {
        "regions": ["TC", "WT", "ET", "number 9"],
        "merged": ["lung", "number 2", "number 4", "bone"],
        "none": ["number 1", "number 2", "number 4", "number 9"],
    }


def test_the_way_to_a_label_ends_within_it() -> None:
    _, label = phantom(0)
    for entry in page._entries(viewer.LabelMap("a", volume(label[None]))):
        voxel = np.rint(np.linalg.solve(AFFINE, [*entry["inside"], 1])[:3]).astype(int)
        assert label[tuple(voxel)] == entry["number"]


@pytest.mark.parametrize(
    ("modality", "lowest", "presets"), [("CT", 0, True), ("", -1000, True), ("MR", -1000, False), ("", 0, False)]
)
def test_windows_of_ct_are_offered_for_ct(modality: str, lowest: int, presets: bool) -> None:
    array = np.array([lowest, 0, 40, 400]).reshape(1, 4, 1, 1)
    told = page._scan(volume(array, source=Source(modality=modality)))
    assert ("lung" in told["windows"]) == presets and told["windows"]["all values"] == [lowest, 400]


def test_several_channels_are_said_to_be_shown_in_part() -> None:
    array = np.zeros((4, 2, 2, 2))
    assert page._scan(volume(array, channels=("T1", "T1c", "T2", "FLAIR")))["channel"] == "channel 1 of 4: T1"
    assert page._scan(volume(array[:1]))["channel"] == ""


def test_a_scan_without_contrast_has_a_window_nevertheless() -> None:
    low, high = page._scan(volume(np.full((1, 2, 2, 2), 5)))["window"]
    assert low < high


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    array = np.ones((1, 2, 2, 2), np.uint8)
    nasty = "</script><script>alert(1)</script>"
    table = LabelTable.of({nasty: 1})
    viewer.write(tmp_path / "a.html", volume(array), [viewer.LabelMap(nasty, volume(array), table)], title=nasty)
    assert nasty not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert about(tmp_path / "a.html")["title"] == nasty


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    scan = volume(phantom(0)[0][None])
    for name in "ab":
        viewer.write(tmp_path / name, scan, [], title="t")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    image, label = phantom(0)
    scan = nifti(tmp_path / "scan.nii.gz", image)
    moved = AFFINE.copy()
    moved[0, 3] += 5
    for name, array, affine in (("cut", label[:-1], AFFINE @ np.diag([1, 1, 2, 1])), ("moved", label, moved)):
        other = nifti(tmp_path / f"{name}.nii.gz", array, affine)
        with pytest.raises(Refusal, match="labels on the grid of their image"):
            view(scan, [other], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_more_than_a_browser_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.zeros(1, np.int16), (1, 1024, 1024, 400))
    with pytest.raises(Refusal, match="1024 x 1024 x 400 voxels"):
        viewer.write(tmp_path / "a.html", volume(huge), [], title="t")
    assert list(tmp_path.iterdir()) == []


def test_maps_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    image, label = phantom(0)
    scan = nifti(tmp_path / "scan.nii.gz", image)
    maps = [nifti(tmp_path / folder / "case.nii.gz", label) for folder in ("truth", "predicted")]
    view(scan, maps, tmp_path / "page.html")
    assert [Path(one["name"]).parent.name for one in about(tmp_path / "page.html")["maps"]] == ["truth", "predicted"]


def test_the_browser_is_opened_unless_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    monkeypatch.chdir(tmp_path)
    scan = nifti(tmp_path / "scan.nii.gz", phantom(0)[0])
    assert medseg_command("view", scan).code == 0
    assert opened == [(tmp_path / "scan_view.html").as_uri()]
    assert medseg_command("view", scan, "--no-open").code == 0
    assert len(opened) == 1


def test_niivue_is_what_its_notice_says() -> None:
    import hashlib

    folder = ROOT / "medseg" / "viewer"
    digest = hashlib.sha256((folder / "niivue.umd.js").read_bytes()).hexdigest()
    notice = (folder / "LICENCES.txt").read_text(encoding="utf-8")
    assert digest in notice and "BSD 2-Clause License" in notice
