"""Building an atlas: one sweep over the images, then pictures of what it found, all into one store.

Killed at any moment, the same call goes on from where it was: the sweep from its saved state, the photographs from
the blocks that the store holds already, the rest layer by layer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netloupe.analysis.neighbors import feature_layer
from netloupe.analysis.provenance import provenance
from netloupe.atlas.pages import IMAGES_PER_BLOCK, UNITS_PER_BLOCK
from netloupe.atlas.photographs import MAP_COLUMNS, MAP_SIDE, Photographs, map_layers, write_images
from netloupe.atlas.store import FORMAT, Store
from netloupe.atlas.tables import TILE_COLUMNS, TILE_SIDE, neighbor_rows, patch_rows, tile_rows, typical, unit_rows
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.data.sources import ImageSource, Skipped
from netloupe.sweep.accumulators import Accumulator, ClassMeans, Features, Peaks, Predictions, TopPatches
from netloupe.sweep.engine import check_any_read, sweep

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `seconds` is its own time; `fresh` is False where the same atlas lay there already."""

    path: Path
    images: int
    layers: int
    units: int
    seconds: float
    skipped: tuple[Skipped, ...]
    fresh: bool = True


def build(
    net: Network,
    source: ImageSource,
    out: str | Path,
    *,
    layers: Sequence[str] | None = None,
    k: int = 9,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the atlas of a network over a source of images into the folder `out`.

    layers: which to show, by default every one that is not another's output handed on. k: patches kept per channel.
    progress: called with (stage, done, total). The folder appears when all is done. Raises StoreError if `out` holds
    something else or can't be written, UnknownName for a layer that is not there, InputError for no readable image.
    """
    start, out = time.monotonic(), Path(out)
    tell: Progress = progress if progress is not None else lambda _stage, _done, _total: None
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    if layers is None:
        layers = [n for n, layer in net.layers.items() if layer.same_as is None]
    layers = [net.layer(n).name for n in layers]
    identity = {
        "network": net.fingerprint(),
        "name": net.name,
        "labels": net.labels,
        "source": source.spec,
        "images": source.fingerprint(),
        "layers": layers,
        "k": k,
        "format": FORMAT,
    }
    identity = json.loads(json.dumps(identity))
    if Store.is_of(out, identity):
        network = Store.open(out).network
        skipped = tuple(Skipped(s["id"], s["name"], s["reason"]) for s in network["skipped"])
        units = sum(layer["shape"][0] for layer in network["layers"])
        return BuildReport(out, network["images"], len(layers), units, time.monotonic() - start, skipped, fresh=False)
    store = Store.begin(out, identity)

    found = _Found(TopPatches(k), Peaks(), ClassMeans(), Features(feature_layer(net)), Predictions())
    report = sweep(
        net,
        source,
        found.accumulators(),
        layers=list(dict.fromkeys([*layers, found.features.layer])),
        batch_size=batch_size,
        state=store.path / "sweep.safetensors",
        progress=lambda done, total: tell("sweep", done, total),
    )
    check_any_read(report, source)
    predictions = found.predictions.result()
    rows = map_layers(net, layers)
    by_image = {
        int(i): (classes.tolist(), probabilities.tolist())
        for i, classes, probabilities in zip(
            predictions.ids, predictions.classes, predictions.probabilities, strict=True
        )
    }
    write_images(store, net, source, rows, by_image, lambda done, total: tell("photographs", done, total))
    strips = _write_units(store, net, layers, found, tell)
    _write_neighbors(store, found, tell)
    document = _network_document(net, source, layers, rows, strips, by_image, report.skipped, k)
    store.drop("provenance")
    store.write("provenance", pa.table({"network": [json.dumps(document)]}))
    (store.path / "sweep.safetensors").unlink(missing_ok=True)
    store.finish(out, identity)
    units = sum(net.layers[n].channels for n in layers)
    return BuildReport(out, report.images, len(layers), units, time.monotonic() - start, report.skipped)


@dataclass(frozen=True)
class _Found:
    """The accumulators of a build."""

    patches: TopPatches
    peaks: Peaks
    classes: ClassMeans
    features: Features
    predictions: Predictions

    def accumulators(self) -> Mapping[str, Accumulator]:
        return {
            "patches": self.patches,
            "peaks": self.peaks,
            "classes": self.classes,
            "features": self.features,
            "predictions": self.predictions,
        }


def _write_units(
    store: Store, net: Network, layers: Sequence[str], found: _Found, tell: Progress
) -> list[dict[str, Any]]:
    """Tables `units`, `patches` and `tiles`; returns what the network page tells of each layer's channels."""
    for table in ("units", "patches", "tiles"):
        store.drop(table)
    photographs = Photographs(store)
    peaks, patches, classes = found.peaks.result(), found.patches.result(), found.classes.result()
    strips = []
    for i, name in enumerate(layers):
        tell("layers", i, len(layers))
        statistics = peaks[name]
        units = unit_rows(i, statistics, *(a.numpy() for a in classes[name]))
        values, images, positions = (t.numpy() for t in patches[name])
        best = patch_rows(
            i, net.layers[name].receptive_field, (values, images, positions), statistics.minimum, net.inputs.size
        )
        store.write("units", units)
        store.write("patches", best)
        store.write("tiles", tile_rows(i, net.layers[name].channels, best, photographs, net.inputs.size))
        dead = statistics.maximum <= 0
        strips.append({"dead": int(dead.sum()), "typical": typical(statistics.maximum, dead)})
    tell("layers", len(layers), len(layers))
    return strips


def _write_neighbors(store: Store, found: _Found, tell: Progress) -> None:
    """Tables `features` and `neighbors`."""
    tell("neighbors", 0, 2)
    ids, vectors = found.features.result()
    for table in ("features", "neighbors"):
        store.drop(table)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    store.write("features", pa.table({"id": pa.array(ids, pa.int64()), "vector": vector}))
    store.write("neighbors", neighbor_rows("features", ids, vectors))
    tell("neighbors", 1, 2)
    thumbs = sorted(store.rows("images", columns=["id", "thumb"]), key=lambda row: row["id"])
    pixels = np.stack([np.frombuffer(row["thumb"], dtype=np.uint8) for row in thumbs]).astype(np.float32) / 255
    store.write("neighbors", neighbor_rows("pixels", np.array([row["id"] for row in thumbs]), pixels))
    tell("neighbors", 2, 2)


def _network_document(
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    map_rows: Sequence[str],
    strips: Sequence[dict[str, Any]],
    predictions: Mapping[int, tuple[list[int], list[float]]],
    skipped: Sequence[Skipped],
    k: int,
) -> dict[str, Any]:
    """`data/network.json`; see docs/architecture.md."""
    labels = [net.label(i) for i in range(net.classes)]
    own = _own_classes(source, labels)
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
        "layers": [_layer_document(net, name, strip) for name, strip in zip(layers, strips, strict=True)],
        "provenance": provenance(net, "atlas", images=source.title, k=k, fingerprint=source.fingerprint()),
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


def _own_classes(source: ImageSource, labels: Sequence[str]) -> list[str] | None:
    """The source's class names where its labels are not the network's classes; None where they are, or are missing."""
    if source.labels is None:
        return None
    if source.classes is None:
        known = [label for label in source.labels if label is not None]
        return None if max(known) < len(labels) else [str(i) for i in range(max(known) + 1)]
    return None if list(source.classes) == list(labels) else list(source.classes)


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
