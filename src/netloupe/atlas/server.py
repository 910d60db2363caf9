"""Serving an atlas to a browser, on this machine only unless told otherwise."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from netloupe.atlas.filling import Filling
from netloupe.atlas.guard import HEADERS, Guard, Hosts
from netloupe.atlas.pages import PACKED
from netloupe.atlas.served import Late, Replaced, Served
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError, NetloupeError

_PATIENCE = 10  # s, for the head of a request
_WORTH = 1000  # bytes: smaller answers are not compressed
_YEAR = 31_536_000  # s


def application(
    atlas: Store | Filling | Served | None, hosts: Hosts | None = None, studio: APIRouter | None = None
) -> FastAPI:
    """The web application: every GET is a resource of `Pages` or a 404, and all answers go through `Guard`.

    studio: what answers the page's live part, with an atlas or without one.
    """
    app = FastAPI(title="Netloupe", docs_url=None, redoc_url=None, openapi_url=None)
    served = atlas if isinstance(atlas, Served) else Served(atlas, studio=studio is not None)
    app.add_middleware(Guard, hosts=Hosts() if hosts is None else hosts)

    if studio is not None:
        app.include_router(studio)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"])
    def get(request: Request, path: str) -> Response:
        # the path as it was sent: a layer's name may hold an encoded slash
        raw = request.scope["raw_path"].split(b"?")[0].decode("ascii", "replace").lstrip("/")
        try:
            found = served.answer(raw, request.scope["query_string"].decode("ascii", "replace"))
        except Replaced as error:
            return PlainTextResponse(str(error), status_code=409)
        except Late as error:
            return PlainTextResponse(str(error), status_code=503)
        except NetloupeError as error:
            return PlainTextResponse(str(error), status_code=500)
        if found is None:
            return PlainTextResponse(f"no {path!r} here", status_code=404)
        return _answer(request, *found)

    return app


def _answer(request: Request, content: bytes, kind: str, lasting: bool) -> Response:
    """What was asked for; lasting: it is never another at this address."""
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
    kept = f"public, max-age={_YEAR}, immutable" if lasting else "no-cache"
    headers = {"ETag": tag, "Cache-Control": kept, "Vary": "Accept-Encoding"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    encodings = [one.partition(";")[0].strip() for one in request.headers.get("accept-encoding", "").split(",")]
    if "gzip" in encodings and len(content) >= _WORTH and kind not in PACKED:
        content = gzip.compress(content, 6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=kind, headers=headers)


class _Prompt(H11Protocol):
    """HTTP/1.1 for those who say what they want within `_PATIENCE`; others are hung up on."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _wait(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        about = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(msg)}\r\nConnection: close\r\n"
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{head}{about}\r\n{msg}".encode("ascii", "replace"))
        self.transport.close()


def configured(app: FastAPI) -> uvicorn.Config:
    """How applications are served."""
    return uvicorn.Config(app, log_level="warning", http=_Prompt, ws="none", port=0, timeout_graceful_shutdown=1)


class _Server(uvicorn.Server):
    """Ends at once: who waits for an atlas that does not answer is told so."""

    def __init__(self, config: uvicorn.Config, served: Served) -> None:
        super().__init__(config)
        self._served = served

    def end(self) -> None:
        """From another thread."""
        self._served.close()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._served.close()
        super().handle_exit(sig, frame)


def serve(
    store: str | Path | None,
    host: str = "127.0.0.1",
    port: int = 8400,
    *,
    allowed: Collection[str] = (),
    studio: APIRouter | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the atlas in a folder, or the studio alone, until interrupted; port 0 takes a free one.

    allowed: names by which it may be called beside those of this machine, as proxies do. studio: see `application`.
    ready: called with the address, http://host:port/, once it answers there.

    Raises StoreError if there is no atlas, InputError if the port is taken or the host is not this machine's.
    """
    opened = None if store is None else Store.open(store)
    if opened is not None:
        opened.network  # noqa: B018 reads in the library behind the tables, so that the first page need not wait for it
    served = Served(opened, studio=studio is not None)
    app = application(served, Hosts(host, allowed), studio)
    with _listening(host, port) as listener:
        if ready is not None:
            ready(_address(listener, host))
        _Server(configured(app), served).run(sockets=[listener])


@contextmanager
def serving(
    filling: Filling,
    port: int = 8400,
    *,
    allowed: Collection[str] = (),
    studio: APIRouter | None = None,
    ready: Callable[[str], None] | None = None,
) -> Iterator[threading.Thread]:
    """Serve an atlas that is made in here, on this machine, from the moment on when there is something of it to see.

    Gives the thread that serves it, and goes on after the atlas is whole; all else as in `serve`.
    """
    host, servers = "127.0.0.1", list[_Server]()

    def run() -> None:
        filling.begun.wait()
        if not over.is_set():
            served = Served(filling, studio=studio is not None)
            servers.append(_Server(configured(application(served, Hosts(host, allowed), studio)), served))
            if ready is not None:
                ready(_address(listener, host))
            servers[0].run(sockets=[listener])

    over = threading.Event()
    with _listening(host, port) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            over.set()
            filling.begun.set()
            for server in servers:
                server.end()
            thread.join(_PATIENCE)


def _address(listener: socket.socket, host: str) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"


def _listening(host: str, port: int) -> socket.socket:
    """Raises InputError if the port is taken or the host is not this machine's."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise InputError(f"can't listen on {host}:{port}: {'taken; give another --port' if taken else error}") from None
    listener.listen(128)
    return listener
