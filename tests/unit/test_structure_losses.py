"""Tversky, clDice and boundary loss against plain numpy, and what they have in common."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg import config
from medseg.engine import run
from medseg.labels import IGNORE
from medseg.losses import boundary, cldice, dice, dice_ce, tversky
from medseg.settings import Settings

BOTH = pytest.mark.parametrize("exclusive", [True, False])
VARIANTS: list[tuple[ModuleType, Settings]] = [
    (tversky, tversky.Options()),
    (tversky, tversky.Options(alpha=0.6, beta=0.2, exponent=1.5, background=True)),
    (cldice, cldice.Options()),
    (cldice, cldice.Options(alpha=1, iterations=2)),
    (boundary, boundary.Options()),
    (boundary, boundary.Options(weight=1, dice_weight=0, ce_weight=0)),
]
EACH = pytest.mark.parametrize(("component", "options"), VARIANTS)


def given(exclusive: bool, shape: tuple[int, ...] = (4, 5, 6), unknown: float = 0.2):
    """Logits and target of two cases and three classes or regions, of which the last is nowhere in the second case."""
    generator = torch.Generator().manual_seed(11)
    logits = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3 if exclusive else 2, (2, 1 if exclusive else 3, *shape), generator=generator)
    if exclusive:
        target[1][target[1] == 2] = 1
    else:
        target[1, 2] = 0
    target[torch.rand(target.shape, generator=generator) < unknown] = IGNORE
    return logits, target


def plain(logits: torch.Tensor, target: torch.Tensor, exclusive: bool, background: bool = False):
    """Of each case and structure: probability, truth and whether that is known, as numpy arrays."""
    p = (logits.softmax(1) if exclusive else logits.sigmoid()).numpy()
    for case in range(len(p)):
        for structure in range(1 if exclusive and not background else 0, p.shape[1]):
            numbers = target[case, 0 if exclusive else structure].numpy()
            yield p[case, structure], numbers == (structure if exclusive else 1), numbers != IGNORE


def tversky_of(p, t, known, options):
    p, t = p[known], t[known]
    hit, alarm, miss = (p * t).sum(), (p * ~t).sum(), ((1 - p) * t).sum()
    index = (hit + options.smooth) / (hit + options.alpha * alarm + options.beta * miss + options.smooth)
    return (1 - index) ** options.exponent


def skeleton_of(values, known, iterations):
    """By scipy's grey morphology, with what is not known and what lies outside left out by an infinite value."""
    cross = ndimage.generate_binary_structure(3, 1)
    cube = np.ones((3, 3, 3), bool)
    found = np.zeros(values.shape)
    for step in range(iterations + 1):
        held = np.where(known, values, np.inf)
        smaller = ndimage.grey_erosion(held, footprint=cross, mode="constant", cval=np.inf)
        opened = ndimage.grey_dilation(np.where(known, smaller, -np.inf), footprint=cube, mode="constant", cval=-np.inf)
        edge = np.where(known, np.maximum(values - opened, 0), 0)
        found = edge if step == 0 else found + np.maximum(edge - found * edge, 0)
        values = smaller
    return np.where(known, found, 0)


def cldice_of(p, t, known, options):
    s, t = options.smooth, t.astype(float)
    p_lines, t_lines = skeleton_of(p, known, options.iterations), skeleton_of(t, known, options.iterations)
    precise = ((p_lines * t)[known].sum() + s) / (p_lines.sum() + s)
    sensitive = ((t_lines * p)[known].sum() + s) / (t_lines.sum() + s)
    return 1 - 2 * precise * sensitive / (precise + sensitive)


def dice_of(p, t, known, options):
    p, t = p[known], t[known]
    return 1 - (2 * (p * t).sum() + options.smooth) / (p.sum() + t.sum() + options.smooth)


def boundary_of(p, t, known, spacing=(1, 1, 1)):
    """Every distance in mm by looking at every pair of voxels."""
    inside, outside, costs = np.argwhere(t & known), np.argwhere(~t & known), []
    for place in np.argwhere(known):
        if not (len(inside) and len(outside)):
            costs.append(0.0)
            continue
        own = t[tuple(place)]
        apart = (place - (outside if own else inside)) * spacing
        far = np.sqrt((apart**2).sum(1)).min() - min(spacing) / 2
        costs.append(abs(p[tuple(place)] - own) * far)
    return costs


