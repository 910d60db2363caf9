"""The handwritten digits that scikit-learn carries in its wheel: 1,797 images of 8x8 px with labels."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from netloupe.data.sources import ImageSource

_HIGHEST = 16  # the value of full ink
_SCALE = 4  # px a side for each pixel, by repetition: networks' inputs are larger, and the blocks shall stay visible


@cache
def digits() -> ImageSource:
    """The digits of the UCI ML hand-written digits data set (E. Alpaydin, C. Kaynak, CC BY 4.0), white on black.

    Gray images of 32x32 px, each pixel of the original repeated 4x4 times. Labels 0 to 9, of the same names.
    """
    from sklearn.datasets import load_digits

    labels = [int(label) for label in load_digits().target]
    names = [f"digits/{i:04}-{label}" for i, label in enumerate(labels)]
    return ImageSource("digits", names, _opener, labels, [str(i) for i in range(10)], "digits", channels=1)


def _opener(i: int) -> Image.Image:
    return Image.fromarray(_pixels()[i])


@cache
def _pixels() -> np.ndarray:
    """(1797, 32, 32) uint8."""
    from sklearn.datasets import load_digits

    images: np.ndarray = load_digits().images
    return np.rint(images * (255 / _HIGHEST)).astype(np.uint8).repeat(_SCALE, 1).repeat(_SCALE, 2)
