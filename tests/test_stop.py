"""Ctrl-C and SIGTERM: a line that says what is kept, the command that goes on, and the exit codes of the shell."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atlas_helpers import write_photos
from netloupe.cli.app import main
from netloupe.cli.stop import Stopped, Terminated, keeping, terminable
from netloupe.core.errors import Cancelled
from netloupe.core.folders import beside

STOPPING = """
import os, sys
from netloupe.cli.watch import Bars
sent, name, at = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tell = Bars.tell
def told(self, part, done, total, note):
    tell(self, part, done, total, note)
    if part == name and done >= at:
        os.kill(os.getpid(), sent)
Bars.tell = told
from netloupe.cli.app import main
sys.exit(main(sys.argv[4:]))
"""


def stopped(sent: signal.Signals, name: str, at: int, arguments: list[str]) -> tuple[int, str]:
    command = [sys.executable, "-c", STOPPING, str(int(sent)), name, str(at), *arguments]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert found.stdout == ""
    return found.returncode, found.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_says_how_it_goes_on(tmp_path: Path, sent: signal.Signals) -> None:
    data, out = write_photos(tmp_path / "my photos", 6), tmp_path / "out"
    arguments = [
        "atlas",
        "build",
        "--data",
        str(data),
        "-l",
        "conv1",
        "--map",
        "none",
        "--project",
        "none",
        "-o",
        str(out),
    ]
    kept = f"what was made is kept in {beside(out, 'partial')}; go on with: netloupe {shlex.join(arguments)}"
    status = {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
    assert stopped(sent, "neighbors", 1, arguments) == (status, f"netloupe: stopped; {kept}\n")
    assert not (tmp_path / ".out.lock").exists()
    assert main(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my photos", "out"]


@pytest.mark.parametrize(("at", "kept"), [(1, None), (3, "its last checkpoint is kept in {out}")])
def test_a_training_that_is_stopped(tmp_path: Path, at: int, kept: str | None) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in "ab":
        write_photos(data / name, 4)
    arguments = ["train", "--data", str(data), "--val", str(data), "-o", str(out), "--sizes", "32:3"]
    arguments += ["--size", "32", "--batch", "4"]
    told = "nothing of it is kept; begin anew" if kept is None else f"{kept.format(out=out)}; go on"
    line = f"netloupe: stopped; {told} with: netloupe {shlex.join(arguments)}\n"
    assert stopped(signal.SIGTERM, "training", at, arguments) == (143, line)


def test_a_technique_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["visualize", "conv1:3", "--steps", "50", "-o", str(tmp_path / "a" / "out")]
    line = f"netloupe: stopped; nothing of it is kept; begin anew with: netloupe {shlex.join(arguments)}\n"
    assert stopped(signal.SIGINT, "steps", 2, arguments) == (130, line)
    assert list(tmp_path.iterdir()) == []


def test_what_stops_and_what_it_leaves() -> None:
    for stop, status in ((KeyboardInterrupt(), 130), (Cancelled(), 130), (Terminated(), 143)):
        for kept, goes_on, told in (
            ("x", True, "x; go on"),
            (None, True, "nothing of it is kept; begin anew"),
            ("x", False, "x; begin"),
        ):
            with pytest.raises(Stopped) as found, keeping(lambda: kept, goes_on):  # noqa: B023
                raise stop
            assert found.value.status == status
            assert found.value.line(["map"]).startswith(f"stopped; {told}")
    with pytest.raises(ValueError, match="no stop"), keeping(lambda: "x"):
        raise ValueError("no stop")


def test_sigterm_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
