"""Texture from a sample: the parts against plain loops, patterns that have to go on, and what can't be used."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.synthesis import sampling
from netloupe.synthesis.sampling import cheapest_path, grown, overlap_errors, quilted, swept
from watch_helpers import Recorder

Synthesis = Callable[..., Tensor]
Pattern = Callable[[int, int], Tensor]

SYNTHESES: list[Synthesis] = [grown, swept, quilted]
BLOCKS = functools.partial(quilted, block=12, overlap=5)  # wide enough to tell where in a pattern of 8 px they are
TILING = functools.partial(BLOCKS, tileable=True)


def noise(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand((channels, height, width), generator=torch.Generator().manual_seed(seed))


def clouds(size: int = 32) -> Tensor:
    """(3, size, size): smooth and colored."""
    drawn = torch.nn.functional.interpolate(noise(3, 9, 9)[None], (size, size), mode="bicubic")[0]
    return drawn.clamp(0, 1)


def tiles(height: int, width: int, side: int = 4) -> Tensor:
    """(3, height, width): a checkerboard of squares of two colors."""
    y, x = torch.meshgrid(torch.arange(height) // side, torch.arange(width) // side, indexing="ij")
    colors = torch.tensor([[0.9, 0.6, 0.1], [0.1, 0.2, 0.5]])
    return colors[(y + x) % 2].permute(2, 0, 1)


def stripes(height: int, width: int) -> Tensor:
    """(1, height, width): upright stripes of a ramp that comes back every 8 px."""
    return (torch.arange(width) % 8 / 8).expand(1, height, width)


def off(image: Tensor, pattern: Pattern, period: int = 8) -> float:
    """The share of pixels that differ from the pattern where it lies best."""
    height, width = image.shape[1:]
    plane = pattern(height + period, width + period)
    shifts = itertools.product(range(period), repeat=2)
    return min(float((plane[:, y : y + height, x : x + width] != image).any(0).float().mean()) for y, x in shifts)


def placed(sample: Tensor, size: int, block: int) -> Tensor:
    """Blocks of the sample laid side by side at random."""
    draw = np.random.default_rng(0)
    image = torch.zeros(sample.shape[0], size, size)
    for top, left in itertools.product(range(0, size, block), repeat=2):
        y, x = draw.integers(sample.shape[1] - block + 1, size=2)
        image[:, top : top + block, left : left + block] = sample[:, y : y + block, x : x + block]
    return image


def jumps(image: Tensor, axis: int) -> Tensor:
    """Mean squared differences to the pixels before, by position along an axis; the first is over the edge."""
    return (image - image.roll(1, axis)).square().mean([a for a in range(3) if a != axis])


def colors_of(image: Tensor) -> set[tuple[float, ...]]:
    return set(map(tuple, image.flatten(1).T.tolist()))


# --- the parts


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (6, 3), (5, 4)])
def test_the_cheapest_path_is_the_best_of_all(shape: tuple[int, int]) -> None:
    height, width = shape
    for seed in range(8):
        costs = np.random.default_rng(seed).random(shape)
        steady = [
            columns
            for columns in itertools.product(range(width), repeat=height)
            if all(abs(a - b) <= 1 for a, b in itertools.pairwise(columns))
        ]
        best = min(steady, key=lambda columns: sum(costs[y, x] for y, x in enumerate(columns)))
        assert tuple(cheapest_path(costs)) == best


def test_overlap_errors_are_those_of_plain_loops() -> None:
    draw = np.random.default_rng(0)
    pixels, old = draw.random((9, 11, 3)), draw.random((4, 4, 3))
    known = draw.random((4, 4)) < 0.6
    assert 0 < known.sum() < 16
    found = overlap_errors(pixels, old, known)
    assert found.shape == (6, 8)
    for top, left in itertools.product(range(6), range(8)):
        wanted = 0.0
        for y, x, c in itertools.product(range(4), range(4), range(3)):
            if known[y, x]:
                wanted += (pixels[top + y, left + x, c] - old[y, x, c]) ** 2
        assert found[top, left] == pytest.approx(wanted, abs=1e-9)
    assert found.std() > 0.1


def test_distances_of_windows_are_those_of_plain_loops() -> None:
    draw = np.random.default_rng(1)
    pixels, given = draw.random((7, 8, 3)), draw.random((2, 25, 3))
    known = (draw.random((2, 25)) < 0.4).astype(np.float32)
    found = sampling._distances(pixels.astype(np.float32), 5)(given.astype(np.float32), known)
    assert found.shape == (2, 12)
    for n, (at, (top, left)) in itertools.product(range(2), enumerate(itertools.product(range(3), range(4)))):
        total = weights = 0.0
        for i in range(25):
            y, x = divmod(i, 5)
            weight = float(known[n, i]) * np.exp(-((y - 2) ** 2 + (x - 2) ** 2) / (2 * (5 / 6.4) ** 2))
            total += weight * float(((pixels[top + y, left + x] - given[n, i]) ** 2).sum())
            weights += weight
        assert found[n, at] == pytest.approx(total / weights, abs=1e-5)
    assert found.std() > 0.01


def test_growth_goes_where_most_is_known_and_draws_apart() -> None:
    known = np.zeros((20, 24), np.float32)
    known[8:11, 8:11] = 1
    known[8, 11] = 1  # the corner below it has four known neighbors in a window of 3
    inner = slice(1, 19), slice(1, 23)
    y, x = (places + 1 for places in sampling._foremost(known, inner, 3, np.random.default_rng(0)))
    drawn = list(zip(y.tolist(), x.tolist(), strict=True))
    assert (9, 11) in drawn
    assert len(drawn) > 3
    for (y0, x0), (y1, x1) in itertools.combinations(drawn, 2):
        assert max(abs(y0 - y1), abs(x0 - x1)) > 1
    assert not known[y, x].any()


def test_a_block_shows_where_it_lies_inside_of_its_cuts() -> None:
    """The sample is as large as a block, so that nothing is chosen; the cuts are forced by single equal lines."""
    new, old = np.full((8, 8, 1), 0.9, np.float32), np.zeros((8, 8, 1), np.float32)
    old[:, 1] = old[2, :] = old[:, 6] = old[7, :] = 0.9
    laid = sampling._laid(new, old, (3, 4, 2, 1), 0.1, np.random.default_rng(0))
    wanted = old.copy()
    wanted[2:8, 1:7] = 0.9
    np.testing.assert_array_equal(laid, wanted)


def swept_by_loops(
    canvas: np.ndarray, sample: np.ndarray, coarse: tuple[np.ndarray, np.ndarray] | None, window: int, whole: bool
) -> None:
    half, reach = window // 2, max(1, window // 4)
    near = [(y, x) for y, x in itertools.product(range(-half, half + 1), repeat=2) if (y, x) != (0, 0)]
    near = [(y, x) for y, x in near if whole or y < 0 or (y == 0 and x < 0)]
    far = [] if coarse is None else list(itertools.product(range(-reach, reach + 1), repeat=2))

    def shares(offsets: list[tuple[int, int]], sigma: float) -> list[float]:
        bells = [float(np.exp(-(y * y + x * x) / (2 * sigma**2))) for y, x in offsets]
        return [bell / sum(bells) for bell in bells]

    def inside(image: np.ndarray, y: int, x: int, border: int) -> bool:
        return all(border <= at < side - border for at, side in zip((y, x), image.shape, strict=False))

    def distance(y: int, x: int, v: int, u: int) -> float:
        total = 0.0
        for (dy, dx), share in zip(near, shares(near, window / 4), strict=True):
            mine = canvas[(y + dy) % canvas.shape[0], (x + dx) % canvas.shape[1]]
            total += share * float(((mine - sample[v + dy, u + dx]) ** 2).sum())
        for (dy, dx), share in zip(far, shares(far, window / 8), strict=True):
            assert coarse is not None
            mine = coarse[0][(y // 2 + dy) % coarse[0].shape[0], (x // 2 + dx) % coarse[0].shape[1]]
            total += share * float(((mine - coarse[1][v // 2 + dy, u // 2 + dx]) ** 2).sum())
        return total

    def fits(y: int, x: int, v: int, u: int) -> bool:
        if coarse is None:
            return inside(sample, v, u, half)
        alike = (y - v) % 2 == 0 and (x - u) % 2 == 0
        return alike and inside(sample, v, u, half) and inside(coarse[1], v // 2, u // 2, reach)

    everywhere = list(itertools.product(range(sample.shape[0]), range(sample.shape[1])))
    for y, x in itertools.product(range(canvas.shape[0]), range(canvas.shape[1])):
        best = min((at for at in everywhere if fits(y, x, *at)), key=lambda at: distance(y, x, *at))
        canvas[y, x] = sample[best]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("finer", [False, True])
def test_a_sweep_finds_what_plain_loops_find(whole: bool, finer: bool) -> None:
    draw = np.random.default_rng(3)
    canvas, sample = (draw.random((*sides, 1)).astype(np.float32) for sides in ((5, 7), (8, 9)))
    coarse = tuple(draw.random((*sides, 1)).astype(np.float32) for sides in ((3, 4), (4, 5))) if finer else None
    wanted = canvas.copy()
    swept_by_loops(wanted, sample, coarse, 3, whole)
    assert len(list(sampling._filled(canvas, sample, coarse, sampling._Neighborhood.of(3, whole)))) == 5
    np.testing.assert_array_equal(canvas, wanted)
    assert len(np.unique(canvas)) > 5


# --- what has to go on


@pytest.mark.parametrize("synthesis", SYNTHESES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_is_one_of_the_sample(synthesis: Synthesis, channels: int) -> None:
    sample = clouds(24)[:channels]
    image = synthesis(sample, (21, 30))
    assert image.shape == (channels, 21, 30)
    assert image.dtype == torch.float32
    assert colors_of(image) <= colors_of(sample)
    assert len(colors_of(image)) > 50


@pytest.mark.parametrize("pattern", [tiles, stripes])
@pytest.mark.parametrize("synthesis", [grown, BLOCKS])
def test_a_pattern_goes_on(synthesis: Synthesis, pattern: Pattern) -> None:
    sample = pattern(30, 31)
    for seed in range(2):
        assert off(synthesis(sample, (40, 37), seed=seed), pattern) == 0
    assert off(placed(sample, 40, 8), pattern) > 0.2


@pytest.mark.parametrize("pattern", [tiles, stripes])
@pytest.mark.parametrize("synthesis", [swept, TILING])
def test_a_pattern_goes_on_over_the_edges(synthesis: Synthesis, pattern: Pattern) -> None:
    sample = pattern(36, 38)
    for seed in range(2):
        assert off(synthesis(sample, (48, 40), seed=seed).repeat(1, 2, 2), pattern) == 0
    assert off(placed(sample, 48, 8), pattern) > 0.2


def test_edges_meet_as_the_inside_does() -> None:
    """The largest jump anywhere, over the edges too, in mean jumps."""

    def largest(synthesis: Synthesis) -> float:
        images = [synthesis(clouds(), (40, 44), seed=seed) for seed in range(3)]
        lines = [jumps(image, axis) for image in images for axis in (1, 2)]
        return float(torch.stack([line.max() / line.mean() for line in lines]).mean())

    assert largest(swept) < 3
    assert largest(TILING) < 3
    assert largest(BLOCKS) > 4


def test_the_second_sweep_fits_the_first_lines_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = torch.meshgrid(torch.arange(36.0), torch.arange(36.0), indexing="ij")
    samples = [0.5 + 0.5 * torch.sin(x / 1.5) * torch.sin(y / 1.4), (0.8 * x + 0.6 * y) % 9 / 9]

    def seam() -> float:
        images = [swept(sample[None], (32, 35), seed=seed) for sample in samples for seed in range(4)]
        return float(np.mean([float(jumps(image, 1)[0] / jumps(image, 1)[1:].mean()) for image in images]))

    twice, neighborhood = seam(), sampling._Neighborhood.of
    monkeypatch.setattr(sampling._Neighborhood, "of", lambda window, whole: neighborhood(window, False))
    assert twice < 1.2 < seam()


def test_cuts_join_better_than_straight_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    def seams() -> float:
        images = [quilted(clouds(), (48, 48), block=12, overlap=4, seed=seed) for seed in range(3)]
        return sum(float(jumps(image, axis)[1:].mean()) for image in images for axis in (1, 2))

    cut = seams()
    monkeypatch.setattr(sampling, "cheapest_path", lambda costs: np.zeros(len(costs), int))
    assert cut < 0.95 * seams()


def test_blocks_are_whole_away_from_the_overlaps() -> None:
    sample = noise(1, 20, 20)
    image = quilted(sample, (22, 22), block=10, overlap=4)  # three blocks a side, 6 px apart
    parts = sample.unfold(1, 2, 1).unfold(2, 2, 1).reshape(-1, 4)
    for top, left in itertools.product((4, 10, 16), repeat=2):
        assert (parts == image[0, top : top + 2, left : left + 2].reshape(4)).all(1).any()


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_what_is_drawn_is_within_the_tolerance(tolerance: float) -> None:
    distances = np.tile([3.0, 2.0, 2.5, 3.1, 2.0], (400, 1))
    drawn = sampling._drawn(distances, tolerance, np.random.default_rng(0))
    assert set(drawn.tolist()) == ({1, 4} if tolerance == 0 else {0, 1, 2, 4})


# --- around it


@pytest.mark.parametrize("synthesis", [*SYNTHESES, TILING])
def test_equal_seeds_give_equal_images(synthesis: Synthesis) -> None:
    sample = clouds(24)
    before = sample.clone()
    first = synthesis(sample, (20, 26), seed=3)
    assert torch.equal(first, synthesis(sample.double(), (20, 26), seed=3))
    assert not torch.equal(first, synthesis(sample, (20, 26), seed=4))
    assert torch.equal(sample, before)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (19, 3), (26, 15)])
@pytest.mark.parametrize("synthesis", SYNTHESES)
def test_progress_ends_at_the_total_for_any_size(synthesis: Synthesis, size: tuple[int, int]) -> None:
    watch = Recorder()
    image = synthesis(clouds(16), size, watch=watch)
    assert image.shape == (3, *size)
    _, done, totals = zip(*watch.told, strict=True)
    assert list(done) == sorted(set(done))
    assert {done[-1]} == set(totals)


@pytest.mark.parametrize("sides", [(3, 3), (3, 8), (9, 5), (11, 12)])
def test_small_samples_and_the_largest_windows(sides: tuple[int, int]) -> None:
    sample, window = noise(1, *sides), min(sides) - 1 + min(sides) % 2
    for image in (grown(sample, (7, 9), window=window), swept(sample, (7, 9), window=window)):
        assert colors_of(image) <= colors_of(sample)
    for window in (3, 5, 7):
        if window <= min(sides):
            assert colors_of(swept(sample, (7, 9), window=window)) <= colors_of(sample)
    for block in {2, min(sides) // 2 + 1, min(sides)}:
        for overlap, tileable in itertools.product(range(1, block // 2 + 1), (False, True)):
            image = quilted(sample, (14, 13), block=block, overlap=overlap, tileable=tileable)
            assert colors_of(image) <= colors_of(sample)


BAD = [
    (SYNTHESES, {"sample": [[0.5]]}, "sample is a list (accepted: a float tensor (C, H, W) in [0, 1])"),
    (SYNTHESES, {"sample": noise(2, 20, 20)}, "sample of shape (2, 20, 20) (accepted: (C, H, W) of 1 or 3 channels)"),
    (SYNTHESES, {"sample": noise(1, 20, 20)[None]}, "sample of shape (1, 1, 20, 20) (accepted: (C, H, W)"),
    (SYNTHESES, {"sample": torch.zeros(3, 20, 20, dtype=torch.uint8)}, "sample of torch.uint8 (accepted: float"),
    (SYNTHESES, {"sample": noise(1, 20, 2)}, "sample of 20x2 px (accepted: 3x3 px or more)"),
    (SYNTHESES, {"sample": 2 * noise(1, 20, 20).round()}, "pixels from 0 to 2 (accepted: finite, in [0, 1])"),
    (SYNTHESES, {"sample": noise(1, 20, 20) - 1.5}, "(accepted: finite, in [0, 1])"),
    (SYNTHESES, {"sample": noise(1, 20, 20) / 0}, "pixels from inf to inf (accepted: finite, in [0, 1])"),
    (SYNTHESES, {"sample": noise(1, 20, 20) * torch.nan}, "pixels from nan to nan (accepted: finite, in [0, 1])"),
    (SYNTHESES, {"size": (0, 20)}, "image size (0, 20) (accepted: at least 1"),
    (SYNTHESES, {"size": (20, 20, 3)}, "image size (20, 20, 3) (accepted: a whole number or (height, width))"),
    ([grown, swept], {"window": 8}, "window of 8 px (accepted: odd, 3 to 19 for a sample of 20x24 px)"),
    ([grown, swept], {"window": 21}, "window of 21 px (accepted: odd, 3 to 19 for a sample of 20x24 px)"),
    ([grown, swept], {"window": 1}, "window of 1 px (accepted: odd, 3 to 19"),
    ([grown, quilted], {"tolerance": -0.1}, "tolerance of -0.1 (accepted: 0 or more, and finite)"),
    ([grown, quilted], {"tolerance": float("nan")}, "tolerance of nan (accepted: 0 or more, and finite)"),
    ([swept], {"levels": 0}, "0 levels (accepted: 1 to 2 for a sample of 20x24 px and a window of 9 px)"),
    ([swept], {"levels": 3}, "3 levels (accepted: 1 to 2 for a sample of 20x24 px and a window of 9 px)"),
    ([quilted], {"block": 21}, "block of 21 px (accepted: 2 or more, at most the sides of a sample of 20x24 px)"),
    ([quilted], {"block": 1}, "block of 1 px (accepted: 2 or more"),
    ([quilted], {"block": 17, "tileable": True}, "sides of a sample of 20x24 px and of a result of 16x18 px)"),
    ([quilted], {"block": 8, "overlap": 8}, "overlap of 8 px (accepted: 1 to 4, half of a block of 8 px)"),
    ([quilted], {"block": 8, "overlap": 0}, "overlap of 0 px (accepted: 1 to 4"),
    (
        [quilted],
        {"size": (1, 9), "tileable": True},
        "at most the sides of a sample of 20x24 px and of a result of 1x9 px)",
    ),
]


@pytest.mark.parametrize(("syntheses", "given", "message"), BAD)
def test_what_cannot_be_used(syntheses: list[Synthesis], given: dict[str, object], message: str) -> None:
    for synthesis in syntheses:
        with pytest.raises(InputError, match=re.escape(message)):
            synthesis(**{"sample": noise(1, 20, 24), "size": (16, 18), **given})


def test_every_argument_has_its_bad_values() -> None:
    harmless = {"tileable", "seed", "watch"}
    for synthesis in SYNTHESES:
        tried = {name for syntheses, given, _ in BAD if synthesis in syntheses for name in given}
        assert tried >= set(inspect.signature(synthesis).parameters) - harmless
