"""Points on images from a JSON file, such as eyes and noses, brought to the part of each image that the network sees.

    {"rex.jpg": {"left eye": [102, 128], "nose": [121, 162]}, ...}

Positions are [y, x] in px from the top left corner of the image file. The atlas writes those of the part of the image
that it shows, and says so: {"frame": [64, 64], "images": {...}} holds px of the input of a network of that size.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from netloupe.core.errors import InputError
from netloupe.data.sources import ImageSource
from netloupe.studies.boxes import by_image

ACCEPTED = '{"image": {"part": [y, x], ...}, ...}, or that as "images" beside "frame": [height, width]'

Place = tuple[float, float]


@dataclass(frozen=True)
class Points:
    """Points on images of a source.

    ids: of the images with a point, rising. parts: names in the order of the file. places: (len(ids), len(parts), 2),
    (y, x) in px of the network's input; NaN for a part that an image lacks. notes: what was left out, a line each.
    """

    ids: tuple[int, ...]
    parts: tuple[str, ...]
    places: np.ndarray
    notes: tuple[str, ...]


def read_points(path: str | Path, source: ImageSource, size: tuple[int, int]) -> Points:
    """The points of a JSON file on the images of a source, for a network with input of that size; see `find_points`."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except OSError as error:
        raise InputError(f"{path}: points can't be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: points can't be read as JSON ({error})") from None
    return find_points(content, source, size, str(path))


def find_points(content: Any, source: ImageSource, size: tuple[int, int], where: str = "points") -> Points:
    """The points of a decoded file; `where` stands for it in messages.

    An image is named as in the source, by the last part of that where it is the only one, in Parquet by its column
    `name`, or by its number. A point may be null. Left out with a note: an image that is not there or can't be read, a
    point outside of the image or in the part that the network does not see.
    Raises InputError for another form than the accepted one, and where no point is left.
    """
    frame, entries = _opened(content, where)
    named = by_image({name: name for name in entries}, source)
    known = set(named.values())
    notes = [_missing(name, source) for name in entries if name not in known]
    parts = tuple(dict.fromkeys(part for points in entries.values() for part in points))
    found: dict[int, np.ndarray] = {}
    for i, name in sorted(named.items()):
        try:
            image = source.open(i)
        except InputError as error:
            notes.append(f"{source.names[i]}: {error}")
            continue
        extent = (image.height, image.width)
        row = np.full((len(parts), 2), math.nan)
        for part, given in entries[name].items():
            place = _as_seen(given, extent, frame, size)
            if isinstance(place, str):
                notes.append(f"{name}: {part} at {list(given)} lies {place}")
            elif place is not None:
                row[parts.index(part)] = place
        if np.isfinite(row).any():
            found[i] = row
    if not found:
        reason = f": {notes[0]}" if notes else ""
        raise InputError(f"{where}: no point on any of the {len(source)} images of {source.spec!r}{reason}")
    return Points(tuple(found), parts, np.stack(list(found.values())), tuple(notes))


def _opened(content: Any, where: str) -> tuple[Place | None, dict[str, dict[str, Any]]]:
    """The frame, None for the image files themselves, and image -> part -> [y, x] or None."""
    frame, images = None, content
    if isinstance(content, dict) and set(content) == {"frame", "images"}:
        frame, images = _pair(content["frame"]), content["images"]
        if frame is None or min(frame) <= 0:
            raise InputError(f"{where}: the frame is {content['frame']!r} (accepted: [height, width] in px)")
    if not isinstance(images, dict) or not images or not all(isinstance(one, dict) for one in images.values()):
        raise InputError(f"{where}: points in an unknown form (accepted: {ACCEPTED})")
    for name, points in images.items():
        for part, given in points.items():
            if given is not None and _pair(given) is None:
                raise InputError(f"{where}: {name}: {part} is at {given!r} (accepted: [y, x] in px, or null)")
    return frame, images


def _pair(given: Any) -> Place | None:
    """Two finite numbers, or None."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        return None
    try:
        y, x = map(float, given)
    except OverflowError:  # a whole number beyond what a float holds
        return None
    return (y, x) if math.isfinite(y) and math.isfinite(x) else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file, whose names must differ; of two the decoder would keep the last without a word."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = value
    return found


def _missing(name: str, source: ImageSource) -> str:
    """Why an entry was not used: several images have the name, the file has the image by another, or there is none."""
    same = [own for i, own in enumerate(source.names) if name in (PurePosixPath(own).name, str(i))]
    if len(same) > 1:
        return f"{name}: {len(same)} images are named so (accepted: {', '.join(same[:3])}{', ...' * (len(same) > 3)})"
    if same:
        return f"{name}: the file has points on this image by another name too, and those count"
    near = difflib.get_close_matches(name, source.names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{name}: no such image in {source.spec!r}{hint}"


def _as_seen(given: Any, extent: Place, frame: Place | None, size: tuple[int, int]) -> Place | str | None:
    """(y, x) in px of the input, where else the point lies, or None for no point."""
    pair = _pair(given)
    if pair is None:
        return None
    bounds = extent if frame is None else frame
    if not all(0 <= at <= bound for at, bound in zip(pair, bounds, strict=True)):
        shape = " x ".join(f"{bound:g}" for bound in bounds)
        return f"outside of the {'image' if frame is None else 'frame'} ({shape} px)"
    if frame is not None:
        scale, cut = _fitted(extent, frame)
        pair = (pair[0] + cut[0]) / scale[0], (pair[1] + cut[1]) / scale[1]
    scale, cut = _fitted(extent, size)
    y, x = pair[0] * scale[0] - cut[0], pair[1] * scale[1] - cut[1]
    if not (0 <= y <= size[0] and 0 <= x <= size[1]):
        return "in a part of the image that the network does not see"
    return y, x


def _fitted(extent: Place, size: Place) -> tuple[Place, Place]:
    """How an image of that extent is brought to `size`: what each axis is multiplied by, and px cut off before it."""
    scale = max(size[0] / extent[0], size[1] / extent[1])
    wide = [max(round(side), round(long * scale)) for side, long in zip(size, extent, strict=True)]
    cut = [(whole - round(side)) // 2 for whole, side in zip(wide, size, strict=True)]
    return (wide[0] / extent[0], wide[1] / extent[1]), (float(cut[0]), float(cut[1]))


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
TWO_FACES = (
    "two faces in five crops of the embedded photos: pairs of crops of one face say nothing about faces in general"
)


def photo_faces() -> dict[str, dict[str, list[int]]]:
    """Image -> part -> [y, x] in px of that crop, as `find_points` reads it: something to show by itself.

    There are two faces among the embedded photos, a woman's and a cat's. Crops of one face are no independent faces.
    """
    return {photo: dict(zip(_PARTS, _on(photo), strict=True)) for photo in _PHOTOS}


def _on(photo: str) -> list[list[int]]:
    name, _, part = photo.partition("/")
    top, left = map(int, re.findall(r"\d+", part)[1:]) if part != "full" else (0, 0)
    return [[y - top, x - left] for y, x in _FACES[name]]
