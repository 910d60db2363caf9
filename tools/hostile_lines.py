"""Command lines that nobody means well with: refused in one line, or done, and nothing half-written."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from apart import Ended, apart
from trials import Log, Trial
from workplace import copied, names

from netloupe.cli.app import app, main

LIMIT = 30.0
"""Seconds after which a line is cut off, which is no failure but is counted."""
SERVE = {("studio",): 10.0, ("atlas", "serve"): 10.0}
"""The same of verbs that wait for a browser where all is as it should be."""

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


def line(draw: random.Random, verbs: list[tuple[tuple[str, ...], Any]]) -> tuple[tuple[str, ...], list[str]]:
    """A verb, and a hostile line of it: what is required mostly as it should be, some options as they should not."""
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
    return path, words


def lines(place: Path, count: int, log: Log) -> Trial:
    """Lines of all verbs."""
    row, verbs = Trial("hostile command lines"), list(commands())
    for number in range(count):
        row.add(log.trial(row.kind, number, lambda draw: _tried(place, draw, verbs)))
        if number % 50 == 49:
            log.say(f"{number + 1} lines: {row.kept} refused, {row.cut} cut off, {len(row.failures)} failures")
    return row


def _tried(place: Path, draw: random.Random, verbs: list[tuple[tuple[str, ...], Any]]) -> Trial:
    folder = Path(tempfile.mkdtemp(dir=place, prefix="line"))
    copied(place, folder)
    path, words = line(draw, verbs)
    before = names(folder)
    ended = apart(lambda: main(words), folder, SERVE.get(path, LIMIT))
    fault = judged(ended, sorted(names(folder) - before))
    shutil.rmtree(folder, ignore_errors=True)
    failures = [] if fault is None else [f"{words}: {fault}"]
    return Trial("", 1, int(ended.status == 2), int(ended.status is None), failures)


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
