"""Sweeps on a Ray cluster: other processes read the images and run the network, shard by shard.

Tasks of Ray Data decode the images of one shard each, a pool of actors runs the network on them and gives back what
each accumulator found in that shard alone, and the rows that scribes made of its images. Ray hands these on in the
order of shards, and holds those that must wait; the driver takes each once and merges them as a sweep on one machine
does, so the results are the same to the last bit.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from netloupe.core import errors
from netloupe.core.errors import InputError, NetloupeError, NetworkError, StoreError, first_line
from netloupe.core.inputs import InputSpec
from netloupe.core.memory import keep_memory
from netloupe.core.network import Network
from netloupe.data.images import plain
from netloupe.data.sources import ImageSource, PixelBatch, Skipped, read_batches
from netloupe.sweep.accumulator import Scribe, make, written_by
from netloupe.sweep.blocks import DataSet
from netloupe.sweep.engine import Found, Pass, Span

_SECONDS = 10  # until a cluster has answered
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2, which a cluster speaks
_SETTINGS = 4  # the kind of the first frame that it answers with
_ALIKE = ("netloupe", "torch", "numpy", "pillow")  # of which results have the bits
_ROW = pa.schema(
    [("begin", pa.int64()), ("end", pa.int64()), ("ids", pa.large_binary()), ("pixels", pa.large_binary()),
     ("floats", pa.bool_()), ("skipped", pa.large_string()), ("beside", pa.large_binary())]
)  # fmt: skip
_FOUND = pa.schema(
    [("begin", pa.int64()), ("told", pa.large_string()), ("states", pa.large_binary()),
     ("rows", pa.list_(pa.large_binary()))]
)  # fmt: skip


@dataclass(frozen=True)
class RayEngine:
    """A cluster. address: of one that runs, "HOST:PORT" or "auto"; None for one of this machine, which ends with us.

    workers: how many processes hold the network; None for as many as there are GPUs or, without, processors.
    """

    address: str | None = None
    workers: int | None = None

    def checked(self) -> RayEngine:
        """Itself. Raises InputError where Ray isn't installed or the address is none, StoreError where none answers."""
        _ray()
        _check_answers(self.address)
        return self

    def shards(
        self, net: Network, source: ImageSource, layers: Sequence[str], accumulators: Mapping[str, Any],
        scribes: Sequence[Scribe], spans: Sequence[Span], check_finite: bool,
    ) -> Generator[Found, None, None]:  # fmt: skip
        """What the accumulators of these specs find, and the scribes write, of each span of ids, in their order."""
        with (
            _cluster(self.address) as ray,
            closing(self._pipeline(ray, net, source, layers, accumulators, scribes, spans, check_finite)) as rows,
        ):
            for found in _in_order(rows, spans):
                _check_broken(source.read_for(net.inputs), found.skipped)
                yield found

    def _pipeline(
        self, ray: Any, net: Network, source: ImageSource, layers: Sequence[str], accumulators: Mapping[str, Any],
        scribes: Sequence[Scribe], spans: Sequence[Span], check_finite: bool,
    ) -> Generator[dict[str, Any], None, None]:  # fmt: skip
        from ray.data import ActorPoolStrategy, TaskPoolStrategy

        threads, cuda = torch.get_num_threads(), net.device.type == "cuda"
        there = ray.cluster_resources()
        cpus = int(there.get("CPU", 1))
        largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1)
        workers = self.workers or max(1, int(there.get("GPU", 0)) if cuda else cpus // threads)
        workers = min(workers, len(spans))
        free = cpus - workers * threads
        settings = {
            "net": ray.put(net), "source": ray.put(source), "layers": list(layers), "specs": dict(accumulators),
            "scribes": list(scribes), "check_finite": check_finite, "threads": threads, "hash": net.fingerprint(),
            "alike": Alike(_versions(), os.getcwd()),
        }  # fmt: skip
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True  # what must wait for others waits with Ray, not here
        with ray.data.DataContext.current(context):
            ids = pa.table({"begin": [span[0] for span in spans], "end": [span[1] for span in spans]})
            found = ray.data.from_arrow([ids.slice(i, 1) for i in range(len(spans))])
            found = found.map_batches(
                _read, batch_size=None, batch_format="pyarrow", num_cpus=1 if free > 0 else 0,
                fn_kwargs={"source": settings["source"], "inputs": net.inputs, "alike": settings["alike"]},
                compute=TaskPoolStrategy(size=max(workers, free)),
            )  # fmt: skip
            found = found.map_batches(
                _Worker, fn_constructor_kwargs=settings, batch_size=None, batch_format="pyarrow",
                compute=ActorPoolStrategy(size=workers), num_cpus=min(threads, largest) if free >= 0 else 0,
                num_gpus=1 if cuda else None,
            )  # fmt: skip
            yield from found.iter_rows()


def _in_order(rows: Iterator[Mapping[str, Any]], spans: Sequence[Span]) -> Iterator[Found]:
    """What workers found, each span once and in order, whatever order it comes in; so too the first error of one."""
    waiting: dict[int, Mapping[str, Any]] = {}
    ahead = [begin for begin, _ in spans]
    for row in rows:
        if row["begin"] in ahead:
            waiting[row["begin"]] = row
        while ahead and ahead[0] in waiting:
            yield _told(waiting.pop(ahead.pop(0)))
    missing = [begin for begin in ahead if begin not in waiting]
    if missing:
        raise StoreError(f"Ray gave nothing for {len(missing)} of {len(spans)} shards")


def _told(row: Mapping[str, Any]) -> Found:
    """Raises the error that a worker met."""
    told = json.loads(row["told"])
    if "error" in told:
        raise getattr(errors, told["error"])(told["text"])
    tensors = safetensors.torch.load(row["states"])
    marks = {name: f"{name}:" for name in told["names"]}
    states = {
        n: {k.removeprefix(mark): t for k, t in tensors.items() if k.startswith(mark)} for n, mark in marks.items()
    }
    skipped = tuple(Skipped(*one) for one in told["skipped"])
    rows = dict(zip(told["tables"], map(_table, row["rows"]), strict=True))
    return Found(row["begin"], told["end"], told["images"], skipped, states, rows)


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, joined to a cluster. Raises InputError where it isn't installed, StoreError where none answers."""
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _join(ray, address)
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        if "No module named 'netloupe'" in str(error):
            raise StoreError("a worker of the cluster lacks netloupe (fix: install the same version there)") from None
        if not isinstance(error.cause, OSError | ray.exceptions.RayError):
            raise  # a fault of ours
        raise StoreError(f"a worker of the cluster: {plain(first_line(error.cause))[:300]}") from None
    except ray.exceptions.RayError as error:
        raise StoreError(f"Ray: {plain(first_line(error))[:300]}") from None
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before it is imported
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--engine ray needs Ray Data (fix: pip install 'netloupe[ray]')") from None
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its progress; ours is told by the watch
    return ray


def _join(ray: Any, address: str | None) -> None:
    _check_answers(address)
    own = {"include_dashboard": False} if address is None else {}
    where = "a cluster of this machine" if address is None else f"the cluster at {plain(address)!r}"
    with tempfile.TemporaryFile() as said:
        try:
            with _stderr_to(said.fileno()):
                ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # no answer, or a full disk
            said.seek(0)
            if b"Unauthenticated" in said.read():
                fix = "RAY_AUTH_MODE=token, and in RAY_AUTH_TOKEN what `ray get-auth-token` tells there"
                raise StoreError(f"{where} asks for its token (fix: {fix})") from None
            raise StoreError(f"{where} can't be used: {plain(first_line(error))[:300]}") from None


@contextmanager
def _stderr_to(file: int) -> Iterator[None]:
    """In here what Ray's own processes and its part in C++ say goes to a file, which no logger passes on."""
    sys.stderr.flush()
    was = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(was, 2)
        os.close(was)


def _check_answers(address: str | None) -> None:
    """Raise StoreError where no one listens at HOST:PORT; InputError for what is no address."""
    if address is None or address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"address {plain(address)!r} (accepted: HOST:PORT, or auto)")
    try:
        with socket.create_connection((host, int(port)), timeout=_SECONDS) as there:
            there.sendall(_HELLO)
            answer = there.recv(9)
    except OSError as error:
        raise StoreError(f"no Ray cluster answers at {plain(address)!r} ({error.strerror or error})") from None
    if answer[3:4] != bytes([_SETTINGS]):
        raise StoreError(
            f"what answers at {plain(address)!r} is no Ray cluster (accepted: HOST:PORT of its head, or auto)"
        )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in _ALIKE}}