@BOTH
@pytest.mark.parametrize("unknown", [0, 0.2])
def test_tversky_equals_plain_numpy(exclusive, unknown):
    logits, target = given(exclusive, unknown=unknown)
    for options in (tversky.Options(), tversky.Options(alpha=0.9, beta=0.4, exponent=0.75, background=True)):
        expected = np.mean([tversky_of(*one, options) for one in plain(logits, target, exclusive, options.background)])
        found = tversky.build(options, exclusive=exclusive)([logits], target)
        assert found.item() == pytest.approx(expected, abs=3e-6)


@BOTH
def test_even_tversky_is_dice(exclusive):
    logits, target = given(exclusive)
    even = tversky.build(tversky.Options(alpha=0.5, beta=0.5, smooth=1e-6), exclusive=exclusive)
    plain_dice = dice.build(dice.Options(smooth=2e-6), exclusive=exclusive)
    torch.testing.assert_close(even([logits], target), plain_dice([logits], target), rtol=0, atol=1e-9)


def test_beta_above_alpha_counts_a_miss_above_a_false_alarm():
    target = torch.tensor([1, 1, 0, 0]).view(1, 1, 4, 1, 1)
    missing, extra = (torch.tensor(one).view(target.shape) for one in ([9.0, -9, -9, -9], [9.0, 9, 9, -9]))
    loss = tversky.build(tversky.Options(), exclusive=False)
    assert loss([missing], target) > 1.2 * loss([extra], target)


@BOTH
def test_the_root_of_the_focal_tversky_loss_has_finite_slopes_where_the_answer_is_perfect(exclusive):
    _, target = given(exclusive)
    logits = sure(target, exclusive, 200.0).requires_grad_()
    tversky.build(tversky.Options(exponent=0.75), exclusive=exclusive)([logits], target).backward()
    assert torch.isfinite(logits.grad).all()


@BOTH
@pytest.mark.parametrize("unknown", [0, 0.2])
@pytest.mark.parametrize("shape", [(5, 6, 7), (7, 8, 1)])
def test_cldice_equals_plain_numpy(exclusive, unknown, shape):
    logits, target = given(exclusive, shape, unknown)
    options = cldice.Options(alpha=0.3, iterations=2)
    each = [(dice_of(*one, options), cldice_of(*one, options)) for one in plain(logits, target, exclusive)]
    expected = np.mean(each, axis=0) @ [0.7, 0.3]
    found = cldice.build(options, exclusive=exclusive)([logits], target)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_a_broken_tube_costs_more_than_a_thin_one():
    """Both answers lack the same number of voxels; one of them in two pieces."""
    tube = torch.zeros(1, 1, 20, 7, 7)
    tube[:, :, :, 2:5, 2:5] = 1
    broken, thin = tube.clone(), tube.clone()
    broken[:, :, 9:11] = 0
    thin[:, :, 1:19, 2, 2] = 0
    loss = cldice.build(cldice.Options(alpha=1), exclusive=False)
    values = [loss([40 * answer - 20], tube).item() for answer in (broken, thin)]
    assert values[0] > values[1] + 0.02 and int(thin.sum()) == int(broken.sum())


@BOTH
@pytest.mark.parametrize("unknown", [0, 0.2])
def test_boundary_loss_equals_plain_numpy(exclusive, unknown):
    logits, target = given(exclusive, unknown=unknown)
    costs = np.concatenate([boundary_of(*one) for one in plain(logits, target, exclusive)])
    alone = boundary.build(boundary.Options(weight=1, dice_weight=0, ce_weight=0), exclusive=exclusive)
    assert alone([logits], target).item() == pytest.approx(costs.mean(), rel=1e-6)
    both = boundary.build(boundary.Options(weight=0.5, dice_weight=2, ce_weight=3), exclusive=exclusive)
    rest = dice_ce.build(dice_ce.Options(dice_weight=2, ce_weight=3), exclusive=exclusive)([logits], target)
    assert both([logits], target).item() == pytest.approx(0.5 * costs.mean() + rest.item(), rel=1e-6)


