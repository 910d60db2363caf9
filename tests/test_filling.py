"""An atlas that is shown while it is made."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from atlas_helpers import tiny_network, write_photos
from netloupe.atlas import build as building
from netloupe.atlas import filling as showing
from netloupe.atlas.build import build
from netloupe.atlas.filling import Filling, shown_in
from netloupe.atlas.pages import Pages
from netloupe.atlas.parts.part import Part, Step
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.sweep import blocks

HOW: dict[str, Any] = {"map_by": "pca", "synthesize": ("conv1",), "steps": 2, "batch_size": 4}
VERSIONED = ("index.html", "static/", "data/network.json")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve images in three blocks, shown after the first."""
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(showing, "EARLY", 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("filling") / "photos", 12)


@pytest.fixture
def source(folder: Path) -> ImageSource:
    return open_source(folder)


def contents(pages: Pages) -> dict[str, bytes]:
    """All that it gives, but what tells when and by which version it was made."""
    found = {path: pages.resource(path) for path in pages.paths() if not path.startswith(VERSIONED)}
    assert all(found.values())
    network = {**pages.store.network, "created": None, "provenance": None}  # type: ignore[union-attr]
    network["layers"] = [{**layer, "synthesized": None} for layer in network["layers"]]  # which says how long it took
    return {path: one[0] for path, one in found.items() if one} | {"network": json.dumps(network).encode()}


class Recording(Filling):
    """Hands each page that is shown to `see`, in the middle of the build."""

    def __init__(self, see: Callable[[Pages], None]) -> None:
        super().__init__()
        self._see = see

    def show(self, store: Store) -> None:
        super().show(store)
        self._see(self.latest)


def built(source: ImageSource, out: Path, where: Filling | None = None, **how: Any) -> Pages:
    if where is None:
        build(tiny_network(), source, out, **HOW | how)
    else:
        with shown_in(where):
            build(tiny_network(), source, out, **HOW | how)
    return Pages(Store.open(out))


def test_after_some_images_it_is_the_atlas_of_these(source: ImageSource, tmp_path: Path) -> None:
    small = built(source.first(4), tmp_path / "small", project=None, map_by=None, synthesize=(), steps=None)
    wanted = {path: one for path, one in contents(small).items() if path != "network"}
    seen: list[dict[str, Any]] = []

    def see(pages: Pages) -> None:
        network = pages.store.network  # type: ignore[union-attr]
        seen.append(network)
        if network["making"]["images"] != 4:
            return
        for path, one in wanted.items():
            found = pages.resource(path)
            if path.startswith("data/image/"):  # neighbors come later
                assert found is not None
                ours, theirs = json.loads(found[0]), json.loads(one)
                assert ours == theirs | {"neighbors": {}}
                assert theirs["neighbors"] != {}
            else:
                assert found == (one, found[1]) if found else None, path
        assert network["images"] == 4
        assert [layer["typical"] for layer in network["layers"]] == [
            layer["typical"]
            for layer in small.store.network["layers"]  # type: ignore[union-attr]
        ]

    whole = built(source, tmp_path / "out", Recording(see))
    assert [one["making"]["images"] for one in seen[:3]] == [0, 4, 12]
    assert {one["making"]["of"] for one in seen} == {12}
    assert seen[0]["images"] == 0
    assert seen[0]["layers"][0]["name"] == "conv1"
    assert "making" not in whole.store.network  # type: ignore[union-attr]


def test_what_is_shown_of_all_images_is_what_the_atlas_holds_at_the_end(source: ImageSource, tmp_path: Path) -> None:
    early: list[dict[str, Any]] = []

    def see(pages: Pages) -> None:
        making = pages.store.network["making"]  # type: ignore[union-attr]
        if making["images"] == 12:
            found = {path: pages.resource(path) for path in names}
            early.append({"missing": making["missing"], **found})

    plain = built(source, tmp_path / "plain")
    names = [path for path in plain.paths() if not path.startswith(VERSIONED)]
    names = [*names[::5], "projections/conv1/0.webp"]
    whole = built(source, tmp_path / "out", Recording(see))
    assert contents(whole) == contents(plain)
    ends = {path: whole.resource(path) for path in names}
    first = early[0]
    assert {"neighbors", "map", "projections/conv1", "synthesized/conv1/0"} <= set(first["missing"])
    at_once = ("tiles/", "strips/", "data/layer/", "img/", "maps/", "data/images/", "data/units/conv2/")
    assert {path.split("/")[0] for path in names if path.startswith(at_once)} == {
        "tiles",
        "strips",
        "img",
        "maps",
        "data",
    }
    for state in early:
        lacking = state["missing"]
        for path in names:
            name, _, rest = path.partition("/")
            there = path.startswith(at_once)
            there |= name == "projections" and f"projections/{rest.rpartition('/')[0]}" not in lacking
            there |= path.startswith(("data/map", "sprites/")) and "map" not in lacking
            there |= path.startswith("data/image/") and "neighbors" not in lacking
            there |= name in ("synthesized", "synthesis") and "synthesized/conv1/0" not in lacking
            if there:
                assert state[path] == ends[path], path
    assert first["projections/conv1/0.webp"] is None
    lengths = [len(state["missing"]) for state in early]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1] > 0 or lengths[-1] == 1


