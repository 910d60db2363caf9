"""Eyes and noses of the faces among the embedded photos, so that `correspondence` has something to show by itself.

There are two, a woman's and a cat's, seen in several crops. Crops of one face are no independent faces.
"""

from __future__ import annotations

import re

_PARTS = ("left eye", "right eye", "nose")  # left and right in the picture
_FACES = {  # (y, x) in px of the whole photograph
    "astronaut": ((101, 203), (103, 247), (121, 225)),
    "cat": ((115, 172), (136, 319), (243, 265)),
}
_PHOTOS = (
    "astronaut/s256@0,85",
    "astronaut/s256@0,170",
    "astronaut/s170@0,171",
    "cat/full",
    "cat/s225@75,113",
)
NOTE = "two faces in five crops of the embedded photos: pairs of crops of one face say nothing about faces in general"


def photo_faces() -> dict[str, dict[str, list[int]]]:
    """Image -> part -> [y, x] in px of that crop, as `find_points` reads it."""
    return {photo: dict(zip(_PARTS, _on(photo), strict=True)) for photo in _PHOTOS}


def _on(photo: str) -> list[list[int]]:
    name, _, part = photo.partition("/")
    top, left = map(int, re.findall(r"\d+", part)[1:]) if part != "full" else (0, 0)
    return [[y - top, x - left] for y, x in _FACES[name]]
