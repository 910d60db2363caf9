"""How a run ends that is told to stop, by Ctrl-C or SIGTERM: one line that says what is kept, and the command again."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from netloupe.core.errors import Cancelled


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class Stopped(Exception):
    """A run was told to stop. status: its exit code. kept: what of it lies where; goes_on: whether it is taken up."""

    def __init__(self, stop: BaseException, kept: str | None = None, goes_on: bool = False) -> None:
        self.status = 143 if isinstance(stop, Terminated) else 130
        self._kept, self._goes_on = kept, goes_on

    def line(self, arguments: Sequence[str]) -> str:
        """What is told of a run of these arguments."""
        again = "go on with" if self._goes_on else "begin anew with"
        return f"stopped; {self._kept or 'nothing of it is kept'}; {again}: {shlex.join(['netloupe', *arguments])}"


@contextmanager
def keeping(find: Callable[[], str | None], goes_on: bool = True) -> Iterator[None]:
    """What a run that is stopped in here leaves on disk: what `find` then says, None for nothing.

    goes_on: whether the same command takes it up.
    """
    try:
        yield
    except (KeyboardInterrupt, Cancelled) as stop:
        found = find()
        raise Stopped(stop, found, goes_on and found is not None) from None


def checkpoint_in(folder: Path) -> Callable[[], str | None]:
    """For `keeping`: of a training."""
    return lambda: f"its last checkpoint is kept in {folder}" if (folder / "checkpoint.pt").exists() else None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM stop what runs in here as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
