"""Where a network is computed."""

from __future__ import annotations

import torch

from netloupe.core.errors import InputError, first_line


def device_of(name: str) -> torch.device:
    """The device of that name, or for "auto" the GPU if there is one. Raises InputError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise InputError(f"no device {name!r} here (accepted: auto, cpu, cuda, cuda:N): {reason}") from None
    return torch.device(name)
