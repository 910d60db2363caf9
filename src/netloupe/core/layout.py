"""How a layer's output lies in memory, and the view of it that everything above a pass sees."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from netloupe.core.errors import InputError

Order = Literal["ntc", "nct", "tnc"]
"""Of a sequence's dimensions: n images, t tokens, c channels."""

ACCEPTED = "nchw, nhwc, vectors, tokens:prefix=1,grid=14x14"

_TEXT = re.compile(r"tokens:(?P<settings>.+)")
_SETTING = re.compile(
    r"(?P<name>prefix|suffix)=(?P<count>[0-9]+)|grid=(?P<h>[0-9]+)x(?P<w>[0-9]+)|order=(?P<order>\w+)"
)
_TOKEN = re.compile(r"cls|reg(?P<register>[0-9]+)|token(?P<token>[0-9]+)")


class Layout(ABC):
    """How the dimensions of an output are meant. The text of each kind is read back by `parse`."""

    @abstractmethod
    def to_map(self, output: Tensor) -> Tensor:
        """(N, C, h, w), or (N, C) without positions: a view of `output`. Raises InputError if it lies otherwise."""

    @abstractmethod
    def to_output(self, maps: Tensor, output: Tensor) -> Tensor:
        """What `to_map` gave, changed, as the module would have given it; what is no part of the map is `output`'s."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """How many an output has."""

    def shape(self, output: Sequence[int]) -> tuple[int, ...]:
        """(C, h, w) or (C,) of an output of this shape. Raises InputError if it can't lie so."""
        if len(output) != self.dimensions:
            raise InputError(f"{tuple(output)} does not lie as {self}")
        return tuple(self.to_map(torch.empty(tuple(output), device="meta")).shape[1:])

    def resized(self, known: tuple[int, int], image: tuple[int, int]) -> Layout:
        """For images (height, width), where this one is of those of size `known`."""
        return self


class _AsGiven(Layout):
    """What the module gives is the map."""

    def to_map(self, output: Tensor) -> Tensor:
        return output

    def to_output(self, maps: Tensor, output: Tensor) -> Tensor:
        return maps


@dataclass(frozen=True)
class Maps(_AsGiven):
    """(N, C, H, W)."""

    def __str__(self) -> str:
        return "nchw"

    @property
    def dimensions(self) -> int:
        return 4


@dataclass(frozen=True)
class Vectors(_AsGiven):
    """(N, C): no positions."""

    def __str__(self) -> str:
        return "vectors"

    @property
    def dimensions(self) -> int:
        return 2


