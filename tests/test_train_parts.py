"""The parts of training: crops, scores, reading images, rounding weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.training.labeled import Images, random_crops, read_labeled, score
from netloupe.training.recipes import ClassifierRecipe
from netloupe.zoo.state import as_stored
from test_train import colored
from watch_helpers import Recorder


def test_crops_of_the_whole_image_are_it_or_its_mirror_image() -> None:
    pixels = colored(64).pixels
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand((5, 64), generator=torch.Generator().manual_seed(0))
    found = random_crops(pixels, 16, 1.0, generator)
    whole = ((drawn[1] * 2 - 1).abs() < 0.02).nonzero().flatten().tolist()  # aspect ratio almost 1: all of the image
    mirrored = [bool(drawn[4, i] < 0.5) for i in whole]
    for i, mirror in zip(whole, mirrored, strict=True):
        wanted = pixels[i].flip(-1) if mirror else pixels[i]
        assert float((found[i] - wanted.float()).abs().mean()) < 3
    assert len(whole) > 0


def test_crops_are_the_boxes_that_were_drawn() -> None:
    """On a linear ramp, bilinear sampling gives each output pixel the coordinate of its center, exactly."""
    ramp = torch.arange(64, dtype=torch.uint8).expand(200, 1, 64, 64).contiguous()
    drawn = torch.rand((5, 200), generator=torch.Generator().manual_seed(7))
    across = random_crops(ramp, 8, 0.35, torch.Generator().manual_seed(7))
    down = random_crops(ramp.transpose(2, 3).contiguous(), 8, 0.35, torch.Generator().manual_seed(7))
    areas = []
    for i in range(200):
        area = 0.35 + 0.65 * float(drawn[0, i])
        aspect = (4 / 3) ** (2 * float(drawn[1, i]) - 1)
        height, width = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
        left, top = float(drawn[2, i]) * (1 - width) * 64, float(drawn[3, i]) * (1 - height) * 64
        xs = [left + (k + 0.5) * width * 8 - 0.5 for k in range(8)]
        ys = [top + (k + 0.5) * height * 8 - 0.5 for k in range(8)]
        xs = xs[::-1] if drawn[4, i] < 0.5 else xs
        inside = slice(1, -1)  # the outermost may lie beyond the centers of the image's outermost pixels
        np.testing.assert_allclose(across[i, 0, 0, inside].numpy(), xs[inside], atol=1e-3)
        np.testing.assert_allclose(down[i, 0, inside, 0].numpy(), ys[inside], atol=1e-3)
        areas.append(height * width)
    assert min(areas) >= 0.35 - 1e-6
    assert float(across.min()) >= 0
    assert float(across.max()) <= 63


def test_the_score_agrees_with_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    table, labels = torch.randn(40, 7, generator=generator), torch.randint(0, 6, (40,), generator=generator)
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    found = score(lambda part: table[part.flatten().long()], Images(pixels, labels), 7, batch_size=9)
    first, five, loss, hits = 0, 0, 0.0, {c: [] for c in range(7)}  # type: ignore[var-annotated]
    for row, label in zip(table.double().tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(7), key=lambda c: -row[c])
        first += ranked[0] == label
        five += label in ranked[:5]
        hits[label].append(ranked[0] == label)
        loss -= row[label] - np.log(np.exp(row).sum())
    assert (found.top1, found.top5) == pytest.approx((first / 40, five / 40))
    assert found.loss == pytest.approx(loss / 40, rel=1e-5)
    assert found.by_class == [pytest.approx(sum(h) / len(h)) if h else None for h in hits.values()]
    assert found.by_class[6] is None
    assert 0 < first < five < 40


def test_broken_and_unlabeled_images_are_left_out(tmp_path: Path) -> None:
    for i, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (i * 50, 0, 255)).save(tmp_path / name)
    (tmp_path / "b/0.png").write_bytes(b"not an image")
    source = open_source(tmp_path)
    watch = Recorder()
    images = read_labeled(source, 8, watch)
    assert images.labels.tolist() == [0, 0, 1]
    assert images.left_out == 1
    assert images.pixels[:, :, 4, 4].tolist() == [[0, 0, 255], [50, 0, 255], [100, 0, 255]]
    assert watch.told == [("reading images", 0, 4), ("reading images", 4, 4)]
    unlabeled = ImageSource(source.spec, source.names, source.opener, [0, None, 1, 1])
    assert read_labeled(unlabeled, 8).left_out == 2
    assert read_labeled(source, 8, channels=1).pixels.shape == (3, 1, 8, 8)
    with pytest.raises(InputError, match="has no labels, which training needs"):
        read_labeled(ImageSource(source.spec, source.names, source.opener), 8)


def test_values_beyond_half_precision_stay_as_they_are() -> None:
    module = nn.BatchNorm2d(2)
    module.running_var.copy_(torch.tensor([1.0, 1e6]))
    state = as_stored(module)
    assert state["running_var"].tolist() == [1.0, 1e6]
    assert state["weight"].dtype is torch.float16
    assert state["num_batches_tracked"].dtype is torch.int64


def test_the_rate_goes_through_one_cycle_and_then_down_once_more() -> None:
    recipe = ClassifierRecipe(sizes=((8, 3), (12, 5)), size=16, rate=0.4, warmup=0.25, finish=2, finish_rate=0.1)
    assert [recipe.side(epoch) for epoch in range(recipe.epochs)] == [8] * 3 + [12] * 5 + [16] * 2
    rates = [recipe.learning_rate(step, 10) for step in range(100)]
    for step, expected in (
        (0, 0.0),
        (10, 0.2),
        (20, 0.4),
        (50, 0.2),
        (79, 0.4 / 60),
        (80, 0.1),
        (90, 0.05),
        (99, 0.005),
    ):
        assert rates[step] == pytest.approx(expected)


def test_random_numbers_depend_on_seed_and_epoch_alone() -> None:
    pixels = colored(8).pixels

    def drawn(seed: int) -> Tensor:
        return random_crops(pixels, 8, 0.35, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
