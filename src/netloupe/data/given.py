"""Image files that a task is given, and files beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.files import file_digest, portable
from netloupe.core.network import Network
from netloupe.core.perform import Images
from netloupe.data.images import fit, load_image, load_images, open_image, plain, to_float


@dataclass(frozen=True)
class ImageFiles(Images):
    """Image files by their paths, each decoded when it is asked for."""

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, paths: Sequence[str | Path]) -> ImageFiles:
        """Of those paths. Raises InputError for one that is no file, before anything is read."""
        found = tuple(Path(path) for path in paths)
        for path in found:
            if not path.is_file():
                raise InputError(f"{plain(path)}: {'not an image' if path.exists() else 'no such file'}")
        return cls(found)

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(portable(path) for path in self.paths)

    def open(self, index: int = 0) -> Image.Image:
        """The decoded image."""
        return open_image(self.paths[index])

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        return load_images(self.paths, net.inputs.size if size is None else size, channels=net.inputs.channels)

    def shaped(self, net: Network, side: int | None = None) -> list[Tensor]:
        return [self._shaped(open_image(path), net, side) for path in self.paths]

    def _shaped(self, opened: Image.Image, net: Network, side: int | None) -> Tensor:
        share = 1.0 if side is None else min(1.0, side / min(opened.size))
        size = max(1, round(opened.height * share)), max(1, round(opened.width * share))
        return to_float(fit(opened, size, net.inputs.channels))

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return [load_image(path, size, channels=1)[0] for path in self.paths]

    def record(self) -> Any:
        return [{"name": portable(path), "sha256": file_digest(path)} for path in self.paths]
