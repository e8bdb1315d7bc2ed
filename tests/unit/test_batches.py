"""Batches: the same whoever makes them, waited for by the clock, and workers that die or refuse."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medseg.data import cache
from medseg.data.patches import PatchSource
from medseg.engine import batches as module
from medseg.engine.batches import Batches, Pace, count_workers, numbers
from medseg.engine.samples import Cut, Samples, Varied
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import augment, prepare
from medseg.volume import Volume

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TABLE = LabelTable.of({"large": 1, "tiny": 2})
PLAN = Plan(
    orientation="RAS",
    spacing_mm="native",
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=3,
    channels=("CT",),
)
OFTEN = augment.Options(
    rotate_p=0.5, scale_p=0.5, elastic_p=0.3, noise_p=0.5, blur_p=0.5, brightness_p=0.5, contrast_p=0.5,
    low_resolution_p=0.5, gamma_p=0.5, inverted_gamma_p=0.5, mirror=("left-right",),
)  # fmt: skip
PATCH = (40, 36, 33)
"""More voxels than torch adds up in one thread, and no power of two."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    folder = tmp_path_factory.mktemp("cache")
    generator = np.random.default_rng(1)
    for name in ("a", "b"):
        values = np.zeros((1, 48, 44, 40), np.uint8)
        values[0, 2:15, 1:7], values[0, 17, 5, 3] = 1, 2
        scan = Volume(generator.normal(size=values.shape).astype(np.float32), np.eye(4))
        image, undo = prepare.image(scan, PLAN)
        target = prepare.target(scan.with_array(values), undo, TABLE)
        cache.write_case(folder / name, name, image, target, undo, TABLE)
    return Samples(PatchSource([[folder / "a", folder / "b"]], PATCH, 1000, seed=3), OFTEN, "RAS")


class Short(Samples):
    """Runs out of memory where it varies what was cut: so many times, as the first of `failures` says."""

    failures: list[int]

    def vary(self, cut: Cut) -> Varied:
        if self.failures[0]:
            self.failures[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().vary(cut)


@pytest.mark.parametrize("failures", [1, 2])
def test_what_is_varied_on_a_gpu_gets_a_second_try(samples, failures, monkeypatch):
    """After memory was given back, with the same result."""
    short, given_back = Short(**vars(samples)), []
    object.__setattr__(short, "failures", [failures])
    monkeypatch.setattr(module.memory.devices, "give_back", lambda **how: given_back.append(how))
    if failures > 1:
        with pytest.raises(torch.OutOfMemoryError):
            drawn(short, steps=1, vary_there=True)
    else:
        (found,), (expected,) = drawn(short, steps=1, vary_there=True), drawn(samples, steps=1)
        assert torch.equal(found.images, expected.images) and torch.equal(found.targets, expected.targets)
    assert given_back == [{"after_error": True}]


def drawn(samples: Samples, *, steps: int = 8, first: int = 0, **how: object) -> list[Varied]:
    wanted = numbers(first, steps, size=2, rank=0, world=1)
    with Batches(samples, wanted, device=CPU, **how) as batches:
        return [next(batches) for _ in range(steps - first)]


def assert_same(some: list[Varied], others: list[Varied]) -> None:
    assert [one.cases for one in some] == [other.cases for other in others]
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
        assert one.images.dtype == torch.float32 and one.targets.dtype == torch.uint8


@pytest.fixture(scope="module")
def expected(samples) -> list[Varied]:
    return drawn(samples)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [2, 4])  # one worker: see the test that kills it
def test_batches_do_not_hang_on_the_number_of_workers(samples, expected, workers):
    assert_same(drawn(samples, workers=workers), expected)


def test_batches_do_not_hang_on_threads_nor_on_where_training_went_on(samples, expected):
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same(drawn(samples, first=3), expected[3:])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


def test_what_is_varied_on_the_device_is_what_workers_vary(samples, expected):
    assert_same(drawn(samples, vary_there=True), expected)
    cut = samples.cut([0, 1])
    assert isinstance(cut, Cut) and cut.draws[0] != cut.draws[1]
    for place in range(2):
        image, target = augment.apply(cut.draws[place], cut.images[place], cut.targets[place])
        assert torch.allclose(expected[0].images[place], image, atol=1e-5)
        assert torch.equal(expected[0].targets[place], target)
    whole, single = samples.vary(cut), samples[1]
    assert torch.equal(whole.images[1], single[0]) and torch.equal(whole.targets[1], single[1])


def test_numbers_of_two_processes_are_those_of_one():
    one = [number for step in numbers(2, 5, size=4, rank=0, world=1) for number in step]
    two = zip(*(numbers(2, 5, size=2, rank=rank, world=2) for rank in (0, 1)), strict=True)
    assert [number for pair in two for step in pair for number in step] == one == list(range(8, 20))


def test_workers_outlive_requests_to_stop_and_a_killed_one_is_named(samples, expected):
    """A terminal sends Ctrl-C to workers, too, and a cluster SIGTERM: the training process decides."""
    with (
        pytest.raises(Refusal, match=r"data worker \(process \d+\): .*train\.workers below 1.*last checkpoint") as said,
        Batches(samples, numbers(0, 500, size=2, rank=0, world=1), device=CPU, workers=1) as batches,
    ):
        made = [next(batches)]
        (worker,) = multiprocessing.active_children()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(worker.pid, number)
        made += [next(batches) for _ in range(4)]  # more than was ready
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(400):
            next(batches)
    assert f"(process {worker.pid})" in str(said.value)
    assert_same(made, expected[:5])
    worker.join(30)
    assert not multiprocessing.active_children()


