"""What only a CUDA device can show: the same labels as a CPU, limits that hold, and memory that is given back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medseg.engine import backends, forward
from medseg.engine import device as devices
from medseg.engine.memory import CUDA_CONTEXT, Limits
from medseg.engine.predict import Predictor
from medseg.layers import InstanceNorm, channels_innermost
from medseg.progress import Cancelled
from medseg.volume import Volume
from tests import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact():
    """float32 as a CPU has it, and nothing held from the test before."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    devices.give_back(after_error=True)
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def run(tmp_path):
    made = tiny.untrained_run(tmp_path / "run", changes=("model.channels=[16, 32]",))
    made.write("plan.json", made.plan.model_copy(update={"patch": (64, 64, 64)}).model_dump(mode="json"))
    return made.folder


@pytest.fixture
def scan() -> Volume:
    return Volume(tiny.phantom(3, (120, 110, 100))[0][None], tiny.AFFINE)


@pytest.mark.parametrize("sides", [(9, 8, 7), (9, 8)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_norms_leave_the_channels_innermost(sides, batch, kind):
    torch.manual_seed(0)
    norm = InstanceNorm(6).to(CUDA)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    layout = torch.channels_last_3d if len(sides) == 3 else torch.channels_last
    x = (5 + torch.randn(batch, 6, *sides, device=CUDA)).to(kind).contiguous(memory_format=layout)
    with torch.no_grad():
        found = norm(x)
        plain = nn.functional.instance_norm(x.double(), None, None, norm.weight.double(), norm.bias.double())
        spelled = norm._spelled_out(x)
    assert channels_innermost(found) and found.dtype == kind
    for one in (found, spelled):
        torch.testing.assert_close(
            one.double(),
            plain,
            **({"rtol": 1e-5, "atol": 1e-5} if kind == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}),
        )


@pytest.mark.parametrize("backend", ["eager", "compile"])
def test_labels_are_those_of_the_processor(run, scan, backend):
    predictor = Predictor.load([run], device="cuda", changes=[f"backend={backend}", "precision=32"])
    there = predictor.predict_volume(scan, "a", probabilities=True)
    here = Predictor.load([run], device="cpu", changes=["backend=eager", "precision=32"])
    expected = here.predict_volume(scan, "a", probabilities=True)
    assert predictor.provenance["backend"].startswith(backend) and there.facts["gpu_estimate_mib"] > 0
    assert np.abs(there.probabilities - expected.probabilities).max() < 1e-3
    assert (there.target.array != expected.target.array).mean() < 1e-3


def test_a_limit_holds_and_changes_no_label(run, scan):
    free = Predictor.load([run], device="cuda", changes=["precision=32"])
    expected = free.predict_volume(scan, "a")
    with torch.cuda.device(CUDA):
        limit = CUDA_CONTEXT + 500 * 2**20
        small = Predictor.load([run], device="cuda", changes=["precision=32"], limits=Limits(gpu=limit))
        devices.give_back(after_error=True)
        torch.cuda.reset_peak_memory_stats()
        found = small.predict_volume(scan, "a")
        assert torch.cuda.max_memory_reserved() + CUDA_CONTEXT <= limit
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (found.target.array != expected.target.array).mean() < 1e-4


def test_when_the_memory_runs_out_it_goes_on_with_less(run, scan):
    """The plan knows nothing of the others on the card: here, all but a little of it is taken when the work begins."""
    predictor = Predictor.load([run], device="cuda", changes=["precision=32"])
    expected = predictor.predict_volume(scan, "a")
    told, seen = [], []
    total = torch.cuda.get_device_properties(CUDA).total_memory
    devices.give_back(after_error=True)

    def forecast(found):
        told.append(found)
        if len(told) == 1:  # for a tile or two, and not for eight
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / total)

    try:
        found = predictor.predict_volume(scan, "a", lambda *step: seen.append(step), on_forecast=forecast)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(told) > 1 and told[1].layout.batch < told[0].layout.batch
    assert (found.target.array != expected.target.array).mean() < 1e-4
    assert seen[-1][0] == seen[-1][1]


def test_a_cancelled_scan_leaves_nothing_on_the_card(run, scan):
    predictor = Predictor.load([run], device="cuda")
    predictor.predict_volume(scan, "a")
    devices.give_back(after_error=True)
    before = torch.cuda.memory_allocated()

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        predictor.predict_volume(scan, "a", stop)
    devices.give_back(after_error=True)
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.memory_reserved() < before + 64 * 2**20


def test_compiled_convolutions_are_those_of_the_layers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), InstanceNorm(8), nn.LeakyReLU(), nn.Conv3d(8, 3, 3, 2, 1))
    network = network.to(CUDA).eval()
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        plain = network(x.to(CUDA))
    run = forward.once(forward.channels_last(network), precision="32", device=CUDA)
    torch.testing.assert_close(run(x), plain, rtol=1e-4, atol=1e-4)
    compiled = backends.MAKERS["compile"](network, "32", CUDA)(x)
    assert compiled.is_contiguous()
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)
