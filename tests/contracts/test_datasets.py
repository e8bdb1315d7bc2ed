"""One body for every data set adapter: what `cases` must give, and how it must refuse."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from medseg import plugins, readers
from medseg.case import CaseSet
from medseg.refusal import Refusal
from medseg.settings import Settings

NAMES = tuple(name for name in plugins.names("datasets") if name != "none")
"""`none` holds no case; see tests/unit/test_weights.py."""


def test_the_list_equals_the_folder() -> None:
    files = {path.stem for path in (plugins.PACKAGE / "datasets").glob("*.py")}
    assert {*NAMES, "none"} == {name for name in files if not name.startswith("_")}
    assert {"folder", "table", "nnunet_raw", "msd", "bids"} <= set(NAMES)
    assert {"brats", "isic", "ph2", "retina_av", "lits", "dr_grading", "autopet"} <= set(NAMES)


@pytest.fixture(params=NAMES)
def adapter(request: pytest.FixtureRequest):
    return plugins.find("datasets", request.param)


def files_of(data: CaseSet) -> list[Path]:
    return [
        path for case in data.cases for path in (*case.images.values(), case.target, case.valid) if path is not None
    ]


def numbers(path: Path) -> np.ndarray:
    """What a label map says, (I, J, K); in a colour picture red, green and blue add 1, 2 and 4."""
    array = readers.read(path).array
    return (
        array[0]
        if len(array) == 1
        else sum((channel > 127) * bit for channel, bit in zip(array, (1, 2, 4), strict=True))
    )


def test_cases(adapter, tmp_path: Path) -> None:
    data = adapter.cases(adapter.example(tmp_path))
    ids = [case.id for case in data.cases]
    assert ids == sorted(set(ids)) and len(ids) == 3
    patients = [case.patient for case in data.cases]
    assert all(patients) and len(set(patients)) == 2, "the example holds two cases of one patient, and they are told"
    for case in data.cases:
        assert list(case.images) == list(data.channels) or list(case.images) == ["all"]
        assert case.classes if data.labels.unit == "image" else case.target is not None
        assert case.valid is None or data.labels.ignore is not None
    assert len(set(data.channels)) == len(data.channels) >= 1
    assert all(path.exists() for path in files_of(data))


def test_the_files_hold_what_the_cases_say(adapter, tmp_path: Path) -> None:
    data = adapter.cases(adapter.example(tmp_path))
    found = set()
    for case in data.cases:
        images = [readers.read(path).array for path in case.images.values()]
        assert sum(len(image) for image in images) == len(data.channels)
        if case.target is not None:
            truth = numbers(case.target)
            assert truth.shape == images[0].shape[1:] and data.labels.unknown(truth) == []
            found |= set(np.unique(truth).tolist())
        if case.valid is not None:
            mask = readers.read(case.valid).array
            assert mask.shape[1:] == images[0].shape[1:] and len(np.unique(mask)) == 2
        if case.classes is not None:
            assert data.labels.encode_classes(case.classes).max() >= 0
            found |= set(case.classes)
    if data.labels.unit == "image":
        assert all(found & set(label.members) for label in data.labels.labels), "the example shows every class"
    else:
        assert any(found & set(label.members) for label in data.labels.labels), "the example shows a structure"


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


def test_a_missing_file_is_refused_by_name(adapter, tmp_path: Path) -> None:
    """Any image, label map or mask."""
    options = adapter.example(tmp_path)
    case = adapter.cases(options).cases[1]
    for gone in (*case.images.values(), case.target, case.valid):
        if gone is None:
            continue
        aside = gone.rename(tmp_path / "aside")
        with pytest.raises(Refusal) as caught:
            adapter.cases(options)
        assert gone.parent.name in str(caught.value) and gone.name.split("_")[0].split(".")[0] in str(caught.value)
        aside.rename(gone)
    assert adapter.cases(options).cases[1] == case


def test_files_beside_the_images_do_no_harm(adapter, tmp_path: Path) -> None:
    options = adapter.example(tmp_path)
    before = adapter.cases(options)
    for path in {path.parent for path in files_of(before)}:
        (path / ".DS_Store").write_bytes(b"x")
        (path / "notes.txt").write_bytes(b"x")
        image = next(iter(before.cases[0].images.values()))
        shutil.copy(image, path / f"._hidden_0000{''.join(image.suffixes[-2:])}")
    assert adapter.cases(options) == before
