"""Attentions over the whole image: from where each can be seen, and which of a network can be shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from netloupe.analysis.attention.places import Places, places
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network


@dataclass(frozen=True)
class Placed:
    """An attention over the whole image. queries: how many there are; they are the keys unless there are others."""

    places: Places
    heads: int
    queries: int
    keys: int

    @property
    def square(self) -> bool:
        return self.queries == self.keys

    def origin(self, place: tuple[int, int] | None) -> str:
        """From where a map is seen, in words."""
        if place is not None:
            return f"the patch in row {place[0]}, column {place[1]}"
        if self.square and self.places.prefix:
            return "the first token, which stands before the patches"
        return "all patches, in the mean" if self.square else "all queries, in the mean"

    def row(self, weights: Tensor, place: tuple[int, int] | None) -> Tensor:
        """(N, heads, K) of weights (N, heads, Q, K): what the query at a place attends to, or for None `origin`."""
        if place is not None:
            return weights[:, :, self.places.prefix + place[0] * self.places.grid[1] + place[1]]
        return weights[:, :, 0] if self.square and self.places.prefix else weights.mean(2)

    def seen(self, weights: Tensor, place: tuple[int, int] | None) -> Tensor:
        """(N, heads, h, w) of weights (N, heads, Q, K)."""
        return self.places.maps(self.row(weights, place))

    def every(self, weights: Tensor) -> Tensor:
        """(N, heads, patches, h, w) of weights (N, heads, T, T): what each patch attends to, row by row."""
        first = self.places.prefix
        return self.places.maps(weights[:, :, first : first + self.places.grid[0] * self.places.grid[1]])

    def box(self, place: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
        (height, width), (down, across) = size, self.places.grid
        y, x = place
        return y * height // down, x * width // across, (y + 1) * height // down, (x + 1) * width // across


def attentions(net: Network) -> list[str]:
    """The attentions of a network; none where it has none, or none that can be read."""
    try:
        return list(net.attentions)
    except NetworkError:
        return []


def place(net: Network, name: str) -> Placed:
    """Raises InputError for an attention inside windows, and for one whose tokens stand nobody knows where."""
    shape = net.attentions[name]
    if len(shape) != 3:
        raise InputError(f"attention {name!r} looks inside {shape[0]} windows (accepted: over the whole image)")
    return Placed(places(net, name, shape[2]), *shape)


def placed(net: Network, names: Iterable[str]) -> tuple[dict[str, Placed], dict[str, InputError]]:
    """The attentions that can be shown, and why others can't."""
    found: dict[str, Placed] = {}
    skipped: dict[str, InputError] = {}
    for name in names:
        try:
            found[name] = place(net, name)
        except InputError as error:
            skipped[name] = error
    return found, skipped
