"""Images larger than memory: the layers of a pass found tile by tile, and put together as if it were one pass.

Each tile is seen with a margin as wide as the receptive field reaches, so the maps are those of the whole image. What
lies between the pixels and the layers that are read is computed again on the way back, tile by tile (checkpointing,
Chen et al. 2016), so memory holds no more than those layers and one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, lcm

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.objectives import Reading
from netloupe.core.taps import LOGITS


@dataclass(frozen=True)
class _Span:
    """Pixels of one axis: `start` to `end` are a tile's own, `low` to `high` what it is seen with."""

    start: int
    end: int
    low: int
    high: int


def read(
    net: Network,
    images: Tensor,
    layers: Sequence[str],
    tile: int | None = None,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Reading:
    """`net.reading(images, layers)`; images with a side longer than `tile` px are seen in tiles of about that.

    around: gives the context for each pass, on the way back too. Of images in tiles, layers without positions and the
    logits are the mean over the tiles. Raises InputError for a layer whose maps are no whole number of times smaller
    than the image.
    """
    if tile is None or max(images.shape[2:]) <= tile:
        with around():
            return net.reading(images, layers)
    maps = [name for name in layers if name != LOGITS and net.layer(name).spatial]
    strides = {name: _stride(net, name, tile) for name in maps}
    step = lcm(_step(net, layers, tile), *strides.values())
    reach = max((_reach(net, name, tile) for name in maps), default=0)
    rows, columns = (_spans(int(side), tile, step, reach) for side in images.shape[2:])

    def outputs(part: Tensor) -> tuple[Tensor, ...]:
        with around():
            found = net.reading(part, layers).outputs
        return tuple(found[name] for name in layers)

    strips: list[dict[str, Tensor]] = []
    for row in rows:
        seen = []
        for column in columns:
            part = images[:, :, row.low : row.high, column.low : column.high]
            found = _checkpointed(outputs, part) if torch.is_grad_enabled() else outputs(part)
            named = dict(zip(layers, found, strict=True))
            seen.append({name: _own(named[name], row, column, strides.get(name)) for name in layers})
        strips.append(_joined(seen, maps, 3))
    return net.reading_of(lambda: images, _joined(strips, maps, 2))


def _checkpointed(outputs: Callable[[Tensor], tuple[Tensor, ...]], part: Tensor) -> tuple[Tensor, ...]:
    with set_checkpoint_early_stop(False):  # which would end the pass by an error, in the middle of the network
        found: tuple[Tensor, ...] = checkpoint(outputs, part, use_reentrant=False)
    return found


def _joined(parts: Sequence[Mapping[str, Tensor]], maps: Sequence[str], axis: int) -> dict[str, Tensor]:
    return {
        name: torch.cat([part[name] for part in parts], axis)
        if name in maps
        else torch.stack([part[name] for part in parts]).mean(0)
        for name in parts[0]
    }


def _own(maps: Tensor, row: _Span, column: _Span, stride: int | None) -> Tensor:
    """The tile's own part of its maps."""
    if stride is None:
        return maps
    top, left = ((span.start - span.low) // stride for span in (row, column))
    last = [span.end == span.high for span in (row, column)]
    height, width = ((span.end - span.start) // stride for span in (row, column))
    return maps[:, :, top : None if last[0] else top + height, left : None if last[1] else left + width]


def _spans(length: int, tile: int, step: int, reach: int) -> list[_Span]:
    """Tiles of nearly equal length, cut at multiples of `step`, with margins that are multiples of it."""
    count = max(1, ceil(length / tile))
    cuts = sorted({round(i * length / count / step) * step for i in range(count)} | {length})
    margin = ceil(reach / step) * step
    return [_Span(a, b, max(0, a - margin), min(length, b + margin)) for a, b in pairwise(cuts)]


def _step(net: Network, layers: Sequence[str], tile: int) -> int:
    """Of what the sides of images are multiples, tiles too."""
    sizes = net.sizes(layers)
    if sizes.step is None:
        raise InputError(f"tiles of {tile} px for {net.name} (accepted: {sizes}, as a whole)")
    return sizes.step


def _stride(net: Network, name: str, tile: int) -> int:
    height, width = net.inputs.size
    sides = net.layer(name).shape[1:]
    strides = {round(height / sides[0]), round(width / sides[1])}
    stride = min(strides)
    if (
        len(strides) > 1
        or stride > tile
        or any(
            side not in (length // stride, ceil(length / stride))
            for side, length in zip(sides, (height, width), strict=True)
        )
    ):
        raise InputError(
            f"layer {name!r} of {sides[0]}x{sides[1]} for images of {height}x{width} px can't be seen in tiles of "
            f"{tile} px (accepted: maps a whole number of times smaller than the image and the tile; or no tiles)"
        )
    return stride


def _reach(net: Network, name: str, tile: int) -> int:
    """How far beyond a tile its maps look, px; at most half a tile, so of attention only that much is seen."""
    field = net.layer(name).receptive_field
    sides = zip(field.start, field.size, field.stride, strict=True)
    return min(tile // 2, max(max(-start, start + size - stride, 0) for start, size, stride in sides))