@dataclass(frozen=True)
class Alike:
    """In what the workers are as the driver is: its versions, and the folder in which relative paths begin."""

    versions: Mapping[str, str]
    folder: str

    def become(self) -> None:
        """Raise NetworkError in a process of other versions, for its results might be others."""
        own = _versions()
        for name, here in self.versions.items():
            if own[name] != here:
                raise NetworkError(f"a worker has {name} {own[name]}, here it is {here} (fix: install the same)")
        os.chdir(self.folder if Path(self.folder).is_dir() else "/")


def _check_broken(source: ImageSource, skipped: Sequence[Skipped]) -> None:
    """Raise StoreError for an image that a worker can't read and this process can."""
    for one in skipped:
        try:
            source.open(one.id)
        except InputError:
            continue
        reason = one.reason.removeprefix(f"{one.name}: ")
        raise StoreError(
            f"{one.name}: a worker can't read it ({reason}), and here it can be (fix: the same path there)"
        )


def _read(rows: pa.Table, source: Any, inputs: InputSpec, alike: Alike) -> pa.Table:
    """The decoded images of one shard."""
    (row,) = rows.to_pylist()
    try:
        alike.become()
        given: ImageSource = _got(source, "what opens the images").read_for(inputs)
        batches = list(read_batches(given, inputs.size, inputs.channels, start=row["begin"], end=row["end"]))
    except NetloupeError as error:
        return pa.table({**_blank(row), "skipped": [_error(error)]}, _ROW)
    floats = any(batch.pixels.dtype != np.uint8 for batch in batches)
    pixels = [
        one if one.dtype != np.uint8 or not floats else one / np.float32(255) for one in (b.pixels for b in batches)
    ]
    skipped = [[s.id, s.name, s.reason] for batch in batches for s in batch.skipped]
    beside = [given.beside(i) for batch in batches for i in batch.ids.tolist()]
    return pa.table(
        {
            **_blank(row),
            "ids": [np.concatenate([batch.ids for batch in batches]).tobytes()],
            "pixels": [np.concatenate(pixels).tobytes()],
            "floats": [floats],
            "skipped": [json.dumps(skipped)],
            "beside": [_bytes(pa.Table.from_pylist(beside)) if any(beside) else b""],
        },
        _ROW,
    )


