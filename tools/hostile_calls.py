"""Calls of the Python functions that nobody means well with: they return, or raise a `NetloupeError` of one line."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import apart
from trials import Log, Trial

import netloupe
from netloupe.core.errors import NetloupeError

LIMIT = 30.0
"""Seconds after which a call is cut off, which is no failure but is counted."""

VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**20, float("nan"), float("inf"), 1e308, "", "nope", "koala", "conv1", b"x", [], {}, (),
    {"a": 1}, [None], ["conv1"], [["conv1"]], np.int64(2), np.float32(0.5), np.zeros(3), torch.zeros(3),
    torch.full((1, 3, 64, 64), float("nan")), torch.full((1, 3, 64, 64), 300.0), torch.zeros(0, 3, 64, 64), object(),
    Path("nothing.png"), 1j, lambda: 0, range(3), {1, 2}, "a" * 300, "\ud800", int, ...,
]  # fmt: skip
FEW = {"steps": 1, "count": 1, "first": 2, "sizes": "32", "octaves": 1, "epochs": 1, "stages": 2, "samples": 2}
"""What keeps a call short."""
LEFT = ("perform", "swept_by")
"""Public functions that take what only Python has: tasks and engines."""


def functions() -> list[Callable[..., Any]]:
    """All public functions."""
    found = (getattr(netloupe, name) for name in netloupe.__all__ if name not in LEFT)
    return [one for one in found if inspect.isfunction(one)]


def calls(place: Path, count: int, log: Log) -> Trial:
    """Calls of all public functions, each with up to three arguments that are not as they should be."""
    row = Trial("hostile Python calls")
    for number in range(count):
        row.add(log.trial(row.kind, number, lambda draw: _tried(place, draw)))
        if number % 50 == 49:
            log.say(f"{number + 1} calls: {row.kept} refused, {row.cut} cut off, {len(row.failures)} failures")
    return row


def _tried(place: Path, draw: random.Random) -> Trial:
    function = draw.choice(functions())
    given, inputs = drawn(function, draw)
    ended = apart(lambda: _call(function, given, inputs), place, LIMIT)
    failures = []
    if ended.status not in (0, 3, None):
        last = ended.err.strip().splitlines()[-1:] or [""]
        failures = [f"{function.__name__}({shown({**inputs, **given})}): {last[0][:200]}"]
    return Trial("", 1, int(ended.status == 3), int(ended.status is None), failures)


def drawn(function: Any, draw: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings, one or two of them hostile, and hostile values for some of what the function is given by position."""
    parameters = list(inspect.signature(function).parameters.values())
    inputs = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty]
    settings = [one.name for one in parameters if one.name not in inputs and one.kind is not one.VAR_KEYWORD]
    given: dict[str, Any] = {name: FEW[name] for name in settings if name in FEW}
    for name in draw.sample(settings, min(len(settings), draw.randint(1, 2))):
        given[name] = draw.choice(VALUES)
    return given, {name: draw.choice(VALUES) for name in inputs if draw.random() < 0.15}


def shown(value: Any) -> str:
    """In one short line."""
    return " ".join(repr(value).split())[:160]


def _call(function: Any, given: dict[str, Any], inputs: dict[str, Any]) -> int:
    torch.manual_seed(0)
    net, images, photos = netloupe.load(), torch.rand(1, 3, 64, 64), netloupe.photos().first(2)
    usual = {
        "net": net, "target": "koala", "objective": "class:koala", "layer": "conv2", "source": photos,
        "units": "conv2:1", "unit": "conv2:1", "keep": "conv2", "styles": [images], "path": "photo.png",
        "paths": ["photo.png"], "size": 64, "spec": "data", "masks": np.repeat([0, 1], 2048).reshape(1, 64, 64),
        "image": images[0], "saliency": images[0, 0], "model": "lenslet",
    }  # fmt: skip
    task = getattr(function, "task", None)
    if task is not None and any(one.what == "source" and one.name == "data" for one in task.inputs):
        usual["images"] = photos if function.__name__ not in ("dense_probe",) else images
    parameters = inspect.signature(function).parameters.values()
    values = {
        one.name: usual.get(one.name, images)
        for one in parameters
        if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty
    }
    try:
        function(**{**values, **inputs, **given})
    except NetloupeError as error:
        return 3 if len(str(error).splitlines()) == 1 else 1
    return 0
