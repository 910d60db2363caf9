"""Filters: the weights of convolutions, as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netloupe.analysis.tasks import FiltersTask
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import Watch
from netloupe.render.pictures import Picture, grid, resized
from netloupe.render.result import Result


@dataclass(frozen=True)
class Filters(Result):
    """Weights (out, in, kh, kw) of one convolution.

    Three input channels: one color image a filter; otherwise a row of gray images a filter, one per input channel.
    `scale`: weights are mapped to 0..255 over each filter, or over the whole layer.
    """

    layer: str
    weights: np.ndarray
    scale: str

    def bytes(self) -> np.ndarray:
        """The weights on 0..255: (out, in, kh, kw) uint8."""
        axes = (1, 2, 3) if self.scale == "filter" else (0, 1, 2, 3)
        low = self.weights.min(axis=axes, keepdims=True)
        high = self.weights.max(axis=axes, keepdims=True)
        share = (self.weights - low) / np.where(high > low, high - low, 1)
        return np.asarray((share * 255).round(), dtype=np.uint8)

    def pictures(self) -> dict[str, Picture]:
        scaled = self.bytes()
        out, inputs, height, width = scaled.shape
        zoom = max(1, 56 // max(height, width)) if inputs == 3 else max(1, 15 // max(height, width))
        size = (height * zoom, width * zoom)
        if inputs == 3:
            tiles = [resized(filter_.transpose(1, 2, 0), size, smooth=False) for filter_ in scaled]
            return {"filters": grid(tiles, math.ceil(math.sqrt(out)))}
        rows, columns = min(out, 64), min(inputs, 64)
        tiles = [
            resized(np.repeat(scaled[o, i][..., None], 3, axis=2), size, smooth=False)
            for o in range(rows)
            for i in range(columns)
        ]
        return {"filters": grid(tiles, columns, gap=1)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def summary(self) -> dict[str, Any]:
        out, inputs, height, width = self.weights.shape
        shown = out if inputs == 3 else min(out, 64)
        return {
            "layer": self.layer,
            "filters": out,
            "channels": inputs,
            "size": [height, width],
            "low": float(self.weights.min()),
            "high": float(self.weights.max()),
            "filters_shown": shown,
            "channels_shown": inputs if inputs == 3 else min(inputs, 64),
        }


@function_of(FiltersTask)
def filters(net: Network, layer: str | None = None, **settings: Any) -> Filters:
    """The filters of a convolution, by default the first of the network.

    The picture shows at most 64 filters of 64 channels each beyond the first layer; the arrays hold all.
    Raises UnknownName for a layer that is not there, InputError for one without filters.
    """
    found: Filters = perform(FiltersTask.of({"layer": layer, **settings}), net, {})
    return found


def run(task: FiltersTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Filters:
    convolutions = list(net.layers.convolutions())
    layer = task.layer
    if layer is None:
        if not convolutions:
            raise InputError(f"{net.name} has no two-dimensional convolution, so no filters to show")
        layer = convolutions[0]
    elif net.layer(layer).name not in convolutions:
        listed = ", ".join(convolutions[:8])
        raise InputError(f"layer {layer!r} is a {net.layer(layer).kind} without filters (accepted: {listed})")
    weight = net.layers[layer].weight()
    assert weight is not None  # a convolution has one
    return Filters(layer, weight.float().cpu().numpy(), task.scale, provenance=decided(replace(task, layer=layer)))
