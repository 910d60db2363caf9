"""The map of the units of a layer: near each other lie those that respond alike to the images.

A unit's vector is its peaks over some of the images, standardized: of two units the distance depends on their
correlation alone, so it does not count how strongly they respond. A layer whose units respond as those of one before,
as those of dropout do, has the map of that one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from netloupe.atlas.parts.layout import embedded, in_grid, parted
from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import shown_order
from netloupe.atlas.store import Rows
from netloupe.core.watch import Part as Told
from netloupe.core.watch import Watch

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

_STEPS = 1000  # of a layer, whatever a method counts


class _Units(NamedTuple):
    """Of a layer the units that are laid out, their vectors (n, C) float32, and how many images and others."""

    channels: list[int]
    vectors: np.ndarray
    counts: Mapping[str, int]

    @property
    def digest(self) -> bytes:
        """The same for layers of which the same units respond alike to each image."""
        return hashlib.sha256(np.array(self.channels, np.int64).tobytes() + self.vectors.tobytes()).digest()


class UnitMap(Part):
    tables: ClassVar = {  # of a layer: its units that are laid out, in the order of its tiles; JSON; why it has no map
        "unit_maps": "layer int32, channels int32[], x int32[], y int32[], about string, images int32, dead int32, "
        "constant int32, missing string",
    }

    def brings(self, making: Making) -> Sequence[str]:
        return [] if making.map_by is None else [f"unitmap/{name}" for name in making.layers]

    def steps(self, making: Making) -> Iterator[Step]:
        if making.map_by is None:
            return
        done = _STEPS * sum(map(self.made, making.layers))
        told = making.watch.part("unit maps", _STEPS * len(making.layers), done)
        first: dict[bytes, int] = {}  # the layer whose map it is, by what it is made of
        for i, (name, brought) in enumerate(zip(making.layers, self.brings(making), strict=True)):
            j = first.setdefault(self._units(making, i).digest, i)
            make, needs = partial(self._layer, making, i, making.map_by, told), []
            if j != i:
                make, needs = partial(self._shared, making, i, j, told), [making.layers[j]]
            yield Step(name, make, needs, brings=[brought])

    def _units(self, making: Making, i: int) -> _Units:
        rows = sorted(self.store.rows("units", f"layer = {i}", ["channel", "strength", "dead"]), key=_channel)
        strength, dead = (np.array([row[column] for row in rows]) for column in ("strength", "dead"))
        peaks = making.found.sampled[making.layers[i]].peaks
        vectors, varied = standardized(peaks)
        there = [c for c in shown_order(strength, dead) if varied[c] and not dead[c]]
        counts = {"images": len(peaks), "dead": int(dead.sum()), "constant": int((~varied & ~dead).sum())}
        return _Units(there, vectors[there], counts)

    def _layer(self, making: Making, i: int, method: str, told: Told) -> Rows:
        channels, vectors, counts = self._units(making, i)
        before = told.done
        found = _laid_out(vectors, method, told.share(_STEPS))
        told.at(before + _STEPS)
        return {"unit_maps": [{"layer": i, "channels": channels, **found, **counts}]}

    def _shared(self, making: Making, i: int, j: int, told: Told) -> Rows:
        """The map of the j-th layer, whose units respond alike, as that of the i-th."""
        (row,) = self.store.rows("unit_maps", f"layer = {j}")
        about = json.loads(row["about"])
        same = None if about is None else {**about, "same_as": making.layers[j]}
        told.at(told.done + _STEPS)
        return {"unit_maps": [{**row, "layer": i, "about": json.dumps(same), **self._units(making, i).counts}]}

    def about(self, making: Making) -> About:
        if making.map_by is None:
            return About({"unit_map": None})
        rows = self.store.rows("unit_maps", columns=["layer", "missing"])
        missing = {row["layer"]: row["missing"] for row in rows}
        named = [(name, missing[i]) for i, name in enumerate(making.layers) if i in missing]
        told = {
            "layers": [name for name, why in named if why is None],
            "missing": {name: why for name, why in named if why is not None},
        }
        return About({"unit_map": told})

    def resources(self) -> Sequence[Resource]:
        if self.store.network["unit_map"] is None:
            return []
        return [Resource("data/unitmap/LAYER.json", self._document, lambda: self.keys("unit_maps", "layer"))]

    def _document(self, layer: int) -> dict[str, Any] | None:
        rows = self.store.rows("unit_maps", f"layer = {layer}")
        if not rows:
            return None
        kept = ("channels", "x", "y", "images", "dead", "constant", "missing")
        about = json.loads(rows[0]["about"]) or {}
        return {**{name: rows[0][name] for name in kept}, "about": {k: v for k, v in about.items() if k != "images"}}


def standardized(peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of peaks (n, C) the vector of each channel (C, n) float32, its mean 0 and its length 1; and which vary (C,).

    The square of the distance of two is 2 - 2 r, r being their correlation. Of one that does not vary it is 0.
    """
    from netloupe.analysis.correlation import normed

    vectors = normed(peaks).T
    varied = ~np.isnan(vectors).any(1)
    return np.nan_to_num(vectors).astype(np.float32), varied


def _laid_out(vectors: np.ndarray, method: str, watch: Watch) -> dict[str, Any]:
    """x, y, about and missing of a row."""
    if len(vectors) == 0:
        return {"x": [], "y": [], "about": "null", "missing": "no channel responds to some images more than to others"}
    laid, others = parted(len(vectors))
    found = embedded(vectors[laid], method, watch, [vectors[others]] if len(others) else [], len(others), "unit")
    if found["missing"] is not None:
        return found
    points = np.stack([found["x"], found["y"]], axis=1)[np.argsort(np.concatenate([laid, others]))]
    x, y = in_grid(points).T
    return {**found, "x": x, "y": y}


def _channel(row: Mapping[str, Any]) -> int:
    return int(row["channel"])
