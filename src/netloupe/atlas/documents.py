"""`data/network.json`: what an atlas is of; its form is in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from netloupe.atlas.pages import IMAGES_PER_BLOCK, UNITS_PER_BLOCK
from netloupe.atlas.photographs import MAP_COLUMNS, MAP_SIDE
from netloupe.atlas.projections import PROJECTION_COLUMNS, Alike, projection_side
from netloupe.atlas.store import FORMAT
from netloupe.atlas.synthesized import Synthesis
from netloupe.atlas.tables import TILE_COLUMNS, TILE_SIDE
from netloupe.core.network import Network
from netloupe.core.provenance import provenance
from netloupe.core.rules import Rule
from netloupe.data.labels import class_names, of_network
from netloupe.data.sources import ImageSource, Skipped


@dataclass(frozen=True)
class Projected:
    """The rule that was used, or why none was although it was asked for; by layer, how alike projections are."""

    rule: Rule | None = None
    missing: str | None = None
    alike: Mapping[str, Alike] = field(default_factory=dict)


def network_document(
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    map_rows: Sequence[str],
    strips: Sequence[dict[str, Any]],
    predictions: Mapping[int, tuple[list[int], list[float]]],
    skipped: Sequence[Skipped],
    k: int,
    projected: Projected,
    synthesis: Synthesis,
    synthesized: Mapping[str, dict[str, Any]],
    mapped: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`data/network.json`; see docs/architecture.md."""
    labels = list(net.head.labels)
    own = None if of_network(source, labels) else class_names(source)
    return {
        "format": FORMAT,
        "name": net.name,
        "source": source.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "input": {"size": list(net.inputs.size), "channels": net.inputs.channels},
        "images": len(predictions),
        "images_per_block": IMAGES_PER_BLOCK,
        "units_per_block": UNITS_PER_BLOCK,
        "labels": labels,
        "source_classes": own,
        "labeled": source.labels is not None,
        "accuracy": _accuracy(source, predictions) if source.labels is not None and own is None else None,
        "skipped": [{"id": s.id, "name": s.name, "reason": s.reason} for s in skipped],
        "parameters": sum(p.numel() for p in net.module.parameters()),
        "tile": {"columns": TILE_COLUMNS, "size": TILE_SIDE},
        "maps": {"columns": MAP_COLUMNS, "size": MAP_SIDE, "layers": list(map_rows)},
        "projections": {
            "rule": projected.rule,
            "missing": projected.missing,
            "columns": PROJECTION_COLUMNS,
            "size": projection_side(net.inputs.size),
        },
        "map": None if mapped is None else dict(mapped),
        "synthesis": {"preset": synthesis.preset, "steps": synthesis.steps} if synthesis.layers else None,
        "layers": [
            _layer_document(
                net, name, {**strip, "alike": projected.alike.get(name), "synthesized": synthesized.get(name)}
            )
            for name, strip in zip(layers, strips, strict=True)
        ],
        "provenance": provenance(
            net,
            "atlas",
            images=source.title,
            k=k,
            project=projected.rule,
            synthesis=asdict(synthesis),
            map=None if mapped is None else mapped["method"],
            fingerprint=source.fingerprint(),
        ),
    }


def _layer_document(net: Network, name: str, strip: dict[str, Any]) -> dict[str, Any]:
    layer = net.layers[name]
    return {
        "name": name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "parameters": layer.parameters,
        "receptive_field": layer.receptive_field.document(),
        **strip,
    }


def _accuracy(source: ImageSource, predictions: Mapping[int, tuple[list[int], list[float]]]) -> dict[str, float] | None:
    """Top-1 and top-5 shares over the labeled images, in [0, 1]."""
    ranks = [
        classes.index(label) if label in classes else len(classes)
        for i, (classes, _) in predictions.items()
        if (label := source.label(i)) is not None
    ]
    if not ranks:
        return None
    count = len(ranks)
    return {"top1": sum(r == 0 for r in ranks) / count, "top5": sum(r < 5 for r in ranks) / count, "count": count}
