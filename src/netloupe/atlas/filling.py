"""An atlas that is shown while it is made: what there is of it by now, and what the page wants first.

Between a build and a server in two threads of one process stands a `Filling`. `Showing` tells it again and again what
the build has made: a `Snapshot` of the store, whose document says under "making" what is not there yet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from netloupe.atlas.pages import Pages
from netloupe.atlas.parts import PARTS, TABLES
from netloupe.atlas.parts.network import NetworkPage
from netloupe.atlas.parts.part import About, Part, Step
from netloupe.atlas.parts.units import Units
from netloupe.atlas.store import Snapshot, Store

if TYPE_CHECKING:
    from netloupe.atlas.making import Found, Making
    from netloupe.core.network import Network

EARLY = 3.0  # s of a sweep after which what it found is shown for the first time
_MORE = 2.5  # times as many images before it is shown again,
_RATHER = 6  # and so many times as long as showing it took
_RECENTLY = 5.0  # s for which a page wants what it asked for
_MOST = 64  # names of what is wanted


class Filling:
    """What a build has made, and what pages want of it. Safe to use from several threads.

    studio: see `Pages`. path: where the atlas lies once it is whole. number: how many times something was shown.
    net: the network that it is of, once that is loaded.
    """

    def __init__(self, studio: bool = False) -> None:
        self.net: Network | None = None
        self.path: Path | None = None
        self.number = 0
        self.begun, self.ending, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._studio = studio
        self._guard = threading.Lock()
        self._latest: Pages | None = None
        self._by_version: dict[str, Pages] = {}
        self._wanted: dict[str, float] = {}
        self._stage: dict[str, Any] | None = None

    def show(self, store: Store) -> None:
        """What there is from now on. What it replaces can still be asked for, by its version."""
        pages = Pages(store, self._studio)
        with self._guard:
            self._by_version[store.version] = self._latest = pages
            self.number += 1
        self.begun.set()

    def finish(self, path: Path) -> None:
        """The whole atlas lies there; whoever asks for what was shown before is given it."""
        pages = Pages(Store.open(path), self._studio)
        version = str(pages.version)
        with self._guard:
            self._by_version = dict.fromkeys([*self._by_version, version], pages)
            self._latest, self.path = pages, path
            self.number += 1
        self.begun.set()
        self.ended.set()

    def hear(self, name: str, done: int, total: int) -> None:
        """So much of a stage of the build is done."""
        self._stage = {"name": name, "done": done, "total": total}

    def wanted(self) -> list[str]:
        """Names of what pages want that show it now, what was asked for last first."""
        since = time.monotonic() - _RECENTLY
        with self._guard:
            self._wanted = {name: at for name, at in self._wanted.items() if at >= since}
            return sorted(self._wanted, key=lambda name: -self._wanted[name])

    @property
    def latest(self) -> Pages:
        """What is shown, once anything is."""
        assert self._latest is not None
        return self._latest

    def earlier(self, version: str, now: Pages) -> Pages | None:
        """What was shown as this version, of the atlas that is shown now."""
        with self._guard:
            known = now.version in self._by_version
            return self._by_version.get(version) if known else None

    def document(self, query: str) -> bytes:
        """`data/making.json`: how far it is. query: with what the page that asks shows that is not there, in `want`."""
        names = [name for text in parse_qs(query).get("want", []) for name in text.split(",")][:_MOST]
        with self._guard:
            self._wanted |= dict.fromkeys(names, time.monotonic())
            pages = self._latest
        network = {} if pages is None or pages.store is None else pages.store.network
        found = network.get("making") or {"images": None, "of": None, "missing": []}
        version = None if pages is None else pages.version
        progress = None if self.path is not None else self._stage
        return json.dumps({**found, "version": version, "whole": self.path is not None, "progress": progress}).encode()


_filling: ContextVar[Filling | None] = ContextVar("filling", default=None)


@contextmanager
def shown_in(filling: Filling) -> Iterator[None]:
    """An atlas that is built in here is shown there meanwhile."""
    token = _filling.set(filling)
    try:
        yield
    finally:
        _filling.reset(token)


def filling() -> Filling | None:
    """Where what is built here is shown."""
    return _filling.get()


class Showing:
    """Tells a filling, where there is one, what a build has made by now."""

    def __init__(self, making: Making, where: Filling | None) -> None:
        self._plain, self._where = making, where
        self._images, self._told = -1, dict[type[Part], About]()
        self._least, self._earliest = 1.0, float("inf")  # images, and the moment, to be shown next

    @property
    def making(self) -> Making:
        """What is to be built, so that it is shown meanwhile."""
        if self._where is None:
            return self._plain
        return replace(self._plain, glance=self._glance, watch=self._plain.watch.heard(self._where.hear))

    def begin(self, nothing: Found) -> None:
        """There is nothing but the network. nothing: found in no images."""
        if self._where is None:
            return
        self._earliest = time.monotonic() + EARLY
        self._show(self._plain.of(nothing), Store(self._plain.store.path, TABLES), 0, self._planned)

    def _glance(self, images: int, find: Callable[[], Found]) -> None:
        """A sweep goes on: show what was found in so many images, where it is time to."""
        start = time.monotonic()
        if start < self._earliest or images < self._least:
            return
        making = self._plain.of(find())
        over = Store(self._plain.store.scratch / f"after-{images}", TABLES)
        shutil.rmtree(over.path, ignore_errors=True)
        units = Units(Snapshot(self._plain.store, {}, "", over))
        for step in units.first(making):
            over.put(step.make())
        self._show(making, self._plain.store, images, self._planned, over)
        end = time.monotonic()
        self._least, self._earliest = _MORE * images, end + _RATHER * (end - start)

    def made(self, making: Making, waiting: Iterable[Step], part: type[Part] | None = None) -> None:
        """There is the first page, and all but what the waiting steps bring. part: of which there is more."""
        if self._where is None:
            return
        self._told = {kind: about for kind, about in self._told.items() if kind is not part}
        missing = dict.fromkeys(name for step in waiting for name in step.brings)
        self._show(making, making.store, len(making.source), list(missing))

    @cached_property
    def _planned(self) -> list[str]:
        """Names of all that is no part of the first page."""
        return [name for kind in PARTS for name in kind(self._plain.store).brings(self._plain)]

    def _show(
        self, making: Making, store: Store, images: int, missing: Sequence[str], over: Store | None = None
    ) -> None:
        """images: of how many it is. missing: names of what is not there yet."""
        assert self._where is not None
        told = f"{making.store.identity} {images}"
        snapshot = Snapshot(store, {}, hashlib.sha256(told.encode()).hexdigest()[:12], over)
        self._told = self._told if images == self._images else {}
        self._images = images
        for kind in PARTS:
            if kind not in self._told:
                self._told[kind] = kind(snapshot).about(making)
        document = NetworkPage.document(making, (self._told[kind] for kind in PARTS))
        state = {"images": images, "of": len(making.source), "missing": list(missing)}
        snapshot.network = document | {"making": state}
        self._where.show(snapshot)

    def wanted(self) -> list[str]:
        """Names of what is to be made first."""
        return [] if self._where is None else self._where.wanted()

    @contextmanager
    def ending(self, out: Path) -> Iterator[None]:
        """In here the atlas is put where it shall lie; after it, it is shown from there."""
        if self._where is None:
            yield
            return
        self._where.ending.set()
        yield
        self._where.finish(out)
