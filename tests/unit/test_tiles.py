"""Tiled inference against a plain loop, and against networks whose answer is known."""

from __future__ import annotations

import itertools
import math
import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medseg.engine.forward import forward
from medseg.engine.tiles import Seen, Tiling, _batches, answers, cut, flips, starts, stream, weights
from medseg.refusal import Refusal

CPU = torch.device("cpu")


def run(networks, image: Tensor, tile, orientation: str = "RAS", *, mirror=(), axis=0, said=None, batch=1, **tiling):
    """The rows that come out of the stream, one after another."""
    passes = flips(mirror, orientation)
    members = [Seen(image, forward(network, passes=passes, precision="32", device=CPU)) for network in networks]
    places = Tiling.of(image.shape[1:], tile, overlap=tiling.pop("overlap", 0.5), **tiling)
    box = tuple(slice(0, size) for size in image.shape[1:])
    channels = members[0].forward(torch.zeros(1, len(image), *tile)).shape[1]
    rows = []
    for first, scores in stream(members, places, box, channels=channels, axis=axis, batch=batch, on_tiles=said):
        assert first == sum(one.shape[1] for one in rows), "no row comes twice, and none is left out"
        rows.append(scores.clone())
    return torch.cat(rows, 1).movedim(1, 1 + axis)


class Position(nn.Module):
    """Adds where in the tile a voxel lies, so that blending and mirroring show."""

    def forward(self, x: Tensor) -> Tensor:
        i = torch.arange(x.shape[2]).reshape(-1, 1, 1).float()
        return torch.cat([x, x + i], dim=1)


@given(some.integers(1, 300), some.integers(1, 128), some.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_starts_are_those_of_nnunet(size, tile, overlap):
    """Its formula in exact fractions, so that a half is a half; either neighbour of a half is as good. But no more than
    there are places."""
    found = starts(size, tile, overlap)
    if size <= tile:
        assert found == [0]
        return
    count = math.ceil(Fraction(size - tile) / (tile * (1 - Fraction(overlap)))) + 1
    count = min(count, size - tile + 1)
    step = Fraction(size - tile, count - 1)
    assert len(found) == count and found[0] == 0 and found[-1] == size - tile
    assert all(abs(at - step * place) <= Fraction(1, 2) for place, at in enumerate(found))


@given(some.integers(1, 200), some.integers(1, 64), some.floats(0, 0.95))
def test_every_voxel_is_covered(size, tile, overlap):
    covered = np.zeros(max(size, tile), int)
    for at in starts(size, tile, overlap):
        covered[at : at + tile] += 1
    assert covered.min() >= 1


def test_known_starts():
    assert starts(160, 96, 0.5) == [0, 32, 64]
    assert starts(100, 64, 0.5) == [0, 18, 36]
    assert starts(65, 64, 0.5) == [0, 1]
    assert starts(4, 1, 0.5) == [0, 1, 2, 3], "a network of single slices would see each twice"
    assert starts(64, 64, 0.5) == starts(10, 64, 0.5) == [0]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize(
    ("shape", "tile"),
    [((17, 23, 9), (8, 8, 8)), ((5, 3, 7), (8, 8, 8)), ((5, 30, 8), (8, 16, 8)), ((19, 33, 1), (8, 16, 1))],
)
def test_a_network_that_returns_its_input_gives_the_image_back(shape, tile, overlap, blend):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    found = run([nn.Identity()], image, tile, overlap=overlap, blend=blend, batch=3)
    assert found.shape == image.shape
    # sums of up to a thousand weighted float32 values, divided by the sum of their weights
    torch.testing.assert_close(found, image, rtol=0, atol=3e-5)


def by_hand(network: nn.Module, image: Tensor, tile, overlap: float, blend: str) -> np.ndarray:
    """The definition, voxel by voxel in float64: the weighted mean over all tiles that hold a voxel."""
    shape = image.shape[1:]
    before = [max(0, side - size) // 2 for size, side in zip(shape, tile, strict=True)]
    whole = np.zeros((len(image), *np.maximum(shape, tile)))
    inside = tuple(slice(at, at + size) for at, size in zip(before, shape, strict=True))
    whole[(slice(None), *inside)] = image.numpy()
    weight = np.ones(tile)
    if blend == "gaussian":
        for place in np.ndindex(*tile):
            d = [(at - (side - 1) / 2) / (side / 8) for at, side in zip(place, tile, strict=True)]
            weight[place] = math.exp(-0.5 * sum(x * x for x in d))
    total, norm = 0, np.zeros(whole.shape[1:])
    for corner in itertools.product(*(starts(n, t, overlap) for n, t in zip(whole.shape[1:], tile, strict=True))):
        box = tuple(slice(at, at + side) for at, side in zip(corner, tile, strict=True))
        out = network(torch.tensor(whole[(slice(None), *box)])[None].float())[0].double().numpy()
        if isinstance(total, int):
            total = np.zeros((len(out), *whole.shape[1:]))
        total[(slice(None), *box)] += out * weight
        norm[box] += weight
    return (total / norm)[(slice(None), *inside)]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(13, 9, 10), (6, 20, 8)])
