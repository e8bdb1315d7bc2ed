"""Dice while training, against counting voxels one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from medseg.config import PredictSettings
from medseg.data.cache import PreparedCase
from medseg.engine.validate import dice_sums, mean_dice, overlaps
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.transforms import native
from medseg.transforms.prepare import Undo

TABLE = LabelTable.of({"a": 1, "b": 5, "c": 9})
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})


def by_hand(truth: np.ndarray, predicted: np.ndarray, table: LabelTable) -> list[list[int]]:
    rows = []
    for place in range(len(table.labels)):
        one, other = table.mask(truth, place), table.mask(predicted, place)
        both = sum(bool(x and y) for x, y in zip(one.flat, other.flat, strict=True))
        rows.append([2 * both, int(one.sum()) + int(other.sum())])
    return rows


@given(some.integers(0, 2**32), some.sampled_from([np.uint8, np.uint16]))
def test_overlaps_against_brute_force(seed, kind):
    generator = np.random.default_rng(seed)
    for table, high, channels in ((TABLE, 4, 1), (REGIONS, 2, 2)):
        truth = generator.integers(0, high, (channels, 3, 4, 2)).astype(kind)
        predicted = generator.integers(0, high, (channels, 3, 4, 2)).astype(np.int32)
        assert overlaps(truth, predicted, table).tolist() == by_hand(truth, predicted, table)


def test_decisions():
    scores = torch.tensor([[0.0, 1.0], [2.0, -1.0]]).reshape(2, 2, 1, 1)
    itself = Undo.nothing((2, 1, 1))
    assert native.labels(scores, itself, exclusive=True).ravel().tolist() == [1, 0]
    assert native.labels(scores, itself, exclusive=False).reshape(2, 2).tolist() == [[0, 1], [1, 0]]


def test_means_leave_out_what_is_not_defined():
    sums = torch.tensor([[1.5, 2], [0, 0], [0.5, 1]], dtype=torch.float64)
    mean, per_label = mean_dice(sums)
    assert mean == 0.625 and per_label[0] == 0.75 and math.isnan(per_label[1])
    assert math.isnan(mean_dice(torch.zeros(2, 2))[0])


def test_a_perfect_network_scores_one_and_an_absent_label_nothing():
    """The image holds the class number; the network turns it into logits."""
    truth = np.random.default_rng(0).integers(0, 3, (1, 9, 8, 8)).astype(np.uint8)
    case = PreparedCase("x", truth.astype(np.float32), truth, None, {}, (1, 1, 0))  # type: ignore[arg-type]
    plan = Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=(8, 8, 8),
        batch=1,
        normalisation=(Normalisation(kind="none"),),
        crop="none",
        order=1,
        channels=("CT",),
    )

    class Perfect(torch.nn.Module):
        def forward(self, x):
            return -((x - torch.arange(4.0).reshape(1, 4, 1, 1, 1)) ** 2)

    network = Perfect().train()
    device = torch.device("cpu")
    sums = dice_sums(network, [case, case], plan=plan, table=TABLE, settings=PredictSettings(), device=device)
    assert sums.tolist() == pytest.approx(np.array([[2, 2], [2, 2], [0, 0]]))
    assert network.training
