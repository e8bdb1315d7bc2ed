"""Preparation: what is refused, sizes on paper, and speed where it hurts."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medseg.config import PredictSettings
from medseg.dicom.settings import DicomSettings
from medseg.engine.predict import Predictor
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare
from medseg.volume import Volume
from tests import tiny
from tests.tiny import ENVIRONMENT

PLAN = Plan(
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=1,
    channels=("CT",),
)


def test_sizes_round_halves_up_and_ignore_the_last_digits():
    assert prepare.prepared_shape((5, 5, 5), [1.0, 1 - 1e-9, 1 + 1e-9], (2.0, 2.0, 2.0)) == (3, 3, 3)
    assert prepare.prepared_shape((1, 512, 100), [0.1, 0.78125, 5.0], (1.0, 1.0, 1.0)) == (1, 400, 500)
    assert prepare.prepared_shape((4, 5, 6), [9, 9, 9], "native") == (4, 5, 6)


def test_wrong_number_of_channels_is_refused():
    with pytest.raises(Refusal, match="found 2 channels; needed 1: CT"):
        prepare.image(Volume(np.zeros((2, 3, 3, 3)), np.eye(4)), PLAN)


def test_label_map_of_another_shape_is_refused():
    _, undo = prepare.image(Volume(np.zeros((1, 3, 3, 3)), np.eye(4)), PLAN)
    with pytest.raises(Refusal, match=r"\(3, 3, 3\)"):
        prepare.target(Volume(np.zeros((1, 3, 3, 4), np.uint8), np.eye(4)), undo, LabelTable.of({"a": 1}))


def test_the_input_is_not_written_into():
    array = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    plan = PLAN.model_copy(update={"normalisation": (Normalisation(kind="zscore"),)})
    prepare.image(Volume(array, np.eye(4)), plan)
    assert array.flatten().tolist() == list(range(27))


def test_the_way_back_is_known_before_a_voxel_is_read():
    scan = Volume(np.broadcast_to(np.int16(0), (1, 50_000, 60_000, 70_000)), np.diag([2.0, 1.0, 0.5, 1.0]))
    undo = prepare.way_back(scan, PLAN)
    assert undo.prepared == (100_000, 60_000, 35_000) and undo.crop == ((0, 50_000), (0, 60_000), (0, 70_000))


def test_the_way_back_refuses_what_the_image_would():
    with pytest.raises(Refusal, match="found 2 channels; needed 1: CT"):
        prepare.way_back(Volume(np.zeros((2, 3, 3, 3)), np.eye(4)), PLAN)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("kind", ["zscore_nonzero", "percentile"])
def test_everything_but_reading_and_writing_is_done_on_the_device(order, kind, monkeypatch):
    """The meta device holds no values, and refuses to work together with tensors of the CPU."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.full(self.shape, 5.0) if self.is_meta else self)
    plan = PLAN.model_copy(
        update={"order": order, "normalisation": (Normalisation(kind=kind),), "spacing_mm": (0.7, 1.5, 2.0)}
    )
    array, _ = prepare.image(Volume(np.ones((1, 9, 8, 7)), np.eye(4)), plan, device=torch.device("meta"))
    assert (array == 5).all()


@pytest.mark.parametrize("buffer", [bytes, bytearray])
def test_an_array_over_a_buffer_is_a_scan_like_any_other(buffer):
    array = np.frombuffer(buffer(range(27)), np.uint8).reshape(1, 3, 3, 3)
    prepared, _ = prepare.image(Volume(array, np.eye(4)), PLAN)
    assert prepared.flatten().tolist() == list(range(27))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_gpu_gives_what_the_processor_gives(order):
    plan = PLAN.model_copy(update={"order": order, "normalisation": (Normalisation(),), "spacing_mm": (0.7, 1.5, 2.0)})
    scan = Volume(np.random.default_rng(1).normal(size=(1, 40, 50, 60)), np.eye(4))
    here, _ = prepare.image(scan, plan)
    there, _ = prepare.image(scan, plan, device=torch.device("cuda"))
    assert isinstance(there, np.ndarray) and np.abs(here - there).max() < 1e-4


