"""Positions in color: principal components beside a decomposition of another kind, norms, likeness, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netloupe
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network


class Mixed(nn.Module):
    """`maps`: 1x1 convolution of the pixels to seven channels, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(3, 7, 1)
        self.flat = nn.Conv2d(3, 2, 1)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.flat(x)
        answer: Tensor = self.head(self.maps(x).mean((2, 3)))
        return answer


@pytest.fixture(scope="module")
def net() -> Network:
    return Network(Mixed().eval(), InputSpec((6, 5)), list("abcd"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 3, 6, 5)


def test_components_are_those_of_a_singular_value_decomposition(net: Network, images: Tensor) -> None:
    found = netloupe.tokens(net, images, "maps")
    vectors = net.activations(images, ["maps"])["maps"].permute(0, 2, 3, 1).reshape(-1, 7).double().numpy()
    u, s, vt = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    wanted = (u * s)[:, :3] * np.sign(vt[np.arange(3), np.abs(vt[:3]).argmax(1)])
    np.testing.assert_allclose(found.components.reshape(-1, 3), wanted, atol=1e-5)
    np.testing.assert_allclose(found.first.reshape(-1), wanted[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:3], atol=1e-8)
    np.testing.assert_allclose(found.norms.reshape(-1), np.linalg.norm(vectors, axis=1), rtol=1e-6)
    assert found.foreground.all()
    assert found.colors.min() == 0
    assert found.colors.max() == 1


def test_images_are_fitted_together(net: Network, images: Tensor) -> None:
    """The first image has other colors by itself, and the same ones beside the others in whatever order."""
    together = netloupe.tokens(net, images, "maps")
    turned = netloupe.tokens(net, images.flip(0), "maps")
    alone = netloupe.tokens(net, images[:1], "maps")
    np.testing.assert_allclose(turned.components[::-1], together.components, atol=1e-5)
    assert np.abs(alone.components[0] - together.components[0]).max() > 0.01


def test_sides_part_the_positions_and_are_colored_by_themselves(net: Network, images: Tensor) -> None:
    above = netloupe.tokens(net, images, "maps", foreground="above")
    below = netloupe.tokens(net, images, "maps", foreground="below")
    assert not (above.foreground & below.foreground).any()
    assert (above.foreground | below.foreground).all()
    assert (above.foreground == (above.first > 0)).all()
    assert np.isnan(above.components[~above.foreground]).all()
    assert (above.colors[~above.foreground] == 0).all()
    np.testing.assert_allclose(above.components[above.foreground].mean(0), 0, atol=1e-6)


def test_likeness_is_the_cosine(net: Network, images: Tensor) -> None:
    found = netloupe.tokens(net, images, "maps", at=(4, 2))
    maps = net.activations(images, ["maps"])["maps"]
    assert found.likeness is not None
    assert found.likeness[0, 4, 2] == pytest.approx(1, abs=1e-6)
    one, two = maps[0, :, 4, 2], maps[2, :, 1, 3]
    assert found.likeness[2, 1, 3] == pytest.approx(float(one @ two / one.norm() / two.norm()), abs=1e-5)
    assert set(found.arrays()) == {"components", "first", "norms", "images", "foreground", "likeness"}


def test_outliers_are_counted() -> None:
    class Loud(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            self.maps.weight.data.fill_(1.0)
            self.maps.bias.data.zero_()  # type: ignore[union-attr]
            return super().forward(x)

    images = torch.full((2, 3, 6, 5), 0.1)
    images[1, :, 2, 3] = 0.9
    images[1, :, 0, 0] = 0.29
    plain = InputSpec((6, 5), mean=(0.0,) * 3, std=(1.0,) * 3)
    found = netloupe.tokens(Network(Loud().eval(), plain, list("abcd")), images, "maps")
    assert [one["outliers"] for one in found.summary()["images"]] == [0, 1]
    assert found.outliers[1, 2, 3]


def test_the_picture_tells_what_was_measured(net: Network, images: Tensor) -> None:
    picture = netloupe.tokens(net, images, "maps", foreground="above", at=(0, 0)).pictures()["tokens"]
    assert picture.shape[1] > 4 * 133
    assert picture.shape[0] > 3 * 160
    assert picture.dtype == np.uint8


def test_even_images_have_no_components(net: Network) -> None:
    found = netloupe.tokens(net, torch.full((1, 3, 6, 5), 0.5), "maps")
    np.testing.assert_allclose(found.components, 0, atol=1e-6)
    assert np.isfinite(found.colors).all()
    with pytest.raises(InputError, match="0 positions lie above the mean of the first component"):
        netloupe.tokens(net, torch.full((1, 3, 6, 5), 0.0), "maps", foreground="above")


def test_unusable_layers_and_places(net: Network, images: Tensor) -> None:
    for layer in ("head", "flat"):
        with pytest.raises(InputError, match=rf"layer '{layer}' .* \(accepted: maps of three channels or more\)"):
            netloupe.tokens(net, images, layer)
    with pytest.raises(UnknownName, match="no layer 'map'; did you mean 'maps'"):
        netloupe.tokens(net, images, "map")
    with pytest.raises(InputError, match=r"place 6,0 \(accepted: up to 5,4\)"):
        netloupe.tokens(net, images, "maps", at=(6, 0))
    with pytest.raises(InputError, match=r"at '1' \(accepted: Y,X"):
        netloupe.tokens(net, images, "maps", at="1")
