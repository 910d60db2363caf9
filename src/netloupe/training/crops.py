"""Photographs to train on, drawn at random and read ahead of time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource

LARGEST = 2.0  # times the side of the crop, the shorter side of the photo that it is cut from
_TRIES = 8  # images in a row that can't be read before giving up
_AHEAD = 3  # batches


def crops(source: ImageSource, side: int, count: int, seed: int, steps: Sequence[int]) -> Iterator[Tensor]:
    """For each of `steps` a batch (count, 3, side, side) in [0, 1], which depends on the seed and the step alone.

    Each is a square of a photo whose shorter side was brought to between 1 and `LARGEST` times `side`; half of them are
    mirrored. In place of an image that can't be read, another is drawn. Raises InputError where none of several can.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        waiting: deque[list[Future[np.ndarray]]] = deque()
        ahead = iter(steps)
        for _ in steps:
            while len(waiting) < _AHEAD:
                step = next(ahead, None)
                if step is None:
                    break
                waiting.append([pool.submit(_crop, source, side, seed, step, i) for i in range(count)])
            yield to_float(np.stack([each.result() for each in waiting.popleft()]))


def _crop(source: ImageSource, side: int, seed: int, step: int, place: int) -> np.ndarray:
    random = np.random.default_rng([seed, step, place])
    for _ in range(_TRIES):
        try:
            image = source.open(int(random.integers(len(source)))).convert("RGB")
        except InputError as error:
            failure = error
            continue
        short = round(side * LARGEST ** random.random())
        scale = short / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        left, top = (int(random.integers(length - side + 1)) for length in (width, height))
        box = tuple(value / scale for value in (left, top, left + side, top + side))
        limits = (image.width, image.height) * 2
        box = tuple(min(value, limit) for value, limit in zip(box, limits, strict=True))
        part = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(part)
        return pixels[:, ::-1] if random.random() < 0.5 else pixels
    raise InputError(f"{source.spec!r}: none of {_TRIES} images could be read, such as {failure}")


def turns(styles: range, count: int, step: int) -> Tensor:
    """(count,) numbers of styles, which take turns over the steps."""
    return styles.start + (step * count + torch.arange(count)) % len(styles)
