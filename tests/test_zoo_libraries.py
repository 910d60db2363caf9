"""Networks of torchvision and timm, with random weights: nothing is downloaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from netloupe.core.errors import NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.zoo.load import load
from torchvision_operators import define_operators

define_operators()

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture
def torchvision() -> Any:
    return pytest.importorskip("torchvision", reason="torchvision is not installed")


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed")


def failing(error: Exception) -> Callable[..., nn.Module]:
    def make(*_args: object, **_options: object) -> nn.Module:
        raise error

    return make


def check(net: Any, classes: int) -> None:
    """The network gives logits, its layers what `layers` says of them, and the same again."""
    images = torch.rand(2, net.inputs.channels, 96, 96)
    with torch.no_grad():
        logits = net(images)
        assert torch.equal(net(images), logits)
    assert logits.shape == (2, classes)
    names = list(net.layers)[:: max(1, len(net.layers) // 6)]
    found = net.activations(torch.rand(1, net.inputs.channels, *net.inputs.size), names)
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == {n: net.layers[n].shape for n in names}


def small(spec: InputSpec) -> InputSpec:
    return InputSpec((96, 96), spec.channels, spec.mean, spec.std)


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "squeezenet1_1", "mobilenet_v3_small"])
@pytest.mark.filterwarnings("error")
def test_torchvision_networks(torchvision: Any, name: str) -> None:
    net = load(f"torchvision:{name}", weights="random", inputs=small)
    assert net.labels is not None
    assert (net.labels[1], len(net.labels)) == ("goldfish", 1000)
    check(net, 1000)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "test_byobnet"])
def test_timm_networks(timm: Any, name: str) -> None:
    net = load(f"timm:{name}", weights="random", inputs=small)
    assert net.labels is not None
    assert (net.labels[1].split(",")[0], len(net.labels)) == ("goldfish", 1000)
    check(net, 1000)


def test_the_input_specs_are_the_libraries(torchvision: Any) -> None:
    assert load("torchvision:squeezenet1_1", weights="random").inputs == InputSpec((224, 224), **IMAGENET)
    assert load("torchvision:efficientnet_b1", weights="random").inputs.size == (240, 240)


def test_the_input_spec_of_timm(timm: Any) -> None:
    assert load("timm:mobilenetv3_small_050", weights="random").inputs == InputSpec((224, 224), **IMAGENET)
    assert load("timm:test_efficientnet", weights="random").inputs == InputSpec((160, 160), **IMAGENET)


def test_other_numbers_of_classes_have_no_labels(torchvision: Any, timm: Any) -> None:
    for model in ("torchvision:squeezenet1_1", "timm:test_byobnet"):
        net = load(model, weights="random", classes=5)
        assert (net.labels, net.head.count) == (None, 5), model


def test_weights_from_a_file(torchvision: Any, timm: Any, tmp_path: Any) -> None:
    for model in ("torchvision:squeezenet1_1", "timm:test_byobnet"):
        torch.manual_seed(1)
        first = load(model, weights="random")
        torch.save(first.module.state_dict(), tmp_path / "w.pt")
        again = load(model, weights=tmp_path / "w.pt")
        assert all(
            torch.equal(a, b)
            for a, b in zip(first.module.state_dict().values(), again.module.state_dict().values(), strict=True)
        ), model
        assert again.labels == first.labels


def test_unknown_names_get_the_nearest(torchvision: Any, timm: Any) -> None:
    with pytest.raises(UnknownName, match=r"no classifier in torchvision 'resnet19'; did you mean 'resnet1[08]'"):
        load("torchvision:resnet19")
    with pytest.raises(UnknownName, match="no network in timm 'resnet18_'; did you mean 'resnet18"):
        load("timm:resnet18_")
    with pytest.raises(UnknownName, match=r"no weights for resnet18 'IMAGENET1K_V7'; did you mean 'IMAGENET1K_V1'"):
        load("torchvision:resnet18", weights="IMAGENET1K_V7")
    with pytest.raises(UnknownName, match="no classifier in torchvision 'fcn_resnet50'"):
        load("torchvision:fcn_resnet50", weights="random")


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), OSError("no route to host"), RuntimeError("no route to host")]
)
def test_a_download_that_fails_is_one_line(
    torchvision: Any, timm: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(torchvision.models, "get_model", failing(error))
    monkeypatch.setattr(timm, "create_model", failing(error))
    for model in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises(NetworkError, match=f"the weights of {model} can't be had .*no route to host.*weights=FILE"):
            load(model)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NetworkError, match=rf"{name} is not installed: pip install 'netloupe\[{name}\]'"):
        load(f"{name}:resnet18")
