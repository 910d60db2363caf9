"""How natural photographs vary: the correlation of their colors and the strength of their frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError

SIDE = 128  # px of the photographs whose spectrum is shipped


@dataclass(frozen=True, eq=False)
class Natural:
    """Statistics of photographs with pixels in [0, 1].

    mean: (C,), the mean color. colors: (C, C), from uncorrelated colors of variance 1 to color minus mean. spectrum:
    (C, S, S // 2 + 1), the mean amplitude of each frequency of the uncorrelated colors, of photographs of S x S px as
    `torch.fft.rfft2` with norm="ortho" gives it; frequency 0 holds nothing.
    """

    mean: Tensor
    colors: Tensor
    spectrum: Tensor

    def decorrelated(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in color -> uncorrelated colors; `colored` goes back."""
        inverse = torch.linalg.inv(self.colors).to(images)
        return torch.einsum("dc,nchw->ndhw", inverse, images - self.mean.to(images).view(1, -1, 1, 1))

    def colored(self, values: Tensor) -> Tensor:
        """(N, C, H, W) of uncorrelated colors -> color."""
        found = torch.einsum("dc,nchw->ndhw", self.colors.to(values), values)
        return found + self.mean.to(values).view(1, -1, 1, 1)

    def amplitudes(self, height: int, width: int) -> Tensor:
        """(C, height, width // 2 + 1): the spectrum for another size.

        Amplitude times frequency changes little (the spectrum falls nearly as 1 / f), so that is interpolated.
        """
        channels, side = self.spectrum.shape[:2]
        flat = (self.spectrum * frequencies(side, side)).roll(side // 2, 1)  # rows from the lowest to the highest
        flat[:, side // 2, 0] = flat[:, side // 2, 1]
        y = torch.fft.fftfreq(height).clamp(-0.5, 0.5 - 1 / side)[:, None] * side + side // 2
        x = torch.fft.rfftfreq(width)[None] * side
        high, wide = flat.shape[1] - 1, flat.shape[2] - 1
        places = torch.stack(torch.broadcast_tensors(2 * x / wide - 1, 2 * y / high - 1), -1)
        found = F.grid_sample(flat[None], places[None].float(), align_corners=True)[0] / frequencies(height, width)
        found[:, 0, 0] = 0
        return found.view(channels, height, width // 2 + 1)


def frequencies(height: int, width: int) -> Tensor:
    """(height, width // 2 + 1): the frequencies of `torch.fft.rfft2` in cycles per px; for 0 the lowest other."""
    found = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    return found.clamp(min=1 / max(height, width))


def measure_natural(images: Tensor) -> Natural:
    """The statistics of photographs (N, C, S, S) in [0, 1].

    Each is faded to its mean at the border by a Hann window, whose loss of energy is made up for, so that the seam
    between its opposite borders leaves no trace in the spectrum.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or len(images) < 2:
        raise InputError(f"photographs of shape {tuple(images.shape)} (accepted: (N, C, S, S), N 2 or more)")
    pixels = images.double()
    mean = pixels.mean((0, 2, 3))
    away = pixels - mean.view(1, -1, 1, 1)
    covariance = torch.einsum("nchw,ndhw->cd", away, away) / away[:, 0].numel()
    variances, axes = torch.linalg.eigh(covariance)
    natural = Natural(mean, axes * variances.clamp(min=1e-9).sqrt(), torch.zeros(0))
    values = natural.decorrelated(pixels)
    hann = torch.hann_window(images.shape[2], periodic=True, dtype=torch.float64)
    fade = hann[:, None] * hann
    fade /= fade.square().mean().sqrt()
    centered = values - (values * fade).mean((2, 3), keepdim=True) / fade.mean()
    spectrum = torch.fft.rfft2(centered * fade, norm="ortho").abs().mean(0)
    spectrum[:, 0, 0] = 0
    return Natural(mean.float(), natural.colors.float(), spectrum.float())


@cache
def natural() -> Natural:
    """The statistics that come with the package, of color photographs."""
    with (files("netloupe.synthesis") / "natural.npz").open("rb") as file, np.load(file, allow_pickle=False) as found:
        return Natural(*(torch.from_numpy(found[name].astype(np.float32)) for name in ("mean", "colors", "spectrum")))
