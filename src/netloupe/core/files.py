"""Files that appear whole or not at all, and how a manifest names files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from netloupe.core.errors import InputError, StoreError

_SMALL = 1 << 16  # bytes of a file that is read to see whether it changed


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or none of it; the folder is made. Raises StoreError on a full or read-only disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:
            pass
        if isinstance(error, OSError):
            raise StoreError(f"{path}: can't be written ({error.strerror or error})") from None
        raise


def portable(path: str | Path) -> str:
    """How a manifest names a file: its address or relative path as given, of an absolute path the bare name."""
    if "://" in str(path):
        return str(path)
    path = Path(path)
    return path.name if path.is_absolute() else path.as_posix()


def file_stamp(path: str | Path) -> str:
    """What is another once the contents of a file are: a hash of a small file; else its size and time of change."""
    try:
        found = os.stat(path)
        return file_digest(path) if found.st_size <= _SMALL else f"{found.st_size} {found.st_mtime_ns}"
    except (OSError, InputError):
        return ""


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of the names and bytes of all files in it, hidden ones left out.

    Raises InputError for a file that can't be read.
    """
    path = Path(path)
    if path.is_dir():
        files = [one for one in path.rglob("[!.]*") if one.is_file()]
        names = sorted((one.relative_to(path).as_posix(), file_digest(one)) for one in files)
        return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in names).encode()).hexdigest()
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from None
