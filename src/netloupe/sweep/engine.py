"""One pass over a data set that feeds any number of accumulators."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS, Reader
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, Skipped
from netloupe.sweep.accumulator import Accumulator, Listener, Scribe, Sink, State, written_by
from netloupe.sweep.blocks import Block, DataSet
from netloupe.sweep.checkpoint import Checkpoint, Cursor
from netloupe.sweep.maps import Maps

if TYPE_CHECKING:
    import pyarrow as pa

BLOCKS = 64  # of a shard

Span = tuple[int, int]
"""The first id of a shard, and the one after its last."""


@dataclass(frozen=True)
class Report:
    """What a sweep did.

    images: how many were taken in, `resumed` of them by earlier runs of the same sweep. skipped: the broken ones.
    seconds: of this run.
    """

    images: int
    resumed: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class Found:
    """What was found in one shard, the ids from `begin` to before `end`.

    states: of each accumulator, by name. rows: of the scribes, by table.
    """

    begin: int
    end: int
    images: int
    skipped: tuple[Skipped, ...]
    states: Mapping[str, State]
    rows: Mapping[str, pa.Table]


@dataclass(frozen=True)
class SoFar:
    """What a sweep that goes on has taken in: `images` before the id `next_id`, and others that are broken."""

    next_id: int
    images: int
    skipped: tuple[Skipped, ...]
    _whole: Mapping[str, Accumulator]
    _shard: Mapping[str, Accumulator]

    def of(self, name: str) -> Any:
        """An accumulator of its own that holds what the one of this name and its shard do."""
        found = self._whole[name].fresh()
        found.load(self._whole[name].state())
        found.merge(self._shard[name])
        return found


class Engine(Protocol):
    """Other processes that take in whole shards."""

    def shards(
        self,
        net: Network,
        source: ImageSource,
        layers: Sequence[str],
        accumulators: Mapping[str, Any],
        scribes: Sequence[Scribe],
        spans: Sequence[Span],
        check_finite: bool,
    ) -> Generator[Found, None, None]:
        """What accumulators, of which the specs are given, find in each of the spans, in their order.

        And what copies of the scribes write.
        """


_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def swept_by(engine: Engine | None) -> Iterator[None]:
    """Sweeps over sources of images inside it are run by this engine; None for this process."""
    token = _engine.set(engine)
    try:
        yield
    finally:
        _engine.reset(token)


@holding("state", "sweep")
def sweep(
    net: Network,
    source: ImageSource | Tensor,
    accumulators: Mapping[str, Accumulator],
    *,
    layers: Sequence[str] | None = None,
    sink: Sink | None = None,
    batch_size: int = 32,
    state: str | Path | None = None,
    save_every: float = 20.0,
    check_finite: bool = True,
    glance: Callable[[SoFar], None] | None = None,
    watch: Watch = SILENT,
) -> Report:
    """Show every image to the network once, and the outputs of `layers` (all for None) to the accumulators.

    source: an image source, whose broken images are left out and reported, or a tensor (N, C, H, W) in [0, 1].
    batch_size: images decoded together. The network itself runs on blocks of fixed ids (see `DataSet`), so results
    are bitwise the same for any `batch_size`, and on the same machine with the same number of threads. They are the
    merge, in order, of what each shard, a fixed range of ids, gives by itself, whatever reads it, wherever it was cut.
    state: a file in which the sweep saves itself each `save_every` seconds; the same call goes on from there, with
    the same results as if it had never stopped. check_finite: False hands on activations that are not finite, for
    accumulators that keep images apart and callers that sort those out.
    sink: takes the rows that its scribes make of each image, for instance into a store. What was taken in before a
    saved state lies there when the sweep goes on from it. glance: is shown after each block but the last what was taken
    in, after each shard where an engine (`swept_by`) goes through them.

    Raises UnknownName for a layer that is not there, InputError for images that can't be used, NetworkError for an
    activation that is not finite (judged by each channel's peak), StoreError for a state that can't be written or
    belongs to another sweep.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} (accepted: 1 or more)")
    start = time.monotonic()
    names = list(net.layers) if layers is None else [net.layer(name).name for name in layers]
    data = DataSet(net, source)
    size = BLOCKS * data.block
    shard = {name: accumulator.fresh() for name, accumulator in accumulators.items()}
    held = {**accumulators, **{f"shard/{name}": accumulator for name, accumulator in shard.items()}}
    done = Cursor()
    checkpoint = None
    if state is not None:
        identity = {
            "network": net.fingerprint(),
            "source": data.stamped(),
            "layers": names,
            "accumulators": {name: accumulator.spec() for name, accumulator in accumulators.items()},
            "block size": data.block,
            "shard size": size,
        }
        checkpoint = Checkpoint(Path(state), identity, held, save_every)
        done = checkpoint.load()
        checkpoint.save(done)  # a disk that can't be written shows now
    resumed = done.images
    part = watch.part("images", len(data), done.next_id)
    engine = None if isinstance(source, Tensor) else _engine.get()
    scribes = () if sink is None else sink.scribes

    def took(rows: Mapping[str, pa.Table]) -> None:
        """What there is by now is kept, from time to time, told and shown."""
        if sink is not None:
            sink.put(rows)
        if done.next_id == len(data) or (checkpoint is not None and checkpoint.due()):
            if sink is not None:
                sink.flush()
            if checkpoint is not None:
                checkpoint.save(done)
        part.at(done.next_id)
        if glance is not None and done.next_id < len(data):
            glance(SoFar(done.next_id, done.images, done.skipped, accumulators, shard))

    while done.next_id < len(data) and (engine is None or done.next_id % size):  # one that was begun is ended here
        end = min((done.next_id // size + 1) * size, len(data))
        run = Pass(net, data, names, [*shard.values(), *scribes], check_finite)
        for block in data.blocks(done.next_id, end, batch_size):
            run(block)
            done = Cursor(block.end, done.images + len(block.ids), done.skipped + block.skipped)
            if block.end == end:
                for name, accumulator in accumulators.items():
                    accumulator.merge(shard[name])
                    shard[name] = held[f"shard/{name}"] = accumulator.sequel()
            took(written_by(scribes))
    if engine is not None and isinstance(source, ImageSource) and done.next_id < len(data):
        spans = [(first, min(first + size, len(data))) for first in range(done.next_id, len(data), size)]
        specs = {name: accumulator.spec() for name, accumulator in accumulators.items()}
        with closing(engine.shards(net, source, names, specs, scribes, spans, check_finite)) as shards:
            for found in shards:
                for name, accumulator in accumulators.items():
                    shard[name].load(found.states[name])
                    accumulator.merge(shard[name])
                    shard[name] = held[f"shard/{name}"] = accumulator.fresh()
                done = Cursor(found.end, done.images + found.images, done.skipped + found.skipped)
                took(found.rows)
    return Report(done.images, resumed, done.skipped, time.monotonic() - start)


def check_any_read(report: Report, source: ImageSource | Tensor) -> None:
    """Raise InputError if a sweep took in no image at all, with the reason for the first."""
    if report.images == 0:
        spec = "the tensor" if isinstance(source, Tensor) else repr(source.spec)
        reason = f": {report.skipped[0].reason}" if report.skipped else ""
        raise InputError(f"none of {len(source)} images of {spec} can be read{reason}")


class Pass:
    """Runs the network on one block at a time and hands each layer's output to those that read it."""

    def __init__(
        self,
        net: Network,
        data: DataSet,
        layers: Sequence[str],
        listeners: Sequence[Listener],
        check_finite: bool,
    ) -> None:
        self._net = net
        self._finite = check_finite
        self._data = data
        self._listeners = listeners
        self._maps: dict[str, Maps] = {}  # of this block, until the last layer that hands on the same tensor
        self._unread: set[str] = set()
        self._wanted: dict[str, list[Listener]] = {}
        for listener in listeners:
            for layer in listener.reads(layers, data.labels is not None):
                if layer == LOGITS and isinstance(listener, Accumulator):  # which takes the answer for class logits
                    net.head.classes("a sweep over what is predicted")
                self._wanted.setdefault(net.layer(layer).name if layer != LOGITS else LOGITS, []).append(listener)
        same = {layer: net.layers[layer].same_as for layer in self._wanted if layer != LOGITS}
        self._same_as = {layer: first for layer, first in same.items() if first in self._wanted}
        self._repeats = {first: [k for k, v in self._same_as.items() if v == first] for first in self._same_as.values()}

    def __call__(self, block: Block) -> None:
        if len(block.ids) == 0 or not self._wanted:
            return
        self._block = block
        for listener in self._listeners:
            listener.begin_batch(block)
        labels = self._data.labels
        self._block_labels = np.full(len(block.ids), -1) if labels is None else labels[block.ids]
        self._unread = set(self._wanted)
        readers = {layer: self._reader(layer) for layer in self._wanted}  # held, they and this would hold each other
        with torch.no_grad():
            self._net.run(block.images, readers)
        if self._unread:
            ids = f"{block.ids[0]} to {block.ids[-1]}"
            raise NetworkError(f"{self._net.name} did not run layer {min(self._unread)!r} on images {ids}")
        self._maps.clear()
        for listener in self._listeners:
            listener.end_batch()

    def _reader(self, layer: str) -> Reader:
        wanted = self._wanted[layer]

        def read(output: Tensor) -> None:
            maps = self._maps_of(layer, output)
            if self._finite:
                self._check_finite(layer, maps)
            for listener in wanted:
                listener.update(layer, maps)
            self._unread.discard(layer)
            first = self._same_as.get(layer)
            if first is not None and self._unread.isdisjoint(self._repeats[first]):
                self._maps.pop(first, None)  # so that its memory can be taken for what comes next

        return read

    def _maps_of(self, layer: str, output: Tensor) -> Maps:
        earlier = self._maps.get(self._same_as.get(layer, layer))
        if earlier is not None and earlier.output is output:
            return earlier
        ids = self._block.ids
        maps = Maps(output, ids, self._block_labels, self._block.rows, self._data.photographs[ids])
        if layer in self._repeats:
            self._maps[layer] = maps
        return maps

    def _check_finite(self, layer: str, maps: Maps) -> None:
        if np.isfinite(maps.peak).all():
            return
        numbers = maps.peak.reshape(len(maps.peak), -1)
        row, channel = (int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
        where = f"layer {layer!r}, channel {channel}" if layer != LOGITS else f"the answer, number {channel}"
        image = self._data.name(int(maps.ids[row]))
        raise NetworkError(f"{self._net.name}: activation {numbers[row, channel]} in {where}, for {image}")
