"""Boxes, labels and coarse passes: what is asked for is what is worked on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medseg
from medseg.engine import region
from medseg.engine.predict import Predictor
from medseg.engine.stages import Clock, timed_by
from medseg.labels import LabelTable
from medseg.plan import Normalisation
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import tiny
from tests.tiny import medseg_command

SHAPE = (40, 34, 30)
ONE_THREAD = ("--threads", "1")
TABLE = LabelTable.of({"liver": 5, "spleen": 1, "kidney": 7})


class Balls(nn.Module):
    """Bright is left, dark is right."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), x - 4, -x - 4], dim=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A fine and a coarse run."""
    fine = tiny.untrained_run(tmp_path_factory.mktemp("fine") / "run")
    coarse = tiny.untrained_run(tmp_path_factory.mktemp("coarse") / "run", spacing=(4, 4, 4))
    return fine.folder, coarse.folder


def seeing(folder: Path, **words: object) -> Predictor:
    predictor = Predictor.load([folder], device="cpu", **words)  # type: ignore[arg-type]
    return replace(predictor, members=(tiny.member(Balls(), predictor.plan),))


@pytest.fixture
def pair(runs: tuple[Path, Path]) -> Predictor:
    """A network that finds balls, and one that finds them coarsely first, when it is asked for the left one."""
    return replace(seeing(runs[0]), labels=("left",), coarse=seeing(runs[1]))


def scan(seed: int = 1) -> Volume:
    return Volume(tiny.phantom(seed, SHAPE)[0][None], tiny.AFFINE)


def read_record(out: Path) -> dict:
    return json.loads((out / "predict.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10:12,:,3:30", ((10, 12), (0, 34), (3, 30))),
        (" 0:40 , 33: , :1 ", ((0, 40), (33, 34), (0, 1))),
        (np.s_[10:12, :, 3:], ((10, 12), (0, 34), (3, 30))),
    ],
)
def test_a_box_is_half_open_and_empty_means_all(text, expected):
    found = region.given(text, scan())
    assert found.box == tuple(slice(*pair) for pair in expected)
    said = ",".join(f"{first}:{last}" for first, last in expected)
    assert found.facts == {"region": f"{said} (voxels i, j, k; asked for)"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0:41,:,:", "0:41 along i; needed voxels of the scan, which has 40 along i"),
        (":,-3:9,:", "-3:9 along j"),
        (":,:,9:3", "9:3 along k; needed a first voxel before the last"),
        (":,:,9:9", "9:9 along k"),
        (":,:", "neither a box nor a file"),
        ("mask.nii.gz", "neither a box nor a file"),
        (np.s_[:, :], "2 ranges"),
        (np.s_[:, ::2, :], "steps"),
        (np.s_[:, 3, :], "single numbers"),
    ],
)
def test_what_is_no_box_of_the_scan_is_refused(text, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=re.escape(why)):
        region.given(text, scan())


def test_a_mask_stands_for_the_box_around_it(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 7, 9] = mask[12, 8, 9] = 3
    path = tiny.nifti(tmp_path / "mask.nii.gz", mask)
    assert region.given(str(path), scan()).box == np.s_[5:13, 7:9, 9:10]
    turned = tiny.nifti(tmp_path / "turned.nii.gz", mask[::-1], tiny.AFFINE @ np.diag([-1, 1, 1, 1]) + _shift(SHAPE[0]))
    assert region.given(turned, scan()).box == np.s_[5:13, 7:9, 9:10], "stored the other way round"
    with pytest.raises(Refusal, match="a mask without a voxel"):
        region.given(tiny.nifti(tmp_path / "empty.nii.gz", mask * 0), scan())
    with pytest.raises(Refusal, match="on the grid of their image"):
        region.given(tiny.nifti(tmp_path / "other.nii.gz", mask[:-1]), scan())


def _shift(size: int) -> np.ndarray:
    """What the origin moves by when the first axis is turned round."""
    shift = np.zeros((4, 4))
    shift[:3, 3] = tiny.AFFINE[:3, 0] * (size - 1)
    return shift


