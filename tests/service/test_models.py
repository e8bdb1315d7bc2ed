"""Models of an installation: whole or not there, chosen by version, rolled back, never changed under a job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from medseg.engine.folds import Fold, Folds, save
from medseg.engine.run import Run, export
from medseg.refusal import Refusal
from medseg.service import models
from medseg.service.journal import Journal
from tests.service.test_journal import ASKED
from tests.tiny import ENVIRONMENT, medseg_command, untrained_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two runs of the same kind with other weights."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: untrained_run(folder / name / "run", seed=seed).folder for seed, name in enumerate("ab")}


@pytest.fixture
def site(tmp_path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text("data: data\n", encoding="utf-8")
    return path


def test_a_name_stands_for_the_version_in_use(tmp_path, runs):
    folder = tmp_path / "models"
    first = models.install(folder, runs["a"], "liver", "1.0")
    later = models.install(folder, runs["b"], "liver", "1.1")
    assert first.used and not later.used and first.weights != later.weights
    assert models.find(folder, "liver") == folder / "liver" / "1.0"
    assert models.find(folder, "liver@1.1") == later.folder
    routed = models.find(folder, "liver")
    assert models.use(folder, "liver", "1.1") == "1.0"
    assert models.find(folder, "liver") == later.folder and Run.open(routed).load_network()[1] == first.weights
    assert models.use(folder, "liver", "1.0") == "1.1"
    assert [(one.version, one.used) for one in models.listed(folder)] == [("1.0", True), ("1.1", False)]
    assert (first.channels, first.labels, first.licence) == (("image",), ("left", "right"), "CC0-1.0")
    assert first.intended_use == "research only; not a medical device"
    assert not (first.folder / "split.json").exists()  # it names patients


def test_a_run_is_found_by_its_path_and_zipped(tmp_path, runs):
    folder = tmp_path / "models"
    assert models.find(folder, str(runs["a"])) == runs["a"]
    assert models.find(folder, "run", beside=runs["a"].parent) == runs["a"]
    export(Run.open(runs["a"]), tmp_path / "a.zip")
    made = models.install(folder, tmp_path / "a.zip", "liver")
    assert made.weights.startswith(made.version) and models.damaged(made) == []
    with pytest.raises(Refusal, match="one of: liver;"):
        models.find(folder, "lever")
    with pytest.raises(Refusal, match=f"one of: liver@{made.version}"):
        models.find(folder, "liver@9")


def test_folds_are_one_model(tmp_path, runs):
    several = tmp_path / "folds"
    for number, name in enumerate("ab"):
        shutil.copytree(runs[name], several / f"fold{number}")
    save(several, Folds(count=2, runs={f"fold{number}": Fold(best=0.5, recipe="x") for number in range(2)}))
    made = models.install(tmp_path / "models", several, "both", "1")
    assert (made.folder / "folds.json").is_file() and (made.folder / "fold1" / "weights.safetensors").is_file()
    assert models.find(tmp_path / "models", "both") == made.folder and made.labels == ("left", "right")


def test_a_version_never_changes(tmp_path, runs):
    folder = tmp_path / "models"
    made = models.install(folder, runs["a"], "liver", "1")
    assert models.install(folder, runs["a"], "liver", "1") == made
    with pytest.raises(Refusal, match="another model under this name and version"):
        models.install(folder, runs["b"], "liver", "1")
    assert models.damaged(made) == []


def test_a_damaged_model_is_neither_installed_nor_used(tmp_path, runs):
    folder, bad = tmp_path / "models", tmp_path / "bad"
    shutil.copytree(runs["a"], bad)
    whole = (bad / "weights.safetensors").read_bytes()
    (bad / "weights.safetensors").write_bytes(whole[:-4] + b"\0\1\2\3")
    with pytest.raises(Refusal, match="differs from its checksum"):
        models.install(folder, bad, "liver", "1")
    assert models.listed(folder) == []
    models.install(folder, runs["a"], "liver", "1")
    later = models.install(folder, runs["b"], "liver", "2")
    (later.folder / "plan.json").write_text("{}", encoding="utf-8")
    (later.folder / "card.md").unlink()
    assert "plan.json has changed" in models.damaged(later) and "card.md is gone" in models.damaged(later)
    (later.folder / "plan.json").write_text((runs["b"] / "plan.json").read_text() + " ", encoding="utf-8")
    with pytest.raises(Refusal, match=r"plan\.json has changed"):
        models.use(folder, "liver", "2")
    assert models.in_use(folder, "liver") == "1"


def test_a_model_that_is_a_program_is_let_in_by_a_person_alone(tmp_path, runs, monkeypatch):
    program = tmp_path / "program"
    shutil.copytree(runs["a"], program)
    recipe = (program / "recipe.yaml").read_text(encoding="utf-8")
    (program / "recipe.yaml").write_text(recipe.replace("name: residual_unet", "name: my.evil_unet"), encoding="utf-8")
    ran = tmp_path / "my" / "evil_unet.py"
    ran.parent.mkdir()
    ran.write_text("from medseg.models.residual_unet import *  # noqa\nprint('I ran')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refusal, match=r"this one is a program.*\n?.*--code"):
        models.install(tmp_path / "models", program, "liver")
    assert "my.evil_unet" not in sys.modules
    assert models.install(tmp_path / "models", program, "liver", "1", code=True).used


BREAKAGES = {"gone": None, "cut": b"{", "another": b"[]", "bytes": b"\xff\xfe"}


@pytest.mark.parametrize("name", ["installed.json", "recipe.yaml", "plan.json", "labels.json"])
@pytest.mark.parametrize("how", BREAKAGES)
def test_one_that_is_broken_hides_no_other(tmp_path, runs, name, how):
    folder = tmp_path / "models"
    first, second = (models.install(folder, runs[one], "liver", one) for one in "ab")
    (second.folder / name).unlink()
    if BREAKAGES[how] is not None:
        (second.folder / name).write_bytes(BREAKAGES[how])
    assert models.listed(folder) == [first]
    expected = [] if (name, how) == ("installed.json", "gone") else ["b"]
    assert [one.version for one in models.broken(folder)] == expected
    assert all(one.found for one in models.broken(folder))


def test_the_list_names_what_is_broken(site, runs):
    for version in "ab":
        medseg_command("models", "install", site, runs[version], "liver", "--version", version)
    (site.parent / "data" / "models" / "liver" / "b" / "plan.json").write_text("{", encoding="utf-8")
    said = medseg_command("models", "list", site)
    assert said.code == 0 and "liver@a (in use)" in said.out
    assert "liver@b (damaged)\n  found" in said.out and "plan.json" in said.out
    told = json.loads(medseg_command("models", "list", site, "--json").out)
    assert [(one["version"], "plan.json" in one.get("damaged", "")) for one in told] == [("a", False), ("b", True)]
    looked_at = json.loads(medseg_command("doctor", site, "--json").out)
    assert "'model liver@b', 'verdict': 'bad'" in str(looked_at)


def test_models_are_called_by_their_names(tmp_path, runs):
    folder = tmp_path / "models"
    models.install(folder, runs["a"], "liver", "1.1")
    assert models.called(folder, str(models.find(folder, "liver"))) == "liver@1.1"
    assert models.called(folder, str(models.find(folder, str(runs["a"])))) == "run"
    (tmp_path / "link").symlink_to(tmp_path)
    assert models.called(tmp_path / "link" / "models", str(models.find(folder, "liver"))) == "liver@1.1"
    assert models.called(folder, "liver") == "liver" and models.called(folder, "") == ""


@pytest.mark.parametrize("code", [False, True])
def test_a_model_that_needs_another_run_is_not_installed(tmp_path, runs, code):
    fine, path = tmp_path / "fine", tmp_path / "fine" / "recipe.yaml"
    shutil.copytree(runs["a"], fine)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(recipe | {"predict": {"coarse": str(runs["b"])}}), encoding="utf-8")
    with pytest.raises(Refusal, match="whole in itself"):
        models.install(tmp_path / "models", fine, "liver", "1", code=code)
    assert models.listed(tmp_path / "models") == []
    path.write_text(yaml.safe_dump(recipe | {"predict": {"coarse": None}}), encoding="utf-8")
    assert models.install(tmp_path / "models", fine, "liver", "1", code=code).used


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a" * 65, "liver@1", "a\0b"])
def test_names_lead_nowhere_else(tmp_path, runs, name):
    folder = tmp_path / "models"
    with pytest.raises(Refusal):
        models.install(folder, runs["a"], name, "1")
    with pytest.raises(Refusal):
        models.install(folder, runs["a"], "liver", name or "..")
    assert not list(tmp_path.rglob("installed.json"))


def test_a_kill_during_an_installation_leaves_no_half_model(tmp_path, runs):
    """The process is killed when it has copied the first file."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom medseg.service.models import change\n"
        "change._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "change.install(Path(sys.argv[1]), Path(sys.argv[2]), 'liver', '1')\n"
    )
    folder = tmp_path / "models"
    done = subprocess.run([sys.executable, "-c", script, folder, runs["a"]], env=ENVIRONMENT, timeout=120)
    assert done.returncode == -signal.SIGKILL and list((folder / "liver").glob(".partial-*"))
    assert models.listed(folder) == []
    made = models.install(folder, runs["a"], "liver", "1")
    assert models.damaged(made) == [] and not list((folder / "liver").glob(".partial-*"))


