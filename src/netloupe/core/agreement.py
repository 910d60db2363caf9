"""How far what a network says is from what it says in float32, where it computes in another precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.given import checked
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.core.settings import FULL


@dataclass(frozen=True)
class Agreement:
    """What a network says of some images in its precision, held against what it says of them in float32.

    images: how many. same: of how many the most probable class is the same; None without classes. error: the root mean
    square difference of answers, as a share of the answers' spread over the images in float32 (for one image, of their
    size). faster: how many times as fast the pass is, here and now.
    """

    precision: str
    images: int
    same: int | None
    error: float
    faster: float

    def __str__(self) -> str:
        said = "" if self.same is None else f"same class for {self.same} of {self.images} images, "
        of = "spread" if self.images > 1 else "size"
        only = "" if self.faster >= 1 else "only "
        pace = f"{only}{self.faster:.2g} times as fast"
        return f"{self.precision}: {said}answers differ by {100 * self.error:.2g}% of their {of}; {pace} as float32"


@checked
def agreement(net: Network, images: Tensor) -> Agreement:
    """How far the answers to images (N, C, H, W) in [0, 1] are from those in float32.

    Raises NetworkError for a network whose answer is no tensor.
    """
    plain = net.computing(FULL)
    with torch.no_grad():
        own, quick = _timed(lambda: net(images), net.device)
        true, slow = _timed(lambda: plain(images), net.device)
    same = None
    if isinstance(net.head, Classes):
        same = int((own.flatten(1).argmax(1) == true.flatten(1).argmax(1)).sum())
    spread = (true - true.mean(0) if len(true) > 1 else true).square().mean().sqrt()
    error = float((own - true).square().mean().sqrt() / spread.clamp(min=torch.finfo(torch.float32).tiny))
    return Agreement(net.precision, len(images), same, error, slow / quick)


def _timed(run: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What it gives, and the shortest of its second and third time, in seconds."""
    found, seconds = run(), []
    for _ in range(2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return found, min(seconds)
