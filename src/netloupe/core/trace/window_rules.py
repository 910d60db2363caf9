"""How operations act on windows: each rule computes the changed part of its output from the changed part of its input.

A rule raises CantTell where it can't, or where windows would cover most of the map; then full maps are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from netloupe.core.trace.geometry import Reads, sliding
from netloupe.core.trace.graph import Step
from netloupe.core.trace.maps import Clean, Extent, Windowed
from netloupe.core.trace.mode import CantTell, repeated
from netloupe.core.trace.winograd import suits, transformed, winograd

MOST = 0.8  # windows that would cover this share of a map are not worth the gathering

Value = Tensor | Windowed


@dataclass(frozen=True)
class Call:
    """One step on windows: `arguments` hold the values, Windowed or whole; `clean`: its output for the clean image.

    growth: see `Extent.windows`; 1 for exact.
    """

    step: Step
    arguments: dict[str, Any]
    clean: Clean
    growth: float

    @cached_property
    def leaves(self) -> list[Any]:
        """All arguments, and what stands in lists."""
        return tree_flatten(self.arguments)[0]

    @property
    def windowed(self) -> list[Windowed]:
        return [leaf for leaf in self.leaves if isinstance(leaf, Windowed)]

    def only(self, name: str) -> Windowed:
        """The argument of that name, if it is all that is windowed."""
        given = self.arguments[name]
        if not isinstance(given, Windowed) or len(self.windowed) > 1:
            raise CantTell("other arguments change with the windows")
        return given

    def wider(self, source: Windowed) -> _Wider:
        """For what slides windows: what to gather and where the result goes."""
        found = sliding(self.step.name, self.arguments)
        reads = [Reads()] * (2 - len(found)) + found
        y, x = (
            extent.windows(length, *along, self.growth)
            for extent, length, along in zip((source.y, source.x), self.clean.shape[2:], reads, strict=True)
        )
        if y.size * x.size >= MOST * y.length * x.length:
            raise CantTell("the windows cover most of the map")
        return _Wider(source, y, x, reads)

    def computed(self, /, **others: Tensor) -> Tensor:
        """The operation's first output with other arguments."""
        found = repeated(self.step.function, {**self.arguments, **others})
        return found if isinstance(found, Tensor) else found[0]


@dataclass(frozen=True)
class _Wider:
    source: Windowed
    y: Extent
    x: Extent
    reads: list[Reads]

    def pixels(self, fill: float) -> Tensor:
        """All that the changed outputs read."""
        ys, xs = (
            extent.reads(along.stride, along.padding, along.dilation * (along.size - 1) + 1)
            for extent, along in zip((self.y, self.x), self.reads, strict=True)
        )
        return self.source.region(ys, xs, fill)


def convolution(call: Call) -> Windowed:
    a = call.arguments
    source, weight, bias = call.only("input"), a["weight"], a["bias"]
    if a["transposed"] or weight.ndim != 4:
        raise CantTell("no convolution of maps")
    wider = call.wider(source)
    read = wider.pixels(0.0)
    if suits(read, weight, a["stride"], a["dilation"], a["groups"]):
        if "winograd" not in call.step.memo:
            call.step.memo["winograd"] = transformed(weight)
        pixels = winograd(read, call.step.memo["winograd"], bias)
    else:
        pixels = F.conv2d(read, weight, bias, a["stride"], 0, a["dilation"], a["groups"])
    return Windowed(call.clean, wider.y, wider.x, pixels)


def max_pooling(call: Call) -> Windowed:
    wider = call.wider(call.only("self"))
    size, stride, _, dilation = zip(*wider.reads, strict=True)
    pixels = F.max_pool2d(wider.pixels(-torch.inf), size, stride, 0, dilation)
    return Windowed(call.clean, wider.y, wider.x, pixels)


def average_pooling(call: Call) -> Windowed:
    """Sums over the windows, then divided as the operation itself divides at each position."""
    wider = call.wider(call.only("self"))
    size, stride, _, _ = zip(*wider.reads, strict=True)
    sums = F.avg_pool2d(wider.pixels(0.0), size, stride, divisor_override=1)
    factor = _divisions(call, wider)
    ys, xs = wider.y.positions(), wider.x.positions()
    factor = factor[ys[:, None, :, None], xs[None, :, None, :]].reshape(-1, 1, wider.y.size, wider.x.size)
    return Windowed(call.clean, wider.y, wider.x, sums * factor)