@pytest.mark.parametrize("images", ["shown", "none"])
def test_of_an_atlas_that_keeps_few_pictures_or_none(source: ImageSource, tmp_path: Path, images: str) -> None:
    seen: list[tuple[int, str, bool]] = []

    def see(pages: Pages) -> None:
        network = pages.store.network  # type: ignore[union-attr]
        pictured = pages.resource("strips/conv1.webp") is not None
        assert pages.resource("tiles/conv2/0.webp") is None or pictured
        seen.append((network["making"]["images"], network["pictures"]["of"], pictured))

    how: dict[str, Any] = {"images": images, "synthesize": (), "steps": None}
    assert contents(built(source, tmp_path / "out", Recording(see), **how)) == contents(
        built(source, tmp_path / "plain", **how)
    )
    assert seen[0] == (0, "none", False)
    assert seen[1] == (4, "none", False)  # those that are shown are chosen once all are in
    assert set(seen[2:]) == {(12, images, images == "shown")}


def in_any_order(seed: int) -> Callable[[Sequence[tuple[Part, Step]], Sequence[str]], int]:
    """Any step whose needs are met, drawn by the seed."""
    draw = random.Random(seed)

    def choose(waiting: Sequence[tuple[Part, Step]], wanted: Sequence[str]) -> int:
        keys = {part.key(step.key) for part, step in waiting}
        ready = [i for i, (part, step) in enumerate(waiting) if keys.isdisjoint(map(part.key, step.needs))]
        return draw.choice(ready)

    return choose


