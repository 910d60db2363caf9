"""Folders that appear whole or not at all, wherever the run that writes them is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import netloupe.core.folders as folders
from kill_helpers import killed, moments
from netloupe.core.errors import StoreError
from netloupe.core.folders import finish_files, new_folder, put_in_place, taken_back, write_files

OLD = {"a.png": b"old a", "sub/b.npy": b"old b", "manifest.json": b"old"}
NEW = {"a.png": b"new a", "sub/b.npy": b"new b", "sub/c.npy": b"new c", "manifest.json": b"new"}


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_appear_and_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_files(out, OLD.items()) == [out / name for name in OLD]
    assert content(out) == OLD
    (out / "mine.txt").write_text("mine")
    assert write_files(out, iter(NEW.items())) == [out / name for name in NEW]
    assert content(out) == NEW | {"mine.txt": b"mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("before", [{}, OLD], ids=["fresh", "over another"])
def test_killed_at_any_moment_all_of_a_result_is_old_or_all_is_new(tmp_path: Path, before: dict[str, bytes]) -> None:
    def write() -> None:
        write_files(out, NEW.items())

    out = tmp_path / "counted" / "out"
    out.parent.mkdir()
    if before:
        write_files(out, before.items())
    count = len(moments(write, tmp_path))
    assert count > 10
    seen = set()
    for moment in range(1, count + 1):
        out = tmp_path / str(moment) / "out"
        out.parent.mkdir()
        if before:
            write_files(out, before.items())
        assert killed(write, tmp_path, moment)
        finish_files(out)
        shown = {name: value for name, value in content(out).items() if not name.startswith(".")}
        assert shown in (before, NEW)
        seen.add(shown == NEW)
        write()
        assert content(out) == NEW
        assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert seen == ({True, False} if before else {False})


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, bytes]]:
        yield "a.png", b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="out: can't be written \\(No space left"):
        write_files(tmp_path / "out", failing())
    assert list(tmp_path.iterdir()) == []
    write_files(tmp_path / "out", OLD.items())
    with pytest.raises(StoreError, match="No space left"):
        write_files(tmp_path / "out", failing())
    (tmp_path / "out" / "c.png").mkdir()
    with pytest.raises(StoreError, match="c.png: can't be written \\(a folder\\)"):
        write_files(tmp_path / "out", [("a.png", b"new"), ("c.png", b"new")])
    assert content(tmp_path / "out") == OLD


@pytest.mark.parametrize("exchanging", [True, False], ids=["exchanged", "by two renames"])
def test_a_folder_lies_at_its_place_whenever_one_looks(
    tmp_path: Path, exchanging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(folders, "_exchanged", lambda a, b: False)

    def prepare(name: str) -> tuple[Path, Path]:
        made, out = tmp_path / name / "made", tmp_path / name / "out"
        write_files(made, NEW.items())
        write_files(out, OLD.items())
        return made, out

    made, out = prepare("counted")
    count = len(moments(lambda: put_in_place(made, out), tmp_path))
    assert content(out) == NEW
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    absent = 0
    for moment in range(1, count + 1):
        made, out = prepare(str(moment))
        assert killed(lambda: put_in_place(made, out), tmp_path, moment)  # noqa: B023
        absent += not out.exists()
        taken_back(out)
        assert content(out) in (OLD, NEW)
        assert not (out.parent / ".out.old").exists()
    assert absent == (0 if exchanging else 1)


def test_a_new_folder_is_there_once_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "above" / "out"
    with new_folder(out) as made:
        (made / "a").write_text("a")
        assert not out.exists()
    assert content(out) == {"a": b"a"}
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as made:
        (made / "a").write_text("a")
    assert content(tmp_path / "empty") == {"a": b"a"}
    with pytest.raises(ValueError, match="stopped"), new_folder(tmp_path / "never"):
        raise ValueError("stopped")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["above", "empty"]
