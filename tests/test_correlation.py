"""Correlations against SciPy's and NumPy's, with ties and constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from netloupe.analysis.correlation import normed, rank_correlation, ranked
from netloupe.core.errors import InputError


def test_rank_correlation_is_scipys_with_ties_too() -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(4, 7, 9, generator=random)
    b = a + torch.randn(4, 7, 9, generator=random)
    a[2:] = a[2:].round()
    b[3] = b[3].clamp(min=0)
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert 0.2 < min(expected) < max(expected) < 0.95
    assert torch.allclose(rank_correlation(a, b), torch.tensor(expected), atol=1e-12)


def test_rank_correlation_of_the_same_order_is_one_and_of_the_opposite_minus_one() -> None:
    a = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(rank_correlation(a, a.exp()), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(rank_correlation(a, -a), -torch.ones(2, dtype=torch.float64))


def test_a_constant_map_has_no_rank_correlation() -> None:
    assert rank_correlation(torch.ones(1, 4, 4), torch.rand(1, 4, 4)).isnan().all()
    with pytest.raises(InputError, match=r"accepted: \(N, H, W\) twice"):
        rank_correlation(torch.ones(1, 4, 4), torch.ones(1, 4, 5))


def test_ranks_share_ties() -> None:
    values = np.array([[3.0, 1], [1, 1], [3, 1], [2, 0], [3, 5]])
    assert ranked(values).T.tolist() == [[3, 0, 3, 1, 3], [2, 2, 2, 0, 4]]


def test_normed_gives_pearsons_along_any_axis_and_nan_for_constants() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    values[:, 2] = 0.1
    columns = normed(values)
    assert columns[:, 0] @ columns[:, 1] == pytest.approx(np.corrcoef(values[:, :2].T)[0, 1], abs=1e-6)
    assert np.isnan(columns[:, 2]).all()
    assert np.array_equal(normed(values.T, axis=1), columns.T, equal_nan=True)
    assert normed(ranked(np.array([1.0, 2.0, 9.0]))) @ normed(ranked(np.array([0.0, 3.0, 4.0]))) == pytest.approx(1)
