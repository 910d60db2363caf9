"""The same network on many images that differ from one only inside a window: only what the window reaches is computed.

A pass over the clean image is recorded. Then each operation is computed again for all windows at once, on the part of
its output that they can change; what it reads beyond that comes from the clean pass. Once the windows cover most of a
map, or an operation has no rule, the full maps are put together and computed as usual. The result is that of full
passes but for rounding. Known as incremental inference from Nakandala et al. (SIGMOD 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from netloupe.core.network import Network
from netloupe.core.receptive_field import Span
from netloupe.core.trace.graph import Recorder, Step
from netloupe.core.trace.maps import Clean, Extent, Windowed
from netloupe.core.trace.mode import CantTell, following
from netloupe.core.trace.window_rules import Call, Value, rule_for
from netloupe.core.watch import SILENT, Watch

SMALL = 32768  # numbers of an image, so few that all windows can be put together for the rest of the network
WORKING_SET = 24 * 2**20  # bytes of windows that are in work at once: about what a cache holds
BATCH = 81  # positions at once at most; with more the layers' maps leave the cache
GROWTH = 4  # by which the windows' share of a map grows from the image to where the maps are largest


class Incremental:
    """One image's pass through a network up to the named layers, ready to be repeated with windows replaced.

    image: (1, C, H, W) in [0, 1]. Raises CantTell where the pass can't be repeated from its record.
    """

    def __init__(self, net: Network, image: Tensor, layers: Sequence[str]) -> None:
        recorder = Recorder(keep=True)
        self._image = image.to(net.device)
        with torch.no_grad(), following(recorder.follow):
            recorder.start(self._image)
            net.run(self._image, {layer: partial(recorder.read, layer) for layer in layers})
        self._graph = recorder.graph()
        self._growth = 1.0
        self._cleans: dict[int, Clean] = {}
        self._cut = self._find_cut()

    def approximate(self, growth: float, dtype: torch.dtype | None = None) -> Incremental:
        """The same pass, of which windows grow by this share of what they would.

        dtype: the floating type to compute in, if not the network's own; but not for the numbers that batch
        normalization divides by.
        """

        def cast(leaf: Any) -> Any:
            return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

        found = copy(self)
        found._growth = growth
        if dtype is not None:
            steps = [
                step if "batch_norm" in step.name else replace(step, arguments=tree_map(cast, step.arguments), memo={})
                for step in self._graph.steps
            ]
            found._graph = replace(self._graph, steps=steps, clean=tree_map(cast, self._graph.clean))
            found._cleans = {}
        return found

    def clean(self) -> dict[str, Tensor]:
        """{layer: its output} for the clean image."""
        return {name: self._graph.clean[value] for name, value in self._graph.outputs.items()}

    def outputs(
        self,
        cover: Tensor,
        rows: Sequence[Span],
        columns: Sequence[Span],
        watch: Watch = SILENT,
    ) -> Iterator[tuple[list[tuple[int, int]], dict[str, Tensor]]]:
        """For every window (rows[r], columns[q]), replaced by that of `cover` (1, C, H, W): the layers' outputs.

        Gives some positions (r, q) at a time, with {layer: (positions, ...)}. Where the end of the network is computed
        for all together, a watch that wants pictures is given each position before as well, to show what forms.
        """
        batch = self._batch(rows, columns)
        places: list[tuple[int, int]] = []
        waiting: list[dict[int, Value]] = []
        covered, end = Clean(cover.to(self._graph.clean[0])), len(self._graph.steps)
        part = watch.part("windows", len(rows) * len(columns))
        for some_rows, some_columns in _chunks(len(rows), len(columns), batch):
            y, x = self._extents([rows[r] for r in some_rows], [columns[q] for q in some_columns])
            values: dict[int, Value] = {0: Windowed.replaced(self._clean(0), covered, y, x)}
            self._graph.advance(values, 0, self._cut, self._compute)
            part.advance(len(some_rows) * len(some_columns))
            here = [(r, q) for r in some_rows for q in some_columns]
            if self._cut == end:
                yield here, self._read(values)
                continue
            if watch.pictures:
                early = dict(values)
                self._graph.advance(early, self._cut, end, self._compute)
                yield here, self._read(early)
            places += here
            waiting.append(values)
        if waiting:
            values = {number: torch.cat([_whole(some[number]) for some in waiting]) for number in waiting[0]}
            self._graph.advance(values, self._cut, end, self._compute)
            yield places, self._read(values)

    def _batch(self, rows: Sequence[Span], columns: Sequence[Span]) -> int:
        """How many positions at once: so many that their windows, where they are largest, fill WORKING_SET bytes."""
        height, width = self._image.shape[2:]
        area = max(end - first for first, end in rows) * max(end - first for first, end in columns)
        share = min(1.0, GROWTH * area / (height * width))
        largest = max(share * value.nbytes for value in self._graph.clean.values())
        read = max(value.nbytes for value in self.clean().values())
        return max(1, min(BATCH, int(WORKING_SET / max(largest, read / 8))))

    def _extents(self, *spans: Sequence[Span]) -> list[Extent]:
        """Along y and along x."""
        found = []
        for some, length in zip(spans, self._image.shape[2:], strict=True):
            first, end = torch.tensor(list(some), dtype=torch.float64, device=self._image.device).T
            found.append(Extent(first, end - 1, length))
        return found

    def _read(self, values: Mapping[int, Value]) -> dict[str, Tensor]:
        return {name: _whole(values[value]) for name, value in self._graph.outputs.items()}

    def _clean(self, value: int) -> Clean:
        if value not in self._cleans:
            self._cleans[value] = Clean(self._graph.clean[value])
        return self._cleans[value]

    def _find_cut(self) -> int:
        """The number of steps after which all that is still needed is small."""
        graph = self._graph
        made = {0: -1} | {output: i for i, step in enumerate(graph.steps) for output in step.outputs}
        for i in range(len(graph.steps)):
            alive = [value for value, at in made.items() if at <= i < graph.last.get(value, -1)]
            if all(_small(graph.clean[value]) for value in alive):
                return i + 1
        return len(graph.steps)

    def _compute(self, step: Step, values: dict[int, Value]) -> Sequence[Value]:
        if self._graph.clean[step.outputs[0]].ndim == 4:
            call = Call(step, step.filled(values), self._clean(step.outputs[0]), self._growth)
            if call.windowed:
                try:
                    return [rule_for(step)(call)]
                except CantTell:
                    pass
        whole = {number: _whole(values[number]) for number in step.inputs}
        values |= whole
        first = whole[step.inputs[0]]
        return step.run(whole, len(first) if first.ndim else 1)


def _whole(value: Value) -> Tensor:
    return value.whole() if isinstance(value, Windowed) else value


def _small(clean: Tensor) -> bool:
    """Whether it holds few numbers, of one image and of no position."""
    flat = clean.ndim == 2 or (clean.ndim > 2 and set(clean.shape[2:]) == {1})
    return flat and len(clean) == 1 and clean.numel() <= SMALL


def _chunks(rows: int, columns: int, batch: int) -> Iterator[tuple[list[int], list[int]]]:
    """Blocks of a grid of positions with at most `batch` in each.

    Rows that are equally far from the border go together, and so do columns, because the border cuts their windows
    alike, and a block has room for its largest.
    """
    high = min(rows, max(1, round(batch**0.5)))
    wide = min(columns, max(1, batch // high))
    for some_rows in _blocks(rows, high):
        for some_columns in _blocks(columns, wide):
            yield some_rows, some_columns


def _blocks(count: int, size: int) -> list[list[int]]:
    """The numbers below `count` from both ends to the middle, in as many lists as it takes, of nearly equal length."""
    inward = sorted(range(count), key=lambda i: min(i, count - 1 - i))
    parts = -(-count // size)
    return [inward[part * count // parts : (part + 1) * count // parts] for part in range(parts)]
