"""How an image looks, wherever its parts lie: moments of a network's features and of its pixels.

Texture and style are both the wish for an image of given statistics (Gatys et al. 2015, 2016).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netloupe.core.errors import InputError, unknown
from netloupe.core.layout import Maps, has_positions
from netloupe.core.moments import covariance, gram, neighborhoods, relative_distance
from netloupe.core.network import Network
from netloupe.core.objectives import (
    Objective,
    Reading,
    match_covariance,
    match_gram,
    match_neighborhoods,
)
from netloupe.synthesis.tasks import LAYERS, STATISTICS
from netloupe.synthesis.tiles import read

PIXELS = "pixels"
"""Stands among the layers for the pixels themselves, of which `SIDE` x `SIDE` neighborhoods are taken."""
SIDE = 3

_SIZES = 5  # of maps that a choice of layers goes through, at most


@dataclass(frozen=True)
class Statistics:
    """Of N images. moments: by layer, the Gram matrices (N, C, C), or the means (N, C) and covariances (N, C, C)."""

    kind: str
    moments: Mapping[str, tuple[Tensor, ...]]

    def chosen(self, ids: Sequence[int] | Tensor) -> Statistics:
        """Those of some of the images."""
        return Statistics(self.kind, {name: tuple(m[ids] for m in each) for name, each in self.moments.items()})

    def mixed(self, weights: Tensor) -> Statistics:
        """Averages, by weights (M, N) that add up to 1 in each row: of M images."""
        return Statistics(
            self.kind,
            {name: tuple(torch.tensordot(weights.to(m), m, 1) for m in each) for name, each in self.moments.items()},
        )

    def distances(self, target: Statistics) -> dict[str, Tensor]:
        """By layer, how far each image is from its target, or all from one: relative squared distances (N,)."""
        found = {}
        for name, moments in self.moments.items():
            pairs = zip(moments, target.moments[name], strict=True)
            found[name] = torch.stack([relative_distance(a, b) for a, b in pairs]).sum(0)
        return found

    def objective(self, weights: Mapping[str, float], mask: Tensor | None = None) -> Objective:
        """Minus the distances of an image to the first of these, times the weights by layer, added up.

        mask: (h, w), the part of the image that shall look so.
        """
        terms = []
        for name, weight in weights.items():
            moments = [m[0] for m in self.moments[name]]
            if name == PIXELS:
                terms.append(weight * match_neighborhoods(SIDE, moments[0], moments[1], mask))
            elif self.kind == "gram":
                size = float(moments[0].square().sum().clamp(min=1e-12))
                terms.append(weight * 4 * len(moments[0]) ** 2 / size * match_gram(name, moments[0], mask))
            else:
                terms.append(weight * match_covariance(name, moments[0], moments[1], mask))
        return sum(terms[1:], terms[0])


def measured(reading: Reading, layers: Sequence[str], kind: str, mask: Tensor | None = None) -> Statistics:
    """The statistics of the images of a pass that read these layers; differentiable."""
    found: dict[str, tuple[Tensor, ...]] = {}
    for name in layers:
        if name == PIXELS:
            found[name] = covariance(neighborhoods(reading.images, SIDE), mask)
            continue
        features = reading.layer(name)
        if not has_positions(features):
            raise InputError(f"layer {name!r} has no positions, so no Gram matrix (accepted: a layer (C, H, W))")
        found[name] = (gram(features, mask),) if kind == "gram" else covariance(features, mask)
    return Statistics(kind, found)


@torch.no_grad()
def statistics(
    net: Network,
    images: Tensor,
    layers: Sequence[str],
    kind: str = "gram",
    mask: Tensor | None = None,
    tile: int | None = None,
) -> Statistics:
    """Those of images (N, C, H, W) in [0, 1] at the layers of a network, and at `PIXELS`. tile: px, see `tiles.read`.

    Raises UnknownName for a layer or kind that is not there, InputError for a layer without positions.
    """
    if kind not in STATISTICS:
        raise unknown("statistic", kind, STATISTICS)
    net.inputs.check(images)
    net.inputs.check_range(images)
    return measured(read(net, images, [name for name in layers if name != PIXELS], tile), layers, kind, mask)


def preset_layers(net: Network, preset: str = "sharp") -> tuple[dict[str, float], dict[str, float]]:
    """Where style and where content is read, with weights, in any network, after its rectifiers.

    gatys: the first layer at each of up to five sizes of maps, and the second at the fourth (relu1_1 to relu5_1 and
    relu4_2 of VGG; Gatys et al. 2016). johnson: the last at each of four sizes, and the last at the third (Johnson et
    al. 2016). sharp: the pixels themselves, which count half, and the first at each of four sizes, and the last at the
    third; so results are clean with networks whose first filters are large, which do not see what single pixels do.
    Raises UnknownName for another preset, InputError for a network without such layers.
    """
    if preset not in LAYERS:
        raise unknown("preset", preset, LAYERS)
    sizes = _by_size(net)
    third, fourth = sizes[:3][-1], sizes[:4][-1]
    if preset == "gatys":
        return _alike(names[0] for names in sizes[:_SIZES]), _alike(fourth[:2][-1:])
    if preset == "johnson":
        return _alike(names[-1] for names in sizes[:4]), _alike(third[-1:])
    first = _alike(names[0] for names in sizes[:4])
    return {PIXELS: float(len(first)), **first}, _alike(third[-1:])


def _alike(names: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


def _by_size(net: Network) -> list[list[str]]:
    """The rectified layers, or all where there are none, by the size of their maps, in order.

    Where these are few because tokens stay as many as they are, the longest row of such layers is halved until there
    are `_SIZES`: depth takes the place of size.
    """
    maps = net.layers.maps()
    if not maps:
        raise InputError(f"{net.name} has no map over the image, so no style")
    found = [list(layers.values()) for layers in (maps.rectifiers() or maps).by_size()]
    while len(found) < _SIZES:
        longest = max(found, key=lambda row: len(row) if not isinstance(row[-1].layout, Maps) else 0)
        if len(longest) < 2 or isinstance(longest[-1].layout, Maps):
            break
        at, half = found.index(longest), (len(longest) + 1) // 2
        found[at : at + 1] = [longest[:half], longest[half:]]
    return [[layer.name for layer in row] for row in found]
