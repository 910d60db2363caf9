"""Objectives: scores of one forward pass, one number per image, always to be maximized.

An objective reads named layers. Objectives add, subtract and scale:
`logit("koala") - 1e-3 * l2()` is the class model of Simonyan et al. (2013). A regularizer is an objective on the
input, positive where there is much of what it measures, so subtract it. `repr` is complete, because results are
keyed by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError, UnknownName
from netloupe.core.head import Classes, Head
from netloupe.core.moments import covariance, gram, neighborhoods, relative_distance
from netloupe.core.taps import LOGITS
from netloupe.core.units import Unit


@dataclass(frozen=True)
class Reading:
    """What an objective sees: the outputs of the layers it named, and the images (N, C, H, W) if it asks for them.

    head: what the network answers, where the logits are among the outputs.
    """

    head: Head | None
    make_images: Callable[[], Tensor]
    outputs: Mapping[str, Tensor]

    @cached_property
    def images(self) -> Tensor:
        return self.make_images()

    def layer(self, name: str) -> Tensor:
        return self.outputs[name]

    @property
    def logits(self) -> Tensor:
        return self.outputs[LOGITS]

    @property
    def classes(self) -> Classes:
        assert self.head is not None, "the logits were not read"
        return self.head.classes("the score of a class")

    def channel(self, layer: str, channel: int) -> Tensor:
        """One channel's output: (N, H, W) or (N,). Raises UnknownName if the layer has fewer channels."""
        maps = self.outputs[layer]
        if not 0 <= channel < maps.shape[1]:
            raise UnknownName(f"no channel {channel} in layer {layer!r} (accepted: 0 to {maps.shape[1] - 1})")
        return maps[:, channel]


@dataclass(frozen=True, eq=False)
class Objective:
    """A score of one forward pass. `layers`: what it reads; `score`: Reading -> (N,); `text`: its complete repr."""

    layers: tuple[str, ...]
    score: Callable[[Reading], Tensor]
    text: str

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        layers = tuple(dict.fromkeys(self.layers + other.layers))
        return Objective(layers, lambda r: self.score(r) + other.score(r), f"({self!r} + {other!r})")

    def __radd__(self, other: object) -> Objective:
        """`sum` begins with 0."""
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, int | float):
            return NotImplemented
        number = float(factor) if isinstance(factor, float) else int(factor)
        return Objective(self.layers, lambda r: self.score(r) * number, f"{number!r} * {self!r}")

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


def logit(name: str | int) -> Objective:
    """The unnormalized score of a class, by name or index (Simonyan et al. 2013)."""
    key = name if isinstance(name, str) else int(name)
    return Objective((LOGITS,), lambda r: r.logits[:, r.classes.index(key)], f"logit({key!r})")


def probability(name: str | int) -> Objective:
    """The softmax probability of a class, in [0, 1]."""
    key = name if isinstance(name, str) else int(name)
    return Objective(
        (LOGITS,), lambda r: r.classes.probabilities(r.logits)[:, r.classes.index(key)], f"probability({key!r})"
    )


def log_probability(name: str | int) -> Objective:
    """The logarithm of the softmax probability of a class; minus the cross-entropy."""
    key = name if isinstance(name, str) else int(name)
    return Objective(
        (LOGITS,), lambda r: r.classes.log_probabilities(r.logits)[:, r.classes.index(key)], f"log_probability({key!r})"
    )


def channel(layer: str, index: int) -> Objective:
    """The mean of a channel over all positions; of a layer without positions, the channel itself."""

    def score(r: Reading) -> Tensor:
        values = r.channel(layer, index)
        return values if values.ndim == 1 else values.flatten(1).mean(1)

    return Objective((layer,), score, f"channel({layer!r}, {index})")


