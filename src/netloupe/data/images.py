"""From image files to the tensors that networks take."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.files import file_digest, portable
from netloupe.core.network import Network
from netloupe.core.perform import Images

Size = int | tuple[int, int]

MAX_PIXELS = 80_000_000  # larger images are refused before they are decoded; below Pillow's own limit
DISPLAY = 256  # px of the shorter side of a photograph that is shown, where it has them
_LONGEST = 16  # of a strip, only this many times the part that will be seen is resized


def plain(text: str | Path) -> str:
    """The text on one line of valid Unicode: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """The decoded image, upright (EXIF orientation applied), in mode RGB or L.

    `source` is a path or encoded bytes; `name` stands for the image in messages. Of an animation, the
    first frame; transparent pixels are laid over white; 16-bit gray is scaled to 8 bits. Raises
    InputError if the file is missing, no image, cut short or over MAX_PIXELS.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else plain(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                millions = image.width * image.height / 1e6
                raise InputError(f"{name}: {millions:.0f} megapixels (accepted: up to {MAX_PIXELS / 1e6:.0f})")
            return _to_rgb_or_gray(_upright(image), name)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise InputError(f"{name}: not an image") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: too many pixels (accepted: up to {MAX_PIXELS / 1e6:.0f} million)") from None
    except Exception as error:  # decoders raise nearly anything on a broken file: struct.error, IndexError, zlib.error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise InputError(f"{name}: can't be read ({plain(reason)})") from None


def _upright(image: Image.Image) -> Image.Image:
    """A decoded copy, turned as its EXIF orientation asks; broken EXIF asks for nothing."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image.copy()


def _to_rgb_or_gray(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int32)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{name}: gray values of 32 bits (accepted: 8 or 16 bits)")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{name}: gray values of floating point (accepted: 8 or 16 bits)")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode in ("RGB", "L"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def height_width(size: Size) -> tuple[int, int]:
    """(height, width) of a size; one number stands for a square. Raises InputError for anything else."""
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(s, int | np.integer) and not isinstance(s, bool) for s in sides):
        raise InputError(f"image size {size!r} (accepted: a whole number or (height, width))")
    height, width = (int(s) for s in sides)
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"image size {size!r} (accepted: at least 1, at most {MAX_PIXELS / 1e6:.0f} megapixels)")
    return height, width


def fit(image: Image.Image, size: Size | None, channels: int = 3) -> np.ndarray:
    """(H, W, channels) uint8: the image scaled to cover `size`, then cut at its center.

    `size` is (height, width), or one number for a square: the short side is resized to it, then the
    center is cropped; smaller images are enlarged. None keeps the image as it is. Bilinear, with
    antialiasing when shrinking. `channels` is 3 for RGB or 1 for gray. Raises InputError otherwise.
    """
    if channels not in (1, 3):
        raise InputError(f"images with {channels!r} channels (accepted: 1 or 3)")
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        height, width = height_width(size)
        scale = max(height / image.height, width / image.width)
        image = _center(image, math.ceil(_LONGEST * height / scale), math.ceil(_LONGEST * width / scale))
        scaled = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        if scaled != image.size:
            image = image.resize(scaled, Image.Resampling.BILINEAR)
        image = _center(image, height, width)
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _center(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of an image, at most `height` by `width` pixels."""
    height, width = min(height, image.height), min(width, image.width)
    if image.size == (width, height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_seen(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8, for eyes: what `fit(image, size)` gives, in higher resolution where the photograph has it.

    A whole multiple of `size`, with up to DISPLAY px on the shorter side; a box of the input scales by H / size[0].
    """
    inside = min(image.height / size[0], image.width / size[1])  # px of the photograph for one of the input
    zoom = max(1, int(min(inside, DISPLAY / min(size))))
    return np.ascontiguousarray(fit(image, (size[0] * zoom, size[1] * zoom), 3))


def to_float(pixels: np.ndarray | Tensor) -> Tensor:
    """(..., C, H, W) float in [0, 1] from (..., H, W, C) uint8."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    return tensor.movedim(-1, -3).contiguous().float().div(255)


def load_image(path: str | Path, size: Size | None = None, *, channels: int = 3) -> Tensor:
    """One image file as (channels, H, W) float in [0, 1].

    `size`: the short side is resized to it, then the center is cropped; (height, width) also works.
    """
    return to_float(fit(open_image(path), size, channels))


def load_images(paths: Sequence[str | Path], size: Size, *, channels: int = 3) -> Tensor:
    """(N, channels, H, W) float in [0, 1], all of one size; see `load_image`."""
    if isinstance(paths, str | Path):
        raise InputError(f"one path, {str(paths)!r}, where a list of paths is wanted (fix: load_image)")
    if not paths:
        raise InputError("no image given")
    return torch.stack([load_image(path, size, channels=channels) for path in paths])


@dataclass(frozen=True)
class ImageFiles(Images):
    """Image files by their paths, each decoded when it is asked for.

    called: the names of files that were moved since they were given by them; else as the paths say.
    """

    paths: tuple[Path, ...]
    called: tuple[str, ...] | None = None

    @classmethod
    def of(cls, paths: Sequence[str | Path], called: Sequence[str] | None = None) -> ImageFiles:
        """Of those paths. Raises InputError for one that is no file, before anything is read."""
        found = tuple(Path(path) for path in paths)
        for path in found:
            if not path.is_file():
                found_there = "a folder, not an image" if path.is_dir() else "not an image"
                raise InputError(f"{plain(path)}: {found_there if path.exists() else 'no such file'}")
        return cls(found, None if called is None else tuple(called))

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(portable(name) for name in (self.paths if self.called is None else self.called))

    def open(self, index: int = 0) -> Image.Image:
        """The decoded image."""
        return open_image(self.paths[index])

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        return load_images(self.paths, net.inputs.size if size is None else size, channels=net.inputs.channels)

    def shaped(self, net: Network, side: int | None = None) -> list[Tensor]:
        return [shaped(open_image(path), net, side) for path in self.paths]

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return [load_image(path, size, channels=1)[0] for path in self.paths]

    def record(self) -> Any:
        pairs = zip(self.names, self.paths, strict=True)
        return [{"name": name, "sha256": file_digest(path)} for name, path in pairs]


def shaped(opened: Image.Image, net: Network, side: int | None) -> Tensor:
    """(C, H, W) in [0, 1] in its own shape, the shorter side at most `side` px."""
    share = 1.0 if side is None else min(1.0, side / min(opened.size))
    size = max(1, round(opened.height * share)), max(1, round(opened.width * share))
    return to_float(fit(opened, size, net.inputs.channels))
