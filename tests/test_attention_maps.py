"""Maps of where tokens look: from which token, and what is measured over images, by loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netloupe
from attention_helpers import HEADS, PATCH, SIDE, ViT, fresh, images, vit, weights_by_hand
from netloupe.analysis.attention.measure import attention_maps
from netloupe.analysis.attention.record import AttentionMaps
from netloupe.analysis.attention.task import AttentionTask
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

GRID = SIDE // PATCH
LAYER = "blocks.1.attn"


def by_hand(prefix: int, image: torch.Tensor) -> np.ndarray:
    module = vit(prefix=prefix).module
    assert isinstance(module, ViT)
    return weights_by_hand(module, image)[1].numpy()


@pytest.mark.parametrize("prefix", [1, 3, 0])
def test_from_the_first_token_or_all_patches_or_a_place(prefix: int) -> None:
    net, x = vit(prefix=prefix), images(1)
    weights = by_hand(prefix, x[0])
    rows = weights[:, 0] if prefix else weights.mean(1)
    found = attention_maps(net, x)
    assert list(found.looks) == list(net.attentions)
    assert np.allclose(found.looks[LAYER].maps, rows[:, prefix:].reshape(HEADS, GRID, GRID), atol=1e-9)
    assert ("first token" in found.origin) == (prefix > 0)
    found = attention_maps(net, x[0], [LAYER], origin=(1, 2))
    expected = weights[:, prefix + GRID + 2, prefix:].reshape(HEADS, GRID, GRID)
    assert np.allclose(found.looks[LAYER].maps, expected, atol=1e-9)
    assert (found.place, found.origin) == ((4, 8, 8, 12), "the patch in row 1, column 2")


@pytest.mark.parametrize("prefix", [2, 0])
def test_what_is_measured_is_so_by_loops(prefix: int) -> None:
    net, x = vit(prefix=prefix), images(1)
    weights = by_hand(prefix, x[0])
    one = attention_maps(net, x).looks[LAYER]
    assert one.distance is not None
    assert one.entropy is not None
    assert one.likeness is not None
    count = GRID * GRID
    for h in range(HEADS):
        far, wide = 0.0, 0.0
        for i in range(count):
            row = weights[h, prefix + i]
            wide -= sum(w * math.log2(w) for w in row) / count
            among = sum(row[prefix:])
            for j in range(count):
                apart = PATCH * math.hypot(i // GRID - j // GRID, i % GRID - j % GRID)
                far += row[prefix + j] / among * apart / count
        assert one.distance[h] == pytest.approx(far, abs=1e-6)
        assert one.entropy[h] == pytest.approx(wide, abs=1e-6)
        assert 0 < far < PATCH * GRID * math.sqrt(2)
    flat = [(w[prefix:] - w[prefix:].mean(1, keepdims=True)).ravel() for w in weights]
    assert one.likeness == pytest.approx(np.corrcoef(flat), abs=1e-6)


def test_over_a_data_set_it_is_the_mean_over_its_images() -> None:
    net = fresh()
    net.module.float()
    photos = netloupe.photos().subset(range(3))
    together = attention_maps(net, images(1).float(), data=photos)
    assert together.images == 3
    alone = [attention_maps(net, images(1).float(), data=photos.subset([i])) for i in range(3)]
    for what in ("distance", "entropy"):
        values = [getattr(one.looks[LAYER], what) for one in alone]
        assert np.ptp(values, axis=0).max() > 1e-3
        assert getattr(together.looks[LAYER], what) == pytest.approx(np.mean(values, axis=0), rel=1e-6)


def test_heads_that_do_the_same_are_told() -> None:
    net = fresh()
    for block in net.module.blocks:  # type: ignore[union-attr]
        weight = block.attn.qkv.weight.data.view(3, HEADS, -1, 12)  # type: ignore[union-attr]
        bias = block.attn.qkv.bias.data.view(3, HEADS, -1)  # type: ignore[union-attr]
        weight[:2, 2], bias[:2, 2] = weight[:2, 0], bias[:2, 0]
    found = attention_maps(net, images(1))
    assert {tuple(one.alike) for one in found.looks.values()} == {((0, 2),)}
    assert found.task is not None
    assert "0-2" in found.task.words(found.summary())


class Windows(nn.Module):
    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole, self.patch, self.inside = whole, nn.Conv2d(3, 4, 2, 2), vit().module

    def forward(self, x: torch.Tensor) -> Any:
        y = self.patch(x).flatten(2).transpose(1, 2)
        part = y.reshape(len(y) * 4, 1, -1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(part, part, part).reshape(y.shape)
        return self.inside(x) if self.whole else y.mean(1)


def test_windows_are_left_out_or_refused() -> None:
    net = Network(Windows(True).double().eval(), InputSpec(size=(SIDE, SIDE)))
    found = attention_maps(net, images(1))
    assert list(found.skipped) == ["~1"]
    assert "looks inside 4 windows" in found.skipped["~1"]
    assert len(found.looks) == 3
    with pytest.raises(InputError, match="'~1' looks inside 4 windows"):
        attention_maps(net, images(1), ["~1"])
    with pytest.raises(InputError, match="'~1' looks inside 4 windows"):
        attention_maps(Network(Windows(False).double().eval(), net.inputs), images(1))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"origin": (3, 0)}, InputError, r"position \(3, 0\) \(accepted: row 0 to 2, column 0 to 2\)"),
        ({"attention_head": 3}, InputError, r"attention head 3 of 'blocks.0.attn' \(accepted: 0 to 2\)"),
        ({"attention_head": -1}, InputError, "attention_head -1"),
        ({"layers": ["blocks.7.attn"]}, UnknownName, "no attention 'blocks.7.attn'"),
        ({"origin": "3"}, InputError, "origin '3'"),
    ],
)
def test_bad_settings(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attention_maps(vit(), images(1), **given)
    with pytest.raises(InputError, match="2 images"):
        attention_maps(vit(), images(2))


def test_a_network_without_attention() -> None:
    with pytest.raises(NetworkError, match="lenslet has no attention that can be seen"):
        attention_maps(netloupe.load(), torch.rand(3, 64, 64))
    assert AttentionTask.setting("origin").flags == ("--from",)


def test_the_pictures_and_the_files(tmp_path: Path) -> None:
    x = images(1)
    several = attention_maps(vit(), x, origin=(0, 0))
    single = attention_maps(vit(), x, [LAYER], attention_head=1)
    assert isinstance(single, AttentionMaps)
    for one in (several, single):
        (name,) = one.pictures()
        assert one.pictures()[name].shape[1] == 1040
    assert several.pictures()["attention"].shape[0] > single.pictures()["attention"].shape[0]
    several.save(tmp_path)
    assert np.array_equal(np.load(tmp_path / f"maps-{LAYER}.npy"), several.looks[LAYER].maps)
