"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import (
    CLASS,
    NAMED,
    OBJECTIVE,
    SIDES,
    TRUTH,
    Kind,
    one_layer,
    random_seed,
    setting,
    some_layers,
)
from netloupe.core.task import IMAGE, IMAGES, PHOTOS, Input, Task

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

PRESETS = ("lucid", "maco", "simonyan", "yosinski", "yosinski-2", "yosinski-3", "yosinski-4", "none")
"""Of `synthesis.presets`, where they are told."""

PARAMETERIZATIONS = ("pixels", "fourier", "phases", "pyramid")
OPTIMIZERS = ("adam", "normalized", "lbfgs")

BATCH = 16  # images at once

START = Input(
    "start", "images", f"What it begins with: {', '.join(STARTS)}, or an image file.", ("--start",), "START",
    names=STARTS,
)  # fmt: skip

DTYPE = Kind("a type of numbers", "NAME", lambda given: str(given).removeprefix("torch."), {"type": "string"})


def _batch_size() -> Any:
    return setting(BATCH, "Images that are climbed at once.", low=1)


def _quick() -> Any:
    help = "On CPUs a single image in less time; last bits then depend on how many are made at once."
    return setting(False, help, kind=TRUTH)


def _side() -> Any:
    return setting(256, "The shorter side of the picture; larger image files are reduced.", low=8, metavar="PX")


@dataclass(frozen=True, kw_only=True)
class Ascent(Task):
    """Images of units, climbed by a preset."""

    layer: str | None = one_layer("Also channels of this layer.")
    first: int = setting(16, "With --layer: so many of its channels.", low=1)
    preset: str = setting("lucid", "What keeps the images natural.", choices=PRESETS)
    size: tuple[int, int] | None = setting(
        None, "Size of the images, by default as the network takes them.", kind=SIDES, low=1
    )
    steps: int | None = setting(None, "Steps of ascent, by default the preset's.", low=0)
    lr: float | None = setting(None, "Size of a step, by default the preset's.", above=0, metavar="SIZE")
    dtype: str | None = setting(
        None,
        "Type in which the network multiplies while climbing, by default bfloat16 where the hardware does.",
        kind=DTYPE,
        choices=("float32", "bfloat16", "float16"),
    )
    seed: int = random_seed()


