"""From saliency maps to objects, on photographs whose object is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from netloupe.analysis.objects import OUTLINE, LocatedObject, _cut, locate_object
from netloupe.core.errors import InputError

BOX = (12, 20, 40, 52)


def scene(seed: int = 0, height: int = 64, width: int = 72) -> tuple[Tensor, Tensor, np.ndarray]:
    """(photo with a red ellipse on green, noisy saliency that prefers it, the ellipse's mask)."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    top, left, bottom, right = BOX
    dy, dx = (
        (y + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2),
        (x + 0.5 - (left + right) / 2) / ((right - left) / 2),
    )
    mask = dy**2 + dx**2 <= 1
    colors = torch.where(
        mask, torch.tensor([0.8, 0.2, 0.15]).view(3, 1, 1), torch.tensor([0.2, 0.5, 0.25]).view(3, 1, 1)
    )
    photo = (colors + 0.04 * torch.randn(3, height, width, generator=random)).clamp(0, 1)
    saliency = torch.rand(height, width, generator=random) ** 2 * (0.3 + mask)
    return photo, saliency, mask.numpy()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_object_is_found_from_scattered_saliency(seed: int) -> None:
    photo, saliency, mask = scene(seed)
    strongest = (saliency > saliency.quantile(0.95)).numpy()
    assert iou(strongest, mask) < 0.4  # the seeds alone are not the object
    found = locate_object(photo, saliency)
    assert found.mask.dtype == bool
    assert found.mask.shape == (64, 72)
    assert iou(found.mask, mask) > 0.95
    assert found.iou(BOX) > 0.9
    assert np.abs(np.array(found.box) - BOX).max() <= 1
    assert found.share == pytest.approx(mask.mean(), abs=0.01)


def test_the_photograph_may_have_a_higher_resolution_than_the_map() -> None:
    photo, saliency, mask = scene()
    small = torch.nn.functional.avg_pool2d(saliency[None], 4)[0]
    found = locate_object(photo, small)
    assert found.mask.shape == (64, 72)
    assert iou(found.mask, mask) > 0.9


def test_only_the_largest_part_is_kept() -> None:
    photo, saliency, mask = scene()
    photo[:, 54:62, 2:10] = torch.tensor([0.8, 0.2, 0.15]).view(3, 1, 1)  # a second red thing
    found = locate_object(photo, saliency)
    assert not found.mask[50:, :12].any()
    assert iou(found.mask, mask) > 0.95


def test_gray_photographs_and_sparse_maps() -> None:
    photo, saliency, mask = scene()
    gray = photo.mean(0, keepdim=True)
    gray[0][torch.from_numpy(mask)] += 0.4
    assert iou(locate_object(gray.clamp(0, 1), saliency).mask, mask) > 0.9
    sparse = saliency * torch.from_numpy(mask) * (saliency > 0.8)
    assert 0.01 < float((sparse > 0).float().mean()) < 0.04  # less than the seeds' shares
    assert iou(locate_object(photo, sparse).mask, mask) > 0.9


@pytest.mark.parametrize(("color", "taken"), [((0.75, 0.3, 0.1), True), ((0.25, 0.5, 0.2), False)])
def test_middling_saliency_speaks_for_nothing_so_colors_decide(color: tuple[float, ...], taken: bool) -> None:
    photo, _, mask = scene()
    saliency = torch.rand(64, 72, generator=torch.Generator().manual_seed(1)) * 0.1 + torch.from_numpy(mask)
    photo[:, 16:36, 52:68] = torch.tensor(color).view(3, 1, 1)  # beside the object
    saliency[16:36, 50:68] = 0.5
    found = locate_object(photo, saliency).mask[16:36, 54:68]
    assert found.mean() > 0.95 if taken else found.mean() < 0.05


def test_single_pixels_of_another_color_do_not_tear_it() -> None:
    photo, saliency, mask = scene()
    noise = 0.3 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(2))
    assert iou(locate_object((photo + noise).clamp(0, 1), saliency).mask, mask) > 0.92


def test_it_says_the_same_each_time() -> None:
    photo, saliency, _ = scene()
    assert (locate_object(photo, saliency).mask == locate_object(photo, saliency).mask).all()


def test_the_cut_is_the_cheapest_of_all() -> None:
    """Against every labeling of a 3 x 4 image."""
    every = np.array([[bool(i >> bit & 1) for bit in range(12)] for i in range(2**12)]).reshape(-1, 3, 4)
    neighbors = [
        ((y, x), (y + dy, x + dx))
        for y in range(3)
        for x in range(4)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))
        if y + dy < 3 and 0 <= x + dx < 4
    ]
    divided = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        evidence, colors = random.normal(0, 3, (3, 4)), random.uniform(0, 1, (3, 4, 1))
        squares = np.array([((colors[p] - colors[q]) ** 2).sum() for p, q in neighbors])
        costs = -(every * evidence).sum((1, 2))
        for (p, q), square in zip(neighbors, squares, strict=True):
            price = 0.8 * np.exp(-square / (2 * squares.mean())) / np.hypot(p[0] - q[0], p[1] - q[1])
            costs += price * (every[:, *p] != every[:, *q])
        found = _cut(evidence, colors, 0.8)
        cost = costs[(every == found).all((1, 2))][0]
        assert cost <= costs.min() + 0.1  # capacities are rounded to 0.01
        divided += 0 < found.sum() < 12
    assert divided >= 3


def test_boxes_and_their_overlap() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:6, 3:11] = True
    found = LocatedObject(mask)
    assert found.box == (2, 3, 6, 11)
    assert found.iou((2, 3, 6, 11)) == 1
    assert found.iou((4, 3, 8, 11)) == pytest.approx(16 / 48)
    assert found.iou((6, 0, 8, 3)) == 0
    with pytest.raises(InputError, match="accepted: top, left, bottom, right"):
        found.iou((5, 5, 5, 9))


def test_it_is_drawn_on_the_photograph() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    photo = np.full((32, 32, 3), 200, dtype=np.uint8)
    drawn = LocatedObject(mask).drawn(photo)
    assert drawn.shape == photo.shape
    assert (drawn[15, 15] == 200).all()
    assert drawn[2, 2].max() < 100
    assert (drawn[8, 10:20] == OUTLINE).all()
    assert (drawn[23, 10:20] == OUTLINE).all()
    assert (photo == 200).all()


@pytest.mark.parametrize(
    ("saliency", "message"),
    [
        (torch.zeros(64, 72), "0 everywhere: no pixel stands out"),
        (torch.full((64, 72), 2.5), "2.5 everywhere"),
        (torch.full((64, 72), torch.nan), "not finite"),
        (torch.linspace(-1, 1, 64 * 72).view(64, 72), "negative"),
        (torch.zeros(1, 64, 72), r"accepted: \(h, w\)"),
    ],
)
def test_maps_without_an_object(saliency: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        locate_object(scene()[0], saliency)


def test_wrong_images_and_quantiles() -> None:
    photo, saliency, _ = scene()
    with pytest.raises(InputError, match=r"accepted: \(3, H, W\)"):
        locate_object(photo[None], saliency)
    for low, high in ((0.5, 0.4), (0.0, 0.9), (0.3, 1.0)):
        with pytest.raises(InputError, match="quantiles"):
            locate_object(photo, saliency, foreground=high, background=low)


def test_colors_that_tell_nothing_apart() -> None:
    with pytest.raises(InputError, match="no region stands out"):
        locate_object(torch.full((3, 32, 32), 0.5), scene()[1])
