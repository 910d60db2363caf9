"""What a network wants of its input, and the step from pixels to it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetloupeWarning
from netloupe.core.numbers import as_number, as_whole, whole

Each = TypeVar("Each")

_BEYOND = 0.1  # by which pixels may leave [0, 1]; those of a normalized image leave it further
_EXACT = 1e-3


def _several(given: Any, read: Callable[[Any], Each]) -> tuple[Each, ...] | None:
    """One or several values, read; None where one of them can't be."""
    try:
        return tuple(map(read, given if isinstance(given, Iterable) else (given,)))
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True)
class InputSpec:
    """Facts about a network's input.

    size: (height, width) in px; one number means a square.
    channels: 3 for RGB, 1 for gray.
    mean, std: per channel, in units of `range`; one value stands for all channels.
    range: what images in [0, 1] are mapped to before mean and std apply, for example (0, 255).
    values: what is black and white in image files of more than 8 bits a value, such as (0, 4095); what is beyond is cut
    off. None: as the file says.
    picture: the channels, from 0, that make a picture for eyes: three as red, green and blue, or one. None: the first.
    """

    size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: tuple[float, float] = (0.0, 1.0)
    values: tuple[float, float] | None = None
    picture: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        """All fields, those of files and pictures where they are given: networks are hashed by this text."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        told = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"{type(self).__name__}({', '.join(told)})"

    def __post_init__(self) -> None:
        size = _several(self.size, as_whole)
        size = size * 2 if size is not None and not isinstance(self.size, Iterable) else size
        if size is None or len(size) != 2 or min(size) < 1:
            raise InputError(f"input size {self.size!r} (accepted: (height, width) in px, both at least 1)")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "channels", whole("input channels", self.channels, 1))
        for name in ("mean", "std"):
            values = _several(getattr(self, name), as_number)
            if values is None or math.inf in map(abs, values):
                raise InputError(f"{name} {getattr(self, name)!r} (accepted: a number, or one for each channel)")
            if len(values) not in (1, self.channels):
                raise InputError(f"{name} has {len(values)} values for {self.channels} channels")
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise InputError(f"std {self.std} (accepted: numbers above 0)")
        object.__setattr__(self, "range", _limits("range", self.range))
        if self.values is not None:
            object.__setattr__(self, "values", _limits("values", self.values))
        if self.picture is not None:
            object.__setattr__(self, "picture", _picture(self.picture, self.channels))

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> the same shape, as the module wants it; differentiable."""
        low, high = self.range
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        return (images * (high - low) + low - mean) / std

    def mean_color(self) -> Tensor:
        """The mean pixel as an image color, (C,) in [0, 1]."""
        low, high = self.range
        return ((torch.tensor(self.mean) - low) / (high - low)).clamp(0, 1).expand(self.channels)

    def check(self, images: Tensor) -> None:
        """Raise InputError unless `images` is an (N, C, H, W) float tensor of the right channels."""
        if not isinstance(images, Tensor):
            raise InputError(f"images are a {type(images).__name__} (accepted: a float tensor (N, C, H, W) in [0, 1])")
        if images.ndim != 4 or images.shape[1] != self.channels:
            shape = tuple(images.shape)
            raise InputError(f"images of shape {shape} (accepted: (N, {self.channels}, H, W))")
        if not images.is_floating_point():
            raise InputError(f"images of {images.dtype} (accepted: float in [0, 1]; divide bytes by 255)")

    def check_range(self, images: Tensor) -> None:
        """Raise InputError if the pixels are not in [0, 1] (bytes, or normalized already) or not finite.

        What leaves it by up to 0.1, as smooth resizing does, is only said by a warning.
        """
        if images.numel() == 0:
            return
        low, high = (float(v) for v in torch.aminmax(images.detach()))
        found = f"pixels from {low:.3g} to {high:.3g}"
        if not (low >= -_BEYOND and high <= 1 + _BEYOND):
            raise InputError(f"{found} (accepted: [0, 1]; normalization happens inside the network)")
        if low < -_EXACT or high > 1 + _EXACT:
            warnings.warn(f"{found}, not in [0, 1]; clamp(0, 1) keeps them there", NetloupeWarning, stacklevel=3)


def _limits(name: str, given: Any) -> tuple[float, float]:
    limits = _several(given, as_number)
    if limits is None or len(limits) != 2 or not -math.inf < limits[0] < limits[1] < math.inf:
        raise InputError(f"{name} {given} (accepted: (low, high) with low < high)")
    return limits[0], limits[1]


def _picture(given: Any, channels: int) -> tuple[int, ...]:
    chosen = _several(given, as_whole)
    if chosen is None or len(chosen) not in (1, 3) or not all(0 <= c < channels for c in chosen):
        raise InputError(f"picture {given} (accepted: one channel, or three, from 0 to {channels - 1})")
    return chosen


_SHOWN: ContextVar[tuple[int, ...] | None] = ContextVar("shown", default=None)


@contextmanager
def showing(picture: Sequence[int] | None) -> Iterator[None]:
    """Pictures of many channels are made of these meanwhile; see `InputSpec.picture`."""
    token = _SHOWN.set(None if picture is None else tuple(picture))
    try:
        yield
    finally:
        _SHOWN.reset(token)


def shown_channels(count: int, picture: Sequence[int] | None = None) -> tuple[int, ...]:
    """Which of `count` channels make a picture for eyes: those that are stated, else the first three, or the first."""
    stated = _SHOWN.get() if picture is None else tuple(picture)
    if stated is not None and max(stated) < count:
        return stated
    return (0, 1, 2) if count >= 3 else (0,)
