"""Windows that slide over an image, and what a network makes of the image with each of them hidden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.head import Detections
from netloupe.core.network import Network, readable
from netloupe.core.objectives import Reading
from netloupe.core.receptive_field import Box, Span
from netloupe.core.taps import LOGITS
from netloupe.core.trace.mode import CantTell
from netloupe.core.trace.windows import Incremental
from netloupe.core.watch import SILENT, Watch

Position = tuple[int, int]
"""(row, column) of a window on its grid."""


@dataclass(frozen=True)
class Windows:
    """Where the window goes: position (i, j) hides `size` px from (i, j) times `stride`, cut off at the border.

    Every pixel is hidden at some position. size, stride, image: (y, x) in px.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    image: tuple[int, int]

    def __post_init__(self) -> None:
        for axis, window, stride, side in zip(("high", "wide"), self.size, self.stride, self.image, strict=True):
            if not 1 <= window <= side:
                raise InputError(f"a window {window} px {axis} on an image {side} px {axis} (accepted: 1 to {side})")
            if not 1 <= stride <= window:
                raise InputError(
                    f"stride {stride} with a window {window} px {axis} (accepted: 1 to {window}, so that no pixel is "
                    "left out)"
                )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of positions."""
        rows, columns = (
            -(-(side - window) // stride) + 1
            for side, window, stride in zip(self.image, self.size, self.stride, strict=True)
        )
        return rows, columns

    def box(self, row: int, column: int) -> Box:
        """(top, left, bottom, right) in px, clipped to the image."""
        (top, bottom), (left, right) = self.spans[0][row], self.spans[1][column]
        return top, left, bottom, right

    @property
    def spans(self) -> tuple[list[Span], list[Span]]:
        """(first, end) in px of each row and of each column of positions, clipped to the image."""
        rows, columns = (
            [(i * stride, min(i * stride + window, side)) for i in range(count)]
            for count, stride, window, side in zip(self.grid, self.stride, self.size, self.image, strict=True)
        )
        return rows, columns

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """For each row of pixels the row of the position whose window's center is nearest, and so for columns."""
        rows, columns = (
            np.abs(np.arange(side)[:, None] + 0.5 - (np.arange(count) * stride + size / 2)).argmin(1)
            for side, count, stride, size in zip(self.image, self.grid, self.stride, self.size, strict=True)
        )
        return rows, columns


class Sliding:
    """One image of a network, to be read with windows of it hidden.

    image, cover: (1, C, H, W) in [0, 1]; a hidden window shows `cover`. layers: what is read. growth, bfloat16:
    approximations, see `Incremental`. incremental: False computes full passes.
    trusted: another image of the network has been tried already. reason: why full passes are computed; None where only
    what a window changes is.
    """

    def __init__(
        self,
        net: Network,
        image: Tensor,
        cover: Tensor,
        layers: Iterable[str],
        *,
        growth: float = 1.0,
        bfloat16: bool = False,
        incremental: bool = True,
        trusted: bool = False,
    ) -> None:
        self.net, self.image, self.cover = net, image, cover
        self.layers = tuple(dict.fromkeys(layers))
        self.reason: str | None = None if incremental else "asked for"
        self._incremental: Incremental | None = None
        self._exact: Incremental | None = None
        if incremental and LOGITS in self.layers and isinstance(net.head, Detections):
            self.reason = "which boxes there are depends on the image"
        elif incremental:
            try:
                self._incremental = self._prepared(growth, bfloat16, trusted)
            except CantTell as trouble:
                self.reason = str(trouble)

    def _prepared(self, growth: float, bfloat16: bool, trusted: bool) -> Incremental:
        if not self.layers:
            raise CantTell("the objective reads no layer")
        self._exact = exact = Incremental(self.net, self.image, self.layers)
        if not trusted:
            self._try(exact)
        if growth == 1 and not bfloat16:
            return exact
        return exact.approximate(growth, torch.bfloat16 if bfloat16 else None)

    @property
    def approximate(self) -> bool:
        return self._incremental is not None and self._incremental is not self._exact

    def exact(self) -> Sliding:
        """The same image, read without approximations."""
        found = copy(self)
        found._incremental = self._exact
        return found

    @torch.no_grad()
    def _try(self, exact: Incremental) -> None:
        """Raise CantTell unless the first of two windows computed together gives what a full pass gives."""
        height, width = self.image.shape[2:]
        high, wide = max(1, height // 8), max(1, width // 8)
        rows = [(height // 3, height // 3 + high), (height // 2, height // 2 + high)]
        columns = [(width // 3, width // 3 + wide)]
        ((_, found),) = exact.outputs(self.cover, rows, columns)
        for layer, output in self._full([self._box(rows[0], columns[0])]).outputs.items():
            one = found[layer][:1].to(output)
            tolerance = 1e-4 * float(output.abs().max())
            if one.shape != output.shape or not torch.allclose(one, output, 1e-3, tolerance, equal_nan=True):
                raise CantTell("repeating the recorded operations does not give what the network gives")

    @staticmethod
    def _box(y: Span, x: Span) -> Box:
        return y[0], x[0], y[1], x[1]

    @property
    def method(self) -> str:
        """In words."""
        return "incremental" if self.reason is None else f"full passes: {self.reason}"

    def clean(self) -> Reading:
        """The whole image."""
        if self._incremental is None:
            return self.net.reading(self.image, self.layers)
        return self.net.reading_of(
            lambda: self.image, {name: readable(output) for name, output in self._incremental.clean().items()}
        )

    def readings(
        self,
        rows: list[Span],
        columns: list[Span],
        *,
        batch_size: int = 32,
        watch: Watch = SILENT,
    ) -> Iterator[tuple[list[Position], Reading]]:
        """Some positions at a time, with what is read there; a position hides rows[r] of columns[q]."""
        places = [(r, q) for r in range(len(rows)) for q in range(len(columns))]
        if self._incremental is not None:
            for some, outputs in self._incremental.outputs(self.cover, rows, columns, watch):
                boxes = [self._box(rows[r], columns[q]) for r, q in some]
                found = {
                    name: output if output.dtype == torch.float64 else output.float()
                    for name, output in outputs.items()
                }
                yield some, self.net.reading_of(partial(self.occluded, boxes), found)
            return
        part = watch.part("windows", len(places))
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            yield some, self._full([self._box(rows[r], columns[q]) for r, q in some])
            part.advance(len(some))

    def _full(self, boxes: list[Box]) -> Reading:
        return self.net.reading(self.occluded(boxes), self.layers)

    def occluded(self, boxes: list[Box]) -> Tensor:
        """(len(boxes), C, H, W): the image with each box hidden."""
        images = self.image.to(self.net.device).repeat(len(boxes), 1, 1, 1)
        cover = self.cover.to(images)[0]
        for image, (top, left, bottom, right) in zip(images, boxes, strict=True):
            image[:, top:bottom, left:right] = cover[:, top:bottom, left:right]
        return images
