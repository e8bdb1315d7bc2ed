"""Labels on the scan's grid from scores on the prepared one: leaving channels out must not change a voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.transforms import native
from medseg.transforms.prepare import Undo


def undo(prepared: tuple[int, int, int], scan: tuple[int, int, int]) -> Undo:
    whole = tuple((0, size) for size in scan)
    rows = tuple(map(tuple, np.eye(4).tolist()))
    return Undo(scan, rows, (0, 1, 2), (False, False, False), whole, prepared)  # type: ignore[arg-type]


def organs(shape: tuple[int, int, int], channels: int, *, exclusive: bool) -> torch.Tensor:
    """Scores that fall with the distance from a centre of each channel's own, and waver."""
    generator = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    centres = generator.uniform(0, 1, (channels, 3)) * shape
    far = np.stack([np.linalg.norm(places - centre[:, None, None, None], axis=0) for centre in centres])
    scores = (0 if exclusive else 9) - far + generator.normal(size=far.shape)
    return torch.from_numpy(scores).float()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    ("prepared", "scan"),
    [
        ((20, 70, 75), (31, 95, 50)),
        ((20, 40, 33), (20, 40, 33)),
        ((9, 70, 17), (30, 64, 200)),
        ((50, 33, 49), (20, 33, 100)),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_that_cannot_win_are_left_out_without_a_trace(prepared, scan, axis, exclusive, monkeypatch):
    scores = organs(prepared, 9, exclusive=exclusive)
    full = torch.nn.functional.interpolate(scores[None].double(), size=scan, mode="trilinear")[0]
    made: list[tuple[int, ...]] = []
    plain = native.Landing._resampled

    def counted(self, channel, place, starts):
        made.append(tuple(part.stop - part.start for part in place))
        return plain(self, channel, place, starts)

    monkeypatch.setattr(native.Landing, "_resampled", counted)
    monkeypatch.setitem(native.VOXELS, "cpu", 20_000)
    way = undo(prepared, scan)
    target = native.blank(way, 9, exclusive=exclusive)
    landing = native.Landing(way, target, exclusive=exclusive, axis=axis)
    rows = scores.movedim(1 + axis, 1)
    start = 0
    for stop in (*range(7, prepared[axis], 5), prepared[axis]):  # handed on in pieces, with the halo that is asked for
        landing.take(start, rows[:, start:stop].contiguous())
        start = max(0, stop - landing.halo)
    if exclusive:
        chosen = full.gather(0, torch.from_numpy(target.astype(np.int64)))
        assert (chosen >= full.amax(0, keepdim=True) - 1e-3).all()  # float32 scores of some 100, in near ties
    else:
        assert ((target > 0) == (full > 0).numpy())[np.abs(full.numpy()) > 1e-3].all()
    assert len(np.unique(target)) > (6 if exclusive else 1), "a case in which most channels win somewhere"
    work = sum(np.prod(one) for one in made) / np.prod(scan) / 9
    assert work < (0.9 if prepared == (20, 70, 75) else 1.01), "and in which leaving out pays, if it is large enough"


def test_where_one_channel_leads_everywhere_nothing_is_resampled(monkeypatch):
    monkeypatch.setattr(native.Landing, "_resampled", None)
    scores = torch.zeros(4, 10, 12, 14)
    scores[2] = 1
    assert (native.labels(scores, undo((10, 12, 14), (20, 7, 30)), exclusive=True) == 2).all()


def test_the_lower_channel_wins_a_tie():
    assert not native.labels(torch.zeros(3, 4, 4, 4), undo((4, 4, 4), (9, 9, 9)), exclusive=True).any()


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="prepared grid"):
        native.labels(torch.zeros(3, 4, 4, 5), undo((4, 4, 4), (9, 9, 9)), exclusive=True)


def test_rows_that_were_dropped_too_early_are_missed():
    way = undo((10, 4, 4), (20, 4, 4))
    landing = native.Landing(way, native.blank(way, 2, exclusive=True), exclusive=True)
    with pytest.raises(ValueError, match="row 0"):
        landing.take(1, torch.zeros(2, 5, 4, 4))
