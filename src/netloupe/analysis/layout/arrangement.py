"""Points of a map moved onto the cells of a grid, one each, as near to where they were as can be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from netloupe.core.errors import InputError
from netloupe.core.watch import SILENT, Watch

EXACT = 2_000  # points up to which the assignment is solved whole: the time grows with their cube

_WINDOW = 24  # cells a side of a window
_SETTLED = 1e-3  # rounds go on while one lowers the cost by more than this share
_ROUNDS = 12


@dataclass(frozen=True)
class Arrangement:
    """n points on a grid of `shape` (rows, columns).

    cells: (n, 2) int64, row and column of each, no two alike. cost: the mean squared distance from point to cell, in
    cells, when the map's box is laid over the grid. exact: whether no arrangement has a lower cost; else it is the
    best within every window of `rounds` rounds.
    """

    shape: tuple[int, int]
    cells: np.ndarray
    cost: float
    exact: bool
    rounds: int


def arrange(points: np.ndarray, *, exact: bool | None = None, watch: Watch = SILENT) -> Arrangement:
    """Lay `points` (n, 2) as (x, y), y down, onto a grid as wide and high as the map is, each its own cell.

    Minimizes the sum of squared distances from the points, stretched to the grid, to their cells. exact: as one linear
    assignment problem (Crouse 2016), by default up to 2,000 points. Otherwise the points are dealt out by halving the
    grid again and again, then the problem is solved in windows of 24x24 cells that overlap by half, round after round,
    until one lowers the cost by less than 0.1 %. The cost never rises.
    Raises InputError for points of another shape, none, or values that are not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"points of shape {points.shape} (accepted: (n, 2) with n of 1 or more, all finite)")
    shape = _shape(points)
    wanted = _stretched(points, shape)
    exact = len(points) <= EXACT if exact is None else exact
    rounds = 0
    if exact:
        every = np.stack(np.divmod(np.arange(shape[0] * shape[1]), shape[1]), axis=1)
        cells = every[_assigned(wanted, every)]
    else:
        cells = np.empty((len(points), 2), dtype=np.int64)
        _deal(wanted, np.arange(len(points)), (0, 0, *shape), cells)
        before = math.inf
        part = watch.part("grid", _ROUNDS)
        while rounds < _ROUNDS and (cost := _cost(wanted, cells)) < before * (1 - _SETTLED):
            before, rounds = cost, rounds + 1
            for window in _windows(shape, rounds % 2 == 0):
                _improve(wanted, cells, window)
            part.at(rounds)
    return Arrangement(shape, cells, _cost(wanted, cells) / len(points), exact, rounds)


def _shape(points: np.ndarray) -> tuple[int, int]:
    """(rows, columns) of the smallest grid of about the map's proportions, at most 2 to 1, that holds all points."""
    width, height = np.maximum(np.ptp(points, axis=0), 1e-12)
    ratio = float(np.clip(width / height, 0.5, 2))
    columns = max(1, round(math.sqrt(len(points) * ratio)))
    return -(-len(points) // columns), columns


def _stretched(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(n, 2) as (row, column): the map's box over the grid; the middle along a side without extent."""
    low, extent = points.min(0), np.ptp(points, axis=0)
    share = np.where(extent > 0, (points - low) / np.where(extent > 0, extent, 1), 0.5)
    return np.asarray(share[:, ::-1] * (np.array(shape) - 1))


def _cost(wanted: np.ndarray, cells: np.ndarray) -> float:
    return float(((wanted - cells) ** 2).sum())


def _assigned(wanted: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(n,) which of the cells (m, 2), m >= n, each of (n, 2) gets at the lowest cost."""
    from scipy.optimize import linear_sum_assignment

    costs = ((wanted[:, None] - cells[None]) ** 2).sum(2)
    _, chosen = linear_sum_assignment(costs)
    return np.asarray(chosen)


_Box = tuple[int, int, int, int]


def _deal(wanted: np.ndarray, which: np.ndarray, box: _Box, cells: np.ndarray) -> None:
    """Give the points `which` cells in a box (top, left, bottom, right), halved until one cell is left."""
    if len(which) == 0:
        return
    top, left, bottom, right = box
    rows, columns = bottom - top, right - left
    if rows * columns == 1:
        cells[which[0]] = top, left
        return
    axis = 0 if rows >= columns else 1
    if axis == 0:
        middle = top + rows // 2
        first, second = (top, left, middle, right), (middle, left, bottom, right)
    else:
        middle = left + columns // 2
        first, second = (top, left, bottom, middle), (top, middle, bottom, right)
    room, more = _area(first), _area(second)
    order = which[np.argsort(wanted[which, axis], kind="stable")]
    # as many to each half as lie there, as far as there is room
    there = int((wanted[which, axis] < middle - 0.5).sum())
    count = min(max(there, len(which) - more), room)
    _deal(wanted, order[:count], first, cells)
    _deal(wanted, order[count:], second, cells)


def _area(box: _Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _windows(shape: tuple[int, int], shifted: bool) -> Iterator[_Box]:
    """Windows that cover the grid side by side, shifted by half a window every other round."""
    offset = -(_WINDOW // 2) if shifted else 0
    for top in range(offset, shape[0], _WINDOW):
        for left in range(offset, shape[1], _WINDOW):
            yield max(top, 0), max(left, 0), min(top + _WINDOW, shape[0]), min(left + _WINDOW, shape[1])


def _improve(wanted: np.ndarray, cells: np.ndarray, window: _Box) -> None:
    """Assign the points in a window to its cells anew."""
    top, left, bottom, right = window
    inside = np.flatnonzero(((cells >= (top, left)) & (cells < (bottom, right))).all(1))
    if len(inside) == 0:
        return
    rows, columns = np.mgrid[top:bottom, left:right]
    here = np.stack([rows.reshape(-1), columns.reshape(-1)], axis=1)
    cells[inside] = here[_assigned(wanted[inside], here)]
