"""What takes the steps of a training: one optimizer, or two that each move a part of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from netloupe.core.errors import InputError
from netloupe.training.recipes import ClassifierRecipe

BETA = 0.98  # the second of AdamW
SPEED = 0.95  # momentum of Muon


class Together:
    """Several optimizers that take their steps together."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): part.state_dict() for i, part in enumerate(self._parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, part in enumerate(self._parts):
            part.load_state_dict(state[str(i)])


Optimizer = torch.optim.Optimizer | Together


def optimizer(network: nn.Module, recipe: ClassifierRecipe) -> Optimizer:
    """The recipe's, for all weights that are trained; those of one dimension don't decay.

    Of "muon" (Jordan et al. 2024), which makes the step of a matrix orthogonal, it moves the matrices that stand
    between vectors of features, scaled so that the rate means what it does to AdamW (Liu et al. 2025); the rest, the
    kernels and the classifier among them, is moved by AdamW. Raises InputError where PyTorch is too old for it.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(_groups(trained, recipe), lr=recipe.rate, momentum=recipe.momentum, nesterov=True)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(_groups(trained, recipe), lr=recipe.rate, betas=(recipe.momentum, BETA))
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"PyTorch {torch.__version__} has no muon (accepted: 2.9 or later, or adamw)")
    linear = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    matrices = [weight for weight in linear[:-1] if weight.requires_grad]
    if not matrices:
        raise InputError("the network has no matrices but its classifier's, which muon moves (accepted: sgd or adamw)")
    moved = set(map(id, matrices))
    others = _groups([p for p in trained if id(p) not in moved], recipe)
    return Together(
        torch.optim.Muon(
            matrices, lr=recipe.rate, weight_decay=recipe.decay, momentum=SPEED, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.rate, betas=(recipe.momentum, BETA)),
    )


def _groups(parameters: list[nn.Parameter], recipe: ClassifierRecipe) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
