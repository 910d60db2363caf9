"""Where the studio works: one job at a time, each heard as it goes on, and the latest of its kind wins."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import Cancelled, NetloupeError
from netloupe.core.watch import Watch
from netloupe.render.pictures import Picture, encode, from_pixels
from netloupe.render.result import Result

LONGEST = 300.0  # s that a job may take
ABANDONED = 10.0  # s after which a job ends that nobody listens to

_KEPT = 24  # jobs whose events can still be heard
_HELD = 240  # pictures of a job; the older ones are forgotten
_PULSE = 5.0  # s of silence after which a listener is told that all is well
_BETWEEN = 0.08  # s between two events of one name
_SOON = 0.3  # s into a part, before which nobody can say how long it will take


class Event(NamedTuple):
    """Something that a job tells: `kind` is "progress", "picture", "found", "done", "failed" or "cancelled"."""

    kind: str
    data: dict[str, Any]

    @property
    def last(self) -> bool:
        return self.kind in ("done", "failed", "cancelled")


def uri(picture: Picture, kind: str = "PNG") -> str:
    """A picture inside an address."""
    found = encode(picture, kind, 85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(found).decode()}"


@dataclass(frozen=True)
class Order:
    """What a job is to do. section: whose it is, of which the latest wins, on one page. title: for people.

    work: called with the job; gives what is told at the end. until: the part after which all that was wanted has been
    shown; then the run is ended, and that is no failure. asked: what was asked for, all of it; where the page asks for
    the same again, as after it was loaded anew, it hears the job that there is. None: never the same.
    """

    section: str
    work: Callable[[Job], dict[str, Any]]
    until: str | None = None
    page: str = ""
    title: str = ""
    asked: str | None = None


class Job(Watch):
    """One run, which is its own watch: what it hears and sees becomes events.

    For a section to set: beside, what is told together with a picture, of its name and the picture; between, the
    seconds from one picture that is told to the next; only, the part alone whose progress is told; result, what can be
    kept as it is.
    """

    pictures = True
    between: float | None = None
    only: str | None = None
    result: Result | None = None

    def __init__(self, number: int, order: Order) -> None:
        self.number, self.order = number, order
        self.beside: Callable[[str, Tensor], dict[str, Any]] = lambda name, image: {}
        self.events: list[Event] = []
        self._parts: dict[str, tuple[float, int]] = {}  # when each began, and with how much of it done
        self._pictures: list[int] = []
        self._why = "stopped"
        self._heard = threading.Condition()
        self._listeners = 0
        self._begun = self._left = time.monotonic()
        self._told: dict[str, float] = {}
        self._enough = False

    def run(self) -> None:
        """Do the work; the last event says how it ended."""
        self._begun = self._left = time.monotonic()
        try:
            self.check()
            self.say("done", self.order.work(self))
        except Cancelled:
            self.say("done" if self._enough else "cancelled", {} if self._enough else {"message": self._why})
        except NetloupeError as error:
            self.say("failed", {"message": str(error)})
        except torch.OutOfMemoryError:
            self.say("failed", {"message": "out of memory"})
        except Exception:
            self.say("failed", {"message": "this did not work; the terminal says why"})
            raise

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Tell an event."""
        with self._heard:
            if self.events and self.events[-1].last:
                return
            self.events.append(Event(kind, data))
            if kind == "picture":
                self._pictures.append(len(self.events) - 1)
                if len(self._pictures) > _HELD:
                    self.events[self._pictures.pop(0)] = _FORGOTTEN
            self._heard.notify_all()

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return bool(self.events) and self.events[-1].last

    @property
    def fruitful(self) -> bool:
        """Whether hearing it is as good as doing it again: it has neither failed nor been cancelled."""
        return self.events[-1].kind == "done" if self.over else self._enough or not self._cancelled

    def cancel(self) -> None:
        super().cancel()
        with self._heard:
            waiting = not self.events  # it has not begun, and need not
        if waiting:
            self.say("cancelled", {"message": self._why})

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if name == self.order.until and done == total:
            self._enough = True
            self.cancel()
        if now - self._begun > LONGEST:
            self._why = f"stopped, since it took more than {LONGEST:g} s"
            self.cancel()
        if self._listeners == 0 and now - self._left > ABANDONED:
            self.cancel()
        begun = self._parts.setdefault(name, (now, done))
        if self.only in (None, name) and (done == total or self._due(name, now)):
            self.say("progress", {"part": name, "done": done, "total": total, "left": _left(begun, now, done, total)})

    def show(self, name: str, image: Tensor) -> None:
        if self._due(f"picture {name}", time.monotonic(), self.between):
            pixels = np.asarray(image.detach().float().cpu())
            src = uri(from_pixels(pixels if pixels.ndim == 3 else pixels[0]))
            self.say("picture", {"name": name, "src": src, **self.beside(name, image)})

    def _due(self, name: str, now: float, between: float | None = None) -> bool:
        between = _BETWEEN if between is None else between
        due = now - self._told.get(name, -between) >= between
        if due:
            self._told[name] = now
        return due

    def listen(self, after: int = 0) -> Iterator[tuple[int, Event] | None]:
        """The events from number `after` on, with their numbers; None now and then, where nothing happens."""
        with self._heard:
            self._listeners += 1
        try:
            while True:
                with self._heard:
                    if len(self.events) <= after:
                        self._heard.wait(_PULSE)
                    fresh = self.events[after:]
                if not fresh:
                    yield None
                for event in fresh:
                    if event is not _FORGOTTEN:
                        yield after, event
                    after += 1
                    if event.last:
                        return
        finally:
            with self._heard:
                self._listeners -= 1
                self._left = time.monotonic()


