"""The atlas on disk: a folder of LanceDB tables, one build each.

Which tables there are, and their columns, the parts of an atlas say (`atlas/parts/`). In all of them `layer` is the
layer's place in the network's list. `atlas.json` names the format and the build; it is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from netloupe.core.errors import StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.identity import Identity

FORMAT = 5
_MARK = "atlas.json"
_JOURNAL = "journal.json"

Rows = Mapping[str, Sequence[Mapping[str, Any]] | pa.Table]
"""Table -> rows for it."""


class Store:
    """One atlas, or one in the making. `path` is its folder.

    One in the making keeps a journal: the steps that are whole, and which version of each table holds them and nothing
    else. What a killed build wrote beyond that is taken back when it goes on.
    """

    def __init__(self, path: Path, tables: Mapping[str, str] | None = None) -> None:
        """tables: of one in the making, the columns of each, as in "id int64, classes int32[]"; [] means a list."""
        self.path = path
        self._columns = dict(tables or {})
        self._steps: list[str] = []
        self._versions: dict[str, int] = {}

    @cached_property
    def _database(self) -> Any:
        import lancedb

        return lancedb.connect(str(self.path))

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The finished atlas in a folder. Raises StoreError if there is none, or one of another format."""
        path = Path(path)
        mark = _read(path / _MARK)
        if mark is None:
            raise StoreError(f"no atlas at {str(path)!r} (accepted: a folder that `netloupe atlas build` wrote)")
        if mark.get("format") != FORMAT:
            raise StoreError(f"{path} has format {mark.get('format')!r}, this version reads {FORMAT}; build it again")
        return cls(path)

    @classmethod
    def begin(cls, path: Path, identity: Identity, tables: Mapping[str, str]) -> Store:
        """The atlas in the making beside `path`, gone on with where one was cut short.

        Raises StoreError if `path` holds something that is no atlas, or can't be written, or if what was cut short was
        of another identity.
        """
        if path.exists() and _read(path / _MARK) is None and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(f"{path} holds something that is no atlas; give another --out")
        store = cls(path.with_name(f".{path.name}.partial"), tables)
        journal = _read(store.path / _JOURNAL)
        if journal is None:
            shutil.rmtree(store.path, ignore_errors=True)
        else:
            identity.check(journal["identity"], store.path, "atlas")
            store._go_on(journal)
        store._identity = identity
        store._note()
        return store

    _identity: Identity

    def _go_on(self, journal: Mapping[str, Any]) -> None:
        self._steps, self._versions = journal["steps"], journal["versions"]
        for table in self._tables():
            if table not in self._versions:
                self._database.drop_table(table)
            elif (opened := self._database.open_table(table)).version != self._versions[table]:
                opened.restore(self._versions[table])
                self._versions[table] = opened.version

    def _note(self) -> None:
        journal = {"identity": self._identity, "steps": self._steps, "versions": self._versions}
        write_atomically(self.path / _JOURNAL, json.dumps(journal).encode())

    @staticmethod
    def is_of(path: Path, identity: Identity) -> bool:
        """Whether a finished atlas of this identity lies at `path`."""
        mark = _read(path / _MARK)
        return mark is not None and identity.differs(mark.get("identity", {})) is None

    def finish(self, path: Path) -> Store:
        """Put the finished atlas in place at `path`, in one step, instead of what was there."""
        mark = {"format": FORMAT, "identity": self._identity}
        write_atomically(self.path / _MARK, json.dumps(mark).encode())
        (self.path / _JOURNAL).unlink(missing_ok=True)
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

    def has(self, step: str) -> bool:
        """Whether a step of the build is whole."""
        return step in self._steps

    def put(self, rows: Rows, step: str | None = None) -> None:
        """Append rows to tables, which are made where they are not there: all of them or, after a kill, none.

        step: the step of the build that is whole with them. Raises StoreError on a full or read-only disk.
        """
        try:
            for table, given in rows.items():
                added = given if isinstance(given, pa.Table) else self._typed(table, given)
                if table in self._tables():
                    opened = self._database.open_table(table)
                    opened.add(added)
                else:
                    opened = self._database.create_table(table, data=added)
                self._versions[table] = opened.version
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{self.path}: can't be written ({first_line(error)[:200]})") from None
        self._steps += [step] if step is not None else []
        self._note()

    def count(self, table: str, where: str | None = None) -> int:
        """The number of rows, or of those for which the condition holds; 0 for a table that is not there."""
        return int(self._database.open_table(table).count_rows(where)) if table in self._tables() else 0

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

    def _typed(self, table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        pairs = [column.split() for column in self._columns[table].split(", ")]
        return pa.Table.from_pylist(list(rows), pa.schema([(name, _kind(kind)) for name, kind in pairs]))

    def _tables(self) -> set[str]:
        return {p.stem for p in self.path.glob("*.lance")}


def any_of(column: str, values: Sequence[int]) -> str:
    """The SQL condition that a column holds one of the values."""
    return f"{column} IN ({', '.join(map(str, values))})"


def _kind(name: str) -> pa.DataType:
    return pa.list_(_kind(name.removesuffix("[]"))) if name.endswith("[]") else pa.type_for_alias(name)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
