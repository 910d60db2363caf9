"""From arrays to pictures: every picture is (H, W, 3) uint8 until it is encoded."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from netloupe.core.errors import InputError
from netloupe.core.inputs import shown_channels

Picture = np.ndarray
Color = tuple[int, int, int]

ABOUT = "netloupe"
"""Name of the text chunk of a PNG that says how it was made."""

PAPER: Color = (246, 244, 239)

_NAME = re.compile(r"[a-z_]+[.:/]\S|_")  # in a word: it is of a layer or unit, and ends with what tells it from others


def resized(picture: Picture, size: tuple[int, int], *, smooth: bool = True) -> Picture:
    """The picture at (height, width): smooth, or with its pixels kept as squares."""
    if picture.shape[:2] == size:
        return picture
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    if smooth and (picture.shape[0] > size[0] or picture.shape[1] > size[1]):
        how = Image.Resampling.BOX if picture.shape[0] >= 2 * size[0] else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), how))


def fitted(size: Sequence[int], side: float) -> tuple[int, int]:
    """(height, width) in the proportions of `size` (height, width), the longer of them at `side` px."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cropped(
    picture: Picture,
    box: Sequence[float],
    side: int,
    *,
    of: tuple[int, int] | None = None,
    background: Color = PAPER,
) -> Picture:
    """The part in `box` (top, left, bottom, right) on a square of `side` px.

    of: the (height, width) whose pixels the box counts, where that is the same image at another size; else those of
    the picture. The aspect ratio is kept; what the box does not fill is `background`.
    """
    down, across = (1.0, 1.0) if of is None else (picture.shape[0] / of[0], picture.shape[1] / of[1])
    top, left, bottom, right = box[0] * down, box[1] * across, box[2] * down, box[3] * across
    height, width = max(bottom - top, 1e-6), max(right - left, 1e-6)
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    part = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    if size == (side, side):
        return np.asarray(part)
    square = Image.new("RGB", (side, side), background)
    square.paste(part, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)


def grid(pictures: Sequence[Picture], columns: int, *, gap: int = 2, background: Color = PAPER) -> Picture:
    """Pictures of one size in rows of `columns`, `gap` px apart and around."""
    if not pictures:
        return np.full((1, 1, 3), background, dtype=np.uint8)
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), dtype=np.uint8)
    sheet[:] = background
    for i, picture in enumerate(pictures):
        y, x = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def stacked(pictures: Sequence[Picture], *, gap: int = 8, background: Color = PAPER) -> Picture:
    """Pictures of any width one below the other, flush left."""
    width = max(p.shape[1] for p in pictures)
    sheet = np.empty((sum(p.shape[0] for p in pictures) + gap * (len(pictures) - 1), width, 3), dtype=np.uint8)
    sheet[:] = background
    y = 0
    for picture in pictures:
        sheet[y : y + picture.shape[0], : picture.shape[1]] = picture
        y += picture.shape[0] + gap
    return sheet


def beside(pictures: Sequence[Picture], *, gap: int = 8, background: Color = PAPER) -> Picture:
    """Pictures of any height one beside the other, flush at the top."""
    turned = [p.transpose(1, 0, 2) for p in pictures]
    return stacked(turned, gap=gap, background=background).transpose(1, 0, 2)


def captioned(picture: Picture, text: str, *, height: int = 18) -> Picture:
    """The picture with a line of text above it; what of it is too long is cut with an ellipsis."""
    strip = Image.new("RGB", (picture.shape[1], height), PAPER)
    ImageDraw.Draw(strip).text((4, 2), _within(text, picture.shape[1] - 6), fill=(40, 38, 34), font_size=12)
    return np.concatenate([np.asarray(strip), picture])


def _within(text: str, width: int) -> str:
    """The text in `width` px: names of layers are cut at their beginnings, and where that does not do the end is."""
    length = ImageFont.load_default(12).getlength
    while length(text) > width:
        names = [word for word in text.split(" ") if len(word) > 6 and _NAME.search(word)]
        if not names:
            break
        longest = max(names, key=len)
        text = text.replace(longest, "\u2026" + longest.lstrip("\u2026")[1:], 1)
    while length(text) > width and len(text) > 1:
        text = text[:-2] + "\u2026"
    return text


def from_pixels(images: np.ndarray) -> Picture:
    """(C, H, W) float in [0, 1] -> (H, W, 3); of many channels those that make a picture, see `InputSpec.picture`."""
    images = images[list(shown_channels(len(images)))]
    pixels = (np.clip(images, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def encode(
    picture: Picture,
    kind: str = "PNG",
    quality: int = 88,
    *,
    whole_color: bool = False,
    lossless: bool = False,
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of a PNG, JPEG or WEBP file. whole_color: of a JPEG, the colors of each pixel instead of each four.

    lossless: of a WEBP, whose `quality` is then how hard it is tried to make it small.
    about: of a PNG, where it comes from, as JSON in a text chunk named `ABOUT`; `about` reads it.
    """
    buffer = io.BytesIO()
    options: dict[str, Any] = {}
    if kind != "PNG":
        options = {"quality": quality, "subsampling": 0 if whole_color else -1, "lossless": lossless}
    if about:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(ABOUT, json.dumps(about, ensure_ascii=False))
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_animation(frames: Sequence[Picture], milliseconds: int = 80) -> bytes:
    """The bytes of a GIF that shows the pictures over and over, each for so long."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return buffer.getvalue()


def about(data: bytes) -> dict[str, Any] | None:
    """What `encode` was told of a picture; None of one that says nothing. Raises InputError for what is no PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()  # text may stand behind the pixels
            text = getattr(image, "text", {}).get(ABOUT)
        found = None if text is None else json.loads(str(text))
    except Exception:  # decoders raise nearly anything on a broken file
        raise InputError("not a PNG that can be read (accepted: a picture that netloupe wrote)") from None
    return found if isinstance(found, dict) else None


def decode(data: bytes) -> Picture:
    """(H, W, 3) from the bytes of an image file that `encode` wrote."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
