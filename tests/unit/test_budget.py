"""Work on a scan is cut up to stay within a limit, and goes on where it was when memory runs out."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from torch import Tensor

from medseg import scratch
from medseg.engine import budget, memory, tiles
from medseg.engine.forecast import Forecast, Task
from medseg.engine.memory import MIB, Limits
from medseg.engine.need import Need
from medseg.engine.segment import Layout, count_tiles, segment
from medseg.engine.tiles import Seen, Tiling
from medseg.refusal import Refusal
from medseg.transforms import slabs
from medseg.transforms.native import everything
from medseg.transforms.prepare import Undo

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BIG = ((400, 320, 320), (512, 512, 300), (96, 96, 96))
"""Prepared, native, tile."""


@pytest.fixture(autouse=True)
def a_process_of_100_mib(monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda: 100 * MIB)


def undo_of(prepared, native) -> Undo:
    crop = tuple((0, size) for size in native)
    rows = tuple(map(tuple, np.eye(4).tolist()))
    return Undo(native, rows, (0, 1, 2), (False,) * 3, crop, prepared)  # type: ignore[arg-type]


def task(prepared=(40, 30, 20), native=(30, 40, 20), tile=(8, 8, 8), **changes) -> Task:
    undo = undo_of(prepared, native)
    usual = {
        "orientation": "RAS",
        "need": Need(0, 100),
        "channels": 5,
        "device": CPU,
        "tiling": Tiling.of(prepared, tile, overlap=0.5),
    }
    return Task(undo, **{**usual, **changes})


def big(**changes) -> Task:
    images = (4 * 400 * 320 * 320,)
    return task(*BIG, **{"channels": 105, "need": Need(0, 1500), "images": images, **changes})


def blocks_are_the_crop(forecast: Forecast) -> bool:
    """Every voxel lies in one block."""
    seen = np.zeros(forecast.task.undo.cropped, np.uint8)
    for block in forecast.layout.blocks:
        seen[block] += 1
    return bool((seen == 1).all())


def test_with_memory_enough_there_is_one_block_along_the_body():
    forecast = budget.plan(big(), Limits(64 * 2**30))
    assert forecast.layout == Layout(2, (everything((512, 512, 300)),), 1, torch.float32, "cpu")
    assert forecast.sentence() == (
        "400 x 320 x 320 voxels, 105 classes: along inferior-superior, means in float32 on the CPU; "
        f"about {memory.text(forecast.host.total)} of 64.0 GiB"
    )
    window = 400 * 320 * (96 + 3)  # a native row is made of two prepared ones, and so is the one that waits
    assert abs(forecast.host.means / (window * (105 * 4 + 4)) - 1) < 0.02
    assert forecast.to_json()["memory_estimate_mib"] == round(forecast.host.total / MIB)


def test_the_body_need_not_be_the_last_axis():
    forecast = budget.plan(big(orientation="SRA"), Limits(64 * 2**30))
    assert forecast.layout.axis == 0 and "along inferior-superior" in forecast.sentence()


def test_less_memory_costs_tiles():
    before = budget.plan(big(), Limits(64 * 2**30))
    for limit in (8.0, 6, 5, 4, 3, 2.5):
        forecast = budget.plan(big(), Limits(int(limit * 2**30)))
        assert forecast.host.total <= limit * 2**30 and blocks_are_the_crop(forecast)
        assert forecast.tiles >= before.tiles and forecast.layout.kind == torch.float32
        before = forecast
    assert len(before.layout.blocks) > 4 and f"in {len(before.layout.blocks)} blocks" in before.sentence()
    with pytest.raises(Refusal) as refused:
        budget.plan(big(), Limits(2**30))
    least = int(re.search(r"at least (\d+) MiB", str(refused.value))[1])  # type: ignore[index]
    assert f"raise it to --max-memory {least}MiB" in str(refused.value)
    last = budget.plan(big(), Limits(least * MIB))
    assert last.host.total <= least * MIB
    for axis, (prepared, native, tile) in enumerate(zip(*BIG, strict=True)):
        shortest = min(block[axis].stop - block[axis].start for block in last.layout.blocks)
        assert shortest * prepared / native >= tile / 2 - 1


def test_half_precision_comes_last():
    """Where no number of blocks makes room for float32."""
    subject = big(channels=500, need=Need(0, 0))
    ways = list(budget._ways(subject, [everything((512, 512, 300))]))
    totals = {
        kind: min(way.host(subject, 1, 164 * MIB, np.inf).total for way in ways if way.kind == kind)
        for kind in (torch.float32, torch.float16)
    }
    assert totals[torch.float16] < totals[torch.float32]
    assert budget.plan(subject, Limits(totals[torch.float32])).layout.kind == torch.float32
    assert budget.plan(subject, Limits(totals[torch.float32] - 1)).layout.kind == torch.float16


def test_what_is_free_is_said_to_be_that(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 200 * MIB)
    with pytest.raises(Refusal, match=r"found 200 MiB that may be taken; .* end other programs"):
        budget.plan(big(), memory.FREE)


def test_the_fewest_tiles_are_taken_among_what_fits():
    limit = Limits(4 * 2**30)
    best = budget.plan(big(), limit)
    others = [way for way in budget._ways(big(), [everything((512, 512, 300))]) if way.kind == torch.float32]
    held = [way for way in others if way.host(big(), 1, budget._process(big())[0], np.inf).total <= limit.host]
    assert best.tiles == min(way.cut.tiles for way in held)


sizes = some.tuples(*(some.integers(1, 60) for _ in range(3)))


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, some.sampled_from([(8, 8, 8), (16, 8, 1), (32, 4, 8)]), some.sampled_from([0, 1, 3]), some.data())
def test_a_plan_stays_within_its_limit_or_names_one_that_does(prepared, native, tile, order, data):
    one = task(prepared, native, tile, order=order, images=(4 * 60**3,), results=(10**6, 10**7), kept=3)
    limit = data.draw(some.integers(165 * MIB, 200 * MIB))
    try:
        forecast = budget.plan(one, Limits(limit))
    except Refusal as refusal:
        limit = MIB * int(re.search(r"at least (\d+) MiB", str(refusal))[1])  # type: ignore[index]
        forecast = budget.plan(one, Limits(limit))
    assert forecast.host.total <= limit and blocks_are_the_crop(forecast)
    assert forecast.tiles == count_tiles(one.tiling, one.undo, forecast.layout, order=order)


def test_the_limit_that_is_named_counts_what_goes_to_the_disk(tmp_path):
    whole_scan = big(results=(60 * MIB, 50 * MIB), images=(2 * 2**30,))
    with scratch.on_disk(tmp_path, above=2**20), pytest.raises(Refusal) as refused:
        budget.plan(whole_scan, Limits(300 * MIB))
    least = MIB * int(re.search(r"at least (\d+) MiB", str(refused.value))[1])  # type: ignore[index]
    with pytest.raises(Refusal):
        budget.plan(whole_scan, Limits(least + 500 * MIB))
    with scratch.on_disk(tmp_path, above=least / budget.SCRATCH_SHARE):
        assert budget.plan(whole_scan, Limits(least)).host.total <= least


class Net:
    """The same for each tile, whatever the batch; says where in a tile a voxel lies."""

    def __init__(self, channels: int = 3):
        self.weights = torch.randn(channels, generator=torch.Generator().manual_seed(0)).reshape(1, -1, 1, 1, 1)
        self.batches: list[int] = []

    def __call__(self, seen: Tensor) -> Tensor:
        self.batches.append(len(seen))
        return self.weights * (seen + torch.linspace(-1, 1, seen.shape[2]).reshape(-1, 1, 1))


@settings(max_examples=20, deadline=None)
@given(sizes, sizes, some.data())
def test_means_are_what_a_stream_takes(prepared, native, data):
    """Counted where they are made."""
    made: list[int] = []

    class Window(tiles._Window):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self._mean.nbytes + self._norm.nbytes)

    assume(np.prod(prepared) < 20_000)
    subject = task(prepared, native, (16, 16, 16), channels=3)
    cut = data.draw(some.sampled_from(list(budget.cuts(subject.undo, subject.tiling, [everything(native)], 1))))
    members = [Seen(torch.zeros(1, *prepared), Net())]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiles, "_Window", Window)
        layout = Layout(cut.axis, cut.blocks)
        segment(members, subject.tiling, subject.undo, layout, channels=3, exclusive=True)
    assert max(made) == budget._Way(cut, torch.float32, "cpu").means(subject)


class Short(Net):
    """Memory runs out at some calls, or for large batches."""

    def __init__(self, *, at: tuple[int, ...] = (), above: int = 99, error: Exception | None = None):
        super().__init__()
        self.at, self.above, self.error = at, above, error or torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, seen: Tensor) -> Tensor:
        answers = super().__call__(seen)
        if len(self.batches) in self.at or len(seen) > self.above:
            raise self.error
        return answers


def run(net: Net, *, batch: int = 1, need: float = 2000, exclusive: bool = True, tell=None) -> np.ndarray:
    """Labels of noise; 7 x 5 x 4 tiles."""
    subject = task((32, 24, 20), (30, 28, 20), need=Need(0, need), batch=batch, channels=3)
    image = torch.randn(1, 32, 24, 20, generator=torch.Generator().manual_seed(1))
    course = budget.Course(subject, Limits(2**30), tell=tell)
    done: list[tuple[int, int]] = []
    labels = segment(
        [Seen(image, net)],
        subject.tiling,
        subject.undo,
        course.forecast.layout,
        channels=3,
        exclusive=exclusive,
        smaller=course.smaller,
        on_tile=lambda *step: done.append(step),
    )
    assert done[-1][0] == done[-1][1] and [step[0] for step in done] == sorted(step[0] for step in done)
    return labels


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_batch_that_is_too_large_is_halved(exclusive):
    said: list[Forecast] = []
    net = Short(above=2)
    labels = run(net, batch=8, tell=said.append, exclusive=exclusive)
    assert (labels == run(Net(), exclusive=exclusive)).all() and set(np.unique(labels)) == (
        {0, 2} if exclusive else {0, 1}
    )
    assert [forecast.layout.batch for forecast in said] == [8, 4, 2] and max(net.batches[2:]) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
@pytest.mark.parametrize("at", [1, 50, 139])
def test_work_goes_on_from_the_last_finished_row(error, at):
    undisturbed, net, said = Net(), Short(at=(at,), error=error), []
    expected = run(undisturbed)
    assert (run(net, tell=said.append) == expected).all()
    assert len(undisturbed.batches) == 7 * 5 * 4
    assert len(said) == 2 and said[1].host.working < said[0].host.working
    band = 7 * 5
    seams = said[1].tiles - min(140, said[1].tiles)  # what is left is cut into more blocks
    assert len(net.batches) <= 140 + 3 * band + seams


def test_rows_that_have_labels_are_not_worked_on_again():
    said: list[Forecast] = []
    run(Short(at=(139,)), tell=said.append)
    assert said[1].tiles <= 140 / 2
    assert all(block[said[0].layout.axis].start > 10 for block in said[1].layout.blocks)


def test_where_nothing_smaller_is_left_it_is_refused_with_numbers():
    with pytest.raises(Refusal, match=r"memory: found that it ran out with about \d+ MiB in use, and no way"):
        run(Short(above=0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    for error in (RuntimeError("shapes do not fit"), ValueError("out of memory")):
        with pytest.raises(type(error), match=str(error)):
            run(Short(at=(3,), error=error))


def test_without_a_plan_the_error_goes_on():
    subject = task((16, 16, 16), (16, 16, 16), channels=3)
    members = [Seen(torch.zeros(1, 16, 16, 16), Short(at=(2,)))]
    layout = Layout(0, (everything((16, 16, 16)),))
    with pytest.raises(torch.OutOfMemoryError):
        segment(members, subject.tiling, subject.undo, layout, channels=3, exclusive=True)


@pytest.fixture
def gpu(monkeypatch):
    """A card of 24 GiB with 20 free, as torch tells of one."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * 2**30, 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2**29)
    return lambda text=None: Limits.of("64GiB", text)


