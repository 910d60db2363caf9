"""What an image shall look like: the statistics of one or several images, mixed, or each in a region of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netloupe.core.errors import InputError, first_line
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.core.sizes import Sizes
from netloupe.synthesis.octaves import scaled
from netloupe.synthesis.statistics import PIXELS, Statistics, preset_layers, statistics

Weights = Mapping[str, float] | Sequence[str]
"""Layers with their weights, or layers that count alike."""


@dataclass(frozen=True)
class Look:
    """images: (C, h, w) in [0, 1], of any sizes; shares: how much each counts, adding up to 1.

    layers: their weights, adding up to 1. masks: (h, w) for each image, the region that shall look like it; without,
    the statistics are averaged by the shares. tile: px, see `tiles.read`.
    """

    net: Network
    images: tuple[Tensor, ...]
    shares: tuple[float, ...]
    layers: Mapping[str, float]
    statistic: str
    masks: tuple[Tensor, ...] | None = None
    tile: int | None = None

    @property
    def taken(self) -> Sizes | None:
        """The sizes of images that the layers can be read of; None for any, where only pixels are."""
        names = [name for name in self.layers if name != PIXELS]
        return self.net.sizes(names) if names else None

    def targets(self, factor: float = 1.0) -> list[Statistics]:
        """What is wanted of each region, or of the whole, of images that are `factor` times as large."""
        found = [self._measured(image, factor) for image in self.images]
        return found if self.masks is not None else [_joined(found).mixed(torch.tensor([self.shares]))]

    def objective(self, targets: Sequence[Statistics]) -> Objective:
        """Minus the distance to the targets."""
        if self.masks is None:
            return targets[0].objective(self.layers)
        regions = zip(targets, self.masks, self.shares, strict=True)
        terms = [share * target.objective(self.layers, mask) for target, mask, share in regions]
        return sum(terms[1:], terms[0])

    def distances(self, images: Tensor, targets: Sequence[Statistics]) -> dict[str, Tensor]:
        """By layer, the relative squared distances (N,) of the statistics of images (N, C, H, W)."""
        parts: Sequence[Tensor | None] = [None] if self.masks is None else self.masks
        shares = (1.0,) if self.masks is None else self.shares
        total = dict.fromkeys(self.layers, torch.zeros(len(images), device=images.device))
        for target, mask, share in zip(targets, parts, shares, strict=True):
            found = statistics(self.net, images, list(self.layers), self.statistic, mask, self.tile).distances(target)
            total = {name: total[name] + share * found[name] for name in total}
        return total

    def _measured(self, image: Tensor, factor: float) -> Statistics:
        pixels = scaled(image[None], factor, self.taken).to(self.net.device)
        try:
            return statistics(self.net, pixels, list(self.layers), self.statistic, tile=self.tile)
        except InputError:
            raise
        except Exception as error:
            reason = first_line(error)
            size = "x".join(map(str, pixels.shape[2:]))
            raise InputError(f"a style image of {size} px is too small for {self.net.name} ({reason})") from None


def look(
    net: Network,
    images: Sequence[Tensor],
    *,
    shares: Sequence[float] | None = None,
    layers: Weights | None = None,
    statistic: str = "gram",
    masks: Sequence[Tensor] | None = None,
    tile: int | None = None,
) -> Look:
    """A `Look` with everything checked. shares: 0 or more, by default all alike. layers: by default `preset_layers`.

    Raises InputError for numbers that don't fit, UnknownName for a layer that is not there.
    """
    if not images:
        raise InputError("no style image (accepted: 1 or more)")
    for image in images:
        net.inputs.check(image[None])
        net.inputs.check_range(image)
    given = [1.0] * len(images) if shares is None else [float(share) for share in shares]
    if len(given) != len(images) or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise InputError(f"weights {given} for {len(images)} style images (accepted: one each, 0 or more, not all 0)")
    if masks is not None and len(masks) != len(images):
        raise InputError(f"{len(masks)} masks for {len(images)} style images (accepted: one each)")
    return Look(
        net,
        tuple(image.detach() for image in images),
        tuple(share / sum(given) for share in given),
        as_weights(net, preset_layers(net)[0] if layers is None else layers, also=(PIXELS,)),
        statistic,
        None if masks is None else tuple(mask.detach().to(net.device) for mask in masks),
        tile,
    )


def as_weights(net: Network, layers: Weights, also: Sequence[str] = ()) -> dict[str, float]:
    """Layers of a network, and names in `also`, with weights that add up to 1; those of weight 0 are left out."""
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    total = sum(weights.values())
    if not weights or min(weights.values()) < 0 or not 0 < total < float("inf"):
        raise InputError(f"layers {weights} (accepted: 1 or more, weights of 0 or more, not all 0)")
    for name in weights:
        if name not in also:
            net.layer(name)
    return {name: weight / total for name, weight in weights.items() if weight}


def _joined(each: Sequence[Statistics]) -> Statistics:
    moments = {name: [one.moments[name] for one in each] for name in each[0].moments}
    return Statistics(
        each[0].kind,
        {name: tuple(torch.cat(parts) for parts in zip(*rows, strict=True)) for name, rows in moments.items()},
    )
