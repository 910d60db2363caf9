"""What an explanation is of, and the rival whose map its own is held against."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective, channel, logit, neuron, probability
from netloupe.core.receptive_field import Box

_NAMED = re.compile(r"(logit|probability|channel|neuron)(\(.*\))")


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
        name = self.objective.text.partition("(")[0]
        if self.title == self.objective.text:
            return "objective"
        return "class" if name in ("logit", "probability") else "unit"

    @property
    def phrase(self) -> str:
        """The objective in words, as in "logit of koala"."""
        if self.kind == "objective":
            return self.title
        name = self.objective.text.partition("(")[0]
        return f"{'mean of ' * (name == 'channel')}{name} {'of ' * (self.kind == 'class')}{self.title}"


def find_target(net: Network, image: Tensor, objective: Objective | str | None) -> Target:
    """The target of an image (1, C, H, W): for None the logit of its most probable class.

    Raises UnknownName for a class, layer or unit that is not there.
    """
    if objective is None:
        with torch.no_grad():
            net.head.classes("an explanation without a unit or objective")
            objective = logit(int(net(image).argmax()))
    objective = as_objective(objective)
    found = _NAMED.fullmatch(objective.text)
    if found is None:
        return Target(objective, objective.text, objective)
    name, arguments = found[1], ast.literal_eval(f"{found[2][:-1]},)")
    if name in ("logit", "probability"):
        return _class_target(net, image, objective, net.head.classes(objective.text).index(arguments[0]))
    return _unit_target(net, image, objective, *arguments)


def _class_target(net: Network, image: Tensor, objective: Objective, index: int) -> Target:
    kind = logit if objective.text.startswith("logit") else probability
    curve = probability(index) if kind is logit else objective
    with torch.no_grad():
        logits = net(image)[0]
    if len(logits) == 1:
        return Target(objective, net.head.classes(objective.text).label(index), objective)
    logits[index] = -torch.inf
    rival = int(logits.argmax())
    return Target(
        objective,
        net.head.classes(objective.text).label(index),
        curve,
        kind(rival),
        net.head.classes(objective.text).label(rival),
    )


def _unit_target(
    net: Network, image: Tensor, objective: Objective, layer: str, index: int, *position: int | None
) -> Target:
    with torch.no_grad():
        net.read(image, objective)  # the error for a channel or position that is not there
    maps = net.activations(image, [layer])[layer][0]
    place, sees = "", None
    if position:
        y, x = (side // 2 if at is None else at for at, side in zip(position, maps.shape[1:], strict=True))
        strengths, place = maps[:, y, x], f"@{y},{x}"
        sees = net.layer(layer).receptive_field.box(y, x, (image.shape[2], image.shape[3]))
    else:
        strengths = maps.flatten(1).mean(1)
    if len(strengths) == 1:
        return Target(objective, f"{layer}:{index}{place}", objective, sees=sees)
    strengths[index] = -torch.inf
    rival = int(strengths.argmax())
    other = neuron(layer, rival, *position) if position else channel(layer, rival)
    return Target(objective, f"{layer}:{index}{place}", objective, other, f"{layer}:{rival}{place}", sees)