def test_a_gpu_collects_answers_itself_as_far_as_it_can(gpu):
    forecast = budget.plan(big(device=CUDA), gpu())
    assert forecast.layout.home == "cuda" and forecast.layout.batch == 8 and len(forecast.layout.blocks) == 1
    assert forecast.gpu is not None and forecast.gpu.means > 0 and forecast.host.means == forecast.host.network == 0
    assert re.search(r"8 tiles at a time, means in float32 on the GPU; about .* on the GPU$", forecast.sentence())
    assert "gpu_estimate_mib" in forecast.to_json()


def test_a_smaller_gpu_takes_smaller_batches_then_blocks_then_the_host(gpu):
    seen = []
    for limit in ("12GiB", "8GiB", "5GiB", "3GiB"):
        forecast = budget.plan(big(device=CUDA), gpu(limit))
        assert forecast.gpu is not None and forecast.gpu.total + memory.CUDA_CONTEXT <= memory.size(limit, where="")
        seen.append((forecast.layout.home, len(forecast.layout.blocks) > 1, forecast.layout.batch))
    assert seen == [("cuda", False, 4), ("cuda", False, 1), ("cuda", True, 1), ("cpu", False, 1)]
    with pytest.raises(Refusal, match=r"GPU memory: .* raise it to --max-gpu-memory (\d+)MiB") as refused:
        budget.plan(big(device=CUDA), gpu("1GiB"))
    least = re.search(r"--max-gpu-memory (\w+)", str(refused.value))[1]  # type: ignore[index]
    budget.plan(big(device=CUDA), gpu(least))


