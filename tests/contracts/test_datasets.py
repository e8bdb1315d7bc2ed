"""One body for every data set adapter: what `cases` must give, and how it must refuse."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import plugins
from medseg.case import CaseSet
from medseg.refusal import Refusal
from medseg.settings import Settings

NAMES = plugins.names("datasets")


def test_the_list_equals_the_folder() -> None:
    files = {path.stem for path in (plugins.PACKAGE / "datasets").glob("*.py")}
    assert set(NAMES) == {name for name in files if not name.startswith("_")}
    assert {"folder", "table", "nnunet_raw", "msd", "bids"} <= set(NAMES)


@pytest.fixture(params=NAMES)
def adapter(request: pytest.FixtureRequest):
    return plugins.find("datasets", request.param)


def files_of(data: CaseSet) -> list[Path]:
    return [path for case in data.cases for path in (*case.images.values(), case.target) if path is not None]


def test_cases(adapter, tmp_path: Path) -> None:
    data = adapter.cases(adapter.example(tmp_path))
    ids = [case.id for case in data.cases]
    assert ids == sorted(set(ids)) and len(ids) == 3
    patients = [case.patient for case in data.cases]
    assert all(patients) and len(set(patients)) == 2, "the example holds two cases of one patient, and they are told"
    for case in data.cases:
        assert list(case.images) == list(data.channels) or len(case.images) == 1
        assert case.target is not None
    assert len(set(data.channels)) == len(data.channels) >= 1
    assert all(path.exists() for path in files_of(data))


def test_the_files_hold_what_the_cases_say(adapter, tmp_path: Path) -> None:
    data = adapter.cases(adapter.example(tmp_path))
    for case in data.cases:
        shapes = [nib.load(path).shape for path in case.images.values()]
        assert sum(shape[3] if len(shape) > 3 else 1 for shape in shapes) == len(data.channels)
        truth = np.asarray(nib.load(case.target).dataobj)
        assert truth.shape == shapes[0][:3] and data.labels.unknown(truth) == []


def test_the_same_twice_and_through_pickle(adapter, tmp_path: Path) -> None:
    options = adapter.example(tmp_path)
    assert adapter.cases(options) == adapter.cases(options) == pickle.loads(pickle.dumps(adapter.cases(options)))


def test_options(adapter, tmp_path: Path) -> None:
    options = adapter.example(tmp_path)
    assert isinstance(options, Settings) and isinstance(options.root, Path)
    undocumented = [name for name, field in adapter.Options.model_fields.items() if not field.description]
    assert undocumented == []
    assert adapter.Options.model_validate_json(options.model_dump_json()) == options


def test_the_docstring_opens_with_one_line(adapter) -> None:
    name = adapter.__name__.rpartition(".")[2]
    assert 20 < len(plugins.summary("datasets", name)) <= 120


def test_a_missing_root_is_refused(adapter, tmp_path: Path) -> None:
    options = adapter.example(tmp_path)
    nowhere = options.model_copy(update={"root": tmp_path / "nowhere"})
    with pytest.raises(Refusal, match="nowhere"):
        adapter.cases(nowhere)


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_missing_file_is_refused_by_name(adapter, tmp_path: Path, which: str) -> None:
    options = adapter.example(tmp_path)
    case = adapter.cases(options).cases[1]
    gone = next(iter(case.images.values())) if which == "image" else case.target
    gone.unlink()
    with pytest.raises(Refusal) as caught:
        adapter.cases(options)
    assert gone.parent.name in str(caught.value) and gone.name.split("_")[0].split(".")[0] in str(caught.value)


def test_files_beside_the_images_do_no_harm(adapter, tmp_path: Path) -> None:
    options = adapter.example(tmp_path)
    before = adapter.cases(options)
    for path in {path.parent for path in files_of(before)}:
        (path / ".DS_Store").write_bytes(b"x")
        (path / "notes.txt").write_bytes(b"x")
        shutil.copy(next(iter(before.cases[0].images.values())), path / "._hidden_0000.nii.gz")
    assert adapter.cases(options) == before
