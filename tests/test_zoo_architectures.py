"""Our own architectures: their geometry, and that folding changes nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netloupe.core.errors import InputError
from netloupe.zoo.architectures import PLAN, Lenslet, zfnet


def trained_looking(classes: int, channels: int = 3) -> Lenslet:
    """A network with batch norms as after training: random statistics and offsets."""
    torch.manual_seed(0)
    net = Lenslet(classes, batch_norm=True, channels=channels).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.2, 3)
            nn.init.normal_(module.bias, 0, 0.3)
    return net


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (33, 47), (96, 40)])
@torch.no_grad()
def test_folding_the_batch_norms_keeps_the_function(size: tuple[int, int]) -> None:
    net = trained_looking(7)
    plain = net.folded()
    images = torch.randn(3, 3, *size)
    logits = net(images)
    assert float(logits.std()) > 0.01
    torch.testing.assert_close(plain(images), logits, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert not plain.training


@torch.no_grad()
def test_folding_agrees_with_the_equation_at_the_first_layer() -> None:
    net = trained_looking(7)
    plain = net.folded()
    images = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    conv, norm = net.conv1, net.norm1
    spread = (norm.running_var.double() + 1e-5).sqrt()
    raw = F.conv2d(images, conv.weight.double(), padding=3)
    wanted = (raw - norm.running_mean.double()[:, None, None]) / spread[:, None, None] + norm.bias.double()[
        :, None, None
    ]
    torch.testing.assert_close(plain.conv1(images.float()).double(), wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_lenslet_halves_the_map_four_times() -> None:
    shapes = {}
    net = Lenslet(7).eval()
    for name, module in net.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    assert net(torch.randn(1, 3, 64, 64)).shape == (1, 7)
    assert shapes["conv1"] == (32, 64, 64)
    assert shapes["conv7"] == (512, 4, 4)
    assert [shapes[f"pool{i}"][1] for i, (_, _, pool) in enumerate(PLAN, 1) if pool] == [32, 16, 8, 4]


def test_lenslet_takes_other_channels_and_small_images() -> None:
    assert Lenslet(7, channels=1)(torch.randn(2, 1, 16, 16)).shape == (2, 7)
    assert trained_looking(7, channels=1).folded().conv1.weight.shape == (32, 1, 7, 7)


@torch.no_grad()
def test_zfnet_has_the_maps_of_the_papers_figure() -> None:
    net = zfnet(10).eval()
    x = torch.rand(1, 3, 224, 224)
    sizes = {}
    for name, module in net.named_children():
        x = module(x)
        sizes[name] = tuple(x.shape[1:])
    assert sizes["conv1"] == (96, 110, 110)
    assert sizes["pool1"] == sizes["norm1"] == (96, 55, 55)
    assert sizes["conv2"] == (256, 26, 26)
    assert sizes["pool2"] == sizes["norm2"] == (256, 13, 13)
    assert (sizes["conv3"], sizes["conv4"], sizes["conv5"]) == ((384, 13, 13), (384, 13, 13), (256, 13, 13))
    assert sizes["pool5"] == (256, 6, 6)
    assert (sizes["fc6"], sizes["fc7"], sizes["fc8"]) == ((4096,), (4096,), (10,))
    assert float(x.abs().max()) > 0


@torch.no_grad()
def test_zfnet_normalizes_as_krizhevsky_et_al() -> None:
    net = zfnet(2, 64)
    a = torch.rand(1, 96, 2, 2, dtype=torch.float64) * 100
    wanted = torch.zeros_like(a)
    for i in range(96):
        total = sum(a[0, j] ** 2 for j in range(max(0, i - 2), min(95, i + 2) + 1))
        wanted[0, i] = a[0, i] / (2 + 1e-4 * total) ** 0.75
    torch.testing.assert_close(net.norm1(a), wanted)
    assert float((a - wanted).abs().max()) > 1


@pytest.mark.parametrize("size", [47, 64, 65, (64, 97), 101])
@torch.no_grad()
def test_zfnet_is_sized_for_its_input(size: int | tuple[int, int]) -> None:
    shape = (size, size) if isinstance(size, int) else size
    assert zfnet(5, size, channels=1).eval()(torch.rand(2, 1, *shape)).shape == (2, 5)


@pytest.mark.parametrize("size", [1, 46, (46, 224)])
def test_images_too_small_for_zfnet(size: int | tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"too small for zfnet \(accepted: 47 px or more\)"):
        zfnet(5, size)
