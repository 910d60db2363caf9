"""In which numbers a network computes.

In bfloat16 the operations that gain from it, convolutions and products, take and give numbers of 8 bits of precision
(`torch.autocast`); weights stay as they are, and what needs more precision keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from netloupe.core.errors import InputError, unknown
from netloupe.core.settings import FULL, PRECISIONS


def checked(precision: str, weights: torch.dtype) -> str:
    """The precision, if it is one and one of networks with such weights.

    Raises UnknownName, or InputError where the weights are not of float32.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision != FULL and weights != torch.float32:
        given = str(weights).removeprefix("torch.")
        raise InputError(f"precision {precision} of a network whose weights are {given} (accepted: weights of float32)")
    return precision


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """Inside it modules compute in this precision."""
    if precision == FULL:
        yield
        return
    with torch.autocast(device.type, getattr(torch, precision)):
        yield


@contextmanager
def fully(device: torch.device) -> Iterator[None]:
    """Inside it, within a pass of less precision, whoever reads it computes in full."""
    if device.type not in ("cpu", "cuda") or not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield
