"""Activation maps: what each channel of a layer answers to an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.analysis.tasks import Activations
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.render.colors import heat
from netloupe.render.pictures import Picture, captioned, from_pixels, grid, resized, stacked
from netloupe.render.result import Result


@dataclass(frozen=True)
class ActivationMaps(Result):
    """Outputs of layers for N images: `maps[layer]` (N, C, H, W) float32; `images` (N, channels, H, W) in [0, 1],
    with their `names`.

    The pictures show each layer's `top` strongest channels, strongest first, on one scale per layer and image from 0
    (black) to the strongest value; what lies below zero is black. The arrays hold every channel.
    """

    names: tuple[str, ...]
    images: np.ndarray
    maps: dict[str, np.ndarray]
    top: int

    def strongest(self, layer: str, image: int) -> list[int]:
        """The `top` channels of the highest peak in one image, best first; the smaller number first at ties."""
        peaks = self.maps[layer][image].reshape(self.maps[layer].shape[1], -1).max(axis=1)
        return [int(c) for c in np.argsort(-peaks, kind="stable")[: self.top]]

    def pictures(self) -> dict[str, Picture]:
        return {
            "activations" if len(self.images) == 1 else f"activations-{i}": self._sheet(i)
            for i in range(len(self.images))
        }

    def _sheet(self, image: int) -> Picture:
        parts = [resized(from_pixels(self.images[image]), _shown(self.images.shape[2:], 256))]
        for layer, maps in self.maps.items():
            channels = self.strongest(layer, image)
            high = float(max(maps[image, c].max() for c in channels))
            size = _shown(maps.shape[2:], 96)
            tiles = [resized(heat(maps[image, c], high), size, smooth=False) for c in channels]
            shown = ", ".join(map(str, channels[:8])) + (" ..." if len(channels) > 8 else "")
            row = grid(tiles, min(8, math.ceil(math.sqrt(len(tiles)) * 2)))
            parts.append(captioned(row, f"{layer}: channels {shown}; brightest is {high:.3g}"))
        return stacked(parts)

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"maps-{layer}": maps for layer, maps in self.maps.items()} | {"images": self.images}

    def summary(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "images": [
                {
                    layer: [{"channel": c, "peak": float(maps[i, c].max())} for c in self.strongest(layer, i)]
                    for layer, maps in self.maps.items()
                }
                for i in range(len(self.images))
            ],
        }


@function_of(Activations)
def activation_maps(
    net: Network, images: Tensor, layers: Sequence[str] | None = None, *, watch: Watch = SILENT, **settings: Any
) -> ActivationMaps:
    """The activation maps of images (N, C, H, W) in [0, 1] in the named layers, by default every convolution.

    Raises UnknownName for a layer that is not there, InputError for one that is no map over the image.
    """
    found: ActivationMaps = perform(Activations.of({"layers": layers, **settings}), net, {"images": images}, watch)
    return found


def run(task: Activations, net: Network, inputs: Mapping[str, Any], watch: Watch) -> ActivationMaps:
    layers: Sequence[str] | None = task.layers
    if layers is None:
        layers = list(net.layers.convolutions() or net.layers.where(lambda layer: layer.spatial))
    flat = [n for n in layers if not net.layer(n).spatial]
    if flat or not layers:
        named = (
            f"layer {flat[0]!r} has no maps: its shape is {net.layer(flat[0]).shape}" if flat else "no layer has maps"
        )
        raise InputError(f"{named} (accepted: layers of shape (C, H, W); see `netloupe layers`)")
    images = inputs["images"].fitted(net)
    found = net.activations(images, layers)
    maps = {n: found[n].cpu().numpy() for n in layers}
    return ActivationMaps(inputs["images"].names, images.detach().cpu().numpy(), maps, task.top)


def _shown(size: Sequence[int], side: int) -> tuple[int, int]:
    """(height, width) of the same shape with the long side near `side`, by a whole factor where it grows."""
    factor: float = side / max(size)
    if factor >= 1:
        factor = math.floor(factor)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
