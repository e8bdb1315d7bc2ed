"""What every loss of the registry keeps to."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medseg import plugins
from medseg.labels import IGNORE

NAMES = plugins.names("losses")
BOTH = pytest.mark.parametrize("exclusive", [True, False])
EACH = pytest.mark.parametrize("name", NAMES)


def build(name: str, exclusive: bool):
    component = plugins.find("losses", name)
    return component.build(component.Options(), exclusive=exclusive)


def target_of(exclusive: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (2, 1, 4, 4, 6) if exclusive else (2, 3, 4, 4, 6)
    return torch.randint(0, 3 if exclusive else 2, shape, generator=generator).to(torch.uint8)


def outputs_of(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    sizes = ((4, 4, 6), (2, 2, 3), (1, 1, 3))
    return [torch.randn(2, 3, *size, generator=generator).to(dtype).requires_grad_() for size in sizes]


def test_the_list_equals_the_folder():
    assert tuple(sorted(file.stem for file in (plugins.PACKAGE / "losses").glob("[!_]*.py"))) == NAMES


@EACH
def test_has_a_summary_and_refuses_unknown_options(name):
    assert plugins.summary("losses", name)
    component = plugins.find("losses", name)
    assert all(field.description for field in component.Options.model_fields.values())
    with pytest.raises(ValidationError):
        component.Options(no_such_option=1)


@EACH
@BOTH
def test_gradient_is_right(name, exclusive):
    loss, target = build(name, exclusive), target_of(exclusive)[:1, :, :2, :2, :2]
    generator = torch.Generator().manual_seed(7)
    fine = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64, generator=generator).requires_grad_()
    coarse = torch.randn(1, 3, 1, 1, 2, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss([a, b, b], target), (fine, coarse))


@EACH
@BOTH
def test_every_output_gets_a_finite_gradient(name, exclusive):
    outputs = outputs_of(torch.float32)
    value = build(name, exclusive)(outputs, target_of(exclusive))
    value.backward()
    assert value.shape == ()
    assert all(output.grad is not None and torch.isfinite(output.grad).all() for output in outputs)


@EACH
@BOTH
def test_half_precision_is_computed_in_float32(name, exclusive):
    outputs = outputs_of(torch.bfloat16)
    loss, target = build(name, exclusive), target_of(exclusive)
    value = loss(outputs, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss([output.float() for output in outputs], target))


@EACH
@BOTH
def test_a_certain_right_answer_beats_a_certain_wrong_one(name, exclusive):
    target = target_of(exclusive).long()
    truth = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1) if exclusive else target
    loss = build(name, exclusive)
    right, wrong = loss([40.0 * truth - 20], target), loss([20 - 40.0 * truth], target)
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert wrong > 0.5


@EACH
@BOTH
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_stay_finite(name, exclusive, size):
    logits = torch.full((2, 3, 4, 4, 6), size)
    logits[:, 1] = -size
    logits.requires_grad_()
    value = build(name, exclusive)([logits], target_of(exclusive))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@EACH
def test_a_classifiers_logits_are_taken_like_any_others(name):
    """(B, C, 1, 1, 1), of images with a class each; the last one's is not known."""
    logits = torch.randn(4, 3, 1, 1, 1, generator=torch.Generator().manual_seed(8)).requires_grad_()
    build(name, True)([logits], torch.tensor([0, 2, 1, IGNORE], dtype=torch.uint8).view(4, 1, 1, 1, 1)).backward()
    assert (logits.grad[:3] != 0).any() and (logits.grad[3] == 0).all()


@EACH
@BOTH
def test_what_is_not_known_is_left_out(name, exclusive):
    """Logits where the truth is not known change nothing and get no gradient."""
    target = target_of(exclusive)
    unknown = torch.rand(target.shape, generator=torch.Generator().manual_seed(9)) < 0.3
    target[unknown] = IGNORE
    logits = outputs_of(torch.float32)[0].detach()
    other = torch.where(unknown, torch.randn(logits.shape, generator=torch.Generator().manual_seed(10)) * 9, logits)
    values = []
    for given in (logits, other):
        given.requires_grad_()
        values.append(build(name, exclusive)([given], target))
        values[-1].backward()
        hidden = unknown.expand_as(given)
        assert (given.grad[hidden] == 0).all() and (given.grad[~hidden] != 0).any()
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)


@EACH
@BOTH
def test_places_that_are_not_known_might_as_well_not_be_there(name, exclusive):
    """Cutting off the far half, in which nothing is known, leaves the loss as it is."""
    target, logits = target_of(exclusive), outputs_of(torch.float32)[0]
    target[:, :, 2:] = IGNORE
    loss = build(name, exclusive)
    assert loss([logits], target).item() == pytest.approx(loss([logits[:, :, :2]], target[:, :, :2]).item(), rel=1e-5)


@EACH
@BOTH
def test_nothing_known_at_all_costs_nothing(name, exclusive):
    outputs = outputs_of(torch.float32)
    value = build(name, exclusive)(outputs, torch.full_like(target_of(exclusive), IGNORE))
    value.backward()
    assert value.item() == 0
    assert all((output.grad == 0).all() for output in outputs)


@EACH
@BOTH
@pytest.mark.parametrize("batch_dice", [False, True])
def test_says_whether_it_is_other_than_the_mean_over_samples(name, exclusive, batch_dice):
    """What gradients that are added up make of it."""
    component = plugins.find("losses", name)
    if batch_dice and "batch_dice" not in component.Options.model_fields:
        return
    options = component.Options(**({"batch_dice": True} if batch_dice else {}))
    loss = component.build(options, exclusive=exclusive)
    outputs, target = outputs_of(torch.float32), target_of(exclusive)
    each = [loss([output[place : place + 1] for output in outputs], target[place : place + 1]) for place in (0, 1)]
    same = torch.isclose(loss(outputs, target), (each[0] + each[1]) / 2, rtol=1e-5)
    assert same or component.mixes_samples(options)
