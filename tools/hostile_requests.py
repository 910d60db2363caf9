"""Requests that nobody means well with, drawn by a seed, and what may be answered to them."""

from __future__ import annotations

import gzip
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from trials import Log, Trial

PER_TRIAL = 100
LIVE = ("live/studio.json", "live/photo", "live/photo/1.webp", "live/look", "live/jobs", "live/jobs/1/events")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "G" * 300)
SEGMENTS = (
    "..",
    ".",
    "",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%",
    "%zz",
    "~root",
    "etc",
    "passwd",
    "atlas.json",
    "journal.json",
    "static",
    "data",
    "tiles",
    "img",
    "network.json",
    "0.webp",
    "-1.json",
    "999999999999.json",
    "1e9.json",
    "conv1",
    "conv1%00",
    "1 OR 1=1",
    "' OR ''='",
    "; DROP TABLE images",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "a" * 3000,
    "é",
    "%ff%fe",
    "images.lance",
    "..\\..\\windows",
    "C:",
    "//evil.example",
    "build.py",
    "main.js",
    "api.js%3fv=1",
    "__init__.py",
)
HEADERS = (
    ("Range", "bytes=0-10"),
    ("Range", "bytes=-1"),
    ("Range", "bytes=99999999999999999999-"),
    ("Range", "bytes=5-1,7-,x"),
    ("If-None-Match", "*"),
    ("If-None-Match", '"' * 500),
    ("If-Modified-Since", "never"),
    ("Accept-Encoding", "gzip;q=0, br, *"),
    ("Accept-Encoding", ",,;;gzip"),
    ("Content-Length", "5"),
    ("Content-Type", "multipart/form-data"),
    ("Cookie", "a=" + "b" * 5000),
    ("X-Forwarded-Host", "evil.example"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Expect", "100-continue"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Authorization", "Basic eA=="),
    ("X-Long", "y" * 20000),
    ("Accept", "\x7f\x80"),
    ("Content-Length", "-1"),
    ("Content-Length", "99999999999999999999"),
)
FOREIGN = (
    ("Host", "evil.example"),
    ("Host", "127.0.0.1.evil.example"),
    ("Host", "localhost@evil.example"),
    ("Host", ""),
    ("Host", "[::1"),
    ("Host", "10.0.0.1"),
    ("Host", "localhost.evil.example:80"),
    ("Host", "a" * 4000),
    ("Origin", "https://evil.example"),
    ("Origin", "null"),
    ("Origin", "http://[::1"),
    ("Origin", "http://localhost:1"),
    ("Origin", "file://"),
)


class Hostile(NamedTuple):
    """A request as it is sent. foreign: it comes by a name or from a page that must not be answered."""

    sent: bytes
    target: str
    foreign: bool


class Answer(NamedTuple):
    """What came back; status 0 for nothing."""

    status: int
    headers: dict[str, str]
    body: bytes


def requests(seed: int, count: int, paths: list[str]) -> Iterator[Hostile]:
    """paths: of what there is, which the drawn ones are bent from."""
    draw = random.Random(seed)
    for _ in range(count):
        target = "/" + (_bent(draw, draw.choice(paths)) if draw.random() < 0.5 else _made(draw))
        method = "GET" if draw.random() < 0.6 else draw.choice(METHODS)
        headers = draw.sample(HEADERS, draw.choice((0, 0, 1, 2)))
        foreign = draw.random() < 0.25
        headers += [draw.choice(FOREIGN)] if foreign else []
        if not any(name == "Host" for name, _ in headers):
            host = draw.choice(("localhost", "127.0.0.1:{port}", "[::1]", "LocalHost:1"))
            own = host == "LocalHost:1" and ("Origin", "http://localhost:1") in headers  # which may ask itself
            headers.insert(0, ("Host", "localhost" if own else host))
        if not any(name == "Connection" for name, _ in headers):
            headers.append(("Connection", "close"))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        yield Hostile("\r\n".join(lines).encode("utf-8"), target, foreign)


