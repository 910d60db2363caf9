"""From attribution to object: which region of a photograph a saliency map speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.given import checked
from netloupe.render.colors import enlarged
from netloupe.render.pictures import Picture, from_pixels

Box = tuple[int, int, int, int]

OUTLINE = (255, 77, 46)

_COMPONENTS = 5  # Gaussians of each color model
_FLOOR = 4.0  # added to their variances, in CIE Lab units squared, so that an even color has a density
_SMOOTHNESS = 2.0  # price of a border between two pixels of like color, in nats, per pixel of the saliency map
_CERTAIN = 10.0  # nats: more than that no pixel's color counts
_UNIT = 100  # capacities are whole numbers of 1 / _UNIT nats


@dataclass(frozen=True)
class LocatedObject:
    """One connected region of a photograph. mask: (H, W) bool, with at least one pixel."""

    mask: np.ndarray

    @property
    def box(self) -> Box:
        """The smallest box around the mask: (top, left, bottom, right) in its pixels, bottom and right excluded."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1

    @property
    def share(self) -> float:
        """The mask's part of the photograph, in (0, 1]."""
        return float(self.mask.mean())

    def iou(self, box: Sequence[float]) -> float:
        """Intersection over union of `self.box` and a box (top, left, bottom, right) in the mask's pixels."""
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise InputError(f"box {tuple(box)} (accepted: top, left, bottom, right with top < bottom, left < right)")
        own = self.box
        height, width = (max(0.0, min(own[i + 2], box[i + 2]) - max(own[i], box[i])) for i in (0, 1))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (own, box)]
        return float(height * width / (sum(areas) - height * width))

    def drawn(self, photo: Picture) -> Picture:
        """The photograph (H, W, 3), dimmed outside the mask, with the mask's outline and the box."""
        size = photo.shape[:2]
        inside = enlarged(self.mask.astype(np.float32), size) > 0.5
        shown = np.where(inside[..., None], photo, 30 + photo * 0.3).round().astype(np.uint8)
        around = np.pad(inside, 1, mode="edge")
        shown[inside & ~(around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])] = OUTLINE
        top, left, bottom, right = (
            round(side * size[i % 2] / self.mask.shape[i % 2]) for i, side in enumerate(self.box)
        )
        shown[[top, bottom - 1], left:right] = OUTLINE
        shown[top:bottom, [left, right - 1]] = OUTLINE
        return shown


@checked
def locate_object(
    image: Tensor, saliency: Tensor, *, foreground: float = 0.95, background: float = 0.30
) -> LocatedObject:
    """The object in an image (C, H, W) in [0, 1], from a saliency map (h, w), at least 0, of it.

    Simonyan et al. (2013), section 3.2: the colors of pixels above the `foreground` quantile of saliency and of those
    below the `background` quantile give two Gaussian mixtures, GraphCut (Boykov & Jolly 2001) divides the image by
    them, and the largest connected part of the foreground is the object. Where the paper is silent: mixtures of five
    over CIE Lab, eight neighbors, borders cheap where the color changes, their price measured on boxed images. The
    map is enlarged to the image, whose size the mask has; an image of 256 px takes half a second.

    Raises InputError for a map that is constant (so also zero), negative or not finite, for quantiles that are not
    in order, and where no region stands out by its colors.
    """
    if not 0 < background <= foreground < 1:
        raise InputError(f"quantiles {background} and {foreground} (accepted: 0 < background <= foreground < 1)")
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"an image of shape {tuple(image.shape)} (accepted: (3, H, W) or (1, H, W))")
    values = saliency.detach().double().cpu().numpy()
    if values.ndim != 2:
        raise InputError(f"a saliency map of shape {values.shape} (accepted: (h, w))")
    if not np.isfinite(values).all() or values.min() < 0:
        raise InputError("a saliency map with values that are negative or not finite (accepted: at least 0)")
    if values.min() == values.max():
        raise InputError(f"a saliency map that is {values.flat[0]:.3g} everywhere: no pixel stands out")
    picture = from_pixels(image.detach().float().cpu().numpy())
    zoom = min(picture.shape[0] / values.shape[0], picture.shape[1] / values.shape[1])
    mask = _segmented(picture, enlarged(values, picture.shape[:2]), foreground, background, _SMOOTHNESS * zoom)
    if not mask.any():
        raise InputError("no region stands out by its colors from what the saliency map leaves out")
    return LocatedObject(_largest(mask))


