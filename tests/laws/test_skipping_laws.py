"""Tiles that are left out change nothing where there is tissue, and leave background where nothing is said."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from medseg.engine.forward import forward
from medseg.engine.region import Region
from medseg.engine.segment import Layout, count_tiles, segment
from medseg.engine.skipping import Skipping
from medseg.engine.tiles import Seen, Tiling
from medseg.transforms.air import Tissue
from medseg.transforms.kept import Kept
from medseg.transforms.native import everything, reads
from tests.laws.test_stream_laws import CPU, Net, problems

FAR_AWAY = 5.0
"""Added to a class that background must not lose to."""


def run(undo, tile, layout, seed, *, exclusive, skipping=None, overlap=0.5, order=1, chances=None, said=None):
    net = Net(4, seed)
    with torch.no_grad():
        net.conv.bias[2] += FAR_AWAY
    image = torch.randn(1, *undo.prepared, generator=torch.Generator().manual_seed(seed))
    member = Seen(image, forward(net, passes=[()], precision="32", device=CPU))
    tiling = replace(Tiling.of(undo.prepared, tile, overlap=overlap), skipping=skipping)
    found = segment(
        [member],
        tiling,
        undo,
        replace(layout, batch=1),
        channels=4,
        exclusive=exclusive,
        order=order,
        kept=Kept(probabilities=chances),
        on_tile=said,
    )
    return found, tiling


def crop_of(undo, array: np.ndarray) -> np.ndarray:
    return undo.axes.apply(array)[(slice(None), *(slice(*part) for part in undo.crop))]


@settings(max_examples=60, deadline=None)
@given(
    problems(),
    some.sampled_from([0, 0.25, 0.5]),
    some.booleans(),
    some.sampled_from([0, 1]),
    some.booleans(),
    some.sampled_from([0.0, 0.002, 0.02]),
    some.integers(0, 10**6),
)
def test_tissue_gets_the_labels_that_it_gets_with_every_tile(problem, overlap, exclusive, order, asked, share, seed):
    undo, tile, layout = problem
    sides = tuple(np.random.default_rng(seed).integers(1, 4, 3).tolist())
    counts = [-(-size // side) for size, side in zip(undo.canonical, sides, strict=True)]
    blocks = np.random.default_rng(seed + 1).random(counts) < share
    tissue = Tissue(blocks, sides, undo)
    skipping = Skipping.of(tissue.under, 4, exclusive=exclusive)
    chances = [np.zeros((3 if exclusive else 4, *undo.shape), np.float32) if asked else None for _ in range(2)]
    said: list[tuple[int, int]] = []
    same = {"exclusive": exclusive, "overlap": overlap, "order": order}
    full, tiling = run(undo, tile, layout, seed, chances=chances[0], **same)
    some_of_it, fewer = run(
        undo, tile, layout, seed, skipping=skipping, chances=chances[1], said=lambda *step: said.append(step), **same
    )
    voxels = blocks.repeat(sides[0], 0).repeat(sides[1], 1).repeat(sides[2], 2)
    there = voxels[tuple(slice(*part) for part in undo.crop)]
    assert (crop_of(undo, full)[:, there] == crop_of(undo, some_of_it)[:, there]).all()
    if asked:
        # where a row ends, torch computes the softmax without vectors, and the last bit may differ
        np.testing.assert_array_max_ulp(*(crop_of(undo, one)[:, there] for one in chances), maxulp=2)
    answered = np.zeros(undo.prepared, bool)
    for corner in itertools.product(*tiling.corners):
        box = tuple(slice(max(0, at), at + side) for at, side in zip(corner, tile, strict=True))
        if tissue.under([slice(at, at + side) for at, side in zip(corner, tile, strict=True)]):
            answered[box] = True
    axes = [range(size) for size in undo.cropped]
    for place in itertools.islice(itertools.product(*axes), 0, None, 7):
        box = reads(undo, tuple(slice(at, at + 1) for at in place), order)
        if not answered[box].any():
            assert not crop_of(undo, some_of_it)[(slice(None), *place)].any()
            if asked:
                assert crop_of(undo, chances[1])[(slice(None), *place)].max() < 1e-20
    counted = count_tiles(fewer, undo, layout, order=order)
    assert counted <= count_tiles(tiling, undo, layout, order=order)
    assert said == [(done, counted) for done in range(1, counted + 1)]


@settings(max_examples=40, deadline=None)
@given(problems(), some.integers(0, 10**6))
def test_a_box_gets_the_labels_that_it_gets_in_the_whole(problem, seed):
    undo, tile, layout = problem
    generator = np.random.default_rng(seed)
    ends = [np.sort(generator.choice(size + 1, 2, replace=False)).tolist() for size in undo.shape]
    box = tuple(slice(*pair) for pair in ends)
    full, tiling = run(undo, tile, Layout(layout.axis, (everything(undo.cropped),)), seed, exclusive=True)
    blocks = Region(box).blocks(undo)
    assert blocks is not None
    part, _ = run(undo, tile, Layout(layout.axis, blocks), seed, exclusive=True)
    expected = np.zeros_like(full)
    expected[(0, *box)] = full[(0, *box)]
    assert (part == expected).all()
    everywhere = count_tiles(tiling, undo, Layout(layout.axis, (everything(undo.cropped),)))
    touching = count_tiles(tiling, undo, Layout(layout.axis, blocks))
    assert touching <= everywhere and (touching > 0) == bool(blocks)
