"""Windows of an image that a network of tokens never sees: their tokens are left out, not painted over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.layout import Tokens
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, Reading
from netloupe.core.receptive_field import Span
from netloupe.core.taps import LOGITS, module_and_call
from netloupe.core.watch import SILENT, Watch

DROP = "drop"
"""Among baselines: nothing hides, but what is hidden is left out."""

Position = tuple[int, int]


class Dropping:
    """One image of a network of tokens, to be read without the tokens that stand in windows of it.

    The others keep their positions. What precedes the first block with attention is computed once for a batch, and the
    rest for as many tokens as remain. image: (1, C, H, W) in [0, 1]. Raises NetworkError for a network without tokens,
    or whose rest can't be computed for fewer of them; InputError for an objective that reads layers.
    """

    approximate = False
    method = "tokens left out"

    def __init__(self, net: Network, image: Tensor, objective: Objective) -> None:
        others = [name for name in objective.layers if name != LOGITS]
        if others:
            raise InputError(
                f"{objective!r} reads layer {others[0]!r}, of which parts are left out (accepted: answers)"
            )
        self.net, self.image = net, image
        self.part = self._entry()

    @cached_property
    def tokens(self) -> Tokens:
        """How the tokens of this image lie."""
        size = int(self.image.shape[2]), int(self.image.shape[3])
        for layer in self.net.layers.values():
            if isinstance(layer.layout, Tokens) and layer.layout.order == "ntc":
                return layer.layout.resized(layer.image, size)
        raise NetworkError(f"{self.net.name} has no tokens that stand on the image, so none can be left out (drop)")

    def _entry(self) -> str:
        """The innermost module around the first attention whose input may have fewer tokens."""
        cells = self.tokens.grid[0] * self.tokens.grid[1]
        if not self.net.attentions or cells < 3:
            raise NetworkError(f"{self.net.name} has no attention over tokens, so none can be left out (drop)")
        first = module_and_call(next(iter(self.net.attentions)))[0].split(".")
        with torch.no_grad():
            for depth in range(len(first), 0, -1):
                part = ".".join(first[:depth])
                try:
                    self.net.entered(self.image, part, self._without([torch.arange(1, cells)]))
                    return part
                except (NetworkError, InputError):
                    continue
        raise NetworkError(
            f"{self.net.name} can't do with fewer tokens, as where positions enter each attention or windows are cut "
            "(accepted: a baseline that paints)"
        )

    def _without(self, kept: list[Tensor]) -> Callable[[Tensor], Tensor]:
        """From the image's tokens (1, T, C) to (len(kept), t, C): those of the grid that are kept, and all others."""
        tokens = self.tokens

        def change(sequence: Tensor) -> Tensor:
            if sequence.ndim != 3 or sequence.shape[1] != tokens.count:
                raise InputError(f"{tuple(sequence.shape)} are not the {tokens.count} tokens")
            before, after = torch.arange(tokens.prefix), torch.arange(tokens.count - tokens.suffix, tokens.count)
            rows = torch.stack([torch.cat([before, one + tokens.prefix, after]) for one in kept])
            return sequence[0][rows.to(sequence.device)]

        return change

    def clean(self) -> Reading:
        """The whole image."""
        return self.net.reading(self.image, [LOGITS])

    def readings(
        self, rows: list[Span], columns: list[Span], *, batch_size: int = 32, watch: Watch = SILENT
    ) -> Iterator[tuple[list[Position], Reading]]:
        """Some positions at a time, with the answer without the tokens that stand in rows[r] and columns[q]."""
        places = [(r, q) for r in range(len(rows)) for q in range(len(columns))]
        kept = {place: self._kept(rows[place[0]], columns[place[1]]) for place in places}
        part = watch.part("windows", len(places))
        by_count = sorted(places, key=lambda place: len(kept[place]))
        for _, group in groupby(by_count, key=lambda place: len(kept[place])):
            several = list(group)
            for start in range(0, len(several), batch_size):
                some = several[start : start + batch_size]
                change = self._without([kept[place] for place in some])
                answer = self.net.entered(self.image, self.part, change)
                yield some, self.net.reading_of(lambda: self.image, {LOGITS: answer})
                part.advance(len(some))

    def _kept(self, y: Span, x: Span) -> Tensor:
        """The numbers of the grid's tokens that stand outside of a window."""
        grid, size = self.tokens.grid, self.image.shape[2:]
        cells = [side // count for side, count in zip(size, grid, strict=True)]
        if any(side % count for side, count in zip(size, grid, strict=True)) or any(
            edge % cell for span, cell in zip((y, x), cells, strict=True) for edge in span
        ):
            where = f"a window of rows {y[0]} to {y[1]} and columns {x[0]} to {x[1]}"
            raise InputError(
                f"{where} cuts through tokens of {cells[0]}x{cells[1]} px, which are left out as a whole (accepted: a "
                "window and stride of multiples of that)"
            )
        hidden = torch.zeros(grid, dtype=torch.bool)
        hidden[y[0] // cells[0] : y[1] // cells[0], x[0] // cells[1] : x[1] // cells[1]] = True
        if bool(hidden.all()):
            raise InputError("a window over the whole image leaves out all tokens (accepted: a smaller one)")
        return (~hidden).flatten().nonzero().flatten()
