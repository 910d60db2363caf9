"""A map of many images as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import first_images, one_layer, random_seed, setting
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task

METHODS = ("tsne", "pca", "umap")

_PLACE = Input(
    "place", "images", "A new image to place on the map; may be given several times.", ("--place",), "IMAGE", many=True
)


@dataclass(frozen=True, kw_only=True)
class Layout(Task):
    """Lay out images so that those that are alike lie together.

    Alike to a layer, by default the last before the logits, or in their pixels. Draws each image at its place, all on
    a grid without overlaps, and dots by class where there are labels.
    """

    verb: ClassVar = "map"
    spreads: ClassVar = True
    runs: ClassVar = "analysis.layout.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"), _PLACE)

    layer: str | None = one_layer()
    pixels: bool = setting(False, "Lay out the pixels at 32x32 instead of a layer's features.")
    method: str = setting("tsne", "By which method.", choices=METHODS)
    perplexity: float | None = setting(
        None, "Neighbors that count in t-SNE; by default 30, or what fits.", low=1, metavar="N"
    )
    first: int | None = first_images()
    thumbnail: int | None = setting(
        None,
        "Longer side of an image in the pictures, by default what makes a picture of about 4,000 px, up to 96.",
        low=4,
        high=256,
        metavar="PX",
    )
    seed: int = random_seed()

    def check(self) -> None:
        if self.pixels and self.layer is not None:
            raise InputError(f"layer {self.layer!r} and pixels both (accepted: one of them)")

    def words(self, found: Mapping[str, Any]) -> str:
        rows: list[tuple[str, object]] = [
            ("map of", "pixels" if found["layer"] is None else f"features of layer {found['layer']}"),
            ("images", found["images"]),
            ("method", found["method"]),
        ]
        rows += [(name, found[name]) for name in ("perplexity", "kl_divergence") if name in found]
        variance = found.get("explained_variance")
        if isinstance(variance, list):
            rows += [(f"variance along axis {i}", share) for i, share in enumerate(variance, 1)]
        else:
            rows += [("components before", found["components"]), ("their share of the variance", variance)]
        grid = found["grid"]
        rows += [
            ("grid", f"{grid['rows']} x {grid['columns']}, {grid['assignment']}"),
            ("mean squared move, in cells", grid["mean_squared_distance"]),
        ]
        quality = found["quality"]
        if quality is not None:
            rows += [
                (f"trustworthiness, {quality['k']} neighbors", quality["trustworthiness"]),
                ("share of neighbors kept", quality["neighbors_kept"]),
                ("by chance", quality["neighbors_kept_by_chance"]),
            ]
        for name, votes in found["accuracy"].items():
            if votes is not None:
                rows.append((f"accuracy of {votes['k']} neighbors in the {name}", votes["accuracy"]))
        placed = zip(found["placed_names"], found["placed"], strict=True)
        rows += [(f"{name} lies at", f"{x:.4g}, {y:.4g}") for name, (x, y) in placed]
        return table(("", ""), [(name, _shown(value)) for name, value in rows]).strip("\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
