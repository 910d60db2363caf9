"""The server of an atlas: who is answered, what answers say of themselves, and what hostile requests get."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from atlas_helpers import tiny_network, write_photos
from browser_helpers import serving
from netloupe.atlas import server
from netloupe.atlas.build import build
from netloupe.atlas.guard import HEADERS, Hosts, host_name
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.data.open import open_source

sys.path.append(str(Path(__file__).parents[1] / "tools"))

import hostile_requests
from hostile_requests import Answer, ask


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    build(tiny_network(), open_source(write_photos(folder / "photos")), folder / "atlas")
    return folder / "atlas"


@pytest.fixture(scope="module")
def port(atlas: Path) -> Iterator[int]:
    for address in serving(atlas):
        yield int(urlsplit(address).port or 0)


def get(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    given = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return ask("127.0.0.1", port, "\r\n".join(lines).encode())


def test_only_names_of_this_machine_are_answered(port: int) -> None:
    for name in ("localhost", f"LOCALHOST:{port}", "127.0.0.1", "127.8.9.1:80", "[::1]:8400", "localhost."):
        assert get(port, "/data/network.json", Host=name).status == 200, name
    for name in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.7",
        "",
        "a b",
        "x@localhost",
    ):
        answer = get(port, "/data/network.json", Host=name)
        assert answer.status in (400, 403), name
        assert b"labels" not in answer.body
    assert b"by the name 'evil.example'; if it is a proxy's: --allow-host" in get(port, "/", Host="evil.example").body


def test_only_pages_of_this_server_may_ask(port: int) -> None:
    own = f"http://127.0.0.1:{port}"
    assert get(port, "/data/network.json", Origin=own).status == 200
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"http://127.0.0.1:{port}.evil.example",
        "http://[",
    ):
        answer = get(port, "/data/network.json", Origin=origin)
        assert answer.status == 403, origin
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"


def test_names_by_hand() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("Example.ORG.:8400") == "example.org"
    assert host_name("evil.example/..") is None
    proxied = Hosts("127.0.0.1", ["Hub.example"])
    assert proxied.accepts("hub.example")
    assert not Hosts("127.0.0.1").accepts("192.168.0.9")
    assert Hosts("192.168.0.9").accepts("192.168.0.9")
    assert not Hosts("192.168.0.9").accepts("192.168.0.8")
    assert Hosts("0.0.0.0").accepts("192.168.0.9")  # an address can't be made to point elsewhere
    assert Hosts("0.0.0.0").accepts(socket.gethostname().lower())
    assert not Hosts("0.0.0.0").accepts("evil.example")
    assert [Hosts(name).local for name in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_proxy_is_answered_by_the_name_that_was_allowed(atlas: Path) -> None:
    from fastapi.testclient import TestClient

    app = server.application(Store.open(atlas), Hosts(allowed=["hub.example"]))
    client = TestClient(app, base_url="https://hub.example")
    assert client.get("/", headers={"Origin": "https://hub.example"}).status_code == 200
    behind = TestClient(app, base_url="http://localhost:8400")
    assert behind.get("/", headers={"Origin": "https://hub.example"}).status_code == 200
    assert behind.get("/", headers={"Origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nothing", 404), ("/data/network.json", 200)])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_answer_protects_itself(port: int, path: str, status: int, method: str) -> None:
    answer = get(port, path, method)
    assert answer.status == (405 if method == "POST" else status)
    for name, value in HEADERS.items():
        assert answer.headers[name.lower()] == value
    assert (answer.body == b"") == (method == "HEAD")
    if method == "HEAD":
        assert answer.headers["content-length"] == get(port, path).headers["content-length"]


def test_what_never_changes_is_asked_for_once(port: int) -> None:
    page = get(port, "/").body.decode()
    script = page.partition('<script type="module" src="')[2].partition('"')[0]
    assert not script.startswith("/")
    assert "immutable" in get(port, f"/{script}").headers["cache-control"]
    assert "immutable" in get(port, f"/{script.replace('main', 'api')}").headers["cache-control"]
    assert get(port, "/static/000000000000/main.js").headers["cache-control"] == "no-cache"
    assert get(port, "/static/main.js").body == get(port, f"/{script}").body
    network = get(port, "/data/network.json")
    assert network.headers["cache-control"] == "no-cache"
    version = json.loads(network.body)["version"]
    assert "immutable" in get(port, f"/img/0.webp?v={version}").headers["cache-control"]
    assert get(port, "/img/0.webp?v=other").status == 409
    for path in ("/img/0.webp", f"/data/network.json?v={version}", f"/?v={version}"):
        assert get(port, path).headers["cache-control"] == "no-cache", path


def test_text_is_compressed_for_those_who_can_read_it(port: int) -> None:
    plain, small = (get(port, "/data/units/conv2/0.json", Accept_Encoding=how) for how in ("br", "br, gzip;q=0.5"))
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < 0.5 * len(plain.body)
    assert plain.headers["vary"] == small.headers["vary"] == "Accept-Encoding"
    again = get(port, "/data/units/conv2/0.json", Accept_Encoding="gzip", If_None_Match=small.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert "content-encoding" not in get(port, "/img/0.webp", Accept_Encoding="gzip").headers


def test_who_sends_no_request_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(sent)
            while slow.recv(1 << 16):  # ends when the server closes
                pass
    with socket.create_connection(
        ("127.0.0.1", port), timeout=10
    ) as patient:  # an answer does not start the clock again
        for _ in range(2):
            patient.sendall(b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.rstrip().endswith(b"</svg>"):  # head and body may come one by one
                answer += patient.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.4)
        patient.sendall(b"GET / HTTP/1.1\r\nHost:")
        while patient.recv(1 << 16):
            pass


@pytest.mark.parametrize("seed", [0])
def test_hostile_requests_get_nothing(atlas: Path, port: int, seed: int) -> None:
    pages = Pages(Store.open(atlas))
    resources = {path: found[0] for path in pages.paths() if (found := pages.resource(path)) is not None}
    statuses, faults = hostile_requests.campaign("127.0.0.1", port, seed, 400, resources)
    assert faults == []
    for status in (200, 400, 403, 404, 405):
        assert statuses[status] > 0, statuses
    stolen = Answer(200, {"x-content-type-options": "nosniff"}, b"root:x:0:0")
    asked = next(hostile_requests.requests(seed, 1, list(resources)))
    assert hostile_requests.wrong(asked._replace(foreign=False), stolen, set(resources.values())) is not None


def test_another_host_than_this_machine_is_said_in_a_line(atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netloupe.cli.app import app

    monkeypatch.setattr("netloupe.atlas.server.serve", lambda *given, **named: None)
    found = CliRunner().invoke(app, ["atlas", "serve", str(atlas), "--host", "0.0.0.0"])
    line = "0.0.0.0: whoever reaches this machine can see the atlas and its photographs"
    assert line in found.stderr.splitlines()
    here = CliRunner().invoke(app, ["atlas", "serve", str(atlas)])
    assert "whoever reaches this machine" not in here.stderr
