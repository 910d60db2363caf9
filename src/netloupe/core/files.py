"""Files that appear whole or not at all, and how a manifest names files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from netloupe.core.errors import StoreError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or none of it; the folder is made. Raises StoreError on a full or read-only disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:
            pass
        raise StoreError(f"{path}: can't be written ({error.strerror or error})") from None


def portable(path: str | Path) -> str:
    """How a manifest names a file: its relative path as given, of an absolute one the bare name."""
    path = Path(path)
    return path.name if path.is_absolute() else path.as_posix()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
