"""From image files to the tensors that networks take."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from netloupe.core.errors import InputError, first_line
from netloupe.core.files import file_digest, portable
from netloupe.core.given import checked
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.perform import Images
from netloupe.core.sizes import Sizes
from netloupe.data.bands import Bands, Opened, channels_first, scaled
from netloupe.data.color import gray_in_srgb, in_srgb

Size = int | tuple[int, int]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

MAX_PIXELS = 80_000_000  # larger images are refused before they are decoded; below Pillow's own limit
DISPLAY = 256  # px of the shorter side of a photograph that is shown, where it has them
_NPY = b"\x93NUMPY"
_NO_TIFF = "a TIFF of a kind that can't be read (accepted: 8 bits a color, gray, a page a channel; or .npy)"
_PHOTOMETRIC, _BITS_PER_SAMPLE = 262, 258  # tags of TIFF
_LONGEST = 16  # of a strip, only this many times the part that will be seen is resized


def plain(text: str | Path) -> str:
    """The text on one line of valid Unicode: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def open_image(
    source: str | Path | bytes,
    name: str | None = None,
    inputs: InputSpec | None = None,
    *,
    guess: bool = True,
    srgb: bool = True,
) -> Opened:
    """The decoded image, upright (EXIF orientation applied) and in sRGB: mode RGB or L, or `Bands` of floats.

    `source` is a path or encoded bytes, of an image file or of an .npy; `name` stands for the image in messages. Of an
    animation, the first frame; transparent pixels are laid over white. inputs: the spec of the network that looks:
    which axis of an array are its channels, which `values` are black and white beyond 8 bits a value; a
    network of as many channels as a file has pages, or as an image has with transparency, takes those. guess: whether
    what no one states may be taken for granted, with a warning; see `scaled`. srgb: whether color profiles and gamma
    count. Raises InputError if the file is missing,
    no image, cut short or over MAX_PIXELS.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else plain(source)
    try:
        if _starts(source, _NPY):
            return array_image(_array(source, name), name, inputs, guess=guess)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            _check_pixels(image.width * image.height, name)
            if not srgb:
                image.info = {key: image.info[key] for key in image.info if key not in ("icc_profile", "gamma")}
            return _decoded(image, name, inputs, guess)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        tiff = _starts(source, b"II*\0") or _starts(source, b"MM\0*")
        raise InputError(f"{name}: {_NO_TIFF if tiff else 'not an image'}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: too many pixels (accepted: up to {MAX_PIXELS / 1e6:.0f} million)") from None
    except Exception as error:  # decoders raise nearly anything on a broken file: struct.error, IndexError, zlib.error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise InputError(f"{name}: can't be read ({plain(reason)})") from None


def array_image(values: np.ndarray, name: str, inputs: InputSpec | None = None, *, guess: bool = True) -> Bands:
    """The image in an array (C, H, W), (H, W, C) or (H, W) of whole numbers or floats; see `open_image`."""
    _check_pixels(values.size // max(1, min(values.shape, default=1)), name)
    bands = channels_first(values, name, inputs)
    return Bands(scaled(bands, name, inputs, guess=guess), name, None if inputs is None else inputs.picture)


def _starts(source: str | Path | bytes, mark: bytes) -> bool:
    if isinstance(source, bytes):
        return source.startswith(mark)
    with open(source, "rb") as file:
        return file.read(len(mark)) == mark


def _array(source: str | Path | bytes, name: str) -> np.ndarray:
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape = read(file)[0]
            _check_pixels(math.prod(shape) // max(1, min(shape, default=1)), name)
            file.seek(0)
            found: np.ndarray = np.load(file, allow_pickle=False)
            return found
    except (ValueError, EOFError) as error:
        raise InputError(f"{name}: can't be read as .npy ({plain(first_line(error))})") from None


def _check_pixels(count: int, name: str) -> None:
    if count > MAX_PIXELS:
        raise InputError(f"{name}: {count / 1e6:.0f} megapixels (accepted: up to {MAX_PIXELS / 1e6:.0f})")


def _upright(image: Image.Image) -> Image.Image:
    """A decoded copy, turned as its EXIF orientation asks; broken EXIF asks for nothing."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image.copy()