def excitation(layer: str, index: int) -> Objective:
    """The mean over positions of what of a channel is above zero; of a layer without positions, the channel itself.

    What the rectifier after it would let through. To be climbed instead of `channel`: the mean of positive and negative
    responses can rise without any position responding, and in a first layer tells only of brightness and color.
    """

    def score(r: Reading) -> Tensor:
        values = r.channel(layer, index)
        return values if values.ndim == 1 else F.relu(values).flatten(1).mean(1)

    return Objective((layer,), score, f"excitation({layer!r}, {index})")


def neuron(layer: str, index: int, y: int | None = None, x: int | None = None) -> Objective:
    """One channel at position (y, x) of its map; without a position, at the center."""

    def score(r: Reading) -> Tensor:
        maps = r.channel(layer, index)
        if maps.ndim != 3:
            raise InputError(f"layer {layer!r} has no positions; use channel({layer!r}, {index})")
        height, width = maps.shape[1:]
        row, column = height // 2 if y is None else y, width // 2 if x is None else x
        if not (0 <= row < height and 0 <= column < width):
            raise UnknownName(
                f"no position ({row}, {column}) in layer {layer!r} (accepted: (0, 0) to ({height - 1}, {width - 1}))"
            )
        return maps[:, row, column]

    return Objective((layer,), score, f"neuron({layer!r}, {index}, {y}, {x})")


def direction(layer: str, vector: Tensor) -> Objective:
    """The mean over positions of the dot product of a layer's output with `vector` (channels,)."""
    fixed = vector.detach().clone().flatten()

    def score(r: Reading) -> Tensor:
        maps = r.layer(layer)
        if maps.shape[1] != len(fixed):
            raise InputError(f"direction of length {len(fixed)} in layer {layer!r} (accepted: {maps.shape[1]})")
        return (maps if maps.ndim == 2 else maps.flatten(2).mean(2)) @ fixed.to(maps)

    return Objective((layer,), score, f"direction({layer!r}, {_digest(fixed)})")


def energy(layer: str, index: int | None = None, y: int | None = None, x: int | None = None) -> Objective:
    """Half the squared norm of a layer's output, of one channel `index` of it, or of one neuron (y, x) of that.

    Its gradient there is the output itself: with a whole layer DeepDream (Mordvintsev et al. 2015), and with one
    neuron what a deconvnet starts from (Zeiler & Fergus 2013): an activation with its value, all others zero.
    """
    if index is None:
        if y is not None or x is not None:
            raise InputError(f"energy of layer {layer!r} at a position without a channel (accepted: channel, y, x)")
        return Objective((layer,), lambda r: r.layer(layer).flatten(1).square().sum(1) / 2, f"energy({layer!r})")
    if (y is None) != (x is None):
        raise InputError(f"energy at y={y}, x={x} (accepted: both or neither)")
    one = None if y is None else neuron(layer, index, y, x)

    def score(r: Reading) -> Tensor:
        values = r.channel(layer, index) if one is None else one.score(r)
        return values.reshape(len(values), -1).square().sum(1) / 2

    position = "" if y is None else f", {y}, {x}"
    return Objective((layer,), score, f"energy({layer!r}, {index}{position})")


def unit(address: str | Unit) -> Objective:
    """The objective that an address names: a class's logit, a channel, a neuron, or a layer's energy."""
    u = address if isinstance(address, Unit) else Unit.parse(address)
    if u.class_name is not None:
        return logit(u.class_name)
    if u.channel is None:
        return energy(u.layer)
    return channel(u.layer, u.channel) if u.position is None else neuron(u.layer, u.channel, *u.position)


def as_objective(given: Objective | str | Unit) -> Objective:
    """The objective itself, or the one that the address of a unit names. Raises InputError for anything else."""
    if isinstance(given, Objective):
        return given
    if isinstance(given, str | Unit):
        return unit(given)
    raise InputError(f"the objective is a {type(given).__name__} (accepted: an Objective, or an address as conv3:17)")


