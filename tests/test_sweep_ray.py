"""Sweeps and atlases on Ray: the same bits as here, whatever order shards come in, and whoever is killed."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from netloupe.analysis.patches import top_patches
from netloupe.atlas.build import build
from netloupe.atlas.parts import TABLES
from netloupe.atlas.store import Store
from netloupe.cli.app import main
from netloupe.core.errors import Cancelled, InputError, NetworkError, StoreError
from netloupe.core.network import Network
from netloupe.core.watch import Watch
from netloupe.data.sources import ImageSource
from netloupe.sweep import engine
from netloupe.sweep.checkpoint import Checkpoint
from netloupe.sweep.engine import Found, Report, sweep, swept_by
from netloupe.sweep.ray import RayEngine, _in_order, _Worker
from source_helpers import package
from sweep_helpers import SIDE, Tiny, all_accumulators, assert_equal_results, flat_results, source_of, tiny_network

COUNT = 32 * 9 + 5  # ten shards of one block each


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two processors; its processes find what this one does."""
    found = package("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    found.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield found
    found.shutdown()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """What is compared with what workers find too, and is made before the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BLOCKS", 1)


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


def labeled(broken: tuple[int, ...] = (3, 40, 41, COUNT - 1)) -> ImageSource:
    return source_of(images(), [i % 4 if i % 5 else None for i in range(COUNT)], broken)


def rough(kind: type[Tiny] = Tiny, *more: Any) -> Network:
    """A network whose sums are rounded, so that another order of additions would show."""
    net = tiny_network()
    torch.manual_seed(0)
    module = kind(*more)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return Network(module, net.inputs, name="tiny")


def swept(net: Network, source: ImageSource, **options: Any) -> tuple[Report, dict[str, np.ndarray]]:
    accumulators = all_accumulators()
    report = sweep(net, source, accumulators, **options)
    return report, flat_results(accumulators)


def same(one: tuple[Report, dict[str, np.ndarray]], other: tuple[Report, dict[str, np.ndarray]]) -> None:
    assert (one[0].images, one[0].skipped) == (other[0].images, other[0].skipped)
    assert_equal_results(one[1], other[1])


class Dying(Tiny):
    """Ends its process once in the middle of a shard."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, x: Tensor) -> Tensor:
        die_once(self.mark)
        return super().forward(x)


def die_once(mark: str) -> None:
    """Kill this process where the file `mark` says so; not the one in which the test runs."""
    path = Path(mark)
    if path.exists() and path.read_text() != str(os.getpid()):
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Opener:
    """Opens images, some of which are broken, and ends its process once."""

    def __init__(self, mark: str, broken: tuple[int, ...] = ()) -> None:
        self.mark, self.images, self.broken = mark, images(), broken

    def __call__(self, i: int) -> Image.Image:
        if i == 100 and self.mark:
            die_once(self.mark)
        if i in self.broken:
            raise InputError(f"{i}.png: not an image")
        return Image.fromarray(self.images[i])


def test_the_same_bits_as_here(ray: Any) -> None:
    net, source = rough(), labeled()
    here = swept(net, source)
    assert here[0].skipped
    with swept_by(RayEngine(workers=2)):
        same(here, swept(net, source))
        same(swept(net, source.subset(range(40))), swept(net, source.first(40)))
    with swept_by(RayEngine()):
        patches = top_patches(net, source, layers=["conv1"], k=3)["conv1"]
    assert np.array_equal(patches.images, top_patches(net, source, layers=["conv1"], k=3)["conv1"].images)


def test_killed_workers_change_nothing(ray: Any, tmp_path: Path) -> None:
    marks = [tmp_path / "network", tmp_path / "reading"]
    net = rough(Dying, str(marks[0]))
    source = ImageSource("memory", [f"{i}.png" for i in range(COUNT)], Opener(str(marks[1])))
    here = swept(net, source)
    for mark in marks:
        mark.write_text(str(os.getpid()))
    with swept_by(RayEngine(workers=1)):
        there = swept(net, source)
    assert not any(mark.exists() for mark in marks), "nobody was killed"
    same(here, there)


class Late:
    """Opens images, the first only once one of a later shard was opened."""

    def __init__(self, mark: Path) -> None:
        self.mark, self.images = mark, images()

    def __call__(self, i: int) -> Image.Image:
        if i == 32 * 4:
            self.mark.touch()
        for _ in range(3000 if i == 0 else 0):
            if self.mark.exists():
                break
            time.sleep(0.02)
        return Image.fromarray(self.images[i])


def test_what_is_found_early_waits_with_ray(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []

    def noted(rows: Iterator[Any], spans: Any) -> Iterator[Found]:
        yield from _in_order((came.append(row["begin"]) or row for row in rows), spans)

    monkeypatch.setattr("netloupe.sweep.ray._in_order", noted)
    source = ImageSource("memory", [f"{i}.png" for i in range(COUNT)], Late(tmp_path / "mark"))
    with swept_by(RayEngine(workers=2)):
        there = swept(rough(), source)
    assert came == list(range(0, COUNT, 32)), "the driver would hold what must wait"
    same(swept(rough(), source), there)


class Stops(Watch):
    """Cancels a sweep once some images are done."""

    def __init__(self, at: int) -> None:
        self.at = at

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        if done >= self.at:
            self.cancel()


def test_a_sweep_goes_on_here_or_there(ray: Any, tmp_path: Path) -> None:
    net, source = rough(), labeled()
    here = swept(net, source)
    state = tmp_path / "state"
    there = RayEngine(workers=1)
    for first, second in ((there, None), (None, there)):
        state.unlink(missing_ok=True)
        with swept_by(first), pytest.raises(Cancelled):
            swept(net, source, state=state, save_every=0, watch=Stops(100))
        with swept_by(second):
            report, found = swept(net, source, state=state, save_every=0)
        assert 0 < report.resumed < report.images
        same(here, (report, found))


def pieces(mark: Path | None = None) -> ImageSource:
    """Images of photographs, each in three pieces, with labels; some are broken."""
    opener = Opener("" if mark is None else str(mark), broken=(3, 40, 41, COUNT - 1))
    labels = [i % 4 if i % 5 else None for i in range(COUNT)]
    names = [f"{i}.png" for i in range(COUNT)]
    return ImageSource("memory", names, opener, labels, photographs=[i // 3 for i in range(COUNT)])


HOW: dict[str, Any] = {"k": 3, "map_by": "pca", "map_layers": ("conv1",)}


def tables(store: Path) -> dict[str, list[str]]:
    """All rows of all tables of an atlas, but for the time at which it was made."""
    found = {}
    for table in TABLES:
        rows = Store.open(store).rows(table) if Store.open(store).count(table) else []
        for row in rows if table == "provenance" else ():
            row["network"] = {**json.loads(row["network"]), "created": None}
        found[table] = sorted(map(repr, rows))
    return found


@pytest.fixture(scope="module")
def atlases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """What atlases hold that were built in this process, by the images kept."""
    folder, found = tmp_path_factory.mktemp("here"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "BLOCKS", 1)
        for images in ("all", "shown"):
            build(rough(Dying, str(folder / "none")), pieces(), folder / images, images=images, **HOW)
            found[images] = tables(folder / images)
    return found


@pytest.mark.parametrize("images", ["all", "shown"])
def test_an_atlas_is_the_same_though_workers_are_killed(
    ray: Any, atlases: dict[str, dict[str, list[str]]], tmp_path: Path, images: str
) -> None:
    marks = [tmp_path / "network", tmp_path / "reading"]
    net, source = rough(Dying, str(marks[0])), pieces(marks[1])
    for mark in marks:
        mark.write_text(str(os.getpid()))
    with swept_by(RayEngine(workers=2)):
        build(net, source, tmp_path / "out", images=images, **HOW)
    assert not any(mark.exists() for mark in marks), "nobody was killed"
    found, wanted = tables(tmp_path / "out"), atlases[images]
    empty = {table for table, rows in wanted.items() if not rows}
    assert empty == {"attended", "attentions", "synthesized"}
    assert len(wanted["images"]) == COUNT - 4
    assert len(wanted["pictures"]) == COUNT - 4 if images == "all" else 0 < len(wanted["pictures"]) < COUNT - 4
    for table, rows in wanted.items():
        assert found[table] == rows, table


def test_an_atlas_goes_on_here_or_there(
    ray: Any, atlases: dict[str, dict[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(Checkpoint, "due", lambda _: next(times) % 3 == 2)  # the store is ahead of what was saved
    monkeypatch.setattr("netloupe.atlas.pictures._TOGETHER", 40)
    net, there = rough(Dying, str(tmp_path / "none")), RayEngine(workers=1)
    for number, (first, second) in enumerate(((there, None), (None, there), (there, there))):
        out = tmp_path / str(number)
        with swept_by(first), pytest.raises(Cancelled):
            build(net, pieces(), out, watch=Stops(150), **HOW)
        with swept_by(second):
            build(net, pieces(), out, **HOW)
        assert tables(out) == atlases["all"]


def test_faults_come_back_in_one_line(ray: Any) -> None:
    net = rough()
    source = source_of(images())
    with torch.no_grad():
        net.module.fc.bias[2] = float("nan")
    texts = []
    for there in (None, RayEngine(workers=1)):
        with swept_by(there), pytest.raises(NetworkError) as caught:
            swept(net, source)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]

    def gone(i: int) -> Image.Image:
        raise StoreError("s3://photos/in: can't be reached (no answer)")

    with swept_by(RayEngine(workers=1)), pytest.raises(StoreError, match=r"^s3://photos/in: can't be reached"):
        swept(rough(), ImageSource("s3://photos/in", ["a", "b"], gone))


class OnlyHere:
    """Opens images in this process alone, but for one that is broken."""

    def __init__(self) -> None:
        self.images, self.process = images(), os.getpid()

    def __call__(self, i: int) -> Image.Image:
        if os.getpid() != self.process or i == 3:
            raise InputError(f"{i}.png: no such file")
        return Image.fromarray(self.images[i])


def test_images_that_a_worker_alone_can_not_read_are_not_left_out(ray: Any) -> None:
    source = ImageSource("memory", [f"{i}.png" for i in range(COUNT)], OnlyHere())
    text = r"^0\.png: a worker can't read it \(no such file\), and here it can be \(fix: the same path there\)$"
    with swept_by(RayEngine(workers=1)), pytest.raises(StoreError, match=text):
        swept(rough(), source)


def test_workers_that_are_not_alike(ray: Any) -> None:
    from netloupe.sweep.ray import _ROW, Alike, _versions

    net, source = rough(), labeled()
    settings = {"layers": [], "specs": {}, "scribes": [], "check_finite": True, "threads": 1}
    row = {
        "begin": [0],
        "end": [32],
        "ids": [b""],
        "pixels": [b""],
        "floats": [False],
        "skipped": ["[]"],
        "beside": [b""],
    }
    for versions, hash, text in (
        (
            {**_versions(), "torch": "1.0"},
            net.fingerprint(),
            r"a worker has torch .*, here it is 1\.0 \(fix: install the same\)",
        ),
        (_versions(), "abc", r"a worker has another network \(hash .*, here abc\)"),
    ):
        worker = _Worker(net, source, alike=Alike(versions, os.getcwd()), hash=hash, **settings)
        told = json.loads(worker(pa.table(row, _ROW))["told"][0].as_py())
        assert told["error"] == "NetworkError"
        assert __import__("re").fullmatch(text, told["text"])


def test_workers_without_the_file_of_the_network(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here_alone.py").write_text(
        "from torch import nn\nclass Own(nn.Sequential):\n    pass\n"
        "def make():\n    return Own(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("here_alone").make()
    net = Network(module, tiny_network().inputs, name="own")
    text = r"^a worker can't load the network: No module named 'here_alone' \(fix: install there"
    with swept_by(RayEngine(workers=1)), pytest.raises(NetworkError, match=text):
        swept(net, labeled())
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        Image.fromarray(images()[i]).save(tmp_path / f"{i}.png")
    line = ["patches", "--data", ".", "--model", "here_alone.py:make", "--size", "8", "--engine", "ray", "-l", "0"]
    assert main([*line, "--workers", "1"]) == 0, "a file that was given goes along"
    assert "netloupe:" not in capsys.readouterr().err


def test_shards_are_merged_once_and_in_order() -> None:
    spans = [(0, 2), (2, 4), (4, 5)]

    def row(begin: int) -> dict[str, Any]:
        told = {"end": begin + 2, "images": 2, "skipped": [], "names": [], "tables": []}
        return {"begin": begin, "told": json.dumps(told), "states": b"\x08\0\0\0\0\0\0\0{}      ", "rows": []}

    def order(begins: list[int]) -> list[int]:
        return [found.begin for found in _in_order(iter(map(row, begins)), spans)]

    assert order([4, 0, 0, 2, 4]) == order([0, 2, 0, 4]) == order([4, 2, 2, 0]) == [0, 2, 4]
    assert isinstance(next(_in_order(iter([row(0)]), spans)), Found)
    with pytest.raises(StoreError, match="nothing for 1 of 3 shards"):
        order([4, 0])
    told = json.dumps({"error": "NetworkError", "text": "not finite"})
    found = _in_order(iter([{**row(2), "told": told}, row(0), row(4)]), spans)
    assert next(found).begin == 0, "what lies before a fault is merged first, as here"
    with pytest.raises(NetworkError, match="^not finite$"):
        next(found)


def test_clusters_that_are_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    package("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    mute = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr("netloupe.sweep.ray._SECONDS", 0.5)
    for address, kind, text in (
        (f"127.0.0.1:{port}", StoreError, rf"^no Ray cluster answers at '127\.0\.0\.1:{port}' \("),
        (f"127.0.0.1:{web.server_port}", StoreError, r"^what answers at '127\.0\.0\.1:\d+' is no Ray cluster \("),
        (
            f"127.0.0.1:{mute.getsockname()[1]}",
            StoreError,
            r"^no Ray cluster answers at '127\.0\.0\.1:\d+' \(timed out",
        ),
        ("nowhere", InputError, r"^address 'nowhere' \(accepted: HOST:PORT, or auto\)$"),
    ):
        with pytest.raises(kind, match=text):
            RayEngine(address).checked()
    web.shutdown()
    web.server_close()
    mute.close()
    assert main(["patches", "--address", "auto"]) == 2
    assert "--address and --workers are of a cluster (fix: --engine ray)" in capsys.readouterr().err
    assert main(["patches", "--engine", "ray", "--address", f"127.0.0.1:{port}"]) == 2
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs Ray Data \(fix: pip install 'netloupe\[ray\]'\)"):
        RayEngine().checked()