FLAT = """
from pathlib import Path
import numpy as np
from medseg import scratch
from medseg.plan import Normalisation
from medseg.transforms import prepare
from medseg.volume import Volume
from tests.unit.test_prepare import PLAN
both = (Normalisation(kind="zscore_nonzero"), Normalisation(kind="percentile"))
plan = PLAN.model_copy(update={"normalisation": both, "crop": "nonzero", "order": 3})
for length in (200, 1000):
    with scratch.on_disk(None, above=0):
        array = scratch.zeros((2, 256, 256, length), np.int16, slowest=2)
        for plane in range(length):
            array[..., plane] = np.arange(256) * (1 + plane % 7)
            scratch.let_go(array)
        prepare.image(Volume(array, np.diag([1.2, 0.8, 1.0, 1.0])), plan, slowest=2)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux tells it")
def test_memory_does_not_grow_with_the_length_of_the_scan():
    """Of all kinds, mapped files too; another 800 planes are 210 MB in the file, 402 MB prepared, and 105 MB as a mask.

    What comes and goes between the slabs differs by some 40 MB from one time to the next.
    """
    command = [sys.executable, "-c", FLAT]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    short, long = map(float, done.stdout.split())
    assert long < short + 80


def test_all_zero_scan_survives_the_nonzero_crop():
    plan = PLAN.model_copy(update={"crop": "nonzero"})
    array, undo = prepare.image(Volume(np.zeros((1, 3, 4, 5)), np.eye(4)), plan)
    assert array.shape == (1, 3, 4, 5) and undo.crop == ((0, 3), (0, 4), (0, 5))


def test_a_structure_between_the_samples_vanishes_quietly():
    values = np.zeros((1, 16, 1, 1), np.uint8)
    values[0, 0] = 1
    plan = PLAN.model_copy(update={"spacing_mm": (8.0, 1.0, 1.0)})
    _, undo = prepare.image(Volume(values, np.eye(4)), plan)
    assert not prepare.target(Volume(values, np.eye(4)), undo, LabelTable.of({"a": 1})).any()


def test_more_than_256_classes():
    table = LabelTable.of({f"l{n}": n for n in range(1, 301)})
    values = np.arange(1, 301, dtype=np.int32).reshape(1, 300, 1, 1)
    scan = Volume(values, np.eye(4))
    plan = PLAN.model_copy(update={"spacing_mm": (0.5, 1.0, 1.0)})
    _, undo = prepare.image(scan, plan)
    got = prepare.target(scan, undo, table)
    assert got.dtype == np.uint16
    assert got[0, :, 0, 0].tolist() == [n for n in range(1, 301) for _ in range(2)]


def test_a_scan_that_was_changed_in_memory_alone_keeps_its_changes(tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros((1, 40, 50, 60), np.float32))
    array = np.load(tmp_path / "scan.npy", mmap_mode="c")
    array[:] = 7
    prepared, _ = prepare.image(Volume(array, np.eye(4)), PLAN)
    assert (prepared == 7).all() and (array == 7).all()


class TheCentres(torch.nn.Module):
    """Answers with the last two channels that it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -2:]


@pytest.mark.parametrize(("centre", "label"), [("north", 0), ("south", 1)])
def test_the_network_is_told_the_centre(centre, label):
    plan = PLAN.model_copy(update={"centres": ("north", "south")})
    model = SimpleNamespace(options=None, module=lambda: SimpleNamespace(divisor=lambda options: None))
    predictor = Predictor(
        members=(tiny.member(TheCentres(), plan),),
        recipe=SimpleNamespace(postprocess=(), model=model),  # type: ignore[arg-type]
        table=LabelTable.of({"a": 1}),
        settings=PredictSettings(precision="32", skip_air=False),
        dicom=DicomSettings(),
        device=torch.device("cpu"),
        provenance={},
    )
    scan = Volume(np.ones((1, 9, 8, 7), np.float32), np.diag([1.0, 1.0, 2.0, 1.0]))
    assert np.unique(predictor.predict_volume(scan, "case", centre=centre).target.array).tolist() == [label]
