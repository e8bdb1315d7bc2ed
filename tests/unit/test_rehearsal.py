"""Plans by the memory of steps that were done: on stand-ins whose law is known, and on real ones."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from medseg import config
from medseg.engine import device, footprint, memory, rehearsal, stages
from medseg.engine.material import assemble
from medseg.engine.memory import GIB, MIB
from medseg.engine.need import Need
from medseg.engine.trial import Peaks
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from tests import tiny

TABLE = LabelTable.of({"a": 1, "b": 2})
LARGEST = 160
"""Sides of the patch that the data would have."""


def recipe(*overrides: str) -> config.Recipe:
    data = {
        "name": "x",
        "dataset": {"name": "folder", "root": "data"},
        "model": {"name": "residual_unet", "channels": [8, 16], "blocks": 1},
        "train": {"device": "cpu"},
    }
    for override in overrides:
        config.set_key(data, override)
    return config.parse(data, where="test")


def make(limit: float):
    """The rule of a plan: the largest cube with batch 2 for what a step needs."""

    def of(need: Need) -> Plan:
        room = (limit - need.fixed) / need.per_voxel / 2 if need.per_voxel else math.inf
        side = next((side for side in range(LARGEST, 0, -8) if side**3 <= room), None)
        if side is None:
            raise Refusal("prepare.memory_gib", found="little", needed="more", remedy="x")
        return plan(side)

    return of


def plan(side: int, batch: int = 2) -> Plan:
    return Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=(side, side, side),
        batch=batch,
        normalisation=(Normalisation(),),
        crop="none",
        order=1,
        channels=("CT",),
    )


class Trial:
    """What stays: 100 MiB, and 10 MiB of gradients. Takes `factor` times what is counted, from `edge` voxels a side on
    twice that; more than `capacity` is out of memory."""

    capacity, factor, edge, update = 4 * GIB, 2.0, 10_000, 0.0
    tried: list[tuple[int, int, int]]

    def __init__(self, wanted: config.Recipe, *rest: object):
        self.recipe = wanted

    def held(self) -> float:
        return 100 * MIB

    def gradients(self) -> float:
        return 10 * MIB

    def peaks(self, sides: tuple[int, int, int], samples: int) -> Peaks | None:
        self.tried.append(sides)
        one = plan(8).model_copy(update={"patch": sides})
        counted = samples * footprint.kept(self.recipe, one, out_channels=TABLE.network_channels)
        peak = 110 * MIB + self.factor * (1 + (sides[0] >= self.edge)) * counted
        return None if peak > self.capacity else Peaks(peak, self.update)


@pytest.fixture
def trial(monkeypatch) -> type[Trial]:
    """In the place of real steps, on a device that cannot be computed on here."""
    monkeypatch.setattr(rehearsal, "measurable", lambda device, precision: True)
    monkeypatch.setattr(
        rehearsal.devices, "choose", lambda wanted: torch.device("cuda" if wanted == "auto" else wanted)
    )
    monkeypatch.setattr(rehearsal.devices, "described", lambda device: {"name": f"a {device.type}"})
    made = type("Made", (Trial,), {"tried": []})
    monkeypatch.setattr(rehearsal, "Trial", made)
    return made


def planned(wanted: config.Recipe, limit: float) -> tuple[Plan, list[str]]:
    said: list[str] = []
    return rehearsal.largest(wanted, TABLE, make(limit), limit=limit, announce=said.append), said


def law(trial: type[Trial], found: Plan) -> float:
    return max(trial(recipe()).peaks(found.patch, found.batch) or (math.inf,))


@pytest.mark.parametrize(("edge", "capacity"), [(10_000, 4 * GIB), (104, 4 * GIB), (10_000, GIB)])
def test_on_a_gpu_the_plan_itself_is_tried(trial, edge, capacity):
    """Also where a larger step takes more than the smaller one told, or runs out of memory."""
    trial.edge, trial.capacity = edge, capacity
    found, said = planned(recipe("train.device=auto"), 2 * GIB)
    assert trial.tried[-1] == found.patch and found.patch[0] > rehearsal.SMALL
    true = law(trial, found)
    assert found.step_memory.how == "measured" and found.step_memory.device == "a cuda"
    assert found.step_memory.gib == round(true / GIB, 3) and true <= min(capacity, 2 * GIB)
    assert said[0] == f"plan: a step takes {memory.text(true)} of 2.0 GiB (measured, a cuda)"
    if edge > LARGEST and capacity > 2 * GIB:  # and it is the largest
        assert law(trial, plan(found.patch[0] + 8)) > 2 * GIB


def test_on_a_cpu_only_a_moderate_step_is_tried_and_more_is_foretold(trial):
    found, said = planned(recipe(), 2 * GIB)
    one = footprint.kept(recipe(), found, out_channels=TABLE.network_channels)
    assert found.step_memory.how == "foretold" and said[0].startswith("plan: a step takes about ")
    assert found.step_memory.gib * GIB == pytest.approx(110 * MIB + rehearsal.MARGIN["cpu"] * 2 * 2 * one, rel=1e-3)
    sizes = [2 * one * math.prod(sides) / math.prod(found.patch) for sides in trial.tried]
    assert sizes and all(rehearsal.SAMPLE["cpu"] <= size < 2.1 * rehearsal.SAMPLE["cpu"] for size in sizes)


def test_an_update_that_takes_more_than_the_gradient_counts(trial):
    trial.update = 3 * GIB
    with pytest.raises(Refusal, match="memory_gib"):
        planned(recipe(), 2 * GIB)
    found, _ = planned(recipe(), 4 * GIB)
    assert found.step_memory.gib >= 3


def test_gradients_on_their_way_between_devices_count(trial):
    one, several = (planned(recipe(f"train.devices={count}"), 2 * GIB)[0].step_memory.gib for count in (1, 2))
    assert (several - one) * GIB == pytest.approx(10 * MIB, abs=2 * MIB)


def test_fewer_samples_at_once_leave_room_for_larger_patches(trial):
    usual, one = (planned(recipe(*words), GIB)[0] for words in ((), ("train.micro_batch=1",)))
    assert math.prod(one.patch) > 1.4 * math.prod(usual.patch)


def test_more_samples_at_once_than_a_batch_leave_less_room(trial):
    """Of the batches that are added up before a step."""
    words = ("train.accumulate=4", "train.micro_batch=100")
    usual, eight = (planned(recipe(*some), 2 * GIB)[0] for some in (words[:1], words))
    assert eight.batch == usual.batch == 2
    assert math.prod(eight.patch) < 0.5 * math.prod(usual.patch)


def test_where_memory_limits_the_patch_checkpointing_is_named(trial):
    _, said = planned(recipe(), GIB)
    assert said[1] == (
        "plan: memory limits the patch, which could be (160, 160, 160); with model.checkpointing=true a step takes less"
    )
    assert len(planned(recipe("model.checkpointing=true"), GIB)[1]) == 1
    assert len(planned(recipe(), 64 * GIB)[1]) == 1


def test_what_the_recipe_has_is_not_tried_but_told_where_it_seems_too_large(trial):
    words = ("prepare.patch=[160,160,160]", "prepare.batch=2")
    found, said = planned(recipe(*words), GIB)
    assert not trial.tried and found.patch == (160, 160, 160) and found.step_memory.how == "estimated"
    assert said[1] == (
        "plan: it may not fit; train.micro_batch=1 or model.checkpointing=true or a smaller prepare.patch takes less"
    )
    assert len(planned(recipe(*words), 64 * GIB)[1]) == 1


def test_divided_over_devices_nothing_is_tried_on_one(trial):
    found, _ = planned(recipe("train.shard=true", "train.devices=4"), GIB)
    assert not trial.tried and found.step_memory.how == "estimated"


needs_peaks = pytest.mark.skipif(not stages.forget_peak(), reason="this system does not tell peaks of memory")


IN_A_NEW_PROCESS = """
import torch
from medseg.engine import device, rehearsal
from medseg.engine.memory import GIB, MIB
from tests.unit.test_rehearsal import planned, recipe
rehearsal.SAMPLE["cpu"] = 16 * MIB
with device.one_thread(torch.device("cpu")):
    for loss in ("dice_ce", "cldice, iterations: 4"):
        plan = planned(recipe(f"loss={{name: {loss}}}"), 2 * GIB)[0]
        print(plan.step_memory.how, plan.patch[0])