def _blank(row: Mapping[str, int]) -> dict[str, list[Any]]:
    blank = {"ids": b"", "pixels": b"", "floats": False, "beside": b""}
    return {"begin": [row["begin"]], "end": [row["end"]], **{name: [value] for name, value in blank.items()}}


def _bytes(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    found: bytes = out.getvalue().to_pybytes()
    return found


def _table(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


def _got(value: Any, what: str) -> Any:
    """What the driver handed out. Raises NetworkError where a worker lacks the file or the package that defines it."""
    if isinstance(value, Network | ImageSource):
        return value
    import ray

    try:
        return ray.get(value)
    except ray.exceptions.RaySystemError as error:  # which is what Ray makes of an ImportError there
        reason = plain(first_line(error)).removeprefix("System error: ")
        raise NetworkError(
            f"a worker can't load {what}: {reason} (fix: install there what is installed here)"
        ) from None


def _error(error: NetloupeError) -> str:
    kind = type(error).__name__
    return json.dumps({"error": kind if hasattr(errors, kind) else "NetloupeError", "text": str(error)})


class _Worker:
    """Holds the network, and takes in shards one by one."""

    def __init__(
        self, net: Any, source: Any, layers: Sequence[str], specs: Mapping[str, Any], scribes: Sequence[Scribe],
        check_finite: bool, threads: int, hash: str, alike: Alike,
    ) -> None:  # fmt: skip
        torch.set_num_threads(threads)
        keep_memory()
        self._refused: NetworkError | None = None
        try:
            alike.become()
            self._net: Network = _got(net, "the network")
            if self._net.fingerprint() != hash:
                raise NetworkError(f"a worker has another network (hash {self._net.fingerprint()}, here {hash})")
            self._data = DataSet(self._net, _got(source, "what opens the images"))
        except NetworkError as error:
            self._refused = error  # which each shard that it is given tells
        self._layers, self._specs, self._scribes, self._check_finite = layers, specs, scribes, check_finite

    def __call__(self, rows: pa.Table) -> pa.Table:
        (row,) = rows.drop_columns(["pixels"]).to_pylist()
        skipped = json.loads(row["skipped"])
        try:
            if self._refused is not None:
                raise self._refused
            told, states, written = (
                (json.dumps(skipped), b"", [])
                if isinstance(skipped, dict)
                else self._shard(row, rows["pixels"][0], skipped)
            )
        except NetloupeError as error:
            told, states, written = _error(error), b"", []
        return pa.table({"begin": [row["begin"]], "told": [told], "states": [states], "rows": [written]}, _FOUND)

    def _shard(
        self, row: Mapping[str, Any], held: pa.Scalar, skipped: Sequence[Sequence[Any]]
    ) -> tuple[str, bytes, list[bytes]]:
        accumulators = {name: make(spec) for name, spec in self._specs.items()}
        scribes = copy.deepcopy(self._scribes)
        listeners = [*accumulators.values(), *scribes]
        run = Pass(self._net, self._data, self._layers, listeners, self._check_finite)
        ids = np.frombuffer(row["ids"], np.int64)
        shape = (len(ids), *self._net.inputs.size, self._net.inputs.channels)
        pixels = np.frombuffer(held.as_buffer(), np.float32 if row["floats"] else np.uint8).reshape(shape)
        batch = PixelBatch(ids, pixels, tuple(Skipped(*one) for one in skipped))
        beside = _table(row["beside"]).to_pylist() if row["beside"] else [{}] * len(ids)
        for block in self._data.cut(batch, row["begin"], row["end"], beside):
            run(block)
        written = written_by(scribes)
        states = {f"{name}:{key}": t for name, a in accumulators.items() for key, t in a.state().items()}
        told = {"end": row["end"], "images": len(ids), "skipped": skipped, "names": list(accumulators)}
        return (
            json.dumps({**told, "tables": list(written)}),
            safetensors.torch.save(states),
            [_bytes(rows) for rows in written.values()],
        )
