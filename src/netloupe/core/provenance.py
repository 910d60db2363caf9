"""Where a result comes from."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from netloupe.core.network import Network


def provenance(net: Network, technique: str, **parameters: Any) -> dict[str, Any]:
    """What is needed to make a result again: network and its hash, input spec, technique, parameters, versions."""
    spec = net.inputs
    return {
        "technique": technique,
        "parameters": parameters,
        "network": {"name": net.name, "hash": net.fingerprint(), "device": str(net.device), "head": str(net.head)},
        "input": {
            "size": list(spec.size),
            "channels": spec.channels,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "range": list(spec.range),
        },
        "versions": {"netloupe": version("netloupe"), "torch": torch.__version__, "python": platform.python_version()},
    }


def machine() -> str:
    """Processor, threads and PyTorch version."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"
