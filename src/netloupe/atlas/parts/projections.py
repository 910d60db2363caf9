"""The projections of the channels' patches, and how alike they are where they ought to differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.parts.units import block_of
from netloupe.atlas.sheets import PROJECTION_COLUMNS, UNITS_PER_BLOCK, projection_side
from netloupe.atlas.store import Rows, any_of

if TYPE_CHECKING:
    from netloupe.atlas.making import Making
    from netloupe.core.network import Network
    from netloupe.core.rules import Rule
    from netloupe.core.watch import Part as Told


class Projections(Part):
    tables: ClassVar = {
        "projections": "layer int32, channel int32, jpeg binary",
        "alike": "layer int32, random float32, channels float32",  # of a layer
    }

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
        return {"alike": alike, "projections": mosaics}

    def about(self, making: Making) -> About:
        size = projection_side(making.net.inputs.size)
        missing = making.no_projections
        told = {"rule": making.rule, "missing": missing, "columns": PROJECTION_COLUMNS, "size": size}
        rows = self.store.rows("alike") if making.rule is not None else []
        alike = {row.pop("layer"): row for row in rows}
        return About({"projections": told}, [{"alike": alike.get(i)} for i in range(len(making.layers))])

    def resources(self) -> Sequence[Resource]:
        if self.store.network["projections"]["rule"] is None:
            return []
        found = lru_cache(maxsize=4)(self._mosaics)  # an export asks for all of a block

        def mosaic(layer: int, channel: int) -> bytes | None:
            return found(layer, channel // UNITS_PER_BLOCK).get(channel)

        listed = partial(self.keys, "projections", "layer", "channel")
        return [Resource("projections/LAYER/CHANNEL.jpg", mosaic, listed)]

    def _mosaics(self, layer: int, number: int) -> dict[int, bytes]:
        rows = self.store.rows("projections", block_of(layer, number), ["channel", "jpeg"])
        return {row["channel"]: row["jpeg"] for row in rows}
