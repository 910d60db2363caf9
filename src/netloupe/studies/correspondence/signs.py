"""How alike changes of features are, by their signs (Zeiler & Fergus 2013, section 4.4), and how sure that is."""

from __future__ import annotations

import numpy as np


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
