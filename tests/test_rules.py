"""Backward rules: every spelling of a rectifier, and what can't be acted on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.rules import RULES, backward_rule

X = torch.tensor([-1.0, 2.0, 3.0, 7.0, -9.0])
BACK = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])


def half_in_place(x: Tensor) -> Tensor:
    x[:4].relu_()
    return x


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold": nn.Threshold(0, 0),
}
RELU6S: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "clamp": lambda x: x.clamp(0, 6),
}


def back(function: Callable[[Tensor], Tensor], rule: Any, x: Tensor = X) -> tuple[Tensor, Tensor, int]:
    """(output, gradient for BACK at the output, rectifiers that acted)."""
    x = x.clone().requires_grad_()
    with backward_rule(rule) as rectifiers:
        y = function(x * 1)
    return y.detach(), torch.autograd.grad(y, x, BACK)[0], 0 if rectifiers is None else rectifiers.count


@pytest.mark.parametrize("name", RELUS)
def test_every_spelling_of_relu(name: str) -> None:
    for rule, expected in (
        ("plain", [0.0, -2, 3, -4, 0]),
        ("guided", [0.0, 0, 3, 0, 0]),
        ("deconvnet", [1.0, 0, 3, 0, 5]),
    ):
        y, gradient, count = back(RELUS[name], rule)
        assert y.tolist() == [0, 2, 3, 7, 0]
        assert gradient.tolist() == expected, rule
        assert count == (rule != "plain")


@pytest.mark.parametrize("name", RELU6S)
def test_relu6_is_flat_above_6(name: str) -> None:
    positive = BACK.abs()
    x = X.clone().requires_grad_()
    for rule, expected in (("guided", [0.0, 2, 3, 0, 0]), ("deconvnet", [1.0, 2, 3, 4, 5])):
        with backward_rule(rule) as rectifiers:
            y = RELU6S[name](x * 1)
        assert y.tolist() == [0, 2, 3, 6, 0]
        assert torch.autograd.grad(y, x, positive)[0].tolist() == expected
        assert rectifiers is not None
        assert rectifiers.count == 1


def test_a_part_written_in_place() -> None:
    _, gradient, count = back(half_in_place, "deconvnet")
    assert gradient.tolist() == [1, 0, 3, 0, 5]
    assert count == 1


@pytest.mark.parametrize(
    "function",
    [nn.LeakyReLU(0.1), F.silu, torch.sigmoid, F.hardtanh, lambda x: x.clamp(min=0.1), lambda x: x.clamp(max=3)],
)
def test_other_functions_keep_their_derivative(function: Callable[[Tensor], Tensor]) -> None:
    plain = back(function, "plain", X / 4)[1]
    _, gradient, count = back(function, "guided", X / 4)
    assert torch.equal(gradient, plain)
    assert gradient.abs().sum() > 0
    assert count == 0


def test_what_else_bends_is_counted_by_name() -> None:
    x = X.clone().requires_grad_()
    with backward_rule("guided") as rectifiers:
        y = nn.ReLU()(F.silu(x)) + F.gelu(x.clamp(0, 6)) + nn.GELU()(x).tanh() + F.leaky_relu(x, 0.1) + nn.Hardtanh()(x)
        y.softmax(0) + F.layer_norm(y, (5,)) + F.gelu(torch.ones(5))  # no nonlinearity, and a constant
    assert rectifiers is not None
    assert rectifiers.count == 2
    assert rectifiers.others == {"silu": 1, "gelu": 2, "tanh": 1, "leaky_relu": 1, "hardtanh": 1}
    assert rectifiers.share == "2 of 8 nonlinearities (not on gelu, hardtanh, leaky_relu, silu, tanh)"


def test_constants_are_not_counted() -> None:
    with backward_rule("guided") as rectifiers:
        F.relu(torch.ones(3))
    assert rectifiers is not None
    assert rectifiers.count == 0


def test_the_rule_ends_with_its_block_after_a_failure_too() -> None:
    with pytest.raises(ZeroDivisionError), backward_rule("deconvnet"):
        _ = 1 / 0
    x = X.clone().requires_grad_()
    assert torch.autograd.grad(F.relu(x), x, BACK)[0].tolist() == [0, -2, 3, -4, 0]


def test_unknown_rule() -> None:
    from netloupe import NetloupeError

    with pytest.raises(NetloupeError, match="no rule 'gided'; did you mean 'guided'"), backward_rule("gided"):  # type: ignore[arg-type]
        pass
    assert RULES == ("plain", "guided", "deconvnet", "redirected")
