"""What was found by looking through files, kept so that it is found once: lists of folders, places in archives."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from netloupe.core.errors import InputError, StoreError
from netloupe.core.files import write_atomically
from netloupe.data.images import plain

MANY = 20_000  # files of a folder, above which its list is kept
_FORMAT = 1
_SETTLED = 2_000_000_000  # ns: a folder that changed less than this ago may change again at the same time of change


def kept(key: str, stamp: str, make: Callable[[], Any]) -> Any:
    """What `make` found, plain JSON, found once for each `key` as long as its `stamp` is the same."""
    found = _load(key)
    if found is not None and found.get("stamp") == stamp:
        return found["found"]
    made = make()
    _save(key, {"stamp": stamp, "found": made})
    return made


def files_under(folder: str) -> Sequence[str]:
    """The files under a folder of this machine, relative to it, in the order of their names.

    Hidden ones are left out; links are followed, but never in a circle. The list of a folder of more than MANY files
    is kept, and holds as long as no folder in it has changed. Raises InputError for a folder that can't be read.
    """
    key = f"folder {os.path.realpath(folder)}"
    found = _load(key)
    if found is not None and all(_changed(os.path.join(folder, name)) == at for name, at in found["folders"].items()):
        return list(found["files"])
    now = time.time_ns()
    folders: dict[str, int] = {}
    files = sorted(_walk(folder, "", frozenset(), folders))
    if len(files) > MANY and all(at < now - _SETTLED for at in folders.values()):
        _save(key, {"folders": folders, "files": files})
    return files


def _walk(root: str, inside: str, above: frozenset[str], folders: dict[str, int]) -> Iterator[str]:
    """The files under root/inside; of each folder looked into, `folders` takes in when it changed."""
    here = os.path.join(root, inside) if inside else root
    real = os.path.realpath(here)
    if real in above:
        return
    folders[inside] = _changed(here)
    try:
        with os.scandir(here) as found:
            entries = [one for one in found if not one.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{plain(here)}: can't be read ({error.strerror})") from None
    for entry in entries:
        name = f"{inside}/{entry.name}" if inside else entry.name
        if _is(entry, os.DirEntry.is_dir):
            yield from _walk(root, name, above | {real}, folders)
        elif _is(entry, os.DirEntry.is_file) or not os.path.exists(entry.path):
            yield name  # a dangling link is a broken image, a pipe is none


def _is(entry: os.DirEntry[str], what: Callable[[os.DirEntry[str]], bool]) -> bool:
    try:
        return what(entry)
    except OSError:  # a link in a circle
        return False


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def _file(key: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "netloupe" / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.json"


def _load(key: str) -> dict[str, Any] | None:
    """What was kept; None for nothing, or what is not whole."""
    try:
        found = json.loads(_file(key).read_bytes())
        return found if found["key"] == key and found["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(key: str, found: dict[str, Any]) -> None:
    """Keep it; where nothing can be written, it is found anew each time."""
    try:
        write_atomically(_file(key), json.dumps({"format": _FORMAT, "key": key, **found}).encode())
    except StoreError:
        pass
