"""The pages of the atlas that lies in a folder now, each in a bounded time.

An atlas may be built anew while it is served, and a table may be so damaged that its library never answers. So every
request is answered from the atlas that lies there at that moment, by a thread that is given up after a while.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

from netloupe.atlas.filling import Filling
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError

_MOST = 8  # threads that are waited for in vain
MAKING = "data/making.json"  # how far an atlas is that is being made
_ALWAYS = ("", "index.html", "data/network.json")  # begin a visit, whatever lies there


class Replaced(StoreError):
    """What was asked for is of an atlas that lay there before."""


class Late(StoreError):
    """The atlas does not answer."""


class Answer(NamedTuple):
    """Content and media type of a resource; lasting: there will never be another at this address."""

    content: bytes
    kind: str
    lasting: bool


@dataclass
class _Lying:
    """An atlas that lies there: its mark in the file system, what of it never answered, and whose turn it is."""

    mark: tuple[int, ...]
    path: Path | None
    studio: bool
    filling: Filling | None = None
    silent: frozenset[str] = frozenset()
    turn: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def pages(self) -> Pages:
        if self.filling is not None and self.filling.path is None:
            return self.filling.latest
        return Pages(None if self.path is None else Store.open(self.path), self.studio)

    def answer(self, path: str, query: str) -> Answer | None:
        always = path.startswith("static/") or path in _ALWAYS
        pages = self.pages if always else self._meant(parse_qs(query).get("v", [self.pages.version])[0])
        found = pages.resource(path)
        return None if found is None else Answer(*found, pages.lasting(path, query))

    def _meant(self, version: str | None) -> Pages:
        if version == self.pages.version:
            return self.pages
        earlier = None if self.filling is None or version is None else self.filling.earlier(version, self.pages)
        if earlier is None:
            raise Replaced("another atlas lies here by now; load the page again")
        return earlier


class Served:
    """The atlas in a store's folder, one that is being made, or the page without one. Safe to use from several threads.

    studio: see `Pages`. patience: seconds that an answer may take.
    """

    def __init__(self, store: Store | Filling | None, studio: bool = False, patience: float = 30.0) -> None:
        self._filling = store if isinstance(store, Filling) else None
        self._folder = store.path if isinstance(store, Store) else None
        self._studio, self._patience = studio, patience
        self._guard, self._closed = threading.Lock(), False
        self._waiting: set[Future[Answer | None]] = set()
        self._lying = self._lies(self._mark())

    def answer(self, path: str, query: str = "") -> Answer | None:
        """What is at a path such as "data/network.json"; None for nothing.

        query: what stands after the "?", which may name the version of the atlas that is meant. Raises Replaced if
        that is another than lies there, Late if it does not answer in time, StoreError if it can't be read.
        """
        if path == MAKING:
            return None if self._filling is None else Answer(self._filling.document(query), "application/json", False)
        lying = self._now()
        if path in lying.silent or len(lying.silent) >= _MOST:
            raise self._late(path)
        answer: Future[Answer | None] = Future()
        begun = threading.Event()
        with self._guard:
            if self._closed:
                raise Late("the server ends")
            self._waiting.add(answer)
        threading.Thread(target=self._fill, args=(answer, begun, lying, path, query), daemon=True).start()
        try:
            return answer.result(self._patience)
        except TimeoutError:
            if begun.is_set():
                self._give_up(lying, path)
                raise self._late(path) from None
        except Late:
            raise
        except StoreError:
            if self._filling is not None and self._filling.ending.is_set():
                self._filling.ended.wait(self._patience)  # it is being put in its place
            if self._now() is lying:
                raise
        finally:
            with self._guard:
                self._waiting.discard(answer)
        return self.answer(path, query)  # it was replaced while it was read, or waited for one that never answered

    def close(self) -> None:
        """Have nobody wait any more."""
        with self._guard:
            self._closed = True
            for answer in self._waiting:
                _settle(answer, Late("the server ends"))

    def _fill(
        self, answer: Future[Answer | None], begun: threading.Event, lying: _Lying, path: str, query: str
    ) -> None:
        if not lying.turn.acquire(timeout=2 * self._patience):
            return
        begun.set()
        try:
            _settle(answer, lying.answer(path, query))
        except BaseException as error:
            _settle(answer, error)
        finally:
            lying.turn.release()

    def _now(self) -> _Lying:
        with self._guard:
            mark = self._mark()
            if mark != self._lying.mark:
                self._lying = self._lies(mark)
            return self._lying

    def _lies(self, mark: tuple[int, ...], silent: frozenset[str] = frozenset()) -> _Lying:
        return _Lying(mark, self._path, self._studio, self._filling, silent)

    @property
    def _path(self) -> Path | None:
        return self._folder if self._filling is None else self._filling.path

    def _give_up(self, lying: _Lying, path: str) -> None:
        """Go on without the thread that never ends, and with all that it holds made anew."""
        with self._guard:
            if self._lying is lying:
                self._lying = self._lies(lying.mark, lying.silent | {path})

    def _late(self, path: str) -> Late:
        return Late(f"{self._path}: {path or 'index.html'} takes for ever to be read; build the atlas again")

    def _mark(self) -> tuple[int, ...]:
        """What is another once another atlas lies there."""
        if self._path is None:
            return () if self._filling is None else (self._filling.number,)
        try:
            found = os.stat(self._path / "atlas.json")
        except OSError:
            raise StoreError(f"no atlas at {str(self._path)!r} any more") from None
        return found.st_dev, found.st_ino, found.st_mtime_ns


def _settle(answer: Future[Answer | None], found: Answer | BaseException | None) -> None:
    if answer.done():
        return
    if isinstance(found, BaseException):
        answer.set_exception(found)
    else:
        answer.set_result(found)
