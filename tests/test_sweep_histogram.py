"""Histograms whose bins fit themselves to the data, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from netloupe.sweep.peaks import Histograms


def columns_of_values() -> np.ndarray:
    """(400, 8) float32: scales from 1e-30 to 1e30, offsets, spikes, constants."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((400, 8))
    normal[:, 1] = np.maximum(normal[:, 1], 0)
    normal[:, 2] *= 1e30
    normal[:, 3] *= 1e-30
    normal[:, 4] = 1000 + normal[:, 4] * 1e-2
    normal[:, 5] = 3.25
    normal[:, 6] = np.exp(4 * normal[:, 6])
    normal[:, 7] = 0
    return normal.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_histograms_do_not_depend_on_order_batches_or_merging(seed: int) -> None:
    values = columns_of_values()
    rng = np.random.default_rng(seed)
    once = Histograms(8)
    once.add(values)
    pieces = [Histograms(8), Histograms(8)]
    for i, part in enumerate(np.array_split(values[rng.permutation(400)], rng.integers(2, 90))):
        pieces[i % 2].add(part)
    pieces[0].merge(pieces[1])
    np.testing.assert_array_equal(pieces[0].linear(64), once.linear(64))


def test_histograms_are_linear_between_the_extremes() -> None:
    values = columns_of_values()
    histograms = Histograms(8)
    histograms.add(values)
    found = histograms.linear(64)
    assert (found.sum(1) == 400).all()
    for c in range(8):
        column = values[:, c].astype(np.float64)
        low, high = column.min(), column.max()
        if low == high:
            assert found[c, 0] == 400
            continue
        slack = (high - low) / 128  # a fine bin is no wider
        for edge in range(65):
            place = low + (high - low) * edge / 64
            below = found[c, :edge].sum()
            assert (column < place - slack).sum() <= below <= (column <= place + slack).sum()


def test_histograms_count_more_values_than_fit_in_16_bits() -> None:
    values = np.tile(np.arange(4, dtype=np.float32), 10_000)[:, None].repeat(2, 1)
    one, other, again = Histograms(2), Histograms(2), Histograms(2)
    one.add(values)
    other.add(values)
    again.load(one.state())
    for histograms in (one, again):
        histograms.merge(other)
        found = histograms.linear(4)
        assert found.sum() == 160_000
        assert found[:, 0].tolist() == [20_000, 20_000]
    again.load(one.state())
    again.add(values)
    assert again.linear(4)[:, 0].tolist() == [30_000, 30_000]