_FORGOTTEN = Event("picture", {})


def _left(begun: tuple[float, int], now: float, done: int, total: int) -> float | None:
    """Seconds until a part is done, at the pace so far; None where nobody can say."""
    passed, steps = now - begun[0], done - begun[1]
    return passed / steps * (total - done) if passed >= _SOON and steps > 0 else None


class Desk:
    """Does jobs one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._count = 0
        self._open = True
        self._more = threading.Condition()
        threading.Thread(target=self._work, name="desk", daemon=True).start()

    def post(self, order: Order) -> Job:
        """A job that does it: a new one, or the one that was asked for the same. Others of its section on its page,
        running or waiting, are cancelled."""
        with self._more:
            job = self._same(order)
            rivals = [one for one in self._going() if one is not job and _rivals(one.order, order)]
            self._waiting = [one for one in self._waiting if one not in rivals]
            if job is None:
                job = self._added(order)
        for one in rivals:
            one.cancel()
        return job

    def known(self, order: Order) -> Job | None:
        """The job that was asked for the same, if there is one that can be heard."""
        with self._more:
            return self._same(order)

    def job(self, number: int) -> Job | None:
        """The job of that number, if it is known still."""
        with self._more:
            return self._jobs.get(number)

    def of(self, page: str) -> list[Job]:
        """The jobs of a page that have not ended, in the order in which they are done."""
        with self._more:
            return [one for one in self._going() if one.order.page == page and not one.over]

    @property
    def running(self) -> Job | None:
        return self._running

    def close(self) -> None:
        """Cancel all, and take no more."""
        with self._more:
            self._open = False
            left = self._going()
            self._waiting = []
            self._more.notify()
        for one in left:
            one.cancel()

    def _going(self) -> list[Job]:
        return [one for one in [self._running, *self._waiting] if one is not None]

    def _same(self, order: Order) -> Job | None:
        if order.asked is None:
            return None
        alike = [one for one in self._jobs.values() if _rivals(one.order, order) and one.order.asked == order.asked]
        return next((one for one in reversed(alike) if one.fruitful), None)

    def _added(self, order: Order) -> Job:
        self._count += 1
        job = Job(self._count, order)
        self._waiting.append(job)
        self._jobs[job.number] = job
        over = [number for number, one in self._jobs.items() if one.over]
        for number in over[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[number]
        self._more.notify()
        return job

    def _work(self) -> None:
        while True:
            with self._more:
                while self._open and not self._waiting:
                    self._more.wait()
                if not self._open:
                    return
                self._running = job = self._waiting.pop(0)
            try:
                job.run()
            except Exception:  # a fault of ours; the next job is none the worse
                import traceback

                traceback.print_exc()
            finally:
                self._running = None


def _rivals(one: Order, other: Order) -> bool:
    return (one.page, one.section) == (other.page, other.section)
