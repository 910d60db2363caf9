"""Numbers over an image as colors, and pictures with words, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from netloupe.render import colors, pictures, sheet
from netloupe.render.colors import heat
from netloupe.render.pictures import PAPER

PHOTOS = {
    "dark": np.full((40, 40, 3), 8, dtype=np.uint8),
    "light": np.full((40, 40, 3), 247, dtype=np.uint8),
    "striped": np.tile(np.repeat(np.array([20, 230], dtype=np.uint8), 2), (40, 10))[..., None].repeat(3, axis=2),
}


def test_strength_is_not_set_by_outliers_nor_by_zeros() -> None:
    values = np.concatenate([np.linspace(0.001, 1, 1000), [1000.0], np.zeros(5000)])
    assert 0.9 < colors.strength(values) <= 1
    assert colors.strength(np.array([-3.0, 1.0, 0.0]), 1.0) == 3
    assert colors.strength(np.zeros(4)) == 0


def test_diverging_is_blue_white_red() -> None:
    below, zero, above = colors.diverging(np.array([[-1.0, 0.0, 1.0]]), 1.0)[0].astype(int)
    assert below[2] > below[0] + 50
    assert above[0] > above[2] + 50
    assert zero.min() > 240
    assert (colors.diverging(np.zeros((2, 2))) == colors.diverging(np.zeros((1, 1)), 1.0)).all()


def test_relief_is_gray_at_zero_in_every_color() -> None:
    shown = colors.relief(np.array([[[0.0, 1.0, -1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]), 1.0)
    assert shown[0, 0].tolist() in ([127] * 3, [128] * 3)
    assert shown[0, 1].tolist()[0] == 255
    assert shown[0, 2].tolist()[0] == 0
    assert colors.relief(np.zeros((1, 2, 2))).shape == (2, 2, 3)


def test_enlarged_is_smooth_and_keeps_its_range() -> None:
    values = np.zeros((8, 8))
    values[4:] = 1
    large = colors.enlarged(values, (64, 32))
    assert large.shape == (64, 32)
    assert large.min() == 0
    assert large.max() == 1
    assert (np.diff(large[:, 5]) >= -1e-6).all()
    assert np.abs(np.diff(large[:, 5])).max() < 0.3  # an edge of 1 spreads over several px
    assert colors.enlarged(values, (8, 8)) is values


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("signed", [False, True])
def test_what_is_near_zero_shows_the_photograph_alone(name: str, signed: bool) -> None:
    photo = PHOTOS[name]
    alone = colors.overlay(photo, np.zeros((40, 40)), 1.0, signed=signed)
    assert (alone == alone[..., :1]).all()  # gray
    values = np.random.default_rng(0).uniform(-0.12, 0.12, (40, 40))
    assert (colors.overlay(photo, values, 1.0, signed=signed) == alone).all()


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("value", "signed"), [(1.0, False), (1.0, True), (-1.0, True)])
def test_what_is_strong_stands_out_on_dark_and_light_photographs(name: str, value: float, signed: bool) -> None:
    photo = PHOTOS[name]
    values = np.zeros((40, 40))
    values[10:30, 10:30] = value
    shown = colors.overlay(photo, values, 1.0, signed=signed).astype(int)
    inside, outside = shown[12:28, 12:28], shown[:8]
    saturation = inside.max(-1) - inside.min(-1)
    assert saturation.min() > 60
    assert (outside.max(-1) - outside.min(-1)).max() == 0
    assert 50 < outside.min() <= outside.max() < 220
    warm = inside[..., 0] > inside[..., 2] + 40
    assert warm.all() if value > 0 else not warm.any()


def test_the_photograph_shines_through_a_strong_map() -> None:
    shown = colors.overlay(PHOTOS["striped"], np.ones((40, 40)), 1.0).astype(int).sum(-1)
    assert shown.max() - shown.min() > 80


def test_an_unsigned_overlay_shows_nothing_below_zero() -> None:
    photo = PHOTOS["striped"]
    alone = colors.overlay(photo, np.zeros((40, 40)))
    assert (colors.overlay(photo, -np.ones((40, 40)), 1.0) == alone).all()


def test_an_overlay_enlarges_its_map() -> None:
    values = np.zeros((5, 5))
    values[0, 0] = 1
    shown = colors.overlay(PHOTOS["dark"], values, 1.0).astype(int)
    assert shown.shape == (40, 40, 3)
    assert shown[2, 2, 0] - shown[2, 2, 2] > 60
    assert shown[30, 30].std() == 0


# --- words beside pictures


def test_lines_keep_to_their_width() -> None:
    text = "every method beside every other on one scale of its own"
    lines = sheet.lines_of(text, 120, 13)
    assert len(lines) > 2
    assert " ".join(lines) == text
    assert sheet.lines_of("unbreakable" * 9, 80, 13)[-1].endswith("…")
    assert sheet.paragraph(text, 120).shape[1] == 120
    assert sheet.paragraph("", 50).shape[1] == 50


def test_beside_and_framed_fill_with_paper() -> None:
    one, other = np.zeros((4, 3, 3), dtype=np.uint8), np.full((2, 5, 3), 9, dtype=np.uint8)
    row = pictures.beside([one, other], gap=2)
    assert row.shape == (4, 10, 3)
    assert (row[:, :3] == 0).all()
    assert (row[:2, 5:] == 9).all()
    assert (row[2:, 5:] == PAPER).all()
    assert (row[:, 3:5] == PAPER).all()
    assert (sheet.framed(one, 2)[2:6, 2:5] == 0).all()
    assert (sheet.framed(one, 2)[:2] == PAPER).all()


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = sheet.bars([("all", 1.0), ("half", 0.5), ("none", 0.0)], 400)
    lengths = [(drawn[i * 25 : (i + 1) * 25] == sheet.BAR).all(-1).sum(axis=1).max() for i in range(3)]
    assert lengths[0] > 100
    assert abs(lengths[1] - lengths[0] / 2) <= 1
    assert lengths[2] == 0


def test_color_bars_are_the_scales_of_the_maps() -> None:
    signed, unsigned = sheet.color_bar(101, signed=True), sheet.color_bar(101, signed=False)
    assert (signed[0, 50] == colors.diverging(np.zeros((1, 1)), 1.0)[0, 0]).all()
    assert (unsigned[0, -1] == heat(np.ones((1, 1)), 1.0)[0, 0]).all()
