"""Maximally activating patches: for each channel the images that excite it most, cropped to what it saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.analysis.display import as_seen
from netloupe.analysis.provenance import provenance
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.layers import Layer
from netloupe.core.network import Network
from netloupe.core.receptive_field import Box
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import Picture, captioned, cropped, from_pixels, grid
from netloupe.render.result import Result
from netloupe.sweep.accumulators import TopPatches as TopAccumulator
from netloupe.sweep.engine import check_any_read, sweep

PATCH_SIDE = 72  # px of a patch in pictures


@dataclass(frozen=True)
class LayerPatches:
    """The k strongest responses of each of C channels, best first, at most one per image.

    values (C, k) float32, images (C, k) ids, positions (C, k, 2) as (y, x) in the layer's map. Where the data set
    has fewer than k images, the rest has value NaN, id -1.
    """

    values: Tensor
    images: Tensor
    positions: Tensor


@dataclass(frozen=True)
class TopPatches(Result, Mapping[str, LayerPatches]):
    """Layer name -> LayerPatches, over one data set.

    The pictures show a sheet a layer: a row of k patches per channel, in the colors that the network saw.
    """

    found: Mapping[str, LayerPatches]
    layers: Mapping[str, Layer]
    size: tuple[int, int]
    open_image: Callable[[int], Picture]
    provenance: Mapping[str, Any]

    def __getitem__(self, layer: str) -> LayerPatches:
        return self.found[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def box(self, layer: str, channel: int, rank: int) -> Box:
        """What the neuron behind a patch sees: (top, left, bottom, right) in px of the network's input."""
        y, x = (int(v) for v in self.found[layer].positions[channel, rank])
        return self.layers[layer].receptive_field.box(y, x, self.size)

    def patch(self, layer: str, channel: int, rank: int, side: int = PATCH_SIDE) -> Picture:
        """One patch, cut from its photograph in the photograph's own resolution."""
        photo = self.open_image(int(self.found[layer].images[channel, rank]))
        scale = photo.shape[0] / self.size[0], photo.shape[1] / self.size[1]
        top, left, bottom, right = self.box(layer, channel, rank)
        return cropped(photo, (top * scale[0], left * scale[1], bottom * scale[0], right * scale[1]), side)

    def sheet(self, layer: str, channels: Sequence[int] | None = None) -> Picture:
        """Patches of the given channels (all of them for None), each channel as a square mosaic."""
        entry = self.found[layer]
        if channels is None:
            channels = range(entry.images.shape[0])
        blank = np.full((PATCH_SIDE, PATCH_SIDE, 3), 236, dtype=np.uint8)
        columns = math.ceil(math.sqrt(entry.images.shape[1]))
        mosaics = []
        for c in channels:
            tiles = [
                self.patch(layer, c, r) if entry.images[c, r] >= 0 else blank for r in range(entry.images.shape[1])
            ]
            mosaics.append(captioned(grid(tiles, columns), f"{layer}:{c}  {_shown(entry.values[c])}"))
        return grid(mosaics, min(8, math.ceil(math.sqrt(len(mosaics)))), gap=6)

    def only(self, layer: str, channel: int) -> TopPatches:
        """The patches of one channel alone. Raises UnknownName if the layer has fewer channels."""
        entry = self.found[layer]
        if not 0 <= channel < len(entry.values):
            raise UnknownName(f"no channel {channel} in layer {layer!r} (accepted: 0 to {len(entry.values) - 1})")
        pick = slice(channel, channel + 1)
        one = LayerPatches(entry.values[pick], entry.images[pick], entry.positions[pick])
        where = {**self.provenance, "channel": channel}
        return TopPatches({layer: one}, self.layers, self.size, self.open_image, where)

    def pictures(self) -> dict[str, Picture]:
        return {f"patches-{layer}": self.sheet(layer) for layer in self.found}

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{name}-{layer}": getattr(entry, name).numpy()
            for layer, entry in self.found.items()
            for name in ("values", "images", "positions")
        }

    def summary(self) -> dict[str, Any]:
        return {
            "layers": {
                layer: {
                    "channels": entry.values.shape[0],
                    "k": entry.values.shape[1],
                    "highest": _number(entry.values[:, 0].nan_to_num(-math.inf).max()),
                    "dead": int((entry.values[:, 0] <= 0).sum()),
                }
                for layer, entry in self.found.items()
            }
        }


def top_patches(
    net: Network,
    images: ImageSource | Tensor,
    layers: Sequence[str] | None = None,
    k: int = 9,
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> TopPatches:
    """The k images that excite each channel of each layer most, and where (Zeiler & Fergus 2013, Figure 2).

    images: a source, or a tensor (N, C, H, W) in [0, 1], whose ids are 0 to N - 1. layers: all for None.
    Ties go to the smaller id; the result does not depend on `batch_size`. Raises UnknownName for a layer that is
    not there, InputError for k below 1 or no readable image.
    """
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    names = list(net.layers) if layers is None else [net.layer(n).name for n in layers]
    accumulator = TopAccumulator(k)
    report = sweep(net, images, {"patches": accumulator}, layers=names, batch_size=batch_size, progress=progress)
    check_any_read(report, images)
    found = {n: LayerPatches(*accumulator.result()[n]) for n in names}
    if isinstance(images, Tensor):
        pixels = images.detach().cpu()
        spec, size = "tensor", (int(images.shape[2]), int(images.shape[3]))

        def open_image(i: int) -> Picture:
            return as_seen(Image.fromarray(from_pixels(pixels[i].numpy())), size)
    else:
        source, spec, size = images, images.spec, net.inputs.size

        def open_image(i: int) -> Picture:
            return as_seen(source.open(i), size)

    where = provenance(net, "top_patches", layers=names, k=k, images=spec)
    return TopPatches(found, {n: net.layers[n] for n in names}, size, open_image, where)


def _shown(values: Tensor) -> str:
    known = values[~torch.isnan(values)]
    return f"{float(known[0]):.3g}" if len(known) else "no image"


def _number(value: Tensor) -> float | None:
    return float(value) if torch.isfinite(value) else None
