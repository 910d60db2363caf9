"""Maximally activating patches: for each channel the images that excite it most, cropped to what it saw.

`project_patches` lays beside each what the neuron's response is when carried back to the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.analysis.tasks import Patches
from netloupe.analysis.unproject import Neuron, chains, no_rectifier, projections, rectifies
from netloupe.core.layers import Layer
from netloupe.core.network import Network
from netloupe.core.numbers import finite
from netloupe.core.perform import Held, function_of, perform, retold
from netloupe.core.receptive_field import Box
from netloupe.core.rules import Rule
from netloupe.core.units import Unit, check_place
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import as_seen
from netloupe.data.sources import ImageSource, ReadPixels, pixel_reader
from netloupe.render.colors import relief
from netloupe.render.pictures import PAPER, Picture, captioned, cropped, fitted, from_pixels, grid, resized
from netloupe.render.result import Result
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.top import Strongest

PATCH_SIDE = 72  # px of a patch in pictures


@dataclass(frozen=True)
class LayerPatches:
    """The k strongest responses of each of C channels, best first, at most one per image.

    values (C, k) float32, images (C, k) ids, positions (C, k, 2) as (y, x) in the layer's map. Where the data set
    has fewer than k images, the rest has value NaN, id -1. first: the channel that the first row is about.
    """

    values: Tensor
    images: Tensor
    positions: Tensor
    first: int = 0

    def only(self, channel: int) -> LayerPatches:
        """Those of one channel."""
        pick = slice(channel - self.first, channel - self.first + 1)
        return LayerPatches(self.values[pick], self.images[pick], self.positions[pick], channel)


@dataclass(frozen=True)
class Projected:
    """Projections of patches: `tiles` by (layer, channel, rank), pictures of what lies in the patch's box.

    Gray is zero, each on its own scale. raw: layer -> (k, colors, H, W), of the whole images, for layers of which one
    channel is shown; zero where there is no image.
    """

    rule: Rule
    tiles: Mapping[tuple[str, int, int], Picture]
    raw: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TopPatches(Result, Mapping[str, LayerPatches]):
    """Layer name -> LayerPatches, over one data set.

    The pictures show a sheet a layer: a mosaic of k patches per channel, in the colors that the network saw, and
    beside it one of their projections, if there are. open_image, read: an image as shown, and as the network sees it.
    varied: of images that are pieces of one photograph only some, the strongest; None where that is `found` itself.
    `shown` is what the pictures show and what is projected: the varied ones where there are.
    """

    found: Mapping[str, LayerPatches]
    layers: Mapping[str, Layer]
    size: tuple[int, int]
    open_image: Callable[[int], Picture]
    read: ReadPixels
    projected: Projected | None = None
    varied: Mapping[str, LayerPatches] | None = None

    @property
    def shown(self) -> TopPatches:
        """The patches that the pictures show, as `found`."""
        return self if self.varied is None else replace(self, found=self.varied, varied=None)

    def __getitem__(self, layer: str) -> LayerPatches:
        return self.found[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def box(self, layer: str, channel: int, rank: int) -> Box:
        """What the neuron behind a patch sees, or where it stands if that is the whole image (see `Layer.patch`).

        (top, left, bottom, right) in px of the network's input.
        """
        entry = self.found[layer]
        y, x = (int(v) for v in entry.positions[channel - entry.first, rank])
        return self.layers[layer].patch(y, x, self.size)

    def patch(self, layer: str, channel: int, rank: int, side: int = PATCH_SIDE) -> Picture:
        """One patch, cut from its photograph in the photograph's own resolution."""
        entry = self.found[layer]
        photo = self.open_image(int(entry.images[channel - entry.first, rank]))
        return cropped(photo, self.box(layer, channel, rank), side, of=self.size)

    def projection(self, layer: str, channel: int, rank: int, side: int = PATCH_SIDE) -> Picture:
        """What `project_patches` found for one patch, in the same frame."""
        assert self.projected is not None
        tile = self.projected.tiles[layer, channel, rank]
        return cropped(tile, (0, 0, *tile.shape[:2]), side)

    def sheet(self, layer: str, channels: Sequence[int] | None = None) -> Picture:
        """Patches of the given channels (all of them for None), each channel as a square mosaic."""
        entry = self.found[layer]
        if channels is None:
            channels = range(entry.first, entry.first + len(entry.images))
        mosaics = []
        for c in channels:
            parts = [self._mosaic(layer, c, self.patch)]
            if self.projected is not None:
                between = np.full((len(parts[0]), 6, 3), PAPER, dtype=np.uint8)
                parts += [between, self._mosaic(layer, c, self.projection)]
            caption = f"{layer}:{c}  {_shown(entry.values[c - entry.first])}"
            mosaics.append(captioned(np.concatenate(parts, axis=1), caption))
        across = math.sqrt(len(mosaics) / (1 if self.projected is None else 2))
        return grid(mosaics, min(8 if self.projected is None else 4, math.ceil(across)), gap=6)

    def _mosaic(self, layer: str, channel: int, tile: Callable[[str, int, int], Picture]) -> Picture:
        """The tiles of all ranks of a channel in a square, blank where there is no image."""
        blank = np.full((PATCH_SIDE, PATCH_SIDE, 3), 236, dtype=np.uint8)
        images = self.found[layer].images[channel - self.found[layer].first]
        tiles = [tile(layer, channel, rank) if i >= 0 else blank for rank, i in enumerate(images)]
        return grid(tiles, math.ceil(math.sqrt(len(tiles))))

    def only(self, layer: str, channel: int) -> TopPatches:
        """The patches of one channel alone, projections left out. Raises UnknownName if the layer has fewer."""
        entry = self.found[layer]
        check_place(layer, "channel", channel, range(entry.first, entry.first + len(entry.values)))
        about = retold(self.provenance, layers=None, unit=f"{layer}:{channel}", project=None)
        varied = None if self.varied is None else {layer: self.varied[layer].only(channel)}
        return replace(self, found={layer: entry.only(channel)}, varied=varied, projected=None, provenance=about)

    def neurons(self, layer: str) -> list[Neuron]:
        """The neurons behind a layer's patches."""
        entry = self.found[layer]
        return [
            Neuron(layer, entry.first + row, rank, image, *position)
            for row, (images, positions) in enumerate(zip(entry.images.tolist(), entry.positions.tolist(), strict=True))
            for rank, (image, position) in enumerate(zip(images, positions, strict=True))
            if image >= 0
        ]

    def pictures(self) -> dict[str, Picture]:
        return {f"patches-{layer}": self.shown.sheet(layer) for layer in self.found}

    def arrays(self) -> dict[str, np.ndarray]:
        """The strictly best; those shown as `shown-...` where they are others; projections of those shown."""
        raw = {} if self.projected is None else self.projected.raw
        rankings = [("", self.found), *([] if self.varied is None else [("shown-", self.varied)])]
        return {
            f"{which}{name}-{layer}": getattr(entry, name).numpy()
            for which, ranking in rankings
            for layer, entry in ranking.items()
            for name in ("values", "images", "positions")
        } | {f"projections-{layer}": array for layer, array in raw.items()}

    def summary(self) -> dict[str, Any]:
        return {
            "layers": {
                layer: {
                    "channels": entry.values.shape[0],
                    "k": entry.values.shape[1],
                    "highest": finite(entry.values[:, 0].nan_to_num(-math.inf).max()),
                    "dead": int((entry.values[:, 0] <= 0).sum()),
                    "shown": "place" if self.layers[layer].sees_all else "receptive field",
                }
                for layer, entry in self.found.items()
            }
        }