@dataclass(frozen=True, kw_only=True)
class Visualize(Ascent):
    """Make images that classes, channels or neurons respond to.

    With --out writes one picture of all, and each by itself. --size is the size of the images, --network-size that of
    the network's input.
    """

    verb: ClassVar = "visualize"
    runs: ClassVar = "synthesis.visualize:run"
    inputs: ClassVar = (START,)
    sweeps: ClassVar = True
    head: ClassVar = ("objective", "before", "score", "")
    moved: ClassVar = {
        "--facets": "netloupe facets UNIT --count N",
        "--pull": "netloupe facets UNIT --pull WEIGHT",
        "--data": "netloupe facets UNIT --data SOURCE",
    }

    objective: tuple[Any, ...] = setting(
        (),
        "Units as class:koala, conv5:17 or conv5:17@4,5, or objectives as 'logit(koala) - logit(goldfish)'.",
        kind=OBJECTIVE,
        argument=True,
    )
    diverse: int = setting(1, "So many images of each, kept unlike each other.", low=1)
    apart: float | None = setting(
        None, "With --diverse: how much unlikeness counts, by default 0.5.", low=0, metavar="WEIGHT"
    )
    parameterization: Any | None = setting(
        None, "What is climbed, by default as the preset says.", kind=NAMED, choices=PARAMETERIZATIONS
    )
    optimizer: Any | None = setting(
        None, "How steps are made, by default as the preset says.", kind=NAMED, choices=OPTIMIZERS
    )
    every: int = setting(0, "Keep a frame each N steps.", low=0)
    batch_size: int = _batch_size()
    quick: bool = _quick()

    def check(self) -> None:
        if self.diverse == 1 and self.apart is not None:
            raise InputError("apart without diverse (accepted: with diverse of 2 or more)")

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (one["objective"], one["before"], one["score"], "dead" if one["dead"] else "") for one in found["images"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        cut = "colors are not bounded: where they leave [0, 1] pictures show them cut off"
        return [] if found["bounded"] else [cut]


@dataclass(frozen=True, kw_only=True)
class FacetsTask(Ascent):
    """Make an image for each kind of photo that excites a unit.

    The images of --data that excite a channel or a class most are grouped by what else the network sees in them, and
    from the mean of each group an image is climbed.
    """

    verb: ClassVar = "facets"
    spreads: ClassVar = True
    runs: ClassVar = "synthesis.facets:run"
    inputs: ClassVar = (PHOTOS,)
    head: ClassVar = ("unit", "response", "best photograph", "photographs", "")

    units: tuple[Any, ...] = setting(
        (), "Channels as conv5:17, or classes as class:koala.", kind=OBJECTIVE, argument=True, metavar="UNIT"
    )
    count: int = setting(4, "Groups of each unit, at most.", low=1)
    images: int = setting(100, "So many images that excite it most are grouped.", low=2)
    pull: float = setting(
        1.0, "How much counts what sets a group apart, against the unit itself.", low=0, metavar="WEIGHT"
    )

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (f["unit"], f["response"], f["best"], f["photographs"], "" if f["own"] else "went over to another facet")
            for f in found["facets"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        without = ", ".join(found["without"])
        return [f"without facets: {without} (fewer than 2 photographs)"] if without else []


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
    method: str = setting("ascent", "How the change is found.", choices=("ascent", "fgsm", "iterated", "pgd"))
    norm: str = setting("linf", "By which norm the change is measured.", choices=("linf", "l2"))
    epsilon: float | None = setting(
        None, "How large the change may be, pixels in [0, 1]; also as 8/255.", above=0, metavar="SIZE"
    )
    sure: float = setting(0.9, "Stop at this probability.", above=0, below=1, metavar="P")
    steps: int | None = setting(None, "Steps at most.", low=0)
    lr: float | None = setting(None, "How far a number goes in a step.", metavar="SIZE")
    seed: int = random_seed()

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
class Invert(Task):
    """Show what each layer keeps of an image.

    Finds images that a layer can't tell from the given ones.
    """

    verb: ClassVar = "invert"
    runs: ClassVar = "synthesis.invert:run"
    inputs: ClassVar = (IMAGES, START)
    sweeps: ClassVar = True
    head: ClassVar = ("layer", "image", "feature error", "PSNR")

    layer: tuple[str, ...] | None = some_layers("every convolution and linear layer")
    steps: int = setting(300, "Steps of descent.", low=0)
    lr: float | None = setting(
        None, "Size of a step, by default 0.02 of adam and the optimizer's own of others.", above=0, metavar="SIZE"
    )
    smoothness: float = setting(1.0, "Weight of the total variation.", low=0, metavar="WEIGHT")
    size_penalty: float = setting(
        1.0, "Weight of how far pixels lie from gray, to the power 6.", low=0, metavar="WEIGHT"
    )
    parameterization: Any = setting("pixels", "What is climbed.", kind=NAMED, choices=PARAMETERIZATIONS)
    optimizer: Any = setting("adam", "How steps are made.", kind=NAMED, choices=OPTIMIZERS)
    batch_size: int = _batch_size()
    quick: bool = _quick()
    seed: int = random_seed()

    def check(self) -> None:
        if self.layer == ():
            raise InputError("no layer (accepted: 1 or more)")

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (one["layer"], i, f"{error:.2%}", f"{psnr:.1f} dB")
            for one in found["layers"]
            for i, (error, psnr) in enumerate(zip(one["feature_error"], one["psnr"], strict=True))
        ]


@dataclass(frozen=True, kw_only=True)
class DreamTask(Task):
    """Amplify what a layer, a channel or a class sees in a photo."""

    verb: ClassVar = "dream"
    runs: ClassVar = "synthesis.dream:run"
    inputs: ClassVar = (
        IMAGE,
        Input("guide", "images", "Amplify what is like this image.", ("--guide",), "IMAGE"),
    )
    sweeps: ClassVar = True
    head: ClassVar = ("before", "score")
    moved: ClassVar = {"--accentuate": "netloupe accentuate IMAGE --unit UNIT --keep LAYER"}

    layer: Any = setting(
        help="A layer, a channel as conv5:17, class:NAME, or an objective.",
        kind=OBJECTIVE,
        flags=("--layer", "-l"),
        metavar="ADDRESS",
    )
    side: int = _side()
    octaves: int = setting(4, "Sizes that it goes through.", low=1)
    scale: float = setting(1.4, "Factor from one size to the next.", above=1, metavar="FACTOR")
    steps: int = setting(10, "Steps at each size.", low=1)
    lr: float = setting(0.006, "How far a number goes in a step, in the mean.", above=0, metavar="SIZE")
    jitter: int = setting(32, "The image is moved by up to so many pixels before a step.", low=0, metavar="PX")
    frames: int = setting(0, "So many frames of a zoom, as a GIF.", low=0)
    zoom: float = setting(1.05, "Factor from one frame to the next.", low=1, metavar="FACTOR")
    tile: int | None = setting(512, "Larger images are seen in tiles of about this size.", low=1, metavar="PX")
    batch_size: int = _batch_size()
    seed: int = random_seed()

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(one["before"], one["score"]) for one in found["images"]]


