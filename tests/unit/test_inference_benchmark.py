"""What the benchmarks of inference are made of: the scene, the weights for others, clocks and judgements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

import medseg
from medseg import models
from medseg.engine.run import Run
from medseg.plan import Normalisation
from tests import tiny

BENCHMARKS = tiny.ROOT / "benchmarks"
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read as Linux tells it")
CT = Normalisation(kind="ct", lower=-900, upper=300, mean=30, sd=140)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The benchmarks are programs, whose folder Python adds by itself."""
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")
    monkeypatch.syspath_prepend(BENCHMARKS)


def program(name: str, *words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=tiny.ENVIRONMENT, check=False)


def test_help_and_a_folder_without_data(tmp_path):
    said = program("inference.py", "--help")
    assert said.returncode == 0 and "--nnunet-python" in said.stdout
    said = program("inference.py", tmp_path)
    assert said.returncode == 1 and "add --train" in said.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure here")
def test_without_a_gpu_a_line_is_said():
    said = program("gpu_inference.py")
    assert said.returncode == 0
    assert said.stdout == "no CUDA GPU here: nothing was measured\n"


def test_the_phantom_is_what_it_says():
    import phantom

    hu, labels = phantom.phantom(3, (60, 60, 60))
    assert hu.dtype == np.int16 and labels.dtype == np.uint8
    assert sorted(np.unique(labels)) == [0, *phantom.LABELS.values()]
    for name in ("liver", "kidneys"):
        assert abs(hu[labels == phantom.LABELS[name]].mean() - phantom.HU[name]) < 40
    assert abs(hu[labels == 0].mean() - phantom.HU["air"]) < 20
    again, other = phantom.phantom(3, (60, 60, 60)), phantom.phantom(4, (60, 60, 60))
    assert np.array_equal(hu, again[0]) and not np.array_equal(labels, other[1])


def test_dice_of_each_label():
    import phantom

    one, other = np.array([0, 1, 1, 2, 3]), np.array([0, 1, 2, 2, 0])
    found = phantom.dice(one, other)
    assert found == {"body": 2 / 3, "liver": 2 / 3, "kidneys": 0, "lesions": 1}


