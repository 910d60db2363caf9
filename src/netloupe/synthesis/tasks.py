"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import CLASS, NAMED, OBJECTIVE, SIDES, TRUTH, setting
from netloupe.core.task import IMAGE, IMAGES, Input, Task

STARTS = ("zeros", "gray", "mean", "uniform", "noise")
"""What a climb can begin with, see `starts.start_images`."""

STATISTICS = ("gram", "covariance")
LAYERS = ("sharp", "gatys", "johnson")
"""Choices of layers, see `statistics.preset_layers`."""

COLORS = ("style", "luminance", "match")
"""style: as the style has them. luminance: only light and dark are styled, the colors are the content's. match: the
style's colors are brought to the content's mean and covariance before."""

SAMPLED: Mapping[str, tuple[str, ...]] = {
    "efros-leung": ("window", "tolerance"), "wei-levoy": ("window",), "quilting": ("block", "tolerance"),
}  # fmt: skip
"""Methods that put together a sample's own pixels, see `sampling`, with the settings of each."""

_TILEABLE = (*STATISTICS, "wei-levoy", "quilting")


@dataclass(frozen=True, kw_only=True)
class Fool(Task):
    """Change images until the network takes them for another class.

    Shows each image before and after, and the change. The files saved with --out fool the network as well.
    """

    verb: ClassVar = "fool"
    runs: ClassVar = "synthesis.fool:run"
    inputs: ClassVar = (IMAGES,)
    sweeps: ClassVar = True
    head: ClassVar = ("before", "after", "target", "its probability", "largest change", "PSNR", "steps")

    target: tuple[str | int, ...] = setting(
        help="What they shall be taken for; one class, or one for each image.", kind=CLASS, flags=("--target", "-t")
    )
    method: str = setting("ascent", "How.", choices=("ascent", "fgsm", "iterated", "pgd"))
    norm: str = setting("linf", "Of the change.", choices=("linf", "l2"))
    epsilon: float | None = setting(
        None, "How large the change may be, pixels in [0, 1]; also as 8/255.", above=0, metavar="SIZE"
    )
    sure: float = setting(0.9, "Stop at this probability.", above=0, below=1, metavar="P")
    steps: int | None = setting(None, "Steps at most.", low=0)
    lr: float | None = setting(None, "How far a number goes in a step.", metavar="SIZE")
    seed: int = setting(0, "Seed of all that is drawn at random.", low=0)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (
                one["before"],
                one["predicted"],
                one["target"],
                one["probability"],
                f"{one['largest_change']:.0f}/255",
                "none" if one["psnr"] is None else f"{one['psnr']:.1f} dB",
                one["steps"],
            )
            for one in found["images"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        return [f"{found['fooled']} of {found['of']} fooled"]


@dataclass(frozen=True, kw_only=True)
class _Climbed(Task):
    """What texture and style have in common: statistics at some layers, reached by a climb through several sizes."""

    sweeps: ClassVar = True

    preset: str = setting("sharp", "Which layers, where --layer gives none.", choices=LAYERS)
    layers: dict[str, float] | None = setting(
        None, "A layer, or pixels, whose statistics count; several times.", flags=("--layer", "-l"), metavar="NAME[=W]"
    )
    sizes: int | None = setting(None, "Go through N sizes, each twice the last; else from about 128 px on.", low=1)
    steps: int = setting(150, "Steps at each size.", low=0)
    optimizer: Any = setting("adam", "How a step is made.", kind=NAMED, choices=("adam", "lbfgs"))
    tile: int | None = setting(1536, "Larger pictures are seen in tiles.", low=1, metavar="PX")
    seed: int = setting(0, "Seed of all that is drawn at random.", low=0)


@dataclass(frozen=True, kw_only=True)
class TextureTask(_Climbed):
    """Make more of what a sample of a texture shows.

    By the statistics of a network's features, or by putting the sample's own pixels together. Prints how far the
    texture's statistics are from the sample's, and for climbed ones how far the start was.
    """

    verb: ClassVar = "texture"
    runs: ClassVar = "synthesis.texture:run"
    inputs: ClassVar = (
        replace(IMAGE, help="The sample, an image file."),
        Input("start", "images", f"What to begin with: {', '.join(STARTS)}, or an image.", ("--start",), "NAME",
              default="noise", names=STARTS),
    )  # fmt: skip
    head: ClassVar = ("layers", "distance", "at the start")

    method: str = setting("gram", "How.", choices=(*STATISTICS, *SAMPLED))
    side: int = setting(128, "The sample's shorter side; larger images are reduced.", low=8, metavar="PX")
    size: tuple[int, int] | None = setting(
        None, "Size of the texture; by default that of the sample.", kind=SIDES, low=1, flags=("--to",)
    )
    by_layer: bool = setting(False, "An image for each layer and those before it.", kind=TRUTH)
    tileable: bool = setting(False, "Opposite sides fit each other.", kind=TRUTH)
    lr: float | None = setting(None, "Size of a step; by default 0.06 of adam, 1 of lbfgs.", above=0, metavar="SIZE")
    window: int | None = setting(None, "Of efros-leung and wei-levoy, odd.", metavar="PX")
    block: int | None = setting(None, "Of quilting.", metavar="PX")
    tolerance: float | None = setting(None, "Of efros-leung and quilting.", metavar="SHARE")

    @property
    def own(self) -> dict[str, float]:
        """The settings of a sampling method that are given."""
        found = {"window": self.window, "block": self.block, "tolerance": self.tolerance}
        return {name: value for name, value in found.items() if value is not None}

    def check(self) -> None:
        if self.tileable and self.method not in _TILEABLE:
            raise InputError(f"a tileable texture by {self.method} (accepted: {', '.join(_TILEABLE)})")
        if self.by_layer and self.method in SAMPLED:
            raise InputError(f"{self.method} layer by layer (accepted: {' or '.join(STATISTICS)})")
        accepted = SAMPLED.get(self.method, ())
        for name in self.own:
            if name not in accepted:
                raise InputError(
                    f"{name} for {self.method} (accepted: {', '.join(accepted) or 'none of window, block, tolerance'})"
                )

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (f"to {one['to']}" if one["to"] else found["method"], one["distance"], one["before"])
            for one in found["images"]
        ]


