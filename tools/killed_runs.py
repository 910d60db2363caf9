"""Kills of runs that write, and whether what is begun again ends with what an undisturbed run ends with."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apart import LONG, Ended, apart, found
from kills import hooked
from trials import Log, Trial
from workplace import FILES, names

from netloupe.cli.app import main

DATA = ("--data", "data")
MODEL = ("--model", "net.py:make", "--size", "16")
FEW = ("--map", "pca", "-l", "0", "-l", "3", "-l", "7")
TRAIN = ("--size", "16", "--sizes", "16:3", "--batch", "4")
STYLE = ("--sizes", "32:4", "--batch", "1", "--style-size", "32", "--widths", "4,4,4", "--blocks", "1", "--every", "1")
WEIGHTS = ("--weights", "stylenet/styles.safetensors")


@dataclass(frozen=True)
class Run:
    """A command line, without its output. share: how many times as often as others it is killed. out: what it writes.
    over: the run whose result lies there already.
    """

    line: tuple[str, ...]
    share: int = 1
    out: str = "out"
    over: str | None = None


RUNS = {
    "atlas build": Run(
        ("atlas", "build", *DATA, *MODEL, *FEW, "--synthesize", "3", "--facets", "1", "--steps", "1"), 4
    ),
    "atlas build in place of another": Run(
        ("atlas", "build", *DATA, *MODEL, *FEW, "--first", "6"), 2, over="atlas build"
    ),
    "train": Run(("train", *DATA, "--val", "data", *TRAIN, "--snapshots", "-a", "net.py:make", "--name", "small"), 4),
    "stylenet train": Run(
        ("stylenet", "train", "--styles", "styles", "--images", "data", *STYLE, "--name", "styles"), 4
    ),
    "atlas export": Run(("atlas", "export", "atlas"), 2),
    "stylenet export": Run(("stylenet", "export", *WEIGHTS, "--size", "16"), out="out.onnx"),
    "stylenet apply": Run(("stylenet", "apply", "photo.png", "--style", "waves", *WEIGHTS, "--side", "16")),
    "photos": Run(("photos",)),
    "map": Run(("map", *DATA, "--method", "pca", *MODEL)),
    "visualize": Run(("visualize", "0:3", "--steps", "2", *MODEL)),
    "study ablation": Run(("study", "ablation", *DATA, *MODEL)),
    "study correspondence": Run(
        ("study", "correspondence", *DATA, *MODEL, "--points", "points.json", "--draws", "1", "-l", "3", "-l", "5")
    ),
    "study evolution": Run(("study", "evolution", "snapshots", *DATA, *MODEL, "--classes", "2")),
    "study filters": Run(("study", "filters", *DATA, *MODEL)),
    "study generalization": Run(
        ("study", "generalization", "--data", "kinds", *MODEL, "-n", "2", "--folds", "2", "--epochs", "1")
    ),
    "study invariance": Run(("study", "invariance", *DATA, *MODEL, "--steps", "2", "--first", "2")),
    "study probe": Run(("study", "probe", "--dense", *DATA, *MODEL, "--masks", "masks", "-l", "3")),
    "study retraining": Run(
        ("study", "retraining", "resize 3 0.5", "--data", "kinds", *MODEL, "--classes", "2", "--epochs", "1")
    ),
    "study trust": Run(
        ("study", "trust", "--first", "2", "--steps", "2", "--stages", "2", "-m", "gradient", *DATA, *MODEL)
    ),
    "audit": Run(("audit", "--data", "kinds", *MODEL, "--classes", "2", "--labels", "classes.txt", "--tested", "1")),
}
MADE = {"atlas": "atlas build", "snapshots": "train", "stylenet": "stylenet train"}
"""What runs read of what others wrote."""


def kills(place: Path, count: int, log: Log) -> Iterator[Trial]:
    """A row for each run; at least `count` kills in all."""
    shares, undisturbed = sum(run.share for run in RUNS.values()), Undisturbed(place)
    for verb, run in RUNS.items() if count else ():
        least = -(-count * run.share // shares)
        yield log.kills(f"kills of {verb}", least, lambda draw: _killed(verb, undisturbed, place, draw))  # noqa: B023


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: the seconds it took, the moments at which it changed something, what it ended with."""

    seconds: float
    moments: int
    found: dict[str, str]


class Undisturbed:
    """Runs that nobody kills, each done once it is needed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.known: dict[str, Whole] = {}

    def __getitem__(self, verb: str) -> Whole:
        if verb not in self.known:
            run = RUNS[verb]
            for word, made in MADE.items():
                if any(part.split("/")[0] == word for part in run.line[1:]) and made != verb:
                    self[made]
            if run.over is not None:
                self[run.over]
            self.known[verb] = self._done(verb, run)
        return self.known[verb]

    def _done(self, verb: str, run: Run) -> Whole:
        where = self.place / "whole" / verb.replace(" ", "-")
        where.mkdir(parents=True)
        _laid(self.place, where, run)
        counter = os.open(where.parent / f"{where.name}.count", os.O_RDWR | os.O_CREAT)
        count = lambda n, _: os.pwrite(counter, b"%9d" % n, 0) == 0  # noqa: E731
        ended = apart(lambda: hooked(lambda: main([*run.line, "-o", run.out]), where, count), where, LONG)
        if ended.status != 0:
            raise RuntimeError(f"{verb}, which nobody killed, ended with {ended.status}: {ended.err[-300:]}")
        made = found(lambda: tree(where / run.out), where)
        if not made:
            raise RuntimeError(f"{verb} wrote nothing")
        return Whole(ended.seconds, int(os.pread(counter, 9, 0)), made)


def _laid(place: Path, folder: Path, run: Run) -> None:
    for name in (*FILES, "net.py"):
        (folder / name).symlink_to(place / name)
    for name, verb in MADE.items():
        made = place / "whole" / verb.replace(" ", "-") / "out"
        made = made / "snapshots" if name == "snapshots" else made
        if made.exists():
            (folder / name).symlink_to(made)
    if run.over is not None:
        shutil.copytree(place / "whole" / run.over.replace(" ", "-") / "out", folder / run.out)


def _killed(verb: str, undisturbed: Undisturbed, place: Path, draw: random.Random) -> Trial:
    """Up to three kills of one run, and the same command again."""
    run, whole = RUNS[verb], undisturbed[verb]
    trial, folder = Trial(""), Path(tempfile.mkdtemp(dir=place, prefix="kill"))
    _laid(place, folder, run)
    line, before, plan = [*run.line, "-o", run.out], names(folder), []
    for _ in range(draw.randint(1, 3)):
        moment, second = draw.randint(1, whole.moments), draw.uniform(0, whole.seconds)
        if draw.random() < 0.5:
            plan.append(f"at change {moment}")
            hook = lambda n, _: n == moment  # noqa: E731, B023
            ended = apart(lambda: hooked(lambda: main(line), folder, hook), folder, LONG)  # noqa: B023
        else:
            plan.append(f"after {second:.2f} s")
            ended = apart(lambda: main(line), folder, kill=second)
        trial.tries += ended.status == -9
        if ended.status == 2 and (folder / run.out).exists() and "not empty" in ended.err:
            break  # it was whole already, and is not written over
        if ended.status not in (-9, 0) or "Traceback" in ended.err:
            trial.failures.append(f"{plan}: ended with {ended.status}: {ended.err[-300:]}")
    trial.failures += _begun_again(run, line, folder, before, plan, whole)
    shutil.rmtree(folder, ignore_errors=True)
    return trial


def _begun_again(
    run: Run, line: list[str], folder: Path, before: set[str], plan: list[str], whole: Whole
) -> Iterator[str]:
    """What is wrong with how it ends."""
    last = apart(lambda: main(line), folder, LONG)
    if last.status == 2 and (folder / run.out).exists() and "not empty" in last.err:
        last = Ended(0, "", "", 0)
    left = {name.partition("/")[0] for name in names(folder) - before} - {run.out, "__pycache__"}
    if last.status != 0:
        yield f"{plan}: begun again it ended with {last.status}: {last.err[-300:]}"
    elif left:
        yield f"{plan}: left {sorted(left)}"
    elif (now := found(lambda: tree(folder / run.out), folder)) != whole.found:
        differ = sorted(k for k in {*now, *whole.found} if now.get(k) != whole.found.get(k))
        yield f"{plan}: other results: {differ[:5]}"


def tree(made: Path) -> dict[str, str]:
    """Of each file its contents, by name; what tells of times and seconds left out."""
    if made.is_file():
        return {made.name: _content(made)}
    files = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*")) if path.is_file()}
    return _tables(made) if "atlas.json" in files else {name: _content(path) for name, path in files.items()}


def _content(path: Path) -> str:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return _hashed(*(part for k, v in sorted(load_file(path).items()) for part in (k.encode(), v.tobytes())))
    if path.suffix in (".json", ".jsonl"):
        lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        return _hashed(*(json.dumps(_timeless(json.loads(line))).encode() for line in lines))
    if path.suffix in (".pt", ".md"):  # a checkpoint, whose weights lie beside it, and a card of what the .json says
        return "there"
    return _hashed(path.read_bytes())


def _hashed(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _timeless(value: Any) -> Any:
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not any(word in k for word in TIMES)}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


TIMES = ("second", "time", "date", "created", "version", "per_s", "minutes")


def _tables(folder: Path) -> dict[str, str]:
    from netloupe.atlas.store import Store

    store = Store.open(folder)
    names = sorted({path.name for path in folder.iterdir()} - {"provenance.lance"})
    rows = {
        name: sorted(repr(_timeless(row)) for row in store.rows(name.removesuffix(".lance")))
        for name in names
        if ".lance" in name
    }
    network = json.dumps(_timeless(store.network), sort_keys=True)
    return {
        **dict.fromkeys(names, ""),
        **{name: _hashed("".join(those).encode()) for name, those in rows.items()},
        "network": network,
    }