@function_of(Patches)
def top_patches(
    net: Network,
    images: ImageSource | Tensor,
    layers: Sequence[str] | None = None,
    k: int = Patches.k,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> TopPatches:
    """The k images that excite each channel of each layer most, and where (Zeiler & Fergus 2013, Figure 2).

    images: a source, or a tensor (N, C, H, W) in [0, 1], whose ids are 0 to N - 1. layers: all for None.
    The ranking is strict; only the pictures leave out what `per_photo` says (see `TopPatches.shown`).
    Ties go to the smaller id; the result does not depend on `batch_size`. Raises UnknownName for a layer that is
    not there, InputError for k below 1 or no readable image.
    """
    found: TopPatches = perform(Patches.of({"layers": layers, "k": k, **settings}), net, {"data": images}, watch)
    return found


def run(task: Patches, net: Network, inputs: Mapping[str, Any], watch: Watch) -> TopPatches:
    names = list(net.layers) if task.layers is None else [net.layer(n).name for n in task.layers]
    channel = None
    if task.unit is not None:
        name, channel = Unit.parse(task.unit).channel_of(net.layers)
        names = [name]
    rule: Rule | None = task.project  # type: ignore[assignment]
    if rule is not None and not rectifies(net):
        raise no_rectifier(net, rule)
    images = inputs["data"]
    found = _ranked(task, net, images.fitted(net) if isinstance(images, Held) else images, names, watch)
    found = found if channel is None else found.only(names[0], channel)
    return found if rule is None else project_patches(net, found, rule, batch_size=task.batch_size, watch=watch)


def _ranked(task: Patches, net: Network, images: ImageSource | Tensor, names: list[str], watch: Watch) -> TopPatches:
    accumulators = {"patches": Strongest(task.k)}
    if task.per_photo and isinstance(images, ImageSource) and images.photographs is not None:
        accumulators["varied"] = Strongest(task.k, per_photograph=task.per_photo)
    report = sweep(net, images, accumulators, layers=names, batch_size=task.batch_size, watch=watch)
    check_any_read(report, images)
    rankings = {which: accumulator.result() for which, accumulator in accumulators.items()}
    found, varied = (
        {n: LayerPatches(*rankings[which][n]) for n in names} if which in rankings else None
        for which in ("patches", "varied")
    )
    assert found is not None
    read: ReadPixels
    if isinstance(images, Tensor):
        pixels = images.detach().cpu()
        size = int(images.shape[2]), int(images.shape[3])

        def open_image(i: int) -> Picture:
            return as_seen(Image.fromarray(from_pixels(pixels[i].numpy())), size)

        read = pixels.__getitem__
    else:
        source, size = images, net.inputs.size

        @lru_cache(maxsize=1024)
        def open_image(i: int) -> Picture:
            return as_seen(source.open(i), size)

        read = pixel_reader(source, size, net.inputs.channels)

    return TopPatches(found, {n: net.layers[n] for n in names}, size, open_image, read, varied=varied)


def project_patches(
    net: Network,
    top: TopPatches,
    rule: Rule = "deconvnet",
    *,
    batch_size: int = 32,
    watch: Watch = SILENT,
) -> TopPatches:
    """The same patches with the projection of each that is shown (Zeiler & Fergus 2013, Figure 2).

    See `unproject.project`. Of a single channel (`only`) the raw projections are kept too. Raises UnknownName for a
    rule that is not there, NetworkError if the network has no ReLU, InputError for a batch size below 1.
    """
    tiles: dict[tuple[str, int, int], Picture] = {}
    shown = top.shown
    raw = {layer: [np.zeros(0)] * top[layer].images.shape[1] for layer in top if len(top[layer].images) == 1}
    part = watch.part("projections", sum(int((shown[layer].images >= 0).sum()) for layer in top))
    for chain in chains(net, list(top), rule):
        neurons = [neuron for layer in chain for neuron in shown.neurons(layer)]
        for sharing, pixels in projections(net, neurons, top.read, rule, batch_size=batch_size):
            boxes = {n: shown.box(n.layer, n.channel, n.rank) for n in sharing}
            drawn = {box: tile_of(pixels, box, PATCH_SIDE) for box in set(boxes.values())}
            for n, box in boxes.items():
                tiles[n.layer, n.channel, n.rank] = drawn[box]
                if n.layer in raw:
                    raw[n.layer][n.rank] = pixels
            part.advance(len(sharing))
    arrays = {
        layer: np.stack([a if a.size else np.zeros_like(ranked[0]) for a in ranked]) for layer, ranked in raw.items()
    }
    return replace(top, projected=Projected(rule, tiles, arrays), provenance=retold(top.provenance, project=rule))


def tile_of(pixels: np.ndarray, box: Box, side: int) -> Picture:
    """The part of a projection (C, H, W) that lies in the box, gray at zero, on its own scale; at most `side` px."""
    top, left, bottom, right = box
    picture = relief(pixels[:, top:bottom, left:right])
    size = picture.shape[:2]
    return picture if max(size) <= side else resized(picture, fitted(size, side))


def _shown(values: Tensor) -> str:
    known = values[~torch.isnan(values)]
    return f"{float(known[0]):.3g}" if len(known) else "no image"