def _divisions(call: Call, wider: _Wider) -> Tensor:
    """(H, W): what average pooling multiplies the sum by at each of its outputs."""
    source = wider.source
    ones = source.pixels.new_ones(1, 1, source.y.length, source.x.length)
    means = call.computed(self=ones)
    sides: list[int] = []
    for extent, length, along in zip((wider.y, wider.x), ones.shape[2:], wider.reads, strict=True):
        last = (extent.length - 1) * along.stride + along.size
        sides[:0] = [along.padding, max(0, last - along.padding - length)]
    size, stride, _, _ = zip(*wider.reads, strict=True)
    counts = F.avg_pool2d(F.pad(ones, sides), size, stride, divisor_override=1)
    return (means / counts[..., : wider.y.length, : wider.x.length])[0, 0]


def padding(call: Call) -> Windowed:
    """By a constant, along y and x only."""
    sides = list(call.arguments["pad"])
    if len(sides) > 4 or min(sides, default=0) < 0:
        raise CantTell("padding of channels, or a crop")
    wider = call.wider(call.only("self"))
    return Windowed(call.clean, wider.y, wider.x, wider.pixels(float(call.arguments["value"])))


def concatenation(call: Call) -> Windowed:
    """Of channels."""
    tensors = call.arguments["tensors"]
    if call.arguments["dim"] % 4 != 1 or not all(isinstance(t, Windowed) for t in tensors):
        raise CantTell("not of windowed channels")
    aligned = _aligned(tensors)
    pixels = torch.cat([t.pixels for t in aligned], 1)
    return Windowed(call.clean, aligned[0].y, aligned[0].x, pixels.contiguous(memory_format=torch.channels_last))


def normalization(call: Call) -> Windowed:
    """Batch normalization by its running statistics."""
    source = call.only("input")
    if call.arguments.get("training", False):
        raise CantTell("the statistics change with the windows")
    return Windowed(call.clean, source.y, source.x, call.computed(input=source.pixels))


def channels(call: Call) -> Windowed:
    """A slice of the channels."""
    source = call.only("self")
    if call.arguments["dim"] % 4 != 1:
        raise CantTell("a slice of positions")
    pixels = call.computed(self=source.pixels)
    return Windowed(call.clean, source.y, source.x, pixels.contiguous(memory_format=torch.channels_last))


def pointwise(call: Call) -> Windowed:
    """Any number of maps of one size, with constants that are the same everywhere on the map."""
    windowed = call.windowed
    others = [leaf for leaf in call.leaves if isinstance(leaf, Tensor)]
    if any(set(other.shape[-2:]) - {1} or (other.ndim == 4 and other.shape[0] != 1) for other in others):
        raise CantTell("what comes along varies over the map")
    if len({(source.y.length, source.x.length) for source in windowed}) > 1:
        raise CantTell("maps of several sizes")
    aligned = _aligned(windowed)
    each = iter(aligned)
    arguments = tree_map(lambda leaf: next(each).pixels if isinstance(leaf, Windowed) else leaf, call.arguments)
    return Windowed(call.clean, aligned[0].y, aligned[0].x, call.computed(**arguments))


def _aligned(sources: Sequence[Windowed]) -> list[Windowed]:
    """The same maps with common spans."""
    y, x = sources[0].y, sources[0].x
    for source in sources[1:]:
        y, x = y.union(source.y), x.union(source.x)
    return [source.at(y, x) for source in sources]


Rule = Callable[[Call], Windowed]

_RULES: dict[str, Rule] = {
    "convolution": convolution,
    "max_pool2d_with_indices": max_pooling,
    "avg_pool2d": average_pooling,
    "constant_pad_nd": padding,
    "cat": concatenation,
    "native_batch_norm": normalization,
    "_native_batch_norm_legit_no_training": normalization,
    "cudnn_batch_norm": normalization,
    "miopen_batch_norm": normalization,
    "slice": channels,
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy"), pointwise),
}


def rule_for(step: Step) -> Rule:
    """The rule of an operation. Raises CantTell where there is none."""
    if step.name in _RULES:
        return _RULES[step.name]
    if torch.Tag.pointwise in step.function.tags:
        return pointwise
    raise CantTell(f"there is no rule for aten::{step.name}")
