"""A network that computes in bfloat16: its own weights, nearly its own answers, and told how nearly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netloupe
from netloupe.analysis.methods import METHODS
from netloupe.cli.precision import tell_precision
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.perform import Held
from netloupe.data.photos import photos
from netloupe.data.sources import read_all
from netloupe.remake import network_told
from netloupe.sweep.maps import Maps


@pytest.fixture(scope="module")
def images() -> Tensor:
    return read_all(photos().subset(range(0, 64, 4)), (64, 64))[1]


@pytest.fixture(scope="module", params=["lenslet", "patchlet"])
def pair(request: pytest.FixtureRequest) -> tuple[netloupe.Network, netloupe.Network]:
    return netloupe.load(request.param), netloupe.load(request.param, precision="bfloat16")


def test_answers_are_those_of_float32_but_for_rounding(pair: Any, images: Tensor) -> None:
    plain, quick = pair
    with torch.no_grad():
        true, found = plain(images), quick(images)
    assert found.dtype == torch.float32
    error = float((true - found).norm() / true.norm())
    assert 1e-4 < error < 0.03  # it rounds, or it would be no bfloat16


def test_the_numbers_are_those_of_autocast_on_the_module_itself(images: Tensor) -> None:
    quick = netloupe.load("lenslet", precision="bfloat16")
    last = quick.inputs.normalize(images).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        by_hand = quick.module(last)
    assert by_hand.dtype == torch.bfloat16
    assert torch.equal(quick(images), by_hand.float())


def test_layers_weights_and_head_are_those_of_float32(pair: Any, images: Tensor) -> None:
    plain, quick = pair
    before = copy.deepcopy(quick.module.state_dict())
    quick(images)
    assert {name: layer.shape for name, layer in quick.layers.items()} == {
        name: layer.shape for name, layer in plain.layers.items()
    }
    assert str(quick.head) == str(plain.head)
    after = quick.module.state_dict()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == before[name].dtype for name in before)


def test_another_precision_is_another_network(pair: Any) -> None:
    plain, quick = pair
    assert plain.fingerprint() != quick.fingerprint()
    assert quick.computing("float32").fingerprint() == plain.fingerprint()
    assert "precision" not in plain.origin
    assert quick.origin["precision"] == "bfloat16"


@pytest.mark.filterwarnings("ignore:rule")
def test_every_method_is_nearly_that_of_float32(pair: Any, images: Tensor) -> None:
    plain, quick = pair
    objective, told = f"logit({int(plain.probabilities(images[:1]).argmax())})", 0
    for name, method in METHODS.items():
        try:
            true = method.attribution(plain, images[:1], objective)
        except NetworkError:  # lenslet has no attention
            continue
        found = method.attribution(quick, images[:1], objective)
        assert found.dtype == torch.float32, name
        assert torch.nn.functional.cosine_similarity(true.flatten(), found.flatten(), dim=0) > 0.95, name
        told += 1
    assert told >= 8


def test_who_reads_a_pass_computes_in_full(images: Tensor) -> None:
    quick = netloupe.load("patchlet", precision="bfloat16")
    found = []

    def read(output: Tensor) -> None:
        found.append(output.dtype)
        found.append((output.flatten(1).float() @ output.flatten(1).float().T).dtype)

    with torch.no_grad():
        quick.run(images, {"stem.conv2": read})
        quick.attend(images, lambda _, weights: found.append((weights.float() @ weights.float()).dtype))
    assert found[0] == torch.bfloat16  # or there would be nothing to tell apart
    assert len(found) > 3
    assert set(found[1:]) == {torch.float32}


def test_what_is_made_again_computes_the_same(pair: Any, images: Tensor) -> None:
    from netloupe.core.perform import of_network

    _, quick = pair
    made = network_told(of_network(quick), path=__file__)  # type: ignore[arg-type]
    assert made.precision == "bfloat16"
    assert torch.equal(made(images), quick(images))


def test_agreement_counts_classes_and_measures_answers(images: Tensor) -> None:
    quick = netloupe.load("lenslet", precision="bfloat16")
    plain = quick.computing("float32")
    found = netloupe.agreement(quick, images)
    with torch.no_grad():
        own, true = quick(images), plain(images)
    assert found.images == len(images)
    assert found.same == int((own.argmax(1) == true.argmax(1)).sum())
    spread = true.double() - true.double().mean(0)
    expected = ((own.double() - true.double()).square().sum() / spread.square().sum()).sqrt()
    assert found.error == pytest.approx(float(expected.detach()), rel=1e-3)
    assert found.faster > 0
    assert netloupe.agreement(plain, images).error == 0


def test_agreement_sees_classes_that_change(images: Tensor) -> None:
    """A network whose two classes differ by less than bfloat16 can tell."""

    class Near(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2, bias=False)
            with torch.no_grad():
                self.fc.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [1.001, 1.0, 0.9995]]))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(x.mean((2, 3)))
            return logits

    net = netloupe.Network(Near(), netloupe.InputSpec((64, 64)), ["a", "b"], precision="bfloat16")
    found = netloupe.agreement(net, images)
    assert found.same is not None
    assert found.same < found.images
    assert f"same class for {found.same} of {found.images}" in str(found)


def test_the_command_line_tells_it_in_one_line(images: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    quick = netloupe.load("lenslet", precision="bfloat16")
    tell_precision(quick, {"images": Held(tuple(images[:1]))})
    tell_precision(quick, {"data": photos()})
    tell_precision(quick, {})
    given, data, nothing = capsys.readouterr().err.splitlines()
    assert "for 1 of 1 images" in given
    assert "of their size" in given
    assert given.endswith("(the images given)")
    assert "of 32 images" in data
    assert data.endswith("(the first 32 of the images)")
    assert nothing.endswith("(embedded photographs)")
    tell_precision(quick.computing("float32"), {})
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UnknownName, match="bfloat16"):
        netloupe.load("lenslet", precision="bf16")
    with pytest.raises(InputError, match=r"weights are float64 \(accepted: weights of float32\)"):
        netloupe.Network(nn.Linear(3, 2).double(), precision="bfloat16")
    headless = netloupe.Network(nn.Conv2d(3, 4, 3), netloupe.InputSpec((8, 8)), head="none", precision="bfloat16")
    with pytest.raises(NetworkError):
        netloupe.agreement(headless, torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 64, 4, 4), (1, 1, 1, 1), (2, 33, 32, 32)])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_the_highest_value_is_that_of_a_plain_reduction(shape: tuple[int, ...], kind: torch.dtype) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(kind)
    last = maps.clone(memory_format=torch.channels_last)
    ids = torch.arange(shape[0]).numpy()
    expected = maps.double().flatten(2).max(2).values
    for one in (maps, last):
        assert torch.equal(torch.from_numpy(Maps(one, ids, ids).peak).double(), expected)
        one[0, 0, -1, -1] = torch.nan
        assert torch.from_numpy(Maps(one, ids, ids).peak).isnan().nonzero().tolist() == [[0, 0]]
