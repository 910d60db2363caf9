"""Results: raw arrays with the pictures that show them, and where they come from."""

from __future__ import annotations

import functools
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netloupe.core.folders import write_files
from netloupe.core.inputs import showing
from netloupe.core.lock import held
from netloupe.core.perform import Provenance
from netloupe.core.task import Task
from netloupe.render.pictures import Picture, encode, encode_animation


@dataclass(frozen=True)
class Result(ABC):
    """What a technique returns. `save` writes PNG, `.npy` and a manifest; in a notebook it shows itself.

    provenance: what is needed to make it again, JSON-able; see `core.perform`.
    """

    provenance: Provenance = field(default_factory=Provenance, kw_only=True, repr=False, compare=False)

    def __init_subclass__(cls, **more: Any) -> None:
        """What a kind of result draws shows the channels that its network's input spec states."""
        super().__init_subclass__(**more)
        for name in ("pictures", "animations", "documents"):
            if name in vars(cls):
                setattr(cls, name, _showing(vars(cls)[name]))

    @property
    def task(self) -> Task | None:
        """The task that made it; None of a result that no task made."""
        return self.provenance.task

    @abstractmethod
    def pictures(self) -> Mapping[str, Picture]:
        """File stem -> picture, the main one first."""

    @abstractmethod
    def arrays(self) -> Mapping[str, np.ndarray]:
        """File stem -> raw numbers."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The result in few numbers, JSON-able."""

    def animations(self) -> Mapping[str, Sequence[Picture]]:
        """File stem -> pictures of one size, to be shown one after the other; by default none."""
        return {}

    def documents(self) -> Mapping[str, str]:
        """File name -> text, as in "explain.html"; by default none."""
        return {}

    def remarks(self) -> Sequence[str]:
        """What whoever made it should hear beside the summary, a line each; by default nothing."""
        return ()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of every picture, array, animation and document, and of `manifest.json`, which comes last."""
        names = []
        for name, content in self._contents():
            names.append(name)
            yield name, content
        manifest = {"provenance": dict(self.provenance), "summary": self.summary(), "files": names}
        yield "manifest.json", json.dumps(manifest, indent=1).encode()

    def save(self, folder: str | Path) -> list[Path]:
        """Write all `files`; returns their paths.

        All of them appear at once; other files in the folder stay. Raises StoreError on a full or read-only disk, and
        while another run writes there.
        """
        with held(folder, "a result" if self.task is None else self.task.verb):
            return write_files(folder, self.files())

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        for stem, picture in self.pictures().items():
            yield f"{stem}.png", encode(picture, about=self.provenance)
        for stem, array in self.arrays().items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            yield f"{stem}.npy", buffer.getvalue()
        for stem, frames in self.animations().items():
            yield f"{stem}.gif", encode_animation(frames)
        for name, text in self.documents().items():
            yield name, text.encode()

    def _repr_png_(self) -> bytes:
        return encode(next(iter(self.pictures().values())), about=self.provenance)


def _showing(draw: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(draw)
    def drawn(result: Result) -> Any:
        with showing(result.provenance.get("input", {}).get("picture")):
            return draw(result)

    return drawn


def nothing(_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Record(Result):
    """A result that knows nothing of drawing: arrays and numbers, handed the functions of it that show them.

    draw: its pictures by file stem, the main one first. write: its documents by file name. tell: what its summary says
    in words beside the numbers.
    """

    draw: Callable[[Any], Mapping[str, Picture]] = field(repr=False, compare=False)
    write: Callable[[Any], Mapping[str, str]] = field(default=nothing, repr=False, compare=False)
    tell: Callable[[Any], Mapping[str, Any]] = field(default=nothing, repr=False, compare=False)

    def pictures(self) -> Mapping[str, Picture]:
        return self.draw(self)

    def documents(self) -> Mapping[str, str]:
        return self.write(self)
