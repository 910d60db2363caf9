"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from netloupe.core.errors import InputError
from netloupe.core.settings import OBJECTIVE, SIDES, Kind, one_layer, setting, some_layers
from netloupe.core.table import by, table
from netloupe.core.task import IMAGE, IMAGES, PHOTOS, Input, Task

METHODS = (
    "gradient",
    "smooth_grad",
    "integrated_gradients",
    "guided_backprop",
    "deconvnet",
    "grad_cam",
    "guided_grad_cam",
    "occlusion",
    "last_attention",
    "rollout",
    "relevance",
    "legrad",
)
"""The names of the attribution methods; `analysis.methods` has what they do."""


def left_out(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """(names, reason) of methods that can't explain a network, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(name)
    return [(", ".join(names), reason) for reason, names in by_reason.items()]


RULES: tuple[Literal["deconvnet"], Literal["guided"]] = ("deconvnet", "guided")
"""By which patches are projected, see `analysis.unproject`."""


def _fill(value: Any) -> Any:
    if not isinstance(value, str):
        if value is None or isinstance(value, bool):
            raise ValueError
        return value
    if value in ("mean", "blur", "drop"):
        return value
    digits = value.removeprefix("#")
    if value.startswith("#") and len(digits) == 6:
        return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return float(value)


FILL = Kind(
    "mean, blur, drop, a gray value from 0 to 1, or #rrggbb", "FILL", _fill, {"type": ["string", "number", "array"]}
)
"""What hides pixels; in Python also a color or an image, see `baselines.Baseline`."""


@dataclass(frozen=True, kw_only=True)
class FiltersTask(Task):
    """Show the filters of a convolution, by default the first."""

    verb: ClassVar = "filters"
    runs: ClassVar = "analysis.filters:run"

    layer: str | None = one_layer()
    scale: str = setting(
        "filter", "Map weights to gray values over each filter, or over the layer.", choices=("filter", "layer")
    )

    def words(self, found: Mapping[str, Any]) -> str:
        counts = f"{found['filters']} filters of {found['channels']} channels"
        height, width = found["size"]
        return f"{found['layer']}: {counts}, {height}x{width}, weights {found['low']:.3g} to {found['high']:.3g}"


@dataclass(frozen=True, kw_only=True)
class Activations(Task):
    """Show what each channel answers to images.

    By default the channels of every convolution.
    """

    verb: ClassVar = "activations"
    runs: ClassVar = "analysis.activations:run"
    inputs: ClassVar = (IMAGES,)
    head: ClassVar = ("image", "layer", "strongest channels (peak)")

    layers: tuple[str, ...] | None = some_layers("every convolution")
    top: int = setting(16, "Strongest channels shown of each layer.", low=1)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (name, layer, "  ".join(f"{best['channel']} ({best['peak']:.3g})" for best in strongest[:5]))
            for name, layers in zip(found["names"], found["images"], strict=True)
            for layer, strongest in layers.items()
        ]


def _place(value: Any) -> tuple[int, int]:
    y, x = value.split(",") if isinstance(value, str) else value
    if int(y) < 0 or int(x) < 0:
        raise ValueError
    return int(y), int(x)


PLACE = Kind(
    "Y,X: row and column of a position, from 0", "Y,X", _place, {"type": "array", "items": {"type": "integer"}}
)


@dataclass(frozen=True, kw_only=True)
class TokensTask(Task):
    """Color the positions of a layer by what they tell apart.

    The first three principal components over the positions of all images, tokens or those of a map, as red, green and
    blue; the norm of each; with --at the likeness of all to one.
    """

    verb: ClassVar = "tokens"
    runs: ClassVar = "analysis.tokens:run"
    inputs: ClassVar = (IMAGES,)
    head: ClassVar = ("image", "foreground", "highest norm", "outliers")

    layer: str | None = one_layer("A layer with positions; else the last map before the features.")
    foreground: str = setting(
        "all", "Color only positions on one side of the mean of the first component.", choices=("all", "above", "below")
    )
    at: tuple[int, int] | None = setting(None, "Show the likeness to this position of the first image.", kind=PLACE)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (one["name"], f"{one['foreground']:.0%}", f"{one['highest_norm']:.3g}", one["outliers"])
            for one in found["images"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        height, width = found["positions"]
        shares = ", ".join(f"{share:.0%}" for share in found["explained"])
        return [
            f"{found['layer']}, {height}x{width} positions: the components hold {shares} of the variance; outliers are "
            f"norms over three times the median, {found['median_norm']:.3g}"
        ]


@dataclass(frozen=True, kw_only=True)
class Patches(Task):
    """Find the patches that excite each channel most.

    By default the channels of every layer. With --project each channel's patches stand beside their projections.
    Of images that are pieces of one photograph, as the embedded ones are, the pictures show the two best. The arrays
    hold the strictly best too.
    """

    verb: ClassVar = "patches"
    spreads: ClassVar = True
    runs: ClassVar = "analysis.patches:run"
    inputs: ClassVar = (PHOTOS,)
    head: ClassVar = ("layer", "channels", "patches", "highest", "dead")

    layers: tuple[str, ...] | None = some_layers("every layer")
    unit: str | None = setting(None, "One channel alone.", flags=("--unit", "-u"), metavar="LAYER:CHANNEL")
    k: int = setting(9, "Patches of each channel.", low=1, flags=("-k", "--top"))
    per_photo: int = setting(2, "In pictures at most so many of a channel from one photograph; 0 for any.", low=0)
    project: str | None = setting(
        None,
        "Lay the projection of each patch's neuron beside it; with --unit also as an array.",
        choices=RULES,
    )
    batch_size: int = setting(32, "Images run at once.", low=1)

    def check(self) -> None:
        if self.unit is not None and self.layers is not None:
            raise InputError("a layer and a unit were given (accepted: one of them)")

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(name, one["channels"], one["k"], one["highest"], one["dead"]) for name, one in found["layers"].items()]


@dataclass(frozen=True, kw_only=True)
class NeighborsTask(Task):
    """Find the images nearest to an image.

    In feature space, by default of the last layer before the logits, and in pixel space. Where the data have labels,
    also how often the nearest neighbors of an image are of its class.
    """

    verb: ClassVar = "neighbors"
    spreads: ClassVar = True
    runs: ClassVar = "analysis.neighbors:run"
    inputs: ClassVar = (IMAGES, PHOTOS)

    layer: str | None = one_layer()
    k: int = setting(8, "Neighbors of each image.", low=1, flags=("-k", "--top"))
    metric: str = setting("l2", "By which distance.", choices=("l2", "cosine"))

    def words(self, found: Mapping[str, Any]) -> str:
        rows = [
            (query["name"], space, rank, str(near["id"]), near["name"], near["distance"])
            for query in found["queries"]
            for space in ("features", "pixels")
            for rank, near in enumerate(query[space], 1)
        ]
        parts = [table(("image", "nearest in", "rank", "id", "name", "distance"), rows)]
        voted = [(space, votes) for space, votes in found["accuracy"].items() if votes is not None]
        if voted:
            lines = [(space, votes["k"], votes["images"], votes["accuracy"]) for space, votes in voted]
            parts.append(table(("accuracy of nearest neighbors in", "k", "images", "accuracy"), lines))
        indexed = [(space, how["recall"]) for space, how in found["found"].items() if how["search"] == "index"]
        if indexed:
            parts.append(table(("found by an index in", "recall"), indexed))
        return "\n\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class Occlude(Task):
    """Hide each part of an image in turn.

    Shows what becomes of the strongest feature map of a layer (by default the last convolution) and of the prediction,
    as Zeiler and Fergus did, or with --unit or --objective only of that score.
    """

    verb: ClassVar = "occlude"
    runs: ClassVar = "analysis.occlude:run"
    inputs: ClassVar = (IMAGE, replace(PHOTOS, first="first"))

    objective: str | None = setting(
        None, "What is read, by default the class predicted, or what else the network answers.", kind=OBJECTIVE
    )
    layer: str | None = one_layer()
    windows: tuple[tuple[int, int], ...] | None = setting(
        None,
        "Side of the window, by default a seventh of the image's; may be given several times.",
        kind=SIDES,
        flags=("--window", "-w"),
        metavar="PX",
    )
    stride: tuple[int, int] | None = setting(
        None, "Step of the window, by default half its side.", kind=SIDES, flags=("--stride", "-s"), metavar="PX"
    )
    baseline: str = setting(
        "mean", "What hides: mean, blur, a gray value from 0 to 1, or #rrggbb; drop leaves tokens out.", kind=FILL
    )
    growth: float = setting(
        1.0,
        "Below 1, faster and not exact: how far windows grow inside the network.",
        above=0,
        high=1,
        metavar="SHARE",
    )
    bfloat16: bool = setting(False, "Compute in bfloat16: not exact, faster where processors have it.")
    full_passes: bool = setting(False, "Compute whole passes, not only what a window changes.")
    batch_size: int = setting(32, "Images of a whole pass.", low=1)
    first: int = setting(256, "Other images searched for the map's best patches; 0 for none.", low=0)

    @property
    def of_class(self) -> bool:
        """Whether a class is shown, in the panels of Zeiler and Fergus, or only a score."""
        return self.objective is None or str(self.objective).startswith("class:")

    def check(self) -> None:
        if not self.of_class and self.layer is not None:
            raise InputError(f"a layer was given with {self.objective} (accepted: one of them)")

    def usual(self, one: Input, given: Collection[str]) -> str | None:
        return one.default if self.of_class else None

    def words(self, found: Mapping[str, Any]) -> str:
        return _panels_in_words(found) if "class" in found else _scores_in_words(found)


def _panels_in_words(found: Mapping[str, Any]) -> str:
    rows = [
        (
            by(one["window"]),
            by(one["grid"]),
            one["lowest_probability"]["value"],
            _box(one["lowest_probability"]["box"]),
            one["lowest_activation"]["value"],
            _box(one["lowest_activation"]["box"]),
        )
        for one in found["windows"]
    ]
    head = f"{found['class']}, probability {found['probability']:.3g}; {found['unit']}, total {found['activation']:.3g}"
    shown = table(("window", "positions", "lowest probability", "where", "lowest total", "where"), rows)
    return f"{head}\n{shown}\n{_how(found)}"


def _scores_in_words(found: Mapping[str, Any]) -> str:
    rows = [
        (by(w["window"]), by(w["grid"]), one["clean"], one["lowest"], _box(one["lowest_box"]), one["highest"])
        for w in found["windows"]
        for one in w["images"]
    ]
    shown = table(("window", "positions", "score", "lowest", "where", "highest"), rows)
    return f"{found['unit']}\n{shown}\n{_how(found['windows'][0])}"


def _how(found: Mapping[str, Any]) -> str:
    error = "" if found["error"] is None else f", approximate: off by up to {found['error']:.1%} of the range"
    return f"computed by {found['method']}{error}" if found["method"] != "incremental" else f"incremental{error}"


def _box(values: list[int]) -> str:
    top, left, bottom, right = values
    return f"({top}, {left}) to ({bottom}, {right})"
