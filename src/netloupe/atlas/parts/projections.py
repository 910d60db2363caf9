"""The projections of the channels' patches, and how alike they are where they ought to differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from netloupe.atlas.parts.part import About, Part, Resource, Rows, Step
from netloupe.atlas.parts.units import block_of
from netloupe.atlas.sheets import PROJECTION_COLUMNS, UNITS_PER_BLOCK, projection_side
from netloupe.atlas.store import Store, any_of

if TYPE_CHECKING:
    from netloupe.atlas.making import Making
    from netloupe.core.network import Network
    from netloupe.core.rules import Rule
    from netloupe.core.watch import Part as Told


class Projections(Part):
    tables: ClassVar = {
        "projections": pa.schema([("layer", pa.int32()), ("channel", pa.int32()), ("jpeg", pa.binary())]),  # a channel
        "alike": pa.schema([("layer", pa.int32()), ("random", pa.float32()), ("channels", pa.float32())]),  # a layer
    }

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._mosaics = lru_cache(maxsize=4)(self._read)

    def steps(self, making: Making) -> Iterator[Step]:
        from netloupe.analysis.unproject import chains
        from netloupe.atlas.mosaics import random_twin

        rule = making.rule
        if rule is None:
            return
        random = random_twin(making.net)
        told = making.watch.part("projections", self.store.count("patches"))
        for chain in chains(making.net, making.layers, rule):
            places = [making.layers.index(name) for name in chain]
            before = told.done
            yield Step(chain[0], partial(self._chain, making, chain, rule, random, told))
            told.at(before + self.store.count("patches", any_of("layer", places)))

    def _chain(self, making: Making, chain: Sequence[str], rule: Rule, random: Network | None, told: Told) -> Rows:
        """Layers whose projections are made together.

        In bfloat16 where the hardware multiplies in it and a sample agrees with float32.
        """
        from netloupe.analysis.unproject import Neuron
        from netloupe.atlas import mosaics as draw

        net, read, layers = making.net, making.read, making.layers
        patches = [
            draw.Patch(
                Neuron(layers[r["layer"]], r["channel"], r["rank"], r["image"], r["y"], r["x"]),
                (r["top"], r["left"], r["bottom"], r["right"]),
                r["value"],
            )
            for r in self.store.rows("patches", any_of("layer", [layers.index(name) for name in chain]))
        ]
        samples = {name: draw.sample_of(p for p in patches if p.neuron.layer == name) for name in chain}
        alike = [
            {"layer": layers.index(name), **draw.likeness(net, random, samples[name], read, rule)} for name in chain
        ]
        dtype = draw.dtype_for(net, samples[chain[0]], read, rule)
        made = draw.mosaics(net, patches, read, rule, dtype, making.batch_size, told)
        mosaics = [{"layer": layers.index(name), "channel": channel, "jpeg": jpeg} for name, channel, jpeg in made]
        return {**self.rows("alike", alike), **self.rows("projections", mosaics)}

    def about(self, making: Making) -> About:
        size = projection_side(making.net.inputs.size)
        missing = making.no_projections
        told = {"rule": making.rule, "missing": missing, "columns": PROJECTION_COLUMNS, "size": size}
        rows = self.store.rows("alike") if making.rule is not None else []
        alike = {row.pop("layer"): row for row in rows}
        return About({"projections": told}, [{"alike": alike.get(i)} for i in range(len(making.layers))])

    def resources(self) -> Sequence[Resource]:
        return [Resource("projections/LAYER/CHANNEL.jpg", self._mosaic, self._keys)]

    @property
    def _there(self) -> bool:
        return self.store.network["projections"]["rule"] is not None

    def _keys(self) -> list[tuple[int, int]]:
        rows: list[dict[str, Any]] = []
        if self._there:
            rows = self.store.rows("projections", columns=["layer", "channel"])
        return sorted((row["layer"], row["channel"]) for row in rows)

    def _mosaic(self, layer: int, channel: int) -> bytes | None:
        return self._mosaics(layer, channel // UNITS_PER_BLOCK).get(channel) if self._there else None

    def _read(self, layer: int, number: int) -> dict[int, bytes]:
        rows = self.store.rows("projections", block_of(layer, number), ["channel", "jpeg"])
        return {row["channel"]: row["jpeg"] for row in rows}
