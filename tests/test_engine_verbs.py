"""Every verb that takes `--engine` goes through its images on one, and writes what it writes without.

The engine is Ray's, but that this process does at once what Ray would hand to others; `test_sweep_ray.py` has Ray.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from netloupe.cli.app import main
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.sweep import blocks, engine
from netloupe.sweep.accumulator import Scribe
from netloupe.sweep.engine import SoFar, Span
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.ray import Alike, RayEngine, _read, _versions, _Worker
from netloupe.tasks import TASKS
from netloupe.zoo.load import load

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from killed_runs import FEW, MODEL, TRAIN, tree
from workplace import prepare

DATA = ("--data", "data")
LINES = {
    "patches": (*DATA, "-l", "3", "-k", "2"),
    "neighbors": ("photo.png", *DATA, "-k", "2"),
    "map": (*DATA, "--method", "pca"),
    "facets": ("3:1", *DATA, "--steps", "1"),
    "study filters": DATA,
    "study evolution": ("trained/snapshots", *DATA, "--classes", "2"),
    "study generalization": ("--data", "kinds", "-n", "2", "--folds", "2", "--epochs", "1"),
    "audit": ("--data", "kinds", "--classes", "2", "--labels", "classes.txt", "--tested", "1"),
    "atlas build": (*DATA, *FEW, "--images", "shown"),
}


class AtOnce(RayEngine):
    """Does what Ray's tasks and actors do, shard by shard and in no good order."""

    def checked(self) -> AtOnce:
        return self

    def _pipeline(
        self, ray: Any, net: Network, source: ImageSource, layers: Sequence[str], accumulators: Mapping[str, Any],
        scribes: Sequence[Scribe], spans: Sequence[Span], check_finite: bool,
    ) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # fmt: skip
        source, scribes = (pickle.loads(pickle.dumps(one)) for one in (source, list(scribes)))
        alike = Alike(_versions(), os.getcwd())
        threads, own = torch.get_num_threads(), net.fingerprint()
        worker = _Worker(net, source, layers, accumulators, scribes, check_finite, threads, own, alike)
        SHARDS.extend(spans)
        for begin, end in reversed(spans):
            rows = _read(pa.table({"begin": [begin], "end": [end]}), source, net.inputs, alike)
            yield from worker(rows).to_pylist()


SHARDS: list[Span] = []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        line = ["train", *DATA, "--val", "data", *TRAIN, "--snapshots", "-a", "net.py:make", "--name", "small"]
        assert main([*line, "-o", "trained"]) == 0
    return folder


def test_all_of_them_are_tried() -> None:
    assert LINES.keys() == {task.verb for task in TASKS if task.spreads}


@pytest.fixture
def small(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place, with shards of four images, and an engine."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(engine, "BLOCKS", 1)
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr("netloupe.sweep.ray.RayEngine", AtOnce)
    monkeypatch.setattr("netloupe.sweep.ray._cluster", lambda _: nullcontext())
    SHARDS.clear()


@pytest.mark.parametrize("verb", LINES)
def test_the_same_files(verb: str, small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*verb.split(), *LINES[verb], *MODEL]
    assert main([*line, "-o", str(tmp_path / "here")]) == 0, capsys.readouterr().err
    assert not SHARDS
    assert main([*line, "--engine", "ray", "-o", str(tmp_path / "there")]) == 0, capsys.readouterr().err
    assert len(SHARDS) > 1, "it went through the images here"
    here, there = tree(tmp_path / "here"), tree(tmp_path / "there")
    assert there == here
    assert here


def test_what_was_taken_in_is_shown_after_each_shard(small: None) -> None:
    net, source = load("net.py:make", inputs=lambda _: InputSpec((16, 16))), open_source("data")
    seen: dict[str, dict[int, np.ndarray]] = {"here": {}, "there": {}}
    for where, by in (("here", None), ("there", AtOnce())):

        def glance(taken: SoFar, where: str = where) -> None:
            seen[where][taken.images] = taken.of("peaks").result()["3"].maximum

        with engine.swept_by(by):
            engine.sweep(net, source, {"peaks": Peaks()}, glance=glance)
    assert seen["there"].keys() == {4, 8}
    for images, highest in seen["there"].items():
        np.testing.assert_array_equal(highest, seen["here"][images])
    assert not np.array_equal(seen["there"][4], seen["there"][8])


def test_a_full_disk_is_one_line_and_what_was_made_is_kept(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["atlas", "build", *LINES["atlas build"], *MODEL]
    assert main([*line, "-o", str(tmp_path / "here")]) == 0
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # a disk on which no file grows further
        status = main([*line, "--engine", "ray", "-o", str(tmp_path / "there")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("netloupe: ")]
    assert status == 2
    assert len(said) == 1
    assert "can't be written (File too large)" in said[0]
    assert main([*line, "--engine", "ray", "-o", str(tmp_path / "there")]) == 0, capsys.readouterr().err
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
