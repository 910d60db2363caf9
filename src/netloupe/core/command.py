"""The command line that makes a result: what `cli` reads, written."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netloupe.core.errors import InputError
from netloupe.core.settings import OBJECT, SIDES, TRUTH, Setting
from netloupe.core.task import Input, Task


def command_line(
    task: Task,
    given: Mapping[str, Sequence[str]],
    network: Mapping[str, str],
    out: str | None = None,
    axes: Mapping[str, Sequence[Any]] | None = None,
) -> list[str]:
    """The words of the command that runs a task.

    given: the texts of its inputs, by name. network: the options that say which network it is, by name. axes: the
    values of a contact sheet, by setting. Raises InputError for settings that were made in Python.
    """
    arguments, options = [], []
    for one in task.inputs:
        texts = _shared(task, one, given.get(one.name, ()))
        if one.flags:
            options += [word for text in texts for word in (one.flags[0], text)]
        else:
            arguments += texts
    shares = {one.shares for one in task.inputs}
    for setting in task.settings():
        value = setting.json(getattr(task, setting.name))
        if setting.name in shares or (not setting.required and value == setting.json(setting.default)):
            continue
        if setting.argument:
            arguments += _texts(setting, value)
        else:
            options += _flagged(setting, value)
    for name, values in (axes or {}).items():
        options += ["--sweep", f"{name}={','.join(_text(task.swept(name), value) for value in values)}"]
    for name, text in network.items():
        options += [network_flag(type(task), name), text]
    out_words = [] if out is None else ["-o", out]
    dashes = ["--"] if any(text.startswith("-") for text in arguments) else []
    return ["netloupe", *task.verb.split(), *options, *out_words, *dashes, *arguments]


def network_flag(task: type[Task], name: str) -> str:
    """The flag of an option of the network; another where the task has a setting of that flag."""
    taken = {flag for one in task.settings() for flag in one.flags if one.name != "seed"}
    return f"--network-{name}" if f"--{name}" in taken else f"--{name}"


def _shared(task: Task, one: Input, texts: Sequence[str]) -> list[str]:
    """IMAGE=SHARE, where the shares are a setting."""
    shares = () if one.shares is None else getattr(task, one.shares)
    if not shares:
        return list(texts)
    return [f"{text}={share!r}" for text, share in zip(texts, shares, strict=True)]


def _flagged(one: Setting, value: Any) -> list[str]:
    texts = _texts(one, value)
    if one.kind is TRUTH:
        return [one.flags[0]]  # it is off by default
    if one.target:
        (text,) = texts
        if text.startswith("class:"):
            return ["--class", text.removeprefix("class:")]
        return ["--objective" if "(" in text else "--unit", text]
    if one.commas:
        return [one.flags[0], ",".join(texts)]
    return [word for text in texts for word in (one.flags[0], text)]


def _texts(one: Setting, value: Any) -> list[str]:
    if one.weights:
        return [f"{name}={weight!r}" for name, weight in value.items()]
    return [_text(one, each) for each in (value if one.many else [value])]


def _text(one: Setting, value: Any) -> str:
    if isinstance(value, Mapping) and OBJECT in value:
        raise InputError(f"{one.name} was an object made in Python, which no command line can hold")
    if one.kind is SIDES:
        return "x".join(map(str, value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)


def typed(line: str) -> str:
    """A command line of ours as it can be typed here: by the path of the program, where the shell does not find it."""
    own, found = Path(sys.argv[0]), shutil.which("netloupe")
    if own.name == "netloupe" and own.is_file():
        known = found is not None and os.path.samefile(own, found)
        return line if known else shlex.quote(_near(own)) + line.removeprefix("netloupe")
    if own.parts[-2:] == ("netloupe", "__main__.py") and found is None:
        return f"{shlex.quote(_near(Path(sys.executable)))} -m {line}"
    return line


def _near(path: Path) -> str:
    """From the working directory, if it lies in it."""
    near = os.path.relpath(path)
    return os.path.abspath(path) if near.startswith(os.pardir) else near
