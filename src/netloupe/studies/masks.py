"""Masks of images: a class for each pixel, brought to the part of each image that the network sees."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.data.sources import ImageSource

UNKNOWN = -1
BORDER = 255  # of a mask file: a pixel of no class, as in PASCAL VOC


def of_boxes(boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(N, height, width) int16 of boxes (N, 4) top, left, bottom, right: 1 inside, 0 around; unknown without a box.

    A pixel is inside if its center is.
    """
    y, x = (np.arange(length) + 0.5 for length in size)
    top, left, bottom, right = (side[:, None].numpy() for side in boxes.T)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    inside: np.ndarray = (rows[:, :, None] & columns[:, None, :]).astype(np.int16)
    inside[~np.isfinite(boxes.numpy()).all(1)] = UNKNOWN
    return inside


def read_masks(folder: str | Path, source: ImageSource, size: tuple[int, int]) -> np.ndarray:
    """(N, height, width) int16 for the images of a source: class numbers, unknown where a mask has 255 or is missing.

    A mask is a PNG of the image's name, gray or with a palette, whose numbers are classes; it follows the image through
    resizing and center crop, each pixel by its nearest. Raises InputError for a folder without a mask for any image, a
    file that is no such mask, or one of another size than its image.
    """
    files = {path.stem: path for path in sorted(Path(folder).glob("*.png"))}
    found = np.full((len(source), *size), UNKNOWN, dtype=np.int16)
    known = 0
    for i, name in enumerate(source.names):
        path = files.get(PurePosixPath(name).stem)
        if path is not None:
            found[i] = _as_seen(path, source, i, size)
            known += 1
    if not known:
        raise InputError(
            f"{folder}: no mask for any of the {len(source)} images, such as {PurePosixPath(source.names[0]).stem}.png"
        )
    return found


def _as_seen(path: Path, source: ImageSource, place: int, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            opened.load()
            mode, mask = opened.mode, opened
            image = source.open(place)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a mask ({error})") from None
    if mode not in ("L", "P", "1"):
        raise InputError(f"{path}: a mask of mode {mode} (accepted: gray or palette, a number for each class)")
    if mask.size != (image.width, image.height):
        seen, own = f"{image.height}x{image.width}", f"{mask.height}x{mask.width}"
        raise InputError(f"{path}: a mask of {own} px for an image of {seen} px (accepted: of the same size)")
    scale = max(size[0] / mask.height, size[1] / mask.width)
    whole = tuple(max(own, round(length * scale)) for own, length in zip(size, (mask.height, mask.width), strict=True))
    numbers = np.asarray(mask.resize((whole[1], whole[0]), Image.Resampling.NEAREST)).astype(np.int16)
    top, left = ((length - own) // 2 for length, own in zip(whole, size, strict=True))
    seen_part = numbers[top : top + size[0], left : left + size[1]]
    return np.where(seen_part == BORDER, UNKNOWN, seen_part)


def shares(masks: np.ndarray, classes: int, grid: tuple[int, int]) -> Tensor:
    """(N, classes, h, w): which share of each cell of a grid each class has; pixels that are unknown have none."""
    hot = torch.stack([torch.from_numpy(masks == number).float() for number in range(classes)], 1)
    found: Tensor = torch.nn.functional.adaptive_avg_pool2d(hot, grid)
    return found