def test_only_the_box_is_labelled_and_only_its_tiles_are_seen(runs):
    predictor = seeing(runs[0])
    full = predictor.predict_volume(scan(), "x")
    found = predictor.predict_volume(scan(), "x", roi="0:20,4:30,:", probabilities=True)
    expected = np.zeros_like(full.target.array)
    expected[:, :20, 4:30] = full.target.array[:, :20, 4:30]
    assert (expected != 0).any() and (full.target.array != expected).any(), "it cuts something off"
    assert (found.target.array == expected).all()
    assert found.probabilities is not None and not found.probabilities[:, 20:].any()
    assert found.facts["tiles"] < full.facts["tiles"]
    assert found.provenance["region"].startswith("0:20,4:30,0:30") and "region" not in full.provenance


def test_a_box_that_the_crop_does_not_meet_is_background(runs):
    predictor = seeing(runs[0])
    plan = predictor.plan.model_copy(update={"crop": "nonzero"})
    predictor = replace(predictor, members=(tiny.member(Balls(), plan),))
    dark = scan().array.copy()
    dark[:, 20:] = 0
    found = predictor.predict_volume(scan().with_array(dark), "x", roi="25:30,:,:")
    assert not found.target.array.any() and found.facts["tiles"] == 0


def test_labels_that_were_not_asked_for_are_background(runs):
    full = seeing(runs[0]).predict_volume(scan(), "x", probabilities=True)
    found = seeing(runs[0], labels=["right"]).predict_volume(scan(), "x", probabilities=True)
    assert (found.target.array == np.where(full.target.array == 2, 2, 0)).all() and (found.target.array == 2).any()
    assert full.probabilities is not None and found.probabilities is not None
    assert not found.probabilities[0].any() and (found.probabilities[1] == full.probabilities[1]).all()
    assert found.table == full.table and found.provenance["labels asked for"] == "right"


def test_what_is_kept_is_told_by_name():
    target = np.random.default_rng(0).integers(0, 4, (1, 5, 6, 70)).astype(np.uint8)
    kept = target.copy()
    region.keep(kept, None, TABLE, ["kidney", "liver"])
    assert (kept == np.where(target == 2, 0, target)).all()


def test_unknown_labels_are_refused_with_the_nearest_name(runs):
    with pytest.raises(Refusal, match=r"found 'rihgt'.*did you mean 'right'"):
        Predictor.load([runs[0]], device="cpu", labels=["left", "rihgt"])


def test_regions_and_classes_cannot_be_told_apart():
    for table, what in (
        (LabelTable.of({"WT": [1, 2], "TC": [1]}), "overlapping regions"),
        (LabelTable.classes({"no": 0, "yes": 1}), "a class for every image"),
    ):
        with pytest.raises(Refusal, match=what):
            region.check_labels(["WT"], table)


def test_a_coarse_pass_finds_where_to_look(pair):
    everywhere = replace(pair, coarse=None).predict_volume(scan(), "x")
    said: list[tuple[int, int]] = []
    near = replace(pair, settings=pair.settings.model_copy(update={"coarse_margin_mm": 9.0}))
    found = near.predict_volume(scan(), "x", lambda *step: said.append(step))
    assert (found.target.array == everywhere.target.array).all() and (found.target.array == 1).any()
    assert found.facts["tiles"] < everywhere.facts["tiles"]
    box = [list(map(int, part.split(":"))) for part in found.facts["region"].split(" ")[0].split(",")]
    where, margin = np.argwhere(everywhere.target.array[0]), 9 / np.array([1.5, 1.5, 2])
    for axis, (start, stop) in enumerate(box):  # the coarse voxels are up to three of the fine ones
        assert abs(start - max(0, where[:, axis].min() - margin[axis])) <= 3
        assert abs(stop - min(SHAPE[axis], where[:, axis].max() + 1 + margin[axis])) <= 3
    assert "9 mm around left" in found.facts["region"]
    assert said[-1] == (found.facts["tiles"],) * 2
    assert [done for done, _ in said] == sorted(done for done, _ in said), "progress never goes back"
    assert said[0][0] == 0, "the coarse pass is not counted"


def test_the_coarse_pass_is_part_of_the_time(pair):
    clock = Clock()
    with timed_by(clock):
        pair.predict_volume(scan(), "x")
    assert [stage["name"] for stage in clock.to_json()][:2] == ["plan", "prepare"], "the coarse pass is planning"


