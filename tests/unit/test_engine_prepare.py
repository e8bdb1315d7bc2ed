"""Preparing a data set: what is read, what is refused, resuming, and that being killed leaves no trace."""

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest

from medseg.case import Case, CaseSet
from medseg.data import cache as caching
from medseg.data.cache import open_case
from medseg.engine.load import load_case
from medseg.engine.prepare import prepare
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.volume import Source, Volume

TABLE = LabelTable.of({"a": 1, "b": 2})
PLAN = Plan(
    orientation="RAS",
    spacing_mm=(1.2, 1.0, 1.0),
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="zscore"),),
    crop="none",
    order=3,
    channels=("CT",),
)


def read(path: Path) -> Volume:
    """Stand-in for a reader: .npz files with an array and an affine."""
    if not path.is_file():
        raise Refusal(path, found="nothing", needed="a file", remedy="correct the path")
    try:
        content = np.load(path)
        return Volume(content["array"], content["affine"], Source(path))
    except (ValueError, OSError, KeyError) as error:
        raise Refusal(path, found="a damaged file", needed="an .npz file", remedy="copy it again") from error


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    np.savez(path, array=array, affine=np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine)
    return path


def data_set(root: Path, count: int = 4, shape=(20, 16, 12)) -> CaseSet:
    root.mkdir(exist_ok=True)
    cases = []
    for number in range(count):
        generator = np.random.default_rng(number)
        image = save(root / f"{number}_image.npz", generator.normal(size=(1, *shape)).astype(np.float32))
        label = save(root / f"{number}_label.npz", generator.integers(0, 3, (1, *shape)).astype(np.uint8))
        cases.append(Case(f"case{number}", f"p{number}", {"CT": image}, label))
    return CaseSet(tuple(cases), ("CT",), TABLE)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def one_case(tmp_path: Path, label: np.ndarray, affine: np.ndarray | None = None) -> Case:
    image = save(tmp_path / "image.npz", np.zeros((1, 4, 5, 6)))
    return Case("x", "p", {"CT": image}, save(tmp_path / "label.npz", label, affine))


def test_label_on_another_grid_is_refused_in_mm(tmp_path):
    moved = np.diag([1.0, 1.0, 2.0, 1.0])
    moved[2, 3] = 7.5
    case = one_case(tmp_path, np.zeros((1, 4, 5, 6), np.uint8), moved)
    with pytest.raises(Refusal, match=r"label\.npz: found a label grid up to 7\.5 mm away from that of .*image\.npz"):
        load_case(case, read)


@pytest.mark.parametrize("values", [-1.0, 0.5, 70000.0, np.nan])
def test_labels_that_are_no_labels_are_refused(tmp_path, values):
    label = np.zeros((1, 4, 5, 6))
    label[0, 1, 1, 1] = values
    with pytest.raises(Refusal, match=r"label\.npz: found .*(-1|0\.5|70000|nan)"):
        load_case(one_case(tmp_path, label), read)


def test_labels_may_be_nearly_whole_turned_or_a_part(tmp_path):
    label = np.zeros((1, 4, 5, 6), np.float32)
    label[0, 1, 2, 3] = 1.9999
    _, target = load_case(one_case(tmp_path, label), read)
    assert target is not None and target.array.dtype == np.uint8 and target.array[0, 1, 2, 3] == 2
    part = np.diag([-1.0, 1.0, 2.0, 1.0])  # runs right to left, and starts at voxel (3, 1, 2) of the image
    part[:3, 3] = (3, 1, 4)
    case = one_case(tmp_path, np.arange(1, 7, dtype=np.uint8).reshape(1, 3, 2, 1), part)
    with pytest.raises(Refusal, match="3 x 2 x 1 voxels instead of 4 x 5 x 6"):
        load_case(case, read)
    _, target = load_case(case, lambda path: replace(read(path), source=Source(path, reader="dicom_seg")))
    assert target is not None and target.shape == (4, 5, 6)
    assert target.array[0, 3:0:-1, 1:3, 2].flatten().tolist() == [1, 2, 3, 4, 5, 6] and target.array.sum() == 21


def test_prepared_once_then_found(tmp_path):
    cases, calls = data_set(tmp_path / "data"), []
    places = prepare(cases, PLAN, folder=tmp_path / "cache", read=read, progress=lambda *said: calls.append(said))
    assert calls == [(n + 1, 4, f"case{n}") for n in range(4)]
    assert open_case(places["case2"]).image.shape == (1, 17, 16, 24)
    before = content(tmp_path / "cache")
    assert prepare(cases, PLAN, folder=tmp_path / "cache", read=None, verify=True) == places  # type: ignore[arg-type]
    assert content(tmp_path / "cache") == before


