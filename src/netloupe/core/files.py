"""Files that appear whole or not at all."""

from __future__ import annotations

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
