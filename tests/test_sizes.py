"""Which sizes of images a network takes, and what keeps to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import netloupe
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import ImageFiles
from netloupe.synthesis.octaves import octaves
from netloupe.synthesis.style import taken
from netloupe.synthesis.tasks import Style
from netloupe.synthesis.tiles import read
from netloupe.zoo.patchlet import Patchlet


class Small(nn.Module):
    """Patches of 8 px, a class token and positions for `side` px, or interpolated; one block of attention."""

    def __init__(self, side: int, *, grows: bool = False, exact: bool = False) -> None:
        super().__init__()
        self.grows, self.exact = grows, exact
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.cls, self.positions = (
            nn.Parameter(torch.randn(1, 1, 8)),
            nn.Parameter(torch.randn(1, 8, side // 8, side // 8)),
        )
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.exact and (x.shape[2] % 8 or x.shape[3] % 8):
            raise ValueError("no multiple of the patch")
        x = self.patch(x)
        positions: Tensor = self.positions
        if self.grows:
            positions = F.interpolate(positions, x.shape[2:], mode="bilinear")
        x = x.flatten(2).transpose(1, 2) + positions.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        out: Tensor = self.fc(self.mix(x)[:, 0])
        return out


def net(module: nn.Module, side: int = 32, name: str = "small") -> Network:
    return Network(module.eval(), InputSpec((side, side)), name=name)


def fixed(side: int = 32) -> Network:
    torch.manual_seed(0)
    return net(Small(side), side)


def flat() -> Network:
    """Convolutions that take any size before weights that take one."""
    torch.manual_seed(0)
    parts = {"conv": nn.Conv2d(3, 4, 5), "relu": nn.ReLU(), "flat": nn.Flatten(), "fc": nn.Linear(4 * 8 * 8, 3)}
    module = nn.Sequential()
    for part, one in parts.items():
        module.add_module(part, one)
    return net(module, 12, "flat")


def patchlet() -> Network:
    torch.manual_seed(0)
    return net(Patchlet(5), 64, "patchlet")


CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(3, 4, 7), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
)


@pytest.mark.parametrize(
    ("make", "layers", "told"),
    [
        (lambda: net(CONVOLUTIONS, 40), (), "18 px a side or more"),
        (patchlet, (), "multiples of 8 px from 32 on"),
        (lambda: net(Small(32)), (), "32x32 px"),  # though 33 to 39 px would do: they are cut off
        (lambda: net(Small(32, grows=True, exact=True)), ("mix",), "multiples of 8 px from 8 on"),
        (lambda: net(Small(32, grows=True)), ("mix",), "multiples of 8 px from 8 on"),
        (flat, (), "12x12 px"),
        (flat, ("conv",), "5 px a side or more"),
    ],
)
def test_what_is_taken(make: Callable[[], Network], layers: tuple[str, ...], told: str) -> None:
    assert str(make().sizes(layers)) == told


def test_the_nearest_and_the_largest() -> None:
    sizes = patchlet().sizes()
    assert (sizes.within((70, 100)), sizes.nearest((70, 100)), sizes.nearest((68, 9))) == (
        (64, 96),
        (72, 104),
        (72, 32),
    )
    assert [sizes.takes(one) for one in ((64, 64), (64, 96), (32, 64), (24, 64), (60, 64))] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert octaves((64, 64), 4, 1.4, sizes) == [(32, 32), (48, 48), (64, 64)]
    assert octaves((32, 32), 2, 2.0, fixed().sizes()) == [(32, 32)]
    any_size = net(CONVOLUTIONS, 40).sizes()
    assert octaves((41, 63), 2, 1.4, any_size) == octaves((41, 63), 2, 1.4) == [(29, 45), (41, 63)]


def test_few_passes_where_little_is_asked() -> None:
    passes = []
    module = net(CONVOLUTIONS, 40)
    module.module.register_forward_pre_hook(lambda _, args: passes.append(tuple(args[0].shape[2:])))
    assert module.sizes().takes((50, 60))
    assert module.sizes().takes((70, 80))
    assert passes == [(41, 41), (60, 40)]


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (patchlet, (60, 100), "images of 60x100 px don't fit patchlet (accepted: multiples of 8 px from 32 on; nearest "
         "56x96 and 64x104)"),
        (fixed, (64, 64), "images of 64x64 px don't fit small (accepted: 32x32 px)"),
        (flat, (13, 12), "images of 13x12 px don't fit flat (accepted: 12x12 px)"),
        (lambda: net(CONVOLUTIONS, 40), (9, 40), "images of 9x40 px don't fit small (accepted: 18 px a side or more)"),
    ],
)  # fmt: skip
def test_other_sizes_are_refused_in_a_line(make: Callable[[], Network], size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        make()(torch.rand(2, 3, *size))


def test_an_input_size_that_is_not_taken_names_one_that_is() -> None:
    wrong = Network(Small(32).eval(), InputSpec((48, 48)), name="small")
    for ask in (
        lambda: wrong.layers,
        lambda: wrong.head,
        lambda: wrong(torch.rand(1, 3, 48, 48)),
        lambda: wrong.attentions,
    ):
        with pytest.raises(InputError, match=r"images of 48x48 px don't fit small \(accepted: 32x32 px\)"):
            ask()


def test_failures_of_another_kind_stay_what_they_are() -> None:
    class Dark(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.detach().max()) > 0.9:
                raise ValueError("too bright")
            return x.mean((2, 3))

    for size in (12, 20):
        with pytest.raises(NetworkError, match="failed on input of shape .*: too bright"):
            net(Dark(), 12)(torch.ones(1, 3, size, size))
    with pytest.raises(NetworkError, match="failed on input"):
        net(nn.Sequential(nn.Conv2d(5, 4, 3)), 12)(torch.rand(1, 3, 20, 20))


@pytest.fixture
def photo(tmp_path: Path) -> ImageFiles:
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return ImageFiles.of([tmp_path / "photo.png"])


def made(verb: str, network: Network, photo: ImageFiles, **settings: object) -> netloupe.Result:
    from netloupe.tasks import task_named

    inputs = {"dream": "image", "texture": "image", "style": "contents"}
    more = {"dream": {}, "texture": {"start": "noise"}, "style": {"styles": photo, "start": "content"}}
    given = {inputs[verb]: photo, **more[verb]}
    found: netloupe.Result = netloupe.perform(task_named(verb).of({"steps": 1, **settings}), network, given)
    return found


def test_dreams_keep_to_the_sizes(photo: ImageFiles) -> None:
    of_patches = made("dream", patchlet(), photo, layer="blocks.1")
    assert of_patches.summary()["sizes"] == [[32, 32], [40, 48], [48, 72], [72, 96]]
    assert of_patches.summary()["size"] == [72, 96]
    assert of_patches.remarks() == []
    one = made("dream", fixed(), photo, layer="mix", octaves=3, scale=1.2)
    assert one.summary()["sizes"] == [[32, 32]]
    assert one.remarks() == ["3 octaves fall on 1 of the sizes that the network takes: 32x32 px"]
    early = made("dream", flat(), photo, layer="conv", octaves=2)
    assert early.summary()["sizes"] == [[54, 72], [75, 101]]


def test_what_a_style_takes_is_known_before_its_photos() -> None:
    assert str(taken(Style.of({}), fixed())) == "32x32 px"
    assert str(taken(Style.of({"layers": ["conv"], "content_layers": ["conv"]}), flat())) == "5 px a side or more"
    assert (
        str(taken(Style.of({"layers": ["conv"], "content_layers": ["conv"], "dream": "class:1"}), flat())) == "12x12 px"
    )


@pytest.mark.parametrize(("make", "size"), [(patchlet, [72, 96]), (fixed, [32, 32])])
def test_textures_and_styles_keep_to_the_sizes(make: Callable[[], Network], size: list[int], photo: ImageFiles) -> None:
    assert made("texture", make(), photo).summary()["size"] == size
    assert made("style", make(), photo).summary()["size"] == size
    with pytest.raises(InputError, match="textures of 33x50 px don't fit"):
        made("texture", make(), photo, size=(33, 50))
    with pytest.raises(InputError, match="style images of .* px don't fit"):
        made("style", make(), photo, style_scale=0.2)


def test_images_in_memory_are_refused() -> None:
    with pytest.raises(InputError, match="images of 60x64 px don't fit patchlet .*nearest 56x64 and 64x64"):
        netloupe.dream(patchlet(), torch.rand(1, 3, 60, 64), "blocks.1", steps=1)
    with pytest.raises(InputError, match=r"images of 40x40 px don't fit small \(accepted: 32x32 px\)"):
        netloupe.visualize(fixed(), "class:1", size=40, steps=1)


def test_tiles_are_of_the_sizes() -> None:
    network, images = patchlet(), torch.rand(1, 3, 64, 128)
    assert network.sizes(["stem.relu1"]).step == 8
    seen: list[tuple[int, ...]] = []
    network.module.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    with torch.no_grad():
        tiled = read(network, images, ["stem.relu1"], 40).layer("stem.relu1")
        whole = network.reading(images, ["stem.relu1"]).layer("stem.relu1")
    assert tiled.shape == whole.shape
    assert torch.allclose(tiled, whole, atol=1e-6)
    assert len(seen) > 4
    assert [size for size in seen if size[0] % 8 or size[1] % 8] == []
    with pytest.raises(InputError, match=r"tiles of 16 px for small \(accepted: 32x32 px, as a whole\)"):
        read(fixed(), torch.rand(1, 3, 32, 32), ["mix"], 16)
