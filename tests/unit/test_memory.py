"""Sizes as people write them, what a process may take, what a network needs, and memory that comes back."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import memory as peaks
from medseg import scratch
from medseg.case import Case
from medseg.engine import bench, device, memory, need
from medseg.engine.batch import predict_all
from medseg.engine.forecast import Forecast
from medseg.engine.forward import forward
from medseg.engine.memory import GIB, MIB, Limits
from medseg.engine.predict import Predictor
from medseg.plugins import find
from medseg.progress import Step
from medseg.readers import read
from medseg.refusal import Refusal
from tests import tiny

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GiB", 6 * GIB), ("6GB", 6 * 10**9), ("500MiB", 500 * MIB), (" 1.5 gib ", 3 * GIB // 2), ("1048576B", MIB)],
)
def test_sizes(text, count):
    assert Limits.of(text, text) == Limits(count, count)


@pytest.mark.parametrize("text", ["6", "6G", "GiB", "", "-1GiB", "0GiB", "six GiB", "6GiB6"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(Refusal, match=r"--max-gpu-memory: found .* needed a size with its unit"):
        Limits.of(None, text)


def test_a_limit_is_refused_before_the_model_is_loaded(tmp_path):
    said = tiny.medseg_command("predict", tmp_path / "no-run", tmp_path, tmp_path / "out", "--max-memory", "lots")
    assert said.code == 2 and "--max-memory: found 'lots'" in said.err


def test_a_limit_and_cases_side_by_side_are_refused(tmp_path):
    words = ("predict", tmp_path / "no-run", tmp_path, tmp_path / "out", "--max-memory", "1GiB", "--ahead")
    said = tiny.medseg_command(*words)
    assert said.code == 2 and "--ahead: found it beside --max-memory" in said.err


def groups(root: Path, own: str, **limits: str) -> list[int]:
    for name, text in limits.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    root.mkdir(exist_ok=True)
    (root / "own").write_text(own, encoding="ascii")
    return memory.container_limits(root, root / "own")


def test_limits_of_containers(tmp_path):
    two = {"pod/memory.max": "max\n", "pod/box/memory.max": "2147483648\n", "other/memory.max": "5\n"}
    assert groups(tmp_path / "2", "0::/pod/box\n", **two) == [2147483648]
    one = {"memory/docker/memory.limit_in_bytes": "1000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}
    own = "5:devices:/docker\n4:cpu,memory:/docker\n0::/\n"
    assert groups(tmp_path / "1", own, **one) == [1000, 9223372036854771712]
    assert groups(tmp_path / "0", "0::/gone\n") == memory.container_limits(tmp_path, tmp_path / "no file") == []


def test_a_step_may_take_a_share_of_what_there_is_or_a_container_may_have(monkeypatch):
    monkeypatch.setattr(memory, "container_limits", list)
    assert 0.1 * GIB < memory.of_a_step(torch.device("cpu")) < 10_000 * GIB
    monkeypatch.setattr(memory, "container_limits", lambda: [GIB // 8, 2**60])
    assert memory.of_a_step(torch.device("cpu")) == GIB // 16


def test_work_that_ran_out_of_memory_is_done_once_more(monkeypatch):
    given_back = []
    monkeypatch.setattr(memory.devices, "give_back", lambda **how: given_back.append(how))
    answers = [torch.OutOfMemoryError("CUDA out of memory"), "done"]

    def work() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert memory.again(work) == "done" and given_back == [{"after_error": True}]
    answers[:] = [MemoryError(), MemoryError(), "done"]
    with pytest.raises(MemoryError):
        memory.again(work)
    answers[:] = [RuntimeError("expected 3 channels"), "done"]
    with pytest.raises(RuntimeError, match="channels"):
        memory.again(work)
    assert len(given_back) == 2


@LINUX
def test_without_a_flag_the_limit_is_what_is_free(monkeypatch):
    here = memory.available()
    assert memory.resident() < here < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert Limits().host_bytes() == pytest.approx(here, rel=0.3) and Limits(7).host_bytes() == 7
    monkeypatch.setattr(memory, "container_limits", lambda: [10**9, 10**8])
    assert memory.available() == int(memory.MARGIN * 10**8)


@LINUX
def test_resident_is_what_the_system_says():
    code = """
