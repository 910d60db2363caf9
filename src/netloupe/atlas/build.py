"""Building an atlas: one pass over the images, then what each part makes of it, all into one store.

Killed at any moment, the same call goes on from where it was: the sweep from its saved state, all else from the first
step that the store lacks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from netloupe.analysis.layout.embedding import LEAST, embed_vectors
from netloupe.analysis.layout.task import METHODS
from netloupe.analysis.unproject import named_rule
from netloupe.atlas.making import Making
from netloupe.atlas.parts import PARTS
from netloupe.atlas.store import FORMAT, Store
from netloupe.atlas.synthesis import Synthesis
from netloupe.core.errors import InputError, unknown
from netloupe.core.head import Classes
from netloupe.core.identity import Identity
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.rules import Rule
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, Skipped


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


@holding("out", "atlas build")
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
    The folder appears when all is done. Raises StoreError if `out` holds something else or can't be written,
    UnknownName for a layer, rule or method that is not there, InputError for no readable image.
    """
    start, out, source = time.monotonic(), Path(out), source.read_for(net.inputs)
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    if project is not None:
        named_rule(project)
    _check_method(map_by)
    if isinstance(net.head, Classes):
        net.head.classes("an atlas", 2)
    features = _features(net, layers)
    layers = list(net.layers.distinct()) if layers is None else net.layers.each(layers)
    how = (synthesize if synthesize is not None else Synthesis()).checked(net)
    if missing := [name for name in how.layers if name not in layers]:
        raise InputError(f"images of layer {missing[0]!r}, which the atlas leaves out (accepted: {', '.join(layers)})")
    identity = Identity(
        network=net.fingerprint(),
        name=net.name,
        labels=net.labels,
        source=source.spec,
        images=source.stamped(),
        layers=layers,
        k=k,
        project=project,
        format=FORMAT,
        map=map_by,
        synthesize=asdict(how),
    )
    Store.settle(out)
    if Store.is_of(out, identity):
        return _report_of(out, time.monotonic() - start)
    store = Store.begin(out, identity, {name: columns for part in PARTS for name, columns in part.tables.items()})
    making = Making(net, source, store, layers, features, k, project, map_by, how, batch_size, watch)
    for kind in PARTS:
        part = kind(store)
        for step in part.steps(making):
            key = f"{kind.__name__}: {step.key}"
            if not store.has(key):
                store.put(step.make(), key)
        making.told.append(part.about(making))
    store.finish(out)
    return replace(_report_of(out, time.monotonic() - start), fresh=True)


def _features(net: Network, layers: Sequence[str] | None) -> str:
    """The layer by which images are neighbors: the features; where they can't be told, the last of those given."""
    try:
        return net.layers.features().name
    except InputError:
        if not layers:
            raise
        return net.layers.only(layers).last.name


def _check_method(method: str | None) -> None:
    """Raises UnknownName for a method that is not there, InputError where its package is missing."""
    if method is None:
        return
    if method not in METHODS:
        raise unknown("map method", method, (*METHODS, "none"))
    if method == "umap":  # so that a missing package is known before the sweep
        embed_vectors(np.eye(LEAST["umap"], dtype=np.float32), "umap")


def _report_of(out: Path, seconds: float) -> BuildReport:
    """The report of an atlas that lies there."""
    network = Store.open(out).network
    skipped = tuple(Skipped(s["id"], s["name"], s["reason"]) for s in network["skipped"])
    units = sum(layer["shape"][0] for layer in network["layers"])
    missing = network["projections"]["missing"]
    return BuildReport(out, network["images"], len(network["layers"]), units, seconds, skipped, missing, fresh=False)
