"""What `medseg info --json` and `medseg get --json` tell programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medseg import catalogue
from medseg.engine.run import Run, export
from medseg.labels import Code, Label, LabelTable
from tests import tiny
from tests.tiny import medseg_command


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind side by side."""
    shelf = tmp_path_factory.mktemp("täst ordner") / "models"
    ct = tiny.untrained_run(shelf / "ct", changes=("prepare.modalities=[CT]", "intended_use=teaching"))
    liver = Label(3, "liver", (3,), Code("10200004", "SCT", "Liver"), (1, 2, 3))
    ct.write("labels.json", LabelTable((liver, Label(7, "rest", (7, 8))), ignore=255).to_json())
    tiny.untrained_run(shelf / "mr", channels=("T1", "T2"), labels={"WT": [1, 2, 4], "TC": [1, 4]})
    export(Run(shelf / "ct"), shelf / "packed.zip")
    (shelf / "folds").mkdir()
    for fold in ("fold0", "fold1"):
        shutil.copytree(shelf / "mr", shelf / "folds" / fold)
    (shelf / "folds" / "folds.json").write_text("{}", encoding="utf-8")
    part = shutil.copytree(shelf / "ct", shelf / "part")
    (part / "plan.json").unlink()
    (shutil.copytree(shelf / "ct", shelf / "young") / "weights.safetensors").unlink()
    (shutil.copytree(shelf / "ct", shelf / "zbad") / "labels.json").write_text("{", encoding="utf-8")
    (shelf / "notes").mkdir()
    (shelf / "notes" / "a.txt").write_text("no model", encoding="utf-8")
    return shelf


def answer(*words: object) -> Any:
    said = medseg_command(*words)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_all_runs_of_a_folder_each_with_what_label_maps_need(shelf: Path) -> None:
    told = answer("info", shelf, "--json")
    found = {Path(entry["path"]).name: entry for entry in told["models"]}
    assert list(found) == ["ct", "folds", "mr", "packed.zip", "part"]
    assert found["ct"]["labels"] == [
        {"number": 3, "name": "liver", "colour": [1, 2, 3], "code": "SCT:10200004", "meaning": "Liver", "numbers": [3]},
        {"number": 7, "name": "rest", "colour": [255, 0, 0], "code": "", "meaning": "", "numbers": [7, 8]},
    ]
    told_of_ct = {key: found["ct"][key] for key in ("channels", "modalities", "kind", "spacing_mm", "exclusive")}
    assert told_of_ct == {
        "channels": ["image"],
        "modalities": ["CT"],
        "kind": "voxel",
        "spacing_mm": [1.5, 1.5, 2.0],
        "exclusive": True,
    }
    assert (found["ct"]["licence"], found["ct"]["intended_use"], found["ct"]["ignore"]) == ("CC0-1.0", "teaching", 255)
    assert (found["mr"]["paint"], found["ct"]["paint"]) == ([1, 2], None)
    weights = (shelf / "mr" / "weights.safetensors").stat().st_size
    assert (found["mr"]["weights_bytes"], found["mr"]["runs"]) == (weights, 1)
    assert (found["folds"]["weights_bytes"], found["folds"]["runs"]) == (2 * weights, 2)
    assert [name for name, entry in found.items() if entry["partial"]] == ["part"]
    same = found["packed.zip"] | {"path": found["ct"]["path"]}
    assert same == found["ct"]


def test_what_is_damaged_or_not_trained_is_named_with_its_remedy(shelf: Path) -> None:
    broken = {Path(one["path"]).name: one["error"] for one in answer("info", shelf, "--json")["broken"]}
    assert list(broken) == ["young", "zbad"]
    assert broken["young"]["found"] == "no weights in it"
    assert "medseg train" in broken["young"]["remedy"]
    assert (broken["zbad"]["code"], set(broken["zbad"])) == (
        "unreadable",
        {"code", "where", "found", "needed", "remedy", "text"},
    )


def test_one_run_and_a_folder_without_any(shelf: Path, tmp_path: Path) -> None:
    [entry] = answer("info", shelf / "ct", "--json")["models"]
    assert entry["name"] == "tiny"
    assert answer("info", tmp_path, "--json") == {"models": [], "broken": []}
    said = medseg_command("info", tmp_path / "gone", "--json")
    assert (said.code, said.out) == (2, "")
    assert "gone: found no such file or folder" in said.err


def test_the_extension_understands_every_entry(shelf: Path) -> None:
    sys.path.append(str(tiny.ROOT / "slicer" / "MedSeg"))
    from MedSegLib import models

    entries = answer("info", shelf, "--json")["models"]
    found = [models.of_json(entry, entry["path"]) for entry in entries]
    assert [model.partial for model in found] == [entry["partial"] for entry in entries]
    assert found[0].labels[0].colour == (1, 2, 3)


def test_no_network_library_is_imported_for_it(shelf: Path) -> None:
    """So that it takes no time."""
    code = (
        "import sys; from medseg.__main__ import application\n"
        "try: application()()\n"
        "finally: sys.stderr.write(' '.join({'torch', 'scipy', 'SimpleITK'} & set(sys.modules)) or 'none')"
    )
    words = [sys.executable, "-c", code, "info", str(shelf), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=tiny.ENVIRONMENT, timeout=120)
    assert (done.returncode, done.stderr) == (0, "none")
    assert json.loads(done.stdout)["models"]


def test_a_scan(tmp_path: Path) -> None:
    image, _ = tiny.phantom(0)
    told = answer("info", tiny.nifti(tmp_path / "ä b.nii.gz", image), "--json")
    assert (told["shape"], told["orientation"], told["type"]) == ([24, 20, 18], "LAS", "int16")
    assert told["spacing_mm"] == pytest.approx([1.5, 1.5, 2])
    assert told["modality"] == ""


def test_people_are_told_as_before(shelf: Path) -> None:
    said = medseg_command("info", shelf / "ct")
    assert "labels       liver, rest" in said.out


def test_the_catalogue_with_licences_and_what_can_be_downloaded() -> None:
    told = {entry["name"]: entry for entry in answer("get", "--json")}
    assert list(told) == list(catalogue.entries())
    for name, entry in catalogue.entries().items():
        assert told[name]["licence"] == entry.licence
        assert told[name]["direct"] == (entry.url is not None)
        assert told[name]["labels"] == (None if entry.labels is None else list(entry.labels))
    [alone] = answer("get", "stunet-s", "--json")
    assert alone == told["stunet-s"]
    assert medseg_command("get", "stunet-x", "--json").code == 2
