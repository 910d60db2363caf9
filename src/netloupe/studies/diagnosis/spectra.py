"""Spectra of filters and of feature maps: which spatial frequencies they hold, and what a stride folds over.

Frequencies are in cycles per pixel of the map, up to 0.5 along an axis, where one period is two pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from netloupe.core.network import Network
from netloupe.core.taps import module_and_call

LOW, HIGH = 0.125, 0.25  # the middle band is an octave, of periods of 4 to 8 px
BANDS = ("low", "middle", "high")
GRID = 64  # frequencies along an axis, by zero padding

_ROUNDING = 1e-12  # share of a map's power, below which it is that of rounding errors in float32
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


class FilterSpectra(NamedTuple):
    """Spectra of F filters, of their input channels together.

    power (F, 64, 64): |DFT|^2, zero frequency in the middle, filters of length 1. shares (F, 3): of the power in the
    low, middle and high band. peak (F,): the frequency of the strongest component, 0 for a constant filter.
    oriented (F,): how far the power lies along one direction, from 0 to 1. direction (F,): that in radians, in
    [0, pi), across the stripes. Filters that are all zero are NaN.
    """

    power: np.ndarray
    shares: np.ndarray
    peak: np.ndarray
    oriented: np.ndarray
    direction: np.ndarray

    @property
    def bands(self) -> np.ndarray:
        """(F,): 0, 1 or 2 for the band of the strongest component, -1 for a filter that is all zero."""
        found = (self.peak >= LOW).astype(int) + (self.peak > HIGH)
        return np.where(np.isfinite(self.peak), found, -1)


def filter_spectra(weights: np.ndarray) -> FilterSpectra:
    """The spectra of filters (F, C, kh, kw)."""
    filters = weights.astype(np.float64)
    lengths = np.sqrt((filters**2).sum((1, 2, 3), keepdims=True))
    power = (np.abs(np.fft.fft2(filters / np.where(lengths > 0, lengths, np.nan), (GRID, GRID))) ** 2).sum(1)
    power = np.fft.fftshift(power, axes=(1, 2))
    y, x = frequencies(GRID, GRID)
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    total = power.sum((1, 2))
    bands = [radius < LOW, (radius >= LOW) & (radius <= HIGH), radius > HIGH]
    shares = np.stack([(power * band).sum((1, 2)) / total for band in bands], 1)
    empty = ~np.isfinite(total)
    places = np.where(empty[:, None], 0, power.reshape(len(power), -1)).argmax(1)
    peak = np.where(empty, np.nan, radius.ravel()[places])
    turned = [(power * f(2 * angle) * (radius > 0)).sum((1, 2)) / total for f in (np.cos, np.sin)]
    return FilterSpectra(power, shares, peak, np.hypot(*turned), np.arctan2(turned[1], turned[0]) / 2 % np.pi)


def frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(height, width) each: the vertical and the horizontal frequency, zero in the middle."""
    y, x = (np.fft.fftshift(np.fft.fftfreq(side)) for side in (height, width))
    return np.broadcast_to(y[:, None], (height, width)), np.broadcast_to(x[None], (height, width))


class Aliasing(NamedTuple):
    """What a stride of (y, x) folds over: shares (C,) of each channel's variation that lies above its Nyquist limit.

    Variation is the power of the map before it is thinned out, the mean left out; the limit is 0.5 / stride cycles
    per pixel along each axis. Channels without variation are NaN. power (H, W): of all channels on equal terms, zero
    frequency in the middle. rest: 1 - 1 / (y x), the share of white noise.
    """

    stride: tuple[int, int]
    shares: np.ndarray
    power: np.ndarray

    @property
    def rest(self) -> float:
        return 1 - 1 / (self.stride[0] * self.stride[1])

    @property
    def mean(self) -> float:
        """Over the channels; NaN where none varies."""
        known = self.shares[np.isfinite(self.shares)]
        return float(known.mean()) if known.size else float("nan")