def test_against_a_plain_loop(shape, blend):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
    expected = by_hand(Position(), image, (8, 8, 8), 0.5, blend)
    found = run([Position()], image, (8, 8, 8), blend=blend, batch=4)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)  # float32 against float64


def test_the_batch_of_tiles_changes_nothing():
    image = torch.randn(1, 20, 20, 20, generator=torch.Generator().manual_seed(3))
    one, many = (run([Position()], image, (8, 8, 8), batch=batch) for batch in (1, 7))
    torch.testing.assert_close(one, many, rtol=0, atol=0)


def test_one_tile_is_alive_at_a_time():
    """Answers of a hundred classes are as large as what the network takes to make them."""
    alive: list[weakref.ref] = []

    def forward(tiles: Tensor) -> Tensor:
        assert all(one() is None for one in alive), "former answers"
        made = torch.randn(len(tiles), 3, *tiles.shape[2:])
        alive.append(weakref.ref(made))
        return made

    box, member = (slice(0, 16),) * 3, Seen(torch.zeros(1, 16, 16, 16), forward)
    for _ in stream([member], Tiling.of((16, 16, 16), (8, 8, 8), overlap=0.5), box, channels=3):
        assert alive[-1]() is None
    assert len(alive) == 27


def test_one_network_answers_at_a_time():
    """Only the sum of an ensemble waits for the next answers."""
    alive: list[weakref.ref] = []

    def forward(tiles: Tensor) -> Tensor:
        assert sum(one() is not None for one in alive) <= (len(alive) % 3 > 0), "former answers"
        made = torch.ones(len(tiles), 3, *tiles.shape[2:], dtype=torch.float32) * (1 + len(alive) % 3)
        alive.append(weakref.ref(made))
        return made

    box, member = (slice(0, 8),) * 3, Seen(torch.zeros(1, 8, 8, 8), forward)
    for _, scores in stream([member] * 3, Tiling.of((8, 8, 8), (8, 8, 8), overlap=0.5), box, channels=3):
        assert (scores == 2).all()
    assert len(alive) == 3


