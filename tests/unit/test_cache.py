"""The cache: what comes back, what counts as complete, and that equal inputs give equal bytes."""

import errno
from pathlib import Path

import numpy as np
import pytest

from medseg.case import Case
from medseg.data import cache
from medseg.data.chunks import Chunked
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare
from medseg.volume import Volume

TABLE = LabelTable.of({"liver": 1, "spleen": 2, "never": 3})
PLAN = Plan(
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="zscore"),),
    crop="none",
    order=3,
    channels=("CT",),
)


def write(place: Path, table: LabelTable = TABLE) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scan = Volume(generator.normal(size=(1, 20, 21, 22)), np.diag([1.0, 1, 1.5, 1]))
    values = np.zeros((1, 20, 21, 22), np.uint8)
    values[0, 2:18, 3:18, 4:20], values[0, 5, 6, 7] = 1, 2
    image, undo = prepare.image(scan, PLAN)
    target = prepare.target(scan.with_array(values), undo, table)
    cache.write_case(place, "a", image, target, undo, table)
    return image, target


def flip(file: Path) -> None:
    """Change one bit of the last byte."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_what_is_written_comes_back(tmp_path):
    image, target = write(tmp_path / "a")
    case = cache.open_case(tmp_path / "a")
    assert case.id == "a" and isinstance(case.image, Chunked) and isinstance(case.target, Chunked)
    assert np.array_equal(case.image, image) and np.array_equal(case.target, target)
    assert case.undo.prepared == image.shape[1:]
    assert case.voxels == tuple((target == n).sum() for n in (1, 2, 3))
    assert sorted(case.coordinates) == [n for n in (0, 1) if case.voxels[n]]
    assert len(case.coordinates[0]) == 2000 < case.voxels[0]
    for position, voxels in case.coordinates.items():
        assert (target[0][tuple(voxels.T)] == position + 1).all() and len(np.unique(voxels, axis=0)) == len(voxels)
    with pytest.raises(TypeError):
        case.image[:] = 0  # type: ignore[index]


def test_regions_and_cases_without_labels(tmp_path):
    table = LabelTable.of({"both": [1, 2], "second": [2]})
    _, target = write(tmp_path / "a", table)
    case = cache.open_case(tmp_path / "a")
    assert case.voxels == tuple(int(region.sum()) for region in target)
    undo = case.undo
    cache.write_case(tmp_path / "b", "b", np.asarray(case.image), None, undo, table)
    without = cache.open_case(tmp_path / "b")
    assert without.target is None and without.coordinates == {}


def test_equal_inputs_give_equal_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("name", ["image.chunks", "target.index.npy", "coordinates.npy", "components.npy", "meta.json"])
@pytest.mark.parametrize("harm", ["truncate", "remove"])
def test_damage_is_seen(tmp_path, name, harm):
    place = tmp_path / "a"
    write(place)
    assert cache.is_complete(place) and cache.is_complete(place, verify=True)
    file = place / name
    content = file.read_bytes()
    file.unlink()
    if harm == "truncate":
        file.write_bytes(content[: len(content) // 2])
    assert not cache.is_complete(place)
    with pytest.raises(Refusal, match="not complete"):
        cache.open_case(place)


def test_verify_sees_a_flipped_byte(tmp_path):
    write(tmp_path)
    flip(tmp_path / "image.chunks")
    assert cache.is_complete(tmp_path) and not cache.is_complete(tmp_path, verify=True)
    case = cache.open_case(tmp_path)
    with pytest.raises(Refusal, match=r"image\.chunks: found a damaged chunk"):
        np.asarray(case.image)


@pytest.mark.parametrize("name", ["image.index.npy", "coordinates.npy", "components.npy"])
def test_a_flipped_byte_in_a_small_file_is_seen_when_the_case_is_opened(tmp_path, name):
    write(tmp_path)
    flip(tmp_path / name)
    assert not cache.is_complete(tmp_path)  # and so it is prepared again
    with pytest.raises(Refusal, match="damaged"):
        cache.open_case(tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_key_follows_the_preparation_only():
    key = cache.cache_key(PLAN, TABLE)
    assert key == cache.cache_key(PLAN.model_copy(update={"patch": (16, 16, 16), "batch": 4}), TABLE)
    assert key == cache.cache_key(PLAN, LabelTable.of({"foie": 1, "rate": 2, "x": 3}))
    assert key != cache.cache_key(PLAN.model_copy(update={"order": 1}), TABLE)
    assert key != cache.cache_key(PLAN, LabelTable.of({"liver": 2, "spleen": 1, "never": 3}))


def test_place_follows_content(tmp_path):
    scan, series = tmp_path / "scan.nii", tmp_path / "series"
    scan.write_bytes(b"one")
    series.mkdir()
    (series / "1.dcm").write_bytes(b"slice")
    case = Case("../odd id/ä", "p", {"CT": scan, "PT": series})
    store = cache.Cache(tmp_path / "cache", cache.cache_key(PLAN, TABLE))
    contents = cache.Contents(tmp_path / "cache" / "sources.json")
    place = store.place(case, contents.of(case))
    assert place.parent == tmp_path / "cache"
    contents.save()
    assert store.place(case, cache.Contents(tmp_path / "cache" / "sources.json").of(case)) == place
    (series / "2.dcm").write_bytes(b"another")
    assert store.place(case, contents.of(case)) != place
    scan.unlink()
    with pytest.raises(Refusal, match=r"scan\.nii"):
        contents.of(case)


def test_cases_of_another_version_are_prepared_anew(tmp_path):
    write(tmp_path)
    meta = tmp_path / "meta.json"
    meta.write_text(meta.read_text().replace(f'"format": {cache.FORMAT}', f'"format": {cache.FORMAT - 1}'))
    assert not cache.is_complete(tmp_path)
    with pytest.raises(Refusal, match=r"run `medseg prepare` again"):
        cache.open_case(tmp_path)
