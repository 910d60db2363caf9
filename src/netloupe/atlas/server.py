"""Serving an atlas to a browser, on this machine only unless told otherwise."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError, NetloupeError


def application(store: Store) -> FastAPI:
    """The web application: every GET is a resource of `Pages` or a 404."""
    pages = Pages(store)
    app = FastAPI(title="Netloupe", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/{path:path}")
    def get(request: Request, path: str) -> Response:
        # the path as it was sent: a layer's name may hold an encoded slash
        raw = request.scope["raw_path"].split(b"?")[0].decode("ascii", "replace").lstrip("/")
        try:
            found = pages.resource(raw)
        except NetloupeError as error:
            return PlainTextResponse(str(error), status_code=500)
        if found is None:
            return PlainTextResponse(f"no {path!r} in this atlas", status_code=404)
        content, kind = found
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return app


def serve(
    store: str | Path,
    host: str = "127.0.0.1",
    port: int = 8400,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the atlas in a folder until interrupted; port 0 takes a free one.

    ready: called with the address, http://host:port/, once it answers there.

    Raises StoreError if there is no atlas, InputError if the port is taken or the host is not this machine's.
    """
    opened = Store.open(store)
    opened.network  # noqa: B018 reads in the library behind the tables, so that the first page need not wait for it
    app = application(opened)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise InputError(f"can't listen on {host}:{port}: {'taken; give another --port' if taken else error}") from None
    with listener:
        listener.listen(128)
        if ready is not None:
            name = f"[{host}]" if ":" in host else host
            ready(f"http://{name}:{listener.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