def test_in_whatever_order_and_however_often_killed_it_is_the_same(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = contents(built(source, tmp_path / "plain"))
    put, orders = Store.put, []

    class Killed(BaseException):
        pass

    def killing(self: Store, rows: Any, step: str | None = None) -> None:
        put(self, rows, step)
        if step is not None:
            order.append(step)
        if len(order) >= most:
            raise Killed

    monkeypatch.setattr(Store, "put", killing)
    for most in (1000, 5):
        out, order = tmp_path / f"out{most}", list[str]()
        for seed in range(40):
            monkeypatch.setattr(building, "_next", in_any_order(seed + most))
            order.clear()
            try:
                found = built(source, out, Filling())
                break
            except Killed:
                continue
        orders.append(list(order))
        assert contents(found) == plain
    assert seed > 1
    assert orders[0] != orders[1]


def test_what_a_page_waits_for_is_made_first(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    do = building._do
    monkeypatch.setattr(building, "_do", lambda part, step: (steps.append(part.key(step.key)), do(part, step)))
    where = Filling()
    where.document("want=map,projections%2Fconv2")
    built(source, tmp_path / "out", where)
    after = steps[steps.index("Units: channels of fc") + 1 :]
    assert after[:3] == ["Layout: features", "Layout: pixels", "Layout: sheets"]
    assert after[3] == "Projections: conv2"
    assert after[4] == "Images: neighbors in features"
    assert steps[-1] == "NetworkPage: document"


def test_a_page_that_is_gone_wants_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Filling()
    where.document("want=map")
    where.document("want=neighbors")
    assert where.wanted() == ["neighbors", "map"]
    monkeypatch.setattr(showing, "_RECENTLY", -1.0)
    assert where.wanted() == []
    where.document("want=" + ",".join(map(str, range(1000))))
    monkeypatch.setattr(showing, "_RECENTLY", 60.0)
    assert len(where.wanted()) == 64


def test_the_server_goes_from_version_to_version_and_to_the_whole(source: ImageSource, tmp_path: Path) -> None:
    answers: list[tuple[str, int, bytes]] = []
    versions: list[str] = []
    http: TestClient | None = None

    def see(pages: Pages) -> None:
        nonlocal http
        http = http or TestClient(application(recording), base_url="http://localhost")
        network = http.get("/data/network.json").json()
        assert network["version"] == http.get("/data/making.json").json()["version"]
        if network["version"] not in versions:
            versions.append(network["version"])
        for version in versions[1:]:
            got = http.get(f"/strips/conv1.webp?v={version}")
            assert got.status_code == 200
            assert got.headers["cache-control"] == "no-cache"
            answers.append((version, len(versions), got.content))
            listed = http.get(f"/data/images/0.json?v={version}").json()["images"]
            assert len(listed) == (4 if version == versions[1] else 12)  # whatever has come since
        assert http.get("/strips/conv1.webp?v=0123").status_code == 409

    recording = Recording(see)
    built(source, tmp_path / "out", recording)
    assert http is not None
    assert len(versions) == 3
    assert len({content for version, _, content in answers if version == versions[1]}) == 1
    assert {content for version, _, content in answers if version == versions[1]}.isdisjoint(
        {content for version, _, content in answers if version == versions[2]}
    )
    state = http.get("/data/making.json").json()
    assert (state["whole"], state["missing"], state["progress"]) == (True, [], None)
    last = http.get("/data/network.json").json()
    assert last["version"] == state["version"] == Pages(Store.open(tmp_path / "out")).version
    got = http.get(f"/strips/conv1.webp?v={state['version']}")
    assert "immutable" in got.headers["cache-control"]
    assert http.get(f"/strips/conv1.webp?v={versions[-1]}").content == got.content == answers[-1][2]
    built(source.first(5), tmp_path / "out")
    assert http.get(f"/strips/conv1.webp?v={versions[-1]}").status_code == 409
    plain = TestClient(application(Store.open(tmp_path / "out")), base_url="http://localhost")
    assert plain.get("/data/making.json").status_code == 404


def test_one_that_is_put_in_its_place_is_waited_for(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, finish = Filling(), Store.finish
    asked: list[int] = []

    def finishing(self: Store, *given: Any) -> Store:
        http = TestClient(application(where), base_url="http://localhost")
        http.get("/strips/conv1.webp")
        found = finish(self, *given)  # the folder is elsewhere by now, and the server does not know it
        asking = threading.Thread(target=lambda: asked.append(http.get("/strips/conv1.webp").status_code))
        asking.start()
        threads.append(asking)
        return found

    threads: list[threading.Thread] = []
    monkeypatch.setattr(Store, "finish", finishing)
    built(source, tmp_path / "out", where)
    threads[0].join()
    assert asked == [200]


def test_the_same_atlas_again_is_shown_at_once(source: ImageSource, tmp_path: Path) -> None:
    built(source, tmp_path / "out")
    where = Filling()
    built(source, tmp_path / "out", where)
    assert where.path == tmp_path / "out"
    assert json.loads(where.document(""))["whole"] is True


def test_whoever_opens_one_that_is_being_made_is_told(source: ImageSource, tmp_path: Path) -> None:
    def see(pages: Pages) -> None:
        with pytest.raises(StoreError, match="is being made, or was cut short"):
            Store.open(tmp_path / "out")

    built(source, tmp_path / "out", Recording(see))


TINY = """
from collections import OrderedDict
from torch import nn
def tiny(classes=5):
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(3, 4, 3, padding=1), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 6, 3, padding=1), relu2=nn.ReLU(),
        mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(6, classes)))
"""
SCRIPT = """
import sys
from netloupe.atlas import filling
from netloupe.sweep import blocks
blocks._BLOCK, filling.EARLY = {"cpu": 4}, 0.0
from netloupe.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts `netloupe atlas build --serve` over the photos, with more arguments; gives its process and address."""
    begun: list[subprocess.Popen[str]] = []

    def start(*more: str) -> tuple[subprocess.Popen[str], str]:
        (tmp_path / "tiny.py").write_text(TINY)
        model = ["--model", f"{tmp_path / 'tiny.py'}:tiny", "--weights", "random", "--size", "16"]
        line = ["atlas", "build", *model, "--data", str(folder), "-o", str(tmp_path / "out"), "--serve", "--port", "0"]
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *line, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        begun.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split()[0]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def asked(address: str, path: str) -> Any:
    return json.loads(urllib.request.urlopen(f"{address}{path}").read())


def test_the_command_shows_it_serves_it_and_ends_when_told(server: Callable[..., Any], tmp_path: Path) -> None:
    process, address = server("--map", "none", "--project", "none")
    assert asked(address, "data/network.json")["name"] == "tiny.py:tiny"
    until(lambda: asked(address, "data/making.json")["whole"])
    assert "making" not in asked(address, "data/network.json")
    assert asked(address, "live/studio.json")["name"] == "tiny.py:tiny"
    assert "12 images" in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    assert Store.open(tmp_path / "out").network["images"] == 12


def test_stopped_before_it_is_whole_it_says_what_is_kept(server: Callable[..., Any], tmp_path: Path) -> None:
    process, address = server("--synthesize", "conv2", "--steps", "1000000")
    until(lambda: asked(address, "data/making.json")["images"] == 12)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was made is kept in" in told
    assert "go on with: netloupe atlas build" in told
    assert not (tmp_path / "out").exists()