def match_features(layer: str, target: Tensor) -> Objective:
    """Minus the relative squared distance to `target` (C, H, W) or (C,) (Mahendran & Vedaldi 2015, eq. 2).

    -||f - t||^2 / ||t||^2, with the denominator at least 1e-12.
    """
    fixed = target.detach().clone()
    norm = fixed.float().square().sum().clamp(min=1e-12)

    def score(r: Reading) -> Tensor:
        features = r.layer(layer)
        if features.shape[1:] != fixed.shape:
            accepted = tuple(features.shape[1:])
            raise InputError(f"target of shape {tuple(fixed.shape)} for layer {layer!r} (accepted: {accepted})")
        return -(features - fixed.to(features)).flatten(1).square().sum(1) / norm.to(features)

    return Objective((layer,), score, f"match_features({layer!r}, {_digest(fixed)})")


def match_best(layer: str, guide: Tensor) -> Objective:
    """Over all positions the sum of the largest dot product with any of the positions of `guide` (C, H, W).

    Dreaming with a guide, as Mordvintsev et al. (2015) do it in their code: each place takes after what in the guide is
    most like it.
    """
    fixed = guide.detach().clone().flatten(1)

    def score(r: Reading) -> Tensor:
        features = r.layer(layer)
        if features.ndim != 4 or features.shape[1] != len(fixed):
            raise InputError(f"guide of {len(fixed)} channels for layer {layer!r} of {tuple(features.shape[1:])}")
        return (features.flatten(2).transpose(1, 2) @ fixed.to(features)).amax(2).sum(1)

    return Objective((layer,), score, f"match_best({layer!r}, {_digest(fixed)})")


def match_gram(layer: str, target: Tensor, mask: Tensor | None = None) -> Objective:
    """Minus the distance of Gram matrices, -sum (G - T)^2 / (4 C^2), G and `target` (C, C) as `gram` gives them.

    For equal sizes this is the layer term of Gatys et al. (2015), eq. 4; dividing by H W lets the sizes differ.
    mask: (h, w), how much each place of the images counts, see `gram`.
    """
    fixed = target.detach().clone()

    def score(r: Reading) -> Tensor:
        features = _maps(r, layer)
        shape = (features.shape[1], features.shape[1])
        if fixed.shape != shape:
            raise InputError(f"Gram target of shape {tuple(fixed.shape)} for layer {layer!r} (accepted: {shape})")
        distances = (gram(features, mask) - fixed.to(features)).flatten(1).square().sum(1)
        return -distances / (4 * shape[0] ** 2)

    return Objective((layer,), score, f"match_gram({layer!r}, {_digest(fixed)}{_masked(mask)})")


def match_covariance(layer: str, mean: Tensor, target: Tensor, mask: Tensor | None = None) -> Objective:
    """Minus the relative squared distances to a mean (C,) and a covariance (C, C), as `covariance` gives them.

    Unlike a Gram matrix, the covariance does not mix how strong a channel is with what it goes along with.
    """
    fixed = mean.detach().clone(), target.detach().clone()

    def score(r: Reading) -> Tensor:
        features = _maps(r, layer)
        if fixed[1].shape != (features.shape[1], features.shape[1]) or fixed[0].shape != features.shape[1:2]:
            given = tuple(fixed[0].shape), tuple(fixed[1].shape)
            raise InputError(f"mean and covariance of shapes {given} for the {features.shape[1]} channels of {layer!r}")
        return _away(covariance(features, mask), fixed)

    return Objective((layer,), score, f"match_covariance({layer!r}, {_digest(*fixed)}{_masked(mask)})")


