"""Charts: where lines, ticks and labels lie, by the pixels that are painted."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from netloupe.render.chart import Axis, Line, axis, fits, line_chart, settled, text_table
from netloupe.render.colors import COLORS
from netloupe.render.pictures import PAPER

RED, BLUE = (200, 0, 0), (0, 0, 200)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) rows and columns of the pixels of exactly this color."""
    return np.argwhere((picture == np.array(color)).all(-1))


def test_axis_has_round_ticks_around_the_range() -> None:
    assert axis("", 0, 1).ticks == [(0, "0"), (0.2, "0.2"), (0.4, "0.4"), (0.6, "0.6"), (0.8, "0.8"), (1, "1")]
    for low, high in ((-0.17, 1), (0, 0.033), (3, 3), (-2000, 5000), (0, 1e-9), (0.95, 1.0)):
        found = axis("", low, high)
        assert found.low <= low <= high <= found.high
        assert 2 <= len(found.ticks) <= 9
        assert found.ticks[0][0] == pytest.approx(found.low)
        assert found.ticks[-1][0] == pytest.approx(found.high)
        texts = [text for _, text in found.ticks]
        assert [float(text) for text in texts] == pytest.approx([value for value, _ in found.ticks])


def test_a_line_goes_where_its_values_say() -> None:
    x, y = Axis("", 0, 2, [(0, "a")]), Axis("", 0, 1, [(0, "0"), (1, "1")])
    flat = [
        line_chart("", [Line("", [v, v, v], RED)], range(3), x, y, size=(200, 300), room=60) for v in (0.0, 0.5, 1.0)
    ]
    rows = [float(np.median(where(picture, RED)[:, 0])) for picture in flat]
    assert rows[0] - rows[1] == pytest.approx(rows[1] - rows[2], abs=1)
    assert rows[0] > rows[1] > rows[2]
    rising = line_chart("", [Line("", [0, 0.5, 1], RED)], range(3), x, y, size=(200, 300), room=60)
    found = where(rising, RED)
    assert len(found) > 50
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] < -0.99
    columns = found[:, 1]
    assert columns.min() < 70
    assert 225 < columns.max() < 268


def test_what_is_not_a_number_is_left_out() -> None:
    x, y = Axis("", 0, 2, [(0, "a")]), axis("", 0, 1)
    nothing = [math.nan] * 3
    with_it = line_chart("", [Line("gone", nothing, RED), Line("here", [0, 1, 1], BLUE)], range(3), x, y)
    assert not len(where(with_it, RED))
    assert len(where(with_it, BLUE))
    assert np.array_equal(with_it, line_chart("", [Line("here", [0, 1, 1], BLUE)], range(3), x, y))
    line_chart("", [Line("gone", nothing, RED)], range(3), x, y)


def test_dashes_leave_gaps() -> None:
    x, y = Axis("", 0, 1, [(0, "a")]), axis("", 0, 1)
    whole, dashed = (
        line_chart("", [Line("", [0.3, 0.3], RED, dash)], range(2), x, y, ends=False) for dash in (False, True)
    )
    share = len(where(dashed, RED)) / len(where(whole, RED))
    assert 0.35 < share < 0.65


def test_labels_stand_at_the_ends_or_in_the_order_given() -> None:
    x, y = Axis("", 0, 1, [(0, "a")]), axis("", 0, 1)
    lines = [Line("one", [1, 0.1], RED), Line("two", [0, 0.9], BLUE)]

    def swatches(ends: bool) -> list[float]:
        picture = line_chart("", lines, range(2), x, y, size=(300, 500), room=150, ends=ends)
        return [float(np.mean(where(picture[:, 368:374], color)[:, 0])) for color in (RED, BLUE)]

    red, blue = swatches(ends=True)
    assert red > blue + 100
    red, blue = swatches(ends=False)
    assert 10 < blue - red < 25


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_order_distance_and_range(seed: int) -> None:
    random = np.random.default_rng(seed)
    wanted = sorted(random.uniform(0, 100, random.integers(1, 7)).tolist())
    found = settled(wanted, 15, 0, 100)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(found))
    assert found[0] >= -1e-9
    assert found[-1] <= 100 + 1e-9
    if all(b - a >= 15 for a, b in pairwise(wanted)):
        assert found == pytest.approx(wanted)


def test_spread_moves_no_more_than_it_must() -> None:
    assert settled([50, 50], 10, 0, 100) == [45, 55]
    assert settled([0, 1], 10, 0, 100) == [0, 10]
    assert settled([99, 100], 10, 0, 100) == [90, 100]
    assert settled([20, 80], 10, 0, 100) == [20, 80]
    assert settled([], 10, 0, 100) == []


def test_fits() -> None:
    assert fits(["a", "b", "c"], 200)
    assert not fits(["a", "features.14.depthwise.conv", "c"], 200)


def test_a_table_is_as_wide_as_its_columns_and_grows_by_rows() -> None:
    few = text_table(["", "one\nline"], [["a", "1"]], [100, 60])
    more = text_table(["", "one\nline"], [["a", "1"], ["b", "2"]], [100, 60])
    assert few.shape[1] == more.shape[1] == 160
    assert more.shape[0] - few.shape[0] == 21
    assert np.array_equal(few[:40], more[:40])
    ink = (more[-21:] != np.array(PAPER)).any(-1)
    assert ink[:, :20].any()  # "b" flush left
    assert ink[:, 145:].any()  # "2" flush right
    assert not ink[:, 30:140].any()


def test_colors_are_told_apart() -> None:
    assert len(set(COLORS)) == len(COLORS) == 8
    lightness = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in COLORS]
    assert max(lightness) < 190  # on paper of 244
