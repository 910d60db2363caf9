"""Where a climb begins: images (N, C, H, W) in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from netloupe.core.errors import InputError, unknown
from netloupe.core.network import Network
from netloupe.core.perform import Images
from netloupe.synthesis.natural import frequencies
from netloupe.synthesis.octaves import resized
from netloupe.synthesis.tasks import STARTS

Start = str | Tensor
"""A name of `STARTS`, or images (N, C, H, W) or one image (C, H, W) in [0, 1]."""

NOISE = 0.02  # standard deviation of "noise"


def start_images(net: Network, start: Start | Images, count: int, size: tuple[int, int], seed: int) -> Tensor:
    """`count` images of (height, width).

    zeros: black. gray: 0.5. mean: the mean color of the network's data. uniform: every number drawn evenly from [0, 1].
    noise: gray with frequencies as strong as in photographs (1 / f), of standard deviation 0.02. Every image gets the
    same noise, so that what becomes of one does not depend on the others. Raises InputError for an image of another
    shape, UnknownName for a name that is not there.
    """
    shape = (net.inputs.channels, *size)
    start = start.fitted(net, size) if isinstance(start, Images) else start
    if isinstance(start, Tensor):
        given = start[None] if start.ndim == 3 else start
        net.inputs.check(given)
        net.inputs.check_range(given)
        if tuple(given.shape[2:]) != size or len(given) not in (1, count):
            raise InputError(
                f"start images of shape {tuple(start.shape)} (accepted: {shape}, or {(count, *shape)}; "
                "`size` sets height and width)"
            )
        return given.detach().to(net.device).expand(count, -1, -1, -1)
    if start not in STARTS:
        raise unknown("start", start, STARTS)
    return _drawn(net, start, shape, seed).to(net.device).expand(count, -1, -1, -1)


def begun(net: Network, start: Start | Images, count: int, size: tuple[int, int], seed: int) -> Tensor:
    """As `start_images`, with images of any size, brought to this one."""
    if isinstance(start, Images):
        start = torch.cat([resized(image[None], size) for image in start.shaped(net)]).clamp(0, 1)
    return start_images(net, start, count, size, seed)


def _drawn(net: Network, start: str, shape: tuple[int, int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if start == "uniform":
        return torch.rand(shape, generator=generator)
    if start == "noise":
        waves = torch.fft.rfft2(torch.randn(shape, generator=generator)) / frequencies(*shape[1:])
        waves[:, 0, 0] = 0
        drawn: Tensor = torch.fft.irfft2(waves, s=shape[1:])
        return 0.5 + NOISE * drawn / drawn.std()
    if start == "mean":
        return net.inputs.mean_color().view(-1, 1, 1).expand(shape)
    return torch.full(shape, 0.0 if start == "zeros" else 0.5)
