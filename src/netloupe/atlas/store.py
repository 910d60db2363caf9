"""The atlas on disk: a folder of LanceDB tables, one build each.

Which tables there are, and their columns, the parts of an atlas say (`atlas/parts/`). In all of them `layer` is the
layer's place in the network's list. `manifest.json` says how it was made, for `netloupe again`; `atlas.json` names
the format and the build, and is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from netloupe.core.errors import NetloupeError, StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.folders import beside, put_in_place, taken_back
from netloupe.core.identity import Identity
from netloupe.core.lock import held
from netloupe.data.tables import lance

if TYPE_CHECKING:
    from netloupe.analysis.nearest import Index

FORMAT = 10
_MARK = "atlas.json"
_JOURNAL = "journal.json"
_IDENTITY = "identity.json"
_SCRATCH = "scratch"
_STEPS = 3
"""Of a journal, which steps there are: those of another are no beginning of what is made now."""

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
        return lance(str(self.path))

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The finished atlas in a folder. Raises StoreError if there is none, or one of another format."""
        path = Path(path)
        mark = _read(path / _MARK)
        if mark is None and beside(path, "old").exists():
            with held(path, "atlas"):
                taken_back(path)
            mark = _read(path / _MARK)
        if mark is None and kept_of(path) is not None:
            raise StoreError(f"{path}: is being made, or was cut short (fix: the `netloupe atlas build` that made it)")
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
        if not _replaceable(path):
            raise StoreError(f"{path} holds something that is no atlas; give another --out")
        store = cls(beside(path, "partial"), tables)
        store._identity = identity
        journal, saved = _read(store.path / _JOURNAL), _read(store.path / _IDENTITY)
        if journal is None or saved is None or journal.get("format") != _STEPS:
            shutil.rmtree(store.path, ignore_errors=True)
            write_atomically(store.path / _IDENTITY, json.dumps(identity).encode())
        else:
            identity.check(saved, store.path, "atlas")
            store._go_on(journal)
        store._note()
        return store

    _identity: Identity

    @property
    def identity(self) -> Identity:
        """Of one in the making."""
        return self._identity

    def _go_on(self, journal: Mapping[str, Any]) -> None:
        self._steps, self._versions = journal["steps"], journal["versions"]
        with self._plainly("can't be gone on with; delete it to start anew"):
            for table in self._folders():
                if table not in self._versions:
                    shutil.rmtree(self.path / f"{table}.lance")
                elif (opened := self._database.open_table(table)).version != self._versions[table]:
                    opened.restore(self._versions[table])
                    self._versions[table] = opened.version

    def _note(self) -> None:
        journal = {"format": _STEPS, "steps": self._steps, "versions": self._versions}
        write_atomically(self.path / _JOURNAL, json.dumps(journal).encode())

    @staticmethod
    def is_of(path: Path, identity: Identity) -> bool:
        """Whether a finished atlas of this identity lies at `path`."""
        mark = _read(path / _MARK)
        return mark is not None and identity.differs(mark.get("identity", {})) is None

    def finish(self, path: Path, provenance: Mapping[str, Any]) -> Store:
        """Put the finished atlas in place at `path`, in one step, instead of what was there.

        provenance: how it was made, see `core.perform`.
        """
        manifest = {"provenance": dict(provenance)}
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1).encode())
        mark = {"format": FORMAT, "identity": self._identity}
        write_atomically(self.path / _MARK, json.dumps(mark).encode())
        self.settle(path)
        return Store(path)

    @staticmethod
    def settle(path: Path) -> None:
        """Put in place what a build that was killed had finished, and remove what it would have removed.

        The mark of an atlas is written last, and it has its journal until it lies in place.
        """
        made = beside(path, "partial")
        try:
            taken_back(path)
            if (path / _MARK).exists():
                (path / _JOURNAL).unlink(missing_ok=True)
            if not (made / _JOURNAL).exists():
                shutil.rmtree(made, ignore_errors=True)
            elif (made / _MARK).exists() and _replaceable(path):
                shutil.rmtree(made / _SCRATCH, ignore_errors=True)
                (made / _IDENTITY).unlink(missing_ok=True)
                put_in_place(made, path)
                (path / _JOURNAL).unlink()
        except OSError as error:
            raise StoreError(f"{path}: can't be written ({error.strerror or error})") from None

    @property
    def scratch(self) -> Path:
        """A folder for what only the build needs."""
        folder = self.path / _SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has(self, step: str) -> bool:
        """Whether a step of the build is whole."""
        return step in self._steps

    def put(self, rows: Rows, step: str | None = None) -> None:
        """Append rows to tables, which are made where they are not there: all of them or, after a kill, none.

        step: the step of the build that is whole with them. Raises StoreError on a full or read-only disk.
        """
        with self._plainly("can't be written"):
            for table, given in rows.items():
                added = given if isinstance(given, pa.Table) else self._typed(table, given)
                if table in self._tables():
                    opened = self._database.open_table(table)
                    opened.add(added)
                else:
                    opened = self._database.create_table(table, data=added)
                self._versions[table] = opened.version
        self._steps += [step] if step is not None else []
        self._note()

    def train(self, table: str) -> None:
        """Make the index of the vectors in a table, which the next step to be put is whole with."""
        with self._plainly("can't be written"):
            self.index(table).train()
            self._versions[table] = self._database.open_table(table).version

    def index(self, table: str) -> Index:
        """The index of the vectors in a table; before it is trained, all of them are looked at."""
        from netloupe.analysis.nearest import Index

        return Index(self._opened(table))

    def count(self, table: str, where: str | None = None) -> int:
        """The number of rows, or of those for which the condition holds; 0 for a table that is not there."""
        with self._plainly(f"table {table!r} can't be read"):
            return int(self._opened(table).count_rows(where)) if table in self._tables() else 0

    def rows(self, table: str, where: str | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows for which the SQL condition `where` holds, in no particular order."""
        found: list[dict[str, Any]] = self.arrow(table, where, columns).to_pylist()
        return found

    def arrow(self, table: str, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """As `rows`, as an Arrow table."""
        with self._plainly(f"table {table!r} can't be read"):
            query = self._opened(table).search()
            if where is not None:
                query = query.where(where)
            if columns is not None:
                query = query.select(list(columns))
            return query.limit(1 << 31).to_arrow()

    def _opened(self, table: str) -> Any:
        return self._database.open_table(table)

    @contextmanager
    def _plainly(self, what: str) -> Iterator[None]:
        """Whatever goes wrong in the database, a disk that is full or a table that is damaged, is a StoreError."""
        try:
            yield
        except NetloupeError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # what Rust raises
                raise
            raise StoreError(f"{self.path}: {what} ({plainly(error)})") from None

    @cached_property
    def network(self) -> dict[str, Any]:
        """What `data/network.json` gives."""
        rows = self.rows("provenance", columns=["network"])
        try:
            document = json.loads(rows[0]["network"])
        except (IndexError, TypeError, ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise StoreError(f"{self.path}: table 'provenance' holds no atlas; build it again")
        return document

    grows = False
    """Whether there may come more of what is shown as one version."""

    @property
    def version(self) -> str:
        """Another build has another."""
        return hashlib.sha256(json.dumps(self.network).encode()).hexdigest()[:12]

    def _typed(self, table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(list(rows), self.schema(table))

    def schema(self, table: str) -> pa.Schema:
        """The columns of a table, of one in the making."""
        pairs = [column.split() for column in self._columns[table].split(", ")]
        return pa.schema([(name, _kind(kind)) for name, kind in pairs])

    def _folders(self) -> set[str]:
        return {p.stem for p in self.path.glob("*.lance")}

    def _tables(self) -> set[str]:
        """LanceDB lists folders; a table that was being born when its run was killed is one without a version."""
        return {name for name in self._folders() if any(self.path.glob(f"{name}.lance/_versions/*.manifest"))}


class Snapshot(Store):
    """What there is of an atlas in the making, whatever is added later.

    over: another store, whose tables stand in place of its own. version: of what is shown, to which more may come.
    """

    def __init__(self, store: Store, document: dict[str, Any], version: str, over: Store | None = None) -> None:
        super().__init__(store.path, store._columns)
        self._steps, self._versions = list(store._steps), dict(store._versions)
        self._over, self._version = over, version
        self.network = document

    grows = True

    @property
    def version(self) -> str:
        return self._version

    def count(self, table: str, where: str | None = None) -> int:
        if self._over is not None and self._lies_over(table):
            return self._over.count(table, where)
        return super().count(table, where)

    def arrow(self, table: str, where: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        if self._over is not None and self._lies_over(table):
            return self._over.arrow(table, where, columns)
        if table in self._versions:
            return super().arrow(table, where, columns)
        nothing = self._typed(table, [])
        return nothing if columns is None else nothing.select(list(columns))

    def _lies_over(self, table: str) -> bool:
        return self._over is not None and table in self._over._versions

    def _opened(self, table: str) -> Any:
        opened = super()._opened(table)
        opened.checkout(self._versions[table])
        return opened

    def _tables(self) -> set[str]:
        return set(self._versions)


def _replaceable(path: Path) -> bool:
    """Whether an atlas may be put there: where there is none, nothing else but an empty folder either."""
    return not path.exists() or _read(path / _MARK) is not None or (path.is_dir() and not any(path.iterdir()))


def kept_of(path: Path) -> str | None:
    """What is kept of a build into `path` that was stopped, in words."""
    made = beside(path, "partial")
    return f"what was made is kept in {made}" if (made / _JOURNAL).exists() else None


def any_of(column: str, values: Sequence[int]) -> str:
    """The SQL condition that a column holds one of the values."""
    return f"{column} IN ({', '.join(map(str, values))})"


def plainly(error: BaseException) -> str:
    """What a library in Rust says, without its own names for the kind of error and the lines of its source."""
    text = re.sub(r"^(lance error: )?(LanceError\(\w+\): )?", "", first_line(error))
    return re.sub(r",? *(at )?/[^ ,]*\.rs(:\d+)*", "", text)[:200]


def _kind(name: str) -> pa.DataType:
    return pa.list_(_kind(name.removesuffix("[]"))) if name.endswith("[]") else pa.type_for_alias(name)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
