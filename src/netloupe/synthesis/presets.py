"""Ways of keeping a climb natural, named for their sources."""

from __future__ import annotations

from collections.abc import Callable

from netloupe.core.errors import unknown
from netloupe.core.network import Network
from netloupe.core.objectives import norm
from netloupe.synthesis.constraints import Blur, ClipContribution, ClipNorm, Constraint, Decay
from netloupe.synthesis.optimizers import Adam, Normalized
from netloupe.synthesis.parameterizations import Fourier, Phases, Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.transforms import Crop, Jitter, Noise, Pad, Rotate, Scale, Transform, Zoom


def _lucid(net: Network, size: tuple[int, int]) -> Recipe:
    return Recipe(Fourier(), Adam(0.05), 256, transforms=robust(size))


def _maco(net: Network, size: tuple[int, int]) -> Recipe:
    transforms = (Zoom(0.5, 0.95), Noise(0.08))
    return Recipe(Phases(), Adam(0.5, betas=(0.9, 0.99)), 256, "uniform", transforms=transforms)


def _simonyan(net: Network, size: tuple[int, int]) -> Recipe:
    color = [float(value) for value in net.inputs.mean_color()]
    per_pixel = 300.0 / (size[0] * size[1])
    return Recipe(Pixels("free"), Normalized(0.005), 300, "mean", penalty=per_pixel * norm(2, color))


def _yosinski(lr: float, *constraints: Constraint) -> Callable[[Network, tuple[int, int]], Recipe]:
    def make(net: Network, size: tuple[int, int]) -> Recipe:
        return Recipe(Pixels("free"), Normalized(lr), 400, "mean", constraints=constraints)

    return make


def _none(net: Network, size: tuple[int, int]) -> Recipe:
    return Recipe(Pixels(), Normalized(0.005), 100)


def robust(size: tuple[int, int]) -> tuple[Transform, ...]:
    """Padding, jitter, scales, turns and jitter again as in lucid, in proportion to the size, cut back to it."""
    unit = max(1, round(min(size) / 20))
    scales = tuple(round(0.9 + 0.02 * i, 2) for i in range(11))
    turns = tuple(range(-10, 11, 2))
    return Pad(2 * unit), Jitter(unit), Scale(scales), Rotate(turns), Jitter(max(1, unit // 2)), Crop(size)


PRESETS: dict[str, Callable[[Network, tuple[int, int]], Recipe]] = {
    "lucid": _lucid,
    "maco": _maco,
    "simonyan": _simonyan,
    "yosinski": _yosinski(0.02, Blur(0.5, 4), ClipNorm(0.5)),
    "yosinski-2": _yosinski(0.05, Decay(0.3), ClipNorm(0.2)),
    "yosinski-3": _yosinski(0.05, Decay(0.0001), Blur(1.0, 4)),
    "yosinski-4": _yosinski(0.02, Blur(0.5, 4), ClipContribution(0.9)),
    "none": _none,
}
"""lucid: frequencies of uncorrelated colors under random transforms (Olah et al. 2017). maco: phases only, amplitudes
of photographs (Fel et al. 2023). simonyan: minus an L2 penalty (Simonyan et al. 2013). yosinski to yosinski-4: the four
rows of table 1 of Yosinski et al. (2015), whose learning rates are not given. none: pixels without regularization."""


def recipe(net: Network, preset: str, size: tuple[int, int]) -> Recipe:
    """The recipe of that name for images of (height, width). Raises UnknownName."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    return PRESETS[preset](net, size)
