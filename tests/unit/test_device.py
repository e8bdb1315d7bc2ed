"""Where and in which number format: what a machine cannot do well is refused, not emulated."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch

from medseg import cores
from medseg.engine import device
from medseg.engine.forward import forward
from medseg.engine.predict import Predictor
from medseg.engine.train import train
from medseg.refusal import Refusal
from tests import tiny

CPU = torch.device("cpu")


def test_an_image_stays_where_it_is_when_others_took_the_room():
    class Image:
        nbytes = 100

        def to(self, where):
            raise torch.OutOfMemoryError("CUDA out of memory")

    image = Image()
    assert device.near(image, torch.device("cuda"), room=100) is image  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["without bf16", "with bf16"])
def bf16(request, monkeypatch) -> bool:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: request.param)
    return request.param


def test_bf16_on_a_cpu_needs_its_instructions(bf16):
    outcome = contextlib.nullcontext() if bf16 else pytest.raises(Refusal, match=r"bf16 on a CPU without bf16.*=32")
    with outcome, device.autocast(CPU, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_build_without_those_kernels(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    with pytest.raises(Refusal, match="bf16 on a CPU"):
        device.autocast(CPU, "bf16")


def test_16_on_a_cpu_is_refused_and_32_is_not(bf16):
    with pytest.raises(Refusal, match="precision: found 16 on a CPU"):
        device.autocast(CPU, "16")
    with device.autocast(CPU, "32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    device.check_precision(torch.device("cuda"), "16", where="x")


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_inference_is_refused_before_the_first_scan(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    run = tiny.untrained_run(tmp_path / "run")
    with pytest.raises(Refusal, match="precision: found"):
        Predictor.load([run.folder], device="cpu", changes=[f"precision={precision}"])
    with pytest.raises(Refusal, match="precision: found"):
        forward(torch.nn.Identity(), passes=[()], precision=precision, device=CPU)(torch.zeros(1, 1, 8, 8, 8))


@pytest.mark.parametrize("key", ["train.precision", "predict.precision"])
def test_training_is_refused_before_anything_is_written(tmp_path, monkeypatch, key):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    recipe = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    with pytest.raises(Refusal, match=f"{key}: found bf16 on a CPU"):
        train(tiny.config.load(recipe, [f"{key}=bf16"]), tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(Refusal, match="device: found 'cuda'; needed auto, or what this machine has: cpu"):
        device.choose("cuda")
    assert device.choose("auto") == CPU


def test_evaluating_restores_the_mode():
    network = torch.nn.Dropout()
    with device.evaluating(network):
        assert not network.training and torch.is_inference_mode_enabled()
    assert network.training


def test_threads():
    device.set_threads(1)
    assert torch.get_num_threads() == 1 <= cores.available_cores()
    device.tune_allocator()


class Stand:
    """In the place of a tensor in the host's memory, where there is no GPU: says what is done with it."""

    nbytes = 1000
    device = CPU

    def __init__(self):
        self.done = []

    def pin_memory(self):
        self.done.append("pinned")
        return self

    def to(self, device, **options):
        self.done.append((str(device), options))
        return self


def test_copies_to_a_gpu_do_not_wait():
    tiles = Stand()
    device.moved(tiles, torch.device("cuda"))
    assert tiles.done == ["pinned", ("cuda", {"non_blocking": True})]
    there = torch.zeros(1)
    assert device.moved(there, CPU) is there


@pytest.mark.parametrize(("where", "room", "goes"), [("cuda", 1000, True), ("cuda", 999, False), ("cpu", 1000, False)])
def test_an_image_goes_where_there_is_room_for_it(where, room, goes):
    image = Stand()
    assert device.near(image, torch.device(where), room=room) is image
    assert image.done == ([("cuda", {})] if goes else [])


@pytest.mark.parametrize("deterministic", [False, True])
def test_kernels_are_chosen_by_time_unless_runs_are_to_repeat(monkeypatch, deterministic):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", deterministic)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    device.tune_kernels(CPU)
    assert torch.backends.cudnn.benchmark is deterministic
    device.tune_kernels(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark is not deterministic


def test_threads_are_the_real_cores_unless_a_number_is_given(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(device.cores, "physical_cores", lambda: 5)
    for said in ("", "0", "many", "2", " 7,2 "):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        device.set_threads(0)
    device.set_threads(3)
    assert told == [5, 5, 5, 2, 7, 3]


def settings() -> tuple[bool, ...]:
    kernels = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), kernels.benchmark, kernels.deterministic


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_kernels_repeat_within_and_are_as_before_afterwards(monkeypatch, kind):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    with pytest.raises(ZeroDivisionError), device.repeatable(torch.device(kind), wanted=True):
        assert settings() == (True, False, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (":4096:8" if kind == "cuda" else "")
        raise ZeroDivisionError
    assert settings() == before == (False, True, False)
    with device.repeatable(torch.device(kind), wanted=False):
        assert settings() == before


@pytest.mark.parametrize(("workspace", "fits"), [("", False), (":1:1", False), (":16:8", True), (":4096:8", True)])
def test_it_is_too_late_to_repeat_once_cuda_runs(monkeypatch, workspace, fits):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    late = pytest.raises(Refusal, match=r"train\.deterministic: .*after CUDA was started.*=:4096:8 before")
    with contextlib.nullcontext() if fits else late, device.repeatable(torch.device("cuda"), wanted=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == workspace
    assert not torch.are_deterministic_algorithms_enabled()