def match_neighborhoods(side: int, mean: Tensor, target: Tensor, mask: Tensor | None = None) -> Objective:
    """`match_covariance` of the `side` x `side` pixels around each place of the image itself; no layer is read.

    It holds what a network with large filters does not see: colors, and how sharp they stand beside each other.
    """
    fixed = mean.detach().clone(), target.detach().clone()

    def score(r: Reading) -> Tensor:
        around = neighborhoods(r.images, side)
        if fixed[0].shape != around.shape[1:2]:
            raise InputError(f"a mean of {len(fixed[0])} numbers for {side}x{side} px (accepted: {around.shape[1]})")
        return _away(covariance(around, mask), fixed)

    return Objective((), score, f"match_neighborhoods({side}, {_digest(*fixed)}{_masked(mask)})")


def _maps(r: Reading, layer: str) -> Tensor:
    features = r.layer(layer)
    if features.ndim != 4:
        raise InputError(f"layer {layer!r} has no positions, so no Gram matrix (accepted: a layer (C, H, W))")
    return features


def _away(found: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    pairs = zip(found, target, strict=True)
    total: Tensor = -sum(relative_distance(a, b.to(a)[None]) for a, b in pairs)  # type: ignore[assignment]
    return total


def _masked(mask: Tensor | None) -> str:
    return "" if mask is None else f", mask={_digest(mask)}"


def diversity(layer: str) -> Objective:
    """How unlike each other the images are that it scores: minus the mean cosine of their Gram matrices at a layer.

    Of each image with all others that stand with it, in [-1, 1]; -1 when all are the same, and of an image alone 0
    (Olah et al. 2017, "Feature visualization", section "Diversity"). For `climb` with several images to an objective.
    """

    def score(r: Reading) -> Tensor:
        features = _maps(r, layer)
        flat = F.normalize(gram(features).flatten(1), dim=1, eps=1e-12)
        cosines = flat @ flat.T
        return (cosines.diagonal() - cosines.sum(1)) / max(1, len(flat) - 1)

    return Objective((layer,), score, f"diversity({layer!r})")


def total_variation(beta: float = 2.0) -> Objective:
    """Sum over pixels and colors of (dx^2 + dy^2)^(beta/2) (Mahendran & Vedaldi 2015, eq. 5).

    dx and dy step to the right and lower neighbors; pixels that lack one are left out. For beta below 2, 1e-12 is
    added to the squares, or the gradient of an even area would not be finite.
    """

    def score(r: Reading) -> Tensor:
        dx = r.images[..., :-1, 1:] - r.images[..., :-1, :-1]
        dy = r.images[..., 1:, :-1] - r.images[..., :-1, :-1]
        squares = dx.square() + dy.square()
        return (squares if beta == 2.0 else (squares + 1e-12) ** (beta / 2)).flatten(1).sum(1)

    return Objective((), score, f"total_variation(beta={beta!r})")


def norm(power: float, around: float | Sequence[float] = 0.0) -> Objective:
    """Sum of |x - around|^power over pixels and colors (Mahendran & Vedaldi 2015, eq. 3); a color (C,), or gray."""
    color = [around] if isinstance(around, int | float) else [float(value) for value in around]

    def score(r: Reading) -> Tensor:
        away = r.images - r.images.new_tensor(color).view(1, -1, 1, 1)
        return (away.square() if power == 2 else away.abs() ** power).flatten(1).sum(1)

    return Objective((), score, f"norm({power!r}, {around!r})")


def l2() -> Objective:
    """The squared norm of the image (Simonyan et al. 2013, eq. 1)."""
    return replace(norm(2), text="l2()")


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        raw = tensor.detach().float().cpu().contiguous()
        digest.update(repr(tuple(raw.shape)).encode() + raw.numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"


__all__ = [
    "LOGITS",
    "Objective",
    "Reading",
    "as_objective",
    "channel",
    "covariance",
    "direction",
    "diversity",
    "energy",
    "excitation",
    "gram",
    "l2",
    "log_probability",
    "logit",
    "match_best",
    "match_covariance",
    "match_features",
    "match_gram",
    "match_neighborhoods",
    "neuron",
    "norm",
    "probability",
    "total_variation",
    "unit",
]
