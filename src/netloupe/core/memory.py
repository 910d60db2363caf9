"""Memory that a process keeps for its next pass."""

from __future__ import annotations

import ctypes
import os

KEPT = 512  # MiB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_SAID = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """From now on the GNU C library gives blocks of less than `KEPT` MiB, and as much free memory, back to no one.

    By itself it asks the system for each block of more than 32 MiB and gives it back at once. The output of a layer of
    16 images of 224 x 224 px is larger, and to be given the same memory anew, page by page, costs up to a third of a
    pass on a CPU. For a program of its own, not for a library: it holds for all of the process.

    False, and nothing done, with another C library, or where the environment says how memory is to be kept.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(library, "gnu_get_libc_version") or any(os.environ.get(name) for name in _SAID):
        return False
    asked = [library.mallopt(which, KEPT << 20) for which in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]  # type: ignore[union-attr]
    return all(asked)
