"""Objectives that read a class, a channel, a neuron, a direction, or a whole layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError, UnknownName
from netloupe.core.head import Unsaid
from netloupe.core.moments import means
from netloupe.core.objectives.objective import Objective, OfLayer, Reading, keep
from netloupe.core.taps import LOGITS
from netloupe.core.units import Unit


@dataclass(frozen=True, eq=False, repr=False)
class OfClass(Objective):
    """What reads one class, by name or index."""

    name: str | int

    @property
    def layers(self) -> tuple[str, ...]:
        return (LOGITS,)


class Logit(OfClass):
    """The unnormalized score of a class, by name or index (Simonyan et al. 2013).

    Of a network that gives one number, whatever that is, `logit(0)` is it.
    """

    def score(self, reading: Reading) -> Tensor:
        if isinstance(reading.head, Unsaid) and str(self.name) == "0":
            return reading.logits[:, 0]
        return reading.logits[:, reading.classes.index(self.name)]


class Probability(OfClass):
    """The softmax probability of a class, in [0, 1]."""

    def score(self, reading: Reading) -> Tensor:
        return reading.classes.probabilities(reading.logits)[:, reading.classes.index(self.name)]


class LogProbability(OfClass):
    """The logarithm of the softmax probability of a class; minus the cross-entropy."""

    def score(self, reading: Reading) -> Tensor:
        return reading.classes.log_probabilities(reading.logits)[:, reading.classes.index(self.name)]


class LogOdds(OfClass):
    """log p / (1 - p) of a class: like its logit, but also what speaks against the others; it does not saturate."""

    def score(self, reading: Reading) -> Tensor:
        return reading.classes.log_odds(reading.logits, reading.classes.index(self.name))


@dataclass(frozen=True, eq=False, repr=False)
class Channel(OfLayer):
    """The mean of a channel over all positions; of a layer without positions, the channel itself."""

    index: int

    def score(self, reading: Reading) -> Tensor:
        values = reading.channel(self.layer, self.index)
        return values if values.ndim == 1 else values.flatten(1).mean(1)


@dataclass(frozen=True, eq=False, repr=False)
class Excitation(OfLayer):
    """The mean over positions of what of a channel is above zero; of a layer without positions, the channel itself.

    What the rectifier after it would let through. To be climbed instead of `channel`: the mean of positive and negative
    responses can rise without any position responding, and in a first layer tells only of brightness and color.
    """

    index: int

    def score(self, reading: Reading) -> Tensor:
        values = reading.channel(self.layer, self.index)
        return values if values.ndim == 1 else F.relu(values).flatten(1).mean(1)


@dataclass(frozen=True, eq=False, repr=False)
class Neuron(OfLayer):
    """One channel at position (y, x) of its map; without a position, at the center."""

    index: int
    y: int | None = None
    x: int | None = None

    def score(self, reading: Reading) -> Tensor:
        layer, maps = self.layer, reading.channel(self.layer, self.index)
        if maps.ndim != 3:
            raise InputError(f"layer {layer!r} has no positions; use channel({layer!r}, {self.index})")
        height, width = maps.shape[1:]
        row, column = self.position(height, width)
        if not (0 <= row < height and 0 <= column < width):
            raise UnknownName(
                f"no position ({row}, {column}) in layer {layer!r} (accepted: (0, 0) to ({height - 1}, {width - 1}))"
            )
        return maps[:, row, column]

    def position(self, height: int, width: int) -> tuple[int, int]:
        """(y, x) on a map of that size."""
        return height // 2 if self.y is None else self.y, width // 2 if self.x is None else self.x


@dataclass(frozen=True, eq=False, repr=False)
class Direction(OfLayer):
    """The mean over positions of the dot product of a layer's output with `vector` (channels,)."""

    vector: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(self, vector=self.vector.flatten())

    def score(self, reading: Reading) -> Tensor:
        maps, count = reading.layer(self.layer), len(self.vector)
        if maps.shape[1] != count:
            raise InputError(f"direction of length {count} in layer {self.layer!r} (accepted: {maps.shape[1]})")
        return means(maps) @ self.vector.to(maps)


@dataclass(frozen=True, eq=False, repr=False)
class Energy(OfLayer):
    """Half the squared norm of a layer's output, of one channel `index` of it, or of one neuron (y, x) of that.

    Its gradient there is the output itself: with a whole layer DeepDream (Mordvintsev et al. 2015), and with one
    neuron what a deconvnet starts from (Zeiler & Fergus 2013): an activation with its value, all others zero.
    """

    index: int | None = None
    y: int | None = None
    x: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index is None and (self.y, self.x) != (None, None):
            raise InputError(
                f"energy of layer {self.layer!r} at a position without a channel (accepted: channel, y, x)"
            )
        if (self.y is None) != (self.x is None):
            raise InputError(f"energy at y={self.y}, x={self.x} (accepted: both or neither)")

    def score(self, reading: Reading) -> Tensor:
        if self.index is None:
            values = reading.layer(self.layer)
        elif self.y is None:
            values = reading.channel(self.layer, self.index)
        else:
            values = Neuron(self.layer, self.index, self.y, self.x).score(reading)
        return values.reshape(len(values), -1).square().sum(1) / 2


def unit(address: str | Unit) -> Objective:
    """The objective that an address names: a class's logit, a channel, a neuron, or a layer's energy."""
    u = address if isinstance(address, Unit) else Unit.parse(address)
    if u.class_name is not None:
        return Logit(u.class_name)
    if u.channel is None:
        return Energy(u.layer)
    return Channel(u.layer, u.channel) if u.position is None else Neuron(u.layer, u.channel, *u.position)
