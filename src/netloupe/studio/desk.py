"""Where the studio works: one job at a time, each heard as it goes on, and the latest of its kind wins."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import Cancelled, NetloupeError
from netloupe.core.watch import Watch
from netloupe.render.pictures import Picture, encode, from_pixels

LONGEST = 300.0  # s that a job may take
ABANDONED = 10.0  # s after which a job ends that nobody listens to

_KEPT = 8  # jobs whose events can still be heard
_PULSE = 5.0  # s of silence after which a listener is told that all is well
_BETWEEN = 0.08  # s between two events of one name


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


class Job(Watch):
    """One run, which is its own watch: what it hears and sees becomes events.

    work: called with the job; gives what is told at the end. until: the part after which all that was wanted has been
    shown; then the run is ended, and that is no failure.
    """

    pictures = True

    def __init__(self, number: int, section: str, work: Callable[[Job], dict[str, Any]], until: str | None) -> None:
        self.number, self.section, self.until = number, section, until
        self._work = work
        self.events: list[Event] = []
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
            self.say("done", self._work(self))
        except Cancelled:
            self.say("done" if self._enough else "cancelled", {})
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
            self._heard.notify_all()

    def cancel(self) -> None:
        super().cancel()
        with self._heard:
            waiting = not self.events  # it has not begun, and need not
        if waiting:
            self.say("cancelled", {})

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if name == self.until and done == total:
            self._enough = True
            self.cancel()
        if now - self._begun > LONGEST or (self._listeners == 0 and now - self._left > ABANDONED):
            self.cancel()
        if done == total or self._due(name, now):
            self.say("progress", {"part": name, "done": done, "total": total})

    def show(self, name: str, image: Tensor) -> None:
        if self._due(f"picture {name}", time.monotonic()):
            pixels = np.asarray(image.detach().float().cpu())
            self.say("picture", {"name": name, "src": uri(from_pixels(pixels if pixels.ndim == 3 else pixels[0]))})

    def _due(self, name: str, now: float) -> bool:
        due = now - self._told.get(name, -_BETWEEN) >= _BETWEEN
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
                    yield after, event
                    after += 1
                    if event.last:
                        return
        finally:
            with self._heard:
                self._listeners -= 1
                self._left = time.monotonic()


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

    def post(self, section: str, work: Callable[[Job], dict[str, Any]], until: str | None = None) -> Job:
        """A new job; others of its section, running or waiting, are cancelled."""
        with self._more:
            self._count += 1
            job = Job(self._count, section, work, until)
            older = [one for one in [*self._waiting, self._running] if one is not None and one.section == section]
            self._waiting = [one for one in self._waiting if one.section != section] + [job]
            self._jobs[job.number] = job
            for number in list(self._jobs)[: max(0, len(self._jobs) - _KEPT)]:
                if self._jobs[number].events and self._jobs[number].events[-1].last:
                    del self._jobs[number]
            self._more.notify()
        for one in older:
            one.cancel()
        return job

    def job(self, number: int) -> Job | None:
        """The job of that number, if it is known still."""
        with self._more:
            return self._jobs.get(number)

    @property
    def running(self) -> Job | None:
        return self._running

    def close(self) -> None:
        """Cancel all, and take no more."""
        with self._more:
            self._open = False
            left = [one for one in [*self._waiting, self._running] if one is not None]
            self._waiting = []
            self._more.notify()
        for one in left:
            one.cancel()

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
