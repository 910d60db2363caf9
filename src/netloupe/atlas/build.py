"""Building an atlas: one sweep over the images, then pictures of what it found, all into one store.

Killed at any moment, the same call goes on from where it was: the sweep from its saved state, the photographs from
the blocks that the store holds already, the rest layer by layer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netloupe.analysis.unproject import named_rule, no_rectifier, rectifies
from netloupe.atlas.documents import Projected, network_document
from netloupe.atlas.map import check_method, write_map
from netloupe.atlas.photographs import MAP_LAYERS, Photographs, write_images
from netloupe.atlas.projections import write_projections
from netloupe.atlas.store import FORMAT, Store
from netloupe.atlas.synthesized import Synthesis, write_synthesized
from netloupe.atlas.tables import neighbor_rows, patch_rows, tile_rows, typical, unit_rows
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.rules import Rule
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, Skipped, pixel_reader
from netloupe.sweep.accumulators import Accumulator, ClassMeans, Features, Peaks, Predictions, TopPatches
from netloupe.sweep.engine import check_any_read, sweep


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `seconds` is its own time; `fresh` is False where the same atlas lay there already.

    no_projections: why there are none although they were asked for.
    """

    path: Path
    images: int
    layers: int
    units: int
    seconds: float
    skipped: tuple[Skipped, ...]
    no_projections: str | None = None
    fresh: bool = True


def build(
    net: Network,
    source: ImageSource,
    out: str | Path,
    *,
    layers: Sequence[str] | None = None,
    k: int = 9,
    project: Rule | None = "deconvnet",
    map_by: str | None = "tsne",
    synthesize: Synthesis | None = None,
    batch_size: int = 32,
    watch: Watch = SILENT,
) -> BuildReport:
    """Build the atlas of a network over a source of images into the folder `out`.

    layers: which to show, by default every one that is not another's output handed on. k: patches kept per channel.
    project: the rule by which their projections are made, "deconvnet" or "guided", or None for none; there are none
    either if the rule finds no ReLU in the network. synthesize: of which layers to make an image for each channel, by
    default of none, because one takes about as long as hundreds of images take to sweep. map_by: how the images are
    laid out on a map, "tsne", "pca" or "umap" (see `analysis.layout.embedding`), or None for no map.
    The folder appears when all is done. Raises StoreError if `out` holds
    something else or can't be written, UnknownName for a layer, rule or method that is not there, InputError for no
    readable image.
    """
    start, out = time.monotonic(), Path(out)
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    if project is not None:
        named_rule(project)
    check_method(map_by)
    net.head.classes("an atlas", 2)
    features = _features(net, layers)
    layers = list(net.layers.distinct()) if layers is None else net.layers.each(layers)
    how = (synthesize if synthesize is not None else Synthesis()).checked(net)
    if missing := [name for name in how.layers if name not in layers]:
        raise InputError(f"images of layer {missing[0]!r}, which the atlas leaves out (accepted: {', '.join(layers)})")
    identity = {
        **_identity(net, source, layers, k, project),
        "map": map_by,
        "synthesize": json.loads(json.dumps(asdict(how))),
    }
    if Store.is_of(out, identity):
        return _report_of(out, time.monotonic() - start)
    store = Store.begin(out, identity)

    found = _Found(TopPatches(max(k, how.ranked)), Peaks(), ClassMeans(), Features(features), Predictions())
    report = sweep(
        net,
        source,
        found.accumulators(),
        layers=list(dict.fromkeys([*layers, found.features.layer])),
        batch_size=batch_size,
        state=store.path / "sweep.safetensors",
        watch=watch.named("sweep"),
    )
    check_any_read(report, source)
    predictions = found.predictions.result()
    rows = list(net.layers.only(layers).maps().evenly(MAP_LAYERS))
    by_image = {
        int(i): (classes.tolist(), probabilities.tolist())
        for i, classes, probabilities in zip(
            predictions.ids, predictions.classes, predictions.probabilities, strict=True
        )
    }
    write_images(store, net, source, rows, by_image, watch)
    strips = _write_units(store, net, layers, found, k, watch)
    _write_neighbors(store, found, watch)
    projected = _write_projections(store, net, source, layers, project, batch_size, watch)
    mapped = None
    if map_by is not None:
        mapped = write_map(store, map_by, found.features.layer, watch)
    made: Mapping[str, dict[str, Any]] = {}
    if how.layers:
        top = {name: found.patches.result()[name] for name in layers}
        read = pixel_reader(source, net.inputs.size, net.inputs.channels)
        made = write_synthesized(store, net, how, top, list(by_image), read, watch)
    document = network_document(
        net, source, layers, rows, strips, by_image, report.skipped, k, projected, how, made, mapped
    )
    store.drop("provenance")
    store.write("provenance", pa.table({"network": [json.dumps(document)]}))
    (store.path / "sweep.safetensors").unlink(missing_ok=True)
    store.finish(out, identity)
    return replace(_report_of(out, time.monotonic() - start), fresh=True)


