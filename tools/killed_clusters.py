"""Kills of runs on a Ray cluster, and of its workers meanwhile: what is begun again ends as a run in one process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from apart import LONG, Ended, apart, found
from killed_runs import FEW, MODEL, tree
from PIL import Image
from processes import command_of, descendants
from trials import Log, Trial

from netloupe.cli.app import main
from netloupe.sweep import engine
from netloupe.sweep.checkpoint import Checkpoint

COUNT = 300  # images, of which each block is a shard here
OUT = "out"
_HOLD = """
import sys, ray
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def clusters(place: Path, count: int, log: Log) -> Iterator[Trial]:
    """A row for each run; at least `count` kills in all, of runs and of workers."""
    if not count:
        return
    if find_spec("ray") is None:
        log.say("no kills on a cluster, for Ray is not installed")
        return
    _laid(place)
    with cluster() as there:
        for name, run in RUNS.items():
            whole, least = _undisturbed(place, name, run, there), -(-count // len(RUNS))
            kind = f"kills of {name} on a cluster"
            yield log.kills(kind, least, lambda draw: _killed(place, run, whole, there, draw))  # noqa: B023


@dataclass(frozen=True)
class Cluster:
    """One of two processors on this machine, held by a process."""

    address: str
    process: int

    def workers(self) -> list[int]:
        """Those that read images or run the network."""
        return [one for one in descendants(self.process) if b"Map" in command_of(one)]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """In here it runs; its processes find what this one does."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # which one that is begun here asks for, and runs are to give
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_worker_niceness": "0"}
    held = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert held.stdout is not None
    try:
        yield Cluster(held.stdout.readline().strip(), held.pid)
    finally:
        held.communicate("")


def _atlas(spread: tuple[str, ...]) -> int:
    return main(["atlas", "build", "--data", "many", *MODEL, *FEW, "-k", "2", *spread, "-o", OUT])


def _sweep(spread: tuple[str, ...]) -> int:
    """A sweep that saves itself and goes on, and the states it ends with."""
    import safetensors.torch

    from netloupe.data.open import open_source
    from netloupe.sweep.classes import ClassMeans
    from netloupe.sweep.peaks import Peaks
    from netloupe.sweep.ray import RayEngine
    from netloupe.sweep.top import Strongest
    from netloupe.zoo.load import load

    accumulators = {"peaks": Peaks(), "classes": ClassMeans(), "top": Strongest(3)}
    net = load("net.py:make", inputs=lambda base: base.__class__((16, 16)))
    with engine.swept_by(RayEngine(spread[3]) if spread else None):
        engine.sweep(net, open_source("many"), accumulators, state="state", save_every=0)
    states = {f"{name}:{key}": tensor for name, one in accumulators.items() for key, tensor in one.state().items()}
    safetensors.torch.save_file(states, "out.safetensors")
    os.makedirs(OUT, exist_ok=True)
    os.rename("out.safetensors", f"{OUT}/states.safetensors")
    return 0


RUNS: dict[str, Callable[[tuple[str, ...]], int]] = {"atlas build": _atlas, "a sweep": _sweep}


@dataclass(frozen=True)
class Whole:
    """What a run in one process ends with, and the seconds that one takes on the cluster."""

    found: dict[str, str]
    seconds: float


def _laid(place: Path) -> None:
    """Small images of two classes, some of which are broken."""
    draw = np.random.default_rng(1)
    for i in range(COUNT):
        path = place / "many" / "ab"[i % 2] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    for i in (5, 170):
        (place / "many" / "ab"[i % 2] / f"{i:03}.png").write_bytes(b"no image")


def _folder(place: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=place, prefix="cluster"))
    for name in ("many", "net.py"):
        (folder / name).symlink_to(place / name)
    return folder


def _spread(there: Cluster) -> tuple[str, ...]:
    return ("--engine", "ray", "--address", there.address)


def _small(run: Callable[[tuple[str, ...]], int], spread: tuple[str, ...]) -> int:
    """Run with shards of a block, after each of which it is saved."""
    engine.BLOCKS = 1
    Checkpoint.due = lambda _: True  # type: ignore[method-assign]
    return run(spread)


def _undisturbed(place: Path, name: str, run: Callable[[tuple[str, ...]], int], there: Cluster) -> Whole:
    ended, made = [], []
    for spread in ((), _spread(there)):
        folder = _folder(place)
        ended.append(apart(lambda: _small(run, spread), folder, LONG))  # noqa: B023
        if ended[-1].status != 0:
            raise RuntimeError(f"{name} {spread}, which nobody killed, ended with {ended[-1].status}: {ended[-1].err}")
        made.append(found(lambda: tree(folder / OUT), folder))  # noqa: B023
    if made[0] != made[1]:
        raise RuntimeError(f"{name} ends otherwise on a cluster: {_differ(*made)}")
    return Whole(made[0], ended[1].seconds)


def _killed(
    place: Path, run: Callable[[tuple[str, ...]], int], whole: Whole, there: Cluster, draw: random.Random
) -> Trial:
    """Up to two kills of the run, workers killed all along, and the same again."""
    trial, folder, spread, plan = Trial(""), _folder(place), _spread(there), []
    killing = Killing(there, whole.seconds / 2, draw)
    for second in [draw.uniform(0, whole.seconds) for _ in range(draw.randint(1, 2))]:
        plan.append(f"after {second:.1f} s")
        ended = apart(lambda: _small(run, spread), folder, kill=second, meanwhile=killing)
        trial.tries += ended.status == -signal.SIGKILL
        if ended.status not in (-signal.SIGKILL, 0) or "Traceback" in ended.err:
            trial.failures.append(f"{plan}: ended with {ended.status}: {ended.err[-300:]}")
    ended = apart(lambda: _small(run, spread), folder, LONG, meanwhile=killing)
    trial.tries += killing.count
    trial.failures += _wrong(ended, folder, whole, f"{plan}, {killing.count} workers")
    shutil.rmtree(folder, ignore_errors=True)
    return trial


def _wrong(ended: Ended, folder: Path, whole: Whole, plan: str) -> Iterator[str]:
    if ended.status != 0 or "Traceback" in ended.err:
        yield f"{plan}: begun again it ended with {ended.status}: {ended.err[-300:]}"
    elif (now := found(lambda: tree(folder / OUT), folder)) != whole.found:
        yield f"{plan}: other results: {_differ(now, whole.found)}"


def _differ(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(k for k in {*one, *other} if one.get(k) != other.get(k))[:5]


class Killing:
    """Called again and again, kills a worker of a cluster at random times, about `every` seconds apart."""

    def __init__(self, there: Cluster, every: float, draw: random.Random) -> None:
        self._there, self._every, self._draw = there, every, draw
        self._next = time.monotonic() + draw.expovariate(1 / every)
        self.count = 0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._draw.expovariate(1 / self._every)
        if workers := self._there.workers():
            os.kill(self._draw.choice(workers), signal.SIGKILL)
            self.count += 1
