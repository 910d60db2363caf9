"""Results: raw arrays with the pictures that show them, and where they come from."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netloupe.core.files import write_atomically
from netloupe.render.pictures import Picture, encode, encode_animation


class Result(ABC):
    """What a technique returns. `save` writes PNG, `.npy` and a manifest; in a notebook it shows itself.

    provenance: network and its hash, the parameters of the call, and versions; JSON-able.
    """

    provenance: Mapping[str, Any]

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

    def save(self, folder: str | Path) -> list[Path]:
        """Write every picture, array, animation, document and `manifest.json`, which comes last; returns the paths.

        Each file appears whole or not at all. Raises StoreError on a full or read-only disk.
        """
        folder = Path(folder)
        written = []
        for stem, picture in self.pictures().items():
            written.append(folder / f"{stem}.png")
            write_atomically(written[-1], encode(picture))
        for stem, array in self.arrays().items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            written.append(folder / f"{stem}.npy")
            write_atomically(written[-1], buffer.getvalue())
        for stem, frames in self.animations().items():
            written.append(folder / f"{stem}.gif")
            write_atomically(written[-1], encode_animation(frames))
        for name, text in self.documents().items():
            written.append(folder / name)
            write_atomically(written[-1], text.encode())
        manifest = {
            "provenance": dict(self.provenance),
            "summary": self.summary(),
            "files": [path.name for path in written],
        }
        written.append(folder / "manifest.json")
        write_atomically(written[-1], json.dumps(manifest, indent=1).encode())
        return written

    def _repr_png_(self) -> bytes:
        return encode(next(iter(self.pictures().values())))
