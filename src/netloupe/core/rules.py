"""Backward rules: what a rectifier does to the signal that comes back through it.

For a ReLU with input x and the signal g arriving at its output:

    plain       g · [x > 0]             the derivative
    guided      max(g, 0) · [x > 0]     guided backpropagation, Springenberg et al. (2014)
    deconvnet   max(g, 0)               deconvnet, Zeiler & Fergus (2013)
    redirected  g · [x > 0], or for an image of which this leaves nothing g · [x > 0 or g > 0]

The last lets a unit come alive that is off everywhere: what would raise it passes (Olah et al. 2017, in their code).

Everything else keeps its derivative. That of a convolution is its transpose, that of max pooling is unpooling with
the switches that the forward pass recorded; so under the rule `deconvnet` the derivative of a network is a deconvnet.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from netloupe.core.errors import NetloupeWarning, unknown

Rule = Literal["plain", "guided", "deconvnet", "redirected"]
RULES: tuple[Rule, ...] = ("plain", "guided", "deconvnet", "redirected")


def check_rule(rule: str) -> None:
    """Raise UnknownName unless `rule` is one."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)


class Rectifiers(TorchFunctionMode):
    """While it is active, rectifiers act by a rule on the way back; `count` is how many did so far.

    A function mode sees modules, functions and methods, in place or not, and leaves the network as it is. It does not
    see inside TorchScript. ReLU6 is a rectifier: its derivative is zero above 6 too, and so it is when guided.
    others: how many calls there were of each other nonlinearity, which keeps its derivative.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.count = 0
        self.others: Counter[str] = Counter()

    @property
    def share(self) -> str:
        """On what the rule acted, in words, as in "1 of 2 nonlinearities (not on silu)"."""
        total = self.count + self.others.total()
        names = ", ".join(sorted(self.others))
        return f"{self.count} of {total} nonlinearities" + (f" (not on {names})" if names else "")

    def warn(self, title: str) -> None:
        """Warn where the rule acted on some nonlinearities of a network called `title` and not on others."""
        if self.count and self.others:
            warnings.warn(f"rule {self.rule!r} acts on {self.share} in {title}", NetloupeWarning, stacklevel=3)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        limits_of = _RECTIFIERS.get(func)
        found = limits_of(*args, **kwargs) if limits_of is not None and "out" not in kwargs else None
        if found is None or not found[0].requires_grad:
            result = func(*args, **kwargs)
            if func in _OTHERS and isinstance(result, Tensor) and result.requires_grad:
                self.others[_OTHERS[func]] += 1
            return result
        self.count += 1
        x, high, inplace = found
        inplace = inplace or func.__name__.endswith("_")
        return _Rectify.apply(x, high, inplace, self.rule)  # type: ignore[no-untyped-call]


@contextmanager
def backward_rule(rule: Rule) -> Iterator[Rectifiers | None]:
    """Passes inside run under the rule, and keep it for their backward pass; gives the count, None for `plain`."""
    check_rule(rule)
    if rule == "plain":
        yield None
        return
    with Rectifiers(rule) as rectifiers:
        yield rectifiers


class _Rectify(torch.autograd.Function):
    """min(max(x, 0), high), with the backward pass of a rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float, inplace: bool, rule: Rule) -> Tensor:
        ctx.rule = rule
        if rule != "deconvnet":
            ctx.save_for_backward((x > 0) & (x < high))
        if not inplace:
            return x.clamp(0, high)
        ctx.mark_dirty(x)
        return x.clamp_(0, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        rectified = gradient.clamp(min=0)
        if ctx.rule == "guided":
            rectified = rectified * ctx.saved_tensors[0]
        elif ctx.rule == "redirected":
            (on,) = ctx.saved_tensors
            plain = gradient * on
            alive = plain.flatten(1).any(1).view(-1, *[1] * (gradient.ndim - 1))
            rectified = torch.where(alive, plain, torch.where(on, gradient, rectified))
        return rectified, None, None, None


_Found = tuple[Tensor, float, bool] | None
"""(input, upper limit, whether in place) of a rectifier; None for a call that is none."""


def _relu(input: Tensor, inplace: bool = False) -> _Found:
    return input, math.inf, inplace


def _relu6(input: Tensor, inplace: bool = False) -> _Found:
    return input, 6.0, inplace


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> _Found:
    return (input, max_val, inplace) if min_val == 0 else None


def _clamp(input: Tensor, min: Any = None, max: Any = None) -> _Found:
    if isinstance(min, Tensor) or isinstance(max, Tensor) or min != 0:
        return None
    return input, math.inf if max is None else float(max), False


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> _Found:
    return (input, math.inf, inplace) if threshold == value == 0 else None


_RECTIFIERS: dict[Any, Callable[..., _Found]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _relu),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.threshold: _threshold,
    **dict.fromkeys((torch.clamp, torch.clip, torch.clamp_min, Tensor.clamp, Tensor.clip, Tensor.clamp_min), _clamp),
    **dict.fromkeys((torch.clamp_, torch.clip_, torch.clamp_min_), _clamp),
    **dict.fromkeys((Tensor.clamp_, Tensor.clip_, Tensor.clamp_min_), _clamp),
}

_NAMES = (
    *("celu", "elu", "erf", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish"),
    *("prelu", "rrelu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"),
)
_OTHERS: dict[Any, str] = {
    getattr(home, spelled): name
    for name in _NAMES
    for home in (F, torch, Tensor)
    for spelled in (name, f"{name}_")
    if hasattr(home, spelled)
}
"""Nonlinearities that are no rectifiers, by name; softmax and what normalizes are none."""
