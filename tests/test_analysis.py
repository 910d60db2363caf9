"""Filters, activation maps, patches and neighbors, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.activations import activation_maps
from netloupe.analysis.filters import filters
from netloupe.analysis.nearest import nearest
from netloupe.analysis.neighbors import neighbors
from netloupe.analysis.patches import project_patches, top_patches
from netloupe.analysis.spaces import pixel_space
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import as_seen, load_images
from netloupe.data.open import open_source


def test_filters_of_the_first_layer_are_color_images_on_0_to_255() -> None:
    net = tiny_network()
    result = filters(net)
    assert result.layer == "conv1"
    shown = result.bytes()
    for weights, filter_ in zip(net.module.conv1.weight.detach().numpy(), shown, strict=True):
        if weights.max() > weights.min():
            assert (filter_.min(), filter_.max()) == (0, 255)
            assert filter_.reshape(-1)[weights.argmax()] == 255
    picture = result.pictures()["filters"]
    zoom = 56 // 5
    first = picture[2 : 2 + 5 * zoom : zoom, 2 : 2 + 5 * zoom : zoom]
    assert (first == shown[0].transpose(1, 2, 0)).all()


def test_filters_scaled_over_the_layer_keep_their_relation() -> None:
    net = tiny_network()
    shown = filters(net, "conv2", scale="layer").bytes()
    weights = net.module.conv2.weight.detach().numpy()
    expected = (weights - weights.min()) / (weights.max() - weights.min()) * 255
    assert np.abs(shown - expected).max() <= 0.5001
    assert filters(net, "conv2").pictures()["filters"].ndim == 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [("conv9", "did you mean 'conv"), ("fc", "a Linear without filters"), ("relu", "without filters")],
)
def test_filters_refuse(layer: str, message: str) -> None:
    with pytest.raises((UnknownName, InputError), match=message):
        filters(tiny_network(), layer)


def test_filters_of_a_network_without_convolutions() -> None:
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), InputSpec((2, 2)))
    with pytest.raises(InputError, match="no two-dimensional convolution"):
        filters(net)


def test_activation_maps_are_the_layers_outputs_strongest_first() -> None:
    net = tiny_network()
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    result = activation_maps(net, images, ["conv1"], top=3)
    by_hand = nn.functional.conv2d((images - 0.5) / 0.25, net.module.conv1.weight, net.module.conv1.bias, padding=2)
    assert np.allclose(result.maps["conv1"], by_hand.detach().numpy(), atol=1e-5)
    peaks = by_hand[1].detach().numpy().reshape(6, -1).max(1)
    assert result.strongest("conv1", 1) == list(np.argsort(-peaks)[:3])
    assert len(result.pictures()) == 2
    with pytest.raises(InputError, match="no maps"):
        activation_maps(net, images, ["fc"])


def test_pictures_show_two_patches_of_a_photograph_and_the_ranking_stays(tmp_path: Path) -> None:
    net = tiny_network()
    source = replace(open_source(write_photos(tmp_path, 20)), photographs=[i // 5 for i in range(20)])
    strict = top_patches(net, source, ["conv1", "conv2"], k=6, per_photo=0)
    top = top_patches(net, source, ["conv1", "conv2"], k=6)
    every = top_patches(net, source, ["conv1", "conv2"], k=20, per_photo=0)
    assert strict.varied is None
    assert strict.shown is strict
    for layer in ("conv1", "conv2"):
        for name in ("values", "images", "positions"):
            ours, theirs = (getattr(found[layer], name).numpy() for found in (top, strict))
            np.testing.assert_array_equal(ours, theirs)
        for channel, ranked in enumerate(every[layer].images.tolist()):
            chosen: list[int] = []
            for i in ranked:
                if sum(j // 5 == i // 5 for j in chosen) < 2:
                    chosen.append(i)
            assert top.shown[layer].images[channel].tolist() == chosen[:6]
    assert top.shown["conv2"].images.tolist() != top["conv2"].images.tolist()
    assert (top.pictures()["patches-conv2"] != strict.pictures()["patches-conv2"]).any()
    one = top.only("conv2", 3)
    assert one.shown["conv2"].images.tolist() == [top.shown["conv2"].images[3].tolist()]
    projected = project_patches(net, one, "guided")
    assert projected.projected is not None
    again = project_patches(net, replace(one.shown, provenance=one.provenance), "guided")
    np.testing.assert_array_equal(projected.projected.raw["conv2"], again.projected.raw["conv2"])
    assert {"images-conv2", "shown-images-conv2", "projections-conv2"} <= projected.arrays().keys()


def test_top_patches_agree_with_a_plain_search(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(write_photos(tmp_path, 11))
    images = load_images(sorted(tmp_path.iterdir()), (24, 32))
    maps = net.activations(images, ["conv1", "conv2"])
    top = top_patches(net, source, ["conv1", "conv2"], k=4, batch_size=3)
    for layer in ("conv1", "conv2"):
        for channel in range(top[layer].values.shape[0]):
            plane = maps[layer][:, channel].numpy()
            peaks = sorted((-float(plane[i].max()), i) for i in range(len(plane)))[:4]
            assert top[layer].images[channel].tolist() == [i for _, i in peaks]
            for rank, (value, i) in enumerate(peaks):
                y, x = top[layer].positions[channel, rank].tolist()
                assert plane[i, y, x] == plane[i].max()
                assert float(top[layer].values[channel, rank]) == pytest.approx(-value, abs=1e-5)


def test_a_patch_shows_what_the_neuron_saw(tmp_path: Path) -> None:
    """Painting everything outside the box another color leaves the neuron's value as it is; inside, not."""
    net = tiny_network()
    source = open_source(write_photos(tmp_path, 5, size=(24, 32)))
    images = load_images(sorted(tmp_path.iterdir()), (24, 32))
    top = top_patches(net, source, ["conv2"], k=1)
    for channel in range(0, 70, 7):
        i = int(top["conv2"].images[channel, 0])
        y, x = top["conv2"].positions[channel, 0].tolist()
        t, left, b, r = top.box("conv2", channel, 0)
        outside, inside = torch.full_like(images[i], 0.3), images[i].clone()
        outside[:, t:b, left:r] = images[i, :, t:b, left:r]
        inside[:, t:b, left:r] = 0.3
        value, painted, emptied = net.activations(torch.stack([images[i], outside, inside]), ["conv2"])["conv2"][
            :, channel, y, x
        ]
        assert float(painted) == pytest.approx(float(value), abs=1e-5)
        assert abs(float(emptied - value)) > 1e-4
        shown = top.patch("conv2", channel, 0, side=40)
        assert shown.shape == (40, 40, 3)