def _features(net: Network, layers: Sequence[str] | None) -> str:
    """The layer by which images are neighbors: the features; where they can't be told, the last of those given."""
    try:
        return net.layers.features().name
    except InputError:
        if not layers:
            raise
        return net.layers.only(layers).last.name


def _identity(net: Network, source: ImageSource, layers: Sequence[str], k: int, project: Rule | None) -> dict[str, Any]:
    """What makes an atlas the same one, as it comes back from JSON."""
    identity = {
        "network": net.fingerprint(),
        "name": net.name,
        "labels": net.labels,
        "source": source.spec,
        "images": source.fingerprint(),
        "layers": layers,
        "k": k,
        "project": project,
        "format": FORMAT,
    }
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def _report_of(out: Path, seconds: float) -> BuildReport:
    """The report of an atlas that lies there."""
    network = Store.open(out).network
    skipped = tuple(Skipped(s["id"], s["name"], s["reason"]) for s in network["skipped"])
    units = sum(layer["shape"][0] for layer in network["layers"])
    missing = network["projections"]["missing"]
    return BuildReport(out, network["images"], len(network["layers"]), units, seconds, skipped, missing, fresh=False)


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
    store: Store, net: Network, layers: Sequence[str], found: _Found, k: int, watch: Watch
) -> list[dict[str, Any]]:
    """Tables `units`, `patches` and `tiles`; returns what the network page tells of each layer's channels."""
    for table in ("units", "patches", "tiles"):
        store.drop(table)
    photographs = Photographs(store)
    peaks, patches, classes = found.peaks.result(), found.patches.result(), found.classes.result()
    strips = []
    for i, name in enumerate(watch.each("layers", layers)):
        statistics = peaks[name]
        units = unit_rows(i, statistics, *(a.numpy() for a in classes[name]))
        values, images, positions = (t.numpy()[:, :k] for t in patches[name])
        best = patch_rows(
            i, net.layers[name].receptive_field, (values, images, positions), statistics.minimum, net.inputs.size
        )
        store.write("units", units)
        store.write("patches", best)
        store.write("tiles", tile_rows(i, net.layers[name].channels, best, photographs, net.inputs.size))
        dead = statistics.maximum <= 0
        strips.append({"dead": int(dead.sum()), "typical": typical(statistics.maximum, dead)})
    return strips


def _write_projections(
    store: Store,
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    project: Rule | None,
    batch_size: int,
    watch: Watch,
) -> Projected:
    """Tables `projections` and `alike`, where the rule has something to act on."""
    if project is None:
        return Projected()
    if not rectifies(net):
        return Projected(missing=str(no_rectifier(net, project)))
    read = pixel_reader(source, net.inputs.size, net.inputs.channels)
    return Projected(project, None, write_projections(store, net, layers, read, project, batch_size, watch))


def _write_neighbors(store: Store, found: _Found, watch: Watch) -> None:
    """Tables `features` and `neighbors`."""
    part = watch.part("neighbors", 2)
    ids, vectors = found.features.result()
    for table in ("features", "neighbors"):
        store.drop(table)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    store.write("features", pa.table({"id": pa.array(ids, pa.int64()), "vector": vector}))
    store.write("neighbors", neighbor_rows("features", ids, vectors))
    part.advance()
    thumbs = sorted(store.rows("images", columns=["id", "thumb"]), key=lambda row: row["id"])
    pixels = np.stack([np.frombuffer(row["thumb"], dtype=np.uint8) for row in thumbs]).astype(np.float32) / 255
    store.write("neighbors", neighbor_rows("pixels", np.array([row["id"] for row in thumbs]), pixels))
    part.advance()
