"""What a training leaves behind, to go on from after a kill: its state, and the log of what is done."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from netloupe.core.errors import StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.identity import Identity
from netloupe.training.loop import Learner

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Checkpoint:
    """`checkpoint.pt` and `metrics.jsonl` in a folder.

    facts: what must be the same for a run to go on, JSON-able, beside the shapes of what is trained.
    """

    def __init__(self, folder: Path, learner: Learner[Any], **facts: Any) -> None:
        self._path, self._log, self._learner = folder / "checkpoint.pt", folder / "metrics.jsonl", learner
        shapes = {name: list(value.shape) for name, value in learner.network.state_dict().items()}
        self._identity = Identity(shapes=shapes, **facts)

    def load(self) -> tuple[int, list[dict[str, Any]]]:
        """Bring network and optimizer to where they were saved; gives the steps done and the log's entries.

        Raises StoreError for a file that is no checkpoint, or that of another training.
        """
        if not self._path.exists():
            return 0, []
        try:
            state: Mapping[str, Any] = torch.load(self._path, map_location=self._learner.device, weights_only=True)
            saved, done, log = dict(state["identity"]), int(state["done"]), list(state["log"])
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise StoreError(
                f"{self._path}: can't be read as a checkpoint ({first_line(error)}); remove it to start anew"
            ) from None
        self._identity.check(saved, self._path, "training")
        self._learner.network.load_state_dict(state["network"])
        self._learner.optimizer.load_state_dict(state["optimizer"])
        return done, log

    def save(self, done: int, log: Sequence[DataclassInstance]) -> None:
        """Replace both files. Raises StoreError on a full or read-only disk; the last state stays."""
        entries = [asdict(entry) for entry in log]
        write_atomically(self._log, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        state = {
            "identity": dict(self._identity),
            "network": self._learner.network.state_dict(),
            "optimizer": self._learner.optimizer.state_dict(),
            "log": entries,
            "done": done,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self._path, buffer.getvalue())
