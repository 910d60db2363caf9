"""Which numbers are climbed, and how they become images: each is called with start images and gives `Variables`.

What the numbers are decides where an image goes: a step of equal length in each frequency changes large shapes as
readily as single pixels, and colors that are uncorrelated can be changed one by one (Olah et al. 2017, "Feature
visualization").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.synthesis.natural import Natural, frequencies, natural

_EDGE = 1e-3  # how near to black and white the start of a squashed image may come


@dataclass
class Variables:
    """tensors: leaves, one row per image. images: what they stand for, (N, C, H, W). settle: called after each step.

    pixels: the tensor that is the image itself, if one is.
    """

    tensors: tuple[Tensor, ...]
    images: Callable[[], Tensor]
    settle: Callable[[], None] = field(default=lambda: None)
    pixels: Tensor | None = None


class Parameterization(Protocol):
    """From start images (N, C, H, W) in [0, 1] to what is climbed."""

    def __call__(self, start: Tensor) -> Variables: ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves.

    limit: "clip" puts them back into [0, 1] after each step, "squash" passes unbounded numbers through a sigmoid,
    "free" lets them go where they will.
    """

    limit: Literal["clip", "squash", "free"] = "clip"

    def __post_init__(self) -> None:
        if self.limit not in ("clip", "squash", "free"):
            raise InputError(f"limit {self.limit!r} (accepted: clip, squash, free)")

    def __call__(self, start: Tensor) -> Variables:
        if self.limit == "squash":
            values = _leaf(start.clamp(_EDGE, 1 - _EDGE).logit())
            return Variables((values,), values.sigmoid)
        pixels = _leaf(start)

        def clip() -> None:
            pixels.clamp_(0, 1)

        settle = clip if self.limit == "clip" else _nothing
        return Variables((pixels,), lambda: pixels, settle, pixels)


@dataclass(frozen=True)
class Fourier:
    """Amplitudes of frequencies, of colors that are uncorrelated in photographs, through a sigmoid.

    Frequency f, in cycles per px, is scaled by f^-decay / 4, so that with decay 1 equal steps make an image in which
    frequencies are as strong as in nature.
    """

    decay: float = 1.0

    def __call__(self, start: Tensor) -> Variables:
        colors, (height, width) = _balanced(start), start.shape[2:]
        scale = frequencies(height, width).to(start) ** -self.decay / 4
        values = start.clamp(_EDGE, 1 - _EDGE).logit()
        spectrum = _leaf(torch.view_as_real(torch.fft.rfft2(colors.decorrelated(values), norm="ortho") / scale))

        def images() -> Tensor:
            waves = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(height, width), norm="ortho")
            return colors.colored(waves).sigmoid()

        return Variables((spectrum,), images)


@dataclass(frozen=True)
class Phases:
    """Only the phases of frequencies; their amplitudes are those of photographs (MACO, Fel et al. 2023).

    So no frequency can be exaggerated. Colors are those of photographs too, through a sigmoid with slope 1 at the mean.
    """

    def __call__(self, start: Tensor) -> Variables:
        stats, (height, width) = _natural(start), start.shape[2:]
        amplitudes = stats.amplitudes(height, width).to(start)
        phases = _leaf(torch.fft.rfft2(stats.decorrelated(start)).angle())
        center = stats.mean.to(start).view(1, -1, 1, 1)

        def images() -> Tensor:
            waves = torch.fft.irfft2(torch.polar(amplitudes.expand_as(phases), phases), s=(height, width), norm="ortho")
            away = stats.colored(waves) - center
            return (center.logit() + away / (center * (1 - center))).sigmoid()

        return Variables((phases,), images)


@dataclass(frozen=True)
class Pyramid:
    """A Laplacian pyramid (Burt & Adelson 1983): one picture per octave, added up, through a sigmoid."""

    levels: int = 4

    def __call__(self, start: Tensor) -> Variables:
        sizes = [tuple(-(-side // 2**i) for side in start.shape[2:]) for i in range(self.levels)]
        if self.levels < 1 or min(sizes[-1]) < 2 <= self.levels:
            most = max(1, int(min(start.shape[2:])).bit_length() - 1)
            raise InputError(f"{self.levels} levels of images of {tuple(start.shape[2:])} px (accepted: 1 to {most})")
        rest, parts = start.clamp(_EDGE, 1 - _EDGE).logit(), []
        for i, size in enumerate(sizes[:-1]):
            coarse = _resized(rest, sizes[i + 1])
            parts.append(_leaf(rest - _resized(coarse, size)))
            rest = coarse
        parts.append(_leaf(rest))

        def images() -> Tensor:
            total = parts[-1]
            for part in parts[-2::-1]:
                total = part + _resized(total, part.shape[2:])
            return total.sigmoid()

        return Variables(tuple(parts), images)


@dataclass(frozen=True, eq=False)
class Codes:
    """A prior by a generator: what is climbed are codes, and `decoder` makes images (N, C, H, W) in [0, 1] of them.

    Nguyen et al. (2016), "Synthesizing the preferred inputs for neurons in neural networks via deep generator
    networks".
    Every image starts from `code`, (1, ...); of the start images only the number counts. The decoder is run in the mode
    that it is in.
    """

    decoder: nn.Module = field(repr=False)
    code: Tensor = field(repr=False)

    def __call__(self, start: Tensor) -> Variables:
        codes = _leaf(self.code.to(start.device).expand(len(start), *self.code.shape[1:]))
        return Variables((codes,), lambda: self.decoder(codes).clamp(0, 1))


NAMED = {"pixels": Pixels, "fourier": Fourier, "phases": Phases, "pyramid": Pyramid}


def parameterization_of(given: str | Parameterization) -> Parameterization:
    """The parameterization of that name, or the given one. Raises InputError for what is none."""
    if not (callable(given) or (isinstance(given, str) and given in NAMED)):
        raise InputError(f"parameterization {given!r} (accepted: {', '.join(NAMED)}, a Parameterization)")
    return NAMED[given]() if isinstance(given, str) else given


def rounded(images: Tensor, levels: int = 255) -> Tensor:
    """Multiples of 1 / levels, as a file stores them; the gradient passes unrounded."""
    nearest: Tensor = (images.detach() * levels).round() / levels
    return nearest + (images - images.detach())


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_()


def _nothing() -> None:
    return None


def _natural(images: Tensor) -> Natural:
    """The statistics of photographs, for images of three colors or of one."""
    stats = natural()
    if images.shape[1] == len(stats.mean):
        return stats
    strongest = stats.colors.norm(dim=0).argmax()
    brightness = stats.colors[:, strongest].mean().view(1, 1)
    one = Natural(stats.mean.mean(0, keepdim=True), brightness, stats.spectrum[strongest][None])
    return one if images.shape[1] == 1 else _stacked(one, images.shape[1])


def _stacked(one: Natural, channels: int) -> Natural:
    """Channels that vary alike and apart from each other."""
    colors = torch.eye(channels) * one.colors[0, 0]
    return Natural(one.mean.expand(channels), colors, one.spectrum.expand(channels, -1, -1))


def _balanced(images: Tensor) -> Natural:
    """The statistics around 0, with colors scaled so that their longest row is 1."""
    stats = _natural(images)
    longest = float(stats.colors.norm(dim=1).max())
    return replace(stats, mean=torch.zeros_like(stats.mean), colors=stats.colors / longest)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
