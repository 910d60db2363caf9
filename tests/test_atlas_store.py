"""The store by itself: what is torn, damaged or killed is one plain line, or mended by the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kill_helpers import killed, moments
from netloupe.atlas.store import Store, plainly
from netloupe.core.errors import StoreError
from netloupe.core.identity import Identity

TABLES = {"numbers": "id int64, name string", "provenance": "network string"}
A, B = Identity(name="a"), Identity(name="b")


def begun(out: Path, identity: Identity = A) -> Store:
    store = Store.begin(out, identity, TABLES)
    if not store.has("numbers"):
        store.put({"numbers": [{"id": i, "name": str(i)} for i in range(20)]}, "numbers")
    if not store.has("document"):
        store.put({"provenance": [{"network": json.dumps({"name": identity["name"], "layers": []})}]}, "document")
    return store


def finished(out: Path, identity: Identity = A) -> Store:
    Store.settle(out)
    return Store(out) if Store.is_of(out, identity) else begun(out, identity).finish(out, {})


@pytest.mark.parametrize("known", [True, False])
def test_a_table_killed_while_it_was_born_is_none(tmp_path: Path, known: bool) -> None:
    store = begun(tmp_path / "out")
    torn = store.path / ("map.lance" if known else "other.lance")
    (torn / "_transactions").mkdir(parents=True)
    (torn / "data").mkdir()
    assert store.count(torn.stem) == 0
    again = begun(tmp_path / "out")
    assert not torn.exists()
    again.put({"numbers": [{"id": 20, "name": "more"}]})
    assert again.finish(tmp_path / "out", {}).count("numbers") == 21


def test_a_table_of_a_whole_atlas_that_was_emptied_is_one_line(tmp_path: Path) -> None:
    store = finished(tmp_path / "out")
    for file in (store.path / "provenance.lance").rglob("*"):
        file.unlink() if file.is_file() else None
    with pytest.raises(StoreError, match="table 'provenance' can't be read"):
        Store.open(tmp_path / "out").network  # noqa: B018


@pytest.mark.parametrize("how", ["zeros", "half", "noise", "middle", "gone", "nonsense"])
def test_no_error_of_the_database_comes_out_as_it_is(tmp_path: Path, how: str) -> None:
    store = finished(tmp_path / "out")
    file = next((store.path / "numbers.lance" / "data").iterdir())
    raw = bytearray(file.read_bytes())
    if how == "zeros":
        raw[:] = bytes(len(raw))
    elif how == "half":
        raw = raw[: len(raw) // 2]
    elif how == "noise":
        raw[::7] = b"\x5a" * len(raw[::7])
    elif how == "middle":
        raw[: len(raw) // 2] = b"\xff" * (len(raw) // 2)
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(b"nonsense" if how == "nonsense" else raw)
    store = Store.open(tmp_path / "out")
    for read in (lambda: store.rows("numbers"), lambda: store.rows("numbers", "nothing = 3")):
        with pytest.raises(StoreError, match="table 'numbers' can't be read") as found:
            read()
        assert ".rs" not in str(found.value)
        assert "LanceError" not in str(found.value)
        assert len(str(found.value).splitlines()) == 1


def test_the_words_of_rust_are_left_out() -> None:
    full = "No space left on device (os error 28)"
    told = {
        f"lance error: LanceError(IO): {full}, /root/.cargo/registry/src/x/lance-io-13.0.0/src/local.rs:273:40": full,
        f"lance error: LanceError(IO): {full}, /rustc/2d81/library/core/src/ops/function.rs:250:5": full,
        "Table 'images' was not found": "Table 'images' was not found",
    }
    assert {text: plainly(RuntimeError(text)) for text in told} == told


@pytest.mark.parametrize("document", ["[" * 100_000, '"text"', "{", None])
def test_documents_that_are_none(tmp_path: Path, document: str | None) -> None:
    store = begun(tmp_path / "out")
    store.put({"provenance": []} if document is None else {"provenance": [{"network": document}]})
    store._database.open_table("provenance").delete("network LIKE '%name%'")
    with pytest.raises(StoreError, match="holds no atlas; build it again"):
        store.network  # noqa: B018
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "atlas.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match="no atlas at"):
        Store.open(tmp_path / "other")


def test_killed_while_one_atlas_replaces_another_one_of_them_always_lies_there(tmp_path: Path) -> None:
    def finish() -> None:
        made.finish(out, {})

    out = tmp_path / "counted" / "out"
    finished(out, A)
    made = begun(out, B)
    count = len(moments(finish, tmp_path))
    assert count > 5
    names = []
    for moment in range(1, count + 1):
        out = tmp_path / str(moment) / "out"
        finished(out, A)
        made = begun(out, B)
        assert killed(finish, tmp_path, moment)
        names.append(Store.open(out).network["name"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "put", None)  # nothing is made again
            assert finished(out, B).network["name"] == "b"
        assert [p.name for p in out.parent.iterdir()] == ["out"]
        assert not (out / "journal.json").exists()
    assert names == sorted(names)
    assert set(names) == {"a", "b"}


def test_what_was_finished_never_replaces_what_is_no_atlas(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = begun(out)
    (made.path / "atlas.json").write_text(json.dumps({"format": 4}))
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    Store.settle(out)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="no atlas; give another --out"):
        Store.begin(out, A, TABLES)
