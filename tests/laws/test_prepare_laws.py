"""Preparing and undoing, over random shapes, axis orders, oblique grids, crops, regions and exclusive tables."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medseg import scratch
from medseg.geometry import AxisMap
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.transforms import native as native_grid
from medseg.transforms import prepare, slabs
from medseg.volume import Volume

AXIS_ORDERS = [
    AxisMap(permutation, flips)
    for permutation in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
ORGANS = LabelTable.of({"liver": 5, "spleen": 1, "vessel": 3})
REGIONS = LabelTable.of({"WT": [1, 3, 5], "TC": [1, 5], "ET": [5]})
sizes = st.tuples(*(st.integers(1, 9) for _ in range(3)))


def plan(spacing="native", *, kind="zscore", channels=1, crop="none", orientation="RAS", order=3) -> Plan:
    return Plan(
        orientation=orientation,
        spacing_mm=spacing,
        patch=(8, 8, 8),
        batch=1,
        normalisation=(Normalisation(kind=kind, lower=-50, upper=50, mean=1, sd=3),) * channels,
        crop=crop,
        order=order,
        channels=tuple(f"c{n}" for n in range(channels)),
    )


def reordered(volume: Volume, axes: AxisMap) -> Volume:
    return Volume(np.ascontiguousarray(axes.apply(volume.array)), axes.affine(volume.affine, volume.shape))


def one_hot(target: np.ndarray, table: LabelTable) -> torch.Tensor:
    if not table.exclusive:
        return torch.from_numpy(target.astype(np.float32)) - 0.5
    return torch.stack([torch.from_numpy((target[0] == n).astype(np.float32)) for n in range(table.network_channels)])


def normalised(values: np.ndarray, kind: str) -> np.ndarray:
    """By the definition of each kind, with the numbers of `plan`."""
    if kind == "window":
        return (values.clip(-50, 50) + 50) / 100
    if kind == "percentile":
        lower, upper = np.percentile(values, [0.5, 99.5])
        return (values.clip(lower, upper) - lower) / ((upper - lower) or 1)
    counted = (values[values != 0] if kind == "zscore_nonzero" else values).clip(-50, 50)
    mean, sd = (counted.mean(), counted.std()) if counted.size else (0, 1)
    result = (values.clip(-50, 50) - mean) / (sd or 1)
    return np.where(values == 0, 0, result) if kind == "zscore_nonzero" else result


@st.composite
def grids(draw) -> np.ndarray:
    """Oblique affines up to 20 degrees about each axis, where no voxel axis lies between two world axes."""
    angles = [draw(st.floats(-20, 20)) for _ in range(3)]
    spacing = [draw(st.sampled_from([0.5, 0.78125, 1.0, 1.25, 3.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return affine


@st.composite
def scans(draw, channels=1) -> Volume:
    shape = draw(sizes)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    array = generator.integers(-1000, 1000, (channels, *shape)).astype(np.int16)
    margin = draw(st.tuples(*(st.integers(0, 2) for _ in range(3))))
    for axis, width in enumerate(margin):  # zeros around, so that a nonzero crop has something to do
        if width and shape[axis] > 2 * width:
            np.moveaxis(array, 1 + axis, 0)[:width] = 0
            np.moveaxis(array, 1 + axis, 0)[-width:] = 0
    return Volume(array, draw(grids()))


def label_map(scan: Volume, seed: int) -> Volume:
    values = np.random.default_rng(seed).choice([0, 1, 3, 5], (1, *scan.shape)).astype(np.uint8)
    return Volume(values, scan.affine)


@pytest.mark.parametrize("kind", ["ct", "window", "zscore", "zscore_nonzero", "percentile", "suv", "none"])
@pytest.mark.parametrize(("crop", "slab"), [("none", 200), ("nonzero", 10**6)])
def test_all_48_axis_orders_give_the_same_bits(kind, crop, slab, monkeypatch):
    monkeypatch.setattr(slabs, "VOXELS", slab)
    generator = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [11, -17, 8], degrees=True).as_matrix() * [0.78125, 0.9, 3.1]
    array = generator.normal(0, 300, (2, 11, 9, 7)).astype(np.float32)
    array[:, :2] = 0
    scan = Volume(array, affine)
    labels = label_map(scan, 5)
    settings = plan((1.0, 1.25, 2.0), kind=kind, channels=2, crop=crop, orientation="LPS")
    first, undo = prepare.image(scan, settings)
    first_target = prepare.target(labels, undo, ORGANS)
    for axes in AXIS_ORDERS:
        again, undo = prepare.image(reordered(scan, axes), settings)
        assert again.tobytes() == first.tobytes() and again.shape == first.shape, axes
        assert np.array_equal(prepare.target(reordered(labels, axes), undo, ORGANS), first_target)


@settings(max_examples=80, deadline=None)
@given(
    scans(channels=2),
    st.sampled_from(["none", "nonzero"]),
    st.sampled_from(["RAS", "SPL", "LIA"]),
    st.sampled_from(["zscore", "zscore_nonzero", "percentile", "window"]),
    st.sampled_from([0, 1, 3]),
    st.tuples(*(st.sampled_from([0.4, 1.0, 2.3]) for _ in range(3))),
    st.sampled_from([1, 30, 10**6]),
)
def test_slab_after_slab_equals_the_whole_at_once(scan, crop, orientation, kind, order, spacing, voxels):
    settings = plan(spacing, kind=kind, channels=2, crop=crop, orientation=orientation, order=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "VOXELS", voxels)
        got, undo = prepare.image(scan, settings)
    assert undo == prepare.way_back(scan, settings)
    box = tuple(slice(*part) for part in undo.crop)
    for channel, one in zip(undo.axes.apply(scan.array), got, strict=True):
        values = normalised(channel[box].astype(np.float64), kind)
        axes = [(np.arange(n) + 0.5) * (o / n) - 0.5 for o, n in zip(values.shape, one.shape, strict=True)]
        places = np.meshgrid(*axes, indexing="ij")
        expected = ndimage.map_coordinates(values, places, order=order, mode="nearest")
        assert one.shape == undo.prepared and np.abs(one - expected).max() <= 1e-4 * max(1, np.ptp(values))


@settings(max_examples=30, deadline=None)
@given(scans(), st.integers(0, 2), st.booleans(), st.sampled_from(["RAS", "SPL"]))
def test_the_same_bits_wherever_the_result_lies(scan, slowest, spilled, orientation):
    settings = plan((0.7, 1.2, 1.0), orientation=orientation)
    first, undo = prepare.image(scan, settings)
    with scratch.on_disk(None, above=0 if spilled else 10**9):
        again, same = prepare.image(scan, settings, slowest=slowest, planes=(1.0, 0.0))
    assert isinstance(again, np.memmap) == spilled and same == undo and again.shape == (3, *undo.prepared)
    strides = again.strides[1:]
    assert all(strides[slowest] >= strides[axis] for axis in range(3) if again.shape[1 + axis] > 1)
    assert np.ascontiguousarray(again[:1]).tobytes() == first.tobytes()
    assert (again[1] == 1).all() and (again[2] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    scans(channels=2),
    st.sampled_from(AXIS_ORDERS),
    st.sampled_from(["none", "nonzero"]),
    st.sampled_from(["RAS", "SPL"]),
)
def test_any_axis_order_gives_the_same_bits(scan, axes, crop, orientation):
    settings = plan((1.0, 0.7, 2.0), channels=2, crop=crop, orientation=orientation)
    first, _ = prepare.image(scan, settings)
    again, _ = prepare.image(reordered(scan, axes), settings)
    assert again.shape == first.shape and again.tobytes() == first.tobytes()


@settings(max_examples=60, deadline=None)
@given(scans(), st.sampled_from(AXIS_ORDERS), st.sampled_from([ORGANS, REGIONS]), st.integers(0, 99))
def test_native_spacing_returns_labels_exactly(scan, axes, table, seed):
    scan = reordered(scan, axes)
    labels = label_map(scan, seed)
    _, undo = prepare.image(scan, plan())
    native = native_grid.labels(one_hot(prepare.target(labels, undo, table), table), undo, exclusive=table.exclusive)
    assert native.dtype == np.uint8
    assert np.array_equal(native, table.encode(labels.array[0]))


@settings(max_examples=60, deadline=None)
@given(scans(), st.sampled_from(AXIS_ORDERS), st.sampled_from([ORGANS, REGIONS]), st.sampled_from([0.6, 1.0, 2.5]))
def test_cropped_round_trip_is_exact_inside_and_empty_outside(scan, axes, table, spacing):
    scan = reordered(scan, axes)
    labels = label_map(scan, 1)
    settings = plan(crop="nonzero")
    _, undo = prepare.image(scan, settings)
    native = native_grid.labels(one_hot(prepare.target(labels, undo, table), table), undo, exclusive=table.exclusive)
    inside = np.zeros((1, *undo.canonical), bool)
    inside[(0, *(slice(*part) for part in undo.crop))] = True
    assert np.array_equal(native, np.where(undo.axes.undo(inside), table.encode(labels.array[0]), 0))
    _, coarse = prepare.image(scan, plan((spacing,) * 3, crop="nonzero"))
    assert coarse.crop == undo.crop
    scores = torch.randn(table.network_channels, *coarse.prepared)
    native = native_grid.labels(scores, coarse, exclusive=table.exclusive)
    assert native.shape == (1 if table.exclusive else 3, *scan.shape)
    assert not native[:, ~undo.axes.undo(inside)[0]].any()


@settings(max_examples=60, deadline=None)
@given(scans(), st.sampled_from(AXIS_ORDERS), st.sampled_from(["none", "nonzero"]))
def test_undo_goes_through_json(scan, axes, crop):
    _, undo = prepare.image(reordered(scan, axes), plan((1.0, 1.0, 1.0), crop=crop))
    assert prepare.Undo.from_json(json.loads(json.dumps(undo.to_json()))) == undo


@settings(max_examples=60, deadline=None)
@given(scans(), st.sampled_from(AXIS_ORDERS), st.floats(0.4, 4))
def test_prepared_grid_keeps_the_field_of_view(scan, axes, spacing):
    scan = reordered(scan, axes)
    _, undo = prepare.image(scan, plan((spacing,) * 3))
    outer = np.array(np.meshgrid(*([-0.5, size - 0.5] for size in scan.shape), [1], indexing="ij")).reshape(4, -1)
    prepared = np.array(np.meshgrid(*([-0.5, size - 0.5] for size in undo.prepared), [1], indexing="ij")).reshape(4, -1)
    ours, theirs = (undo.prepared_affine @ prepared)[:3].T, (scan.affine @ outer)[:3].T
    for corner in ours:  # the eight outer corners are the same points, whatever their order
        assert np.linalg.norm(theirs - corner, axis=1).min() < 1e-6


@settings(max_examples=40, deadline=None)
@given(scans(), st.tuples(*(st.sampled_from([0.45, 1.0, 1.7]) for _ in range(3))), st.integers(0, 99))
def test_target_is_the_highest_class_after_linear_resampling(scan, spacing, seed):
    from medseg.resample import part

    labels = label_map(scan, seed)
    _, undo = prepare.image(scan, plan(spacing))
    got = prepare.target(labels, undo, ORGANS)
    classes = torch.from_numpy(ORGANS.encode(undo.axes.apply(labels.array)[0])[0].astype(np.int64))
    soft = torch.nn.functional.one_hot(classes, 4).permute(3, 0, 1, 2).double()
    for axis in range(3):
        sizes = undo.cropped[axis], undo.prepared[axis]
        weights = part(torch.eye(sizes[0]), 0, sizes=sizes, order=1, rows=slice(0, sizes[1])).double()
        soft = torch.tensordot(soft, weights, dims=([1], [1]))  # moves the axis to the end; three times restores it
    chosen = soft.gather(0, torch.from_numpy(got.astype(np.int64)))
    assert (chosen >= soft.amax(0, keepdim=True) - 1e-5).all()  # float32 may decide a tie otherwise
    for number, label in enumerate(ORGANS.labels, start=1):
        single = LabelTable.of({"a": [label.index], "b": [label.index, 77]})
        region = prepare.target(labels, undo, single)[0].astype(bool)
        assert (region == (soft[number].numpy() >= 0.5))[np.abs(soft[number].numpy() - 0.5) > 1e-5].all()


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([0.6, 1.0, 1.7]), st.booleans(), st.integers(0, 99), st.sampled_from([40, 10**6]))
def test_to_native_equals_trilinear_interpolation_of_every_channel(shape, spacing, exclusive, seed, slab):
    scan = Volume(np.ones((1, *shape), np.float32), np.diag([1.0, 1, 2, 1]))
    _, undo = prepare.image(scan, plan((spacing, 1.1, 1.3)))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, *undo.prepared, generator=generator)
    sparse = torch.rand(undo.prepared, generator=generator) < 0.8
    scores[0 if exclusive else slice(None), sparse] += 9 if exclusive else -9  # structures small and far apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(native_grid.VOXELS, "cpu", slab)
        got = native_grid.labels(scores, undo, exclusive=exclusive)
    full = torch.nn.functional.interpolate(scores[None].double(), size=undo.cropped, mode="trilinear")[0]
    if exclusive:
        chosen = full.gather(0, torch.from_numpy(got.astype(np.int64)))
        assert (chosen >= full.amax(0, keepdim=True) - 1e-4).all()  # near ties may fall otherwise in float32
    else:
        assert ((got > 0) == (full > 0).numpy())[np.abs(full.numpy()) > 1e-4].all()
