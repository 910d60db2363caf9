"""Killing a run at the n-th moment at which it changes something on disk.

Python tells of each file that is opened for writing, renamed, made or removed before that happens (PEP 578). A child
that counts them kills itself at one, as a power cut would: nothing that is done on the way out is done.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}


def changes(event: str, args: tuple[Any, ...]) -> str | None:
    """What an audit event is about to change, in words; None for one that changes nothing."""
    if event == "open" and isinstance(args[0], str | bytes) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return f"open {os.fsdecode(args[0])}"
    if event == "ctypes.dlsym" and args[1] == "renameat2":
        return "exchange"
    return f"{event} {os.fsdecode(args[0])}" if event in _CHANGES and isinstance(args[0], str | bytes) else None


def moments(run: Callable[[], object], within: Path) -> list[str]:
    """The moments of a run, in order, in which something within a folder is changed. The run takes place."""
    read, write = os.pipe()
    if child(run, within, lambda n, words: os.write(write, f"{words}\n".encode()) == 0) != 0:
        raise RuntimeError("the run that is to be killed fails by itself")
    os.close(write)
    with os.fdopen(read) as told:
        return told.read().splitlines()


def killed(run: Callable[[], object], within: Path, moment: int) -> bool:
    """Run, but die before the moment of that number, counted from 1; False if the run ended before."""
    status = child(run, within, lambda n, words: n == moment)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with {status}")
    return status != 0


def hooked(run: Callable[[], object], within: Path, dies: Callable[[int, str], bool]) -> object:
    """Run in this process, and kill it where `dies` says so of a moment, by its number and in words."""
    count, root = [0], os.path.realpath(within) + os.sep

    def hook(event: str, args: tuple[Any, ...]) -> None:
        words = changes(event, args)
        if words is None or (words != "exchange" and root not in os.path.realpath(words.partition(" ")[2])):
            return
        count[0] += 1
        if dies(count[0], words):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return run()


def child(run: Callable[[], object], within: Path, dies: Callable[[int, str], bool]) -> int:
    """The exit code of a hooked run in a process of its own, negative for a signal."""
    process = os.fork()
    if process == 0:
        status = 70
        try:
            status = int(hooked(run, within, dies) or 0)  # type: ignore[call-overload]
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
