"""Input specs from the text of command-line options."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec


def parse_inputs(
    size: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    channels: int | None = None,
    range: str | None = None,
    values: str | None = None,
    picture: str | None = None,
    *,
    base: InputSpec | None = None,
) -> InputSpec:
    """The spec `base` (by default `InputSpec()`) with those parts replaced that are given.

    size: "224", or "224x160" for height x width, in px. mean, std: "0.5", or one number a channel,
    "0.485,0.456,0.406". range: "0,255", what pixels in [0, 1] are mapped to first. values: "0,4095", what is
    black and white in files of more than 8 bits. picture: "3,2,1", the channels that are shown. Raises InputError.
    """
    spec = base if base is not None else InputSpec()
    return replace(
        spec,
        size=parse_size(size) if size is not None else spec.size,
        channels=channels if channels is not None else spec.channels,
        mean=_numbers("mean", mean) if mean is not None else spec.mean,
        std=_numbers("std", std) if std is not None else spec.std,
        range=_limits("range", range) if range is not None else spec.range,
        values=_limits("values", values) if values is not None else spec.values,
        picture=_channels(picture) if picture is not None else spec.picture,
    )


def _channels(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,5}(,\d{1,5})*", text, re.ASCII):
        raise InputError(f"picture {text!r} (accepted: channels from 0 on, for example 3,2,1)")
    return tuple(int(part) for part in text.split(","))


def _limits(option: str, text: str) -> tuple[float, float]:
    found = _numbers(option, text)
    if len(found) != 2:
        raise InputError(f"{option} {text!r} (accepted: LOW,HIGH, for example 0,255)")
    return found[0], found[1]


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) in px, of "224" or "224x160"."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX×,](\d{1,5}))?", text.replace(" ", ""), re.ASCII)
    if match is None:
        raise InputError(f"size {text!r} (accepted: SIDE or HEIGHTxWIDTH in px, for example 224 or 224x160)")
    return int(match[1]), int(match[2] if match[2] is not None else match[1])


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise InputError(f"{option} {text!r} (accepted: numbers separated by commas, for example 0.485,0.456,0.406)")
    return numbers