def _decoded(image: Image.Image, name: str, inputs: InputSpec | None, guess: bool) -> Opened:
    wanted = 3 if inputs is None else inputs.channels
    if getattr(image, "n_frames", 1) == wanted and image.format == "TIFF" and len(image.getbands()) == 1:
        pages = [_page(image, page) for page in range(wanted)]
        if len({page.shape for page in pages}) == 1:
            values = scaled(np.stack(pages), name, inputs, guess=guess, bits=_bits(image))
            return Bands(values, name, None if inputs is None else inputs.picture)
        image.seek(0)
    about, bits, coarse = (
        {str(key): value for key, value in image.info.items()},
        _bits(image),
        ";16" in _raw_mode(image),
    )
    inverted = image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == 0
    whole = _upright(image)
    if whole.mode.startswith(("I", "F")):
        values = scaled(np.asarray(whole)[None], name, inputs, guess=guess, bits=bits)
        return Bands(gray_in_srgb(1 - values if inverted else values, about, name), name)
    if coarse and _largest(whole) < 64:
        raise InputError(f"{name}: 16 bits a color, of which at most 14 are used (accepted: an .npy, with --values)")
    if len(whole.getbands()) == wanted and whole.mode in ("LA", "RGBA"):
        return array_image(np.asarray(whole), name, inputs)
    return in_srgb(_opaque(whole), about, name)


def _page(image: Image.Image, page: int) -> np.ndarray:
    image.seek(page)
    return np.asarray(_upright(image))


def _opaque(image: Image.Image) -> Image.Image:
    """In mode RGB, L or CMYK: transparent pixels are laid over white."""
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode in ("RGB", "L", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _tag(image: Image.Image, number: int) -> Any:
    """What a tag of a TIFF says; None without it."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value


def _bits(image: Image.Image) -> int | None:
    """How many bits a gray value has, where the file states fewer than its type has, as a TIFF of 12 bits does."""
    bits = _tag(image, _BITS_PER_SAMPLE)
    return bits if isinstance(bits, int) and bits % 8 else None


def _raw_mode(image: Image.Image) -> str:
    """How the file holds its pixels, as Pillow's decoder is told; of 16 bits a color it keeps the upper 8."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _largest(image: Image.Image) -> int:
    extremes = np.array(image.getextrema())
    return int(extremes.reshape(-1, 2)[:3, 1].max())


def height_width(size: Size) -> tuple[int, int]:
    """(height, width) of a size; one number stands for a square. Raises InputError for anything else."""
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(s, int | np.integer) and not isinstance(s, bool) for s in sides):
        raise InputError(f"image size {size!r} (accepted: a whole number or (height, width))")
    height, width = (int(s) for s in sides)
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"image size {size!r} (accepted: at least 1, at most {MAX_PIXELS / 1e6:.0f} megapixels)")
    return height, width


def fit(image: Opened, size: Size | None, channels: int = 3) -> np.ndarray:
    """(H, W, channels) uint8, of `Bands` float32 in [0, 1]: the image scaled to cover `size`, then cut at its center.

    `size` is (height, width), or one number for a square: the short side is resized to it, then the
    center is cropped; smaller images are enlarged. None keeps the image as it is. Bilinear, with
    antialiasing when shrinking. `channels` is 3 for RGB, 1 for gray, or as many as `Bands` have. Raises InputError
    otherwise.
    """
    image = of_channels(image, channels)
    if size is not None:
        height, width = height_width(size)
        scale = max(height / image.height, width / image.width)
        image = _center(image, math.ceil(_LONGEST * height / scale), math.ceil(_LONGEST * width / scale))
        scaled = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        if scaled != image.size:
            image = image.resize(scaled, Image.Resampling.BILINEAR)
        image = _center(image, height, width)
    return pixels_of(image)


def pixels_of(image: Opened) -> np.ndarray:
    """(H, W, C) uint8, of `Bands` float32 in [0, 1]."""
    if isinstance(image, Bands):
        return image.values.transpose(1, 2, 0)
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def of_channels(image: Opened, channels: int) -> Opened:
    """With so many channels: 3 for RGB, 1 for gray, others if it has them. Raises InputError where it has not."""
    if isinstance(image, Bands):
        return image.of(channels)
    if channels not in (1, 3):
        held = f"an image of {len(image.getbands())} channels"
        raise InputError(f"{held} (accepted: {channels}, as .npy, or as TIFF with a page a channel)")
    return image.convert("L" if channels == 1 else "RGB")


