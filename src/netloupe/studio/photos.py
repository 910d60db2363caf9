"""Photos that a browser sends: bounded, decoded once, and kept in memory only."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.perform import Images
from netloupe.core.sizes import Sizes
from netloupe.data.images import as_seen, fit, open_image, shaped, to_float
from netloupe.render.pictures import Picture, encode
from netloupe.studio.refusal import Refused

PIXELS = 40_000_000
KEPT = 16  # photos at most; the one that was asked for longest ago goes first

_FORMATS = ("JPEG", "PNG", "WEBP")
_LONGEST = 1600  # px of the longer side, as a photo is kept
_LEAST = 4  # px of a crop's sides


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as it is kept: upright, in colors."""

    id: str
    image: Image.Image

    def document(self) -> dict[str, Any]:
        """What the page is told of it."""
        return {"id": self.id, "size": [self.image.height, self.image.width]}

    @cached_property
    def shown(self) -> bytes:
        """As the page shows it, as WebP: made anew of its pixels, with nothing else of what was sent."""
        return encode(np.asarray(self.image), "WEBP", 85)

    def seen(self, crop: Sequence[float], inputs: InputSpec) -> Seen:
        """The part in `crop` (top, left, bottom, right) px. Raises Refused for one that is not within the photo."""
        try:
            top, left, bottom, right = (round(float(side)) for side in crop)
        except (TypeError, ValueError, OverflowError):
            raise Refused(f"crop {crop!r} (accepted: [top, left, bottom, right] px)") from None
        inside = 0 <= top <= bottom - _LEAST and 0 <= left <= right - _LEAST
        if not inside or bottom > self.image.height or right > self.image.width:
            size = f"{self.image.height} x {self.image.width}"
            raise Refused(f"crop {[top, left, bottom, right]} (accepted: within {size} px, sides of {_LEAST} or more)")
        return seen_of(self.image.crop((left, top, right, bottom)), inputs)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network sees of a photo: (1, C, H, W) in [0, 1]; the same as people look at it; and the part itself.

    like: another photo, that the part is to be made like.
    """

    pixels: Tensor
    shown: Picture
    part: Image.Image
    like: Photo | None = None


@dataclass(frozen=True, eq=False)
class Shot(Images):
    """A picture in memory as tasks are given it; they make the same of a file whose bytes are `png`."""

    image: Image.Image

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("photo",)

    @cached_property
    def png(self) -> bytes:
        return encode(np.asarray(self.image))

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        return to_float(fit(self.image, size or net.inputs.size, net.inputs.channels))[None]

    def shaped(self, net: Network, side: int | None = None, sizes: Sizes | None = None) -> list[Tensor]:
        return [shaped(self.image, net, side, sizes)]

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return [to_float(fit(self.image, size, 1))[0]]

    def record(self) -> Any:
        return [{"name": None, "sha256": hashlib.sha256(self.png).hexdigest()}]


def seen_of(part: Image.Image, inputs: InputSpec) -> Seen:
    """What a network sees of a picture: what of its middle is in the proportions of the input."""
    return Seen(to_float(fit(part, inputs.size, inputs.channels))[None], as_seen(part, inputs.size), part)


class Photos:
    """Those sent lately, by id. Safe to use from several threads."""

    def __init__(self) -> None:
        self._photos: dict[str, Photo] = {}
        self._lock = threading.Lock()
        self._decoding = threading.Lock()  # one at a time: a large one takes a hundred megabytes

    def add(self, data: bytes) -> Photo:
        """The photo of an image file's bytes. Raises Refused."""
        found = hashlib.sha256(data).hexdigest()[:16]
        with self._decoding:
            with self._lock:
                known = self._photos.get(found)
            return known if known is not None else self.put(Photo(found, opened(data)))

    def put(self, photo: Photo) -> Photo:
        """Keep a photo."""
        with self._lock:
            self._photos.pop(photo.id, None)
            self._photos[photo.id] = photo
            for old in list(self._photos)[: max(0, len(self._photos) - KEPT)]:
                del self._photos[old]
        return photo

    def get(self, photo: object) -> Photo:
        """The photo of that id. Raises Refused where it is not kept."""
        with self._lock:
            found = self._photos.pop(photo, None) if isinstance(photo, str) else None
            if found is None:
                raise Refused("that photo is not kept any more; choose it again", 404)
            self._photos[found.id] = found
        return found


def opened(data: bytes) -> Image.Image:
    """The image of a JPEG, PNG or WebP file, upright, in RGB, its longer side at most `_LONGEST` px. Raises Refused."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise Refused(f"too many pixels (accepted: up to {PIXELS // 1_000_000} million)") from None
    except Exception:  # decoders raise nearly anything on a broken file
        raise Refused("not an image that can be read (accepted: JPEG, PNG, WebP)", 415) from None
    if width * height > PIXELS:
        millions = width * height / 1e6
        raise Refused(f"{millions:.0f} million pixels (accepted: up to {PIXELS // 1_000_000} million)")
    try:
        image = open_image(data, "the photo").convert("RGB")
    except InputError as error:
        raise Refused(str(error), 415) from None
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    if min(image.size) < _LEAST:
        raise Refused(f"{image.height} x {image.width} px (accepted: sides of {_LEAST} or more)")
    return image