def test_only_one_channel(tmp_path: Path) -> None:
    top = top_patches(tiny_network(), open_source(write_photos(tmp_path, 3)), ["conv1"], k=2)
    one = top.only("conv1", 4)
    assert (one["conv1"].images == top["conv1"].images[4:5]).all()
    with pytest.raises(UnknownName, match=r"no channel 6 in layer 'conv1' \(accepted: 0 to 5\)"):
        top.only("conv1", 6)


def test_tensors_are_a_source_too() -> None:
    net = tiny_network()
    images = torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(2))
    top = top_patches(net, images, ["conv1"], k=9)
    assert top["conv1"].images.shape == (6, 9)
    assert (top["conv1"].images[:, 4:] == -1).all()
    assert top["conv1"].values[:, 4:].isnan().all()
    assert top.pictures()["patches-conv1"].shape[2] == 3


def test_nearest_against_float64_loops() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 7)).astype(np.float32)
    vectors[30] = vectors[3]  # a tie
    ids = rng.permutation(100)[:40]
    near = nearest(vectors[:6], vectors, ids, 5)
    for q in range(6):
        distances = np.sqrt(((vectors[:6][q].astype(np.float64) - vectors) ** 2).sum(1))
        order = sorted(range(40), key=lambda j: (round(float(distances[j]), 9), ids[j]))[:5]
        assert near.ids[q].tolist() == [int(ids[j]) for j in order]
        assert np.allclose(near.distances[q], distances[order], atol=1e-5)
    assert (near.distances[:, 0] == 0).all()


def test_nearest_without_oneself_and_with_too_few() -> None:
    vectors = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    ids = np.array([5, 2, 9])
    near = nearest(vectors, vectors, ids, 4, exclude=ids)
    assert near.ids.tolist() == [[2, 9, -1, -1], [5, 9, -1, -1], [2, 5, -1, -1]]
    assert near.distances[2].tolist() == [2.0, 3.0, np.inf, np.inf]


def test_neighbors_find_the_same_image_at_distance_zero(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(write_photos(tmp_path, 9, size=(24, 32)))
    query = load_images([tmp_path / "p04.png"], (24, 32))
    near = neighbors(net, query, source, k=3)
    assert near.layer == net.layers.features().name == "conv2"
    assert near.features.ids[0, 0] == 4
    assert near.features.distances[0, 0] < 1e-5
    assert near.pixels.ids[0, 0] == 4
    vectors = pixel_space(source).vectors
    assert vectors.shape == (9, 3 * 32 * 32)
    assert near.pictures()["neighbors"].ndim == 3


def test_neighbors_asked_for_beyond_all_numbers(tmp_path: Path) -> None:
    source = open_source(write_photos(tmp_path, 3))
    near = neighbors(tiny_network(), load_images([tmp_path / "p00.png"], (24, 32)), source, k=10**14)
    assert sorted(near.features.ids[0].tolist()) == [0, 1, 2]
    assert f"only 3 images in the space of features, fewer than the {10**14} neighbors asked for" in near.notes


def test_as_seen_is_what_the_network_sees_in_finer_grain() -> None:
    from PIL import Image

    from netloupe.data.images import fit

    gradient = np.zeros((300, 500, 3), dtype=np.uint8)
    gradient[..., 0] = np.linspace(0, 255, 300)[:, None]
    gradient[..., 1] = np.linspace(0, 255, 500)[None]
    photo = Image.fromarray(gradient)
    fine = as_seen(photo, (24, 32))
    assert fine.shape[0] * 32 == fine.shape[1] * 24
    assert min(fine.shape[:2]) <= 256
    coarse = np.asarray(Image.fromarray(fine).resize((32, 24), Image.Resampling.BOX))
    assert np.abs(coarse.astype(int) - fit(photo, (24, 32))).max() <= 6
    assert as_seen(Image.fromarray(gradient[:20, :20]), (24, 32)).shape == (24, 32, 3)