@BOTH
@pytest.mark.parametrize("spacing", [(0.8, 0.7, 5.0), (2.0, 2.0, 2.0)])
def test_boundary_loss_measures_in_millimetres_at_every_resolution(exclusive, spacing):
    logits, target = given(exclusive, unknown=0.1)
    options = boundary.Options(weight=1, dice_weight=0, ce_weight=0)
    costs = np.concatenate([boundary_of(*one, spacing) for one in plain(logits, target, exclusive)])
    loss = boundary.build(options, exclusive=exclusive, spacing_mm=spacing)
    assert loss([logits], target).item() == pytest.approx(costs.mean(), rel=1e-5)
    # the second of three outputs weighs a third; where it alone is wrong, its own voxels are twice as large along i
    target = torch.zeros(1, 1, 8, 4, 4, dtype=torch.uint8)
    target[:, :, 4:] = 1
    whole, half = (sure(one, False, 60.0) for one in (target, target[:, :, ::2]))
    half[:, :, 0] *= -1  # at a distance of one and a half of these voxels
    told = boundary.build(options, exclusive=False, spacing_mm=spacing)([whole, half, whole], target).item()
    shortest = min(2 * spacing[0], *spacing[1:])
    assert told == pytest.approx((2 * 2 * spacing[0] - shortest / 2) / 4 / 3, rel=1e-5)


def test_training_tells_a_loss_the_size_of_voxels(monkeypatch):
    built = []
    monkeypatch.setattr(boundary, "build", lambda options, **named: built.append(named))
    chosen = config.choose("losses", "boundary"), config.choose("losses", "dice_ce")
    for loss, spacing in [(0, (1.0, 1.0, 3.0)), (0, "native"), (1, (1.0, 1.0, 3.0))]:
        table, plan = SimpleNamespace(exclusive=True), SimpleNamespace(spacing_mm=spacing)
        run.build_loss(SimpleNamespace(loss=chosen[loss]), plan, table)
    assert built == [{"exclusive": True, "spacing_mm": (1.0, 1.0, 3.0)}, {"exclusive": True}]


def test_an_island_far_from_the_truth_costs_more_than_one_beside_it():
    target = torch.zeros(1, 1, 20, 5, 5)
    target[:, :, :4] = 1
    near, far = target.clone(), target.clone()
    near[:, :, 4], far[:, :, 19] = 1, 1
    loss = boundary.build(boundary.Options(weight=1, dice_weight=0, ce_weight=0), exclusive=False)
    assert loss([200 * far - 100], target) > 10 * loss([200 * near - 100], target) > 0


@EACH
@BOTH
def test_gradients_are_right_with_unknown_places_and_other_options(component, options, exclusive):
    logits, target = given(exclusive, (2, 3, 2))
    loss = component.build(options, exclusive=exclusive)
    assert torch.autograd.gradcheck(lambda given: loss([given], target), logits.requires_grad_())


def sure(target: torch.Tensor, exclusive: bool, how: float) -> torch.Tensor:
    truth = torch.where(target == IGNORE, 0, target)
    if exclusive:
        truth = torch.nn.functional.one_hot(truth[:, 0], 3).movedim(-1, 1)
    return 2.0 * how * truth - how


@EACH
@BOTH
def test_the_perfect_answer_is_the_least(component, options, exclusive):
    logits, target = given(exclusive)
    loss = component.build(options, exclusive=exclusive)
    perfect = loss([sure(target, exclusive, 60)], target).item()
    assert perfect == pytest.approx(0, abs=1e-6)
    other = [loss([sure(target, exclusive, 60) + weight * logits], target) for weight in (30, 100, 300)]
    assert all(value.item() > perfect for value in [*other, loss([logits], target)])


@EACH
@BOTH
def test_empty_and_full_structures_cost_nothing_if_answered_so(component, options, exclusive):
    for number in (0, 1):
        target = torch.full((2, 1 if exclusive else 3, 4, 4, 4), number)
        logits = sure(target, exclusive, 60.0).requires_grad_()
        value = component.build(options, exclusive=exclusive)([logits], target)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(logits.grad).all()