class Refusing:
    """Samples of which the second cannot be read, and the third is met with a mistake of ours."""

    def cut(self, wanted: list[int]) -> Cut:
        if 2 in wanted:
            raise ZeroDivisionError
        if 1 in wanted:
            raise Refusal("case b", found="nothing", needed="something", remedy="look")
        return Cut([torch.zeros(1, 2, 2, 2)], [torch.zeros(1, 2, 2, 2)], [augment.Draw()], ["a"])

    def vary(self, cut: Cut) -> Varied:
        return Varied(torch.stack(cut.images), torch.stack(cut.targets), cut.cases)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_arrives_as_it_was_said_and_no_worker_outlasts_a_mistake(workers):
    with (
        pytest.raises(ZeroDivisionError) as said,
        Batches(Refusing(), [[0], [1], [2]], device=CPU, workers=workers) as batches,
    ):
        assert next(batches).cases == ["a"]
        with pytest.raises(Refusal, match="case b: found nothing; needed something"):
            next(batches)
        next(batches)
    assert said.tb and not multiprocessing.active_children()


def test_other_errors_of_the_loop_stay_what_they_are():
    with pytest.raises(RuntimeError, match="out of memory"), Batches(Refusing(), [[0]], device=CPU):
        raise RuntimeError("out of memory")


def test_waiting_is_what_passes_until_a_batch_is_there(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(Refusing):
        def cut(self, wanted: list[int]) -> Cut:
            now[0] += 2
            return super().cut([0])

    with Batches(Slow(), [[0]] * 6, device=CPU) as batches:
        for _ in range(2):
            next(batches)
            now[0] += 4  # the network computes
        assert batches.pace() == Pace(wait=0.2, seconds_a_step=5)  # the first batch is not waited for: workers start
        now[0] += 50  # validation
        for _ in range(2):
            next(batches)
            now[0] += 4
        assert batches.pace() == Pace(wait=4 / 12, seconds_a_step=6)


def test_starving_is_said_once_and_where_something_can_be_done(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    starved, fed = Pace(0.34, 1.0), Pace(0.2, 1.0)
    few = Batches(Refusing(), [], device=CPU, workers=1)
    assert few.complaint(fed) is None
    assert few.complaint(starved) == "the network waited for data 34% of the time: set train.workers above 1"
    assert few.complaint(starved) is None
    assert "every core has a worker" in (Batches(Refusing(), [], device=CPU, workers=2).complaint(starved) or "")
    assert Batches(Refusing(), [], device=CPU, workers=0).complaint(starved) is None
    assert Batches(Refusing(), [], device=CUDA, workers=0).complaint(starved) is not None


def test_how_many_workers_auto_takes(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 16)
    assert count_workers(3, device=CPU, steps=1) == 3 and count_workers(0, device=CUDA, steps=1) == 0
    assert count_workers("auto", device=CUDA, steps=1) == 8
    assert count_workers("auto", device=CUDA, steps=1, processes=4) == 3
    assert count_workers("auto", device=CUDA, steps=1, processes=16) == 1
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 8)
    assert count_workers("auto", device=CPU, steps=1000) == 1
    assert count_workers("auto", device=CPU, steps=10) == 0  # over before a worker has started
    assert count_workers("auto", device=CPU, steps=1000, processes=2) == 0


def test_nothing_is_left_behind_that_looks_after_children(samples, expected):
    before = signal.getsignal(signal.SIGCHLD)
    for _ in range(2):  # and the second one is looked after, too
        with Batches(samples, numbers(0, 2, size=2, rank=0, world=1), device=CPU, workers=1) as batches:
            assert_same([next(batches)], expected[:1])
            assert callable(signal.getsignal(signal.SIGCHLD)) and signal.getsignal(signal.SIGCHLD) != before
        assert signal.getsignal(signal.SIGCHLD) == before


@contextmanager
def killed(samples) -> Iterator[int]:
    """Within it, the only worker was killed; what is raised in it becomes a sentence that says so."""
    with (
        pytest.raises(Refusal, match=r"data worker \(process \d+\): found that it was killed by a signal: Killed"),
        Batches(samples, numbers(0, 500, size=2, rank=0, world=1), device=CPU, workers=1) as batches,
    ):
        next(batches)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        yield worker.pid


@pytest.mark.parametrize("lost", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_worker_that_ends_while_it_hands_a_batch_over_is_named(samples, lost):
    with killed(samples):
        raise lost
    with (
        pytest.raises(type(lost)),  # of all workers alive it is somebody else's
        Batches(samples, numbers(0, 500, size=2, rank=0, world=1), device=CPU, workers=1) as batches,
    ):
        next(batches)
        raise lost


def test_how_a_worker_ended_is_told_where_torch_does_not_know(samples):
    with killed(samples) as process:
        raise RuntimeError(f"DataLoader worker (pid(s) {process}) exited unexpectedly")
