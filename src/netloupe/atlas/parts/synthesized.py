"""The synthesized images: one for each channel of chosen layers, its facets, and whether to trust them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import UNITS_PER_BLOCK, block, blocks, sheet
from netloupe.atlas.store import Rows, Store
from netloupe.render.pictures import encode

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

_REST = 64  # any photographs, for comparison


class Synthesized(Part):
    tables: ClassVar = {  # 64 channels of a layer; units: JSON
        "synthesized": "layer int32, sheet int32, jpeg binary, mosaics binary[], units string, seconds double"
    }

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._mosaics = lru_cache(maxsize=4)(self._read)

    def brings(self, making: Making) -> Sequence[str]:
        return [f"synthesized/{key}" for key in _blocks(making)]

    def steps(self, making: Making) -> Iterator[Step]:
        keys = _blocks(making)
        if not keys:
            return
        ids = np.sort(self.store.arrow("images", columns=["id"])["id"].to_numpy())
        draw = np.random.default_rng(0)
        rest = sorted(draw.choice(ids, min(_REST, len(ids)), replace=False).tolist())
        done = sum(len(some) for key, (_, some) in keys.items() if self.made(key))
        told = making.watch.part("synthesis", sum(len(some) for _, some in keys.values()), done)
        for key, (name, some) in keys.items():
            make = partial(self._block, making, name, some, rest)
            yield Step(key, make, then=partial(told.advance, len(some)), brings=[f"synthesized/{key}"])

    def _block(self, making: Making, name: str, channels: range, rest: Sequence[int]) -> Rows:
        from netloupe.atlas.synthesis import Block

        start = time.monotonic()
        top = making.found.patches[name]
        made = Block(making.net, making.synthesis, name, channels, top, making.read).make(making.layers, rest)
        row = {
            "layer": making.layers.index(name),
            "sheet": channels.start // UNITS_PER_BLOCK,
            "jpeg": encode(sheet([one.tile() for one in made]), "JPEG", 90),
            "mosaics": [None if one.image is None else encode(one.mosaic(), "JPEG", 90) for one in made],
            "units": json.dumps([one.document for one in made]),
            "seconds": time.monotonic() - start,
        }
        return {"synthesized": [row]}

    def shows(self, making: Making) -> Iterable[int]:
        """All of which facets are chosen."""
        how = making.synthesis
        for name in how.layers if how.facets else ():
            top = making.found.patches[name]
            yield from top.images[:, : how.ranked][top.values[:, : how.ranked] > 0].tolist()

    def about(self, making: Making) -> About:
        how = making.synthesis
        layers = [{"synthesized": self._told(i) if n in how.layers else None} for i, n in enumerate(making.layers)]
        return About({"synthesis": {"preset": how.preset, "steps": how.steps} if how.layers else None}, layers)

    def _told(self, layer: int) -> dict[str, Any] | None:
        """How many images there are, how many excite more than any photograph, the mean path; None before the first."""
        rows = self.store.rows("synthesized", f"layer = {layer}", ["sheet", "units", "seconds"])
        if not rows:
            return None
        rows.sort(key=lambda row: row["sheet"])
        units = [unit for row in rows for unit in json.loads(row["units"]) if unit is not None]
        compared = [unit for unit in units if unit["best"] is not None]
        paths = [unit["path"] for unit in units if unit["path"] is not None]
        columns = {name: _mean([path[name] for path in paths]) for name in ("synthesized", "same", "other") if paths}
        return {
            "images": len(units),
            "facets": sum(len(unit["facets"]) for unit in units),
            "compared": len(compared),
            "ahead": sum(unit["value"] > unit["best"] for unit in compared),
            "seconds": sum(row["seconds"] for row in rows),
            "path": {"layers": paths[0]["layers"], **columns} if paths else None,
        }

    def resources(self) -> Sequence[Resource]:
        if self.store.network["synthesis"] is None:
            return []
        return [
            self.stored("synthesis/LAYER/SHEET.jpg", "synthesized", "jpeg"),
            Resource("synthesized/LAYER/CHANNEL.jpg", self._image, self._channels),
        ]

    def _channels(self) -> Iterator[tuple[int, int]]:
        for layer, number in self.keys("synthesized", "layer", "sheet"):
            first = number * UNITS_PER_BLOCK
            yield from ((layer, first + i) for i, jpeg in enumerate(self._mosaics(layer, number)) if jpeg is not None)

    def _image(self, layer: int, channel: int) -> bytes | None:
        """The image of a channel and its facets, in one row."""
        number, place = divmod(channel, UNITS_PER_BLOCK)
        pictures = self._mosaics(layer, number)
        return pictures[place] if place < len(pictures) else None

    def _read(self, layer: int, number: int) -> Sequence[bytes | None]:
        return self.one("synthesized", f"layer = {layer} AND sheet = {number}", "mosaics") or ()


def _blocks(making: Making) -> dict[str, tuple[str, range]]:
    """By key, what is made together: a layer and some of its channels."""
    layers = {name: making.net.layers[name].channels for name in making.synthesis.layers}
    return {f"{n}/{i}": (n, block(i, channels)) for n, channels in layers.items() for i in blocks(channels)}


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each column the mean over the rows that know it."""
    known = (~np.isnan(rows)).sum(0)
    found: list[float] = (np.nansum(rows, 0) / np.where(known > 0, known, np.nan)).round(4).tolist()
    return found
