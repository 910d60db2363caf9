"""Who may ask a server, and what each of its answers says: photographs are for those they were meant for.

A page anywhere can have its own name resolve to this machine ("DNS rebinding"), and then reads what a server here
answers. It can't change the names that a browser sends along, so these are checked: `Host`, by which the server was
called, and `Origin`, the page that asks.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",  # the proxies of notebooks frame pages of their own origin
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""On every answer."""

_AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Hosts:
    """By which names a server may be called.

    bound: the address that it listens on; where that is every address of the machine, it may be called by any address
    and by the machine's name. allowed: further names, of proxies before it.
    """

    bound: str = "127.0.0.1"
    allowed: Collection[str] = ()

    def accepts(self, name: str) -> bool:
        """Whether it may be called so: a name or an address, without a port."""
        if name in ("localhost", self.bound.lower()) or self.names(name):
            return True
        address = _address(name)
        if address is None:
            return self.everywhere and name == socket.gethostname().lower()
        return address.is_loopback or self.everywhere

    def names(self, name: str) -> bool:
        """Whether that name was allowed beside those of this machine."""
        return name in {one.lower() for one in self.allowed}

    @property
    def everywhere(self) -> bool:
        """Whether it listens on every address of the machine."""
        address = _address(self.bound)
        return address is not None and address.is_unspecified

    @property
    def local(self) -> bool:
        """Whether it listens to this machine only."""
        address = _address(self.bound)
        return self.bound == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def host_name(authority: str) -> str | None:
    """The name or address in "name:port" or "[address]:port", in small letters; None for what is neither."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else (found[1] or found[2]).lower().rstrip(".")


class Guard:
    """Web applications answer through it: 403 by a name that is not accepted, and `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope))
        app = self.app if refused is None else PlainTextResponse(refused, status_code=403)
        await app(scope, receive, answer)

    def _refused(self, headers: Headers) -> str | None:
        """Why the request is not answered; None where it is."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host_name(host)
        if name is None or not self.hosts.accepts(name):
            return f"this server does not answer by the name {host!r}; if it is a proxy's: --allow-host NAME"
        if origin is None:
            return None
        try:
            page = urlsplit(origin).netloc
        except ValueError:
            page = ""
        own = page.lower() == host.lower() or self.hosts.names(host_name(page) or "")
        return None if own else f"a page of {origin!r} may not ask this server; if it is a proxy's: --allow-host NAME"