import torch
from medseg.engine import memory
before = memory.resident()
held = torch.ones(10 * 2**20)
print(memory.resident() - before)
"""  # a process of its own: what another test has freed would be taken up first
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, env=tiny.ENVIRONMENT, capture_output=True, text=True
    )
    assert 35 * MIB < int(said.stdout) < 60 * MIB


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB"), True),
        (RuntimeError("expected 5-D input"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_a_lack_of_memory(error, lacking):
    assert memory.ran_out(error) == lacking


@pytest.mark.parametrize(
    ("error", "gpu"),
    [
        (torch.OutOfMemoryError("Allocation on device"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."), False),
        (MemoryError(), False),
    ],
)
def test_whose_memory_was_lacking(error, gpu):
    """Else a plan would take less of the other one."""
    assert memory.ran_out(error) and memory.on_gpu(error) == gpu


class Wide(nn.Module):
    """Four maps of 16 channels and answers of 8 are the most that is alive at once: see below."""

    def __init__(self, smallest: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000))
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.smallest:
            raise RuntimeError("too small")
        table = self.weight * 2  # 4,000 bytes whatever the tile
        one = x.expand(-1, 16, -1, -1, -1) + table[0]
        other = one.relu()
        both = torch.cat([one, other], dim=1)  # 16 + 16 + 32 channels are alive here
        del one, other
        return both[:, :8] + 1


@pytest.mark.parametrize("smallest", [1, 64])
def test_a_need_is_told_from_small_tiles_or_else_from_a_whole_one(smallest):
    net = Wide(smallest)
    run = forward(net, passes=[()], precision="32", device=CPU)
    found = need.measure(run, channels=1, tile=(96, 64, 64), divisor=(1, 1, 1), device=CPU)
    voxels = 96 * 64 * 64
    alive, answers = 64 * 4 * voxels + 4004, 2 * 8 * 4 * voxels
    expected = need.SLACK["cpu"] * (alive - answers) + need.ANSWERS["cpu"] * answers
    assert found.of((96, 64, 64)) == pytest.approx(expected, rel=1e-3)
    assert found.of((96, 64, 64), 3) == pytest.approx(3 * expected, rel=1e-2)
    assert (found.fixed > 0) == (smallest == 1)


@pytest.mark.parametrize(
    ("name", "options", "sides"),
    [("residual_unet", {"channels": [8, 16]}, (64, 32, 32)), ("stunet", {"width": 4}, (96, 32, 32))],
)
def test_small_tiles_foretell_a_whole_one(name, options, sides):
    module = find("models", name)
    made = module.Options(**options)
    run = forward(
        module.build(made, in_channels=1, out_channels=20).eval(), passes=[(), (2,)], precision="32", device=CPU
    )
    foretold = need.measure(run, channels=1, tile=(*sides[:2], 64), divisor=module.divisor(made), device=CPU)
    seen = need.measure(run, channels=1, tile=(*sides[:2], 64), divisor=None, device=CPU)
    assert seen.fixed == 0 and foretold.of((*sides[:2], 64)) == pytest.approx(seen.of((*sides[:2], 64)), rel=0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return peaks.make_run(tmp_path_factory.mktemp("model") / "run", classes=150, patch=32, channels=(4, 8))


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    return peaks.make_scan(tmp_path_factory.mktemp("scan") / "scan.nii", (64, 80, 48), (96, 96, 32))


@LINUX
def test_a_process_stays_within_its_limit_and_gives_the_same_labels(model, scan, tmp_path):
    """The plan with memory enough, the smallest limit that a refusal names, and one that is cut into blocks."""
    free = peaks.predict(model, scan, tmp_path / "free", threads=1)
    assert free.code == 0 and free.estimate_mib is not None and free.peak_mib < free.estimate_mib
    told = free.told.splitlines()
    assert "96 x 96 x 32 voxels, 150 classes: along" in told[0] and "segmenting" not in told[0]
    refused = peaks.predict(model, scan, tmp_path / "none", "--max-memory", "100MiB", threads=1)
    least = int(re.search(r"needed at least (\d+) MiB", refused.told)[1])  # type: ignore[index]
    assert refused.code == 1 and [path.name for path in (tmp_path / "none").iterdir()] == ["predict.json"]
    tight = peaks.predict(model, scan, tmp_path / "tight", "--max-memory", f"{least}MiB", threads=1)
    assert tight.code == 0 and tight.peak_mib < least < free.peak_mib, (tight, free)
    assert re.search(r"in \d+ blocks", tight.told)
    assert [path.name for path in (tmp_path / "tight").glob(".*")] == []
    files = [(tmp_path / name / "scan.nii.gz").read_bytes() for name in ("free", "tight")]
    assert files[0] == files[1]
    facts = json.loads((tmp_path / "tight" / "predict.json").read_text(encoding="utf-8"))["cases"][0]["facts"]
    assert facts["memory_plan"] in tight.told and facts["memory_estimate_mib"] <= least


@LINUX
def test_arrays_on_the_disk_give_the_same_labels_and_leave_no_file(model, scan, tmp_path, monkeypatch):
    """A small limit, as far as the arrays of a small scan are concerned."""
    small = peaks.make_scan(tmp_path / "in" / "scan.nii", (20, 30, 20), (40, 30, 20))
    predictor = Predictor.load([model], device="cpu")
    on_disk: list[set[str]] = []
    names: list[set[str]] = []

    def watch(step: Step) -> None:
        if step.stage == "network":
            mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
            on_disk.append({line for line in mapped if str(tmp_path) in line and "(deleted)" in line})
            names.append({path.name for path in (tmp_path / "disk").iterdir()})

    for name, share in (("disk", 10**12), ("memory", bench.SCRATCH_SHARE)):
        monkeypatch.setattr(bench, "SCRATCH_SHARE", share)
        cases = [Case("scan", "p", images={"CT": small})]
        step = watch if name == "disk" else None
        [outcome] = predict_all(predictor, cases, tmp_path / name, announce=lambda _: None, on_step=step)
        assert outcome.state == "done", outcome.reason
    assert len(on_disk[0]) >= 2 and names[0] <= {"predict.json"}, "the image and the labels, without a name"
    files = [(tmp_path / name / "scan.nii.gz").read_bytes() for name in ("disk", "memory")]
    assert files[0] == files[1]
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"scan.nii.gz", "predict.json"}


CANCELLED = """
import sys, time, gc, re
from pathlib import Path
from medseg.engine.predict import Predictor
from medseg.engine.batch import predict_all
from medseg import scratch
from medseg.case import Case
from medseg.progress import Cancelled

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

