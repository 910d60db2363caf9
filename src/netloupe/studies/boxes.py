"""Boxes of objects from a JSON file, brought to the part of each image that the network sees."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.data.sources import ImageSource

ACCEPTED = 'a .json file of {"image name or number": [x0, y0, x1, y1], ...} or a list with one such box or null a row'


def read_boxes(path: str | Path, source: ImageSource, size: tuple[int, int]) -> Tensor:
    """(N, 4) for the images of a source: top, left, bottom, right in px of the network's input of that size.

    In the file a box is [x0, y0, x1, y1], the first and last pixel of the object in the image file, both included.
    An image is known by its name in the source, by the last part of it where no other has the same, by its `name` in
    that column of a Parquet file, or by its number from 0; in a list by its place. The boxes follow the image through
    resizing and center crop. NaN for an image without a box, with all of it cropped away, or that can't be read.
    Raises InputError for a file that can't be read, a box that is none, or a file without a box for any image.
    """
    entries = _read(Path(path))
    if isinstance(entries, list) and len(entries) != len(source):
        raise InputError(f"{path}: {len(entries)} boxes for {len(source)} images (accepted: one or null for each)")
    named = dict(enumerate(entries)) if isinstance(entries, list) else by_image(entries, source)
    found = torch.full((len(source), 4), math.nan, dtype=torch.float64)
    for i, given in named.items():
        if given is not None:
            box = _box(given, f"{path}: {source.names[i]}")
            try:
                image = source.open(i)
            except InputError:
                continue
            found[i] = torch.tensor(_as_seen(box, (image.height, image.width), size))
    if not bool(found.isfinite().any()):
        keys = ", ".join(map(repr, list(entries)[:2])) if isinstance(entries, Mapping) else "null"
        raise InputError(
            f"{path}: no box for any of the {len(source)} images, such as {source.names[0]!r} (the file names {keys})"
        )
    return found


def _read(path: Path) -> list[Any] | dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: boxes can't be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: boxes can't be read as JSON ({error})") from None
    if not isinstance(found, list | dict) or not found:
        raise InputError(f"{path}: boxes in an unknown form (accepted: {ACCEPTED})")
    return found


def by_image(entries: Mapping[str, Any], source: ImageSource) -> dict[int, Any]:
    """The entry of each image that has one, by the first of its names that the file knows."""
    columns = _names_in_parquet(source)
    last = [PurePosixPath(name).name for name in source.names]
    often = Counter(last)
    found = {}
    for i, name in enumerate(source.names):
        names = [name, *columns[i : i + 1], *([last[i]] if often[last[i]] == 1 else []), str(i)]
        known = next((one for one in names if one in entries), None)
        if known is not None:
            found[i] = entries[known]
    return found


def _names_in_parquet(source: ImageSource) -> list[str]:
    """The column `name` of a Parquet source's rows; empty without one."""
    if source.opened is None or "#" not in source.names[0]:
        return []
    import pyarrow.parquet as pq

    root = Path(source.opened)
    files = dict.fromkeys(name.rpartition("#")[0] for name in source.names)
    paths = [root if root.is_file() else (root if root.is_dir() else root.parent) / file for file in files]
    if not all(path.is_file() and "name" in pq.read_schema(path).names for path in paths):
        return []
    columns = {
        file: pq.read_table(path, columns=["name"]).column("name") for file, path in zip(files, paths, strict=True)
    }
    rows = [name.rpartition("#") for name in source.names]
    return [str(columns[file][int(row)].as_py()) for file, _, row in rows]


def _box(given: Any, where: str) -> tuple[float, float, float, float]:
    """(top, left, bottom, right), bottom and right excluded."""
    numbers = isinstance(given, Sequence) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    if not numbers or isinstance(given, str) or len(given) != 4:
        raise InputError(f"{where}: the box is {given!r} (accepted: [x0, y0, x1, y1])")
    x0, y0, x1, y1 = map(float, given)
    if not (0 <= x0 <= x1 < math.inf and 0 <= y0 <= y1 < math.inf):
        raise InputError(f"{where}: the box {given} is empty (accepted: 0 <= x0 <= x1 and 0 <= y0 <= y1)")
    return y0, x0, y1 + 1, x1 + 1


def _as_seen(
    box: tuple[float, float, float, float], image: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The box after the image's shorter side is resized and its center cropped to `size`; NaN where nothing is left."""
    scale = max(size[0] / image[0], size[1] / image[1])
    edges = []
    for axis in (0, 1):
        cut = (max(size[axis], round(image[axis] * scale)) - size[axis]) // 2
        edges.append([min(max(box[axis + end] * scale - cut, 0), size[axis]) for end in (0, 2)])
    (top, bottom), (left, right) = edges
    nothing = bottom <= top or right <= left
    return (math.nan, math.nan, math.nan, math.nan) if nothing else (top, left, bottom, right)