def test_all_channels_at_once_take_small_pieces_on_a_gpu_too(gpu):
    """Where probabilities are kept; what is large for one channel is a hundred times as much then."""
    plain, kept = (budget.plan(big(device=CUDA, kept=count), gpu()) for count in (0, 104))
    here = budget.plan(big(kept=104), Limits(64 * 2**30))
    assert plain.gpu and kept.gpu and kept.layout.axis == here.layout.axis
    assert kept.gpu.reducing == here.host.reducing < 2**28 < 32 * plain.gpu.reducing


def test_a_gpu_that_runs_out_is_asked_for_less_and_the_host_is_not(gpu):
    first = budget.plan(big(device=CUDA, batch=1), gpu())
    second = budget.smaller(first, first.layout.blocks, gpu=True)
    assert first.gpu and second.gpu and second.gpu.working < 0.7 * first.gpu.working
    on_host = budget.plan(big(device=CUDA, batch=1), gpu("3GiB"))
    assert on_host.layout.home == "cpu"
    third = budget.smaller(on_host, on_host.layout.blocks, gpu=False)
    assert third.host.working < 0.7 * on_host.host.working


def test_a_gpu_prepares_scans_too(gpu):
    """A network that takes less than the slabs of a scan."""
    small = task(BIG[0], BIG[1], (8, 8, 8), device=CUDA, channels=2, need=Need(0, 10), images=(1,), batch=1)
    forecast = budget.plan(small, gpu("30GiB"))
    assert forecast.gpu and forecast.gpu.preparing == budget.SLABS * 4 * slabs.VOXELS
    assert forecast.gpu.total >= 2**29 + forecast.gpu.preparing
    assert budget.plan(replace(small, images=()), gpu()).gpu.preparing == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("message", ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_a_gpu_runs_out_in_other_words(gpu, message):
    """What libraries say that ask the driver themselves."""
    subject = task((16, 16, 16), (16, 16, 16), channels=3)
    net, asked = Short(at=(2,), error=RuntimeError(message)), []
    layout = Layout(0, (everything((16, 16, 16)),))

    def smaller(boxes, on_gpu):
        asked.append(on_gpu)
        return Layout(0, tuple(boxes))

    members = [Seen(torch.zeros(1, 16, 16, 16), net)]
    segment(members, subject.tiling, subject.undo, layout, channels=3, exclusive=True, smaller=smaller)
    assert asked == [True]


def test_boxes_are_cut_each_for_itself():
    boxes = [(slice(0, 10), slice(3, 40), slice(0, 20)), (slice(10, 30), slice(0, 5), slice(2, 3))]
    for forecast in (budget.plan(task(), Limits(2**30), boxes=boxes), budget.plan(task(), Limits(2**30), boxes=[])):
        assert forecast.layout.blocks == (tuple(boxes) if forecast.tiles else ())
    limit = next(
        size for size in itertools.count(165 * MIB, MIB // 16) if _fits(task(channels=90, need=Need(0, 0)), size, boxes)
    )
    forecast = budget.plan(task(channels=90, need=Need(0, 0)), Limits(limit), boxes=boxes)
    seen = np.zeros((30, 40, 20), int)
    for block in forecast.layout.blocks:
        seen[block] += 1
    assert len(forecast.layout.blocks) > 2 and all((seen[box] == 1).all() for box in boxes)
    assert seen.sum() == sum(np.prod([part.stop - part.start for part in box]) for box in boxes)


def _fits(subject: Task, limit: int, boxes) -> bool:
    return budget._best(subject, boxes, budget.Room(limit, np.inf)) is not None