def _segmented(
    picture: Picture, saliency: np.ndarray, foreground: float, background: float, price: float
) -> np.ndarray:
    """(H, W) bool: GraphCut by the colors of the seeds."""
    from skimage.color import rgb2lab

    colors = rgb2lab(picture)
    high, low = np.quantile(saliency, [foreground, background])
    object_seeds = saliency > high if (saliency > high).any() else saliency == saliency.max()
    other_seeds = (saliency <= low) & ~object_seeds
    evidence = _density(colors, object_seeds) - _density(colors, other_seeds)
    return _cut(np.clip(evidence, -_CERTAIN, _CERTAIN), colors, price)


def _density(colors: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """(H, W): log density of each pixel's color under a mixture of Gaussians fitted to the seeds'."""
    from sklearn.mixture import GaussianMixture

    known = colors[seeds]
    count = min(_COMPONENTS, len(np.unique(known, axis=0)))
    if len(known) == 1:  # as many as scikit-learn wants
        known = np.repeat(known, 2, axis=0)
    mixture = GaussianMixture(count, reg_covar=_FLOOR, random_state=0)
    return np.asarray(mixture.fit(known).score_samples(colors.reshape(-1, 3)).reshape(colors.shape[:2]))


def _cut(evidence: np.ndarray, colors: np.ndarray, price: float) -> np.ndarray:
    """(H, W) bool: the minimum of the evidence lost plus the price of the border, as the minimum cut of a graph.

    A border between neighbors p, q costs price · exp(-|c_p - c_q|² / (2 σ²)) / |p - q|, with σ² the mean over
    neighbors of the squared difference of their colors.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    ends, prices = _borders(colors, price)
    pixel, count = np.arange(evidence.size), evidence.size
    source, sink = np.full(count, count), np.full(count, count + 1)
    rows = np.concatenate([ends[0], ends[1], source, pixel])
    columns = np.concatenate([ends[1], ends[0], pixel, sink])
    costs = np.concatenate([prices, prices, evidence.ravel().clip(min=0), (-evidence).ravel().clip(min=0)])
    capacity = csr_array(((costs * _UNIT).round().astype(np.int32), (rows, columns)), shape=(count + 2,) * 2)
    capacity.eliminate_zeros()
    left_over = capacity - maximum_flow(capacity, count, count + 1).flow
    left_over.eliminate_zeros()
    reached = np.zeros(count + 2, dtype=bool)
    reached[breadth_first_order(left_over, count, return_predecessors=False)] = True
    return reached[:count].reshape(evidence.shape)


def _borders(colors: np.ndarray, price: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighboring pixels (2, E), each once, and the price of a border between them (E,)."""
    height, width = colors.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    pairs, squares, lengths = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        other = slice(dy, height), slice(max(0, dx), width - max(0, -dx))
        pairs.append(np.stack([index[one].ravel(), index[other].ravel()]))
        squares.append(((colors[one] - colors[other]) ** 2).sum(-1).ravel())
        lengths.append(np.full(pairs[-1].shape[1], np.hypot(dy, dx)))
    differences = np.concatenate(squares)
    usual = max(float(differences.mean()), 1e-9)
    return np.concatenate(pairs, axis=1), price * np.exp(-differences / (2 * usual)) / np.concatenate(lengths)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest part of the mask whose pixels hang together by their sides."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    return np.asarray(parts == 1 + np.bincount(parts[mask])[1:].argmax())
