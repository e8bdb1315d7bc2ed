"""Checkpoints: every type comes back bit for bit, and a file that was cut or changed is never loaded."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medseg.engine import checkpoint
from medseg.refusal import Refusal
from tests.tiny import ENVIRONMENT

KINDS = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def small(path: Path) -> str:
    return checkpoint.save(path, {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.int8)}, {"step": 7})


def test_whoever_may_read_new_files_may_read_checkpoints(tmp_path):
    small(tmp_path / "x.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_and_shape_comes_back(tmp_path, kind):
    tensors = {
        "vector": torch.arange(5).to(kind),
        "scalar": torch.ones((), dtype=kind),
        "empty": torch.zeros(0, dtype=kind),
        "turned": torch.arange(6).reshape(2, 3).to(kind).T,
    }
    facts = {"text": "ä", "numbers": [1, 2.5, 1e-300], "nothing": None}
    sha256 = checkpoint.save(tmp_path / "x.safetensors", tensors, facts)
    found, again, found_sha256 = checkpoint.load(tmp_path / "x.safetensors")
    assert (again, found_sha256) == (facts, sha256)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == kind for name, value in tensors.items())


def test_numbers_that_are_none_come_back(tmp_path):
    value = torch.tensor([float("nan"), float("inf"), -0.0])
    checkpoint.save(tmp_path / "x.safetensors", {"a": value}, {})
    assert checkpoint.load(tmp_path / "x.safetensors")[0]["a"].view(torch.int32).equal(value.view(torch.int32))


def test_tensors_that_share_memory_come_back(tmp_path):
    weight = torch.randn(4, 4)
    checkpoint.save(tmp_path / "x.safetensors", {"a": weight, "b": weight, "c": weight[1]}, {})
    assert torch.equal(checkpoint.load(tmp_path / "x.safetensors")[0]["c"], weight[1])


def test_the_same_content_makes_the_same_bytes(tmp_path):
    assert small(tmp_path / "a.safetensors") == small(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_cut_anywhere(tmp_path):
    path = tmp_path / "x.safetensors"
    small(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Refusal, match=r"x\.safetensors: found .*backup"):
            checkpoint.load(path)


def test_one_byte_flipped_anywhere(tmp_path):
    """Either it is noticed, or it was a blank of the header and the content is the same."""
    path = tmp_path / "x.safetensors"
    small(path)
    whole, (tensors, facts, sha256) = path.read_bytes(), checkpoint.load(path)
    unnoticed = 0
    for place in range(len(whole)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                found = checkpoint.load(path)
            except Refusal:
                continue
            unnoticed += 1
            assert found[1:] == (facts, sha256)
            assert all(torch.equal(found[0][name], value) for name, value in tensors.items())
    assert unnoticed < len(whole) / 20


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(Refusal, match="no such file"):
        checkpoint.load(tmp_path / "absent")
    save_file({"a": torch.ones(1)}, tmp_path / "other", metadata={"format": "pt"})
    with pytest.raises(Refusal, match="no checksum inside"):
        checkpoint.load(tmp_path / "other")
    save_file({"a": torch.ones(1)}, tmp_path / "half", metadata={"medseg": "{}"})
    with pytest.raises(Refusal, match="half: found KeyError"):
        checkpoint.load(tmp_path / "half")


FULL = """
import resource, sys, torch
from medseg.engine import checkpoint
from medseg.refusal import Refusal
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    checkpoint.save(Path(sys.argv[1]), {"a": torch.ones(100_000)}, {})
except Refusal as refusal:
    print(refusal)
"""


def test_a_full_disk_is_refused_and_the_former_file_stays(tmp_path):
    """A limit on the size of files stands for the disk: both make the write fail."""
    path = tmp_path / "x.safetensors"
    small(path)
    former = path.read_bytes()
    command = [sys.executable, "-c", FULL, str(path), "100000"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert "x.safetensors: found that it cannot be written" in done.stdout, done.stderr
    assert "room on the disk" in done.stdout and done.stderr == ""
    assert path.read_bytes() == former and list(tmp_path.iterdir()) == [path]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def pair(folder: Path) -> tuple[Path, Path]:
    last, former = folder / "last", folder / "former"
    for step in (1, 2, 3):
        checkpoint.save(last, {"a": torch.full((3,), float(step))}, {"step": step}, former=former)
    return last, former


def test_the_one_before_is_kept_and_taken_where_the_last_is_of_no_use(tmp_path):
    last, former = pair(tmp_path)
    said: list[str] = []
    assert checkpoint.latest(last, former, said.append)[1] == {"step": 3} and not said
    last.write_bytes(last.read_bytes()[:-1])
    tensors, facts = checkpoint.latest(last, former, said.append)
    assert (tensors["a"].tolist(), facts) == ([2.0] * 3, {"step": 2})
    assert len(said) == 1 and said[0].startswith(f"{last}: found a damaged file") and "former" in said[0]
    assert list(tmp_path.iterdir()) == [last] and checkpoint.load(last)[1] == {"step": 2}  # the next pushes it out
    with pytest.raises(Refusal, match="no such file"):
        checkpoint.latest(tmp_path / "none", former, said.append)


def test_two_that_are_of_no_use_are_refused_together(tmp_path):
    last, former = pair(tmp_path)
    for path in (last, former):
        path.write_bytes(b"")
    with pytest.raises(Refusal, match=r"last: found a damaged file.* in former a damaged file.*backup"):
        checkpoint.latest(last, former, print)


def test_a_failed_save_moves_nothing(tmp_path, monkeypatch):
    last, former = pair(tmp_path)
    before = last.read_bytes(), former.read_bytes()

    def full(*words: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(Refusal, match="room on the disk"):
        checkpoint.save(last, {"a": torch.ones(3)}, {}, former=former)
    assert (last.read_bytes(), former.read_bytes()) == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path, name):
    def fresh():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        if name == "sgd":
            return layer, torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimiser, number):
        layer(torch.full((1, 3), float(number))).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    layer, optimiser = fresh()
    for number in range(3):
        step(layer, optimiser, number)
    moments, numbers = checkpoint.optimiser_tensors(optimiser)
    weights = {f"w.{key}": value for key, value in layer.state_dict().items()}
    checkpoint.save(tmp_path / "x", {**moments, **weights}, {"optimiser": numbers})
    step(layer, optimiser, 3)

    tensors, facts, _ = checkpoint.load(tmp_path / "x")
    resumed, other = fresh()
    resumed.load_state_dict({key[2:]: value for key, value in tensors.items() if key.startswith("w.")})
    checkpoint.restore_optimiser(
        other, {key: value for key, value in tensors.items() if not key.startswith("w.")}, facts["optimiser"]
    )
    step(resumed, other, 3)
    assert torch.equal(resumed.weight, layer.weight)


def test_an_optimisers_settings_are_those_of_the_recipe_and_not_of_the_file():
    weight = torch.nn.Parameter(torch.ones(1))
    moments, numbers = checkpoint.optimiser_tensors(torch.optim.SGD([weight], lr=0.1, weight_decay=0.5))
    other = torch.optim.SGD([weight], lr=0.2, weight_decay=0.25)
    checkpoint.restore_optimiser(other, moments, numbers)
    assert (other.param_groups[0]["lr"], other.param_groups[0]["weight_decay"]) == (0.2, 0.25)
