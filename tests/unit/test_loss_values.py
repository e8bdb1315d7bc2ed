"""Losses on values that can be checked on paper, and against MONAI on random ones."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn.functional import binary_cross_entropy_with_logits

from medseg.losses import ce, deep_supervision_weights, dice, dice_ce, nearest


def row(*values: float) -> torch.Tensor:
    """One case, one channel, voxels along I."""
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def certain(*classes: int, of: int) -> torch.Tensor:
    """Logits that are sure of these classes."""
    return 200.0 * torch.nn.functional.one_hot(torch.tensor(classes), of).T.float().view(1, of, -1, 1, 1)


def test_dice_of_a_half_right_answer():
    # Label 1: truth 2 voxels, answer 1 voxel, both right: Dice = 2*1 / (2+1). Background takes no part.
    loss = dice.build(dice.Options(), exclusive=True)([certain(0, 1, 0, of=2)], row(0, 1, 1))
    assert loss.item() == pytest.approx(1 - 2 / 3, abs=1e-5)


def test_dice_is_the_mean_over_cases_or_one_for_the_batch():
    logits = torch.cat([certain(1, 1, of=2), certain(0, 1, of=2)])
    target = torch.cat([row(1, 1), row(1, 0)])  # Dice 1, and Dice 0
    mean = dice.build(dice.Options(), exclusive=True)([logits], target)
    batch = dice.build(dice.Options(batch_dice=True), exclusive=True)([logits], target)
    assert mean.item() == pytest.approx(0.5, abs=1e-5)
    assert batch.item() == pytest.approx(1 - 2 * 2 / (3 + 3), abs=1e-5)


def test_squared_denominator():
    # p = 1/2 everywhere, truth 1, 0: sum(pt) = 1/2; sum(p) = 1, sum(p^2) = 1/2; sum(t) = 1
    logits, target = torch.zeros(1, 1, 2, 1, 1), row(1, 0)
    plain = dice.build(dice.Options(), exclusive=False)([logits], target)
    squared = dice.build(dice.Options(squared=True), exclusive=False)([logits], target)
    assert plain.item() == pytest.approx(1 - 1 / 2, abs=1e-5)
    assert squared.item() == pytest.approx(1 - 1 / 1.5, abs=1e-5)


def test_an_absent_structure_that_is_not_predicted_costs_nothing():
    loss = dice.build(dice.Options(), exclusive=True)([certain(0, 0, of=2)], row(0, 0))
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_cross_entropy_of_no_opinion():
    assert ce.build(ce.Options(), exclusive=True)([torch.zeros(1, 4, 3, 1, 1)], row(0, 3, 1)).item() == pytest.approx(
        math.log(4)
    )
    assert ce.build(ce.Options(), exclusive=False)([torch.zeros(1, 1, 2, 1, 1)], row(0, 1)).item() == pytest.approx(
        math.log(2)
    )


def test_weights_of_deep_supervision():
    assert deep_supervision_weights(1) == [1.0]
    assert deep_supervision_weights(2) == [1.0, 0.0]
    assert deep_supervision_weights(5) == [weight / 1.875 for weight in (1, 0.5, 0.25, 0.125, 0)]


def test_targets_are_taken_at_voxel_centres():
    assert nearest(row(0, 1, 2, 3, 4, 5), (2, 1, 1)).flatten().tolist() == [1, 4]
    assert nearest(row(0, 1, 2, 3), (2, 1, 1)).flatten().tolist() == [1, 3]
    target = torch.randint(0, 9, (1, 1, 7, 8, 5)).float()
    expected = torch.nn.functional.interpolate(target, size=(3, 4, 5), mode="nearest-exact")
    torch.testing.assert_close(nearest(target, (3, 4, 5)), expected)


def test_deep_supervision_weighs_outputs_at_their_own_size():
    target = row(0, 1, 1, 1)
    right, wrong = certain(0, 1, 1, 1, of=2), certain(0, 0, of=2)  # coarse truth: voxels 1 and 3, both label 1
    loss = dice.build(dice.Options(), exclusive=True)([right, wrong, wrong[:, :, :1]], target)
    assert loss.item() == pytest.approx((1 * 0 + 0.5 * 1) / 1.5, abs=1e-4)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_equals_monai(exclusive, squared, batch):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 5, 6, 7, generator=generator)
    target = torch.randint(0, 4 if exclusive else 2, (2, 1 if exclusive else 4, 5, 6, 7), generator=generator)
    common = {"squared_pred": squared, "batch": batch, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
    if exclusive:
        common |= {"include_background": False, "to_onehot_y": True, "softmax": True}
    else:
        common |= {"sigmoid": True}
    truth = target if exclusive else target.float()
    chosen = {"squared": squared, "batch_dice": batch}
    torch.testing.assert_close(
        dice.build(dice.Options(**chosen), exclusive=exclusive)([logits], target), DiceLoss(**common)(logits, truth)
    )
    # Not DiceCELoss for regions: with several channels it takes a softmax cross entropy, even under sigmoid=True.
    expected = (
        DiceCELoss(lambda_dice=0.5, lambda_ce=2, **common)(logits, truth)
        if exclusive
        else 0.5 * DiceLoss(**common)(logits, truth) + 2 * binary_cross_entropy_with_logits(logits, truth)
    )
    both = dice_ce.build(dice_ce.Options(dice_weight=0.5, ce_weight=2, **chosen), exclusive=exclusive)
    torch.testing.assert_close(both([logits], target), expected)