"""


@needs_peaks
def test_real_steps_tell_what_a_loss_keeps():
    """The centre-line Dice keeps some twenty maps for each erosion, which no pass over the network shows. In a process
    of its own, as trainings are: in one that has done other things, what is freed and taken again moves no peak."""
    words = [sys.executable, "-c", IN_A_NEW_PROCESS]
    said = subprocess.run(words, env=tiny.ENVIRONMENT, check=True, capture_output=True, text=True, timeout=300).stdout
    (how, plain), (also, lines) = (line.split() for line in said.splitlines()[-2:])
    assert how == also == "foretold"
    assert int(lines) ** 3 < 0.6 * int(plain) ** 3


@needs_peaks
def test_a_run_keeps_the_plan_that_was_measured(tmp_path, monkeypatch):
    data = tiny.data_set(tmp_path / "data")
    path = tiny.recipe(tmp_path / "recipe.yaml", data)
    wanted, run, said = config.load(path, ["prepare.patch=auto", "prepare.batch=auto"]), tmp_path / "run", []
    run.mkdir()
    first = assemble(wanted, run, announce=said.append).plan
    assert first.patch == (24, 20, 18) and first.step_memory.how == "measured"
    assert 0.001 < first.step_memory.gib < 1 and first.step_memory.device in said[0]
    monkeypatch.setattr(rehearsal, "Trial", None)
    monkeypatch.setattr(rehearsal.memory, "of_a_step", lambda device: MIB)
    assert assemble(wanted, run, announce=said.append).plan == first


@needs_peaks
def test_a_peak_can_be_forgotten():
    held = torch.ones(2**26)
    before = stages.peak_mib()
    del held
    device.give_back()
    stages.forget_peak()
    assert stages.peak_mib() < before - 128


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_on_a_real_gpu_the_plan_is_the_largest_that_fits_and_nothing_stays(precision):
    before = torch.cuda.memory_allocated()
    wanted = recipe("train.device=cuda", f"train.precision={precision}", "model.channels=[32, 64, 128]")
    found, said = planned(wanted, 4 * GIB)
    assert found.step_memory.how == "measured" and 2 < found.step_memory.gib <= 4, said
    assert torch.cuda.memory_allocated() <= before + 64 * MIB  # workspaces of libraries
    trial = rehearsal.Trial(wanted, TABLE, found, torch.device("cuda"))
    trial.peaks((32, 32, 32), 2)
    again = max(trial.peaks(found.patch, found.batch))
    assert again / GIB <= 1.1 * found.step_memory.gib  # less, where cuDNN takes kernels with less working memory
