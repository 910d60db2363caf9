"""What became of a network's channels over the epochs of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netloupe.core.numbers import finite
from netloupe.core.receptive_field import Box
from netloupe.data.sources import Skipped
from netloupe.render.pictures import Picture
from netloupe.render.result import Record

SETTLED = 0.9  # mean likeness to the last snapshot from which on a layer counts as settled


@dataclass(frozen=True)
class LayerEvolution:
    """One layer over E epochs: its C channels, and K of them shown.

    likeness: (E, C) rank correlation of each channel's responses with those at the last epoch; NaN for a channel that
    is constant in the end, 0 where it was so before. weights: (E, C) cosine of each filter to the last; None for a
    layer without weights of its own. values (E, C): the strongest response, images (E, C) the ids that caused it.
    positions (E, C, 2): where (y, x) in the map. channels: (K,) those shown, projections (K, E, colors, H, W) of the
    strongest response of each to the pixels, signed and raw, zero where nothing is above zero. boxes: [k][e], what
    the neuron sees.
    """

    likeness: np.ndarray
    weights: np.ndarray | None
    values: np.ndarray
    images: np.ndarray
    positions: np.ndarray
    channels: tuple[int, ...]
    projections: np.ndarray
    boxes: tuple[tuple[Box, ...], ...]

    @property
    def final_image(self) -> np.ndarray:
        """(E,): the share of channels whose strongest image is already that of the last epoch."""
        return np.asarray((self.images == self.images[-1]).mean(1))

    @property
    def mean(self) -> np.ndarray:
        """(E,): the mean likeness over channels, NaN where all are constant."""
        known = self.likeness[:, np.isfinite(self.likeness[-1])]
        return known.mean(1) if known.shape[1] else np.full(len(self.likeness), np.nan)

    def quartiles(self) -> np.ndarray:
        """(2, E): the likeness that a quarter and three quarters of the channels do not exceed."""
        known = self.likeness[:, np.isfinite(self.likeness[-1])]
        return np.quantile(known, (0.25, 0.75), axis=1) if known.shape[1] else np.full((2, len(known)), np.nan)


@dataclass(frozen=True)
class Evolution(Record):
    """What `evolution` found: `layers` by name, over `epochs`.

    photo: an image by its id, as the network sees it. skipped: images that could not be read. kept: more files by name,
    the snapshots of a network that was trained for this. note: what is to be said of that.
    """

    epochs: tuple[int, ...]
    layers: Mapping[str, LayerEvolution]
    size: tuple[int, int]
    images: int
    photo: Callable[[int], Picture]
    skipped: tuple[Skipped, ...] = ()
    kept: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    note: str | None = None

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        yield from super()._contents()
        yield from self.kept.items()

    def remarks(self) -> Sequence[str]:
        return [*([] if self.note is None else [self.note]), *(str(one) for one in self.skipped)]

    def settled(self, layer: str) -> int | None:
        """The epoch from which on the layer's mean likeness stays at `SETTLED` or above; None if it has none."""
        mean = self.layers[layer].mean
        if not np.isfinite(mean).all():
            return None
        below = np.flatnonzero(mean < SETTLED)
        return self.epochs[below[-1] + 1 if len(below) else 0]

    def arrays(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {"epochs": np.array(self.epochs)}
        for name, layer in self.layers.items():
            found |= {
                f"{part}-{name}": np.asarray(getattr(layer, part))
                for part in ("likeness", "weights", "values", "images", "positions", "channels", "projections")
                if getattr(layer, part) is not None
            }
        return found

    def summary(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "skipped": {one.name: one.reason for one in self.skipped},
            "epochs": list(self.epochs),
            "layers": {
                name: {
                    "channels": layer.likeness.shape[1],
                    "shown": list(layer.channels),
                    "constant": int(np.isnan(layer.likeness[-1]).sum()),
                    "likeness": _numbers(layer.mean),
                    "quartiles": [_numbers(row) for row in layer.quartiles()],
                    "final_image": _numbers(layer.final_image),
                    "weights": None if layer.weights is None else _numbers(layer.weights.mean(1)),
                    "settled": self.settled(name),
                }
                for name, layer in self.layers.items()
            },
            "verdict": self.verdict(),
        }

    def verdict(self) -> str:
        """One sentence: which layer settled first, and which last."""
        known = {name: epoch for name in self.layers if (epoch := self.settled(name)) is not None}
        if not known:
            return "All channels are constant over these images, so nothing can be said of when they settled."
        limit = f"a mean rank correlation of {SETTLED} with the last snapshot"
        low, high = min(known.values()), max(known.values())
        if low == high:
            return f"All layers reached {limit} by the same of the recorded epochs, {low}."
        first, last = (", ".join(name for name in known if known[name] == epoch) for epoch in (low, high))
        return f"First to reach {limit}: {first}, by epoch {low}; last: {last}, by epoch {high}."


def _numbers(values: np.ndarray) -> list[float | None]:
    return [finite(v) for v in values]
