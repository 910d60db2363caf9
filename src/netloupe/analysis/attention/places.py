"""Where tokens stand: which keys of an attention are patches of the image, and where those lie."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.layout import Tokens
from netloupe.core.network import Network


@dataclass(frozen=True)
class Places:
    """`prefix` tokens that stand nowhere (of the class, registers), then a grid (h, w) of patches, row by row."""

    prefix: int
    grid: tuple[int, int]

    def maps(self, rows: Tensor) -> Tensor:
        """(..., keys) -> (..., h, w) of the patches."""
        patches = rows[..., self.prefix : self.prefix + self.grid[0] * self.grid[1]]
        return patches.reshape(*rows.shape[:-1], *self.grid)


def places(net: Network, layer: str, keys: int) -> Places:
    """Where the keys of an attention stand, as they do in a layer of as many tokens.

    Of keys that no layer gives as tokens, such as a map laid out as a sequence, as on a map of as many positions.
    Raises InputError where there is none.
    """
    for one in net.layers.values():
        if isinstance(one.layout, Tokens) and one.layout.count == keys:
            return Places(one.layout.prefix, one.layout.grid)
    for one in net.layers.maps().values():
        if one.size[0] * one.size[1] == keys:
            return Places(0, one.size)
    raise InputError(
        f"where the {keys} keys of attention {layer!r} in {net.name} stand can't be told: no layer has as many tokens "
        "or positions (state the layout of one: layouts={'blocks.*': 'tokens:prefix=1,grid=14x14'})"
    )
