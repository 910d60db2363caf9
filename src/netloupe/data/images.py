"""From image files to the tensors that networks take."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from netloupe.core.errors import InputError

Size = int | tuple[int, int]

MAX_PIXELS = 100_000_000  # larger images are refused before they are decoded


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """The decoded image, upright (EXIF orientation applied), in mode RGB or L.

    `name` stands for the image in messages. Transparent pixels are laid over white, 16-bit gray is
    scaled to 8 bits. Raises InputError if the file is missing, no image, cut short or over MAX_PIXELS.
    """
    name = name if name is not None else str(source) if isinstance(source, str | Path) else "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.width * image.height > MAX_PIXELS:
                    millions = image.width * image.height / 1e6
                    raise InputError(f"{name}: {millions:.0f} megapixels (accepted: up to {MAX_PIXELS / 1e6:.0f})")
                return _to_rgb_or_gray(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = "too large" if isinstance(error, Image.DecompressionBombError) else "not an image"
        raise InputError(f"{name}: {reason}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{name}: can't be read ({error})") from None


def _to_rgb_or_gray(image: Image.Image) -> Image.Image:
    if image.mode in ("RGB", "L"):
        image.load()
        return image
    if image.mode.startswith("I") or image.mode == "F":
        pixels = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I;16") or pixels.max(initial=0) > 255 else 255.0
        return Image.fromarray((np.clip(pixels / top, 0, 1) * 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def fit(image: Image.Image, size: Size | None, channels: int = 3) -> np.ndarray:
    """(H, W, channels) uint8: the image scaled to cover `size`, then cut at its center.

    `size` is (height, width), or one number for a square: the short side is resized to it, then the
    center is cropped. None keeps the image as it is. Bilinear, with antialiasing when shrinking.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        scale = max(height / image.height, width / image.width)
        scaled = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        if scaled != image.size:
            image = image.resize(scaled, Image.Resampling.BILINEAR)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def to_float(pixels: np.ndarray | Tensor) -> Tensor:
    """(..., C, H, W) float in [0, 1] from (..., H, W, C) uint8."""
    return torch.as_tensor(np.array(pixels)).movedim(-1, -3).float().div(255)


def load_image(path: str | Path, size: Size | None = None, *, channels: int = 3) -> Tensor:
    """One image file as (channels, H, W) float in [0, 1].

    `size`: the short side is resized to it, then the center is cropped; (height, width) also works.
    """
    return to_float(fit(open_image(path), size, channels))


def load_images(paths: Sequence[str | Path], size: Size, *, channels: int = 3) -> Tensor:
    """(N, channels, H, W) float in [0, 1], all of one size; see `load_image`."""
    if not paths:
        raise InputError("no image given")
    return torch.stack([load_image(path, size, channels=channels) for path in paths])
