"""What streams through in pieces equals what the whole volume gives at once, whatever the pieces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import ndimage
from torch import Tensor, nn

from medseg.engine.forward import forward
from medseg.engine.segment import Layout, segment
from medseg.engine.tiles import Seen, Tiling, flips, starts
from medseg.transforms.kept import Kept
from medseg.transforms.native import everything
from medseg.transforms.prepare import Undo

CPU = torch.device("cpu")
AXIS_ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))


class Net(nn.Module):
    """Says something else at each place of a tile, and of each surrounding."""

    def __init__(self, channels: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv3d(1, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, x.shape[2]).reshape(-1, 1, 1)
        return self.conv(x) + 0.3 * ramp


def plainly(members: list[Net], image: Tensor, tile, overlap: float, blend: str, passes) -> np.ndarray:
    """Logits of the whole prepared image, all at once, in float64."""
    shape = np.array(image.shape[1:])
    before = np.maximum(0, np.array(tile) - shape) // 2
    after = np.maximum(0, np.array(tile) - shape) - before
    padded = np.pad(image.numpy(), [(0, 0), *zip(before, after, strict=True)])
    d = [(np.arange(side) - (side - 1) / 2) / (side / 8) for side in tile]
    weight = np.exp(-0.5 * (d[0][:, None, None] ** 2 + d[1][:, None] ** 2 + d[2] ** 2))
    weight = weight if blend == "gaussian" else np.ones(tile)
    total, norm = 0.0, np.zeros(padded.shape[1:])
    grid = [starts(size, side, overlap) for size, side in zip(padded.shape[1:], tile, strict=True)]
    for corner in itertools.product(*grid):
        box = (slice(None), *(slice(at, at + side) for at, side in zip(corner, tile, strict=True)))
        seen = torch.from_numpy(padded[box])[None]
        with torch.no_grad():
            outs = [one(seen.flip(axes)).flip(axes) for one in members for axes in passes]
        out = torch.stack(outs).double().mean(0)[0].numpy()
        total = np.zeros((len(out), *padded.shape[1:])) if isinstance(total, float) else total
        total[box] += out * weight
        norm[box[1:]] += weight
    inside = tuple(slice(at, at + size) for at, size in zip(before, shape, strict=True))
    return (total / norm)[(slice(None), *inside)]


def resampled(logits: np.ndarray, undo: Undo, order: int) -> np.ndarray:
    """On the whole native grid in canonical orientation, by scipy."""
    axes = [(np.arange(n) + 0.5) * (o / n) - 0.5 for o, n in zip(undo.prepared, undo.cropped, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    return np.stack([ndimage.map_coordinates(one, places, order=order, mode="nearest") for one in logits])


@some.composite
def problems(draw):
    sizes = some.tuples(*(some.integers(1, 14) for _ in range(3)))
    prepared, cropped = draw(sizes), draw(sizes)
    permutation, turned = draw(some.sampled_from(AXIS_ORDERS))
    crop = tuple(
        (at, at + size) for at, size in zip(draw(some.tuples(*[some.integers(0, 2)] * 3)), cropped, strict=True)
    )
    canonical = [stop + draw(some.integers(0, 2)) for _, stop in crop]
    shape = [0, 0, 0]
    for new, old in enumerate(permutation):
        shape[old] = canonical[new]
    undo = Undo(tuple(shape), tuple(map(tuple, np.eye(4).tolist())), permutation, turned, crop, prepared)
    tile = draw(some.tuples(*(some.sampled_from([3, 4, 8]) for _ in range(3))))
    tile = (*tile[:2], draw(some.sampled_from([tile[2], 1])))
    axis = draw(some.integers(0, 2))
    across = draw(some.integers(0, 2))
    cut = draw(some.integers(0, cropped[across]))
    halves = [part for part in (slice(0, cut), slice(cut, cropped[across])) if part.stop > part.start]
    blocks = tuple(
        tuple(half if number == across else whole for number, whole in enumerate(everything(cropped)))
        for half in halves
    )
    return undo, tile, Layout(axis, blocks, draw(some.integers(1, 3)))


@settings(max_examples=150, deadline=None)
@given(
    problems(),
    some.sampled_from([0, 0.25, 0.5, 0.75]),
    some.sampled_from(["gaussian", "constant"]),
    some.sampled_from([(), ("left-right",), ("left-right", "inferior-superior")]),
    some.integers(1, 2),
    some.booleans(),
    some.sampled_from([0, 1, 3]),
    some.booleans(),
    some.integers(0, 10**6),
)
def test_pieces_give_the_labels_of_the_whole(problem, overlap, blend, mirror, folds, exclusive, order, asked, seed):
    undo, tile, layout = problem
    nets = [Net(4, seed + fold) for fold in range(folds)]
    image = torch.randn(1, *undo.prepared, generator=torch.Generator().manual_seed(seed))
    passes = flips(mirror, "RAS")
    members = [Seen(image, forward(net, passes=passes, precision="32", device=CPU)) for net in nets]
    tiling = Tiling.of(undo.prepared, tile, overlap=overlap, blend=blend)
    chances = np.zeros((3 if exclusive else 4, *undo.shape), np.float32) if asked else None
    said: list[tuple[int, int]] = []
    got = segment(
        members,
        tiling,
        undo,
        layout,
        channels=4,
        exclusive=exclusive,
        order=order,
        kept=Kept(probabilities=chances),
        on_tile=lambda *step: said.append(step),
    )
    full = resampled(plainly(nets, image, tile, overlap, blend, passes), undo, order)
    canonical = undo.axes.apply(got)
    inside = canonical[(slice(None), *(slice(*part) for part in undo.crop))]
    assert got.shape == (1 if exclusive else 4, *undo.shape) and (got != 0).sum() == (inside != 0).sum()
    near = 1e-4  # float32 against float64, and a cubic spline's cut-off tails; a tie within it may fall either way
    if exclusive:
        chosen = np.take_along_axis(full, inside.astype(np.int64), axis=0)
        assert (chosen >= full.max(0) - near).all()
        expected = np.exp(full - full.max(0)) / np.exp(full - full.max(0)).sum(0)
    else:
        assert ((inside > 0) == (full > 0))[np.abs(full) > near].all()
        expected = 1 / (1 + np.exp(-full))
    if chances is not None:
        found = undo.axes.apply(chances)[(slice(None), *(slice(*part) for part in undo.crop))]
        assert np.abs(found - expected[-len(found) :]).max() < near
    assert said[-1][0] == said[-1][1]


def test_a_network_that_says_nan_is_refused():
    """Every band is looked at, not only the first."""

    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x == 5, torch.nan, x).expand(-1, 2, -1, -1, -1)

    image = torch.zeros(1, 12, 4, 4)
    image[0, 11, 3, 3] = 5
    undo = Undo.nothing((12, 4, 4))
    members = [Seen(image, forward(Late(), passes=[()], precision="32", device=CPU))]
    with pytest.raises(Exception, match="not finite"):
        segment(
            members,
            Tiling.of((12, 4, 4), (4, 4, 4), overlap=0.5),
            undo,
            Layout(0, (everything((12, 4, 4)),)),
            channels=2,
            exclusive=True,
        )
