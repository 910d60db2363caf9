"""Removing and resizing layers, and training what is left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.sources import ImageSource
from netloupe.studies.retraining import measure as retraining_module
from netloupe.studies.retraining.measure import error, retraining
from netloupe.studies.retraining.surgery import changed
from netloupe.studies.retraining.task import parse_changes
from netloupe.studies.training import fresh, usual_recipe
from netloupe.zoo.architectures import Lenslet


def after(module: nn.Module, text: str, shape: Sequence[int] = (3, 32, 32)) -> nn.Module:
    return changed(module, parse_changes(text), shape)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


# --- changes


def test_parse() -> None:
    found = parse_changes("remove conv3 conv4,  resize features.2 0.5")
    assert [(change.layers, change.factor) for change in found] == [(("conv3", "conv4"), None), (("features.2",), 0.5)]
    assert ", ".join(map(str, found)) == "remove conv3 conv4, resize features.2 0.5"


@pytest.mark.parametrize(
    "text", ["", "remove", "resize conv3", "resize 2", "drop conv3", "remove conv3,", "resize a b"]
)
def test_changes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match=r"accepted: remove LAYER"):
        parse_changes(text)


def test_factors() -> None:
    for factor in ("0", "-1", "nan", "inf", "33"):
        with pytest.raises(InputError, match="accepted: above 0"):
            parse_changes(f"resize a {factor}")


def test_removed_layer_and_the_next_takes_what_came_before() -> None:
    module = Lenslet(7, batch_norm=True)
    before = shapes(module)
    found = after(module, "remove conv3")
    own = shapes(found)
    assert shapes(module) == before  # the given module stays
    assert set(before) - set(own) == {"conv3.weight", "norm3.weight", "norm3.bias"}
    assert own["conv4.weight"] == (192, 96, 3, 3)
    assert {k: v for k, v in own.items() if k != "conv4.weight"} == {
        k: v for k, v in before.items() if k != "conv4.weight" and "3." not in k[4:7]
    }
    x = torch.rand(2, 3, 32, 32)
    torch.manual_seed(0)
    reference = nn.Sequential(*_layers(found))
    torch.testing.assert_close(found.eval()(x), reference.eval()(x))
    assert found(x).shape == (2, 7)
    assert found(x).std() > 1e-4


def _layers(found: nn.Module) -> list[nn.Module]:
    """The network without its third convolution, written out."""
    parts: list[nn.Module] = []
    for i, pool in enumerate((True, True, False, True, False, True, False), 1):
        if i != 3:
            parts.append(found.get_submodule(f"conv{i}"))
        if pool:
            parts.append(nn.MaxPool2d(2))
        if i != 3:
            parts.append(found.get_submodule(f"norm{i}"))
        parts.append(nn.ReLU())
    return [*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), found.get_submodule("fc")]


def test_resized_layer() -> None:
    own = shapes(after(Lenslet(7), "resize conv4 0.5, remove conv6"))
    assert own["conv4.weight"] == (96, 192, 3, 3)
    assert own["conv4.bias"] == (96,)
    assert own["conv5.weight"] == (320, 96, 3, 3)
    assert "conv6.weight" not in own
    assert own["conv7.weight"] == (512, 320, 3, 3)
    assert own["fc.weight"] == (7, 512)
    both = shapes(after(Lenslet(7, batch_norm=True), "resize conv7 2"))
    assert (both["norm7.weight"], both["fc.weight"]) == ((1024,), (7, 1024))
    assert shapes(after(Lenslet(7), "resize conv4 0.001"))["conv4.weight"][0] == 1


def test_linear_layers_after_flattening() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 9),
        nn.ReLU(),
        nn.Linear(9, 5),
    )
    assert shapes(after(module, "remove 4", (3, 8, 8)))["6.weight"] == (5, 64)
    assert shapes(after(module, "remove 0", (3, 8, 8)))["4.weight"] == (9, 48)
    assert shapes(after(module, "resize 0 2, resize 4 3", (3, 8, 8)))["4.weight"] == (27, 128)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.fc((y + self.block(y)).mean((2, 3)))


class Reshaped(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x).view(-1, 4 * 64))


class Untraceable(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)


def test_skips_hold_as_long_as_channels_agree() -> None:
    module = Residual()
    assert shapes(after(module, "remove block", (3, 8, 8))).keys() == {
        "stem.weight",
        "stem.bias",
        "fc.weight",
        "fc.bias",
    }
    with pytest.raises(NetworkError, match="'resize block 2' leaves shapes that don't fit at 'add'"):
        after(module, "resize block 2", (3, 8, 8))
    with pytest.raises(NetworkError, match="'resize stem 2' leaves shapes"):
        after(module, "resize stem 2", (3, 8, 8))


def test_what_cannot_be_changed() -> None:
    with pytest.raises(NetworkError, match="'remove 0' leaves shapes that don't fit at 'view'") as error:
        after(Reshaped(nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3)), "remove 0", (3, 8, 8))
    assert "\n" not in str(error.value)
    with pytest.raises(NetworkError, match="Untraceable can't be changed, as its code can't be traced"):
        after(Untraceable(), "remove block", (3, 8, 8))
    for name in ("conv9", "relu3", "pool1"):
        with pytest.raises(UnknownName, match=f"no convolution or linear layer '{name}'"):
            after(Lenslet(7), f"remove {name}")
    with pytest.raises(UnknownName, match="layer 'fc' gives the logits"):
        after(Lenslet(7), "resize fc 2")


def test_depthwise_convolutions_follow_their_channels() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(384, 2)
    )
    own = shapes(after(module, "resize 0 0.5", (3, 8, 8)))
    assert own["1.weight"] == (4, 1, 3, 3)
    assert own["2.weight"] == (6, 4, 1, 1)


# --- fresh networks and their recipe


def test_fresh_networks_have_new_weights_and_classes() -> None:
    net = Network(Residual().eval(), InputSpec((8, 8)))
    held = {name: value.clone() for name, value in net.module.state_dict().items()}
    found = fresh(net, 5, seed=1)
    assert found(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    assert not torch.equal(found.get_submodule("stem").weight, held["stem.weight"])  # type: ignore[arg-type]
    assert all(torch.equal(value, held[name]) for name, value in net.module.state_dict().items())
    again = fresh(net, 5, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), again.parameters(), strict=True))
    lens = fresh(Network(Lenslet(7).eval(), InputSpec((64, 64))), 5)
    assert isinstance(lens, Lenslet)
    assert (lens.batch_norm, lens.classes) == (True, 5)
    with pytest.raises(NetworkError, match="no linear layer that gives its 4 logits"):
        fresh(Network(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()).eval(), InputSpec((8, 8))), 5)


def test_recipes() -> None:
    lens = Network(Lenslet(7).eval(), InputSpec((64, 64)))
    recipe = usual_recipe(lens, fresh(lens, 3), 3000, epochs=24)
    assert (recipe.sizes, recipe.finish, recipe.epochs, recipe.batch) == (((40, 8), (48, 9), (56, 4)), 3, 24, 32)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    net = Network(fixed.eval(), InputSpec((8, 8)))
    recipe = usual_recipe(net, fixed, 20, epochs=10)
    assert recipe.sizes == ((8, 9),)
    assert (recipe.epochs, recipe.batch, recipe.rate) == (10, 20, 0.005)
    for epochs in (1, 2, 3, 5):
        assert usual_recipe(lens, fresh(lens, 3), 100, epochs=epochs).epochs == epochs


# --- the study


def colors(count: int = 60, spec: str = "colors") -> ImageSource:
    """Images of one color for each class: red, green, blue, with noise."""

    def opened(i: int) -> Image.Image:
        pixels = np.random.default_rng(i).integers(0, 90, (16, 16, 3))
        pixels[:, :, i % 3] += 150
        return Image.fromarray(pixels.astype(np.uint8))

    names = [f"{spec}/{i}" for i in range(count)]
    return ImageSource(spec, names, opened, [i % 3 for i in range(count)], ["red", "green", "blue"])


def small() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 9),
    )  # fmt: skip
    return Network(module.eval(), InputSpec((16, 16)))


def test_study() -> None:
    found = retraining(small(), colors(), ["remove 3", "resize 0 3 0.5"], epochs=12)
    assert found.titles == ("unchanged", "remove 3", "resize 0 3 0.5")
    assert found.images == (48, 12)
    by_hand = (27 * 8 + 8 + 16) + (72 * 8 + 8 + 16) + (8 * 3 + 3)
    assert found.parameters == (by_hand, 27 * 8 + 8 + 16 + 27, 27 * 4 + 4 + 8 + 36 * 4 + 4 + 8 + 15)
    assert found.errors.shape == (3, 3)
    assert found.errors[0, 1] <= 0.25  # the colors are learned
    assert (found.errors[:, 2] == 0).all()  # three classes are among the best five
    again = retraining(small(), colors(), ["remove 3", "resize 0 3 0.5"], epochs=12)
    assert np.array_equal(found.errors, again.errors)


def test_a_budget_gives_epochs_and_other_images_validate() -> None:
    found = retraining(small(), colors(), ["remove 3"], colors(9, "others"), minutes=0.02)
    assert found.images == (60, 9)
    assert 1 <= found.epochs <= 100
    with pytest.raises(InputError, match=r"allows no epoch of 2 networks on 48 images \(accepted: "):
        retraining(small(), colors(), ["remove 3"], minutes=1e-6)


def test_an_endless_budget_gives_as_many_epochs_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining_module, "MOST_EPOCHS", 2)
    assert retraining(small(), colors(), ["remove 3"], minutes=float("inf")).epochs == 2


class TwoThings(nn.Module):
    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.plain(x)


def test_a_network_with_several_outputs() -> None:
    several = Network(TwoThings(small().module).eval(), small().inputs, output=1)
    found = retraining(several, colors(), ["remove plain.3"], epochs=1)
    assert found.errors.shape == (2, 3)
    assert retraining(several, colors(), ["remove plain.3"], minutes=0.05).epochs >= 1


def test_error_by_plain_loops() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 8
    for top in (1, 5):
        wrong = 0
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            wrong += sum(value > row[label] for value in row) >= top
        assert 0 < wrong < 50
        assert error(logits, labels, top) == pytest.approx(wrong / 50)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="no changes"):
        retraining(small(), colors(), [])
    with pytest.raises(InputError, match="has no labels"):
        retraining(small(), ImageSource("bare", ["a"], lambda _: Image.new("RGB", (4, 4))), ["remove 3"])
    with pytest.raises(InputError, match="accepted: above 0"):
        retraining(small(), colors(), ["remove 3"], minutes=0)
    with pytest.raises(UnknownName, match="gives the logits"):
        retraining(small(), colors(), ["remove 8"])
