"""How a step is made: an optimizer is called with the leaves to climb by, and gives a function that takes one step.

That function asks for the score and the gradients (uphill) as often as it needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from netloupe.core.errors import InputError

Evaluate = Callable[[], tuple[Tensor, Sequence[Tensor]]]
"""The sum of the scores, and its gradients with respect to the leaves."""

Step = Callable[[Evaluate], None]
Optimizer = Callable[[Sequence[Tensor]], Step]


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba (2015). lr: about how far each number goes in a step.

    over: the number of steps in which lr falls to zero along half a cosine; 0 keeps it.
    """

    lr: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    over: int = 0

    def __post_init__(self) -> None:
        _check(self.lr)

    def __call__(self, leaves: Sequence[Tensor]) -> Step:
        inner = torch.optim.Adam(leaves, self.lr, self.betas, maximize=True)
        taken = 0

        def step(evaluate: Evaluate) -> None:
            nonlocal taken
            if self.over:
                inner.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * min(1, taken / self.over))) / 2
            taken += 1
            for leaf, gradient in zip(leaves, evaluate()[1], strict=True):
                leaf.grad = gradient
            inner.step()

        return step


@dataclass(frozen=True)
class Normalized:
    """Each image's gradient divided by its size, times `lr`, with momentum if asked for.

    by: "l2", the root mean square; "l1", the mean of the absolute values; "sign" keeps the sign of each number only.
    So `lr` is how far the numbers go in a step, in the mean.
    """

    lr: float = 0.01
    by: Literal["l2", "l1", "sign"] = "l2"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check(self.lr)
        if self.by not in ("l2", "l1", "sign"):
            raise InputError(f"a gradient normalized by {self.by!r} (accepted: l2, l1, sign)")

    def __call__(self, leaves: Sequence[Tensor]) -> Step:
        velocity = [torch.zeros_like(leaf) for leaf in leaves]

        def step(evaluate: Evaluate) -> None:
            gradients = evaluate()[1]
            flat = torch.cat([g.flatten(1) for g in gradients], 1)
            if self.by != "sign":
                size = flat.square().mean(1).sqrt() if self.by == "l2" else flat.abs().mean(1)
                size = size.clamp(min=torch.finfo(flat.dtype).tiny)
            for leaf, speed, gradient in zip(leaves, velocity, gradients, strict=True):
                unit = gradient.sign() if self.by == "sign" else gradient / size.view(-1, *[1] * (gradient.ndim - 1))
                leaf += self.lr * speed.mul_(self.momentum).add_(unit)

        return step


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with a line search along the strong Wolfe conditions; one image at a time.

    A step is one iteration, with up to `evaluations` passes of the network. lr: of its first step.
    """

    lr: float = 1.0
    history: int = 10
    evaluations: int = 10

    def __post_init__(self) -> None:
        _check(self.lr)

    def __call__(self, leaves: Sequence[Tensor]) -> Step:
        inner = torch.optim.LBFGS(
            leaves,
            self.lr,
            max_iter=1,
            max_eval=self.evaluations,
            history_size=self.history,
            line_search_fn="strong_wolfe",
            tolerance_grad=0,
            tolerance_change=0,
        )

        def step(evaluate: Evaluate) -> None:
            def downhill() -> float:
                score, gradients = evaluate()
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    leaf.grad = -gradient
                return -float(score)

            inner.step(downhill)

        return step


def chosen(given: Any, lr: float | None, usual: float, steps: int) -> Optimizer:
    """An optimizer by name: "adam", whose steps fall from `lr`, by default `usual`, to zero, or "lbfgs"; else as given.

    Raises InputError for a size of the steps of one that was given.
    """
    if given == "adam":
        return Adam(usual if lr is None else lr, over=steps)
    if given == "lbfgs":
        return LBFGS(1.0 if lr is None else lr)
    if lr is not None:
        raise InputError(f"lr {lr:g} with {given!r} (accepted: with an optimizer by name)")
    found: Optimizer = given
    return found


NAMED = {"adam": Adam, "normalized": Normalized, "lbfgs": LBFGS}


def optimizer_of(given: str | Optimizer, lr: float | None = None) -> Optimizer:
    """The optimizer of that name, or the given one; with that `lr` instead of its own. InputError for what is none."""
    if not (callable(given) or (isinstance(given, str) and given in NAMED)):
        raise InputError(f"optimizer {given!r} (accepted: {', '.join(NAMED)}, an Optimizer)")
    found = NAMED[given]() if isinstance(given, str) else given
    return found if lr is None else replace(found, lr=lr)  # type: ignore[type-var]


def _check(lr: float) -> None:
    if not 0 < lr < float("inf"):
        raise InputError(f"lr {lr:g} (accepted: above 0)")
