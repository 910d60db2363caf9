"""Receptive fields of layers that could not be followed, measured on the running network."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netloupe.core.errors import NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.core.layout import MAPS, Layout
from netloupe.core.receptive_field import Line, ReceptiveField, Span
from netloupe.core.taps import Reader, evaluating, placement, tapped

Query = tuple[int, bool, int]
"""(axis, before, edge): the pixels before `edge` along the axis, or those from it on, are NaN."""

ALL: Query = (0, False, 0)
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
            lines: tuple[Line, Line] | None
            try:
                lines = self._lines(name, (shape[1], shape[2]) if len(shape) == 3 else (1, 1))
            except (NetworkError, RuntimeError):
                lines = None
            (top, height, down), (left, width, right) = lines or ((0, image[0], 0), (0, image[1], 0))
            whole = (height, down, width, right) == (image[0], 0, image[1], 0)
            self._found[name] = ReceptiveField((height, width), (down, right), (top, left), False, whole)
        return self._found[name]

    def _lines(self, name: str, counts: tuple[int, int]) -> tuple[Line, Line] | None:
        # fast convolutions on a GPU (Winograd, FFT) spread NaN over more neurons than see it
        with evaluating(self._module), torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
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


def _middle(counts: tuple[int, int]) -> tuple[int, int]:
    return counts[0] // 2, counts[1] // 2


class _Probe:
    """Passes with NaN in part of the image, each made once."""

    def __init__(
        self, module: nn.Module, forward: Callable[[Tensor], Any], blank: Tensor, layers: Mapping[str, Layout]
    ) -> None:
        self._module, self._forward, self._blank, self._layers = module, forward, blank, layers
        self._clean = self._turned(blank)
        self._known: dict[Query, dict[str, Tensor]] = {}

    def broken(self, layer: str) -> bool:
        """Whether the layer is NaN without our doing, or not reached."""
        return layer not in self._clean or bool(self._clean[layer].any())

    def reaches(self, query: Query, layer: str, neuron: tuple[int, int]) -> bool:
        """Whether NaN in these pixels alone turns the neuron at (y, x) NaN."""
        if query not in self._known:
            axis, before, edge = query
            image = self._blank.clone()
            part = image.movedim(2 + axis, 0)
            (part[:edge] if before else part[edge:]).fill_(torch.nan)
            self._known[query] = self._turned(image)
        turned = self._known[query].get(layer)
        return turned is not None and bool(turned[neuron]) and not self.broken(layer)

    def _turned(self, image: Tensor) -> dict[str, Tensor]:
        """{layer: (H, W) bool, where any channel is NaN; (1, 1) for a layer without positions}."""
        turned: dict[str, Tensor] = {}

        def reader(layer: str, layout: Layout) -> Reader:
            def read(output: Tensor) -> None:
                nan = layout.to_map(output).isnan().any(1)[0]
                turned[layer] = nan.view(1, 1) if nan.ndim == 0 else nan

            return read

        readers = {layer: reader(layer, layout) for layer, layout in self._layers.items()}
        with tapped(self._module, readers, stop=True):
            self._forward(image)
        return turned


def _by_nan(probe: _Probe, layer: str, counts: tuple[int, int], image: tuple[int, int]) -> tuple[Line, Line]:
    middle, last = _middle(counts), (counts[0] - 1, counts[1] - 1)

    def span(axis: int, neuron: tuple[int, int]) -> Span:
        edges = range(1, image[axis])
        first = bisect_left(edges, True, key=lambda r: probe.reaches((axis, True, r), layer, neuron))
        unseen = bisect_left(edges, True, key=lambda r: probe.reaches((axis, False, image[axis] - r), layer, neuron))
        return first, image[axis] - unseen

    def line(axis: int) -> Line:
        count, limit = counts[axis], image[axis]
        first, end = span(axis, middle)
        corners = ((axis, True, 1), last), ((axis, False, limit - 1), (0, 0))
        if (first, end) == (0, limit) and all(probe.reaches(query, layer, corner) for query, corner in corners):
            return 0, limit, 0
        step = round(limit / count) if count > 1 else 0
        if count > 1:
            before, before_end = span(axis, (middle[0] - (axis == 0), middle[1] - (axis == 1)))
            step = first - before if before > 0 else end - before_end if end < limit else step
        return first - middle[axis] * step, end - first, step

    return line(0), line(1)


def _by_gradient(
    module: nn.Module,
    inputs: InputSpec,
    forward: Callable[[Tensor], Any],
    layer: str,
    layout: Layout,
    counts: tuple[int, int],
) -> tuple[Line, Line] | None:
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
        lines.append((seen[0] - count // 2 * step, seen[-1] + 1 - seen[0], step))
    return lines[0], lines[1]
