"""A lock on what a run writes, so that no two write into one folder at once."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import ParamSpec, TypeVar

from netloupe.core.errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # beyond the words, which others shall be able to read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


P = ParamSpec("P")
T = TypeVar("T")

_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}

_threads: dict[Path, int] = {}  # real path -> the thread that holds it
_guard = threading.Lock()


@contextmanager
def held(path: str | Path, verb: str) -> Iterator[None]:
    """Hold the file or folder that a run of `verb` writes; the kernel lets go of it when the process dies.

    The lock is a file beside it, `.NAME.lock`, or one inside a folder whose own may not be written to; it goes with
    the run. What this thread holds already it may hold again. On a file system without locks there is none.
    Raises StoreError if another run holds it, saying which, or where nothing can be written.
    """
    real = Path(os.path.realpath(path))
    with _guard:
        owner = _threads.get(real)
        if owner is not None and owner != threading.get_ident():
            raise _busy(path, f"{os.getpid()} {verb}")
        _threads[real] = threading.get_ident()
    if owner is not None:
        yield
        return
    try:
        with _locked(real, path, verb):
            yield
    finally:
        with _guard:
            del _threads[real]


def holding(parameter: str, verb: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For a function of `verb` that writes what this parameter says, a file or folder or None: it holds that."""

    def dress(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            path = signature.bind(*args, **kwargs).arguments.get(parameter)
            with nullcontext() if path is None else held(path, verb):
                return function(*args, **kwargs)

        return call

    return dress


@contextmanager
def _locked(real: Path, path: str | Path, verb: str) -> Iterator[None]:
    missing = [folder for folder in real.parents if not folder.exists()]
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        lock = _place(real)
        handle = _opened(lock, path)
    except OSError as error:
        _remove_empty(missing)
        raise StoreError(f"{path}: can't be written ({error.strerror or error})") from None
    try:
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()} {verb}\n".encode())
        yield
    finally:
        try:
            lock.unlink(missing_ok=True)  # while it is held: nobody else has got hold of it
        except OSError:
            pass
        os.close(handle)
        _remove_empty(missing)


def _place(real: Path) -> Path:
    if real.is_dir() and (real.parent == real or not os.access(real.parent, os.W_OK | os.X_OK)):
        return real / ".lock"
    return real.with_name(f".{real.name}.lock")


def _opened(lock: Path, path: str | Path) -> int:
    """The lock's file, held."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(handle)
        except OSError as error:
            if error.errno in _BUSY:
                words = os.read(handle, 200).decode(errors="replace")
                os.close(handle)
                raise _busy(path, words) from None
        if _same(handle, lock):
            os.lseek(handle, 0, os.SEEK_SET)
            return handle
        os.close(handle)  # whoever held it has removed it in between


def _same(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except OSError:
        return False


def _busy(path: str | Path, words: str) -> StoreError:
    number, _, verb = words.strip().partition(" ")
    who = f"process {number} (netloupe {verb})" if verb else "another run"
    return StoreError(f"{path}: {who} is writing there; wait for it, or give another --out")


def _remove_empty(folders: list[Path]) -> None:
    """Folders that were made for a lock and hold nothing else, innermost first."""
    try:
        for folder in folders:
            folder.rmdir()
    except OSError:
        pass
