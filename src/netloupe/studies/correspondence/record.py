"""How alike the changes are that hiding the same part makes in different images, as found, and how sure that is.

Changes of features are compared by their signs (Zeiler & Fergus 2013, section 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.render.result import Record

RANDOM = "random"


def unlike(signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two (N, N) of signs (N, F), each -1, 0 or 1: the shares of the features in which two rows differ.

    First of all features, 0 being a sign like the others: H(s_i, s_j) / F, H the Hamming distance of the paper. Then of
    the features that are not 0 in either row: the share that goes opposite ways, 0.5 by chance where up and down are as
    frequent; NaN where there is none.
    """
    up, down = (signs > 0).astype(np.float64), (signs < 0).astype(np.float64)
    still = 1 - up - down
    same = up @ up.T + down @ down.T
    both = (up + down) @ (up + down).T
    alike = same + still @ still.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - alike / signs.shape[1], 1 - same / both


def by_chance(signs: np.ndarray) -> np.ndarray:
    """(N, N): the share that would differ if each row had its features in another order, which is
    1 - sum over s of p_i(s) p_j(s), p_i(s) being the share of features of row i with sign s."""
    shares = np.stack([(signs == sign).mean(1) for sign in (-1, 0, 1)], axis=1)
    return np.asarray(1 - shares @ shares.T)


def pair_values(matrix: np.ndarray) -> np.ndarray:
    """The values of all pairs i < j, those without a number left out."""
    values = matrix[np.triu_indices(len(matrix), 1)]
    return np.asarray(values[np.isfinite(values)])


def pair_mean(matrix: np.ndarray) -> float | None:
    """The mean over all pairs of different images; None without one."""
    values = pair_values(matrix)
    return float(values.mean()) if values.size else None


def pair_error(matrix: np.ndarray) -> float | None:
    """The standard error of that mean as if pairs were independent; None below two pairs."""
    values = pair_values(matrix)
    return float(values.std(ddof=1) / values.size**0.5) if values.size > 1 else None


def jackknife_error(matrix: np.ndarray) -> float | None:
    """The standard error over images, each left out once: pairs that share an image are not independent.

    sqrt((n - 1) / n * sum over k of (m_k - mean m)^2), m_k the mean without image k; None below three images.
    """
    there = np.flatnonzero(np.isfinite(matrix).sum(1) > np.isfinite(np.diag(matrix)))
    if len(there) < 3:
        return None
    kept = matrix[np.ix_(there, there)]
    means = [pair_mean(np.delete(np.delete(kept, k, 0), k, 1)) for k in range(len(there))]
    if any(mean is None for mean in means):
        return None
    values = np.array(means, dtype=np.float64)
    return float(((len(there) - 1) / len(there) * ((values - values.mean()) ** 2).sum()) ** 0.5)


@dataclass(frozen=True)
class Correspondence(Record):
    """What was found of N images, P parts and R draws of random squares, at L layers.

    differ, opposite, chance: (P + R, L, N, N), by `unlike` and `by_chance`; NaN for images that lack the
    part. changed: (P + R, L, N), the share of features that hiding it changed at all. features: (L,), their count.
    boxes: (P + R, N, 4), what was hidden, top, left, bottom, right in px of the input; NaN where nothing was.
    images: (N, C, H, W). color: (C,), of the squares. notes: what was left out, and what else to know.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    layers: tuple[str, ...]
    features: np.ndarray
    differ: np.ndarray
    opposite: np.ndarray
    chance: np.ndarray
    changed: np.ndarray
    boxes: np.ndarray
    images: np.ndarray
    color: np.ndarray
    notes: tuple[str, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "differ": self.differ,
            "opposite": self.opposite,
            "chance": self.chance,
            "changed": self.changed,
            "boxes": self.boxes,
        }

    def summary(self) -> dict[str, Any]:
        return {
            "images": list(self.names),
            "parts": list(self.parts),
            "draws": len(self.differ) - len(self.parts),
            "layers": {
                layer: {"features": int(self.features[i]), "rows": self._rows(i)} for i, layer in enumerate(self.layers)
            },
            "notes": list(self.notes),
        }

    def _rows(self, layer: int) -> dict[str, Any]:
        """Of each part, with how far it lies below the random squares on the same pairs of images; and of those."""
        rows = {part: self._scores(slice(i, i + 1), layer) for i, part in enumerate(self.parts)}
        for name, values in {"below_random": self.differ, "opposite_below_random": self.opposite}.items():
            control = _over_draws(values[len(self.parts) :, layer])
            for i, part in enumerate(self.parts):
                gap = control - values[i, layer]
                rows[part] |= {name: pair_mean(gap), f"{name}_error": jackknife_error(gap)}
        return rows | {RANDOM: self._scores(slice(len(self.parts), None), layer)}

    def _scores(self, which: slice, layer: int) -> dict[str, Any]:
        """`delta`: the mean over pairs of the share of features whose signs differ. `error`: its standard error over
        pairs; `jackknife`: over images. `sum`: the paper's Delta itself, over ordered pairs, features counted."""
        differ = _over_draws(self.differ[which, layer])
        mean = pair_mean(differ)
        return {
            "images": int(np.isfinite(np.diag(differ)).sum()),
            "delta": mean,
            "error": pair_error(differ),
            "jackknife": jackknife_error(differ),
            "chance": pair_mean(_over_draws(self.chance[which, layer])),
            "sum": float(2 * pair_values(differ).sum() * self.features[layer]),
            "opposite": pair_mean(_over_draws(self.opposite[which, layer])),
            "opposite_jackknife": jackknife_error(_over_draws(self.opposite[which, layer])),
            "changed": _mean(self.changed[which, layer]),
        }


def _over_draws(matrices: np.ndarray) -> np.ndarray:
    """(N, N): the mean over the first axis of what is a number; NaN where none is."""
    there = np.isfinite(matrices)
    total = np.where(there, matrices, 0.0).sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(there.any(0), there.sum(0), np.nan))


def _mean(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].mean())
