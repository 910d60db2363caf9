"""Where the tokens of a network look: what its attention heads do over the images, and maps of a few photographs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import MAP_STEPS
from netloupe.atlas.store import Rows
from netloupe.core.numbers import evenly
from netloupe.render.colors import heat
from netloupe.render.pictures import Picture, encode

if TYPE_CHECKING:
    from torch import Tensor

    from netloupe.analysis.attention.measure import Measures
    from netloupe.analysis.attention.placed import Placed
    from netloupe.atlas.making import Making
    from netloupe.core.network import Network

MEASURED = 128  # images over which heads are measured, as many as in Dosovitskiy et al. (2021)
SHOWN = 8  # photographs of which maps are shown
PLACES = 256  # patches at most of an attention whose maps from each of them are kept


class Attention(Part):
    """Networks without attention have neither its tables nor its resources."""

    tables: ClassVar = {  # attention: the place in the network's list of those that are shown
        "attentions": "attention int32, distance double[], entropy double[], likeness double[]",  # by head, head x head
        "attended": "attention int32, image int64, picture binary, peaks float32[]",  # by row of the sheet and head
    }

    def brings(self, making: Making) -> Sequence[str]:
        return ["attention"] if _shown(making.net) else []

    def steps(self, making: Making) -> Iterator[Step]:
        found = _shown(making.net)
        if not found:
            return
        yield Step("heads", partial(self._heads, making, found), brings=["attention"])
        keys = {f"image {image}": image for image in self._photographs(making)}
        told = making.watch.part("attention", len(keys), sum(map(self.made, keys)))
        for key, image in keys.items():
            yield Step(key, partial(self._image, making, found, image), then=told.advance, brings=["attention"])

    def _ids(self) -> list[int]:
        return [image for (image,) in self.keys("images", "id")]

    def _photographs(self, making: Making) -> list[int]:
        """Ids of the images that are shown, evenly over all; of pieces of photographs the first of each."""
        if not making.pictured:
            return []
        ids, pieces = self._ids(), making.source.photographs
        if pieces is not None:
            first: dict[int, int] = {}
            for i in ids:
                first.setdefault(pieces[i], i)
            ids = list(first.values())
        return evenly(ids, SHOWN)

    def _heads(self, making: Making, found: Mapping[str, Placed]) -> Rows:
        import torch

        from netloupe.analysis.attention.measure import BATCH, Measures, measure

        measures = {name: Measures(one, making.net.inputs.size) for name, one in found.items()}
        ids = evenly(self._ids(), MEASURED)
        told = making.watch.part("attention heads", len(ids))
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            measure(making.net, torch.stack([making.read(i) for i in some]), measures)
            told.advance(len(some))
        return {"attentions": [_row(i, one) for i, one in enumerate(measures.values())]}

    def _image(self, making: Making, found: Mapping[str, Placed], image: int) -> Rows:
        from netloupe.analysis.attention.weights import attention

        rows: dict[str, dict[str, Any]] = {}

        def draw(name: str, weights: Tensor) -> None:
            maps = _maps(found[name], weights).float().cpu().numpy()
            rows[name] = {
                "attention": list(found).index(name),
                "image": image,
                "picture": encode(sheet_of(maps), "WEBP", 75, lossless=True),
                "peaks": maps.max((2, 3)).ravel().tolist(),
            }

        attention(making.net, making.read(image)[None], list(found)).each(draw)
        return {"attended": [rows[name] for name in found]}

    def shows(self, making: Making) -> Iterable[int]:
        return self._photographs(making) if _shown(making.net) else ()

    def about(self, making: Making) -> About:
        from netloupe.analysis.attention.placed import attentions, placed
        from netloupe.analysis.attention.record import ALIKE

        names = attentions(making.net)
        if not names:
            return About({})
        found, skipped = placed(making.net, names)
        if found and not all(map(self.made, ["heads", *(f"image {i}" for i in self._photographs(making))])):
            return About({})
        told = {
            "images": len(evenly(self._ids(), MEASURED)),
            "photographs": self._photographs(making),
            "alike": ALIKE,
            "layers": [self._told(i, name, one) for i, (name, one) in enumerate(found.items())],
            "skipped": {name: str(why) for name, why in skipped.items()},
        }
        return About({"attention": told})

    def _told(self, number: int, name: str, one: Placed) -> dict[str, Any]:
        where = f"attention = {number}"
        return {
            "name": name,
            "heads": one.heads,
            "tokens": one.keys,
            "prefix": one.places.prefix,
            "grid": list(one.places.grid),
            "from": one.origin(None),
            "asks": _asks(one),
            "distance": self.one("attentions", where, "distance") or None,
            "entropy": self.one("attentions", where, "entropy") or None,
        }

    def resources(self) -> Sequence[Resource]:
        told = self.store.network.get("attention")
        if told is None or not told["layers"]:
            return []
        return [
            Resource("data/attention/ATTENTION.json", self._likeness, partial(self.keys, "attentions", "attention")),
            Resource("data/attention/ATTENTION/IMAGE.json", self._peaks, self._listed),
            self.stored("attention/ATTENTION/IMAGE.webp", "attended", "picture"),
        ]

    def _listed(self) -> list[tuple[int, ...]]:
        return self.keys("attended", "attention", "image")

    def _likeness(self, number: int) -> dict[str, Any] | None:
        flat = self.one("attentions", f"attention = {number}", "likeness")
        if flat is None:
            return None
        return {"likeness": _by(self._heads_of(number), flat) or None}

    def _peaks(self, number: int, image: int) -> dict[str, Any] | None:
        flat = self.one("attended", f"attention = {number} AND image = {image}", "peaks")
        return None if flat is None else {"peaks": _by(self._heads_of(number), flat)}

    def _heads_of(self, number: int) -> int:
        return int(self.store.network["attention"]["layers"][number]["heads"])


def sheet_of(maps: np.ndarray) -> Picture:
    """Maps (rows, heads, h, w) as (rows * h, heads * w, 3): each black at 0, brightest at its own highest."""
    rows, heads, height, width = maps.shape
    peaks = maps.max((2, 3), keepdims=True)
    shares = np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
    flat = shares.transpose(0, 2, 1, 3).reshape(rows * height, heads * width)
    return heat(np.round(flat * MAP_STEPS) / MAP_STEPS, 1.0)


def _shown(net: Network) -> dict[str, Placed]:
    from netloupe.analysis.attention.placed import attentions, placed

    return placed(net, attentions(net))[0]


def _asks(one: Placed) -> bool:
    """Whether maps are kept as each patch looks, below those of the whole."""
    height, width = one.places.grid
    return one.square and height * width <= PLACES


def _maps(one: Placed, weights: Tensor) -> Tensor:
    """(rows, heads, h, w) of weights (1, heads, Q, K): from its origin, then from each patch, row by row."""
    import torch

    first = one.seen(weights, None)
    return torch.cat([first, one.every(weights)[0].transpose(0, 1)]) if _asks(one) else first


def _row(number: int, one: Measures) -> dict[str, Any]:
    found = one.means()
    flat = [[] if values is None else values.ravel().tolist() for values in found]
    return {"attention": number, **dict(zip(("distance", "entropy", "likeness"), flat, strict=True))}


def _by(count: int, flat: Sequence[float]) -> list[list[float]]:
    """Rows of so many numbers, of as many digits as are read."""
    return [[float(f"{value:.4g}") for value in flat[i : i + count]] for i in range(0, len(flat), count)]
