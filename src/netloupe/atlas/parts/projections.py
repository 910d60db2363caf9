"""The projections of the channels' patches, and how alike they are where they ought to differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.parts.units import block_of
from netloupe.atlas.sheets import UNITS_PER_BLOCK, projection_columns, projection_side
from netloupe.atlas.store import Rows, any_of

if TYPE_CHECKING:
    from netloupe.atlas.making import Making
    from netloupe.core.network import Network
    from netloupe.core.rules import Rule
    from netloupe.core.watch import Part as Told


class Projections(Part):
    tables: ClassVar = {
        "projections": "layer int32, channel int32, like int32, picture binary",  # like: the layer that has it
        "alike": "layer int32, random float32, channels float32",  # of a layer
    }

    def brings(self, making: Making) -> Sequence[str]:
        return [f"projections/{name}" for name in _projected(making)]

    def steps(self, making: Making) -> Iterator[Step]:
        from netloupe.analysis.unproject import chains
        from netloupe.atlas.mosaics import random_twin

        rule, projected = making.rule, _projected(making)
        if rule is None:
            return
        random = random_twin(making.net)
        found = chains(making.net, projected, rule)
        done = [making.layers.index(name) for chain in found if self.made(chain[0]) for name in chain]
        before = self.store.count("patches", any_of("layer", done)) if done else 0
        wanted = [making.layers.index(name) for name in projected]
        told = making.watch.part("projections", self.store.count("patches", any_of("layer", wanted)), before)
        for chain in found:
            brings = [f"projections/{name}" for name in chain]
            yield Step(chain[0], partial(self._chain, making, chain, rule, random, told), brings=brings)

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
        made = draw.mosaics(net, patches, read, rule, dtype, making.batch_size, projection_columns(making.k), told)
        return {"alike": alike, "projections": _rows(layers, made)}

    def about(self, making: Making) -> About:
        size = projection_side(making.net.inputs.size)
        missing = making.no_projections
        told = {"rule": making.rule, "missing": missing, "columns": projection_columns(making.k), "size": size}
        rows = self.store.rows("alike") if making.rule is not None else []
        alike = {row.pop("layer"): row for row in rows}
        return About(
            {"projections": told},
            [
                {"alike": alike.get(i), "unprojected": making.unprojected.get(name)}
                for i, name in enumerate(making.layers)
            ],
        )

    def resources(self) -> Sequence[Resource]:
        if self.store.network["projections"]["rule"] is None:
            return []
        found = lru_cache(maxsize=4)(self._mosaics)  # an export asks for all of a block

        def mosaic(layer: int, channel: int) -> bytes | None:
            return found(layer, channel // UNITS_PER_BLOCK).get(channel)

        listed = partial(self.keys, "projections", "layer", "channel")
        return [Resource("projections/LAYER/CHANNEL.webp", mosaic, listed)]

    def _mosaics(self, layer: int, number: int) -> dict[int, bytes]:
        rows = self.store.rows("projections", block_of(layer, number), ["channel", "like", "picture"])
        found = {row["channel"]: row["picture"] for row in rows}
        for like in {row["like"] for row in rows} - {layer}:
            others = self._mosaics(like, number)
            found |= {row["channel"]: others[row["channel"]] for row in rows if row["like"] == like}
        return found


def _projected(making: Making) -> list[str]:
    return [] if making.rule is None else [name for name in making.layers if name not in making.unprojected]


def _rows(layers: Sequence[str], made: Iterable[tuple[str, int, bytes]]) -> list[dict[str, Any]]:
    """The rows of table `projections`; what layers show alike, as a ReLU and what it follows, is kept once."""
    first: dict[tuple[int, bytes], int] = {}
    rows = []
    for name, channel, picture in made:
        layer = layers.index(name)
        like = first.setdefault((channel, picture), layer)
        rows.append({"layer": layer, "channel": channel, "like": like, "picture": picture if like == layer else None})
    return rows
