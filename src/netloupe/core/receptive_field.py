"""Receptive fields: which box of the input a neuron sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from netloupe.core.inputs import InputSpec

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, bottom and right exclusive."""


@dataclass(frozen=True)
class ReceptiveField:
    """What the neurons of a layer see of the input, the same box shifted from neuron to neuron.

    size, stride, start: (y, x) in px; neuron (0, 0) sees `size` px from `start` (negative where it hangs over the
    border), each further neuron `stride` px on. exact: derived from the graph; otherwise measured.
    whole: every neuron sees the whole image (`size` is then the image's).
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    exact: bool
    whole: bool = False

    def box(self, y: int, x: int, image: tuple[int, int]) -> Box:
        """The box that neuron (y, x) sees of an image of size (height, width), clipped to it."""
        if self.whole:
            return (0, 0, *image)
        edges = []
        for position, size, stride, start, limit in zip((y, x), self.size, self.stride, self.start, image, strict=True):
            first = start + position * stride
            edges.append((min(max(first, 0), limit - 1), max(min(first + size, limit), 1)))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right


class Tracker:
    """PLACEHOLDER"""

    def field(self, tensor: Tensor) -> ReceptiveField | None:
        return None

    @contextmanager
    def watching(self, images: Tensor) -> Iterator[None]:
        yield


def measure(
    module: nn.Module, inputs: InputSpec, forward: Callable[[Tensor], Any], layers: Mapping[str, tuple[int, ...]]
) -> dict[str, ReceptiveField]:
    return {n: ReceptiveField(inputs.size, (0, 0), (0, 0), False, True) for n in layers}
