"""Images in the rows of Parquet files, as on the Hugging Face hub."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netloupe.core.errors import InputError, first_line
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Opened
from netloupe.data.images import array_image, open_image, plain
from netloupe.data.sources import ImageSource

_HELD_GROUPS = 2  # row groups of image bytes kept in memory
_MAX_CLASSES = 100_000

Values = list[Any] | np.ndarray
"""The numbers in a row: nested lists, or an array."""


def from_parquet(files: Sequence[Path], spec: str) -> ImageSource:
    """Rows of Parquet files with an `image` column: encoded bytes, a struct of `bytes` (as on the hub), or numbers.

    Numbers are nested lists, or Arrow's tensors of a fixed shape: (C, H, W), (H, W, C) or (H, W).

    Without an `image` column, the first column of such a type. Optional columns: `label` (class
    index, or class name), `class` (class name); class names stored by the hub's `datasets` are used
    too. Rows without an image, or with bytes that are no image, raise InputError when opened.
    """
    if not files:
        raise InputError(f"no Parquet file matches {spec!r}")
    root = os.path.commonpath([file.parent for file in files])
    names: list[str] = []
    columns: list[str] = []
    labels: list[object] = []
    class_names: list[object] = []
    hub_classes: list[str] | None = None
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schema, count = opened.schema_arrow, opened.metadata.num_rows
                columns.append(_image_column(schema, file))
                table = opened.read(columns=[c for c in ("label", "class") if c in schema.names])
                blank = [None] * count
                labels += table.column("label").to_pylist() if "label" in schema.names else blank
                class_names += table.column("class").to_pylist() if "class" in schema.names else blank
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(file, error) from None
        hub_classes = hub_classes or _hub_classes(schema)
        name = plain(os.path.relpath(file, root))
        names += [f"{name}#{row}" for row in range(count)]
    if not names:
        raise InputError(f"{spec!r} holds no rows")
    indices, classes = _classes(labels, class_names, spec)
    opener = _Rows(names, _ImageBytes(files, columns))
    return ImageSource(spec, names, opener, indices, hub_classes if hub_classes and indices else classes)


@dataclass(frozen=True)
class _Rows:
    """Opens the image in row i."""

    names: Sequence[str]
    read: _ImageBytes

    def __call__(self, i: int) -> Opened:
        return self.open(i, None)

    def open(self, i: int, inputs: InputSpec | None) -> Opened:
        found = self.read(i)
        if found is None:
            raise InputError(f"{self.names[i]}: no image in this row")
        if isinstance(found, bytes):
            return open_image(found, self.names[i], inputs, guess=False)
        return array_image(_array(found, self.names[i]), self.names[i], inputs, guess=False)

    def content(self, i: int) -> bytes:
        found = self.read(i)
        return found or b"" if isinstance(found, bytes | None) else _array(found, self.names[i]).tobytes()


class _ImageBytes:
    """The bytes of image i, or None; a few row groups are held at a time. Safe for threads."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str]) -> None:
        self._files, self._columns = files, columns
        self._held: dict[int, pa.ChunkedArray] = {}
        self._lock = threading.Lock()
        self._groups: list[tuple[int, int]] = []  # file, row group in it
        rows: list[int] = []
        for f, file in enumerate(files):
            metadata = pq.read_metadata(file)
            self._groups += [(f, g) for g in range(metadata.num_row_groups)]
            rows += [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._starts = np.array([0, *accumulate(rows)])

    def __reduce__(self) -> tuple[type[_ImageBytes], tuple[Sequence[Path], Sequence[str]]]:
        return _ImageBytes, (self._files, self._columns)  # neither the lock nor what is held goes along

    def __call__(self, i: int) -> bytes | Values | None:
        group = int(np.searchsorted(self._starts, i, side="right")) - 1
        with self._lock:
            if group not in self._held:
                while len(self._held) >= _HELD_GROUPS:
                    self._held.pop(next(iter(self._held)))
                self._held[group] = self._read(group)
            held = self._held[group][i - int(self._starts[group])]
            if isinstance(held, pa.FixedShapeTensorScalar):
                return None if held.as_py() is None else np.array(held.to_numpy())
            value: dict[str, bytes | None] | bytes | Values | None = held.as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def _read(self, group: int) -> pa.ChunkedArray:
        f, g = self._groups[group]
        try:
            with pq.ParquetFile(self._files[f]) as opened:
                return opened.read_row_group(g, columns=[self._columns[f]]).column(self._columns[f])
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._files[f], error) from None


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{plain(file)}: can't be read as Parquet ({plain(first_line(error))})")


def _image_column(schema: pa.Schema, file: Path) -> str:
    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))

    columns = [field.name for field in schema if holds_bytes(field.type)]
    columns = columns or [field.name for field in schema if _depth(field.type) > 1]
    if not columns:
        raise InputError(f"{plain(file)}: no column of image bytes or arrays (columns: {', '.join(schema.names)})")
    return "image" if "image" in columns else str(columns[0])


def _depth(kind: pa.DataType) -> int:
    """The dimensions of the arrays that a column holds; 0 of what holds none."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _depth(kind.value_type)
        return inner + 1 if inner or _numeric(kind.value_type) else 0
    return 0


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _array(found: Values, name: str) -> np.ndarray:
    try:
        values = np.array(found)
    except ValueError:
        values = np.array(None)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name}: rows of several lengths, or values that are missing (accepted: an array of numbers)")
    return values


def _hub_classes(schema: pa.Schema) -> list[str] | None:
    """The names of a ClassLabel column `label`, as the `datasets` library writes them into the schema."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _classes(
    labels: Sequence[object], class_names: Sequence[object], spec: str
) -> tuple[list[int | None] | None, list[str] | None]:
    """Class index by row and class names by index; (None, None) where no row has a class.

    Rows with names and no index get the rank of their name. NaN, null and negative labels (the
    hub's -1) are unknown.
    """
    if all(label is None or isinstance(label, str) for label in labels):
        named = [label if label is not None else name for label, name in zip(labels, class_names, strict=True)]
        names = sorted({str(name) for name in named if name is not None})
        rank = {name: i for i, name in enumerate(names)}
        return ([None if name is None else rank[str(name)] for name in named], names) if names else (None, None)
    indices = [_index(label, spec) for label in labels]
    known = _names(indices, class_names, spec)
    classes = [known.get(i, str(i)) for i in range(max(known) + 1)] if known else None
    return (indices, classes) if any(i is not None for i in indices) else (None, None)


def _names(indices: Sequence[int | None], class_names: Sequence[object], spec: str) -> dict[int, str]:
    """The name of each index. Raises InputError for an index that rows give two names."""
    known: dict[int, str] = {}
    for i, name in zip(indices, class_names, strict=True):
        if i is not None and name is not None and known.setdefault(i, str(name)) != str(name):
            raise InputError(f"{spec!r}: class {i} has two names, {known[i]!r} and {str(name)!r} (accepted: one)")
    return known


def _index(label: object, spec: str) -> int | None:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return None
    if not isinstance(label, int | float) or label >= _MAX_CLASSES or label % 1 != 0:
        raise InputError(f"{spec!r}: label {label!r} (accepted: class names, or indices below {_MAX_CLASSES:,})")
    return int(label) if label >= 0 else None
