"""Receptive fields of layers that could not be followed, measured on the running network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from netloupe.core.errors import NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.core.layout import MAPS, Layout
from netloupe.core.receptive_field import NOTHING, Line, ReceptiveField, Span
from netloupe.core.taps import Reader, evaluating, placement, tapped

Filling = Literal["NaN", "noise"]
Query = tuple[int, bool, int, Filling]
"""(axis, before, edge, filling): the pixels before `edge` along the axis, or those from it on, are filled so."""

ALL: Query = (0, False, 0, "NaN")
"""All pixels are NaN."""


def measure(
    module: nn.Module, inputs: InputSpec, forward: Callable[[Tensor], Any], layers: Mapping[str, tuple[int, ...]]
) -> dict[str, ReceptiveField]:
    """The receptive fields of layers of the given shapes (C, H, W) or (C,), each marked as not exact."""
    found = Measuring(module, inputs, forward, layers, dict.fromkeys(layers, MAPS))
    return {name: found.field(name) for name in layers}


class Measuring:
    """The receptive fields of layers, each measured when it is asked for and marked as not exact.

    layers: {name: shape of the map}. layouts: {name: how the output lies}.

    NaN goes through convolution, pooling, normalization and ReLU, so the rows before r reach a neuron if it turns
    NaN with them. Bisection over r gives the edges of the middle neuron's box; one pass serves all layers. The
    stride is the step to the next neuron, or the image's size over the map's where the border cuts both boxes.
    Where NaN does not come through, the pixels with a gradient at some random images count, which is a lower bound;
    where there is no gradient either, or the network gives NaN for a blank image, the whole image does.
    A box that the border cuts is smaller than it would be in a larger image.

    Neurons that attend inside windows see these, so their boxes don't shift by one step: each is measured when it is
    asked for. Windows that go on at the other border hold what is masked, through which NaN comes and noise does not.

    forward: takes normalized images (N, C, H, W). A network that fails on NaN is not measured: its neurons may see all.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: InputSpec,
        forward: Callable[[Tensor], Any],
        layers: Mapping[str, tuple[int, ...]],
        layouts: Mapping[str, Layout],
    ) -> None:
        self._module, self._inputs, self._forward = module, inputs, forward
        self._layers, self._layouts = layers, layouts
        self._probe: _Probe | None = None
        self._found: dict[str, ReceptiveField] = {}

    @torch.inference_mode(False)
    def field(self, name: str) -> ReceptiveField:
        """What the neurons of a layer see."""
        if name not in self._found:
            shape, image = self._layers[name], self._inputs.size
            lines: tuple[_Along, _Along] | None
            try:
                lines = self._lines(name, (shape[1], shape[2]) if len(shape) == 3 else (1, 1))
            except (NetworkError, RuntimeError):
                lines = None
            (rows, columns) = lines or (_Along((0, image[0], 0)), _Along((0, image[1], 0)))
            (top, height, down), (left, width, right) = rows.line, columns.line
            whole = (height, down, width, right) == (image[0], 0, image[1], 0)
            self._found[name] = ReceptiveField(
                (height, width), (down, right), (top, left), False, whole, image, rows.spans, columns.spans
            )
        return self._found[name]

    def _lines(self, name: str, counts: tuple[int, int]) -> tuple[_Along, _Along] | None:
        with _undisturbed(self._module):
            if self._probe is None:
                device, dtype = placement(self._module)
                gray = torch.full((1, self._inputs.channels, *self._inputs.size), 0.5, device=device)
                blank = self._inputs.normalize(gray).to(dtype)
                self._probe = _Probe(self._module, self._forward, blank, self._layouts)
            if self._probe.reaches(ALL, name, _middle(counts)):
                return _by_nan(self._probe, name, counts, self._inputs.size)
            if self._probe.broken(name):
                return None
            return _by_gradient(self._module, self._inputs, self._forward, name, self._layouts[name], counts)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Fast convolutions on a GPU (Winograd, FFT) spread NaN over more neurons than see it."""
    with torch.inference_mode(False), torch.no_grad(), torch.backends.cudnn.flags(enabled=False), evaluating(module):
        yield


@dataclass(frozen=True)
class _Along:
    """What a layer sees along one axis. spans: of each position, where their line does not give them."""

    line: Line
    spans: Sequence[Span] = ()


def _middle(counts: tuple[int, int]) -> tuple[int, int]:
    return counts[0] // 2, counts[1] // 2


class _Probe:
    """Passes with NaN or noise in part of the image, each made once."""

    def __init__(
        self, module: nn.Module, forward: Callable[[Tensor], Any], blank: Tensor, layers: Mapping[str, Layout]
    ) -> None:
        self.module = module
        self._forward, self._blank, self._layers = forward, blank, layers
        self._noise = torch.randn(blank.shape, generator=torch.Generator().manual_seed(0)).to(blank)
        self._clean = self._sums(blank)
        self._known: dict[Query, dict[str, Tensor]] = {}

    def broken(self, layer: str) -> bool:
        """Whether the layer is NaN without our doing, or not reached."""
        return layer not in self._clean or bool(self._clean[layer].isnan().any())

    def reaches(self, query: Query, layer: str, neuron: tuple[int, int]) -> bool:
        """Whether NaN in these pixels alone turns the neuron at (y, x) NaN, or noise there changes it."""
        if query not in self._known:
            axis, before, edge, filling = query
            image = self._blank.clone()
            part, noise = (pixels.movedim(2 + axis, 0) for pixels in (image, self._noise))
            where = slice(None, edge) if before else slice(edge, None)
            part[where] = torch.nan if filling == "NaN" else noise[where]
            self._known[query] = self._turned(image, filling)
        turned = self._known[query].get(layer)
        return turned is not None and bool(turned[neuron]) and not self.broken(layer)

    def _turned(self, image: Tensor, filling: str) -> dict[str, Tensor]:
        """{layer: (H, W) bool; (1, 1) for a layer without positions}."""
        found = self._sums(image)
        if filling == "NaN":
            return {layer: sums.isnan() for layer, sums in found.items()}
        return {layer: sums != self._clean[layer] for layer, sums in found.items()}

    def _sums(self, image: Tensor) -> dict[str, Tensor]:
        """{layer: (H, W) float64, over its channels by weights that none equals}: NaN where any channel is."""
        found: dict[str, Tensor] = {}

        def reader(layer: str, layout: Layout) -> Reader:
            def read(output: Tensor) -> None:
                values = layout.to_map(output)[0].double()
                weights = torch.linspace(1, 2, len(values), dtype=torch.float64, device=values.device)
                sums = torch.tensordot(weights, values, 1)
                found[layer] = sums.view(1, 1) if sums.ndim == 0 else sums

            return read

        readers = {layer: reader(layer, layout) for layer, layout in self._layers.items()}
        with tapped(self.module, readers, stop=True):
            self._forward(image)
        return found

    def span(self, layer: str, axis: int, neuron: tuple[int, int], filling: Filling = "NaN") -> Span:
        """From the first pixel to the last that reaches the neuron at (y, x) along an axis."""
        limit = self._blank.shape[2 + axis]
        edges = range(1, limit)
        first = bisect_left(edges, True, key=lambda r: self.reaches((axis, True, r, filling), layer, neuron))
        unseen = bisect_left(edges, True, key=lambda r: self.reaches((axis, False, limit - r, filling), layer, neuron))
        return (first, limit - unseen) if first < limit - unseen else NOTHING


class _Spans(Sequence[Span]):
    """Of the positions of a layer along an axis, in the middle of the other; each is measured when it is asked for.

    One that NaN reaches from border to border, although it does not reach the middle one so, is measured by noise.
    """

    def __init__(self, probe: _Probe, layer: str, axis: int, counts: tuple[int, int], limit: int) -> None:
        self._probe, self._layer, self._axis, self._counts = probe, layer, axis, counts
        self._all = (0, limit)
        self._known: dict[int, Span] = {}

    def __len__(self) -> int:
        return self._counts[self._axis]

    @overload
    def __getitem__(self, position: int) -> Span: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Span]: ...
    def __getitem__(self, position: int | slice) -> Span | Sequence[Span]:
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        position = range(len(self))[position]
        if position not in self._known:
            middle = self._counts[self._axis] // 2
            with _undisturbed(self._probe.module):
                seen = self._span(position, "NaN")
                if seen == self._all and position != middle and self[middle] != self._all:
                    noisy = self._span(position, "noise")
                    seen = seen if noisy == NOTHING else noisy
            self._known[position] = seen
        return self._known[position]

    def _span(self, position: int, filling: Filling) -> Span:
        y, x = _middle(self._counts)
        return self._probe.span(self._layer, self._axis, (position, x) if self._axis == 0 else (y, position), filling)


def _by_nan(probe: _Probe, layer: str, counts: tuple[int, int], image: tuple[int, int]) -> tuple[_Along, _Along]:
    last = (counts[0] - 1, counts[1] - 1)

    def along(axis: int) -> _Along:
        count, limit, middle = counts[axis], image[axis], counts[axis] // 2
        spans = _Spans(probe, layer, axis, counts, limit)
        first, end = spans[middle]
        corners = ((axis, True, 1), last), ((axis, False, limit - 1), (0, 0))
        if (first, end) == (0, limit) and all(probe.reaches((*part, "NaN"), layer, c) for part, c in corners):
            return _Along((0, limit, 0))
        mean = round(limit / count) if count > 1 else 0
        steps = [_step(*pair, limit, mean) for pair in pairwise(spans[max(0, middle - 2) : middle + 1])]
        one = len(set(steps)) == 1 and (steps[0] > 0 or spans[0] == spans[middle] == spans[-1])
        even = not steps or (one and (steps[0] == 0 or abs(steps[0] - mean) <= mean / 4))
        step = steps[0] if one else mean
        return _Along((first - middle * step, end - first, step), () if even else spans)

    return along(0), along(1)


def _step(before: Span, after: Span, limit: int, mean: int) -> int:
    """From one position's span to the next one's; `mean` where the border cuts both."""
    if before[0] > 0:
        return after[0] - before[0]
    return after[1] - before[1] if after[1] < limit else mean


def _by_gradient(
    module: nn.Module,
    inputs: InputSpec,
    forward: Callable[[Tensor], Any],
    layer: str,
    layout: Layout,
    counts: tuple[int, int],
) -> tuple[_Along, _Along] | None:
    """From where the middle neuron has a gradient at any of four random images; None if nowhere."""
    device, dtype = placement(module)
    generator = torch.Generator().manual_seed(0)
    support = torch.zeros(inputs.size, dtype=torch.bool)
    outputs: list[Tensor] = []

    def read(output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()

    for _ in range(4):
        pixels = torch.rand(1, inputs.channels, *inputs.size, generator=generator)
        image = inputs.normalize(pixels.to(device)).to(dtype).requires_grad_()
        with torch.enable_grad():
            with tapped(module, {layer: read}, stop=True):
                forward(image)
            neuron = layout.to_map(outputs.pop()).reshape(1, -1, *counts)[0, :, *_middle(counts)].float()
            if not neuron.requires_grad:
                continue
            weights = torch.rand(len(neuron), generator=generator).to(neuron)
            (gradient,) = torch.autograd.grad(neuron, image, weights, allow_unused=True)
        if gradient is not None:
            support |= (gradient[0] != 0).any(0).cpu()
    if not support.any():
        return None
    lines = []
    for axis, (count, limit) in enumerate(zip(counts, inputs.size, strict=True)):
        seen = support.any(1 - axis).nonzero().flatten().tolist()
        step = round(limit / count) if count > 1 else 0
        lines.append(_Along((seen[0] - count // 2 * step, seen[-1] + 1 - seen[0], step)))
    return lines[0], lines[1]
