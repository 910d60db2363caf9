"""`data/network.json`: what an atlas is of, with what each part tells of itself (see docs/architecture.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.store import FORMAT

Told = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]

if TYPE_CHECKING:
    from netloupe.atlas.making import Making


class NetworkPage(Part):
    tables: ClassVar = {"provenance": "network string"}  # of the build: the document (JSON)

    def steps(self, making: Making) -> Iterator[Step]:
        """Made last, when `making.told` holds what all parts tell."""
        yield Step("document", lambda: {"provenance": [{"network": json.dumps(self.document(making, making.told))}]})

    @staticmethod
    def document(making: Making, told: Iterable[Told]) -> dict[str, Any]:
        """What the atlas is of; told: what its parts tell of themselves."""
        net, source = making.net, making.source
        document: dict[str, Any] = {
            "format": FORMAT,
            "name": net.name,
            "source": source.title,
            "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "input": {"size": list(net.inputs.size), "channels": net.inputs.channels},
            "head": net.head.word,
            "labels": list(net.head.choices),
            "source_classes": making.source_classes,
            "labeled": source.labels is not None,
            "parameters": sum(p.numel() for p in net.module.parameters()),
            "provenance": dict(making.provenance),
            "layers": [],
        }
        layers = [
            {
                "name": name,
                "kind": (layer := net.layers[name]).kind,
                "shape": list(layer.shape),
                "parameters": layer.parameters,
                "receptive_field": layer.receptive_field.document(),
            }
            for name in making.layers
        ]
        for network, more in told:
            document |= network
            layers = [own | dict(one) for own, one in zip(layers, more or [{}] * len(layers), strict=True)]
        return document | {"layers": layers}

    def about(self, making: Making) -> About:
        return About({})

    def resources(self) -> Sequence[Resource]:
        return [Resource("data/network.json", lambda: {**self.store.network, "version": self.store.version})]