@dataclass(frozen=True, kw_only=True)
class Style(_Climbed):
    """Paint a photo as another picture is painted.

    Prints how far the features are from the photo's, and the statistics from the style's.
    """

    verb: ClassVar = "style"
    runs: ClassVar = "synthesis.style:run"
    inputs: ClassVar = (
        Input("contents", "images", "The photo to be painted.", metavar="IMAGE", required=True),
        Input("styles", "images", "What to paint it like; several are mixed.", ("--style", "-s"), "IMAGE[=SHARE]",
              many=True, required=True, shares="shares"),
        Input("masks", "images", "White where a style applies, one for each; then they are not mixed.", ("--mask",),
              many=True),
        Input("start", "images", f"What to begin with: content, style, {', '.join(STARTS)}, or an image.", ("--start",),
              "NAME", default="content", names=("content", "style", *STARTS)),
    )  # fmt: skip
    head: ClassVar = ("content", "style", "style at the start")

    side: int = setting(256, "The shorter side of the picture; larger photos are reduced.", low=16, metavar="PX")
    shares: tuple[float, ...] | None = setting(None, "How much each style counts; by default all alike.")
    content_weight: float = setting(0.05, "How much the photo counts.", low=0, below=math.inf, metavar="W")
    style_weight: float = setting(1.0, "How much the style counts.", low=0, below=math.inf, metavar="W")
    style_scale: float = setting(
        1.0, "The style's shorter side in terms of the photo's.", above=0, high=16, metavar="FACTOR"
    )
    content_layers: dict[str, float] | None = setting(
        None, "Where content is read; several times.", flags=("--content-layer",), metavar="NAME[=W]"
    )
    statistic: str = setting("gram", "Which statistics.", choices=STATISTICS)
    colors: str = setting("style", "Whose colors; the last two keep the photo's own.", choices=COLORS)
    smoothness: float = setting(0.0, "Weight of the total variation.", low=0, below=math.inf, metavar="W")
    dream: Any | None = setting(
        None, "Raise a layer or unit as well, as netloupe dream does.", kind=OBJECTIVE, metavar="ADDRESS"
    )
    dream_weight: float = setting(0.05, "How much the dream counts.", low=0, below=math.inf, metavar="W")
    lr: float | None = setting(None, "Size of a step; by default 0.05 of adam, 1 of lbfgs.", above=0, metavar="SIZE")
    every: int = setting(0, "Keep a frame each N steps: a GIF of the picture as it forms.", low=0)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(one["content"], one["style"], one["before"]) for one in found["images"]]
