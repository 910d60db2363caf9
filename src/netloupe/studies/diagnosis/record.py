"""What is wrong with filters and strides, as found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.core.numbers import finite
from netloupe.data.sources import Skipped
from netloupe.render.result import Record
from netloupe.studies.diagnosis.spectra import Aliasing, FilterSpectra

# The paper names no limits; these are ours.
DEAD = 0.05  # share of a layer's channels from which dead ones count
SPARE = 0.05  # share of a layer's channels that others could stand for
MIDDLE = 0.1  # of the first filters strongest in the middle band, and of their power there; white noise has 0.15
SMALLEST = 5  # px of the shorter side of a filter whose spectrum can tell the bands apart
FOLDED = 0.5  # share of a map's variation above the Nyquist limit of its stride


@dataclass(frozen=True)
class LayerDiagnosis:
    """One convolution of C channels.

    dead: (C,) no response to any image. by_weights, by_responses: groups of channels that are alike, each sorted, the
    first member standing for it; dead channels are in none. compared: whether any two of its filters read the same
    input, so that their weights can be compared.
    """

    dead: np.ndarray
    by_weights: tuple[tuple[int, ...], ...]
    by_responses: tuple[tuple[int, ...], ...]
    compared: bool

    @property
    def channels(self) -> int:
        return len(self.dead)

    @property
    def dead_share(self) -> float:
        return float(self.dead.mean())

    def spare(self, how: str) -> float:
        """The share of channels that another of their group could stand for; how: "weights" or "responses"."""
        return sum(len(group) - 1 for group in self.groups(how)) / self.channels

    def groups(self, how: str) -> tuple[tuple[int, ...], ...]:
        return self.by_weights if how == "weights" else self.by_responses


@dataclass(frozen=True)
class Diagnosis(Record):
    """What `diagnose` found: `layers` by name, all convolutions; `aliasing` of the layers with a stride.

    first: the first convolution, weights (F, C, kh, kw) its filters and spectra theirs. images: how many were shown,
    `transformed` of them for aliasing. threshold: of duplicates. skipped: images that could not be read.
    """

    layers: Mapping[str, LayerDiagnosis]
    first: str
    weights: np.ndarray
    spectra: FilterSpectra
    aliasing: Mapping[str, Aliasing]
    images: int
    transformed: int
    threshold: float
    skipped: tuple[Skipped, ...] = ()

    def remarks(self) -> Sequence[str]:
        return [str(one) for one in self.skipped]

    def arrays(self) -> dict[str, np.ndarray]:
        spectra = {
            "filter-power": self.spectra.power,
            "filter-shares": self.spectra.shares,
            "filter-peaks": self.spectra.peak,
            "filter-oriented": self.spectra.oriented,
            "filter-directions": self.spectra.direction,
        }
        dead = {f"dead-{name}": layer.dead for name, layer in self.layers.items()}
        folded = {f"aliasing-{name}": each.shares for name, each in self.aliasing.items()}
        return spectra | dead | folded | {f"power-{name}": each.power for name, each in self.aliasing.items()}

    def summary(self) -> dict[str, Any]:
        bands = self.spectra.bands
        return {
            "images": self.images,
            "transformed": self.transformed,
            "skipped": {one.name: one.reason for one in self.skipped},
            "threshold": self.threshold,
            "first": {
                "layer": self.first,
                "filters": len(bands),
                "size": list(self.weights.shape[2:]),
                "bands": [int((bands == i).sum()) for i in range(3)],
                "power": [finite(v) for v in self.spectra.shares[bands >= 0].mean(0)] if (bands >= 0).any() else None,
                "oriented": finite(np.nanmean(self.spectra.oriented)) if (bands >= 0).any() else None,
            },
            "layers": {
                name: {
                    "channels": layer.channels,
                    "dead": int(layer.dead.sum()),
                    "alike_in_weights": [list(group) for group in layer.by_weights] if layer.compared else None,
                    "alike_in_responses": [list(group) for group in layer.by_responses],
                }
                for name, layer in self.layers.items()
            },
            "aliasing": {
                name: {"stride": list(each.stride), "share": finite(each.mean), "white_noise": each.rest}
                for name, each in self.aliasing.items()
            },
            **self.tell(self),
        }
