"""The verdict before Apply, with a model alone and with what a real dry run says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedSegLib.check import LOOK, OK, STOP, Check, Input, duration, verdict
from MedSegLib.models import Model, of_json
from tests import tiny
from tests.tiny import medseg_command

MR = Model("tumour", "runs/t", ("T1", "T2"), ("MR", "MR"), (), "voxel", (1.0, 1.0, 2.0), "MIT", "research", 3 * 2**30)
T1 = Input("T1", "head 1", (200, 210, 90), (1.0, 1.0, 2.0), "MR")
T2 = replace(T1, channel="T2", name="head 2")


def said(check: Check, level: str) -> list[str]:
    return [text for one, text in check.sentences if one == level]


def dry(**case: Any) -> dict[str, Any]:
    memory = {"needed": 2**30, "free": 8 * 2**30, "gpu_needed": None, "gpu_free": None}
    usual = {"case": "a", "state": "fits", "error": None, "memory": memory, "seconds": 42.0, "warnings": []}
    return {"model": {}, "device": "cpu", "cases": [usual | case]}


def test_all_is_well_with_the_model_alone() -> None:
    found = verdict(MR, [T2, T1])
    assert found.ok
    assert found.sentences == ((OK, "The model's weights take 3.0 GiB."),)
    assert verdict(replace(MR, weights_bytes=0), [T1, T2]).sentences == (
        (OK, "Channels and voxel sizes suit the model."),
    )


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([T1], "Choose a volume for the channel T2."),
        ([T1, T2, replace(T1, channel="FLAIR", name="x")], "The model has no channel FLAIR: it needs T1, T2."),
        ([T1, T2, replace(T2, name="x")], "Choose one volume for the channel T2, not 2."),
    ],
)
def test_channels_that_are_missing_unknown_or_twice_stop(inputs: list[Input], text: str) -> None:
    found = verdict(MR, inputs)
    assert not found.ok
    assert said(found, STOP) == [text]
    assert found.sentences[0] == (STOP, text)


@pytest.mark.parametrize(
    ("second", "part"),
    [
        (replace(T2, name="head 1"), "head 1 is chosen for 2 channels: T1, T2."),
        (replace(T2, modality="CT"), "head 2 is CT, and the model's channel T2 is MR."),
        (
            replace(T2, spacing_mm=(2.0, 1.0, 2.0)),
            "lies on another grid than head 1 (200 x 210 x 90 voxels of 1 x 1 x 2 mm)",
        ),
        (replace(T2, shape=(200, 210, 91)), "head 2 (200 x 210 x 91 voxels of 1 x 1 x 2 mm) lies on another grid"),
    ],
)
def test_what_is_odd_is_to_be_looked_at(second: Input, part: str) -> None:
    found = verdict(MR, [T1, second])
    assert found.ok
    [text] = said(found, LOOK)
    assert part in text
    assert found.sentences[0][0] == LOOK


def test_voxels_are_compared_whatever_the_order_of_axes() -> None:
    turned = [replace(one, spacing_mm=(3.0, 1.0, 1.0)) for one in (T1, T2)]
    assert said(verdict(MR, turned), LOOK) == []
    coarse = [replace(one, spacing_mm=(1.0, 5.0, 1.0)) for one in (T1, T2)]
    assert [text.partition(",")[0] for text in said(verdict(MR, coarse), LOOK)] == [
        "head 1 has voxels of 1 x 5 x 1 mm",
        "head 2 has voxels of 1 x 5 x 1 mm",
    ]
    assert said(verdict(replace(MR, spacing_mm=None), coarse), LOOK) == []


def test_what_files_do_not_say_is_no_difference_and_pet_has_two_names() -> None:
    assert said(verdict(MR, [T1, replace(T2, modality="")]), LOOK) == []
    pet = replace(MR, modalities=("PT", "CT"))
    assert said(verdict(pet, [replace(T1, modality="PET"), replace(T2, modality="ct")]), LOOK) == []


def test_a_dry_run_sees_noise_and_no_modality() -> None:
    found = verdict(MR, [T1, replace(T2, modality="CT")], dry())
    assert said(found, LOOK) == ["head 2 is CT, and the model's channel T2 is MR."]


def test_a_part_of_a_network_cannot_predict() -> None:
    assert not verdict(replace(MR, partial=True), [T1, T2]).ok


def test_time_and_memory_of_a_dry_run() -> None:
    found = verdict(MR, [T1, T2], dry())
    assert found.ok
    assert "It will take about 40 seconds on the processor, and some seconds to start." in said(found, OK)
    assert "It needs about 1.0 GiB of memory, and 8.0 GiB can be had." in said(found, OK)
    tight = verdict(MR, [T1, T2], dry(memory={"needed": 7 * 2**30, "free": 8 * 2**30}))
    assert tight.ok and "tight" in said(tight, LOOK)[0]
    short = verdict(MR, [T1, T2], dry(memory={"needed": 1, "free": 2, "gpu_needed": 9 * 2**30, "gpu_free": 8 * 2**30}))
    assert not short.ok and "9.0 GiB of the GPU's memory" in said(short, STOP)[0]
    assert verdict(MR, [T1, T2], dry(seconds=None, memory={})).ok


def test_a_dry_run_that_refuses_stops_with_the_remedy() -> None:
    error = {"code": "memory", "found": "1 GiB", "needed": "2 GiB", "remedy": "end other programs", "text": "t"}
    found = verdict(MR, [T1, T2], dry(state="refused", error=error, warnings=["the series has a gap"]))
    assert not found.ok
    assert said(found, STOP) == ["This cannot be run: found 1 GiB; needed 2 GiB. End other programs."]
    assert said(found, LOOK) == ["The series has a gap."]


def test_what_the_dry_run_saw_is_not_said_twice() -> None:
    coarse = [replace(one, spacing_mm=(1.0, 5.0, 1.0)) for one in (T1, T2)]
    assert said(verdict(MR, coarse, dry(warnings=["voxels of 5 mm"])), LOOK) == ["Voxels of 5 mm."]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "a few seconds"),
        (23, "about 25 seconds"),
        (89.9, "about 90 seconds"),
        (90, "about 2 minutes"),
        (1700, "about 28 minutes"),
        (7000, "about 2 hours"),
    ],
)
def test_durations_are_no_more_exact_than_they_are_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_with_what_medseg_really_says(tmp_path: Path) -> None:
    folder = tmp_path / "täst ordner"
    run = tiny.untrained_run(folder / "run").folder
    image = tiny.nifti(folder / "a.nii.gz", tiny.phantom(0)[0])
    [entry] = json.loads(medseg_command("info", run, "--json").out)["models"]
    model, chosen = of_json(entry, str(run)), [Input("image", "a", (24, 20, 18), (1.5, 1.5, 2.0))]
    words = ("predict", run, image, folder / "out", "--dry-run", "--progress", "json", "--device", "cpu")
    found = verdict(model, chosen, json.loads(medseg_command(*words).out))
    assert found.ok
    assert any(text.startswith("It needs about ") for text in said(found, OK))
    assert any(text.startswith("It will take ") for text in said(found, OK))
    tiny.nifti(folder / "a.nii.gz", np.zeros((8, 8, 8, 2), np.int16))
    found = verdict(model, chosen, json.loads(medseg_command(*words).out))
    assert not found.ok
    assert said(found, STOP)[0].startswith("This cannot be run: found 2 channels; needed 1: image.")