@dataclass(frozen=True)
class ChannelsLast(Layout):
    """(N, H, W, C)."""

    def __str__(self) -> str:
        return "nhwc"

    @property
    def dimensions(self) -> int:
        return 4

    def to_map(self, output: Tensor) -> Tensor:
        return output.permute(0, 3, 1, 2)

    def to_output(self, maps: Tensor, output: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Tokens(Layout):
    """(N, T, C): `prefix` tokens that stand nowhere, such as of the class and registers, then a grid (h, w) row by row.

    suffix: such tokens after the grid. order: of the dimensions, where they are others.
    """

    prefix: int
    grid: tuple[int, int]
    suffix: int = 0
    order: Order = "ntc"

    def __post_init__(self) -> None:
        if self.prefix < 0 or self.suffix < 0 or min(self.grid) < 1 or self.order not in ("ntc", "nct", "tnc"):
            raise InputError(f"{self!r} is no layout (accepted: {ACCEPTED}; order=ntc, nct or tnc)")

    def __str__(self) -> str:
        suffix = f",suffix={self.suffix}" if self.suffix else ""
        order = f",order={self.order}" if self.order != "ntc" else ""
        return f"tokens:prefix={self.prefix},grid={self.grid[0]}x{self.grid[1]}{suffix}{order}"

    @property
    def dimensions(self) -> int:
        return 3

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return self.prefix + self.grid[0] * self.grid[1] + self.suffix

    def sequence(self, output: Tensor) -> Tensor:
        """The output as (N, T, C)."""
        found = output.permute([self.order.index(dim) for dim in "ntc"])
        if found.shape[1] != self.count:
            raise InputError(f"{found.shape[1]} tokens, where {self} has {self.count}")
        return found

    def _as_given(self, sequence: Tensor) -> Tensor:
        return sequence.permute(["ntc".index(dim) for dim in self.order])

    def to_map(self, output: Tensor) -> Tensor:
        end = self.prefix + self.grid[0] * self.grid[1]
        tokens = self.sequence(output)[:, self.prefix : end].transpose(1, 2)
        return torch.unflatten(tokens, 2, self.grid)

    def to_output(self, maps: Tensor, output: Tensor) -> Tensor:
        tokens = maps.flatten(2).transpose(1, 2)
        if self.prefix or self.suffix:
            whole = self.sequence(output)
            tokens = torch.cat([whole[:, : self.prefix], tokens, whole[:, self.count - self.suffix :]], 1)
        return self._as_given(tokens)

    def resized(self, known: tuple[int, int], image: tuple[int, int]) -> Tokens:
        if known == image:
            return self
        height, width = (-(-side * n // base) for side, n, base in zip(image, self.grid, known, strict=True))
        return replace(self, grid=(max(height, 1), max(width, 1)))

    def token(self, name: str) -> Token:
        """One that stands nowhere. Raises InputError for one that is not there.

        name: `cls`, the first of the prefix; `reg0` and on, those after it; `token196`, any by its number.
        """
        outside = [*range(self.prefix), *range(self.count - self.suffix, self.count)]
        match = _TOKEN.fullmatch(name)
        number = -1
        if match is not None:
            register, token = match["register"], match["token"]
            number = 0 if name == "cls" else int(register) + 1 if register is not None else int(token)
            if token is None and number >= self.prefix:
                number = -1
        if number not in outside:
            names = [self._name(i) for i in outside]
            raise InputError(
                f"no token {name!r} (accepted: {', '.join(names) if names else 'none; all are of the grid'})"
            )
        return Token(self, number)

    def _name(self, number: int) -> str:
        return "cls" if number == 0 else f"reg{number - 1}" if number < self.prefix else f"token{number}"


@dataclass(frozen=True)
class Token(Layout):
    """One token of a sequence, (N, C). number: in the sequence, from 0."""

    tokens: Tokens
    number: int

    def __str__(self) -> str:
        return f"token {self.number} of {self.tokens}"

    @property
    def name(self) -> str:
        return self.tokens._name(self.number)

    @property
    def dimensions(self) -> int:
        return 3

    def to_map(self, output: Tensor) -> Tensor:
        return self.tokens.sequence(output)[:, self.number]

    def to_output(self, maps: Tensor, output: Tensor) -> Tensor:
        whole = self.tokens.sequence(output)
        parts = [whole[:, : self.number], maps[:, None], whole[:, self.number + 1 :]]
        return self.tokens._as_given(torch.cat(parts, 1))

    def resized(self, known: tuple[int, int], image: tuple[int, int]) -> Token:
        tokens = self.tokens.resized(known, image)
        shift = tokens.count - self.tokens.count if self.number >= self.tokens.prefix else 0
        return Token(tokens, self.number + shift)


MAPS, CHANNELS_LAST, VECTORS = Maps(), ChannelsLast(), Vectors()
_NAMED: dict[str, Layout] = {str(one): one for one in (MAPS, CHANNELS_LAST, VECTORS)}


def has_positions(output: Tensor) -> bool:
    """Whether what a pass hands on is maps (N, C, h, w), not vectors (N, C)."""
    return output.ndim == MAPS.dimensions


def as_maps(output: Tensor) -> Tensor:
    """Maps (N, C, h, w) as they are, vectors (N, C) as maps of one position."""
    return output if has_positions(output) else output[:, :, None, None]


def parse(text: str) -> Layout:
    """The layout of that text, such as `tokens:prefix=5,grid=16x16`. Raises InputError."""
    if text in _NAMED:
        return _NAMED[text]
    match = _TEXT.fullmatch(text)
    found = [_SETTING.fullmatch(part) for part in match["settings"].split(",")] if match else []
    settings = [one for one in found if one is not None]
    grids = [(int(one["h"]), int(one["w"])) for one in settings if one["h"]]
    if not settings or len(settings) < len(found) or len(grids) != 1:
        raise InputError(f"{text!r} is no layout (accepted: {ACCEPTED})")
    counts = {one["name"]: int(one["count"]) for one in settings if one["name"]}
    orders = [one["order"] for one in settings if one["order"]] or ["ntc"]
    return Tokens(counts.get("prefix", 0), grids[0], counts.get("suffix", 0), orders[0])  # type: ignore[arg-type]


def stated(texts: Sequence[str]) -> dict[str, Layout]:
    """What was said of layouts, by pattern of layers' names, as in `blocks.*=nhwc`. Raises InputError."""
    found = {}
    for text in texts:
        pattern, equals, layout = text.partition("=")
        if not pattern or not equals:
            raise InputError(f"{text!r} states no layout (accepted: LAYERS=LAYOUT, with {ACCEPTED})")
        found[pattern] = parse(layout)
    return found


def viewed(layout: Layout, reader: Callable[[Tensor], Tensor | None]) -> Callable[[Tensor], Tensor | None]:
    """A reader of the module's own tensor that hands the map to `reader`, and turns what that returns back."""

    def read(output: Tensor) -> Tensor | None:
        changed = reader(layout.to_map(output))
        return None if changed is None else layout.to_output(changed, output)

    return read