def folded(maps: Tensor, stride: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of maps (N, C, H, W) before a stride: (2, C) power above the limit and in all, and (C, H, W) power, sums over N.

    Each map has its mean taken off and is weighted down toward its rim (a Hann window), else the jump from one rim to
    the other would count as high frequencies. A map that varies by no more than rounding errors has no power.
    """
    height, width = maps.shape[2:]
    window = torch.outer(*(torch.hann_window(side + 2, periodic=False)[1:-1].double() for side in (height, width)))
    values = maps.double().cpu()
    sizes = (values * window).square().sum((2, 3), keepdim=True)
    values = (values - (values * window).sum((2, 3), keepdim=True) / window.sum()) * window
    values = values * (values.square().sum((2, 3), keepdim=True) > _ROUNDING * sizes)
    power = torch.fft.fftshift(torch.fft.fft2(values).abs().square().sum(0), dim=(1, 2)).numpy()
    y, x = frequencies(height, width)
    above = (np.abs(y) > 0.5 / stride[0] + 1e-9) | (np.abs(x) > 0.5 / stride[1] + 1e-9)
    return np.stack([power[:, above].sum(1), power.sum((1, 2))]), power


def strided(net: Network) -> dict[str, tuple[int, int]]:
    """{layer: stride (y, x)} of the convolutions and poolings that thin a map out and leave at least 2 x 2 of it."""
    found = {}
    for name, layer in net.layers.items():
        if not (layer.is_convolution or isinstance(layer.module, _POOLS)) or min(layer.size) < 2:
            continue
        y, x = _pair(layer.module.stride)
        if max(y, x) > 1:
            found[name] = (y, x)
    return found


def aliasing(net: Network, batches: Iterable[Tensor], layers: Mapping[str, tuple[int, int]]) -> dict[str, Aliasing]:
    """{layer: Aliasing} over batches of images (n, C, H, W) in [0, 1], for layers as `strided` gives them.

    Each layer is run once more on its own input with stride 1, which gives its output before it is thinned out.
    """
    dense = {name: _dense(net.layers[name].module) for name in layers}
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def take(name: str, given: Tensor) -> None:
        energies, power = folded(dense[name](given), layers[name])
        if name in sums:
            energies, power = energies + sums[name][0], power + sums[name][1]
        sums[name] = energies, power

    for images in batches:
        with torch.no_grad(), _inputs(net.module, layers, take):
            net.run(images, {name: lambda _: None for name in layers})
    return {name: _result(layers[name], *sums[name]) for name in layers if name in sums}


@contextmanager
def _inputs(module: nn.Module, layers: Iterable[str], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While it lasts, what each named layer is given goes to `take(layer, input)`."""
    calls: dict[str, int] = {}
    wanted = set(layers)

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            layer = name if calls[name] == 1 else f"{name}~{calls[name]}"
            if layer in wanted:
                take(layer, given[0])

        return hook

    names = dict.fromkeys(module_and_call(layer)[0] for layer in layers)
    handles = [module.get_submodule(name).register_forward_pre_hook(hook_for(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _result(stride: tuple[int, int], energies: np.ndarray, power: np.ndarray) -> Aliasing:
    above, total = energies
    varies = total > 1e-12 * total.max(initial=0.0)
    shares = np.where(varies, above / np.where(varies, total, 1), np.nan)
    equal = (power / np.where(varies, total, 1)[:, None, None])[varies]
    return Aliasing(stride, shares, equal.mean(0) if len(equal) else np.zeros(power.shape[1:]))


def _dense(module: nn.Module) -> nn.Module:
    """A copy of a convolution or pooling with stride 1."""
    found = copy.deepcopy(module).eval()
    found.stride = (1, 1)  # type: ignore[assignment]
    if hasattr(found, "ceil_mode"):
        found.ceil_mode = False  # type: ignore[assignment]
    return found


def _pair(value: Any) -> tuple[int, int]:
    y, x = value if isinstance(value, tuple) else (value, value)
    return int(y), int(x)
