"""Objectives that hold features, statistics or pixels against others: of a target, of a guide, or of each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.layout import has_positions
from netloupe.core.moments import covariance, gram, neighborhoods, relative_distance
from netloupe.core.objectives.objective import Objective, OfLayer, Reading, keep


@dataclass(frozen=True, eq=False, repr=False)
class MatchFeatures(OfLayer):
    """Minus the relative squared distance to `target` (C, H, W) or (C,) (Mahendran & Vedaldi 2015, eq. 2).

    -||f - t||^2 / ||t||^2, with the denominator at least 1e-12.
    """

    target: Tensor

    @cached_property
    def _norm(self) -> Tensor:
        return self.target.float().square().sum().clamp(min=1e-12)

    def score(self, reading: Reading) -> Tensor:
        features = reading.layer(self.layer)
        if features.shape[1:] != self.target.shape:
            given, accepted = tuple(self.target.shape), tuple(features.shape[1:])
            raise InputError(f"target of shape {given} for layer {self.layer!r} (accepted: {accepted})")
        return -(features - self.target.to(features)).flatten(1).square().sum(1) / self._norm.to(features)


@dataclass(frozen=True, eq=False, repr=False)
class MatchBest(OfLayer):
    """Over all positions the sum of the largest dot product with any of the positions of `guide` (C, H, W).

    Dreaming with a guide, as Mordvintsev et al. (2015) do it in their code: each place takes after what in the guide is
    most like it.
    """

    guide: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(self, guide=self.guide.flatten(1))

    def score(self, reading: Reading) -> Tensor:
        features, count = reading.layer(self.layer), len(self.guide)
        if not has_positions(features) or features.shape[1] != count:
            raise InputError(f"guide of {count} channels for layer {self.layer!r} of {tuple(features.shape[1:])}")
        return (features.flatten(2).transpose(1, 2) @ self.guide.to(features)).amax(2).sum(1)


@dataclass(frozen=True, eq=False, repr=False)
class MatchGram(OfLayer):
    """Minus the distance of Gram matrices, -sum (G - T)^2 / (4 C^2), G and `target` (C, C) as `gram` gives them.

    For equal sizes this is the layer term of Gatys et al. (2015), eq. 4; dividing by H W lets the sizes differ.
    mask: (h, w), how much each place of the images counts, see `gram`.
    """

    target: Tensor
    mask: Tensor | None = None

    def score(self, reading: Reading) -> Tensor:
        features = _maps(reading, self.layer)
        shape = (features.shape[1], features.shape[1])
        if self.target.shape != shape:
            given = tuple(self.target.shape)
            raise InputError(f"Gram target of shape {given} for layer {self.layer!r} (accepted: {shape})")
        distances = (gram(features, self.mask) - self.target.to(features)).flatten(1).square().sum(1)
        return -distances / (4 * shape[0] ** 2)


@dataclass(frozen=True, eq=False, repr=False)
class MatchCovariance(OfLayer):
    """Minus the relative squared distances to a mean (C,) and a covariance (C, C), as `covariance` gives them.

    Unlike a Gram matrix, the covariance does not mix how strong a channel is with what it goes along with.
    """

    mean: Tensor
    target: Tensor
    mask: Tensor | None = None

    def score(self, reading: Reading) -> Tensor:
        features = _maps(reading, self.layer)
        count = features.shape[1]
        if self.target.shape != (count, count) or self.mean.shape != (count,):
            given = tuple(self.mean.shape), tuple(self.target.shape)
            raise InputError(f"mean and covariance of shapes {given} for the {count} channels of {self.layer!r}")
        return _away(covariance(features, self.mask), (self.mean, self.target))


@dataclass(frozen=True, eq=False, repr=False)
class MatchNeighborhoods(Objective):
    """`MatchCovariance` of the `side` x `side` pixels around each place of the image itself; no layer is read.

    It holds what a network with large filters does not see: colors, and how sharp they stand beside each other.
    """

    side: int
    mean: Tensor
    target: Tensor
    mask: Tensor | None = None

    layers = ()

    def score(self, reading: Reading) -> Tensor:
        around = neighborhoods(reading.images, self.side)
        if self.mean.shape != around.shape[1:2]:
            side = f"{self.side}x{self.side}"
            raise InputError(f"a mean of {len(self.mean)} numbers for {side} px (accepted: {around.shape[1]})")
        return _away(covariance(around, self.mask), (self.mean, self.target))


@dataclass(frozen=True, eq=False, repr=False)
class Diversity(OfLayer):
    """How unlike each other the images are that it scores: minus the mean cosine of their Gram matrices at a layer.

    Of each image with all others that stand with it, in [-1, 1]; -1 when all are the same, and of an image alone 0
    (Olah et al. 2017, "Feature visualization", section "Diversity"). For `climb` with several images to an objective.
    """

    def score(self, reading: Reading) -> Tensor:
        features = _maps(reading, self.layer)
        flat = F.normalize(gram(features).flatten(1), dim=1, eps=1e-12)
        cosines = flat @ flat.T
        return (cosines.diagonal() - cosines.sum(1)) / max(1, len(flat) - 1)


def _maps(reading: Reading, layer: str) -> Tensor:
    features = reading.layer(layer)
    if not has_positions(features):
        raise InputError(f"layer {layer!r} has no positions, so no Gram matrix (accepted: a layer (C, H, W))")
    return features


def _away(found: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    pairs = zip(found, target, strict=True)
    total: Tensor = -sum(relative_distance(a, b.to(a)[None]) for a, b in pairs)  # type: ignore[assignment]
    return total
