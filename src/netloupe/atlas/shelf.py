"""Arrays of one shape in a file, by number: what a build looks at again and must not hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import numpy as np

from netloupe.atlas.sheets import THUMB
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError


class Shelf:
    """Arrays of uint8 of one shape, each at its number. Safe to use from several threads."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """path: the file, made where it is not there. Raises StoreError where it can't be."""
        self._path, self._shape, self._lock = path, shape, Lock()
        try:
            path.touch()
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise self._plainly(error) from None

    def put(self, number: int, array: np.ndarray) -> None:
        """Raises StoreError on a full disk."""
        assert array.nbytes == math.prod(self._shape)
        content = memoryview(array.tobytes())
        try:
            with self._lock:
                self._file.seek(number * len(content))
                while content:
                    content = content[self._file.write(content) :]
        except OSError as error:
            raise self._plainly(error) from None

    def get(self, numbers: Iterable[int]) -> np.ndarray:
        """(n, *shape), of numbers that were put."""
        size = math.prod(self._shape)
        found = []
        with self._lock:
            for number in numbers:
                self._file.seek(number * size)
                found.append(self._file.read(size))
        return np.frombuffer(b"".join(found), np.uint8).reshape(len(found), *self._shape)

    def _plainly(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path}: can't be written ({error.strerror or error})")


def thumbs_in(store: Store) -> Shelf:
    """Where the thumbnails of all images lie while an atlas is built."""
    return Shelf(store.scratch / "thumbs.bin", (THUMB, THUMB, 3))