def test_damaged_cases_are_redone(tmp_path):
    cases = data_set(tmp_path / "data", 2)
    places = prepare(cases, PLAN, folder=tmp_path / "cache", read=read)
    before = content(tmp_path / "cache")
    os.truncate(places["case0"] / "image.chunks", 300)
    (tmp_path / "cache" / ".partial-1234-case9").mkdir()
    prepare(cases, PLAN, folder=tmp_path / "cache", read=read)
    assert content(tmp_path / "cache") == before
    assert not list((tmp_path / "cache").glob(".partial*"))


def test_a_changed_source_is_prepared_anew(tmp_path):
    cases = data_set(tmp_path / "data", 1)
    first = prepare(cases, PLAN, folder=tmp_path / "cache", read=read)
    save(tmp_path / "data" / "0_image.npz", np.ones((1, 20, 16, 12)))
    assert prepare(cases, PLAN, folder=tmp_path / "cache", read=read) != first


def test_failures_are_listed_and_the_others_done(tmp_path):
    cases = data_set(tmp_path / "data", 5)
    (tmp_path / "data" / "1_image.npz").write_bytes(b"PK nonsense")
    (tmp_path / "data" / "3_label.npz").unlink()
    with pytest.raises(Refusal) as refused:
        prepare(cases, PLAN, folder=tmp_path / "cache", read=read)
    text = str(refused.value)
    assert "2 of 5" in text and "1_image.npz" in text and "3_label.npz" in text
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 3


def test_a_full_disk_stops_everything_and_says_how_much_is_needed(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cases = data_set(tmp_path / "data", 3)
    monkeypatch.setattr(caching.os, "fsync", full)
    monkeypatch.setattr(caching.Contents, "save", lambda self: None)
    with pytest.raises(Refusal, match=r"full disk .* needed 1 MiB"):
        prepare(cases, PLAN, folder=tmp_path / "cache", read=read)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_run_that_waits_for_another_one_says_so(tmp_path):
    """On standard error, where nobody has set up logging: a wait without a word looks like a hang."""
    cases, folder, said = data_set(tmp_path / "data", 1), tmp_path / "cache", []
    folder.mkdir()
    other = filelock.FileLock(folder / ".lock", thread_local=False)
    other.acquire()

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            other.release()

    watching, logger = Watching(), logging.getLogger("medseg.engine.prepare")
    logger.addHandler(watching)
    waits = threading.Thread(target=prepare, args=(cases, PLAN), kwargs={"folder": folder, "read": read}, daemon=True)
    try:
        waits.start()
        waits.join(60)
    finally:
        logger.removeHandler(watching)
        other.release(force=True)
    assert said == [f"another run is preparing cases in {folder}; waiting for it"]
    waits.join(60)
    assert not waits.is_alive()


def test_processes_give_the_same_bytes_and_the_same_refusals(tmp_path):
    cases = data_set(tmp_path / "data", 4)
    prepare(cases, PLAN, folder=tmp_path / "one", read=read)
    (tmp_path / "data" / "1_label.npz").write_bytes(b"PK nonsense")
    with pytest.raises(Refusal, match=r"1_label\.npz: found a damaged file"):
        prepare(cases, PLAN, folder=tmp_path / "two", read=read, workers=2)
    one, two = (content(tmp_path / name) for name in ("one", "two"))
    three = {name: inside for name, inside in one.items() if not name.startswith(("case1-", "sources"))}
    assert three == {name: inside for name, inside in two.items() if not name.startswith("sources")}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_engine_prepare import PLAN, data_set, prepare, read

if __name__ == "__main__":
    import test_engine_prepare as source
    cases = source.data_set_on_disk(Path({data!r}))
    print("go", flush=True)
    prepare(cases, PLAN, folder=Path({cache!r}), read=read, workers=int(sys.argv[1]))
"""


def data_set_on_disk(root: Path) -> CaseSet:
    """The cases that `data_set` wrote, without writing them again."""
    images = sorted(root.glob("*_image.npz"))
    return CaseSet(
        tuple(Case(f"case{n}", f"p{n}", {"CT": image}, root / f"{n}_label.npz") for n, image in enumerate(images)),
        ("CT",),
        TABLE,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_and_run_again(tmp_path, workers):
    cases = data_set(tmp_path / "data", 9, (48, 48, 40))
    prepare(cases, PLAN, folder=tmp_path / "whole", read=read)
    script = tmp_path / "run.py"
    script.write_text(
        SCRIPT.format(tests=str(Path(__file__).parent), data=str(tmp_path / "data"), cache=str(tmp_path / "killed"))
    )
    chance = random.Random(workers)
    repository = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    for _ in range(3 if workers == 1 else 1):
        run = subprocess.Popen(
            [sys.executable, str(script), str(workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert run.stdout is not None and run.stdout.readline() == b"go\n"
        time.sleep(chance.uniform(0, 0.6 if workers == 1 else 6))
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        for place in (tmp_path / "killed").glob("case*"):  # whatever has its final name is whole
            assert caching.is_complete(place, verify=True)
    prepare(cases, PLAN, folder=tmp_path / "killed", read=read)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
