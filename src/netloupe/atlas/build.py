"""Building an atlas: one pass over the images, then what each part makes of it, all into one store.

Killed at any moment, the same call goes on from where it was: the sweep from its saved state, all else from what the
store lacks. In which order the steps were made no atlas tells, so what a page waits for can be made first (`filling`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from netloupe.analysis.attention.placed import attentions
from netloupe.analysis.layout.embedding import LEAST, embed_vectors
from netloupe.analysis.unproject import named_rule
from netloupe.atlas.filling import Showing, filling
from netloupe.atlas.making import NOTHING, Making
from netloupe.atlas.parts import PARTS, TABLES
from netloupe.atlas.parts.part import Part, Step
from netloupe.atlas.store import FORMAT, Store
from netloupe.atlas.synthesis import Synthesis
from netloupe.atlas.task import ALL, NONE, AtlasTask
from netloupe.core.errors import InputError
from netloupe.core.head import Classes
from netloupe.core.identity import Identity
from netloupe.core.lock import held, holding
from netloupe.core.network import Network
from netloupe.core.perform import function_of, provenance_of
from netloupe.core.rules import Rule
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, Skipped
from netloupe.render.pictures import Picture
from netloupe.render.result import Result


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
@function_of(AtlasTask)
def build(
    net: Network,
    source: ImageSource,
    out: str | Path,
    *,
    layers: Sequence[str] | None = None,
    project: Rule | None = "deconvnet",
    map_by: str | None = "tsne",
    watch: Watch = SILENT,
    **settings: Any,
) -> BuildReport:
    """Build the atlas of a network over a source of images into the folder `out`.

    There are no projections either if the rule finds no ReLU in the network. An image of a channel takes about as long
    as hundreds of images take to sweep. For the map see `analysis.layout.embedding`. None is as good as "none".
    The folder appears when all is done. Raises StoreError if `out` holds something else or can't be written,
    UnknownName for a layer, rule or method that is not there, InputError for no readable image.
    """
    settings |= {"project": NONE if project is None else project, "map_by": NONE if map_by is None else map_by}
    task = AtlasTask.of(settings | ({} if layers is None else {"layers": tuple(layers)}))
    return build_as(task, net, source.first(task.first), out, watch)


def build_as(task: AtlasTask, net: Network, source: ImageSource, out: str | Path, watch: Watch = SILENT) -> BuildReport:
    """As `build`, by the settings of a task. source: the images, no more than it takes of them."""
    start, out, source = time.monotonic(), Path(out), source.read_for(net.inputs)
    _check_method(task.map_by)
    if isinstance(net.head, Classes):
        net.head.classes("an atlas", 2)
    features = _features(net, task.layers)
    layers = list(net.layers.distinct()) if task.layers is None else net.layers.each(task.layers)
    named = tuple(layers) if task.synthesize == (ALL,) else task.synthesize
    how = Synthesis(named, task.facets, task.preset, task.steps).checked(net)
    views = [name for name in net.layers.each(task.map_layers) if name != features] if task.map_layers else []
    if missing := [name for name in how.layers if name not in layers]:
        raise InputError(f"images of layer {missing[0]!r}, which the atlas leaves out (accepted: {', '.join(layers)})")
    project = None if task.project == NONE else named_rule(task.project)
    map_by = None if task.map_by == NONE else task.map_by
    identity = Identity(
        network=net.fingerprint(),
        name=net.name,
        labels=net.labels,
        source=source.spec,
        images=source.stamped(),
        layers=layers,
        k=task.k,
        project=project,
        format=FORMAT,
        map=map_by,
        synthesize=asdict(how),
        pictures=task.images,
        **({"map_layers": views} if views else {}),
        **({"attentions": names} if (names := attentions(net)) else {}),
    )
    Store.settle(out)
    if (where := filling()) is not None:
        where.net = net
    if Store.is_of(out, identity):
        if where is not None:
            where.finish(out)
        return _report_of(out, time.monotonic() - start)
    store = Store.begin(out, identity, TABLES)
    about = provenance_of(task, net, {"data": source.record()})
    parts = [kind(store) for kind in PARTS]
    making = Making(
        net,
        source,
        store,
        layers,
        features,
        task.k,
        task.images,
        lambda making: {i for part in parts for i in part.shows(making)},
        project,
        map_by,
        views,
        how,
        about,
        task.batch_size,
        watch,
    )
    showing = Showing(making, where)
    _make(showing.making, parts, showing)
    with showing.ending(out):
        store.finish(out, about)
    return replace(_report_of(out, time.monotonic() - start), fresh=True)


def _make(making: Making, parts: Sequence[Part], showing: Showing) -> None:
    """Make what the store lacks: first what the first page is of, then what it shows, then all else in order."""
    showing.begin(NOTHING)
    for part in parts:
        for step in part.first(making):
            _do(part, step)
    *others, page = parts
    waiting = [(part, step) for part in others for step in part.steps(making) if not part.made(step.key)]
    done: type[Part] | None = None
    while waiting:
        showing.made(making, (step for _, step in waiting), done)
        part, step = waiting.pop(_next(waiting, showing.wanted()))
        done = type(part)
        _do(part, step)
    making.told.extend(part.about(making) for part in parts)
    for step in page.steps(making):
        _do(page, step)


def _next(waiting: Sequence[tuple[Part, Step]], wanted: Sequence[str]) -> int:
    """Which of the steps to make: the first that brings what is wanted most, or what that needs before."""
    keys = [part.key(step.key) for part, step in waiting]
    chosen = next((i for name in wanted for i, (_, step) in enumerate(waiting) if name in step.brings), 0)
    while True:
        part, step = waiting[chosen]
        before = [keys.index(key) for key in map(part.key, step.needs) if key in keys]
        if not before:
            return chosen
        chosen = before[0]


def _do(part: Part, step: Step) -> None:
    if not part.made(step.key):
        part.store.put(step.make(), part.key(step.key))
        step.then()


@dataclass(frozen=True)
class Built(Result):
    """An atlas, which is too large to be held: it is made as it is saved, into a folder that is no list of files."""

    making: AtlasTask
    net: Network = field(repr=False)
    source: ImageSource = field(repr=False)
    watch: Watch = field(repr=False)
    reports: list[BuildReport] = field(default_factory=list, repr=False)

    def pictures(self) -> Mapping[str, Picture]:
        return {}

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {}

    def files(self) -> Iterator[tuple[str, bytes]]:
        return iter(())

    def save(self, folder: str | Path) -> list[Path]:
        with held(folder, self.making.verb):
            self.reports.append(build_as(self.making, self.net, self.source, folder, self.watch))
        return []

    def summary(self) -> dict[str, Any]:
        if not self.reports:
            raise InputError("an atlas is made where it is saved (fix: --out FOLDER)")
        return {**asdict(self.reports[-1]), "path": str(self.reports[-1].path)}

    def remarks(self) -> Sequence[str]:
        found = []
        for report in self.reports[-1:]:
            found += [] if report.no_projections is None else [f"no projections: {report.no_projections}"]
            found += [f"skipped {one.name}: {one.reason}" for one in report.skipped]
        return found


def run(task: AtlasTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Built:
    """The atlas of the images in `data`."""
    return Built(task, net, inputs["data"], watch)


def _features(net: Network, layers: Sequence[str] | None) -> str:
    """The layer by which images are neighbors: the features; where they can't be told, the last of those given."""
    try:
        return net.layers.features().name
    except InputError:
        if not layers:
            raise
        return net.layers.only(layers).last.name


def _check_method(method: str) -> None:
    """Raises InputError where its package is missing."""
    if method == "umap":  # so that a missing package is known before the sweep
        embed_vectors(np.eye(LEAST["umap"], dtype=np.float32), "umap")


def _report_of(out: Path, seconds: float) -> BuildReport:
    """The report of an atlas that lies there."""
    network = Store.open(out).network
    skipped = tuple(Skipped(s["id"], s["name"], s["reason"]) for s in network["skipped"])
    units = sum(layer["shape"][0] for layer in network["layers"])
    missing = network["projections"]["missing"]
    return BuildReport(out, network["images"], len(network["layers"]), units, seconds, skipped, missing, fresh=False)
