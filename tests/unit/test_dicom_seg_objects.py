"""Segmentation objects before judges that nobody here wrote: a validator, a PACS, independent decoders."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from medseg import readers
from medseg.labels import LabelTable
from medseg.outputs import dicom_seg
from medseg.prediction import Prediction
from tests import dicom_sources, judges

KINDS = list(dicom_sources.MAKERS)
TABLE = LabelTable.of({"liver": 1, "kidney_cyst_left": 2, "kidney_right": 3, "own thing": 4, "not there": 5})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])


def result(folder: Path, kind: str, table: LabelTable = TABLE) -> Prediction:
    """Labels on some slices of a source of that kind, and probabilities."""
    scan = readers.read(dicom_sources.MAKERS[kind](folder))
    target = np.zeros((1 if table.exclusive else 3, *scan.shape), np.uint8)
    target[0, 2:5, 2:6, 1:4] = 1
    if table.exclusive:
        target[0, 6, 6, 2:4], target[0, 7, 7, 3], target[0, 8, 1:9, 4] = 2, 3, 4
    else:
        target[1, 3:5, 2:6, 2:4], target[2, 4, 3, 2] = 1, 1
    chances = np.random.default_rng(0).random((len(table.labels), *scan.shape)).astype(np.float32)
    facts = {"model": "unit test", "weights sha256": "f00d"}
    return Prediction("case", table, scan.with_array(target), facts, chances)


def write(made: Prediction, folder: Path, kind: Any) -> Path:
    path = folder / f"{kind}.seg.dcm"
    dicom_seg.write(made, path, dicom_seg.Options(type=kind))
    return path


@pytest.mark.parametrize("kind", KINDS)
class TestValidator:
    pytestmark = judges.needs("dciodvfy")

    def test_it_accepts_the_sources_themselves(self, kind: str, tmp_path: Path) -> None:
        for file in dicom_sources.MAKERS[kind](tmp_path).iterdir():
            assert judges.dciodvfy(file) == []

    @pytest.mark.parametrize("type_", ["binary", "fractional"])
    def test_it_finds_no_error_in_a_segmentation(self, kind: str, type_: str, tmp_path: Path) -> None:
        made = result(tmp_path / "scan", kind)
        nothing = replace(made, target=made.target.with_array(np.zeros_like(made.target.array)))
        for one in (made, nothing):
            assert judges.dciodvfy(write(one, tmp_path, type_)) == []

    def test_it_finds_no_error_where_regions_overlap(self, kind: str, tmp_path: Path) -> None:
        assert judges.dciodvfy(write(result(tmp_path / "scan", kind, REGIONS), tmp_path, "binary")) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type_", ["binary", "labelmap", "fractional"])
def test_highdicom_finds_each_slice_by_its_source(kind: str, type_: str, tmp_path: Path) -> None:
    made = result(tmp_path / "scan", kind)
    found = hd.seg.segread(write(made, tmp_path, type_))
    instances = made.target.source.instances
    how: dict[str, Any] = {"assert_missing_frames_are_empty": True}
    if type_ == "fractional":
        how["rescale_fractional"] = True
    else:
        how |= {"combine_segments": True}
    if instances[0].frame is None:
        stack = found.get_pixels_by_source_instance([one.sop_instance_uid for one in instances], **how)
    else:
        frames = [one.frame for one in instances]
        stack = found.get_pixels_by_source_frame(instances[0].sop_instance_uid, frames, **how)
    if type_ == "fractional":
        wanted = made.probabilities
        assert wanted is not None
        assert np.abs(stack.transpose(3, 2, 1, 0) - wanted).max() <= 0.5 / 255 + 1e-6
    else:
        np.testing.assert_array_equal(stack.transpose(2, 1, 0), made.target.array[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type_", ["binary", "labelmap"])
def test_highdicom_finds_the_volume_where_it_was(kind: str, type_: str, tmp_path: Path) -> None:
    made = result(tmp_path / "scan", kind)
    found = hd.seg.segread(write(made, tmp_path, type_)).get_volume(combine_segments=True)
    for number in range(1, 5):
        places = np.argwhere(found.array == number) @ found.affine[:3, :3].T + found.affine[:3, 3]
        own = np.argwhere(made.target.array[0] == number) @ made.target.affine[:3, :3].T + made.target.affine[:3, 3]
        np.testing.assert_allclose(sorted_rows(places * [-1, -1, 1]), sorted_rows(own), atol=1e-4)


def sorted_rows(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(points.round(2).T)]


class TestArchive:
    pytestmark = judges.needs("Orthanc", "storescu")

    @pytest.fixture(scope="class")
    def archive(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[judges.Archive]:
        with judges.orthanc(tmp_path_factory.mktemp("orthanc")) as running:
            yield running

    @pytest.mark.parametrize("type_", ["binary", "fractional"])
    def test_it_stores_and_returns_the_same_pixels(self, archive: judges.Archive, type_: str, tmp_path: Path) -> None:
        path = write(result(tmp_path / "scan", "ct"), tmp_path, type_)
        back = archive.fetch(archive.store(path), tmp_path / "back.dcm")
        sent, returned = pydicom.dcmread(path), pydicom.dcmread(back)
        np.testing.assert_array_equal(returned.pixel_array, sent.pixel_array)
        assert returned.PerFrameFunctionalGroupsSequence == sent.PerFrameFunctionalGroupsSequence
        np.testing.assert_array_equal(readers.read(back).array, readers.read(path).array)

    def test_it_takes_a_label_map_over_http(self, archive: judges.Archive, tmp_path: Path) -> None:
        """dcmtk 3.6.7 does not know the SOP class, and so cannot send it by C-STORE; DICOMweb has no such list."""
        path = write(result(tmp_path / "scan", "ct"), tmp_path, "labelmap")
        edge = b"edge-of-a-part"
        kind = 'multipart/related; type="application/dicom"; boundary=' + edge.decode()
        body = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (edge, path.read_bytes(), edge)
        address = f"http://127.0.0.1:{archive.http}/dicom-web/studies"
        asked = urllib.request.Request(address, body, {"Content-Type": kind, "Accept": "application/dicom+json"})
        before = set(json.loads(archive.get("/instances")))
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 200
        (instance,) = set(json.loads(archive.get("/instances"))) - before
        back = archive.fetch(instance, tmp_path / "back.dcm")
        np.testing.assert_array_equal(pydicom.dcmread(back).pixel_array, pydicom.dcmread(path).pixel_array)
