"""The one loop that trains: steps at a rate, in stretches between which a run can be saved and taken up again.

What a training leaves behind, to go on from after a kill: its state, and the log of what is done.
"""

from __future__ import annotations

import io
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from netloupe.core.errors import NetworkError, StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.identity import Identity
from netloupe.core.watch import SILENT, Watch
from netloupe.training.optimizers import Optimizer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Batch = TypeVar("Batch")


class Learner(ABC, Generic[Batch]):
    """A network that learns, with all that decides what it becomes.

    steps: in all. stretch: steps from one possible checkpoint to the next. longest: norm that the gradient is cut to.
    What `batches` and `loss` draw at random must depend on the recipe and the step alone, or a run that is taken up
    again becomes another; PyTorch's own generator is the caller's again after each stretch.
    """

    network: nn.Module
    optimizer: Optimizer
    device: torch.device
    steps: int
    stretch: int
    longest: float | None = None

    @abstractmethod
    def rate(self, step: int) -> float:
        """The learning rate at a step, counted from 0."""

    @abstractmethod
    def batches(self, steps: range) -> Iterator[Batch]:
        """What each of the steps of a stretch learns from; puts the network in training mode."""

    @abstractmethod
    def loss(self, step: int, batch: Batch) -> Tensor:
        """One number, to be made smaller."""

    def note(self, step: int, loss: float) -> str:
        """What is told of a step."""
        del step
        return f"loss {loss:.3f}"


@dataclass(frozen=True)
class Stretch:
    """Steps that were just done, up to the `done`-th: their mean loss, and the seconds that they took."""

    done: int
    loss: float
    seconds: float


def stretches(learner: Learner[Batch], watch: Watch = SILENT, done: int = 0) -> Iterator[Stretch]:
    """Train, from the step `done` on; yields after every stretch.

    Raises NetworkError where the loss is no finite number, before the network takes it in.
    """
    part = watch.part("training", learner.steps, done)
    while done < learner.steps:
        steps = range(done, min(learner.steps, done - done % learner.stretch + learner.stretch))
        start, total = time.monotonic(), 0.0
        with torch.random.fork_rng(devices=[learner.device] if learner.device.type == "cuda" else []):
            for step, batch in zip(steps, learner.batches(steps), strict=True):
                loss = _step(learner, step, batch)
                total += loss
                part.advance(note=learner.note(step, loss))
        done = steps.stop
        yield Stretch(done, total / len(steps), time.monotonic() - start)


def _step(learner: Learner[Batch], step: int, batch: Batch) -> float:
    optimizer = learner.optimizer
    for group in optimizer.param_groups:
        group["lr"] = learner.rate(step)
    loss = learner.loss(step, batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NetworkError(f"the loss is {value} at step {step + 1} of {learner.steps}; try a lower rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if learner.longest is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], learner.longest)
    optimizer.step()
    return value


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
