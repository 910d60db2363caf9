"""The parts of the audit against plain loops and scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from netloupe.studies.audit import effects as audit_effects
from netloupe.studies.audit import maps as audit_maps
from netloupe.studies.audit import places as audit_places
from netloupe.studies.audit.effects import hidden_sides


def test_shares_are_of_the_positive_part() -> None:
    importance = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    importance[1] = -1
    importance[2, 0, 0] = float("nan")
    found = audit_places.shares(importance)
    positive = importance[0].double().clamp(min=0)
    for y, x in product(range(8), repeat=2):
        expected = positive[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum() / positive.sum()
        assert found[0, 8 * y + x] == pytest.approx(float(expected))
    assert np.isnan(found[1:]).all()


def test_mass_in_boxes_and_its_excess() -> None:
    rng = np.random.default_rng(0)
    cells = rng.dirichlet(np.ones(64), 12)
    labels = np.array([0, 1, 2] * 4)
    inside_all = audit_places.in_boxes(cells)
    i = audit_places.boxes().index((1, 2, 4, 4))
    by_hand = [sum(cells[n, 8 * y + x] for y in range(1, 4) for x in range(2, 4)) for n in range(12)]
    assert inside_all[:, i] == pytest.approx(by_hand)
    own, others, z = audit_places.excess(inside_all, labels, 0, np.flatnonzero(labels == 0))
    groups = [[by_hand[n] for n in range(12) if labels[n] == c] for c in range(3)]
    means = [sum(g) / 4 for g in groups]
    within = sum(sum((v - m) ** 2 for v in g) / 4 for g, m in zip(groups, means, strict=True)) / 3
    between = ((means[1] - means[2]) / 2) ** 2
    assert own[i] == pytest.approx(means[0])
    assert others[i] == pytest.approx((means[1] + means[2]) / 2)
    assert z[i] == pytest.approx((means[0] - (means[1] + means[2]) / 2) / (within / 4 + between) ** 0.5, rel=1e-4)


def test_places_elsewhere_have_the_size_and_do_not_overlap() -> None:
    for box in ((0, 6, 2, 8), (0, 0, 1, 8), (2, 2, 6, 6), (3, 3, 4, 4)):
        found = audit_places.elsewhere(box, 5, (0, 1))
        assert found == audit_places.elsewhere(box, 5, (0, 1))
        least = 0 if box != (2, 2, 6, 6) else 4
        for one in found:
            assert (one[2] - one[0], one[3] - one[1]) == (box[2] - box[0], box[3] - box[1])
            assert audit_places.shared(one, box) == least
    assert max(map(audit_places.area, audit_places.boxes())) == audit_places.LARGEST


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 6, 2, 8), "the top right corner"),
        ((6, 0, 8, 3), "the bottom left corner"),
        ((0, 0, 1, 8), "the top edge"),
        ((1, 3, 3, 5), "the top"),
        ((3, 0, 5, 1), "the left edge"),
        ((3, 3, 5, 5), "the middle"),
    ],
)
def test_words_for_places(box: audit_places.Box, words: str) -> None:
    assert audit_places.place_words(box) == words


def test_filling_reads_nothing_of_the_place_and_leaves_the_rest() -> None:
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., 2:6, 3:8] = 1 - other[..., 2:6, 3:8]
    found = audit_effects.filled(images, (2, 3, 6, 8))
    assert torch.equal(found, audit_effects.filled(other, (2, 3, 6, 8)))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[2:6, 3:8] = True
    assert torch.equal(found[..., ~mask], images[..., ~mask])
    assert (found[..., mask] != images[..., mask]).any()
    even = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(audit_effects.filled(even, (0, 0, 4, 4)), even)


def test_pasting_takes_the_place_alone() -> None:
    images, donors = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    found = audit_effects.pasted(images, donors, (1, 2, 4, 8))
    assert found.sum((1, 2, 3)).tolist() == [3 * 18] * 2
    assert found[0, 0, 1:4, 2:8].min() == 1


def test_the_sides_of_a_box() -> None:
    images = torch.rand(1, 3, 8, 8)
    only, without = hidden_sides(images, torch.tensor([[1.0, 2, 4, 8]]), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(only[..., 1:4, 2:8], images[..., 1:4, 2:8])
    assert torch.equal(only + without, images + torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))


def test_contrast_is_two_t_tests() -> None:
    rng = np.random.default_rng(0)
    own, far, others = rng.normal(0.6, 0.2, 12), rng.normal(0.1, 0.1, 12), rng.normal(0.05, 0.1, 30)
    found = audit_effects.contrast(own, far, others)
    paired = stats.ttest_rel(own, far, alternative="greater").pvalue
    welch = stats.ttest_ind(own - far, others, equal_var=False, alternative="greater").pvalue
    assert found.p == pytest.approx(max(paired, welch))
    assert found.p > 0
    assert found.effect == pytest.approx((own - far).mean() - others.mean())
    bounds = (
        stats.ttest_rel(own, far, alternative="greater").confidence_interval(0.95).low,
        stats.ttest_ind(own - far, others, equal_var=False, alternative="greater").confidence_interval(0.95).low,
    )
    assert found.low == pytest.approx(min(bounds))
    assert audit_effects.contrast(own, far, others - 10).effect == pytest.approx((own - far).mean())


def test_holm() -> None:
    assert audit_effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert audit_effects.holm([0.9, 0.8]) == [1.0, 1.0]
    assert audit_effects.holm([]) == []


def test_groups_that_are_there_are_found() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 0.1, (5, 3)), rng.normal(3, 0.1, (9, 3))])
    labels, apart = audit_maps.group(vectors, 0)
    assert labels.tolist() == [1] * 5 + [0] * 9
    assert apart > 0.8
    for whole in (rng.normal(size=(20, 30)), np.ones((9, 3)), vectors[:4]):
        labels, apart = audit_maps.group(whole, 0)
        assert not labels.any()
        assert np.isnan(apart)
