"""What a machine lacks, and what the code, weights and numbers of others do, ends in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

import netloupe
from netloupe import objectives as obj
from netloupe.cli.app import main
from netloupe.core.errors import InputError, NetloupeError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.zoo.state import read_state


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that ends with exit code 2."""
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("netloupe: ")
    return line


@pytest.fixture(scope="module")
def net() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return Network(module, InputSpec(size=16))


def test_memory_that_runs_out_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "layers", "--classes", str(2**32))
    assert "out of memory" in line
    assert "--batch-size" in line


class Greedy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty(2**50) if x.shape[-1] == 8 else x.mean((2, 3))


def test_a_pass_that_takes_too_much_memory_says_what_to_lower() -> None:
    with pytest.raises(NetworkError, match="out of memory; less at once helps"):
        Network(Greedy(), InputSpec(size=8))(torch.rand(1, 3, 8, 8))


def test_a_name_that_is_too_long_for_the_machine_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    long = "a" * 300
    assert "too long" in refused(capsys, "photos", "--out", str(tmp_path / long)).lower()
    assert "too long" in refused(capsys, "layers", "--weights", f"{tmp_path / long}.pt").lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["hpu", "meta", "cuda:77", "nonsense"])
def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], device: str) -> None:
    assert f"no device {device!r} here (accepted: auto, cpu" in refused(capsys, "layers", "--device", device)


def test_an_output_of_a_network_that_gives_one_tensor_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no output '1e-30'" in refused(capsys, "layers", "--output", "1e-30")
    data = ("--data", "digits", "--folds", "1", "--epochs", "1")
    assert "no output '1e-30'" in refused(capsys, "study", "generalization", "--output", "1e-30", *data)


MODULE = """
import sys
from torch import nn
from torch.utils.checkpoint import checkpoint
class Ends(nn.Module):
    def forward(self, x):
        sys.exit(4)
def ends():
    return Ends()
class Odd(BaseException):
    pass
def odd():
    raise Odd("of a kind of its own")
"""


def test_a_model_that_ends_the_program_does_not_end_it_with_its_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "model.py"
    file.write_text(MODULE)
    assert "it ends the program (sys.exit(4))" in refused(capsys, "layers", "--model", f"{file}:ends")
    assert "raises Odd: of a kind of its own" in refused(capsys, "layers", "--model", f"{file}:odd")


def test_a_model_whose_repr_ends_the_program_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    ends = "class Ends(nn.Linear):\n    def extra_repr(self):\n        raise SystemExit(3)\n"
    file.write_text(f"from torch import nn\n{ends}def make():\n    return nn.Sequential(nn.Flatten(), Ends(192, 2))\n")
    line = refused(capsys, "activations", "--model", f"{file}:make", "--size", "8", "--layer", "1", "x.png")
    assert "\n" not in line


def test_a_state_that_holds_itself_ends(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["model"] = state
    torch.save(state, tmp_path / "cyclic.pt")
    assert "cyclic.pt" in refused(capsys, "layers", "--weights", str(tmp_path / "cyclic.pt"))


def test_deep_nesting_is_one_line(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    save_file({"a": torch.zeros(2)}, tmp_path / "deep.safetensors", {"labels": deep})
    with pytest.raises(NetworkError, match="can't be read"):
        read_state(tmp_path / "deep.safetensors")


def test_numbers_of_numpy_are_numbers(net: Network) -> None:
    two, size = np.int64(2), np.int64(16)
    spec = InputSpec(size=size, channels=np.int64(3), mean=np.float32(0.5), std=torch.tensor([0.5, 0.25, 0.5]))
    assert spec == InputSpec(size=(16, 16), mean=(0.5,), std=(0.5, 0.25, 0.5))
    assert json.dumps([spec.size, spec.channels, spec.mean, spec.std])
    images, objective = torch.rand(1, 3, 16, 16), obj.logit(np.int64(1))
    plain = netloupe.occlusion(net, images, obj.logit(1), window=4, stride=2).scores
    assert (netloupe.occlusion(net, images, objective, window=np.int64(4), stride=two).scores == plain).all()
    plain = netloupe.smooth_grad(net, images, obj.logit(1), samples=2, seed=2)
    assert torch.equal(netloupe.smooth_grad(net, images, objective, samples=two, seed=two), plain)
    plain = netloupe.integrated_gradients(net, images, obj.logit(1), steps=2)
    assert torch.equal(netloupe.integrated_gradients(net, images, objective, steps=two), plain)
    assert net.predict(images, top=two) == net.predict(images, top=2)
    found = netloupe.visualize(net, obj.channel("0", two), steps=two, seed=two, size=size)
    assert (found.images == netloupe.visualize(net, obj.channel("0", 2), steps=2, seed=2, size=16).images).all()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, True, 1.5, "many", 2**70, -1])
def test_a_seed_that_is_none_is_refused(net: Network, wrong: Any) -> None:
    images = torch.rand(1, 3, 16, 16)
    for call in (
        lambda: netloupe.load(seed=wrong),
        lambda: netloupe.visualize(net, obj.channel("0", 2), steps=1, seed=wrong),
        lambda: netloupe.smooth_grad(net, images, obj.logit(1), samples=1, seed=wrong),
    ):
        with pytest.raises(InputError, match="seed .*accepted: "):
            call()


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda net: InputSpec(size=2.5), "input size 2.5"),
        (lambda net: InputSpec(size=None), "input size None"),
        (lambda net: InputSpec(size="64"), "input size '64'"),
        (lambda net: InputSpec(channels="3"), "input channels '3'"),
        (lambda net: InputSpec(mean=math.nan), "mean nan"),
        (lambda net: InputSpec(std=math.nan), "std nan"),
        (lambda net: netloupe.load(labels=5), "labels 5"),
        (lambda net: netloupe.load(classes="conv5"), "classes 'conv5'"),
        (lambda net: net.predict(torch.rand(1, 3, 16, 16), top=math.nan), "top nan"),
        (
            lambda net: netloupe.integrated_gradients(net, torch.rand(1, 3, 16, 16), obj.logit(1), steps=math.nan),
            "steps",
        ),
        (lambda net: netloupe.top_patches(net, "photos"), "images 'photos'"),
        (
            lambda net: netloupe.neighbors(net, torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16)),
            r"of shape \(., 3, 16, 16\)",
        ),
    ],
)
def test_what_is_of_the_wrong_type_is_refused_in_one_line(net: Network, call: Any, reason: str) -> None:
    with pytest.raises(NetloupeError, match=reason) as error:
        call(net)
    assert isinstance(error.value, InputError | UnknownName)
    assert "\n" not in str(error.value)


class Checkpointed(nn.Module):
    """A network whose second convolution is computed again on the way back."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)
        self.relu, self.reentrant = nn.ReLU(), reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.a(x))
        x = checkpoint(lambda y: self.b(y).relu(), x, use_reentrant=self.reentrant)
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


def test_gradients_through_checkpointing_are_right() -> None:
    images, spec = torch.rand(1, 3, 8, 8), InputSpec((8, 8))
    nets = []
    for kind in (False, True):
        torch.manual_seed(0)
        nets.append(Network(Checkpointed(kind), spec, name="net"))
    for objective in (obj.logit(1), obj.channel("b", 1)):
        first, second = (netloupe.gradient(net, images, objective) for net in nets)
        assert first.any()
        assert torch.equal(first, second)