def _center(image: Opened, height: int, width: int) -> Opened:
    """The middle of an image, at most `height` by `width` pixels."""
    height, width = min(height, image.height), min(width, image.width)
    if image.size == (width, height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_seen(image: Opened, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8, for eyes: what `fit(image, size)` gives, in higher resolution where the photograph has it.

    A whole multiple of `size`, with up to DISPLAY px on the shorter side; a box of the input scales by H / size[0].
    """
    inside = min(image.height / size[0], image.width / size[1])  # px of the photograph for one of the input
    zoom = max(1, int(min(inside, DISPLAY / min(size))))
    shown = image.convert("RGB") if isinstance(image, Bands) else image
    return np.ascontiguousarray(fit(shown, (size[0] * zoom, size[1] * zoom), 3))


def to_float(pixels: np.ndarray | Tensor) -> Tensor:
    """(..., C, H, W) float in [0, 1] from (..., H, W, C) uint8, or float in [0, 1]."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    moved = tensor.movedim(-1, -3).contiguous()
    return moved.float() if tensor.is_floating_point() else moved.float().div(255)


@checked
def load_image(
    path: str | Path, size: Size | None = None, *, channels: int = 3, values: tuple[float, float] | None = None
) -> Tensor:
    """One image file as (channels, H, W) float in [0, 1].

    `size`: the short side is resized to it, then the center is cropped; (height, width) also works. `values`: what is
    black and white in a file of more than 8 bits a value, as in (0, 4095); see `InputSpec`.
    """
    return to_float(fit(open_image(path, None, InputSpec(channels=channels, values=values)), size, channels))


@checked
def load_images(
    paths: Sequence[str | Path], size: Size, *, channels: int = 3, values: tuple[float, float] | None = None
) -> Tensor:
    """(N, channels, H, W) float in [0, 1], all of one size; see `load_image`."""
    if isinstance(paths, str | Path):
        raise InputError(f"one path, {str(paths)!r}, where a list of paths is wanted (fix: load_image)")
    if not paths:
        raise InputError("no image given")
    return torch.stack([load_image(path, size, channels=channels, values=values) for path in paths])


@dataclass(frozen=True)
class ImageFiles(Images):
    """Image files by their paths, each decoded when it is asked for.

    called: the names of files that were moved since they were given by them; else as the paths say. inputs: what the
    network takes that looks at them.
    """

    paths: tuple[Path, ...]
    called: tuple[str, ...] | None = None
    inputs: InputSpec | None = None

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

    def read_for(self, inputs: InputSpec) -> ImageFiles:
        return replace(self, inputs=inputs)

    def open(self, index: int = 0) -> Opened:
        """The decoded image."""
        return open_image(self.paths[index], None, self.inputs)

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        found = self.read_for(net.inputs)
        pixels = [fit(found.open(i), size or net.inputs.size, net.inputs.channels) for i in range(len(self.paths))]
        return torch.stack([to_float(one) for one in pixels])

    def shaped(self, net: Network, side: int | None = None, sizes: Sizes | None = None) -> list[Tensor]:
        found = self.read_for(net.inputs)
        return [shaped(found.open(i), net, side, sizes) for i in range(len(self.paths))]

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return [load_image(path, size, channels=1)[0] for path in self.paths]

    def record(self) -> Any:
        pairs = zip(self.names, self.paths, strict=True)
        return [{"name": name, "sha256": file_digest(path)} for name, path in pairs]


def shaped(opened: Opened, net: Network, side: int | None, sizes: Sizes | None = None) -> Tensor:
    """(C, H, W) in [0, 1] in its own shape, the shorter side at most `side` px; cut to one of `sizes`."""
    share = 1.0 if side is None else min(1.0, side / min(opened.size))
    size = max(1, round(opened.height * share)), max(1, round(opened.width * share))
    size = size if sizes is None else sizes.within(size)
    return to_float(fit(opened, size, net.inputs.channels))
