"""Files of rows, read in pieces: Parquet, Arrow files of the `datasets` library, Lance."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from netloupe.core.errors import InputError, NetloupeError, first_line
from netloupe.data.drives import Drive, Local
from netloupe.data.images import plain

_PIECE = 256  # rows of Lance read together
_KNOWN = 64 << 20  # bytes that LanceDB keeps of what it knows of a database's tables


@dataclass(frozen=True)
class Table(ABC):
    """Rows of one file or folder. name: for people, before the number of the row."""

    drive: Drive
    path: str
    name: str

    def __reduce__(self) -> Any:
        return type(self), (self.drive, self.path, self.name)  # what was opened does not go along

    @property
    def folder(self) -> str:
        """Where paths in its rows start from."""
        return posixpath.dirname(self.path)

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Its columns. Raises InputError if it can't be read."""

    @property
    @abstractmethod
    def counts(self) -> Sequence[int]:
        """The rows of each piece."""

    @abstractmethod
    def column(self, column: str) -> pa.ChunkedArray:
        """All of one, which is small; "a.b" is field b of column a."""

    @abstractmethod
    def piece(self, number: int, column: str) -> pa.ChunkedArray:
        """The part of a column that is read at once."""

    def stamp(self) -> str:
        """What is another once the rows are."""
        return self.drive.stamp(self.path)

    @contextmanager
    def plainly(self, what: str) -> Iterator[None]:
        """Whatever goes wrong in the library is an InputError."""
        try:
            yield
        except NetloupeError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # Arrow's are two of them
            text = plain(first_line(error))[:300]
            raise InputError(f"{self.drive.address(self.path)}: can't be read as {what} ({text})") from None


class Parquet(Table):
    """One Parquet file, a row group at a time."""

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        with self.plainly("Parquet"):
            return pq.read_metadata(self.drive.arrow(self.path))

    @property
    def schema(self) -> pa.Schema:
        with self.plainly("Parquet"), pq.ParquetFile(self.drive.arrow(self.path), metadata=self._metadata) as opened:
            return opened.schema_arrow  # not of the metadata, which lacks Arrow's own types

    @property
    def counts(self) -> Sequence[int]:
        return [self._metadata.row_group(g).num_rows for g in range(self._metadata.num_row_groups)]

    def column(self, column: str) -> pa.ChunkedArray:
        with self.plainly("Parquet"), pq.ParquetFile(self.drive.arrow(self.path), metadata=self._metadata) as opened:
            return _inner(opened.read(columns=[column]), column)

    def piece(self, number: int, column: str) -> pa.ChunkedArray:
        with self.plainly("Parquet"), pq.ParquetFile(self.drive.arrow(self.path), metadata=self._metadata) as opened:
            return _inner(opened.read_row_group(number, columns=[column]), column)

    def stamp(self) -> str:
        footer = hashlib.sha256(repr(self._metadata.to_dict()).encode()).hexdigest()
        return f"{self.drive.stamp(self.path)} {footer}"


class Arrow(Table):
    """One Arrow file or stream, as `datasets` writes them; here it is mapped into memory, from elsewhere read whole."""

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        with self.plainly("Arrow"):
            file = pa.memory_map(self.path) if isinstance(self.drive, Local) else self.drive.arrow(self.path)
            if file.read(6) == b"ARROW1":
                opened = pa.ipc.open_file(file)
                return [opened.get_batch(i) for i in range(opened.num_record_batches)]
            file.seek(0)
            return list(pa.ipc.open_stream(file))

    @cached_property
    def schema(self) -> pa.Schema:
        if self._batches:
            return self._batches[0].schema
        return pa.schema([])

    @property
    def counts(self) -> Sequence[int]:
        return [batch.num_rows for batch in self._batches]

    def column(self, column: str) -> pa.ChunkedArray:
        return _inner(pa.Table.from_batches(self._batches, self.schema), column)

    def piece(self, number: int, column: str) -> pa.ChunkedArray:
        return _inner(pa.Table.from_batches([self._batches[number]]), column)


def lance(where: str) -> Any:
    """The LanceDB database at a path or address. It says nothing below errors on stderr, unless `LANCEDB_LOG` asks.

    It keeps what it knows of every version of a table, each of which lists all before, up to a gigabyte unless bounded.
    """
    os.environ.setdefault("LANCEDB_LOG", "error")  # before it is imported
    import lancedb

    return lancedb.connect(where, session=lancedb.Session(metadata_cache_size_bytes=_KNOWN))


class Lance(Table):
    """A Lance data set: a folder, read by LanceDB."""

    @property
    def folder(self) -> str:
        return self.path

    @cached_property
    def _opened(self) -> Any:
        with self.plainly("Lance"):
            above, name = posixpath.split(self.path.rstrip("/"))
            where = os.path.abspath(above) if isinstance(self.drive, Local) else self.drive.address(above)
            return lance(where).open_table(name.removesuffix(".lance"))

    @property
    def schema(self) -> pa.Schema:
        return self._opened.schema

    @cached_property
    def counts(self) -> Sequence[int]:
        with self.plainly("Lance"):
            rows = self._opened.count_rows()
        return [min(_PIECE, rows - first) for first in range(0, rows, _PIECE)]

    def column(self, column: str) -> pa.ChunkedArray:
        parts = [self._rows(n, column) for n in range(0, sum(self.counts), _PIECE * _PIECE)]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def piece(self, number: int, column: str) -> pa.ChunkedArray:
        return self._rows(number * _PIECE, column, _PIECE)

    def _rows(self, first: int, column: str, count: int = _PIECE * _PIECE) -> pa.ChunkedArray:
        with self.plainly("Lance"):
            offsets = list(range(first, min(first + count, sum(self.counts))))
            return self._opened.take_offsets(offsets).select([column]).to_arrow().column(0)  # in their order

    def stamp(self) -> str:
        return f"{self._opened.version} {len(self.counts)}"


def _inner(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Column "a.b" of a table that has column "a", or a column of that very name."""
    if column in table.column_names:
        return table.column(column)
    first, *inside = column.split(".")
    found = table.column(first)
    for name in inside:
        kind = found.type.field(name).type
        place = found.type.get_field_index(name)
        found = pa.chunked_array([chunk.flatten()[place] for chunk in found.chunks], kind)  # null where the whole is
    return found


def saved_data_set(drive: Drive, folder: str, files: Sequence[str]) -> list[str] | None:
    """The Arrow files, in order, of a data set that `datasets` saved into a folder; None where that is none.

    Raises InputError for one of several splits, and one whose list of files can't be read.
    """
    address = drive.address(folder)
    if "dataset_dict.json" in files:
        splits = json.loads(drive.read(posixpath.join(folder, "dataset_dict.json"))).get("splits", [])
        some = ", ".join(f"{address.rstrip('/')}/{name}" for name in splits)
        raise InputError(f"{address}: a data set of the splits {', '.join(splits)} (accepted: {some})")
    if "state.json" not in files or "dataset_info.json" not in files:
        return None
    try:
        state = json.loads(drive.read(posixpath.join(folder, "state.json")))
        named = [str(one["filename"]) for one in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{address}: its state.json can't be read (accepted: what save_to_disk wrote)") from None
    for name in named:
        if name not in files:
            raise InputError(f"{address}: its state.json names {plain(name)[:200]!r}, which is not there")
    return named
