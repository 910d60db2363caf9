"""The loop that trains: where it pauses, what it tells, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from netloupe.core.errors import NetworkError
from netloupe.training.loop import Learner, stretches
from netloupe.training.recipes import side_at
from watch_helpers import Recorder


class Slope(Learner[int]):
    """One weight that falls by the rate, the number of the step and `slope`; `broken` is a step without a loss."""

    def __init__(self, slope: float = 1.0, broken: int | None = None) -> None:
        self.network, self.device = nn.Linear(1, 1, bias=False), torch.device("cpu")
        nn.init.zeros_(self.network.weight)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1.0)
        self.steps, self.stretch, self.slope, self.broken = 10, 4, slope, broken

    @property
    def weight(self) -> float:
        return float(self.network.weight.detach())

    def rate(self, step: int) -> float:
        return 0.5 if step < 5 else 0.25

    def batches(self, steps: range) -> Iterator[int]:
        torch.rand(7)
        yield from steps

    def loss(self, step: int, batch: int) -> Tensor:
        assert step == batch
        return self.network.weight.sum() * (math.nan if step == self.broken else self.slope)


def test_it_pauses_at_the_same_steps_wherever_it_begins() -> None:
    for done, pauses in ((0, [4, 8, 10]), (4, [8, 10]), (5, [8, 10]), (10, [])):
        watch = Recorder()
        assert [stretch.done for stretch in stretches(Slope(), watch, done)] == pauses
        assert watch.told == [("training", step, 10) for step in range(done, 11)]


def test_each_step_has_its_rate_and_the_gradient_its_longest() -> None:
    plain, steep = Slope(), Slope(slope=1000.0)
    steep.longest = 1.0
    losses = [stretch.loss for stretch in stretches(plain)]
    assert plain.weight == pytest.approx(-(5 * 0.5 + 5 * 0.25))
    assert losses[0] == pytest.approx(-(0 + 0.5 + 1.0 + 1.5) / 4)
    list(stretches(steep))
    assert steep.weight == pytest.approx(plain.weight, rel=1e-4)


def test_a_loss_that_is_no_number_is_not_learned_from() -> None:
    learner = Slope(broken=6)
    with pytest.raises(NetworkError, match="the loss is nan at step 7 of 10; try a lower rate"):
        list(stretches(learner))
    assert learner.weight == pytest.approx(-(5 * 0.5 + 0.25))


def test_the_random_state_is_the_callers_at_every_pause() -> None:
    learner = Slope()
    torch.manual_seed(3)
    wanted = [float(torch.rand(1)) for _ in range(3)]
    torch.manual_seed(3)
    assert [float(torch.rand(1)) for _ in stretches(learner)] == wanted


def test_sides_come_in_order_and_the_last_stays() -> None:
    assert [side_at(((8, 2), (4, 1), (8, 1)), turn) for turn in range(6)] == [8, 8, 4, 8, 8, 8]