run, scan, out = map(Path, sys.argv[1:])
predictor = Predictor.load([run], device="cpu")
predictor.planner.need
peak = before = 0.0

def on_step(step):
    global peak
    peak = max(peak, anonymous())
    if step.done and step.done > 8:
        raise Cancelled

before = anonymous()
cases = [Case("scan", "p", images={"CT": scan})]
[outcome] = predict_all(predictor, cases, out, on_step=on_step, announce=lambda _: None)
started = time.monotonic()
while anonymous() > before + 40 and time.monotonic() < started + 2:
    pass
print(outcome.state, before, peak, anonymous())
"""


@LINUX
def test_a_cancelled_case_holds_nothing(model, scan, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CANCELLED, str(model), str(scan), str(tmp_path / "out")],
        env={**tiny.ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tiny.ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=True,
    )
    state, before, peak, after = done.stdout.split()
    assert state == "cancelled"
    assert float(peak) > float(before) + 120, "it held something"
    assert float(after) < float(before) + 40, done.stdout


@LINUX
def test_arrays_on_the_disk_are_let_go_of_and_keep_what_they_hold(tmp_path):
    with scratch.on_disk(tmp_path, above=0):
        array = scratch.zeros((1, 40, 512, 512), np.float32)
    array[:] = 3
    before = memory.resident()
    scratch.let_go_all()
    assert before - memory.resident() > 35 * MIB
    assert (array[0, ::7] == 3).all()


def test_the_plan_is_told_before_the_first_tile(model, scan):
    predictor, told = Predictor.load([model], device="cpu", limits=Limits.of("64GiB")), []
    predictor.predict(
        read(scan), "x", lambda done, total: told.append((done, total)), roi="0:20,0:20,:", on_forecast=told.append
    )
    assert "of 64.0 GiB" in told[0].sentence() and told[1] == (1, told[1][1]) and len(told) == 1 + told[1][1]


@LINUX
def test_what_the_allocator_keeps_is_given_back():
    code = (
        "import torch\nfrom medseg.engine import device, memory\ndevice.tune_allocator()\n"
        "small = [torch.ones(100_000) for _ in range(500)]\nkept = small[::10]\ndel small\n"
        "before = memory.resident()\ndevice.give_back()\nprint((before - memory.resident()) // 2**20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=tiny.ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 120


HOLES = """
import torch
from medseg.engine import device, memory
device.tune_allocator(exact=True)
size, kept, most = 5_000_000, [], 0
torch.set_num_threads(1)
torch.ones(size).mul(2)  # what is loaded when it is first used
before = memory.resident()
for round in range(20):  # what a network does: a map is made of another, which is let go of; small things stay
    one = torch.ones(size + 4 * round)
    other = one * 2
    del one
    kept += [torch.ones(100 + step) for step in range(20)]
    one = torch.cat([other, other])
    most = max(most, memory.resident() - before)
    del other, one