def test_the_margin_is_20_mm(pair):
    assert "20 mm around left" in pair.predict_volume(scan(), "x").facts["region"]


def test_a_label_that_the_coarse_pass_misses_is_looked_for_everywhere(pair):
    blind = replace(pair.coarse, members=(tiny.member(nn.Sequential(Balls(), Nothing()), pair.coarse.plan),))
    found = replace(pair, coarse=blind).predict_volume(scan(), "x")
    assert found.facts["warnings"] == ["the coarse pass found no left: the whole scan was segmented"]
    assert (found.target.array == replace(pair, coarse=None).predict_volume(scan(), "x").target.array).all()


class Nothing(nn.Module):
    """Nothing but background."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + 99, x[:, 1:]], dim=1)


def test_a_box_of_the_user_spares_the_coarse_pass(pair):
    found = replace(pair, coarse=None).predict_volume(scan(), "x", roi="0:20,:,:")
    blind = replace(pair.coarse, members=())
    again = replace(pair, coarse=blind).predict_volume(scan(), "x", roi="0:20,:,:")
    assert (found.target.array == again.target.array).all()


def test_the_coarse_model_must_know_the_labels_and_the_channels(runs, tmp_path):
    other = tiny.untrained_run(tmp_path / "a" / "other", labels={"left": 1, "heart": 2}, seed=7).folder
    loaded = Predictor.load([runs[0]], device="cpu", labels=["left"], changes=[f"coarse={other}"])
    assert loaded.coarse is not None and loaded.coarse.table.names == ("left", "heart")
    told = loaded.coarse.provenance["weights sha256"]
    assert loaded.provenance["coarse weights sha256"] == told != loaded.provenance["weights sha256"]
    assert Predictor.load([runs[0]], device="cpu", changes=[f"coarse={other}"]).coarse is None, "nothing to look for"
    with pytest.raises(Refusal, match=r"coarse model .*found 'right'"):
        Predictor.load([runs[0]], device="cpu", labels=["right"], changes=[f"coarse={other}"])
    two = tiny.untrained_run(tmp_path / "b" / "two", channels=("t1", "t2")).folder
    with pytest.raises(Refusal, match="a coarse model of the channels t1, t2"):
        Predictor.load([runs[0]], device="cpu", labels=["left"], changes=[f"coarse={two}"])


def test_air_is_skipped_and_what_is_left_is_the_same(runs):
    """A body in much air, by a network that calls air background."""
    air = np.full((120, 40, 16), -1000, np.int16)
    air[50:70, 12:28] = 40
    air[55:59, 14:22, 4:10] = 900
    volume = Volume(air[None], tiny.AFFINE)
    predictor = seeing(runs[0])
    how = Normalisation(kind="ct", lower=-1000, upper=1000, mean=40, sd=200)
    predictor = replace(
        predictor, members=(tiny.member(Bright(), predictor.plan.model_copy(update={"normalisation": (how,)})),)
    )
    said: list[tuple[int, int]] = []
    found = predictor.predict_volume(volume, "x", lambda *step: said.append(step))
    all_of_it = replace(predictor, settings=predictor.settings.model_copy(update={"skip_air": False}))
    full = all_of_it.predict_volume(volume, "x")
    assert (found.target.array == full.target.array).all() and (full.target.array == 1).sum() > 100
    assert found.facts["tiles"] + found.facts["tiles skipped"] == full.facts["tiles"] > 1.5 * found.facts["tiles"]
    assert "tiles skipped" not in full.facts and "warnings" not in found.facts
    assert said[-1] == (found.facts["tiles"],) * 2


def test_tiles_around_the_body_are_fewer_and_find_the_same(runs):
    """By a network whose answer does not depend on where its tile lies."""
    air = np.full((120, 40, 16), -1000, np.int16)
    air[50:70, 12:28] = 40
    air[55:59, 14:22, 4:10] = 900
    volume = Volume(air[None], tiny.AFFINE)
    how = Normalisation(kind="ct", lower=-1000, upper=1000, mean=40, sd=200)
    predictor = seeing(runs[0])
    plan = predictor.plan.model_copy(update={"normalisation": (how,)})
    predictor = replace(predictor, members=(tiny.member(Bright(), plan),))
    around = replace(predictor, settings=predictor.settings.model_copy(update={"fit_body": True}))
    found, expected = (one.predict_volume(volume, "x") for one in (around, predictor))
    assert (found.target.array == expected.target.array).all() and (found.target.array == 1).sum() > 100
    assert found.facts["tiles"] < expected.facts["tiles"]
    total = expected.facts["tiles"] + expected.facts["tiles skipped"]
    assert found.facts["tiles"] + found.facts["tiles skipped"] == total
    without = around.settings.model_copy(update={"skip_air": False})
    assert replace(around, settings=without).predict_volume(volume, "x").facts["tiles"] == total


class Bright(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x), x - 2, x - 99], dim=1)


def test_a_scan_of_air_is_background_and_that_is_said(runs, tmp_path):
    path = tiny.nifti(tmp_path / "in" / "air.nii.gz", np.full((18, 16, 16), 7, np.int16))
    said = medseg_command("predict", runs[0], path, tmp_path / "out", *ONE_THREAD)
    assert said.code == 0 and "air: nothing but air was found: all of the scan is background" in said.err
    [case] = read_record(tmp_path / "out")["cases"]
    assert case["facts"]["tiles"] == 0 and case["facts"]["volume_ml"] == {"left": 0, "right": 0}
    said = medseg_command("predict", runs[0], path, tmp_path / "out", "--set", "skip_air=false", *ONE_THREAD)
    [case] = read_record(tmp_path / "out")["cases"]
    assert said.code == 0 and "warnings" not in case["facts"] and case["facts"]["tiles"] > 0


def test_photographs_have_no_air():
    from medseg.engine.skipping import over_air

    assert over_air(replace(scan(), unit="px"), None, [], 3, exclusive=True) == (None, "")  # type: ignore[arg-type]


def test_the_command_line_says_what_was_asked_for(runs, tmp_path):
    path = tiny.nifti(tmp_path / "in" / "a.nii.gz", tiny.phantom(1)[0])
    words = ["--roi", "0:9,:,4:12", "--labels", "left, right", "--quality", "fast"]
    said = medseg_command("predict", runs[0], path, tmp_path / "out", *words, *ONE_THREAD)
    assert said.code == 0, said.err
    record = read_record(tmp_path / "out")
    assert record["cases"][0]["facts"]["region"] == "0:9,0:20,4:12 (voxels i, j, k; asked for)"
    assert record["provenance"]["quality"] == "fast" and record["provenance"]["labels asked for"] == "left, right"
    stages = [stage["name"] for stage in record["cases"][0]["stages"]]
    assert stages == ["read", "plan", "prepare", "network", "reduce", "clean-up", "write", "measure"]
    labels = medseg.read(tmp_path / "out" / "a.nii.gz").array[0]
    assert labels.any() and not labels[9:].any() and not labels[:, :, :4].any() and not labels[:, :, 12:].any()
    found = medseg.predict(runs[0], path, roi=np.s_[:9, :, 4:12], labels=["left", "right"], quality="fast")
    assert (found.painted().array[0] == labels).all()  # type: ignore[union-attr]


def test_one_mask_for_several_scans_is_refused(runs, tmp_path):
    for name in "ab":
        tiny.nifti(tmp_path / "in" / f"{name}.nii.gz", tiny.phantom(1)[0])
    mask = tiny.nifti(tmp_path / "mask.nii.gz", np.ones(tiny.SHAPE, np.uint8))
    said = medseg_command("predict", runs[0], tmp_path / "in", tmp_path / "out", "--roi", mask)
    region.needs_one_scan(mask, 1)
    assert said.code == 2 and "one mask for 2 scans" in said.err and not (tmp_path / "out").exists()
    said = medseg_command("predict", runs[0], tmp_path / "in", tmp_path / "out", "--roi", "0:9,:,:", *ONE_THREAD)
    assert said.code == 0, said.err


def test_a_classifier_takes_no_box(runs):
    predictor = replace(seeing(runs[0]), table=LabelTable.classes({"no": 0, "yes": 1, "perhaps": 2}))
    with pytest.raises(Refusal, match="a model that tells a class for every image"):
        predictor.predict(scan(), "x", roi="0:9,:,:")
