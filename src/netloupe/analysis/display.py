"""Photographs as people look at them: the part that the network sees, at a size fit for eyes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from netloupe.data.images import fit
from netloupe.render.pictures import Picture

DISPLAY = 256  # px of the shorter side, where the photograph has them


def as_seen(image: Image.Image, size: tuple[int, int]) -> Picture:
    """(H, W, 3) uint8: what `fit(image, size)` gives, in higher resolution where the photograph has it.

    A whole multiple of `size`, with up to DISPLAY px on the shorter side; a box of the input scales by H / size[0].
    """
    inside = min(image.height / size[0], image.width / size[1])  # px of the photograph for one of the input
    zoom = max(1, int(min(inside, DISPLAY / min(size))))
    return np.ascontiguousarray(fit(image, (size[0] * zoom, size[1] * zoom), 3))
