"""Where tokens look: what was found for one image, and over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.render.pictures import Picture
from netloupe.render.result import Record

ALIKE = 0.9
"""Correlation of the weights of two heads from which they are called alike."""


@dataclass(frozen=True)
class Looks:
    """One attention.

    maps: (heads, h, w) the weights of the patches, as the query sees them in the image; with what goes to other tokens
    they add up to 1. keys: how many tokens there are. distance: (heads,) px, how far patches look at patches, in the
    mean over patches and images. entropy: (heads,) bits, of what a patch attends to, in the mean; at most log2(keys).
    likeness: (heads, heads) correlation of all weights. The last three are None where the patches ask nothing.
    """

    maps: np.ndarray
    keys: int
    distance: np.ndarray | None
    entropy: np.ndarray | None
    likeness: np.ndarray | None

    @property
    def alike(self) -> list[tuple[int, int]]:
        """The pairs of heads of a likeness of `ALIKE` or more."""
        if self.likeness is None:
            return []
        pairs = np.argwhere(np.triu(self.likeness, 1) >= ALIKE)
        return [(int(a), int(b)) for a, b in pairs]


@dataclass(frozen=True)
class AttentionMaps(Record):
    """Where the tokens of a network look, by layer, in the order of execution.

    image: (C, H, W) in [0, 1]. photo: the same part for showing. origin: from where, in words; place: its box
    (top, left, bottom, right) in px of the image, None of a token that stands nowhere. images: over how many the
    measures are. heads: which attention heads are shown; all are measured. skipped: layer -> why it is left out.
    """

    image: np.ndarray
    photo: Picture
    looks: Mapping[str, Looks]
    origin: str
    place: tuple[int, int, int, int] | None
    images: int
    heads: tuple[int, ...] | None
    skipped: Mapping[str, str]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"image": self.image}
        for name, one in self.looks.items():
            found[f"maps-{name}"] = one.maps
            for what, values in (("distance", one.distance), ("entropy", one.entropy), ("likeness", one.likeness)):
                if values is not None:
                    found[f"{what}-{name}"] = values
        return found

    def summary(self) -> dict[str, Any]:
        return {
            "from": self.origin,
            "images": self.images,
            "layers": {name: _figures(one) for name, one in self.looks.items()},
            "skipped": dict(self.skipped),
        }


def _figures(one: Looks) -> dict[str, Any]:
    return {
        "heads": len(one.maps),
        "keys": one.keys,
        "grid": list(one.maps.shape[1:]),
        "distance": None if one.distance is None else one.distance.tolist(),
        "entropy": None if one.entropy is None else one.entropy.tolist(),
        "alike": [list(pair) for pair in one.alike],
    }
