"""The saved state of a sweep: one safetensors file that is replaced as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from netloupe.core.errors import StoreError
from netloupe.core.files import write_atomically
from netloupe.core.identity import Identity
from netloupe.data.sources import Skipped
from netloupe.sweep.accumulator import Accumulator

_FORMAT = 2


@dataclass(frozen=True)
class Cursor:
    """How far a sweep is: `next_id` comes next, `images` were taken in before it, `skipped` were broken."""

    next_id: int = 0
    images: int = 0
    skipped: tuple[Skipped, ...] = ()


class Checkpoint:
    """Where a sweep saves itself, and what sweep it is. held: the accumulators that hold something, by name."""

    def __init__(self, path: Path, identity: Mapping[str, Any], held: Mapping[str, Accumulator], every: float) -> None:
        self._path = path
        self._held = held
        self._identity = Identity(format=_FORMAT, **identity)
        self._every = every
        self._saved = time.monotonic()
        self._cost = 0.0

    def load(self) -> Cursor:
        """Bring accumulators to where the file left them; the start if there is no file.

        Raises StoreError if the file is no state of a sweep, or that of another one.
        """
        if not self._path.exists():
            return Cursor()
        try:
            with safe_open(self._path, framework="pt") as file:
                found = json.loads((file.metadata() or {})["sweep"])
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            raise StoreError(f"{self._path}: is no saved sweep; delete it to start anew") from None
        self._identity.check(found["identity"], self._path, "sweep")
        for name, accumulator in self._held.items():
            mark = f"{name}:"
            accumulator.load({k.removeprefix(mark): t for k, t in tensors.items() if k.startswith(mark)})
        return Cursor(found["next_id"], found["images"], tuple(Skipped(*entry) for entry in found["skipped"]))

    def due(self) -> bool:
        """Whether it is time to save: after the interval asked for, longer where saving takes long."""
        wait = max(self._every, min(20 * self._cost, 15 * self._every))
        return time.monotonic() - self._saved >= wait

    def save(self, cursor: Cursor) -> None:
        """Replace the file. Raises StoreError on a full or read-only disk; the last state stays."""
        start = time.monotonic()
        document = {
            "identity": self._identity,
            "next_id": cursor.next_id,
            "images": cursor.images,
            "skipped": [[s.id, s.name, s.reason] for s in cursor.skipped],
        }
        tensors = {f"{name}:{k}": t for name, a in self._held.items() for k, t in a.state().items()}
        write_atomically(self._path, safetensors.torch.save(tensors, {"sweep": json.dumps(document)}))
        self._saved = time.monotonic()
        self._cost = self._saved - start
