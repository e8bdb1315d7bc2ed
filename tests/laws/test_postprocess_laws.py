"""Clean-up in slabs gives what clean-up of each label by itself gives, written down plainly with SciPy."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg import plugins
from medseg.labels import LabelTable
from medseg.pieces import Pieces

SPACING = np.array([10.0, 10.0, 10.0])
NEIGHBOURS = {6: 1, 18: 2, 26: 3}


@st.composite
def targets(draw) -> tuple[np.ndarray, LabelTable]:
    """Random maps: speckles, or blocks of them, which have larger pieces and holes; in any order in memory."""
    shape = draw(st.tuples(*[st.sampled_from([1, 2, 3, 5, 8])] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, exclusive = draw(st.integers(1, 4)), draw(st.booleans())
    names = {f"label {n}": (n if exclusive else [n, 9]) for n in range(1, count + 1)}
    table = LabelTable.of(names)
    share = draw(st.floats(0.1, 0.95))
    block = draw(st.integers(1, 3))
    size = (1 if exclusive else count, *(-(-side // block) for side in shape))
    values = rng.integers(1, count + 1 if exclusive else 2, size) * (rng.random(size) < share)
    for axis in (1, 2, 3):
        values = values.repeat(block, axis)
    order = draw(st.permutations(range(4)))
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    cut = values[:, : shape[0], : shape[1], : shape[2]].astype(kind)
    return np.ascontiguousarray(cut.transpose(order)).transpose(np.argsort(order)), table


def plain(target: np.ndarray, table: LabelTable, names: list[str], change) -> np.ndarray:
    """`change` makes a mask (I, J, K) of each label's mask, one label after the other."""
    target = target.copy()
    for name in names or table.names:
        position = table.names.index(name)
        channel, value = (target[0], position + 1) if table.exclusive else (target[position], 1)
        before = channel == value
        after = change(before)
        channel[before & ~after] = 0
        channel[after & (channel == 0)] = value
    return target


def parts(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Components, numbered by k, then j, then i of their first voxels, and their sizes."""
    structure = ndimage.generate_binary_structure(3, NEIGHBOURS[connectivity])
    numbered = ndimage.label(mask.T, structure)[0].T
    return numbered, np.bincount(numbered.ravel())


def largest(mask: np.ndarray, connectivity: int) -> np.ndarray:
    numbered, sizes = parts(mask, connectivity)
    firsts = [np.flatnonzero(numbered.ravel("F") == number)[0] for number in range(1, len(sizes))]
    best = min(range(1, len(sizes)), key=lambda number: (-sizes[number], firsts[number - 1]), default=0)
    return (numbered == best) & mask


def large(mask: np.ndarray, connectivity: int, voxels: int) -> np.ndarray:
    numbered, sizes = parts(mask, connectivity)
    return (sizes >= voxels)[numbered] & mask


def filled(mask: np.ndarray) -> np.ndarray:
    """Of a photograph or a slice in its plane."""
    if mask.size == 1:
        return mask
    flat = [axis for axis, size in enumerate(mask.shape) if size == 1]
    return np.expand_dims(ndimage.binary_fill_holes(mask.squeeze(tuple(flat))), flat) if mask.size > 1 else mask


@settings(max_examples=120, deadline=None)
@given(made=targets(), slab=st.sampled_from([1, 3, 20, 70, 2**22]), data=st.data())
def test_slabs_give_what_the_whole_gives(made, slab, data):
    target, table = made
    names = data.draw(st.lists(st.sampled_from(table.names), unique=True))
    connectivity = data.draw(st.sampled_from(sorted(NEIGHBOURS)))
    voxels = data.draw(st.integers(0, 9))
    wanted = {
        "keep_largest": plain(target, table, names, lambda mask: largest(mask, connectivity)),
        "remove_small": plain(target, table, names, lambda mask: large(mask, connectivity, voxels)),
        "fill_holes": plain(target, table, names, filled),
    }
    for name, whole in wanted.items():
        step = plugins.find("postprocess", name)
        given_ = {"labels": names, "connectivity": connectivity, "min_ml": voxels}
        options = step.Options(**{key: value for key, value in given_.items() if key in step.Options.model_fields})
        with patch("medseg.pieces.SLAB", slab):
            found = step.apply(target.copy(order="K"), table=table, spacing_mm=SPACING, options=options)
        assert found.dtype == target.dtype
        np.testing.assert_array_equal(found, whole, name)


def test_a_hole_inside_what_a_hole_holds():
    """A shell of a shell of a shell, each of another label: what lies between is filled by the innermost around it,
    whose name comes first; and across any number of slabs."""
    far = np.abs(np.mgrid[-9:10, -9:10, -9:10]).max(axis=0)
    target = (1 * (far == 8) + 2 * (far == 5) + 3 * (far == 2)).astype(np.uint8)[None]
    table = LabelTable.of({"outer": 1, "middle": 2, "inner": 3})
    step = plugins.find("postprocess", "fill_holes")
    for names, between in (((), (1, 1, 1)), (("inner", "middle", "outer"), (1, 2, 3)), (("middle",), (0, 2, 2))):
        with patch("medseg.pieces.SLAB", 1000):
            options = step.Options(labels=names)
            found = step.apply(target.copy(), table=table, spacing_mm=SPACING, options=options)
        assert tuple(found[0, 9, 9, 9 - at] for at in (6, 3, 0)) == between
        assert (found[target > 0] == target[target > 0]).all() and not found[0][far > 8].any()


@settings(max_examples=60, deadline=None)
@given(made=targets(), slab=st.sampled_from([1, 3, 20, 2**22]))
def test_pieces_touch_where_their_voxels_share_a_face(made, slab):
    values = made[0][0]
    with patch("medseg.pieces.SLAB", slab):
        found = Pieces(values, None, connectivity=6)
    if not values.any():
        return
    box = tuple(slice(line.min(), line.max() + 1) for line in np.nonzero(values))
    inner = values[box]
    each = [ndimage.label((inner == value).T)[0].T for value in np.unique(inner)]
    starts = np.cumsum([0, *(numbered.max() for numbered in each)])
    numbered = sum(np.where(one > 0, one + start, 0) for one, start in zip(each, starts, strict=False))
    firsts = np.unique(numbered.ravel("F"), return_index=True)[1]
    numbered = (np.argsort(np.argsort(firsts)) + 1)[numbered - 1]  # by k, then j, then i of their first voxels
    wanted = set()
    for axis in range(3):
        one, other = np.delete(numbered, -1, axis), np.delete(numbered, 0, axis)
        wanted |= {frozenset(pair) for pair in zip(one[one != other], other[one != other], strict=True)}
    assert {frozenset(pair) for pair in found.pairs.tolist()} == wanted
    np.testing.assert_array_equal(found.sizes, np.bincount(numbered.ravel()))
    np.testing.assert_array_equal(found.values[numbered], inner)
