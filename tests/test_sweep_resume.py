"""A sweep that is killed goes on where it was, and a state that can't be used is refused in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from netloupe.core.errors import Cancelled, StoreError
from netloupe.sweep import blocks, engine
from netloupe.sweep.engine import sweep
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.top import Strongest
from sweep_helpers import (
    SIDE,
    all_accumulators,
    assert_equal_results,
    flat_results,
    source_of,
    tiny_images,
    tiny_network,
)
from watch_helpers import Reacting, Recorder

COUNT = 100

KILLED = """
import os, signal, sys
from sweep_helpers import all_accumulators, tiny_images, tiny_network
from netloupe.sweep.engine import sweep
from watch_helpers import Reacting

def react(name, done):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

sweep(tiny_network(), tiny_images(100), all_accumulators(), state=sys.argv[1], save_every=0.0, watch=Reacting(react))
"""


@pytest.mark.parametrize("moment", [32, 64])
def test_killed_and_resumed_gives_identical_results(tmp_path: Path, moment: int) -> None:
    state = tmp_path / "deep" / "sweep.safetensors"
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", KILLED, str(state), str(moment)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": folders}, check=False)
    assert killed.returncode == -signal.SIGKILL

    resumed = all_accumulators()
    report = sweep(tiny_network(), tiny_images(COUNT), resumed, state=state)
    assert (report.images, report.resumed) == (COUNT, moment)
    whole = all_accumulators()
    sweep(tiny_network(), tiny_images(COUNT), whole)
    assert_equal_results(flat_results(whole), flat_results(resumed))

    again = all_accumulators()
    assert sweep(tiny_network(), tiny_images(COUNT), again, state=state).resumed == COUNT
    assert_equal_results(flat_results(whole), flat_results(again))
    assert os.listdir(state.parent) == [state.name]


def test_stopped_after_any_block_of_any_shard_it_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(engine, "BLOCKS", 3)
    net, images, state = tiny_network(), torch.rand(41, 3, SIDE, SIDE), tmp_path / "sweep.safetensors"
    whole = all_accumulators()
    sweep(net, images, whole)
    for stop in range(4, 41, 4):
        with pytest.raises(KeyboardInterrupt):
            sweep(net, images, all_accumulators(), state=state, save_every=0.0, watch=Reacting(_stopping(stop)))
        resumed = all_accumulators()
        if stop % 8 == 0:
            assert sweep(net, images, resumed, state=state).resumed == stop
            assert_equal_results(flat_results(whole), flat_results(resumed))
            state.unlink()
    resumed = all_accumulators()
    sweep(net, images, resumed, state=state)
    assert_equal_results(flat_results(whole), flat_results(resumed))


def _stopping(at: int) -> Callable[[str, int], None]:
    def stop(_name: str, done: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    return stop


def test_skipped_images_are_remembered(tmp_path: Path) -> None:
    source = source_of(np.zeros((40, SIDE, SIDE, 3), dtype=np.uint8), broken=[2, 35])
    state = tmp_path / "sweep.safetensors"

    def stop(name: str, done: int) -> None:
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(tiny_network(), source, {"peaks": Peaks()}, state=state, save_every=0.0, watch=Reacting(stop))
    report = sweep(tiny_network(), source, {"peaks": Peaks()}, state=state)
    assert [s.id for s in report.skipped] == [2, 35]
    assert (report.images, report.resumed) == (38, 31)


def test_a_cancelled_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    state, cancelled, resumed, whole = tmp_path / "sweep.safetensors", *(all_accumulators() for _ in range(3))
    with pytest.raises(Cancelled):
        sweep(tiny_network(), tiny_images(COUNT), cancelled, state=state, save_every=0.0, watch=Recorder(at=3))
    watch = Recorder()
    report = sweep(tiny_network(), tiny_images(COUNT), resumed, state=state, watch=watch)
    assert watch.told[0] == ("images", report.resumed, COUNT)
    assert 0 < report.resumed < COUNT
    sweep(tiny_network(), tiny_images(COUNT), whole)
    assert_equal_results(flat_results(whole), flat_results(resumed))


def test_the_state_of_something_else_is_refused(tmp_path: Path) -> None:
    state, images = tmp_path / "sweep.safetensors", tiny_images(20)
    sweep(tiny_network(), images, {"top": Strongest(3)}, state=state, layers=["conv1"])
    before = state.read_bytes()
    with pytest.raises(StoreError, match=r"its network: .*, now: .*; delete it to start anew"):
        sweep(tiny_network(seed=9), images, {"top": Strongest(3)}, state=state, layers=["conv1"])
    with pytest.raises(StoreError, match="image 0 and 19 more changed since"):
        sweep(tiny_network(), images.flip(0), {"top": Strongest(3)}, state=state, layers=["conv1"])
    with pytest.raises(StoreError, match="its layers: "):
        sweep(tiny_network(), images, {"top": Strongest(3)}, state=state, layers=["fc"])
    with pytest.raises(StoreError, match=r"its accumulators\.top\.k: 3, now: 4") as caught:
        sweep(tiny_network(), images, {"top": Strongest(4)}, state=state, layers=["conv1"])
    assert "\n" not in str(caught.value)
    assert state.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a state", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "sweep.safetensors"
    state.write_bytes(content)
    with pytest.raises(StoreError, match="is no saved sweep"):
        sweep(tiny_network(), tiny_images(3), {"top": Strongest()}, state=state)
    assert state.read_bytes() == content


def test_a_full_disk_is_one_line_and_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, images, net = tmp_path / "sweep.safetensors", tiny_images(40), tiny_network()
    writes: list[bytes] = []
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        writes.append(content)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        sweep(net, images, {"peaks": Peaks()}, state=state, save_every=0.0)
    assert "\n" not in str(caught.value)
    assert not any(m._forward_hooks for m in net.module.modules())
    monkeypatch.undo()
    assert sweep(net, images, {"peaks": Peaks()}, state=state).resumed == 32


def test_a_place_that_cannot_be_written_shows_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    watch = Recorder()
    with pytest.raises(StoreError, match="can't be written"):
        sweep(
            tiny_network(),
            tiny_images(20),
            {"peaks": Peaks()},
            state=tmp_path / "file" / "sweep.safetensors",
            watch=watch,
        )
    assert not watch.told
