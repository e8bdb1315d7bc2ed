"""Back ends: each gives the numbers of plain PyTorch, says what it lacks, and reports to nobody."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from medseg.engine import backends, seen
from medseg.engine.memory import FREE, Limits
from medseg.engine.predict import Predictor
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import prepare
from tests import tiny

CPU = torch.device("cpu")
OPENVINO = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
WATCHED = """
import sys
from dataclasses import replace
from pathlib import Path
from medseg.engine.predict import Predictor
predictor = Predictor.load([Path(sys.argv[1])], device="cpu", changes=["backend=openvino"])
found = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print(predictor.provenance["backend"], found)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "name", ["eager", pytest.param("compile", marks=COMPILER), pytest.param("openvino", marks=OPENVINO)]
)
def test_labels_are_the_same_by_every_back_end(tmp_path, monkeypatch, name):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    small = ['model={"name": "tests.near_ties"}']  # which compiles in a second
    run = tiny.untrained_run(tmp_path / "run", changes=small if name == "compile" else ())
    scan = read(tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(1)[0]))
    plain = Predictor.load([run.folder], device="cpu", changes=["backend=eager", "batch=2"])
    other = Predictor.load([run.folder], device="cpu", changes=[f"backend={name}", "batch=2"])
    assert other.provenance["backend"] == f"{name} {backends.version(name)} (as the settings say)"
    expected, found = (one.predict_volume(scan, "a", probabilities=True) for one in (plain, other))
    assert abs(expected.probabilities - found.probabilities).max() < 1e-4
    assert (expected.target.array != found.target.array).mean() < 1e-3
    if name == "compile":
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "inductor")


@OPENVINO
def test_openvino_has_no_telemetry_here(tmp_path):
    run = tiny.untrained_run(tmp_path / "run")
    environment = tiny.ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", WATCHED, run.folder]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("openvino 20") and done.stdout.endswith(" []\n")


@OPENVINO
def test_openvino_in_bf16(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    run = tiny.untrained_run(tmp_path / "run")
    tile = torch.randn(1, 1, 16, 16, 16)
    full, half = (
        backends.build("openvino", run.load_network()[0], run.plan, precision=precision, device=CPU)(tile)
        for precision in ("32", "bf16")
    )
    assert float((full - half).abs().max()) < 0.05 * float(full.max() - full.min())


def test_what_is_not_installed_is_said_with_the_line_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    run = tiny.untrained_run(tmp_path / "run")
    with pytest.raises(Refusal, match=r"openvino: found no package.*pip install 'medseg\[openvino\]'"):
        Predictor.load([run.folder], device="cpu", changes=["backend=openvino"])


def test_openvino_is_for_cpus(tmp_path):
    run = tiny.untrained_run(tmp_path / "run")
    network, _ = run.load_network()
    with pytest.raises(Refusal, match="backend: found openvino on cuda; needed a CPU"):
        backends.build("openvino", network, run.plan, precision="32", device=torch.device("cuda"))


def test_a_compiler_that_fails_is_said_before_the_first_scan(tmp_path, monkeypatch):
    def failing(network, **options):
        def run(tiles):
            raise BackendCompilerFailed(failing, RuntimeError("no working C++ compiler"), None)

        return run

    monkeypatch.setattr(torch, "compile", failing)
    run = tiny.untrained_run(tmp_path / "run")
    with pytest.raises(Refusal, match=r"backend compile: found .*no working C\+\+ compiler.*set backend=eager"):
        Predictor.load([run.folder], device="cpu", changes=["backend=compile"])


def test_an_unknown_back_end_is_refused(tmp_path):
    run = tiny.untrained_run(tmp_path / "run")
    with pytest.raises(Refusal, match="backend"):
        Predictor.load([run.folder], device="cpu", changes=["backend=tvm"])


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"MEDSEG_CACHE": "/own", "XDG_CACHE_HOME": "/x"}, "/own"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/medseg"),
        ("linux", {}, "/home/me/.cache/medseg"),
        ("darwin", {}, "/home/me/Library/Caches/medseg"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/medseg"),
        ("win32", {}, "/home/me/AppData/Local/medseg"),
    ],
)
def test_what_can_be_made_again_lies_where_the_system_has_it(monkeypatch, platform, variables, expected):
    for name in ("MEDSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert backends.user_cache() == Path(expected)


def test_memory_is_planned_by_the_network_itself(tmp_path):
    """A compiled one would be compiled anew for the small tiles that are tried."""

    def unasked(tiles):
        raise AssertionError("a back end was asked")

    predictor = Predictor.load([tiny.untrained_run(tmp_path / "run").folder], device="cpu")
    members = tuple(replace(member, run=unasked) for member in predictor.members)
    assert replace(predictor, members=members).planner.need.of((16, 16, 16)) > 16**3 * 4


def test_an_image_takes_no_room_that_a_limit_on_the_gpu_grants():
    assert seen.room(Limits(gpu=2**40), CPU, 1) == 0 < seen.room(FREE, CPU, 2) < seen.room(FREE, CPU, 1)


def test_a_scan_is_prepared_on_the_processor_where_the_gpu_has_no_room(tmp_path, monkeypatch):
    predictor = Predictor.load([tiny.untrained_run(tmp_path / "run").folder], device="cpu")
    scan = read(tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(1)[0]))
    expected, _ = predictor._image(predictor.members[0], scan, None, "")
    plain, asked = prepare.image, []

    def crowded(*words, device, **settings):
        asked.append(device.type)
        if device.type == "cuda":
            raise RuntimeError("CUDA error: out of memory")
        return plain(*words, device=device, **settings)

    monkeypatch.setattr(prepare, "image", crowded)
    full = replace(predictor, device=torch.device("cuda"), limits=Limits(gpu=2**30))
    found, _ = full._image(full.members[0], scan, None, "")
    assert asked == ["cuda", "cpu"] and torch.equal(found, expected)


def test_every_tile_and_mirrored_pass_goes_through_the_back_end(tmp_path):
    predictor = Predictor.load(
        [tiny.untrained_run(tmp_path / "run").folder], device="cpu", changes=["mirror=[left-right]"]
    )
    asked = []

    def watched(tiles):
        asked.append(len(tiles))
        return predictor.members[0].run(tiles)

    members = tuple(replace(member, run=watched) for member in predictor.members)
    done = []
    scan = read(tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(1)[0]))
    replace(predictor, members=members).predict_volume(scan, "a", lambda count, total: done.append(total))
    assert sum(asked) == 2 * done[-1] > 2


SIGNALLED = """
import os, signal, threading
import torch
from medseg.engine import backends
from tests.unit.test_prepare import PLAN

network, plan = torch.nn.Conv3d(1, 2, 3).eval(), PLAN.model_copy(update={"patch": (8, 8, 8), "channels": ("image",)})
made = [backends.build("openvino", network, plan, precision="32", device=torch.device("cpu"))]
last = threading.Thread(target=made.clear)
last.start(), last.join()
signal.signal(signal.SIGTERM, lambda *_: print("told"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@OPENVINO
def test_a_signal_after_openvino_was_left_by_another_thread_is_handled() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SIGNALLED], env=tiny.ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (0, "told\n"), said.stderr