def test_turned_weights_see_a_turned_image():
    import trained

    torch.manual_seed(0)
    options = {
        "features": (4, 8),
        "deep_supervision": False,
        "strides": ((2, 1, 4),),
        "kernels": ((3, 1, 3), (3, 3, 1)),
    }
    network = models.build("unet", in_channels=1, out_channels=3, **options).double().eval()
    reverse = {name: tuple(part[::-1] for part in options[name]) for name in ("strides", "kernels")}
    other = models.build("unet", in_channels=1, out_channels=3, **{**options, **reverse}).double().eval()
    other.load_state_dict(trained.turned(network.state_dict()))
    x = torch.randn(1, 1, 8, 6, 12, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(other(x.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2), network(x))


def test_nnunet_gets_the_numbers_of_the_run_and_the_entries_of_its_network(tmp_path):
    import trained

    folder = tiny.untrained_run(
        tmp_path / "run",
        spacing=(1, 2, 3),
        changes=(f"model={{name: unet, features: {list(trained.FEATURES)}}}", "prepare.patch=[16,32,48]"),
        labels={"body": 1, "liver": 2, "kidneys": 3, "lesions": 4},
    ).folder
    plan = Run(folder).plan.model_copy(update={"normalisation": (CT,), "patch": (16, 32, 48)})
    Run(folder).write("plan.json", plan.model_dump(mode="json"))
    made = trained.for_nnunet(Run(folder), tmp_path)
    for name, order in (("default", 3), ("torch", None)):
        plans = json.loads((made[name] / "plans.json").read_text())
        chosen = plans["configurations"]["3d_fullres"]
        assert chosen["spacing"] == [3, 2, 1] and chosen["patch_size"] == [48, 32, 16]
        assert chosen["resampling_fn_data_kwargs"].get("order") == order
        seen = plans["foreground_intensity_properties_per_channel"]["0"]
        assert (seen["percentile_00_5"], seen["percentile_99_5"], seen["mean"], seen["std"]) == (-900, 300, 30, 140)
    weights = torch.load(made["torch"] / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    golden = json.loads((tiny.ROOT / "tests" / "golden" / "3d" / "unet_c5.json").read_text())
    assert len(weights) == golden["all_keys"] and {entry["key"] for entry in golden["keys"]} <= set(weights)


def test_a_clock_counts_no_second_twice(monkeypatch):
    import work

    now = SimpleNamespace(time=0.0)
    monkeypatch.setattr(work.time, "perf_counter", lambda: now.time)
    clock = work.Clock()

    def inner() -> None:
        now.time += 2

    def outer() -> None:
        now.time += 1
        clock.timed("inner", inner)()
        now.time += 4

    clock.timed("outer", outer)()
    assert clock.seconds == {"inner": 2, "outer": 5}


def test_labels_that_differ_and_weights_that_learned_nothing_are_named(tmp_path):
    import inference
    import phantom

    _, truth = phantom.phantom(0, (24, 24, 24))
    wrong = np.where(truth == 4, 0, truth)
    files = {name: phantom.write(array, tmp_path / f"{name}.nii.gz") for name, array in (("a", truth), ("b", wrong))}
    one = {"seconds": 2.0, "cpu": 3.0, "stages": {"network": 1.5}, "peak": 2**20, "load": 1, "imports": 3}
    runs = {
        inference.MEDSEG: [{**one, "labels": files["a"]}, {**one, "seconds": 1.0, "labels": files["a"]}],
        inference.BASE: [{**one, "seconds": 4.0, "peak": 2**22, "labels": files["b"]}],
    }
    dice, low = inference.judged(runs, files["a"])
    assert low == ["nnU-Net: Dice 0.000 with the truth", "medseg float32 / nnU-Net: Dice 0.0000, needed 0.995"]
    row = next(line for line in inference.table(runs, dice).splitlines() if line.startswith("| medseg float32 |"))
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["1.0", "2.0", "3.0", "4.00x"]
    assert "| 1 | 0.25 |" in row  # MiB, and the share of nnU-Net's


@LINUX
@pytest.mark.parametrize("name", ["medseg float32", "MONAI", "MONAI tuned"])
def test_a_program_segments_and_says_what_it_took(name, tmp_path):
    import inference

    run = tiny.untrained_run(
        tmp_path / "run", changes=("model={name: unet, features: [4, 8, 8], deep_supervision: false}",)
    )
    run.write("plan.json", run.plan.model_copy(update={"normalisation": (CT,)}).model_dump(mode="json"))
    image, _ = tiny.phantom(0)
    tiny.nifti(tmp_path / "scan_0000.nii.gz", image)
    found = inference.once(inference.programs(tmp_path, None, False)[name], name, tmp_path, 1)
    assert 0 < found["seconds"] < 600 and found["peak"] >= 0
    labels = nib.load(found["labels"])
    assert labels.shape == image.shape and np.allclose(labels.affine, tiny.AFFINE)
    assert name.startswith("medseg") or {"read", "prepare", "network", "tiles", "reduce", "write"} <= set(
        found["stages"]
    )


@LINUX
def test_memory_is_counted_from_the_start_of_the_work():
    code = "import work; held = bytearray(50 * 2**20); "
    code += 'work.measured(lambda: bytearray(b"x") * (30 * 2**20), dict, held=len(held))'
    paths = os.pathsep.join([str(tiny.ROOT / "benchmarks" / "peers"), str(tiny.ROOT)])
    environment = {**tiny.ENVIRONMENT, "PYTHONPATH": paths}  # a process of its own, whose former peak is not in the way
    ran = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    said = json.loads(ran.stdout)
    assert 29 * 2**20 < said["peak"] < 49 * 2**20


def test_the_series_and_the_file_hold_one_scan(tmp_path):
    import gpu_inference
    import phantom

    hu = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 60
    file = phantom.write(hu, tmp_path / "scan.nii.gz", gpu_inference.SPACING_MM)
    gpu_inference.dicom(hu, tmp_path / "series")
    series, scan = medseg.read(tmp_path / "series"), medseg.read(file)
    assert np.array_equal(series.array[0, ::-1, ::-1], scan.array[0])
    assert np.allclose(np.abs(series.affine[:3, :3]), np.abs(scan.affine[:3, :3]))


def test_the_gpu_benchmark_runs_through_on_a_stand_in(monkeypatch, capsys):
    """A CPU in the place of the card, and everything small."""
    import gpu_inference

    small = {"name": "stunet", "size": "S", "width": 2, "pools": [[2, 2, 2]], "deep_supervision": False}
    changes = {
        "DEVICE": "cpu",
        "MODEL": small,
        "PLANE": (24, 24),
        "PATCH": (16, 16, 16),
        "CONVOLUTIONS": ((2, 4),),
        "BACKENDS": ("eager",),
    }
    for name, value in changes.items():
        monkeypatch.setattr(gpu_inference, name, value)
    answers = {"is_available": True, "get_device_name": "a card", "max_memory_allocated": 2**30}
    for name in ("is_available", "get_device_name", "max_memory_allocated", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: answers.get(name))
    monkeypatch.setattr(sys, "argv", ["gpu_inference.py", "--slices", "12", "--rounds", "1", "--precision", "32"])
    gpu_inference.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a card, torch")
    assert "of that" in lines[2] and all(" ms a tile, " in line for line in lines[3:5])
    assert [line.partition(":")[0] for line in lines[5:]] == ["NIfTI to NIfTI", "DICOM to DICOM SEG"]
    assert all("GPU 1.00 GiB" in line for line in lines[5:])


def test_random_weights_leave_most_voxels_to_the_background(tmp_path, monkeypatch):
    import gpu_inference

    monkeypatch.setattr(gpu_inference, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_inference, "MODEL", {"name": "stunet", "size": "S", "width": 2, "deep_supervision": False})
    monkeypatch.setattr(gpu_inference, "PATCH", (64, 64, 64))
    network, _ = Run.open(gpu_inference.made_run(tmp_path / "run", "32")).load_network()
    with torch.inference_mode():
        labels = network(torch.randn(1, 1, 64, 64, 64)).argmax(1)
    assert 0.5 < (labels == 0).float().mean() < 0.95
