"""What a network wants of its input, and the step from pixels to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netloupe.core.errors import InputError


@dataclass(frozen=True)
class InputSpec:
    """Facts about a network's input.

    size: (height, width) in px; one number means a square.
    channels: 3 for RGB, 1 for gray.
    mean, std: per channel, in units of `range`; one value stands for all channels.
    range: what images in [0, 1] are mapped to before mean and std apply, for example (0, 255).
    """

    size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(int(side) for side in self.size)
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"input size {self.size!r} (accepted: (height, width) in px, both at least 1)")
        if self.channels < 1:
            raise InputError(f"{self.channels} input channels (accepted: 1 or more)")
        object.__setattr__(self, "size", size)
        for name in ("mean", "std"):
            value = getattr(self, name)
            values = (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
            if len(values) not in (1, self.channels):
                raise InputError(f"{name} has {len(values)} values for {self.channels} channels")
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise InputError(f"std {self.std} (accepted: numbers above 0)")
        limits = tuple(float(limit) for limit in self.range)
        if len(limits) != 2 or not limits[0] < limits[1]:
            raise InputError(f"range {self.range} (accepted: (low, high) with low < high)")
        object.__setattr__(self, "range", limits)

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
        """Raise InputError if the pixels are plainly not in [0, 1] (bytes, or normalized already) or not finite."""
        if images.numel() == 0:
            return
        low, high = (float(v) for v in torch.aminmax(images.detach()))
        if not (low >= -0.5 and high <= 1.5):
            raise InputError(
                f"pixels from {low:.3g} to {high:.3g} (accepted: [0, 1]; normalization happens inside the network)"
            )
