"""The atlas on disk: a folder of LanceDB tables, one build each.

| table | a row is | columns |
|---|---|---|
| `units` | a channel | layer, channel, strength, mean, sparsity, selectivity, dead, low, high, counts, classes, ... |
| `patches` | one of a channel's best images | layer, channel, rank, image, value, y, x, top, left, bottom, right |
| `images` | an image | id, name, label, classes, probabilities, jpeg, thumb, maps, map_channels, map_peaks |
| `features` | an image | id, vector |
| `neighbors` | an image in one space | id, space, ids, distances |
| `tiles` | 64 channels of a layer | layer, sheet, jpeg |
| `embeddings` | a space | space, ids, x, y, about (JSON), missing |
| `map` | the map | ids in the order of places, document (JSON: `channels` of `data/map.json`) |
| `sprites` | a sheet of thumbnails | side, sheet, jpeg |
| `projections` | a channel with patches | layer, channel, jpeg |
| `alike` | a layer | layer, random, channels |
| `synthesized` | 64 channels of a layer | layer, sheet, jpeg, mosaics, units (JSON), seconds |
| `provenance` | the build | network (JSON: `data/network.json`) |

`layer` is the layer's place in the network's list. `atlas.json` names the format and the build; it is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from netloupe.core.errors import StoreError, first_line
from netloupe.core.files import write_atomically

FORMAT = 4
_MARK = "atlas.json"


class Store:
    """One atlas, or one in the making. `path` is its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _database(self) -> Any:
        import lancedb

        return lancedb.connect(str(self.path))

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The finished atlas in a folder. Raises StoreError if there is none, or one of another format."""
        path = Path(path)
        mark = _read_mark(path)
        if mark is None:
            raise StoreError(f"no atlas at {str(path)!r} (accepted: a folder that `netloupe atlas build` wrote)")
        if mark.get("format") != FORMAT:
            raise StoreError(f"{path} has format {mark.get('format')!r}, this version reads {FORMAT}; build it again")
        return cls(path)

    @classmethod
    def begin(cls, path: Path, identity: dict[str, Any]) -> Store:
        """The atlas in the making beside `path`: gone on with if of the same identity, otherwise begun anew.

        Raises StoreError if `path` holds something that is no atlas, or can't be written.
        """
        if path.exists() and _read_mark(path) is None and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(f"{path} holds something that is no atlas; give another --out")
        partial = path.with_name(f".{path.name}.partial")
        note = partial / "identity.json"
        try:
            same = json.loads(note.read_text()) == identity
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(partial, ignore_errors=True)
            write_atomically(note, json.dumps(identity).encode())
        return cls(partial)

    @staticmethod
    def is_of(path: Path, identity: dict[str, Any]) -> bool:
        """Whether a finished atlas of this identity lies at `path`."""
        mark = _read_mark(path)
        return mark is not None and mark.get("format") == FORMAT and mark.get("identity") == identity

    def finish(self, path: Path, identity: dict[str, Any]) -> Store:
        """Put the finished atlas in place at `path`, in one step, instead of what was there."""
        write_atomically(self.path / _MARK, json.dumps({"format": FORMAT, "identity": identity}).encode())
        (self.path / "identity.json").unlink(missing_ok=True)
        old = path.with_name(f".{path.name}.old")
        try:
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            self.path.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"{path}: can't be written ({error.strerror})") from None
        return Store(path)

    def write(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table, which is made if it is not there; all of them or none."""
        try:
            if table in self._tables():
                self._database.open_table(table).add(rows)
            else:
                self._database.create_table(table, data=rows)
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{self.path}: can't be written ({first_line(error)[:200]})") from None

    def drop(self, table: str) -> None:
        """Remove a table if it is there."""
        if table in self._tables():
            self._database.drop_table(table)

    def count(self, table: str) -> int:
        """The number of rows; 0 for a table that is not there."""
        return int(self._database.open_table(table).count_rows()) if table in self._tables() else 0

    def rows(self, table: str, where: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows for which the SQL condition `where` holds, in no particular order."""
        found: list[dict[str, Any]] = self.arrow(table, where, columns).to_pylist()
        return found

    def arrow(self, table: str, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """As `rows`, as an Arrow table."""
        try:
            query = self._database.open_table(table).search()
            if where is not None:
                query = query.where(where)
            if columns is not None:
                query = query.select(list(columns))
            return query.limit(1 << 31).to_arrow()
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"{self.path}: table {table!r} can't be read ({first_line(error)[:200]})") from None

    @cached_property
    def network(self) -> dict[str, Any]:
        """What `data/network.json` gives."""
        document: dict[str, Any] = json.loads(self.rows("provenance")[0]["network"])
        return document

    def _tables(self) -> set[str]:
        return {p.stem for p in self.path.glob("*.lance")}


def _read_mark(path: Path) -> dict[str, Any] | None:
    try:
        mark = json.loads((path / _MARK).read_text())
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None
