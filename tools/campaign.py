"""Kills, hostile command lines and hostile calls, drawn with a seed: nothing is lost, half-written or a traceback.

    python tools/campaign.py [--seed N] [--kills N] [--lines N] [--calls N] [--write docs/reliability.md]

Half of the kills come at a random moment, half at one of the moments at which the run changes something on disk. Each
run that was killed, up to three times, is begun again, and must end with what an undisturbed one ends with.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from apart import Ended, apart, found
from kills import hooked
from PIL import Image

import netloupe
from netloupe.cli.app import app, main
from netloupe.core.errors import NetloupeError

LIMIT = 30.0  # s, after which a hostile line or call is cut off, which is no failure but is counted


@dataclass
class Class:
    """One row of the table: how many tries, of those how many were cut off, and what failed, in words."""

    name: str
    tries: int = 0
    kept: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)


# --- what there is to work on


NET = """
import torch
from torch import nn

def make(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


def preload() -> None:
    """Import what runs need, but for LanceDB, whose threads no fork takes along."""
    for path in sorted((Path(netloupe.__file__).parent).rglob("*.py")):
        name = ".".join(path.relative_to(Path(netloupe.__file__).parents[1]).with_suffix("").parts)
        if not name.endswith(("__main__", "__init__")) and ".atlas.server" not in name and ".studio" not in name:
            importlib.import_module(name)
    for name in ("scipy.stats", "skimage.transform", "sklearn.decomposition", "pyarrow.parquet"):
        importlib.import_module(name)


def prepare(place: Path) -> None:
    """A small network, small images, labeled and not, and files that are none."""
    (place / "net.py").write_text(NET)
    draw = np.random.default_rng(0)
    for name in ("data/a", "data/b", "styles"):
        (place / name).mkdir(parents=True)
    for i in range(12):
        small = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC)
        image.save(place / "data" / "ab"[i % 2] / f"p{i:02}.png")
    for path in ("photo.png", "styles/waves.png"):
        image.resize((64, 64)).save(place / path)
    (place / "text.png").write_text("no image")
    (place / "empty").mkdir()
    (place / "labels.json").write_text("[" * 5000)


# --- kills

DATA = ["--data", "data"]
MODEL = ["--model", "net.py:make", "--size", "32"]
TRAIN = ["--size", "32", "--sizes", "32:3", "--batch", "4"]
STYLE = ["--sizes", "32:4", "--batch", "1", "--style-size", "32", "--widths", "4,4,4", "--blocks", "1", "--every", "1"]
RUNS: dict[str, list[str]] = {
    "atlas build": ["atlas", "build", *DATA, *MODEL, "--map", "pca"],
    "train": ["train", *DATA, "--val", "data", *TRAIN, "--snapshots", "-a", "net.py:make"],
    "stylenet train": ["stylenet", "train", "--styles", "styles", "--images", "data", *STYLE],
    "atlas export": ["atlas", "export", "atlas"],
    "filters": ["filters", *MODEL],
    "visualize": ["visualize", "0:3", "--steps", "4", *MODEL],
    "map": ["map", *DATA, "--method", "pca", *MODEL],
    "study filters": ["study", "filters", *DATA, *MODEL],
    "study ablation": ["study", "ablation", *DATA, *MODEL],
    "study invariance": ["study", "invariance", *DATA, *MODEL],
    "study trust": ["study", "trust", "--first", "1", "--steps", "2", "-m", "gradient", *DATA, *MODEL],
    "study evolution": ["study", "evolution", "snapshots", *DATA, *MODEL, "--classes", "2"],
}


