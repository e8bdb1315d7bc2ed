"""From file to label file in less memory than the scan has: in a process that may not take more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg import measurements, scratch
from medseg.engine import memory
from medseg.labels import LabelTable
from medseg.outputs import nifti, probabilities
from medseg.pieces import Pieces
from medseg.plan import Normalisation, Plan
from medseg.prediction import Prediction
from medseg.transforms import air
from medseg.transforms.prepare import Undo
from medseg.volume import Volume
from tests.tiny import ENVIRONMENT

SCRIPT = """
import resource, sys
from pathlib import Path

import numpy as np

from medseg import measurements, nifti, pieces, plugins, prediction, readers, scratch
from medseg.labels import LabelTable
from medseg.readers import _voxels
from medseg.volume import Volume

folder, slices, allowed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
pieces.SLAB = prediction.SLAB = nifti.SLAB = _voxels.CHUNK_BYTES = 2**18
table = LabelTable.of({f"label {n}": n for n in range(1, 5)})
steps = [plugins.find("postprocess", name) for name in plugins.names("postprocess")]
outputs = [plugins.find("outputs", name) for name in ("nifti", "nrrd", "seg_nrrd", "probabilities", "statistics_json")]
ramp = np.add.outer(np.arange(128), np.arange(128)).astype(np.float32)
like, shape = Volume(np.zeros((1, 1, 1, 1)), np.eye(4)), (1, 128, 128, slices)


def run(length):
    shape = (1, 128, 128, length)
    nifti.write(folder / "scan.nii.gz", like, shape, np.int16, (ramp + k % 9 for k in range(length)))
    with scratch.on_disk(folder, above=2**16):
        scan = readers.read(folder / "scan.nii.gz")
        target = scratch.zeros(shape, np.uint8, slowest=2)
        chances = scratch.zeros((4, *shape[1:]), np.float32, slowest=2)
        for k in range(length):  # bars that go through all slices, with holes and specks
            target[0, 8:24, 8:120, k] = 1 + k * 3 // length
            target[0, 40:90, 8:120, k] = 4
            target[0, 50:60, 30:40, k] = 0 if k % 7 == 2 else 4
            target[0, 100:103, 100 : 100 + k % 5, k] = 2
            chances[:, :, :, k] = ramp / 255
        for step in steps:
            target = step.apply(target, table=table, spacing_mm=scan.spacing_mm, options=step.Options())
        assert (target[0, 50:60, 30:40] == 4).all() and not (target[0, 100:103] > 0).any()
        made = prediction.Prediction("a", table, scan.with_array(target), {}, chances, scan)
        for output in outputs:
            output.write(made, folder / f"a{output.SUFFIX}", output.Options())
        sizes = measurements.voxels(made)
    assert sum(sizes) == (16 + 50) * 112 * length, sizes


run(9)  # whatever is loaded when it is first used is loaded
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((taken << 10) + allowed,) * 2)
run(slices)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_long_scan_passes_through_little_memory(tmp_path: Path) -> None:
    """26 million voxels, 52 MB as they are read, 26 of labels and 419 of probabilities, in 24 MB."""
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), "1600", str(24 * 2**20)]
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "a.nii.gz").is_file() and (tmp_path / "a.probabilities.nii.gz").is_file()


CT = Plan(
    orientation="RAS",
    spacing_mm="native",
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="ct", lower=-1000, upper=1000, mean=0, sd=500),),
    crop="none",
    order=1,
    channels=("CT",),
)
USES = {
    "written": lambda made, path: nifti.write(made, path, nifti.Options()),
    "counted": lambda made, path: measurements.voxels(made),
    "cleaned": lambda made, path: Pieces(made.target.array[0], None, connectivity=6),
    "nothing to clean": lambda made, path: Pieces(made.target.array[0, 1:-1], None, connectivity=6),
    "air": lambda made, path: air.tissue(made.target, Undo.nothing(made.target.shape), [CT]),
    "probabilities": lambda made, path: probabilities.write(made, path, probabilities.Options()),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is in memory now")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_result_on_disk_does_not_stay_in_memory(use, tmp_path: Path) -> None:
    """Mapped files count in what the system says that a process has: 64 MiB here, each."""
    with scratch.on_disk(tmp_path, above=2**20):
        target = scratch.zeros((1, 256, 256, 1024), np.uint8, slowest=2)
        target[0, 0, 0, 0] = target[0, 0, -1, -1] = target[0, -1, 0, 0] = 1
        chances = scratch.zeros((1, 256, 256, 256), np.float32, slowest=2)
        made = Prediction("a", LabelTable.of({"a": 1}), Volume(target, np.eye(4)), probabilities=chances)
        scratch.let_go_all()
        use(made, tmp_path / "a.nii.gz")
        held = memory.resident()
        scratch.let_go_all()
        assert held - memory.resident() < 16 * 2**20
