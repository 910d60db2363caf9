"""What the four tests found of each attribution method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from netloupe.analysis.fidelity import area
from netloupe.analysis.methods import Method
from netloupe.data.sources import Skipped
from netloupe.render.result import Record
from netloupe.studies.trust.words import verdict

BASELINES = ("random", "center")


@dataclass(frozen=True)
class Trust(Record):
    """What the tests found for M methods on N images; the rows past M are the baselines, `random` and `center`.

    ranks, structures: (M, S + 1, N) likeness of each map to the trained network's after S stages of the cascade, by
    rank correlation and by structural similarity; stage 0 draws nothing. NaN where the trained map is constant.
    rival_ranks, rival_structures: (M, N) likeness to the map for the rival, another class or unit; NaN without one.
    other_ranks: (M, N) likeness to the map of the image before: what two maps share without having anything in common.
    deletion, insertion: (M + 2, N, steps + 1), raw scores. points: (M + 2, N, 2), (y, x) of the highest importance.
    hits: (M + 2, N), 1 where the point is in the box, NaN for an image without one; None without boxes.
    tolerance: px from the box that still count as in it.
    maps: (M, S + 1, H, W), the importance maps of `image`, the first, through the cascade.
    stages: the layers drawn anew in each stage. targets: what each image was explained for.
    skipped: method -> why it can't explain this network. unreadable: images of the source that were left out.
    """

    methods: tuple[Method, ...]
    stages: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    skipped: Mapping[str, str]
    ranks: np.ndarray
    structures: np.ndarray
    rival_ranks: np.ndarray
    rival_structures: np.ndarray
    other_ranks: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    points: np.ndarray
    hits: np.ndarray | None
    tolerance: float
    image: np.ndarray
    maps: np.ndarray
    unreadable: tuple[Skipped, ...] = ()

    @property
    def rows(self) -> list[str]:
        """The names of the methods and of the baselines."""
        return [method.name for method in self.methods] + list(BASELINES)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {
            "ranks": self.ranks,
            "structures": self.structures,
            "rival-ranks": self.rival_ranks,
            "rival-structures": self.rival_structures,
            "other-ranks": self.other_ranks,
            "deletion": self.deletion,
            "insertion": self.insertion,
            "points": self.points,
            "maps": self.maps,
        }
        return found if self.hits is None else found | {"hits": self.hits}

    def summary(self) -> dict[str, Any]:
        rows = {name: self._scores(i) for i, name in enumerate(self.rows)}
        for i, method in enumerate(self.methods):
            rows[method.name] |= {
                "title": method.title,
                "randomized": [_mean(values) for values in self.ranks[i]],
                "randomized_structure": [_mean(values) for values in self.structures[i]],
                "half_random": _mean(self.ranks[i, self._half]),
                "all_random": _mean(self.ranks[i, -1]),
                "all_random_structure": _mean(self.structures[i, -1]),
                "rival": _mean(self.rival_ranks[i]),
                "rival_structure": _mean(self.rival_structures[i]),
                "other_image": _mean(self.other_ranks[i]),
                "beats": {name: self._beats(i, len(self.methods) + j) for j, name in enumerate(BASELINES)},
            }
            rows[method.name]["verdict"] = verdict(rows[method.name], rows["center"]["pointing"])
        return {
            "images": len(self.targets),
            "targets": list(dict.fromkeys(self.targets)),
            "tolerance": self.tolerance,
            "boxes": 0 if self.hits is None else int(np.isfinite(self.hits[0]).sum()),
            "stages": [{"layers": len(layers), "down_to": layers[-1]} for layers in self.stages],
            "methods": {method.name: rows[method.name] for method in self.methods},
            "baselines": {name: rows[name] for name in BASELINES},
            "skipped": dict(self.skipped),
        }

    def remarks(self) -> list[str]:
        return [str(one) for one in self.unreadable]

    def _beats(self, row: int, other: int) -> list[str]:
        """By which curves one row is better than another: two standard errors of the difference between the images."""
        gains = {"deletion": -self._areas("deletion", row, other), "insertion": self._areas("insertion", row, other)}
        return [
            way
            for way, gain in gains.items()
            if gain.mean() > (2 * gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else 0.0)
        ]

    def _areas(self, way: str, row: int, other: int) -> np.ndarray:
        """(N,): the area of one row's curve less that of another's."""
        curves = torch.from_numpy(getattr(self, way)[[row, other]])
        return (area(curves[0]) - area(curves[1])).numpy()

    @property
    def _half(self) -> int:
        """The first stage that draws half of the layers."""
        return next(i for i, layers in enumerate(self.stages, 1) if 2 * len(layers) >= len(self.stages[-1]))

    def _scores(self, row: int) -> dict[str, Any]:
        curves = {"deletion": self.deletion[row], "insertion": self.insertion[row]}
        found: dict[str, Any] = {name: _mean(area(torch.from_numpy(each)).numpy()) for name, each in curves.items()}
        return found | {"pointing": None if self.hits is None else _mean(self.hits[row])}


def _mean(values: np.ndarray) -> float | None:
    """None where there is no number."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
