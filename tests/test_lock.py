"""Who writes a file or folder holds it: nobody else writes there, and whoever dies lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netloupe.cli.app import main
from netloupe.core.errors import StoreError
from netloupe.core.lock import held, holding

HOLDER = """
import sys, time
from netloupe.core.lock import held
with held(sys.argv[1], "atlas build"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds `tmp_path / "out"`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process  # type: ignore[misc]
        process.kill()


def test_the_second_is_told_who_the_first_is(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    message = rf"out: process {holder.pid} \(netloupe atlas build\) is writing there; wait for it, or give another"
    for spelled in (tmp_path / "out", tmp_path / "x" / ".." / "out"):
        with pytest.raises(StoreError, match=message), held(spelled, "train"):
            pass
    with held(tmp_path / "other", "train"):
        pass


def test_links_lead_to_the_same_lock(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(StoreError, match=f"process {holder.pid}"), held(tmp_path / "link", "train"):
        pass


def test_the_kernel_lets_go_for_the_dead(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".out.lock").exists()
    with held(tmp_path / "out", "train"):
        assert (tmp_path / ".out.lock").read_text() == f"{os.getpid()} train\n"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_but_what_was_written(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b" / "out", "train"):
        pass
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path / "a" / "b" / "out", "train"):
        (tmp_path / "a" / "b" / "out").mkdir()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["out"]


def test_a_thread_may_hold_again_what_it_holds_and_no_other_may(tmp_path: Path) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with held(tmp_path / "out", "map"):
                told.append("held")
        except StoreError as error:
            told.append(str(error))

    with held(tmp_path / "out", "train"):
        with held(tmp_path / "out", "train"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(told) == 1
    assert f"process {os.getpid()}" in told[0]
    other()
    assert told[1:] == ["held"]


def test_a_function_holds_what_its_parameter_says(tmp_path: Path) -> None:
    @holding("out", "train")
    def write(name: str, out: Path | None = None) -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    assert write("x", tmp_path / "out") == [".out.lock"]
    assert write("x", out=tmp_path / "out") == [".out.lock"]
    assert write("x") == write("x", None) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_in_a_folder_that_can_not_be_written_beside_the_lock_lies_inside(tmp_path: Path) -> None:
    (tmp_path / "above" / "out").mkdir(parents=True)
    (tmp_path / "above").chmod(0o555)
    with held(tmp_path / "above" / "out", "train"):
        assert (tmp_path / "above" / "out" / ".lock").exists()
    (tmp_path / "above").chmod(0o755)


def test_a_place_that_can_not_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "out", tmp_path / ("a" * 300)):
        with pytest.raises(StoreError, match="can't be written"), held(place, "train"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["filters", "-l", "conv1"],
        ["explain", "cat.png"],
        ["study", "filters"],
        ["atlas", "build", "--first", "3", "-l", "conv1"],
        ["train", "--data", "photos", "--val", "photos"],
        ["stylenet", "train", "--styles", ".", "--images", "photos"],
        ["stylenet", "apply", "cat.png", "-s", "mosaic"],
        ["stylenet", "export"],
    ],
    ids=" ".join,
)
def test_every_verb_that_writes_refuses_what_another_run_writes(
    arguments: list[str], holder: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 2
    message = f"netloupe: {tmp_path / 'out'}: process {holder.pid} (netloupe atlas build) is writing there"
    assert capsys.readouterr().err.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
