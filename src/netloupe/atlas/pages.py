"""From a store to the resources that the page asks for; the paths and their contents are in docs/architecture.md.

The server answers requests with `Pages.resource`, the export writes every path of `Pages.paths` to a file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from netloupe.atlas.parts import PARTS
from netloupe.atlas.parts.part import WORD
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError
from netloupe.core.numbers import spelled

_PICTURES = {"jpg": "image/jpeg", "webp": "image/webp"}
PACKED = tuple(_PICTURES.values())
"""Media types of what does not get smaller."""


class Pages:
    """The resources of one store; without one, the page alone. Safe to use from several threads.

    studio: the page is told that there is one, and whether there is an atlas beside it.
    """

    def __init__(self, store: Store | None, studio: bool = False) -> None:
        self.store, self._studio = store, studio
        self._lock = threading.Lock()
        self._resources = [] if store is None else [one for part in PARTS for one in part(store).resources()]
        self._patterns = [re.compile(WORD.sub(_group, re.escape(resource.path))) for resource in self._resources]

    @cached_property
    def _layers(self) -> dict[str, int]:
        layers = [] if self.store is None else self.store.network["layers"]
        return {layer["name"]: i for i, layer in enumerate(layers)}

    @cached_property
    def version(self) -> str | None:
        """Of the atlas: another has another."""
        return None if self.store is None else self.store.version

    def resource(self, path: str) -> tuple[bytes, str] | None:
        """(content, media type) of a path such as "data/network.json"; None if there is none."""
        if path in ("", "index.html"):
            return _index(None if not self._studio else "alone" if self.store is None else "atlas")
        if path.startswith("static/"):
            return _static(path.rpartition("/")[2]) if _STATIC.fullmatch(path) else None
        with self._lock:
            content = self._content(path)
        if content is None:
            return None
        if isinstance(content, bytes):
            return content, _PICTURES.get(path.rpartition(".")[2], "application/octet-stream")
        return json.dumps(spelled(content), separators=(",", ":")).encode(), "application/json"

    def lasting(self, path: str, query: str) -> bool:
        """Whether what is at this address will never be another: the address names the version of what it gives."""
        if path.startswith("static/"):
            return path.startswith(f"static/{_page_version()}/")
        if path in ("", "index.html", "data/network.json") or (self.store is not None and self.store.grows):
            return False
        return query == f"v={self.version}"

    def _content(self, path: str) -> Any:
        for resource, pattern in zip(self._resources, self._patterns, strict=True):
            if (found := pattern.fullmatch(path)) is not None:
                layer = found.groupdict().get("layer")
                place = [] if layer is None else [self._layers.get(unquote(layer))]
                numbers = [int(n) for name, n in found.groupdict().items() if name != "layer"]
                return None if None in place else resource.read(*place, *numbers)
        return None

    def paths(self) -> Iterator[str]:
        """Every path that has a resource, with names encoded as the page asks for them."""
        yield "index.html"
        yield from (f"static/{_page_version()}/{name}" for name in _static_names())
        slugs = [quote(name, safe="") for name in self._layers]
        for resource in self._resources:
            for key in resource.listed():
                words = dict(zip(WORD.findall(resource.path), key, strict=True))
                named = {word: slugs[n] if word == "LAYER" else str(n) for word, n in words.items()}
                yield WORD.sub(lambda word, named=named: named[word[0]], resource.path)  # type: ignore[misc]


def _group(word: re.Match[str]) -> str:
    return "(?P<layer>[^/]+)" if word[0] == "LAYER" else f"(?P<{word[0].lower()}>[0-9]{{1,9}})"


def _static_names() -> list[str]:
    root = resources.files("netloupe.atlas") / "static"
    return sorted(f.name for f in root.iterdir() if f.is_file() and f.name != "index.html")


_STATIC = re.compile(r"static/(?:[0-9a-f]{12}/)?[^/]+")


def _page_version() -> str:
    """Of all the page's files together: they stand in a folder of that name, and refer to each other within it."""
    digest = hashlib.sha256()
    for name in _static_names():
        digest.update((resources.files("netloupe.atlas") / "static" / name).read_bytes())
    return digest.hexdigest()[:12]


def _index(studio: str | None) -> tuple[bytes, str] | None:
    """studio: "atlas" or "alone", where there is one."""
    found = _static("index.html")
    if found is None:
        return None
    content, kind = found
    if studio is not None:
        content = content.replace(b"<head>", f'<head>\n  <meta name="netloupe-studio" content="{studio}">'.encode(), 1)
    return content.replace(b'"static/', f'"static/{_page_version()}/'.encode()), kind


def _static(name: str) -> tuple[bytes, str] | None:
    """A file of the page. Only names that are listed there are served, so no path leads elsewhere."""
    if name != "index.html" and name not in _static_names():
        return None
    file = resources.files("netloupe.atlas") / "static" / name
    if not file.is_file():
        raise StoreError(f"the page's file {name!r} is missing from this installation")
    return file.read_bytes(), _MEDIA_TYPES[file.name.rpartition(".")[2]]


_MEDIA_TYPES = {  # not the machine's own table, which may be wrong
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
