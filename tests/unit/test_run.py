"""Run folders: open, zip, unzip; what is missing, damaged or malicious is refused."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pytest

from medseg.engine.predict import Predictor
from medseg.engine.run import PARTS, Run, export
from medseg.refusal import Refusal
from tests import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return tiny.untrained_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy to damage."""
    for name in PARTS:
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes(finished.path(name).read_bytes())
    return Run(tmp_path / "run")


def archive(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in entries.items():
            made.writestr(name, text)
    return path


def test_what_a_run_knows(run):
    opened = Run.open(run.folder)
    assert opened.recipe.name == "tiny" and opened.table.names == ("left", "right") and opened.plan.batch == 1
    network, sha256 = opened.load_network()
    assert not network.training and len(sha256) == 64


def test_zip_and_back(run, tmp_path):
    export(run, tmp_path / "a.zip")
    export(run, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    again = Run.open(tmp_path / "a.zip")
    assert all(again.path(name).read_bytes() == run.path(name).read_bytes() for name in PARTS)
    assert {file.name for file in again.folder.iterdir()} == set(PARTS)


def test_a_zip_with_the_folder_inside(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        for name in PARTS:
            made.write(run.path(name), f"run/{name}")
    assert Run.open(tmp_path / "x.zip").plan == run.plan


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil-of-medseg"])
def test_a_zip_that_reaches_out_of_its_folder_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    made = archive(tmp_path / "x.zip", **{"recipe.yaml": "", name: "evil"})
    with pytest.raises(Refusal, match=r"x\.zip: found an entry .*evil.* outside the folder"):
        Run.open(made)
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil-of-medseg").exists()


def test_a_zip_that_is_none_or_damaged(run, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(Refusal, match=r"x\.zip: found BadZipFile.*copy it again"):
        Run.open(tmp_path / "x.zip")
    export(run, tmp_path / "y.zip")
    content = bytearray((tmp_path / "y.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "y.zip").write_bytes(content)
    with pytest.raises(Refusal, match=r"y\.zip: found BadZipFile"):
        Run.open(tmp_path / "y.zip")


def test_paths_that_are_no_run(tmp_path):
    with pytest.raises(Refusal, match="no such folder"):
        Run.open(tmp_path / "absent")
    with pytest.raises(Refusal, match=r"no recipe\.yaml in it"):
        Run.open(tmp_path)
    with pytest.raises(Refusal, match=r"no recipe\.yaml in it"):
        Run.open(archive(tmp_path / "x.zip", other="x"))


@pytest.mark.parametrize("name", ["plan.json", "labels.json", "weights.safetensors"])
def test_a_missing_part_is_named(run, name):
    run.path(name).unlink()
    with pytest.raises(Refusal, match=rf"{name}: found no such file"):
        Predictor.load([run.folder], device="cpu")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("plan.json", "{", "damaged JSON"),
        ("plan.json", '{"patch": 3}', "ValidationError"),
        ("labels.json", '{"labels": [{}]}', "KeyError"),
        ("labels.json", "[]", "TypeError"),
        ("recipe.yaml", "name: [", "valid YAML"),
    ],
)
def test_a_damaged_part_is_named(run, name, content, found):
    run.path(name).write_text(content)
    with pytest.raises(Refusal, match=rf"{name}: .*{found}"):
        Predictor.load([run.folder], device="cpu")


def test_weights_of_another_network(run):
    text = run.path("recipe.yaml").read_text()
    run.path("recipe.yaml").write_text(text.replace("- 8\n", "- 12\n"))
    with pytest.raises(Refusal, match=r"weights\.safetensors: found weights of another network"):
        Predictor.load([run.folder], device="cpu")


def test_an_unfinished_run_is_not_exported(run, tmp_path):
    run.path("weights.safetensors").unlink()
    run.path("card.md").unlink()
    with pytest.raises(Refusal, match=r"found no weights\.safetensors, card\.md; needed a finished run"):
        export(run, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_an_ensemble_needs_runs_of_one_kind(run, tmp_path):
    other = tiny.untrained_run(tmp_path / "more" / "other", spacing=(3, 3, 3))
    with pytest.raises(Refusal, match=r"other: found another label table, channels, orientation, crop or spacing"):
        Predictor.load([run.folder, other.folder], device="cpu")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (
            "{name: residual_unet, channels: [4, 4, 4, 4, 4, 4], blocks: 1}",
            r"a 3-D network, .* multiples of \[32, 32, 32",
        ),
        ("{name: rrwnet, variant: unet, base_channels: 4}", r"a 2-D network, rrwnet"),
    ],
)
def test_an_ensemble_sees_the_tiles_of_its_first_run(run, tmp_path, model, found):
    """Networks that cannot would fail at every scan, in the words of torch."""
    labels = {"left": 1, "right": 2}
    other = tiny.untrained_run(tmp_path / "more" / "other", labels=labels, changes=(f"model={model}",))
    with pytest.raises(Refusal, match=rf"other: found {found}.* takes the first run's tiles, \[16, 16, 16\]"):
        Predictor.load([run.folder, other.folder], device="cpu")