def test_what_is_in_use_or_needed_stays(site, runs, tmp_path):
    folder = tmp_path / "data" / "models"
    assert medseg_command("models", "install", site, runs["a"], "liver", "--version", "1").code == 0
    said = medseg_command("models", "install", site, runs["b"], "liver", "--version", "2", "--use")
    assert said.code == 0 and "liver@2 (in use)" in said.out
    assert "in use" in medseg_command("models", "remove", site, "liver@2", "--yes").err
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    job, _ = journal.jobs.submit(replace(ASKED, model=str(folder / "liver" / "1")), who="a")
    assert f"such as job {job.id}" in medseg_command("models", "remove", site, "liver@1", "--yes").err
    journal.jobs.cancel(job.id, "me")
    assert "neither --yes nor --dry-run" in medseg_command("models", "remove", site, "liver@1").err
    assert medseg_command("models", "remove", site, "liver@1", "--dry-run").out.startswith("would remove")
    assert (folder / "liver" / "1").is_dir()
    assert medseg_command("models", "remove", site, "liver@1", "--yes").out.startswith("removed")
    assert not (folder / "liver" / "1").exists()
    what = [entry.what for _, entry in journal.audit.entries()]
    assert what == ["install model", "install model", "use model", "remove model"]
    journal.close()
    assert medseg_command("models", "remove", site, "liver@2", "--yes").code == 0  # the last one
    assert "no models" in medseg_command("models", "list", site).out


def test_the_list_and_a_roll_back_on_the_command_line(site, runs):
    for version, run in (("1", runs["a"]), ("2", runs["b"])):
        medseg_command("models", "install", site, run, "liver", "--version", version, "--use")
    said = medseg_command("models", "use", site, "liver@1")
    assert said.out == "liver: 1 is in use, before it 2\n"
    assert "liver@1 (in use)\n  licence       CC0-1.0" in medseg_command("models", "list", site).out
    told = json.loads(medseg_command("models", "list", site, "--json").out)
    assert [(one["version"], one["used"]) for one in told] == [("1", True), ("2", False)]
    assert "NAME@VERSION" in medseg_command("models", "use", site, "liver").err


def test_names_are_found_without_what_runs_models():
    script = "import sys; from medseg.service import models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ) | ENVIRONMENT, capture_output=True)
    assert done.stdout.strip() == b"False"
