"""The learning rate as a function of the step."""

from __future__ import annotations

import pytest
import torch

from medseg.config import TrainSettings
from medseg.engine.schedule import learning_rate, optimiser


def rates(**settings: object) -> list[float]:
    made = TrainSettings(epochs=2, steps=5, lr=1.0, **settings)  # type: ignore[arg-type]
    return [learning_rate(step, made) for step in range(10)]


def test_poly_is_that_of_nnunet():
    assert rates(schedule="poly") == pytest.approx([(1 - step / 10) ** 0.9 for step in range(10)])


def test_cosine_falls_from_all_to_nearly_nothing():
    found = rates(schedule="cosine")
    assert found[0] == 1 and found[5] == pytest.approx(0.5) and found[9] == pytest.approx(0.0245, abs=1e-4)
    assert found == sorted(found, reverse=True)


def test_warmup_rises_evenly_and_the_schedule_begins_after_it():
    assert rates(schedule="constant", warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1] * 6])
    found = rates(schedule="poly", warmup_steps=4)
    assert found[4] == 1 and found[5] == pytest.approx((5 / 6) ** 0.9)
    assert max(rates(warmup_steps=20)) < 1


@pytest.mark.parametrize(("schedule", "end"), [("poly", 0), ("cosine", 0), ("constant", 1)])
def test_beyond_the_end_the_rate_is_that_of_the_end(schedule, end):
    """A run that was stopped after the last step of an epoch is resumed with fewer epochs."""
    made = TrainSettings(epochs=2, steps=5, lr=1.0, schedule=schedule)
    assert learning_rate(13, made) == pytest.approx(end)


def test_optimisers_take_their_settings():
    weights = [torch.nn.Parameter(torch.ones(1))]
    sgd = optimiser(weights, TrainSettings(momentum=0.9, weight_decay=0.1, lr=0.5))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["weight_decay"]) == (0.9, True, 0.1)
    assert optimiser(weights, TrainSettings(momentum=0)).defaults["nesterov"] is False
    assert isinstance(optimiser(weights, TrainSettings(optimiser="adamw")), torch.optim.AdamW)
