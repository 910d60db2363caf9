"""Running something in a process of its own, forked from this one, so that the library need not be imported again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONG = 1200.0
"""Seconds for what ends by itself, on a machine that has other work to do."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: status is the exit code, negative for a signal, None for one that was cut off; what it wrote."""

    status: int | None
    out: str
    err: str
    seconds: float


def apart(
    run: Callable[[], Any],
    folder: Path,
    limit: float = 60.0,
    kill: float | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Ended:
    """Run in a fork of this process, within a folder; `run` gives the exit code.

    limit: seconds after which it is cut off. kill: seconds after which it is killed, as a part of the trial.
    meanwhile: called here again and again.
    """
    told = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _child(run, folder, told)
    ends, status = start + (limit if kill is None else kill), None
    while status is None and time.monotonic() < ends:
        found, code = os.waitpid(process, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if found else None
        meanwhile()
        time.sleep(0.002)
    if status is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        status = -signal.SIGKILL if kill is not None else None
    texts = [path.read_text(errors="replace") for path in told]
    for path in told:
        path.unlink()
    return Ended(status, *texts, time.monotonic() - start)


def _child(run: Callable[[], Any], folder: Path, told: list[Path]) -> None:
    status = 70
    try:
        os.chdir(folder)
        for number, path in enumerate(told, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = int(run() or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def found(run: Callable[[], Any], folder: Path) -> Any:
    """What `run` gives, plain JSON, found in a process of its own."""
    ended = apart(lambda: print(json.dumps(run())), folder, LONG)
    if ended.status != 0:
        raise RuntimeError(ended.err)
    return json.loads(ended.out)
