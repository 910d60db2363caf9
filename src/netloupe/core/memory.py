"""Memory that a process keeps for its next pass."""

from __future__ import annotations

import ctypes
import os

_KEPT = 512  # MiB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_memory() -> bool:
    """From now on the GNU C library keeps up to 512 MiB of what was freed, in blocks of up to as much.

    By itself it asks the system for each block of more than 32 MiB, as the output of a layer of 16 images of
    224 x 224 px can be, gives it back at once, and is given the next one page by page. For a program of its own, not
    for a library: it holds for all of the process.

    False, and nothing done, with another C library, or where the environment says how memory is to be kept.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(library, "gnu_get_libc_version") or _said():
        return False
    asked = [library.mallopt(which, _KEPT << 20) for which in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]  # type: ignore[union-attr]
    return all(asked)


def _said() -> bool:
    """Whether the environment says how memory is to be kept."""
    named = any(os.environ.get(name) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"))
    return named or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
