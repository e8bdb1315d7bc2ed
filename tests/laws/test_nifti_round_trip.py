"""NIfTI round trips over random grids: whatever is written is read again, voxel for voxel, in its place."""

from __future__ import annotations

import tempfile
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg import readers
from medseg.labels import LabelTable
from medseg.outputs import nifti, nrrd
from medseg.prediction import Prediction
from medseg.volume import Volume

TABLE = LabelTable.of({"a": 1, "b": 300})


@st.composite
def grids(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Any rotation, axis order, mirroring, spacing from 0.1 to 20 mm and origin; and a small shape."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    columns = np.eye(3)[:, draw(st.sampled_from(list(permutations(range(3)))))]
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    spacing = [draw(st.floats(0.1, 20)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ columns * signs * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine, tuple(draw(st.integers(1, 5)) for _ in range(3))  # type: ignore[return-value]


@settings(max_examples=25, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1))
def test_outputs_come_back(grid: tuple[np.ndarray, tuple[int, int, int]], seed: int) -> None:
    affine, shape = grid
    target = np.random.default_rng(seed).integers(0, 3, (1, *shape)).astype(np.uint8)
    made = Prediction("c", TABLE, Volume(target, affine))
    with tempfile.TemporaryDirectory() as folder:
        for output in (nifti, nrrd):
            path = Path(folder) / f"a{output.SUFFIX}"
            output.write(made, path, output.Options())
            back = readers.read(path)
            np.testing.assert_array_equal(back.array, made.painted().array)
            np.testing.assert_allclose(back.affine, affine, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(grids(), st.sampled_from([np.uint8, np.int16, np.float32]), st.booleans())
def test_reader_equals_nibabel(grid: tuple[np.ndarray, tuple[int, int, int]], dtype: type, qform: bool) -> None:
    affine, shape = grid
    image = nib.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(dtype), affine)
    image.set_sform(affine, code=0 if qform else 2)
    image.set_qform(affine, code=1)
    with tempfile.TemporaryDirectory() as folder:
        nib.save(image, Path(folder) / "a.nii.gz")
        volume, expected = readers.read(Path(folder) / "a.nii.gz"), nib.load(Path(folder) / "a.nii.gz")
        np.testing.assert_array_equal(volume.array[0], expected.dataobj)
        np.testing.assert_array_equal(volume.affine, expected.affine)
