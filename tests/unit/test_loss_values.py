"""Losses on values that can be checked on paper, and against MONAI on random ones."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn.functional import binary_cross_entropy_with_logits

from medseg.labels import IGNORE
from medseg.losses import ce, deep_supervision_weights, dice, dice_ce, focal, nearest
from medseg.refusal import Refusal


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


HALF = math.log(2)
"""Cross entropy of a probability of one half."""


def test_cross_entropy_leaves_out_what_is_not_known():
    # Two known voxels: one certain and right (0), one without an opinion (log 2). The third is certain, and not known.
    logits = torch.cat([certain(0, of=2), torch.zeros(1, 2, 1, 1, 1), certain(1, of=2)], dim=2)
    for loss in (ce.build(ce.Options(), exclusive=True), ce.build(ce.Options(weights=(3, 3)), exclusive=True)):
        assert loss([logits], row(0, 1, IGNORE)).item() == pytest.approx(HALF / 2)


def test_dice_leaves_out_what_is_not_known():
    # Regions. Known: truth 1, 1, 0 and answer 1, 0, 0: Dice = 2*1 / (2+1). The fourth, answered with 1, is not known.
    logits = row(200, -200, -200, 200)
    loss = dice.build(dice.Options(), exclusive=False)([logits], row(1, 1, 0, IGNORE))
    assert loss.item() == pytest.approx(1 - 2 / 3, abs=1e-5)


def test_a_structure_that_is_known_nowhere_takes_no_part_in_the_mean_dice():
    # Two regions in one case: of the first nothing is known; of the second, truth 1, 0 and answer 0, 1: Dice 0.
    logits = torch.cat([row(-200, -200), row(-200, 200)], dim=1)
    target = torch.cat([row(IGNORE, IGNORE), row(1, 0)], dim=1)
    assert dice.build(dice.Options(), exclusive=False)([logits], target).item() == pytest.approx(1, abs=1e-4)


def test_the_number_for_not_known_is_that_of_a_class_where_there_are_so_many():
    logits = torch.zeros(1, IGNORE + 1, 1, 1, 1)
    assert ce.build(ce.Options(), exclusive=True)([logits], row(IGNORE)).item() == pytest.approx(math.log(IGNORE + 1))


def test_weights_of_classes_make_a_weighted_mean():
    # Truth 0, 1, 1, weights 3 and 1. Costs: log 2 (no opinion), 0 (right), log 2: (3 log 2 + 0 + log 2) / (3 + 1 + 1).
    logits = torch.cat([torch.zeros(1, 2, 1, 1, 1), certain(1, of=2), torch.zeros(1, 2, 1, 1, 1)], dim=2)
    loss = ce.build(ce.Options(weights=(3, 1)), exclusive=True)
    assert loss([logits], row(0, 1, 1)).item() == pytest.approx(4 / 5 * HALF)


def test_weights_of_regions_make_a_weighted_mean():
    # Two regions of two voxels, weights 3 and 1; the first costs log 2 at each, the second nothing, and one is unknown.
    logits = torch.cat([row(0, 0), row(200, -200)], dim=1)
    loss = ce.build(ce.Options(weights=(3, 1)), exclusive=False)
    assert loss([logits], torch.cat([row(1, 0), row(1, 0)], dim=1)).item() == pytest.approx(6 / 8 * HALF)
    assert loss([logits], torch.cat([row(1, IGNORE), row(1, 0)], dim=1)).item() == pytest.approx(3 / 5 * HALF)


def test_weighted_cross_entropy_equals_pytorchs():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator)
    target = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=generator)
    target[0, 0, 0] = IGNORE
    weights = (3.54, 1.0, 0.0)
    expected = torch.nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=IGNORE)(logits, target[:, 0])
    torch.testing.assert_close(ce.build(ce.Options(weights=weights), exclusive=True)([logits], target), expected)


@pytest.mark.parametrize(("weights", "target", "value"), [((0, 0), (0, 1), 0), ((1, 0), (1, 1), 0)])
def test_classes_without_weight_cost_nothing(weights, target, value):
    logits = torch.zeros(1, 2, 2, 1, 1)
    assert ce.build(ce.Options(weights=weights), exclusive=True)([logits], row(*target)).item() == value


@pytest.mark.parametrize(
    ("loss", "exclusive"),
    [
        (ce.build(ce.Options(weights=(1, 2)), exclusive=True), True),
        (ce.build(ce.Options(weights=(1, 2)), exclusive=False), False),
        (focal.build(focal.Options(alpha=(0.5, 0.5)), exclusive=True), True),
        (focal.build(focal.Options(alpha=(0.5, 0.5)), exclusive=False), False),
    ],
)
def test_a_wrong_number_of_weights_is_refused(loss, exclusive):
    with pytest.raises(Refusal, match="2 numbers; needed 3"):
        loss([torch.zeros(1, 3, 2, 1, 1)], torch.zeros(1, 1 if exclusive else 3, 2, 1, 1))


def test_focal_loss_on_paper():
    # p of the truth 1/4: (3/4)^2 log 4; p of the truth 3/4: (1/4)^2 log(4/3).
    odds = math.log(3)
    hard, easy = (3 / 4) ** 2 * math.log(4), (1 / 4) ** 2 * math.log(4 / 3)
    binary = focal.build(focal.Options(alpha=(0.25,)), exclusive=False)
    assert binary([row(-odds, -odds)], row(1, 0)).item() == pytest.approx((0.25 * hard + 0.75 * easy) / 2)
    plain = focal.build(focal.Options(), exclusive=False)
    assert plain([row(-odds, -odds, 9)], row(1, 0, IGNORE)).item() == pytest.approx((hard + easy) / 2)
    classes = torch.cat([torch.zeros(1, 1, 3, 1, 1), row(-odds, -odds, 9)], dim=1)
    softmax = focal.build(focal.Options(alpha=(0.75, 0.25)), exclusive=True)
    assert softmax([classes], row(1, 0, IGNORE)).item() == pytest.approx((0.25 * hard + 0.75 * easy) / 2)


@pytest.mark.parametrize("exclusive", [False, True])
def test_focal_loss_without_gamma_is_cross_entropy(exclusive):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator)
    target = torch.randint(0, 3 if exclusive else 2, (2, 1 if exclusive else 3, 4, 5, 6), generator=generator)
    torch.testing.assert_close(
        focal.build(focal.Options(gamma=0), exclusive=exclusive)([logits], target),
        ce.build(ce.Options(), exclusive=exclusive)([logits], target),
    )


@pytest.mark.parametrize("exclusive", [False, True])
def test_focal_loss_below_gamma_1_has_finite_slopes_where_the_answer_is_perfect(exclusive):
    logits = (certain(0, 1, of=2) if exclusive else row(-200.0, 200.0)).requires_grad_()
    focal.build(focal.Options(gamma=0.5), exclusive=exclusive)([logits], row(0, 1)).backward()
    assert torch.isfinite(logits.grad).all()


def test_a_share_above_one_for_regions_is_refused():
    with pytest.raises(Refusal, match="from 0 to 1"):
        focal.build(focal.Options(alpha=(1.5,)), exclusive=False)


def test_dice_with_background_counts_it_as_a_class():
    # Background: truth 1 voxel, answer 2, one shared: 2/3. Label 1: truth 2, answer 1: 2/3.
    given = [certain(0, 1, 0, of=2)], row(0, 1, 1)
    assert dice.build(dice.Options(background=True), exclusive=True)(*given).item() == pytest.approx(1 / 3, abs=1e-5)
    # Truth all background, found but for one of four: 2*3 / (4+3), against Dice 0 of label 1.
    given = [certain(0, 0, 0, 1, of=2)], row(0, 0, 0, 0)
    loss = dice.build(dice.Options(background=True), exclusive=True)(*given).item()
    assert loss == pytest.approx(1 - (6 / 7 + 0) / 2, abs=1e-5)


def test_swin_unets_loss_is_a_choice_of_options():
    """0.4 cross entropy + 0.6 Dice of the softmax, background included, over the whole batch, squared denominators."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 4, 5, 6, 1, generator=generator)
    target = torch.randint(0, 4, (2, 1, 5, 6, 1), generator=generator)
    p, losses = logits.softmax(dim=1), []
    for number in range(4):
        truth = (target[:, 0] == number).float()
        overlap, sizes = (p[:, number] * truth).sum(), (p[:, number] ** 2).sum() + (truth**2).sum()
        losses.append(1 - (2 * overlap + 1e-5) / (sizes + 1e-5))
    expected = 0.4 * torch.nn.functional.cross_entropy(logits, target[:, 0]) + 0.6 * sum(losses) / 4
    options = dice_ce.Options(dice_weight=0.6, ce_weight=0.4, batch_dice=True, squared=True, background=True)
    torch.testing.assert_close(dice_ce.build(options, exclusive=True)([logits], target), expected)
