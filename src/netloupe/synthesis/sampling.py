"""Texture synthesis without a network: each pixel or block is taken from a sample, where it fits what is there already.

`grown` goes outward pixel by pixel, `swept` line by line from coarse to fine, `quilted` block by block. A sample is one
image (C, H, W) of 1 or 3 channels in [0, 1]; sizes are (height, width) px, and every pixel of a result is one of the
sample's. Equal seeds give equal results. A watch sees what is there after each round, line and block. Inside,
images are arrays (H, W, C), offsets and places (n, 2) are y and x.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from scipy.ndimage import convolve1d, maximum_filter, uniform_filter
from scipy.signal import fftconvolve
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import height_width

SMALLEST = 3  # px of a sample's side, and of the seed of growth
EQUAL = 1e-6  # mean squared difference below which windows count as equal: a quarter of a gray level
_KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # before every other line is left out
Sides = tuple[int, int]
Coarse = tuple[ndarray, ndarray] | None  # the finished canvas of the coarser level, and the sample there


def grown(
    sample: Tensor,
    size: Sides,
    *,
    window: int = 11,
    tolerance: float = 0.1,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Tensor:
    """A texture (C, *size), float32 in [0, 1], grown from 3x3 px of the sample laid in its middle.

    Efros & Leung (1999), "Texture synthesis by non-parametric sampling": a pixel is drawn from the middles of those
    windows of the sample, `window` px a side, whose distance to what is known around it is at most 1 + `tolerance`
    times the least. Distances are weighted by a Gaussian of sigma = window / 6.4. The window should hold the largest
    thing that repeats; where it does not, growth can get lost in a flat part of the sample.
    Departures: of the unknown pixels beside known ones, all that have more known pixels around them than any other in
    their window are drawn at once, none of them being in another's window; and no least distance is too large.
    Time and memory grow with the sample's pixels times the window's. Raises InputError for what can't be used.
    """
    pixels = _pixels(sample)
    sides = height_width(size)
    _check_window(window, pixels)
    _check_tolerance(tolerance)
    draw = np.random.default_rng(seed)
    half = window // 2
    inner = tuple(slice(half, half + side) for side in sides)
    canvas, known = (np.pad(a, ((half, half), (half, half), (0, 0))[: a.ndim]) for a in _planted(pixels, sides, draw))
    distances, around = _distances(pixels, window), _square(half)
    centers = pixels[half : len(pixels) - half, half : pixels.shape[1] - half].reshape(-1, pixels.shape[2])
    part = watch.part("pixels", math.prod(sides))
    while True:
        part.at(int(known.sum()))
        if watch.pictures:
            watch.picture("image 0", _tensor(canvas[inner].copy(), sample))
        y, x = (places + half for places in _foremost(known, inner, window, draw))
        if len(y) == 0:
            return _tensor(canvas[inner], sample)
        at = y[:, None] + around[:, 0], x[:, None] + around[:, 1]
        canvas[y, x] = centers[_drawn(distances(canvas[at], known[at]), tolerance, draw)]
        known[y, x] = 1


def _planted(pixels: ndarray, sides: Sides, draw: Generator) -> tuple[ndarray, ndarray]:
    """A canvas with a seed in its middle, black elsewhere, and what is known of it: (H, W), 1 or 0."""
    canvas, known = np.zeros((*sides, pixels.shape[2]), np.float32), np.zeros(sides, np.float32)
    height, width = (min(SMALLEST, side) for side in sides)
    y, x = (int(draw.integers(side - SMALLEST + 1)) for side in pixels.shape[:2])
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    canvas[top : top + height, left : left + width] = pixels[y : y + height, x : x + width]
    known[top : top + height, left : left + width] = 1
    return canvas, known


def _foremost(known: ndarray, inner: tuple[slice, ...], window: int, draw: Generator) -> tuple[ndarray, ...]:
    """Unknown pixels beside known ones with the most known around them of all in their window: y (n,) and x (n,)."""
    counts = uniform_filter(known, window, mode="constant")[inner] * window**2
    edge = (maximum_filter(known, SMALLEST, mode="constant") > known)[inner]
    rank = np.where(edge, 1 + np.round(counts) + draw.random(edge.shape), 0)
    return np.nonzero(edge & (rank == maximum_filter(rank, window, mode="constant")))


def _distances(pixels: ndarray, window: int) -> Callable[[ndarray, ndarray], ndarray]:
    """What gives the distances (n, K) of windows (n, window^2, C), known (n, window^2) in part, to all K of the sample.

    The sum of w (s - g)^2 over the known pixels is a product of the rows (s^2, -2 s) and (w, w g), but for w g^2.
    """
    middle = pixels.mean((0, 1))  # so that squares stay small
    views = np.lib.stride_tricks.sliding_window_view(pixels - middle, (window, window), (0, 1))
    every = views.reshape(-1, pixels.shape[2], window**2).transpose(0, 2, 1)
    table = np.concatenate([np.square(every).sum(2), -2 * every.reshape(len(every), -1)], 1).T.copy()
    weights = _bell(_square(window // 2), window / 6.4)

    def distances(given: ndarray, known: ndarray) -> ndarray:
        shares = weights * known / (known @ weights)[:, None]
        weighted = shares[:, :, None] * (given - middle)
        rows = np.concatenate([shares, weighted.reshape(len(given), -1)], 1)
        return np.asarray(rows @ table + (weighted * (given - middle)).sum((1, 2))[:, None])

    return distances


def _drawn(distances: ndarray, tolerance: float, draw: Generator) -> ndarray:
    """(n,): in each row of `distances` (n, K), one of those that are near enough to the least."""
    near = distances <= (1 + tolerance) * distances.min(1, keepdims=True).clip(min=0) + EQUAL
    return np.asarray(np.where(near, draw.random(near.shape, np.float32), -1).argmax(1))


def swept(
    sample: Tensor,
    size: Sides,
    *,
    window: int = 9,
    levels: int | None = None,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Tensor:
    """A texture (C, *size), float32 in [0, 1], that tiles: its sides meet as its inside does.

    Wei & Levoy (2000), "Fast texture synthesis using tree-structured vector quantization": on each level of a pyramid,
    from coarse to fine, each pixel in raster order becomes that of the sample whose neighborhood is nearest: the pixels
    before it in a window (`window` px a side, around the edges of the result) and, in the coarser level, a window half
    as wide. The start is pixels of the sample drawn at random. `levels` is as many as fit.
    Departures: the search is exact, by matrix products. Only the coarsest level starts at random, the others from the
    one before. Each level is swept once more with whole windows, so that the first lines fit the last. Windows are
    weighted by a Gaussian of sigma = window / 4, and the two levels equally. A pixel comes from a line and a column as
    even or odd as its own, so that it stands to the coarser level as in the sample. Raises InputError.
    """
    pixels = _pixels(sample)
    sides = height_width(size)
    _check_window(window, pixels)
    samples = _pyramid(pixels, window, levels)
    draw = np.random.default_rng(seed)
    coarse: Coarse = None
    part = watch.part("lines", 2 * sum(-(-sides[0] // 2**level) for level in range(len(samples))))
    for level, here in reversed(list(enumerate(samples))):
        height, width = (-(-side // 2**level) for side in sides)
        drawn = here.reshape(-1, here.shape[2])[draw.integers(here[:, :, 0].size, size=(height, width))]
        canvas = drawn if coarse is None else coarse[0].repeat(2, 0).repeat(2, 1)[:height, :width].copy()
        for whole in (False, True):
            for _ in _filled(canvas, here, coarse, _Neighborhood.of(window, whole)):
                part.advance()
                if watch.pictures:
                    watch.picture("image 0", _tensor(canvas.copy(), sample))
        coarse = canvas, here
    return _tensor(canvas, sample)


def _pyramid(pixels: ndarray, window: int, levels: int | None) -> list[ndarray]:
    """The sample and coarser and coarser copies, each half as high and wide, that hold a window."""
    found = [pixels]
    while min(found[-1].shape[:2]) > 2 * window - 2:
        smooth = convolve1d(convolve1d(found[-1], _KERNEL, 0, mode="mirror"), _KERNEL, 1, mode="mirror")
        found.append(smooth[::2, ::2])
    if levels is not None and not 1 <= levels <= len(found):
        raise InputError(f"{levels} levels (accepted: 1 to {len(found)} for {_of(pixels)} and a window of {window} px)")
    return found[:levels]


@dataclass(frozen=True)
class _Neighborhood:
    """What a pixel is compared by, as offsets (n, 2): in other lines, in its own, and in the coarser level."""

    others: ndarray
    beside: ndarray
    above: ndarray
    outer_weights: ndarray  # of others, then above
    beside_weights: ndarray

    @classmethod
    def of(cls, window: int, whole: bool) -> _Neighborhood:
        """All pixels of the window but the middle, or only those before it."""
        offsets, above = _square(window // 2), _square(max(1, window // 4))
        order = offsets @ (window, 1)
        offsets = offsets[order != 0 if whole else order < 0]
        own = offsets[:, 0] == 0
        weights, coarser = _bell(offsets, window / 4), _bell(above, window / 8)
        outer = np.concatenate([weights[~own] / weights.sum(), coarser / coarser.sum()])
        return cls(offsets[~own], offsets[own], above, outer, weights[own] / weights.sum())

    def outer(self, image: ndarray, coarser: ndarray | None, places: ndarray) -> ndarray:
        """(n, D): what lies around the places (n, 2) of an image in other lines, and in the coarser image."""
        found = _around(image, places, self.others)
        return found if coarser is None else np.concatenate([found, _around(coarser, places // 2, self.above)], 1)


@dataclass(frozen=True)
class _Candidates:
    """K pixels (K, C); weighted neighborhoods, (D, K) but for their line and (K, D) in it; half their squares (K,)."""

    colors: ndarray
    outer: ndarray
    beside: ndarray
    squares: ndarray


def _filled(canvas: ndarray, sample: ndarray, coarse: Coarse, near: _Neighborhood) -> Iterator[None]:
    """Fills `canvas` in place and stops after each line: the nearest q of p has the largest p q - q^2 / 2."""
    width, step = canvas.shape[1], 1 if coarse is None else 2
    fits = [[_candidates(sample, coarse, near, (y, x)) for x in range(step)] for y in range(step)]
    columns = (np.arange(width)[:, None] + near.beside[:, 1]) % width
    for y, line in enumerate(canvas):
        row = fits[y % step]
        outer = near.outer(canvas, coarse and coarse[0], _places(np.array([y]), np.arange(width)))
        scores = [outer[x::step] @ fit.outer - fit.squares for x, fit in enumerate(row)]
        for x in range(width):
            fit = row[x % step]
            line[x] = fit.colors[(scores[x % step][x // step] + fit.beside @ line[columns[x]].ravel()).argmax()]
        yield


def _candidates(sample: ndarray, coarse: Coarse, near: _Neighborhood, phase: Sides) -> _Candidates:
    """Pixels with all their neighborhood inside the sample; above a coarser level, every other one from `phase` on."""
    half, reach = -near.others.min(), near.above.max()
    axes = [np.arange(half, side - half) for side in sample.shape[:2]]
    if coarse is not None:
        held = [(at // 2 >= reach) & (at // 2 < n - reach) for at, n in zip(axes, coarse[1].shape, strict=False)]
        axes = [at[ok & (at % 2 == first)] for at, ok, first in zip(axes, held, phase, strict=True)]
    places = _places(*axes)
    outer = near.outer(sample, coarse and coarse[1], places)
    beside = _around(sample, places, near.beside)
    heavy = outer * near.outer_weights.repeat(sample.shape[2])[: outer.shape[1]]
    line = beside * near.beside_weights.repeat(sample.shape[2])
    squares = ((heavy * outer).sum(1) + (line * beside).sum(1)) / 2
    return _Candidates(sample[places[:, 0], places[:, 1]], heavy.T.copy(), line, squares)


def _around(image: ndarray, places: ndarray, offsets: ndarray) -> ndarray:
    """(n, offsets C): the pixels at `offsets` from each of the places (n, 2), around the edges."""
    at = (places[:, None] + offsets) % image.shape[:2]
    return np.asarray(image[at[..., 0], at[..., 1]].reshape(len(places), -1))


def quilted(
    sample: Tensor,
    size: Sides,
    *,
    block: int | None = None,
    overlap: int | None = None,
    tolerance: float = 0.1,
    tileable: bool = False,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Tensor:
    """A texture (C, *size), float32 in [0, 1], of square blocks of the sample.

    Efros & Freeman (2001), "Image quilting for texture synthesis and transfer": in raster order, each block is drawn
    from those whose squared difference to what they overlap is at most 1 + `tolerance` times the least, and joined
    along the path through each overlap on which the two differ least; it shows inside of all its paths. `block` (px a
    side, a third of the sample's shorter one) should hold the largest thing that repeats; `overlap` (px, a sixth of the
    block) should tell where in the pattern it is. `tileable`: the blocks go around the edges, evenly spaced, and the
    last of each line and the last line are joined on both sides. Raises InputError for what can't be used.
    """
    pixels = _pixels(sample)
    sides = height_width(size)
    _check_tolerance(tolerance)
    block, overlap = _blocks(pixels, sides, block, overlap, tileable)
    draw = np.random.default_rng(seed)
    tops, lefts = (_starts(side, block, overlap, tileable) for side in sides)
    height, width = sides if tileable else (tops[-1] + block, lefts[-1] + block)
    canvas = np.zeros((height, width, pixels.shape[2]), np.float32)
    for j, i in watch.each("blocks", list(itertools.product(range(len(tops)), range(len(lefts))))):
        (above, below), (before, after) = _depths(tops, j, block, height), _depths(lefts, i, block, width)
        at = np.ix_((tops[j] + np.arange(block)) % height, (lefts[i] + np.arange(block)) % width)
        canvas[at] = _laid(pixels, canvas[at], (before, above, after, below), tolerance, draw)
        if watch.pictures:
            watch.picture("image 0", _tensor(canvas[: sides[0], : sides[1]].copy(), sample))
    return _tensor(canvas[: sides[0], : sides[1]], sample)


def _blocks(pixels: ndarray, sides: Sides, block: int | None, overlap: int | None, tileable: bool) -> tuple[int, int]:
    """The side of a block and how far it overlaps the one before, checked."""
    most = min(*pixels.shape[:2], *(sides if tileable else ()))
    if block is None:
        block = max(2, min(most, min(pixels.shape[:2]) // 3))
    if not 2 <= block <= most:
        result = f" and of a result of {sides[0]}x{sides[1]} px" if tileable else ""
        raise InputError(f"block of {block} px (accepted: 2 or more, at most the sides of {_of(pixels)}{result})")
    if overlap is None:
        overlap = max(1, round(block / 6))
    if not 1 <= overlap <= block // 2:
        raise InputError(f"overlap of {overlap} px (accepted: 1 to {block // 2}, half of a block of {block} px)")
    return block, overlap


def _starts(side: int, block: int, overlap: int, tileable: bool) -> list[int]:
    """Where blocks begin along a side; those that tile lie evenly."""
    step = block - overlap
    count = math.ceil(side / step) if tileable else max(1, math.ceil((side - overlap) / step))
    return [round(i * side / count) if tileable else i * step for i in range(count)]


def _depths(starts: list[int], i: int, block: int, side: int) -> tuple[int, int]:
    """How far block `i` overlaps the one before, and the first one around the edge; at most half a block each."""
    if i == 0:
        return 0, 0
    before, after = block - (starts[i] - starts[i - 1]), starts[i] + block - side
    return min(before, block // 2), min(max(0, after), block // 2)


def _laid(pixels: ndarray, old: ndarray, depths: tuple[int, ...], tolerance: float, draw: Generator) -> ndarray:
    """`old` (b, b, C) under a block that fits it; `depths`: how far its left, top, right and bottom are known."""
    block = len(old)
    known = np.zeros((block, block), bool)
    for turns, depth in enumerate(depths):
        np.rot90(known, turns)[:, :depth] = True
    errors = overlap_errors(pixels, old, known) / max(1, known.sum())
    y, x = divmod(int(_drawn(errors.reshape(1, -1), tolerance, draw)[0]), errors.shape[1])
    new = pixels[y : y + block, x : x + block]
    differences = np.square(new - old).sum(2)
    shown = np.ones((block, block), bool)
    for turns, depth in enumerate(depths):
        if depth:
            path = cheapest_path(np.rot90(differences, turns)[:, :depth])
            np.rot90(shown, turns)[:, :depth] &= np.arange(depth) >= path[:, None]
    return np.where(shown[:, :, None], new, old)


def overlap_errors(pixels: ndarray, old: ndarray, known: ndarray) -> ndarray:
    """(H - h + 1, W - w + 1): squared differences of old (h, w, C), where known (h, w), to parts of pixels."""
    image, mask = pixels.astype(np.float64), known.astype(np.float64)
    wanted = mask[:, :, None] * old
    squares = fftconvolve(np.square(image).sum(2), mask[::-1, ::-1], "valid")
    products = fftconvolve(image, wanted[::-1, ::-1], "valid", axes=(0, 1)).sum(2)
    return np.asarray(squares - 2 * products + (wanted * old).sum())


def cheapest_path(costs: ndarray) -> ndarray:
    """(H,): columns of the path down costs (H, W), one column aside a line at most, whose costs add up to the least."""
    sums = costs.astype(np.float64)
    for y in range(1, len(sums)):
        padded = np.pad(sums[y - 1], 1, constant_values=np.inf)
        sums[y] += np.minimum(np.minimum(padded[:-2], padded[2:]), padded[1:-1])
    path = [int(sums[-1].argmin())]
    for line in sums[-2::-1]:
        low = max(0, path[-1] - 1)
        path.append(low + int(line[low : path[-1] + 2].argmin()))
    return np.array(path[::-1])


def _pixels(sample: Tensor) -> ndarray:
    """(H, W, C) float32 of a sample that can be used."""
    if not isinstance(sample, Tensor):
        raise InputError(f"sample is a {type(sample).__name__} (accepted: a float tensor (C, H, W) in [0, 1])")
    if sample.ndim != 3 or sample.shape[0] not in (1, 3):
        raise InputError(f"sample of shape {tuple(sample.shape)} (accepted: (C, H, W) of 1 or 3 channels)")
    if not sample.is_floating_point():
        raise InputError(f"sample of {sample.dtype} (accepted: float in [0, 1]; divide bytes by 255)")
    pixels = np.ascontiguousarray(sample.detach().cpu().float().numpy().transpose(1, 2, 0))
    if min(pixels.shape[:2]) < SMALLEST:
        raise InputError(f"{_of(pixels)} (accepted: {SMALLEST}x{SMALLEST} px or more)")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"sample with pixels from {low:.6g} to {high:.6g} (accepted: finite, in [0, 1])")
    return pixels


def _check_window(window: int, pixels: ndarray) -> None:
    side = min(pixels.shape[:2])
    if window % 2 != 1 or not 3 <= window <= side:
        raise InputError(f"window of {window} px (accepted: odd, 3 to {side - 1 + side % 2} for {_of(pixels)})")


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < math.inf:
        raise InputError(f"tolerance of {tolerance:g} (accepted: 0 or more, and finite)")


def _of(pixels: ndarray) -> str:
    return f"a sample of {pixels.shape[0]}x{pixels.shape[1]} px"


def _tensor(canvas: ndarray, sample: Tensor) -> Tensor:
    """(C, H, W), where the sample is."""
    return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))).to(sample.device)


def _square(half: int) -> ndarray:
    """(n, 2): all offsets up to `half` px along both axes."""
    return _places(np.arange(-half, half + 1), np.arange(-half, half + 1))


def _bell(offsets: ndarray, sigma: float) -> ndarray:
    return np.asarray(np.exp(-np.square(offsets).sum(1) / (2 * sigma**2)), np.float32)


def _places(ys: ndarray, xs: ndarray) -> ndarray:
    """(n, 2): every y with every x, in raster order."""
    return np.stack(np.meshgrid(ys, xs, indexing="ij"), -1).reshape(-1, 2)
