"""What an explanation is of, and the rival whose map its own is held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective
from netloupe.core.objectives.objective import word
from netloupe.core.objectives.units import Channel, Logit, Neuron, Probability
from netloupe.core.receptive_field import Box


@dataclass(frozen=True)
class Target:
    """An objective with its name, and the rival's.

    curve: what deletion and insertion read: a class's probability, else the objective itself.
    rival: of a class the most probable other class, of a channel or neuron the strongest other channel there;
    None for any other objective. sees: the box of the image that the objective depends on; None for all of it.
    """

    objective: Objective
    title: str
    curve: Objective
    rival: Objective | None = None
    rival_title: str = ""
    sees: Box | None = None

    @property
    def kind(self) -> Literal["class", "unit", "objective"]:
        """What is explained."""
        if isinstance(self.objective, Logit | Probability):
            return "class"
        return "unit" if isinstance(self.objective, Channel | Neuron) else "objective"

    @property
    def phrase(self) -> str:
        """The objective in words, as in "logit of koala"."""
        name = word(type(self.objective))
        match self.kind:
            case "class":
                return f"{name} of {self.title}"
            case "unit":
                return f"{'mean of ' * isinstance(self.objective, Channel)}{name} {self.title}"
            case _:
                return self.title


def find_target(net: Network, image: Tensor, objective: Objective | str | None, logits: Tensor | None = None) -> Target:
    """The target of an image (1, C, H, W): for None the logit of its most probable class.

    logits: (1, classes) of the image, where they are known.
    Raises UnknownName for a class, layer or unit that is not there.
    """
    if objective is None:
        net.head.classes("an explanation without a unit or objective")
        logits = _logits(net, image) if logits is None else logits
        objective = Logit(int(logits.argmax()))
    objective = as_objective(objective)
    if isinstance(objective, Logit | Probability):
        return _class_target(net, _logits(net, image) if logits is None else logits, objective)
    if isinstance(objective, Channel | Neuron):
        return _unit_target(net, image, objective)
    return Target(objective, str(objective), objective)


def _logits(net: Network, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net(image)


def _class_target(net: Network, logits: Tensor, objective: Logit | Probability) -> Target:
    classes = net.head.classes(str(objective))
    index = classes.index(objective.name)
    if classes.count == 1:
        return Target(objective, classes.label(index), objective)
    others = logits[0].clone()
    others[index] = -torch.inf
    rival = int(others.argmax())
    curve = Probability(index) if isinstance(objective, Logit) else objective
    return Target(objective, classes.label(index), curve, type(objective)(rival), classes.label(rival))


def _unit_target(net: Network, image: Tensor, objective: Channel | Neuron) -> Target:
    with torch.no_grad():
        net.read(image, objective)  # the error for a channel or position that is not there
    layer, index = objective.layer, objective.index
    maps = net.activations(image, [layer])[layer][0]
    place, sees = "", None
    if isinstance(objective, Neuron):
        y, x = objective.position(*maps.shape[1:])
        strengths, place = maps[:, y, x], f"@{y},{x}"
        sees = net.layer(layer).receptive_field.box(y, x, (image.shape[2], image.shape[3]))
    else:
        strengths = maps.flatten(1).mean(1)
    if len(strengths) == 1:
        return Target(objective, f"{layer}:{index}{place}", objective, sees=sees)
    strengths[index] = -torch.inf
    rival = int(strengths.argmax())
    other = replace(objective, index=rival)
    return Target(objective, f"{layer}:{index}{place}", objective, other, f"{layer}:{rival}{place}", sees)