print(most / (3 * 4 * size), (memory.resident() - before) / 2**20)
"""


@LINUX
def test_under_a_limit_the_allocator_keeps_nothing():
    ran = [sys.executable, "-c", HOLES]
    done = subprocess.run(ran, env=tiny.ENVIRONMENT, capture_output=True, text=True, check=True)
    most, left = map(float, done.stdout.split())
    assert 1 <= most < 1.2 and left < 12, "pages of 2 MiB, and what torch itself has loaded"


@pytest.mark.parametrize(("limit", "exact"), [(None, False), ("8GiB", True)])
def test_a_limit_decides_how_memory_is_kept(model, scan, monkeypatch, limit, exact):
    asked: list[bool] = []

    def tune(*, exact=False):
        asked.append(exact)
        return True

    monkeypatch.setattr(device, "tune_allocator", tune)
    monkeypatch.setattr(memory, "available", lambda: 64 * GIB)
    predictor = Predictor.load([model], device="cpu", limits=Limits.of(limit))
    predictor.predict_volume(read(scan), "x", roi="0:20,0:20,:")
    assert predictor.exact == exact and set(asked) == {exact}
    if limit is None:  # and how little there is
        monkeypatch.setattr(memory, "available", lambda: 3 * memory.resident() // 2)
        said: list[Forecast] = []
        predictor.predict_volume(read(scan), "x", roi="0:20,0:20,:", on_forecast=said.append)
        assert asked[-1] and said[0].task.need.per_voxel < predictor.planner.need.per_voxel
        monkeypatch.setattr(memory, "available", lambda: 64 * GIB)
        predictor.predict_volume(read(scan), "x", roi="0:20,0:20,:")
        assert not asked[-1], "as before, when there is room again"


def test_where_the_allocator_cannot_be_told_the_plan_expects_holes(model, monkeypatch):
    monkeypatch.setattr(device, "tune_allocator", lambda *, exact=False: False)
    assert not Predictor.load([model], device="cpu", limits=Limits.of("8GiB")).exact


@pytest.mark.parametrize("after_error", [False, True])
def test_what_a_traceback_holds_in_a_circle_is_let_go_of_after_an_error(after_error):
    class Held:
        """Stands for the arrays of a frame."""

    def fails():
        held = Held()
        seen.append(weakref.ref(held))
        try:
            raise ValueError
        except ValueError as error:
            kept = error  # which knows the frame, which knows it
            assert kept is not None

    seen: list[weakref.ref[Held]] = []
    gc.disable()
    try:
        fails()
        device.give_back(after_error=after_error)
        assert (seen[0]() is None) == after_error
    finally:
        gc.enable()


def test_giving_back_empties_the_cache_of_a_gpu(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(time.monotonic()))
    device.give_back()
    assert len(emptied) == 1


def test_torch_is_told_of_the_limit_of_a_gpu(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append(share))
    Limits.of("1GiB").enforce(torch.device("cuda"))
    Limits.of("1GiB", "12GiB").enforce(CPU)
    assert told == []
    Limits.of("1GiB", "12GiB").enforce(torch.device("cuda"))
    assert told == [pytest.approx((12 * GIB - memory.CUDA_CONTEXT) / (24 * GIB))]


def test_tiles_that_are_seen_again_are_counted(model, scan):
    """Memory runs out once; what was under way is done again with less."""
    predictor = Predictor.load([model], device="cpu", changes=["skip_air=false"])
    [member], calls = predictor.members, []

    def short(tiles):
        calls.append(len(tiles))
        if len(calls) == 3:
            raise MemoryError
        return member.run(tiles)

    said: list[tuple[int, int]] = []
    found = replace(predictor, members=(replace(member, run=short),)).predict_volume(
        read(scan), "x", lambda *step: said.append(step)
    )
    undisturbed = predictor.predict_volume(read(scan), "x")
    assert (found.target.array == undisturbed.target.array).all()
    assert found.facts["tiles"] == said[-1][0] == said[-1][1] == len(calls) - 1 > undisturbed.facts["tiles"]
