"""Points moved onto the cells of a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from netloupe.analysis.layout.arrangement import arrange
from netloupe.core.errors import InputError


def spots(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(5, 2))[rng.integers(5, size=count)] * 3 + rng.normal(size=(count, 2)) * 0.4


def test_the_assignment_is_the_best_of_all() -> None:
    points = np.array([[0, 0], [1, 0.1], [0.9, 1], [0.8, 0.9], [0.7, 1.0]])
    found = arrange(points)
    rows, columns = found.shape
    wanted = [((y) / 1.0 * (rows - 1), x / 1.0 * (columns - 1)) for x, y in points]
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    best = min(
        sum((w[0] - c[0]) ** 2 + (w[1] - c[1]) ** 2 for w, c in zip(wanted, chosen, strict=True))
        for chosen in itertools.permutations(cells, 5)
    )
    assert best > 0
    assert found.exact
    assert found.cost == pytest.approx(best / 5)


@pytest.mark.parametrize("exact", [True, False])
def test_no_cell_is_taken_twice(exact: bool) -> None:
    points = spots(700)
    found = arrange(points, exact=exact)
    assert len({tuple(cell) for cell in found.cells.tolist()}) == 700
    assert (found.cells >= 0).all()
    assert (found.cells < found.shape).all()
    assert found.shape[0] * found.shape[1] < 700 + max(found.shape)


def test_windows_come_near_to_the_whole_problem_and_the_cost_is_what_it_says() -> None:
    points = spots(800, 3)
    whole, windows = arrange(points, exact=True), arrange(points, exact=False)
    assert whole.cost <= windows.cost <= 1.05 * whole.cost
    assert windows.rounds >= 2
    low, high = points.min(0), points.max(0)
    total = 0.0
    for (x, y), (row, column) in zip(points, windows.cells, strict=True):
        total += ((y - low[1]) / (high[1] - low[1]) * (windows.shape[0] - 1) - row) ** 2
        total += ((x - low[0]) / (high[0] - low[0]) * (windows.shape[1] - 1) - column) ** 2
    assert windows.cost == pytest.approx(total / 800)
    assert (arrange(points, exact=False).cells == windows.cells).all()


def test_points_of_a_grid_stay_where_they_are() -> None:
    rows, columns = np.mgrid[0:6, 0:9]
    found = arrange(np.stack([columns.ravel(), rows.ravel()], 1) * 2.5, exact=False)
    assert found.shape == (6, 9)
    assert found.cost == pytest.approx(0)
    assert found.cells.tolist() == [[row, column] for row in range(6) for column in range(9)]


def test_degenerate_maps() -> None:
    assert arrange(np.zeros((1, 2))).cells.tolist() == [[0, 0]]
    for exact in (True, False):
        equal = arrange(np.full((10, 2), 3.0), exact=exact)
        assert len({tuple(cell) for cell in equal.cells.tolist()}) == 10
    line = arrange(np.stack([np.arange(20.0), np.zeros(20)], 1))
    assert line.shape[1] > line.shape[0]


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.zeros((3, 3)), np.full((3, 2), np.nan)])
def test_points_that_can_not_be_arranged(points: np.ndarray) -> None:
    with pytest.raises(InputError, match="points of shape"):
        arrange(points)
