"""Mosaics of projections: the patches of a channel carried back to the pixels, and how alike they are where they ought
to differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.correlation import rank_correlation
from netloupe.analysis.fidelity import randomized
from netloupe.analysis.patches import tile_of
from netloupe.analysis.unproject import Neuron, Pass, Place, projections
from netloupe.atlas.sheets import QUALITY, projection_side, typical
from netloupe.core.device import fast_dtype
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network
from netloupe.core.receptive_field import Box
from netloupe.core.rules import Rule
from netloupe.core.watch import Part
from netloupe.data.sources import ReadPixels
from netloupe.render.pictures import Color, Picture, encode, grid, resized

_TOGETHER = 512  # channels whose tiles are held at once
_GRAY: Color = (128, 128, 128)
_NEARLY = 0.97  # mean correlation between projections in bfloat16 and in float32, at least
_SAMPLE = 8  # channels by which a layer's projections are compared

Alike = dict[str, float | None]


class Patch(NamedTuple):
    """A row of table `patches`: the neuron behind it, the box that it sees, and its value."""

    neuron: Neuron
    box: Box
    value: float


def mosaics(
    net: Network,
    patches: Sequence[Patch],
    read: ReadPixels,
    rule: Rule,
    dtype: torch.dtype,
    batch_size: int,
    columns: int,
    part: Part,
) -> Iterator[tuple[str, int, bytes]]:
    """(layer, channel, WebP) for every channel that has patches; the layers are one chain. columns: tiles in a row."""
    side = projection_side(net.inputs.size)
    for first in range(0, 1 + max((p.neuron.channel for p in patches), default=-1), _TOGETHER):
        boxes = {p.neuron: p.box for p in patches if first <= p.neuron.channel < first + _TOGETHER}
        tiles: dict[tuple[str, int], dict[int, Picture]] = {}
        for sharing, pixels in projections(net, boxes, read, rule, batch_size=batch_size, dtype=dtype):
            drawn = {box: tile_of(pixels, box, side) for box in {boxes[n] for n in sharing}}
            for n in sharing:
                tiles.setdefault((n.layer, n.channel), {})[n.rank] = drawn[boxes[n]]
            part.advance(len(sharing))
        yield from _encoded(tiles, side, columns)


def _encoded(
    tiles: Mapping[tuple[str, int], Mapping[int, Picture]], side: int, columns: int
) -> Iterator[tuple[str, int, bytes]]:
    """Each channel's tiles in rows; mosaics of the very same tiles are encoded once.

    A tile fills its square whatever the shape of its box; the page gives that back.
    """
    made: dict[tuple[int, ...], bytes] = {}
    for (layer, channel), ranked in sorted(tiles.items()):
        ordered = [ranked[rank] for rank in sorted(ranked)]
        key = tuple(map(id, ordered))
        if key not in made:
            squares = [resized(tile, (side, side)) for tile in ordered]
            made[key] = encode(grid(squares, columns, gap=0, background=_GRAY), "WEBP", QUALITY)
        yield layer, channel, made[key]


def sample_of(patches: Iterable[Patch]) -> list[Patch]:
    """The best patches of up to eight channels of a layer, spread evenly over the living ones."""
    best = sorted((p for p in patches if p.neuron.rank == 0 and p.value > 0), key=lambda p: p.neuron.channel)
    strength = np.array([p.value for p in best])
    return [best[i] for i in typical(strength, strength <= 0, _SAMPLE)]


def likeness(net: Network, random: Network | None, sample: Sequence[Patch], read: ReadPixels, rule: Rule) -> Alike:
    """How alike projections are that ought to differ, by a few patches of one layer.

    The mean size of the rank correlation between projections, colors added up by size, within the patch's box:
    `random` with those of the same neurons under random weights, `channels` with those of another channel at the same
    place. 1: the same, 0: unrelated; None where nothing can be compared. All neurons start with 1, since the others
    may be silent there.
    """
    if not sample:
        return {"random": None, "channels": None}
    images, boxes = torch.stack([read(p.neuron.image) for p in sample]), [p.box for p in sample]
    places = [p.neuron.place for p in sample]
    others = [place._replace(channel=places[i - 1].channel) for i, place in enumerate(places)]
    here = Pass(net, images, [places[0].layer], rule)
    own = here.project(places, ones=True)
    return {
        "random": None if random is None else _alike(own, _projected(random, images, places, rule), boxes),
        "channels": _alike(own, here.project(others, ones=True), boxes) if len(places) > 1 else None,
    }


def _faithful(net: Network, sample: Sequence[Patch], read: ReadPixels, rule: Rule, dtype: torch.dtype) -> bool:
    """Whether projections computed in `dtype` are nearly those in float32, by a few patches of one layer."""
    if not sample or dtype == torch.float32 or net.dtype != torch.float32:
        return False
    images, places = torch.stack([read(p.neuron.image) for p in sample]), [p.neuron.place for p in sample]
    exact, rounded = (_projected(net, images, places, rule, kind) for kind in (torch.float32, dtype))
    if exact is None or rounded is None:
        return False
    pairs = zip(exact.flatten(1), rounded.flatten(1), strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()) > _NEARLY


def dtype_for(net: Network, sample: Sequence[Patch], read: ReadPixels, rule: Rule) -> torch.dtype:
    """The type to compute projections in: bfloat16 where it is fast and nearly agrees, by a layer's patches."""
    fast = fast_dtype(net.device)
    return fast if _faithful(net, sample, read, rule, fast) else torch.float32


def random_twin(net: Network) -> Network | None:
    """The network with random weights; None if it has none to draw, or can't be copied."""
    try:
        return randomized(net)
    except (InputError, NetworkError):
        return None


def _projected(
    net: Network, images: Tensor, places: Sequence[Place], rule: Rule, dtype: torch.dtype = torch.float32
) -> Tensor | None:
    """Projections that start with 1; None where random weights or a rounded type make numbers that are not finite."""
    try:
        return Pass(net, images, [places[0].layer], rule, dtype).project(places, ones=True)
    except NetworkError:
        return None


def _alike(a: Tensor, b: Tensor | None, boxes: Sequence[Box]) -> float | None:
    """The mean |rank correlation| over the pairs of which neither is constant; None without any."""
    if b is None:
        return None
    found = []
    for one, other, (top, left, bottom, right) in zip(a.abs().sum(1).cpu(), b.abs().sum(1).cpu(), boxes, strict=True):
        part = slice(top, bottom), slice(left, right)
        found.append(abs(float(rank_correlation(one[part][None], other[part][None]))))
    known = [value for value in found if not math.isnan(value)]
    return sum(known) / len(known) if known else None
