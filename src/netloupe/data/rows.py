"""Images in the rows of tables, as on the Hugging Face hub: which column holds them, and what labels they bear."""

from __future__ import annotations

import json
import posixpath
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Opened
from netloupe.data.drives import Drive, Local, drive_of
from netloupe.data.images import array_image, open_image, plain
from netloupe.data.labels import classes_of
from netloupe.data.sources import ImageSource
from netloupe.data.tables import Table

_HELD_PIECES = 2  # kept in memory
_PATHS = ("image", "path", "file", "file_name", "filename", "image_path")  # columns of text that name image files

Values = list[Any] | np.ndarray
"""The numbers in a row: nested lists, or an array."""


def from_tables(tables: Sequence[Table], spec: str) -> ImageSource:
    """Rows of tables with an `image` column: encoded bytes, a struct of `bytes` and `path` (as on the hub), or numbers.

    Numbers are nested lists, or Arrow's tensors of a fixed shape: (C, H, W), (H, W, C) or (H, W). Where there are no
    bytes, a path, from the folder of the table on; columns of nothing but paths too. A column may lie within others.

    Without an `image` column, the first column of such a type. Optional columns: `label` (class
    index, or class name), `class` (class name); class names stored by the hub's `datasets` are used
    too. Rows without an image, or with bytes that are no image, raise InputError when opened.
    """
    names: list[str] = []
    columns: list[str] = []
    labels: list[object] = []
    class_names: list[object] = []
    hub_classes: list[str] | None = None
    for table in tables:
        schema, count = table.schema, sum(table.counts)
        column = _image_column(schema, table)
        columns.append(column)
        labels += _beside(table, column, "label", count)
        class_names += _beside(table, column, "class", count)
        hub_classes = hub_classes or _hub_classes(schema)
        names += [f"{table.name}#{row}" for row in range(count)]
    if not names:
        raise InputError(f"{spec!r} holds no rows")
    indices, classes = classes_of(labels, class_names, spec)
    opener = _Rows(names, _Cells(tables, columns))
    return ImageSource(spec, names, opener, indices, hub_classes if hub_classes and indices else classes)


def _beside(table: Table, column: str, name: str, count: int) -> list[object]:
    """The values of a column of that name, which lies where the column of images does, or outermost."""
    inside = column.rpartition(".")[0]
    fields = dict(_fields(table.schema))
    for found in dict.fromkeys([f"{inside}.{name}" if inside else name, name]):
        if found in fields:
            return list(table.column(found).to_pylist())
    return [None] * count


@dataclass(frozen=True)
class _Rows:
    """Opens the image in row i."""

    names: Sequence[str]
    read: _Cells

    def __call__(self, i: int) -> Opened:
        return self.open(i, None)

    def open(self, i: int, inputs: InputSpec | None) -> Opened:
        found = self.read(i)
        if found is None:
            raise InputError(f"{self.names[i]}: no image in this row")
        if isinstance(found, str):
            drive, path = self.read.file(i, found)
            if drive.kind(path) != "file":
                raise InputError(f"{self.names[i]}: no image in this row, and no file {plain(found)[:200]!r}")
            found = drive.read(path)
        if isinstance(found, bytes):
            return open_image(found, self.names[i], inputs, guess=False)
        return array_image(_array(found, self.names[i]), self.names[i], inputs, guess=False)

    def content(self, i: int) -> bytes:
        found = self.read(i)
        if isinstance(found, str):
            drive, path = self.read.file(i, found)
            return drive.read(path)
        return found or b"" if isinstance(found, bytes | None) else _array(found, self.names[i]).tobytes()

    def stamp(self, i: int) -> str:
        return self.read.stamp(i)

    @property
    def slow(self) -> bool:
        return self.read.slow


class _Cells:
    """What row i holds of an image: bytes, a path, numbers, or None. A few pieces are held at a time. Safe for threads.

    columns: of each table, that of the images.
    """

    def __init__(self, tables: Sequence[Table], columns: Sequence[str]) -> None:
        self._tables, self._columns = tables, columns
        self._held: dict[int, pa.ChunkedArray] = {}
        self._lock = threading.Lock()
        self._pieces = [(t, p) for t, table in enumerate(tables) for p in range(len(table.counts))]
        self._starts = np.array([0, *accumulate(count for table in tables for count in table.counts)])

    def __reduce__(self) -> tuple[type[_Cells], tuple[Sequence[Table], Sequence[str]]]:
        return _Cells, (self._tables, self._columns)  # neither the lock nor what is held goes along

    def __call__(self, i: int) -> bytes | str | Values | None:
        piece = self._piece(i)
        with self._lock:
            if piece not in self._held:
                while len(self._held) >= _HELD_PIECES:
                    self._held.pop(next(iter(self._held)))
                self._held[piece] = self._read(piece)
            held = self._held[piece][i - int(self._starts[piece])]
            if isinstance(held, pa.FixedShapeTensorScalar):
                return None if held.as_py() is None else np.array(held.to_numpy())
            value: dict[str, Any] | bytes | str | Values | None = held.as_py()
        if not isinstance(value, dict):
            return value
        return value.get("path") if value.get("bytes") is None else value["bytes"]

    def _piece(self, i: int) -> int:
        return int(np.searchsorted(self._starts, i, side="right")) - 1

    def _read(self, piece: int) -> pa.ChunkedArray:
        t, p = self._pieces[piece]
        return self._tables[t].piece(p, self._columns[t])

    def file(self, i: int, path: str) -> tuple[Drive, str]:
        """Where the file lies that row i names: an address, or a path from the folder of its table on."""
        table = self._tables[self._pieces[self._piece(i)][0]]
        if "://" in path:
            return drive_of(path)
        return table.drive, posixpath.join(table.folder, path)

    @property
    def slow(self) -> bool:
        return not all(isinstance(table.drive, Local) for table in self._tables)

    def stamp(self, i: int) -> str:
        """Of the table in which row i lies."""
        return self._stamps[self._pieces[self._piece(i)][0]]

    @cached_property
    def _stamps(self) -> list[str]:
        return [table.stamp() for table in self._tables]


def _fields(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """All columns, those within others too, which are named "a.b"; what holds bytes is a column itself."""

    def inside(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
        yield name, kind
        if pa.types.is_struct(kind) and not _holds_bytes(kind):
            for field in kind:
                yield from inside(f"{name}.{field.name}", field.type)

    for field in schema:
        yield from inside(field.name, field.type)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _image_column(schema: pa.Schema, table: Table) -> str:
    fields = dict(_fields(schema))
    columns = [name for name, kind in fields.items() if _holds_bytes(kind)]
    columns = columns or [name for name, kind in fields.items() if _depth(kind) > 1]
    columns = columns or [name for name, kind in fields.items() if _text(kind) and name.split(".")[-1] in _PATHS]
    if not columns:
        raise InputError(
            f"{table.drive.address(table.path)}: no column of image bytes or arrays (columns: "
            f"{', '.join(map(plain, schema.names))})"
        )
    return next((name for name in columns if name.split(".")[-1] == "image"), columns[0])


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


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
