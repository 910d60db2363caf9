"""Where a network is computed, and in which type."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from netloupe.core.errors import InputError, first_line


def device_of(name: str) -> torch.device:
    """The device of that name, or for "auto" the GPU if there is one. Raises InputError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # each back end raises what it likes, one that is not installed too
        reason = first_line(error)
        raise InputError(f"no device {name!r} here (accepted: auto, cpu, cuda, cuda:N): {reason}") from None
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Where speed counts for more than the last bits: bfloat16 where the hardware multiplies in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.float32


def machine() -> str:
    """Processor, threads and PyTorch version."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"