def tree(folder: Path) -> dict[str, str]:
    """Of each file its contents, by name; what tells of times and seconds left out."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if "atlas.json" in files:
        return _tables(folder)
    return {name: _content(path) for name, path in files.items()}


def _content(path: Path) -> str:
    if path.suffix in (".pt", ".jsonl", ".md") or path.name == "card.json":
        return "told"
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return hashlib.sha256(
            b"".join(k.encode() + v.tobytes() for k, v in sorted(load_file(path).items()))
        ).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tables(folder: Path) -> dict[str, str]:
    from netloupe.atlas.store import Store

    store = Store.open(folder)
    names = sorted({path.name for path in folder.iterdir()} - {"provenance.lance"})
    rows = {name: sorted(map(repr, store.rows(name.removesuffix(".lance")))) for name in names if ".lance" in name}
    network = {key: value for key, value in store.network.items() if key not in ("created", "version")}
    hashed = {name: hashlib.sha256("".join(those).encode()).hexdigest() for name, those in rows.items()}
    return {**dict.fromkeys(names, ""), **hashed, "network": json.dumps(network, sort_keys=True)}


def kills(place: Path, count: int, draw: random.Random, say: Callable[[str], None]) -> Iterator[Class]:
    """A class for each verb that saves; as many kills of each."""
    done: dict[str, Class] = {}
    for verb, arguments in RUNS.items():
        row = done[verb] = Class(f"kills of {verb}")
        share = count // len(RUNS) + (len(done) <= count % len(RUNS))
        where = place / "whole" / verb.replace(" ", "-")
        where.mkdir(parents=True)
        if share:
            _killed_runs(verb, [*arguments, "-o", "out"], where, row, share, draw, place)
            say(f"{row.name}: {row.tries} kills, {len(row.failures)} failures {row.failures[:2]}")
        yield row


def _link(place: Path, folder: Path) -> None:
    for name in ("data", "styles", "photo.png", "net.py"):
        (folder / name).symlink_to(place / name)
    for name, made in (("atlas", "atlas-build/out"), ("snapshots", "train/out/snapshots")):
        if (place / "whole" / made).exists():
            (folder / name).symlink_to(place / "whole" / made)


def _killed_runs(
    verb: str, line: list[str], where: Path, row: Class, share: int, draw: random.Random, place: Path
) -> None:
    _link(place, where)
    counter = os.open(where.parent / f"{where.name}.count", os.O_RDWR | os.O_CREAT)
    count = lambda n, _: os.pwrite(counter, b"%9d" % n, 0) == 0  # noqa: E731
    ended = apart(lambda: hooked(lambda: main(line), where, count), where, 300)
    if ended.status != 0:
        row.failures.append(f"the undisturbed run ended with {ended.status}: {ended.err[-300:]}")
        return
    moments, whole = int(os.pread(counter, 9, 0)), found(lambda: tree(where / "out"), where)
    while row.tries < share:
        folder = Path(tempfile.mkdtemp(dir=place, prefix="kill"))
        _link(place, folder)
        before, plan = names(folder), []
        for _ in range(min(draw.randint(1, 3), share - row.tries)):
            aimed = draw.random() < 0.5
            moment, second = draw.randint(1, moments), draw.uniform(0, ended.seconds)
            plan.append(f"at change {moment}" if aimed else f"after {second:.2f} s")
            row.tries += 1
            if aimed:
                run = lambda: hooked(lambda: main(line), folder, lambda n, _: n == moment)  # noqa: E731, B023
                killed = apart(run, folder, 300)
            else:
                killed = apart(lambda: main(line), folder, kill=second)
            row.kept += killed.status == -9
            if killed.status not in (-9, 0) or "Traceback" in killed.err:
                row.failures.append(f"{plan}: ended with {killed.status}: {killed.err[-300:]}")
        last = apart(lambda: main(line), folder, 300)
        if last.status != 0 and verb == "atlas export" and (folder / "out").exists():
            last = Ended(0, "", "", 0)  # it was whole already, and is not written over
        left = {name.partition("/")[0] for name in names(folder) - before} - {"out", "__pycache__"}
        if last.status != 0:
            row.failures.append(f"{plan}: begun again it ended with {last.status}: {last.err[-300:]}")
        elif left:
            row.failures.append(f"{plan}: left {sorted(left)}")
        elif (now := found(lambda: tree(folder / "out"), folder)) != whole:  # noqa: B023
            differ = sorted(k for k in {*now, *whole} if now.get(k) != whole.get(k))
            row.failures.append(f"{plan}: other results: {differ[:5]}")
        shutil.rmtree(folder, ignore_errors=True)


# --- hostile command lines

WORDS = [
    "nan", "inf", "-inf", "-1", "0", "1e308", "-0.0", "1e-320", "99999999999999999999", "4294967296", "", " ", "\n",
    "koala", "conv1", "conv1:3", "conv99", "conv1:99999", "class:nope", "logit(", "logit(koala) - ", "🐈", "a" * 300,
    "..", "/", "/dev/null", "/dev/full", "/proc/self/mem", "nothing.png", "photo.png", "text.png", "data", "empty",
    "labels.json", "true", "None", "[]", "{}", "1,2,3", "3x", "x3", "0x0", "99999x99999", "a=b", "=", "steps=",
    "%s", "$HOME", "--", "-h", "cpu", "cuda:99", "hpu", "random", "torchvision:nope", "file.py:make", "\x1b[31m",
    "1/0", "8/255", "0.5", "1", "2", "7",
]  # fmt: skip
OUTS = ["out", "photo.png", "photo.png/out", "/proc/out", "b" * 300, "", "/dev/full/out", "deep/er/out", "data"]
VALID = {
    "images": ["photo.png"], "image": ["photo.png"], "contents": ["photo.png"], "file": ["photo.png"],
    "a": ["photo.png"], "b": ["photo.png"], "target": ["koala"], "layer": ["conv2"], "keep": ["conv2"],
    "styles": ["photo.png"], "data": ["data"], "val": ["data"], "changes": ["conv1:3"], "style": ["mosaic"],
}  # fmt: skip
FEW = {"steps": "1", "epochs": "1", "count": "1", "first": "4", "sizes": "32:1", "octaves": "1", "port": "x"}


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb with its parameters."""
    command = typer.main.get_command(app) if command is None else command
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from commands(below, (*path, name))