@dataclass(frozen=True, kw_only=True)
class Accentuate(Task):
    """Make a unit's reason to respond stand out in a photo.

    The features of a layer stay near those of the photo.
    """

    verb: ClassVar = "accentuate"
    runs: ClassVar = "synthesis.dream:run_accentuate"
    inputs: ClassVar = (IMAGE,)
    sweeps: ClassVar = True
    head: ClassVar = ("before", "score")

    unit: Any = setting(help="What stands out.", kind=OBJECTIVE)
    keep: str = setting(help="The layer whose features stay near those of the photo.", metavar="LAYER")
    strength: float = setting(1.0, "How much the unit counts against what is kept.", above=0, metavar="WEIGHT")
    side: int = _side()
    steps: int = setting(100, "Steps of ascent.", low=0)
    lr: float = setting(0.05, "Size of a step.", above=0, metavar="SIZE")
    batch_size: int = _batch_size()
    seed: int = random_seed()

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(one["before"], one["score"]) for one in found["images"]]


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
    seed: int = random_seed()


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

    method: str = setting(
        "gram", "By which statistics, or how the sample's pixels are put together.", choices=(*STATISTICS, *SAMPLED)
    )
    side: int = setting(128, "The sample's shorter side; larger images are reduced.", low=8, metavar="PX")
    size: tuple[int, int] | None = setting(
        None, "Size of the texture; by default that of the sample.", kind=SIDES, low=1, flags=("--to",)
    )
    by_layer: bool = setting(False, "An image for each layer and those before it.", kind=TRUTH)
    tileable: bool = setting(False, "Opposite sides fit each other.", kind=TRUTH)
    lr: float | None = setting(None, "Size of a step; by default 0.06 of adam, 1 of lbfgs.", above=0, metavar="SIZE")
    window: int | None = setting(None, "Side of the window of efros-leung and wei-levoy, odd.", metavar="PX")
    block: int | None = setting(None, "Side of the blocks of quilting.", metavar="PX")
    tolerance: float | None = setting(
        None, "How far from the best match a choice may be, of efros-leung and quilting.", metavar="SHARE"
    )

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
        for name in ("steps", "lr", "optimizer", "sizes") if self.method in SAMPLED else ():
            if getattr(self, name) != self.setting(name).default:
                raise InputError(f"{name} for {self.method} (accepted: with {' or '.join(STATISTICS)})")

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