class Waiting(TorchFunctionMode):
    """Counts when a number is asked of a tensor, for which the host waits for a GPU."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        self.count += name in ("__bool__", "item", "tolist", "cpu", "numpy", "nonzero", "__float__")
        return func(*args, **(kwargs or {}))


def test_the_host_waits_once_for_each_stretch_of_rows():
    member = Seen(torch.zeros(1, 32, 8, 32), lambda tiles: tiles + 1)
    box, handed = (slice(0, 32), slice(0, 8), slice(0, 32)), 0
    weights((8, 8, 8), "gaussian")  # made once
    with Waiting() as waiting:
        for _ in stream([member], Tiling.of((32, 8, 32), (8, 8, 8), overlap=0.5), box, channels=1):
            handed += 1
    assert handed == 7 and waiting.count <= handed + 1  # and once for the logits that are there before


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (7, 3, 2), (15, 15, 15)])
def test_what_is_not_finite_is_found_wherever_it_is(place, value, kind):
    """Tiles that come before and after at the same place do not hide it."""
    image = torch.zeros(1, 16, 16, 16)
    image[(0, *place)] = value
    places, box = Tiling.of((16, 16, 16), (8, 8, 8), overlap=0.75), (slice(0, 16),) * 3
    with pytest.raises(Refusal, match="not finite"):
        list(stream([Seen(image, lambda tiles: tiles)], places, box, channels=1, halo=2, kind=kind))


def test_a_classifier_that_says_nan_is_refused():
    image = torch.zeros(1, 4, 4, 3)
    image[0, 0, 0, 2] = math.nan
    member = Seen(image, lambda tiles: tiles[:, :, :1, :1])
    places = Tiling.of((4, 4, 3), (4, 4, 1), overlap=0)
    with pytest.raises(Refusal, match="not finite"):
        answers(member, places)
    assert answers(replace(member, image=torch.ones(1, 4, 4, 3)), places).shape == (1, 1, 1, 3)


def test_means_in_half_precision_do_not_run_over_unseen():
    image, box = torch.full((1, 8, 8, 8), 1e5), (slice(0, 8),) * 3
    places, member = Tiling.of((8, 8, 8), (8, 8, 8), overlap=0.5), Seen(image, lambda tiles: tiles)
    list(stream([member], places, box, channels=1))
    with pytest.raises(Refusal, match="not finite"):
        list(stream([member], places, box, channels=1, kind=torch.float16))


def test_mirroring_averages_every_combination_of_patient_axes():
    """In PIR order, left-right is the last voxel axis and anterior-posterior the first."""
    assert flips(("left-right", "anterior-posterior"), "PIR") == [(), (4,), (2,), (4, 2)]
    assert flips((), "RAS") == [()]
    image = torch.zeros(1, 8, 8, 8)
    found = run([Position()], image, (8, 8, 8), "PIR", mirror=("anterior-posterior",))
    torch.testing.assert_close(found[1], torch.full((8, 8, 8), 3.5))  # i and 7 - i
    untouched = run([Position()], image, (8, 8, 8), "PIR", mirror=("left-right", "inferior-superior"))
    torch.testing.assert_close(untouched[1, :, 0, 0], torch.arange(8.0))


def test_an_ensemble_is_the_mean_of_its_members_logits():
    class Times(nn.Module):
        def __init__(self, factor: float):
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.factor * x, x[:, :, ::2]  # deep supervision: only the finest counts

    image = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(run([Times(1), Times(2), Times(6)], image, (8, 8, 8)), 3 * image)


def test_padding_is_even_and_with_zeros():
    image = torch.ones(1, 3, 8, 4)
    places = Tiling.of((3, 8, 4), (8, 8, 8), overlap=0.5, context=1)
    [corner] = itertools.product(*places.corners)
    padded = cut(image, corner, places)
    assert padded.shape == (1, 8, 8, 10) and padded.sum() == 3 * 8 * 4
    assert padded[0, 2:5, :, 3:7].min() == 1


def test_weights_are_symmetric_and_largest_in_the_middle():
    gaussian = weights((8, 6, 1), "gaussian")
    assert torch.equal(gaussian, gaussian.flip(0, 1)) and gaussian.argmax() == (3 * 6 + 2)
    assert float(gaussian.min()) > 0
    assert weights((4, 4, 4), "constant").unique().tolist() == [1]


def test_progress_counts_tiles():
    said = []
    run([nn.Identity()], torch.zeros(1, 16, 8, 8), (8, 8, 8), batch=2, said=said.append)
    assert said == [1, 1, 1], "tiles of different rows never share a forward pass"
    said.clear()
    run([nn.Identity()], torch.zeros(1, 16, 8, 8), (8, 8, 8), batch=2, axis=2, said=said.append)
    assert said == [2, 1]


@given(some.integers(1, 40), some.integers(1, 9))
def test_batches_have_few_sizes(count, most):
    band = [(number, 0, 0) for number in range(count)]
    found = list(_batches(band, most))
    assert [corner for batch in found for corner in batch] == band
    sizes = [len(batch) for batch in found]
    assert set(sizes) <= {most, 1, 2, 4, 8} and max(sizes) <= most and sizes == sorted(sizes, reverse=True)
    assert sizes.count(most) == count // most or most == 1


@given(
    some.integers(1, 200),
    some.integers(1, 60),
    some.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 0.9]),
    some.data(),
)
def test_tiles_around_a_part_cover_it_with_as_few_as_that_takes(size, side, overlap, data):
    start = data.draw(some.integers(0, size - 1))
    part = slice(start, data.draw(some.integers(start + 1, size)))
    everything = slice(0, 4)
    found = Tiling.of((size, 4, 4), (side, 4, 4), overlap=overlap, box=(part, everything, everything)).corners[0]
    covered = {at for corner in found for at in range(corner, corner + side)}
    assert covered >= set(range(part.start, part.stop))
    assert len(found) == len(starts(part.stop - part.start, side, overlap))
    assert size < side or (min(found) >= 0 and max(found) + side <= size), "nothing beyond the image is seen"
    steps = [later - former for former, later in itertools.pairwise(found)]
    assert all(1 <= step <= max(1, math.ceil(side * (1 - overlap))) for step in steps)
    before, after = part.start - max(0, min(found)), min(size, max(found) + side) - part.stop
    assert abs(before - after) <= 1 or not min(found) > 0 or max(found) + side >= size, "as much on either side"


@given(some.integers(1, 200), some.integers(1, 60), some.sampled_from([0.0, 0.5]))
def test_tiles_around_everything_are_those_of_everything(size, side, overlap):
    sizes, tile = (size, 5, 6), (side, 4, 4)
    whole = tuple(slice(0, one) for one in sizes)
    assert Tiling.of(sizes, tile, overlap=overlap, box=whole) == Tiling.of(sizes, tile, overlap=overlap)