def line(draw: random.Random, verbs: list[tuple[tuple[str, ...], Any]]) -> list[str]:
    """A hostile command line: what is required mostly as it should be, some options as they should not."""
    path, command = draw.choice(verbs)
    words, hostile = list(path), draw.sample(command.params, min(len(command.params), draw.randint(1, 3)))
    for one in command.params:
        few = FEW.get(one.name)
        if one not in hostile and not one.required and few is None and one.name != "data":
            continue
        valid = VALID.get(one.name, [few or "out"])
        values = [draw.choice(WORDS)] if one in hostile else valid
        if one.name == "out":
            values = [draw.choice(OUTS)]
        if getattr(one, "is_flag", False):
            words.append(one.opts[0])
        elif one.param_type_name == "argument":
            words += values
        else:
            words += [one.opts[-1], *values]
    return words


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def lines(place: Path, count: int, draw: random.Random, say: Callable[[str], None]) -> Class:
    """Lines of all verbs but those that wait for a browser."""
    row = Class("hostile command lines")
    verbs = [(path, one) for path, one in commands() if path not in (("studio",), ("atlas", "serve"))]
    ends: Counter[str] = Counter()
    for number in range(count):
        folder = Path(tempfile.mkdtemp(dir=place, prefix="line"))
        for name in ("data", "styles", "photo.png", "text.png", "empty", "labels.json"):
            source = place / name
            shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
        words, before = line(draw, verbs), names(folder)
        ended = apart(lambda: main(words), folder, LIMIT)  # noqa: B023
        row.tries += 1
        fault = judged(ended, sorted(names(folder) - before))
        row.cut += ended.status is None
        ends[str(ended.status)] += 1
        if fault is not None:
            row.failures.append(f"{words}: {fault}")
            say(row.failures[-1])
        shutil.rmtree(folder, ignore_errors=True)
        if number % 50 == 49:
            say(f"{number + 1} lines, ended {dict(ends)}, {len(row.failures)} failures")
    row.kept = ends["2"]
    return row


def judged(ended: Ended, new: list[str]) -> str | None:
    """What is wrong with how a line ended."""
    told = [one for one in ended.err.splitlines() if not re.match(r"skipped |note: ", one)]
    if ended.status is None:
        return None
    if ended.status not in (0, 2) or "Traceback" in ended.err:
        return f"ended with {ended.status}: {ended.err[-400:]}"
    if ended.status == 2 and (len(told) != 1 or not told[0].startswith("netloupe: ")):
        return f"not one line: {ended.err[-400:]!r}"
    half = [name for name in new if re.search(r"\.(partial|new|old|lock|whole)\b", name)]
    resumable = [name for name in half if name.startswith(".out.partial")]
    if half and (ended.status == 0 or not resumable):
        return f"left {half[:4]}"
    return f"refused, but wrote {new[:4]}" if ended.status == 2 and new and not half else None


# --- hostile calls

VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**20, float("nan"), float("inf"), 1e308, "", "nope", "koala", "conv1", b"x", [], {}, (),
    {"a": 1}, [None], ["conv1"], [["conv1"]], np.int64(2), np.float32(0.5), np.zeros(3), torch.zeros(3),
    torch.full((1, 3, 64, 64), float("nan")), torch.full((1, 3, 64, 64), 300.0), torch.zeros(0, 3, 64, 64), object(),
    Path("nothing.png"), 1j, lambda: 0, range(3), {1, 2}, "a" * 300, "\ud800", int, ...,
]  # fmt: skip


def calls(place: Path, count: int, draw: random.Random, say: Callable[[str], None]) -> Class:
    """Calls of the Python functions of techniques, each with one or two arguments that are not as they should be."""
    row = Class("hostile Python calls")
    functions = [one for one in (getattr(netloupe, name) for name in netloupe.__all__) if hasattr(one, "task")]
    for _ in range(count):
        function = draw.choice(functions)
        settings = [one.name for one in function.task.settings()]
        few = {"steps": 1, "count": 1, "first": 2, "sizes": "32", "octaves": 1}
        given: dict[str, Any] = {name: few[name] for name in settings if name in few}
        for name in draw.sample(settings, min(len(settings), draw.randint(1, 2))):
            given[name] = draw.choice(VALUES)
        inputs = [draw.choice(VALUES) if draw.random() < 0.15 else None for _ in range(2)]
        ended = apart(lambda: _call(function, given, inputs), place, LIMIT)  # noqa: B023
        row.tries += 1
        row.cut += ended.status is None
        row.kept += ended.status == 3
        if ended.status not in (0, 3, None):
            last = ended.err.strip().splitlines()[-1:] or [""]
            row.failures.append(f"{function.__name__}({shown(given)}, inputs {shown(inputs)}): {last[0][:200]}")
            say(row.failures[-1])
    return row


def shown(value: Any) -> str:
    """In one short line."""
    return " ".join(repr(value).split())[:160]


def _call(function: Any, given: dict[str, Any], inputs: list[Any]) -> int:
    import inspect

    positional = [
        one.name for one in inspect.signature(function).parameters.values()
        if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty and one.name not in given
    ]  # fmt: skip
    torch.manual_seed(0)
    net, images, photos = netloupe.load(), torch.rand(1, 3, 64, 64), netloupe.photos().first(2)
    usual = {"net": net, "network": net, "target": "koala", "objective": "class:koala", "layer": "conv2"}
    for one in function.task.inputs:
        usual[one.name] = photos if one.what == "source" else images
    usual["source"] = photos
    values = {name: usual.get(name, images) for name in positional}
    for name, value in zip(positional[1:], inputs, strict=False):
        values[name] = values[name] if value is None else value
    try:
        function(**values, **given)
    except NetloupeError as error:
        return 3 if len(str(error).splitlines()) == 1 else 1
    return 0


# --- the table

MARK = "<!-- what tools/campaign.py found -->"


def table(rows: list[Class], seed: int) -> str:
    """Markdown."""
    body = [f"| {row.name} | {row.tries} | {row.kept} | {row.cut} | {len(row.failures)} |" for row in rows]
    head = ["| class | tries | killed, or refused in one line | cut off | failures |", "|---|--:|--:|--:|--:|"]
    return "\n".join([MARK, "", f"Seed {seed}, PyTorch {torch.__version__}.", "", *head, *body, ""])


def main_campaign() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("seed", 0), ("kills", 200), ("lines", 500), ("calls", 500)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    given = parser.parse_args()
    rows = campaign(given.seed, given.kills, given.lines, given.calls)
    text = table(rows, given.seed)
    print(text)
    for row in rows:
        for failure in row.failures:
            print(f"FAILED {row.name}: {failure}")
    if given.write is not None:
        page = given.write.read_text()
        given.write.write_text(page[: page.index(MARK)] + text)
    return int(any(row.failures for row in rows))


def campaign(seed: int, n_kills: int, n_lines: int, n_calls: int) -> list[Class]:
    """The rows of the table."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    place = Path(tempfile.mkdtemp(prefix="campaign"))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        preload()
        prepare(place)
        rows = list(kills(place, n_kills, random.Random(seed), say)) if n_kills else []
        rows += [lines(place, n_lines, random.Random(seed + 1), say)] if n_lines else []
        rows += [calls(place, n_calls, random.Random(seed + 2), say)] if n_calls else []
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return rows


if __name__ == "__main__":
    sys.exit(main_campaign())
