"""An atlas that is replaced or damaged while it is served, and a server that ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from netloupe.atlas.pages import Pages
from netloupe.atlas.served import Late, Replaced, Served
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError
from netloupe.core.identity import Identity

TABLES = {"provenance": "network string"}


def atlas(out: Path, name: str) -> Store:
    """An atlas with nothing in it but its name."""
    network = {
        "name": name, "layers": [], "images": 0, "skipped": [], "map": None, "synthesis": None,
        "projections": {"rule": None}, "per_photograph": None, "unit_map": None,
        "provenance": {"network": {"name": name, "model": None}},
        "labels": [], "source_classes": None, "tile": {}, "maps": {"layers": []},
    }  # fmt: skip
    store = Store.begin(out, Identity(name=name), TABLES)
    store.put({"provenance": [{"network": json.dumps(network)}]}, "document")
    return store.finish(out, {})


def name_of(served: Served, query: str = "") -> str:
    found = served.answer("data/network.json", query)
    assert found is not None
    return str(json.loads(found.content)["name"])


def test_an_atlas_that_was_replaced_is_the_one_that_is_served(tmp_path: Path) -> None:
    served = Served(atlas(tmp_path / "out", "old"))
    old = f"v={Pages(Store.open(tmp_path / 'out')).version}"
    assert name_of(served) == name_of(served, old) == "old"
    atlas(tmp_path / "out", "new")
    assert name_of(served) == "new"
    with pytest.raises(Replaced, match="another atlas lies here by now"):
        served.answer("data/images/0.json", old)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(StoreError, match="no atlas at .* any more"):
        served.answer("data/network.json")
    atlas(tmp_path / "out", "third")
    assert name_of(served) == "third"


def test_one_replaced_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(atlas(tmp_path / "out", "old"))
    read = Pages.resource

    def replaced(pages: Pages, path: str) -> object:
        monkeypatch.setattr(Pages, "resource", read)
        atlas(tmp_path / "out", "new")
        raise StoreError("its files are gone")

    assert name_of(served) == "old"
    monkeypatch.setattr(Pages, "resource", replaced)
    assert name_of(served) == "new"


def test_what_never_answers_is_given_up_and_all_else_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, read, hung = Served(atlas(tmp_path / "out", "a"), patience=0.5), Pages.resource, threading.Event()

    def resource(pages: Pages, path: str) -> object:
        if path.startswith("img/"):
            hung.wait(30)
        return read(pages, path)

    assert name_of(served) == "a"
    monkeypatch.setattr(Pages, "resource", resource)
    behind: list[str] = []

    def ask() -> None:
        with pytest.raises(Late):
            served.answer("img/0.jpg")

    first = threading.Thread(target=ask)
    first.start()
    time.sleep(0.1)
    behind.append(name_of(served))  # waits for the first, and then for nobody
    first.join()
    assert behind == [name_of(served)] == ["a"]
    start = time.monotonic()
    with pytest.raises(Late, match="img/0.jpg takes for ever to be read; build the atlas again"):
        served.answer("img/0.jpg")
    assert time.monotonic() - start < 0.4
    for i in range(1, 8):
        with pytest.raises(Late):
            served.answer(f"img/{i}.jpg")
    threads = threading.active_count()
    with pytest.raises(Late):
        served.answer("data/network.json")
    assert threading.active_count() <= threads
    atlas(tmp_path / "out", "b")
    assert name_of(served) == "b"
    hung.set()


HANGING = """
import sys, threading
from netloupe.atlas.pages import Pages
read = Pages.resource
def resource(pages, path):
    if path.startswith("img/"):
        print("hangs", flush=True)
        threading.Event().wait()
    return read(pages, path)
Pages.resource = resource
from netloupe.cli.app import main
sys.exit(main(["atlas", "serve", sys.argv[1], "--port", "0"]))
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_server_that_hangs_ends_when_it_is_told_to(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    atlas(tmp_path / "out", "a")
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        port = int(server.stdout.readline().split()[0].rpartition(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /img/0.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert server.stdout.readline() == "hangs\n"
            os.kill(server.pid, sent)
            try:
                _, told = server.communicate(timeout=15)
            finally:
                server.kill()
    assert server.returncode == status
    assert len(told.splitlines()) <= 1
