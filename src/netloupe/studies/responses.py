"""What channels answer over a data set: their range, and their values at a sample of places of every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from torch import Tensor

from netloupe.analysis.correlation import normed
from netloupe.core.errors import InputError
from netloupe.sweep.accumulator import Accumulator, State, to_arrays, to_state
from netloupe.sweep.maps import Maps

MOST = 16  # places of an image
ROOM = 2**26  # numbers that are kept of all layers together, 256 MiB


class LayerResponses(NamedTuple):
    """Of C channels: low, high (C,) over all images and positions; values (images * places, C) float32, by image."""

    low: np.ndarray
    high: np.ndarray
    values: np.ndarray


def places_for(images: int, channels: int) -> int:
    """How many places of each image there is room for: 1 to 16."""
    return max(1, min(MOST, ROOM // max(1, images * channels)))


@final
class Responses(Accumulator):
    """The lowest and the highest value of each channel, and its values at `places` random places of each image.

    The places depend on the image's id and `seed` alone, and are the same share of the way down and across every
    map, so responses of different layers, and of the same layer in different networks, can be compared.
    """

    def __init__(self, places: int, seed: int = 0) -> None:
        if places < 1:
            raise InputError(f"{places} places (accepted: 1 or more)")
        self.places, self.seed = places, seed
        self._found: dict[str, list[tuple[np.ndarray, ...]]] = {}  # (ids, low, high, values) by layer
        self._ids: np.ndarray | None = None  # of this batch
        self._at = np.zeros((0, places, 2))

    def settings(self) -> dict[str, Any]:
        return {"places": self.places, "seed": self.seed}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return layers

    def update(self, layer: str, maps: Maps) -> None:
        if len(maps.ids) == 0:
            return
        if maps.ids is not self._ids:
            self._ids = maps.ids
            self._at = np.stack([np.random.default_rng([self.seed, i]).random((self.places, 2)) for i in maps.ids])
        found = maps.ids, maps.low.min(0), maps.peak.max(0), maps.sampled(self._at)
        self._found.setdefault(layer, []).append(found)

    def merge(self, other: Responses) -> None:
        self.check_same(other)
        for layer, found in other._found.items():
            self._found.setdefault(layer, []).extend(found)

    def result(self) -> dict[str, LayerResponses]:
        """Layer -> LayerResponses, in the order of image ids."""
        return {layer: self._joined(layer) for layer in self._found}

    def _joined(self, layer: str) -> LayerResponses:
        ids, low, high, values = zip(*self._found[layer], strict=True)
        order = np.argsort(np.concatenate(ids), kind="stable")
        ordered = np.concatenate(values)[order]
        return LayerResponses(
            np.min(np.stack(low), 0), np.max(np.stack(high), 0), ordered.reshape(-1, ordered.shape[2])
        )

    def state(self) -> State:
        found: dict[str, np.ndarray] = {}
        for layer, pieces in self._found.items():
            ids, low, high, values = zip(*pieces, strict=True)
            found |= {f"ids/{layer}": np.concatenate(ids), f"values/{layer}": np.concatenate(values)}
            found |= {f"low/{layer}": np.min(np.stack(low), 0), f"high/{layer}": np.max(np.stack(high), 0)}
        return to_state(found)

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = to_arrays(state)
        layers = [name.removeprefix("ids/") for name in arrays if name.startswith("ids/")]
        self._found = {n: [tuple(arrays[f"{part}/{n}"] for part in ("ids", "low", "high", "values"))] for n in layers}


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(C,): Pearson's correlation of each column of (S, C) with the same of another; NaN where one is constant."""
    a, b = (normed(each) for each in (one, other))
    return np.asarray(np.einsum("sc,sc->c", a, b, dtype=np.float64))
