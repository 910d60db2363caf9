"""Folders that appear whole, or not at all.

A new folder is written beside its place and renamed into it. Files that go into a folder which is there are written
into a hidden one inside it; its renaming is the moment from which on all of them are there, and what is left of moving
them to their places is done by the next run, should this one be killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netloupe.core.errors import StoreError
from netloupe.core.files import write_atomically

_COMING, _COME, _LAST = ".netloupe.partial", ".netloupe.whole", ".last"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS


def beside(path: Path, what: str) -> Path:
    """The hidden place beside a path, links followed: `.NAME.what`."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.{what}")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which is put at `path`, where nothing or an empty folder lies, once all is written.

    Nothing is left of it where that fails. Raises StoreError if it can't be written.
    """
    made = beside(path, "new")
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        yield made
        if path.is_dir():
            path.rmdir()
        made.rename(os.path.realpath(path))
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def put_in_place(made: Path, path: Path) -> None:
    """Put a whole folder at `path`, in one step, in place of the one that lies there, which is removed.

    Where the system can't exchange two folders there is a moment between two renames; see `taken_back`.
    """
    real, old = Path(os.path.realpath(path)), beside(path, "old")
    if not real.exists():
        made.rename(real)
    elif _exchanged(made, real):
        shutil.rmtree(made, ignore_errors=True)
    else:
        shutil.rmtree(old, ignore_errors=True)
        real.rename(old)
        made.rename(real)
        shutil.rmtree(old, ignore_errors=True)


def taken_back(path: Path) -> None:
    """Mend what a killed `put_in_place` left: the folder goes back where none lies now, else it is removed."""
    old = beside(path, "old")
    if old.exists() and not path.exists():
        old.rename(os.path.realpath(path))
    elif old.exists():
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    """Whether the system could let two folders change places in one step."""
    if sys.platform == "win32":
        return False
    library, names = ctypes.CDLL(None), [os.fsencode(a), os.fsencode(b)]
    if hasattr(library, "renameat2"):
        return bool(library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)
    if hasattr(library, "renamex_np"):
        return bool(library.renamex_np(*names, _EXCHANGE) == 0)
    return False


def write_files(folder: str | Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write files by name, "/" in it for folders, the last of which tells of the others; returns their paths.

    All of them appear at once, and other files stay. Raises StoreError on a full or read-only disk; the folder is then
    as it was.
    """
    folder = Path(folder)
    if not folder.exists():
        with new_folder(folder) as made:
            return [folder / name for name in _written(made, files)]
    finish_files(folder)
    coming = folder / _COMING
    try:
        shutil.rmtree(coming, ignore_errors=True)
        names = _written(coming, files)
        if taken := next((name for name in names if (folder / name).is_dir()), None):
            raise StoreError(f"{folder / taken}: can't be written (a folder)")
        (coming / _LAST).write_text(names[-1] if names else "")
        coming.rename(folder / _COME)
    except OSError as error:
        raise StoreError(f"{folder}: can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(coming, ignore_errors=True)
        finish_files(folder)  # of a run that is stopped while they are moved
    return [folder / name for name in names]


def finish_files(folder: Path) -> None:
    """Move to their places the files that a killed `write_files` had written. Raises StoreError where that fails."""
    come = folder / _COME
    if not come.is_dir():
        return
    try:
        last = come / (come / _LAST).read_text()
        waiting = [path for path in come.rglob("*") if path.is_file() and path.name != _LAST]
        for path in sorted(waiting, key=last.__eq__):
            place = folder / path.relative_to(come)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
        shutil.rmtree(come)
    except FileNotFoundError:  # another run is at it too
        pass
    except OSError as error:
        raise StoreError(f"{folder}: can't be written ({error.strerror or error})") from None


def _written(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[str]:
    names = []
    for name, content in files:
        write_atomically(folder / name, content)
        names.append(name)
    return names
