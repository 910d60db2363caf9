"""What the positions of a layer tell apart: their principal components in color, their norms, their likeness.

For a transformer positions are tokens of patches, for a convolutional network those of a map. The colors are the
figure of DINOv2 (Oquab et al. 2023, section 7.5), the norms that of Darcet et al. (2024, "Vision transformers need
registers", figure 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.tasks import TokensTask
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.render.colors import diverging, heat
from netloupe.render.pictures import Picture, captioned, fitted, from_pixels, grid, resized
from netloupe.render.result import Result
from netloupe.render.sheet import BAR, Sheet

FAR = 3.0  # times the median: a norm above it is an outlier
SIDE = 160  # px of a picture, its longer side
EDGES = (0.01, 0.99)  # quantiles that are black and full color


@dataclass(frozen=True)
class Tokens(Result):
    """Positions of one layer for N images, h x w each; all fits are over the positions of all images together.

    images: (N, channels, H, W) in [0, 1], with their names. components: (N, h, w, 3) the first three principal
    components, of the foreground alone where one was asked for (NaN elsewhere). explained: (3,) their shares of the
    variance. first: (N, h, w) the first component over all positions, foreground (N, h, w) bool what it parts.
    norms: (N, h, w) Euclidean. likeness: (N, h, w) cosines to the position `at` (y, x) of the first image, or None.
    """

    layer: str
    names: tuple[str, ...]
    images: np.ndarray
    components: np.ndarray
    explained: np.ndarray
    first: np.ndarray
    foreground: np.ndarray
    norms: np.ndarray
    likeness: np.ndarray | None = None
    at: tuple[int, int] | None = None

    @property
    def colors(self) -> np.ndarray:
        """(N, h, w, 3) in [0, 1]: each component from its 1 % to its 99 % quantile; black outside the foreground."""
        inside = self.components[self.foreground]
        low, high = np.quantile(inside, EDGES, axis=0)
        share = (self.components - low) / np.where(high > low, high - low, 1)
        return np.where(self.foreground[..., None], np.clip(share, 0, 1), 0.0)

    @property
    def outliers(self) -> np.ndarray:
        """(N, h, w) bool: norms of more than three times the median of all."""
        return self.norms > FAR * float(np.median(self.norms))

    def pictures(self) -> dict[str, Picture]:
        high = float(self.norms.max())
        parted = not self.foreground.all()
        sheet = Sheet(f"{self.layer}: {self.norms.shape[1]}x{self.norms.shape[2]} positions", self._width(parted))
        for i, name in enumerate(self.names):
            photo = resized(from_pixels(self.images[i]), self._size)
            tiles = [
                captioned(self._marked(photo) if i == 0 else photo, name[:24]),
                captioned(self._shown((self.colors[i] * 255).round().astype(np.uint8)), "components as color"),
            ]
            if parted:
                share = f"foreground {self.foreground[i].mean():.0%}"
                tiles.append(
                    captioned(self._shown(np.repeat(self.foreground[i, ..., None], 3, 2) * np.uint8(255)), share)
                )
            count = int(self.outliers[i].sum())
            tiles.append(
                captioned(self._shown(heat(self.norms[i], high)), f"norm, {count} outlier{'s' * (count != 1)}")
            )
            if self.likeness is not None and self.at is not None:
                place = f"{self.at[0]},{self.at[1]}" + ("" if i == 0 else " of the first")
                tiles.append(captioned(self._shown(diverging(self.likeness[i], 1.0)), f"likeness to {place}"))
            sheet.add(grid(tiles, len(tiles), gap=6))
        return {"tokens": sheet.notes(*self._notes(parted)).picture()}

    @property
    def _size(self) -> tuple[int, int]:
        """(height, width) of a picture on the sheet."""
        return fitted(self.images.shape[2:], SIDE)

    def _shown(self, picture: Picture) -> Picture:
        return resized(picture, self._size, smooth=False)

    def _marked(self, photo: Picture) -> Picture:
        """The first photo with a frame around the position that the others are compared with."""
        if self.at is None:
            return photo
        sides = zip(photo.shape, self.norms.shape[1:], strict=False)
        edges = [np.linspace(0, side, count + 1).round().astype(int) for side, count in sides]
        (top, bottom), (left, right) = (one[i : i + 2] for one, i in zip(edges, self.at, strict=True))
        framed = photo.copy()
        for y0, y1, x0, x1 in ((top, bottom, left, left + 2), (top, bottom, right - 2, right),
                               (top, top + 2, left, right), (bottom - 2, bottom, left, right)):  # fmt: skip
            framed[y0:y1, x0:x1] = BAR
        return framed

    def _width(self, parted: bool) -> int:
        return (self._size[1] + 6) * (3 + parted + (self.likeness is not None))

    def _notes(self, parted: bool) -> list[str]:
        shares = ", ".join(f"{share:.0%}" for share in self.explained)
        over = "the foreground of all images" if parted else "all positions of all images"
        notes = [
            f"Red, green and blue: the first three principal components over {over} shown here, {shares} of the "
            "variance. Like colors mean alike within this picture only; which color stands for what is arbitrary.",
            f"Norms on one scale, white is {self.norms.max():.3g}; an outlier is over {FAR:g} times the median, "
            f"{np.median(self.norms):.3g}.",
        ]
        if self.likeness is not None:
            notes.append("Likeness: cosine to the framed position; dark red is 1, white 0, dark blue -1.")
        return notes

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"components": self.components, "first": self.first, "norms": self.norms, "images": self.images}
        found["foreground"] = self.foreground
        return found if self.likeness is None else found | {"likeness": self.likeness}

    def summary(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "positions": list(self.norms.shape[1:]),
            "explained": [round(float(share), 6) for share in self.explained],
            "median_norm": float(np.median(self.norms)),
            "images": [
                {
                    "name": name,
                    "foreground": float(self.foreground[i].mean()),
                    "outliers": int(self.outliers[i].sum()),
                    "highest_norm": float(self.norms[i].max()),
                }
                for i, name in enumerate(self.names)
            ],
        }


@function_of(TokensTask)
def tokens(net: Network, images: Tensor, layer: str | None = None, *, watch: Watch = SILENT, **settings: Any) -> Tokens:
    """What the positions of a layer tell apart in images (N, C, H, W) in [0, 1], by default of the last map.

    Raises UnknownName for a layer that is not there, InputError for one without positions, or with fewer than three
    channels, for a place outside of it, and where nothing is left of the foreground.
    """
    found: Tokens = perform(TokensTask.of({"layer": layer, **settings}), net, {"images": images}, watch)
    return found


def run(task: TokensTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Tokens:
    layer = net.layers.last_map() if task.layer is None else net.layer(task.layer)
    if not layer.is_map or layer.channels < 3:
        raise InputError(f"layer {layer.name!r} has the shape {layer.shape} (accepted: maps of three channels or more)")
    images = inputs["images"].fitted(net)
    maps = net.activations(images, [layer.name])[layer.name].cpu().double()
    vectors = maps.permute(0, 2, 3, 1)
    shape = vectors.shape[:3]
    first = _components(vectors.reshape(-1, layer.channels), 1)[0].view(shape)
    foreground = _foreground(first, task.foreground)
    inside, explained = _components(vectors[foreground], 3)
    components = torch.full((*shape, 3), torch.nan, dtype=torch.float64)
    components[foreground] = inside
    likeness = None if task.at is None else _likeness(vectors, task.at)
    return Tokens(
        layer.name,
        inputs["images"].names,
        images.detach().cpu().numpy(),
        components.float().numpy(),
        explained.numpy(),
        first.float().numpy(),
        foreground.numpy(),
        vectors.norm(dim=-1).float().numpy(),
        likeness,
        task.at,
        provenance=decided(replace(task, layer=layer.name)),
    )


def _components(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(P, count) principal components of vectors (P, C) and their shares of the variance; signs by the largest weight.

    Of vectors that don't differ all is zero.
    """
    centered = vectors - vectors.mean(0)
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(vectors))
    axes, variances = axes.flip(1)[:, :count], variances.flip(0).clamp(min=0)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    shares = variances[:count] / variances.sum() if float(variances.sum()) > 0 else torch.zeros(count)
    return centered @ (axes * largest.sign()), shares


def _foreground(first: Tensor, side: str) -> Tensor:
    """Which positions lie on a side of the mean of the first component; all of them for "all"."""
    if side == "all":
        return torch.ones_like(first, dtype=torch.bool)
    found = first > 0 if side == "above" else first < 0
    if int(found.sum()) < 4:
        raise InputError(
            f"{int(found.sum())} positions lie {side} the mean of the first component (accepted: 4 or more)"
        )
    return found


def _likeness(vectors: Tensor, at: tuple[int, int]) -> np.ndarray:
    """(N, h, w) cosines to the vector at (y, x) of the first image; zero where a vector is."""
    height, width = vectors.shape[1:3]
    if not (at[0] < height and at[1] < width):
        raise InputError(f"place {at[0]},{at[1]} (accepted: up to {height - 1},{width - 1})")
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    found: np.ndarray = (unit @ unit[0, at[0], at[1]]).float().numpy()
    return found
