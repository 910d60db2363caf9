"""What an explanation is of, and the rival whose map its own is held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from netloupe.core.head import Maps, NoHead
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective
from netloupe.core.objectives.answers import BoxScore, PixelClass, RegionClass, Similarity, Value, usual
from netloupe.core.objectives.objective import word
from netloupe.core.objectives.units import Channel, Logit, Neuron, Probability
from netloupe.core.receptive_field import Box


@dataclass(frozen=True)
class Target:
    """An objective with its name, and the rival's.

    curve: what deletion and insertion read: a class's probability, else the objective itself.
    rival: of a class the most probable other class (there), of a channel or neuron the strongest other channel there;
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
        if isinstance(self.objective, Logit | Probability | PixelClass | RegionClass):
            return "class"
        return "unit" if isinstance(self.objective, Channel | Neuron) else "objective"

    @property
    def phrase(self) -> str:
        """The objective in words, as in "logit of koala"."""
        name = word(type(self.objective))
        match self.kind:
            case "class" if isinstance(self.objective, Logit | Probability):
                return f"{name} of {self.title}"
            case "class":
                return f"score of {self.title}"
            case "unit":
                return f"{'mean of ' * isinstance(self.objective, Channel)}{name} {self.title}"
            case _:
                return self.title


def find_target(net: Network, image: Tensor, objective: Objective | str | None, answer: Tensor | None = None) -> Target:
    """The target of an image (1, C, H, W): for None what `usual` says, as the logit of its most probable class.

    answer: the network's to the image, where it is known.
    Raises UnknownName for a class, layer or unit that is not there.
    """
    if objective is None:
        what = "an explanation without a unit or objective"
        if isinstance(net.head, NoHead):
            net.head.classes(what)
        objective = usual(net.head, _answer(net, image) if answer is None else answer, what)
    objective = as_objective(objective)
    if isinstance(objective, Logit | Probability):
        return _class_target(net, _answer(net, image) if answer is None else answer, objective)
    if isinstance(objective, Channel | Neuron):
        return _unit_target(net, image, objective)
    if isinstance(objective, RegionClass | PixelClass):
        return _pixels_target(net, image, objective)
    if not isinstance(objective, Similarity):  # a network with random weights has a likeness to itself of its own
        objective = net.fixed(objective, image)
    return Target(objective, _titled(net, objective), objective)


def _titled(net: Network, objective: Objective) -> str:
    """In words."""
    match objective:
        case Value():
            return "the value"
        case Similarity(other=None):
            return "likeness to itself"
        case BoxScore():
            sides = ", ".join(f"{side:g}" for side in objective.box)
            return f"box of {net.head.label(net.head.index(objective.name))} at {sides}"
        case _:
            return str(objective)


def _answer(net: Network, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net(image)


def _pixels_target(net: Network, image: Tensor, objective: RegionClass | PixelClass) -> Target:
    """The region of the clean image; its rival is the class that is strongest there but for its own."""
    found = net.fixed(objective, image)
    assert isinstance(found, RegionClass | PixelClass)
    with torch.no_grad():
        reading = net.reading(image, found.layers)
        head, answer = reading.answer(Maps, str(objective))
        found.score(reading)  # the error for a class or place that is not there
        index = head.index(objective.name)
        scores = [float(replace(found, name=i).score(reading)) for i in range(answer.shape[1]) if i != index]
    rival = max(range(len(scores)), key=scores.__getitem__)
    rival += rival >= index
    place = f" at {found.y}, {found.x}" if isinstance(found, PixelClass) else ""
    region = "" if place else (" where it is predicted" if objective.loose else " in a region")
    title = f"{head.label(index)}{place}{region}"
    return Target(found, title, found, replace(found, name=rival), head.label(rival))


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