def _bent(draw: random.Random, path: str) -> str:
    if draw.random() < 0.4:
        return path
    place = draw.randrange(len(path) + 1)
    return draw.choice(
        (
            path[:place] + draw.choice(SEGMENTS) + path[place:],
            path[:place],
            path + "?" + draw.choice(("v=1", "v=" + "9" * 12, "%", "a=b&" * 400)),
            path.upper(),
            path.replace("/", "//"),
            path.replace("/", "%2f"),
            "static/" + path,
        )
    )


def _made(draw: random.Random) -> str:
    return "/".join(draw.choice(SEGMENTS) for _ in range(draw.randint(1, 6)))


def ask(host: str, port: int, sent: bytes, patience: float = 20) -> Answer:
    """What a server answers to these bytes until it closes the connection, or says nothing more for so many seconds."""
    with socket.create_connection((host, port), timeout=patience) as connection:
        try:
            connection.sendall(sent.replace(b"{port}", str(port).encode()))
        except OSError:
            pass  # hung up on already
        found = b""
        try:
            while more := connection.recv(1 << 16):
                found += more
        except (ConnectionError, TimeoutError):
            pass
    head, _, body = found.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status.split(" ")[1]) if status else 0, headers, body)


def wrong(request: Hostile, answer: Answer, contents: set[bytes]) -> str | None:
    """What of an answer must not be; None where all is well. contents: of all that may be given away."""
    if answer.status >= 500:
        return f"status {answer.status}"
    if answer.status != 0 and answer.headers.get("x-content-type-options") != "nosniff":
        return "no nosniff"
    if answer.status in (200, 206) and request.foreign:
        return "answered a foreign name"
    if answer.status in (200, 206) and answer.body:
        packed = answer.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(answer.body) if packed else answer.body
        return None if body in contents else "gave something that is not in the list"
    return None


def campaign(
    host: str, port: int, seed: int, count: int, resources: dict[str, bytes]
) -> tuple[Counter[int], list[str]]:
    """How often each status came, and what was wrong."""
    statuses: Counter[int] = Counter()
    faults = []
    contents = set(resources.values())
    for request in requests(seed, count, list(resources)):
        answer = ask(host, port, request.sent, patience=0.5)
        statuses[answer.status] += 1
        if fault := wrong(request, answer, contents):
            faults.append(f"{fault}: {request.sent[:300]!r}")
    return statuses, faults


def requested(place: Path, count: int, log: Log) -> Trial:
    """Requests to the server of an atlas, with the studio beside it, as its own process."""
    row, (atlas, resources) = Trial("hostile requests"), _built(place)
    serving = [sys.executable, "-m", "netloupe", "atlas", "serve", str(atlas), "--port", "0"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(urlsplit(server.stdout.readline().split()[0]).port or 0)
        resources |= {path: ask("127.0.0.1", port, _plain(path)).body for path in LIVE}
        for number in range(0, count, PER_TRIAL):
            few = min(PER_TRIAL, count - number)
            row.add(log.trial(row.kind, number, lambda draw: _asked(port, draw.getrandbits(32), few, resources)))  # noqa: B023
        log.say(f"{row.tries} requests: {len(row.failures)} failures")
        server.terminate()
        told = server.communicate()[1]
    if "Traceback" in told:
        row.failures.append(f"the server said: {told[-400:]}")
    return row


def _plain(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _built(place: Path) -> tuple[Path, dict[str, bytes]]:
    """An atlas, and all that its server may give away."""
    from netloupe.atlas.pages import Pages
    from netloupe.atlas.store import Store

    atlas = place / "served"
    line = ["atlas", "build", "--data", "data", "--size", "32", "--map", "pca", "-o", str(atlas)]
    subprocess.run([sys.executable, "-m", "netloupe", *line], cwd=place, check=True, capture_output=True)
    resources: dict[str, bytes] = {}
    for studio in (False, True):
        pages = Pages(Store.open(atlas), studio=studio)
        found = {path: pages.resource(path) for path in pages.paths()}
        resources |= {f"{path}{'?' * studio}": one[0] for path, one in found.items() if one is not None}
    return atlas, resources


def _asked(port: int, seed: int, count: int, resources: dict[str, bytes]) -> Trial:
    statuses, faults = campaign("127.0.0.1", port, seed, count, resources)
    return Trial("", count, sum(statuses[status] for status in range(400, 500)), statuses[0], faults)
