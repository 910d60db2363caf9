"""Occlusion by leaving tokens out: what a network answers on those that remain, with their own positions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netloupe
from netloupe.cli.app import main
from netloupe.core.errors import InputError, NetworkError
from netloupe.zoo.load import load


class Mixer(nn.Module):
    """Attention and a perceptron, each beside the stream."""

    def __init__(self, rotary: bool) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.turn = nn.Parameter(torch.randn(1, 17, 16)) if rotary else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        turned = y if self.turn is None else y * self.turn
        x = x + self.attn(turned, turned, y, need_weights=False)[0]
        return x + self.mlp(x)


class Stack(nn.Module):
    """Adds the positions itself, as torchvision's encoder does."""

    def __init__(self, rotary: bool) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 17, 16))
        self.layers = nn.Sequential(Mixer(rotary), Mixer(rotary))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x + self.positions)
        return found


class Tokens(nn.Module):
    def __init__(self, rotary: bool = False) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.encoder, self.head = Stack(rotary), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = self.encoder(torch.cat([self.cls.expand(len(y), -1, -1), y], 1))
        logits: Tensor = self.head(y[:, 0])
        return logits


@pytest.fixture
def net() -> netloupe.Network:
    torch.manual_seed(0)
    return netloupe.Network(Tokens(), netloupe.InputSpec((16, 16)))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_hand(module: Tokens, image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """The logits of the tokens that don't stand in (top, left, bottom, right), one operation after the other."""
    y = module.patch(image[None]).flatten(2).transpose(1, 2)
    y = torch.cat([module.cls, y], 1) + module.encoder.positions
    top, left, bottom, right = (edge // 4 for edge in box)
    kept = [0] + [1 + i * 4 + j for i in range(4) for j in range(4) if not (top <= i < bottom and left <= j < right)]
    return module.head(module.encoder.layers(y[:, kept])[:, 0])[0]


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (8, 4), (8, 8), ((4, 12), (4, 8))])
def test_scores_are_those_of_the_tokens_that_remain(
    net: netloupe.Network, images: Tensor, window: int | tuple[int, int], stride: int | tuple[int, int]
) -> None:
    found = netloupe.occlusion(net, images, "class:3", window=window, stride=stride, baseline="drop", batch_size=3)
    module = net.module
    assert isinstance(module, Tokens)
    module.eval()
    rows, columns = found.windows.grid
    assert rows * columns > 3
    with torch.no_grad():
        for i, image in enumerate(images):
            for row in range(rows):
                for column in range(columns):
                    right = float(by_hand(module, image, found.windows.box(row, column))[3])
                    assert found.scores[i, row, column] == pytest.approx(right, abs=1e-5)
    assert found.scores.std() > 1e-3
    assert found.method == "tokens left out"
    assert torch.allclose(torch.from_numpy(found.clean), net(images)[:, 3], atol=1e-6)


def test_the_embedded_transformer_does_without_tokens() -> None:
    net = load("patchlet", weights="random", seed=0)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = netloupe.occlusion(net, image, "class:3", window=32, stride=32, baseline="drop")
    assert found.scores.shape == (1, 2, 2)
    assert len(set(found.scores.flatten().tolist())) == 4


def test_what_drop_can_not_mean_is_one_line(net: netloupe.Network, images: Tensor) -> None:
    def drop(of: netloupe.Network, objective: str = "class:1", window: int = 4, stride: int = 4) -> None:
        netloupe.occlusion(of, images, objective, window=window, stride=stride, baseline="drop")

    with pytest.raises(InputError, match=r"cuts through tokens of 4x4 px, .*multiples of that"):
        drop(net, window=6, stride=3)
    with pytest.raises(InputError, match="leaves out all tokens"):
        drop(net, window=16)
    with pytest.raises(InputError, match=r"reads layer 'encoder\.layers\.0', of which parts are left out"):
        drop(net, "encoder.layers.0:3")
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(NetworkError, match=r"no tokens that stand on the image"):
        drop(netloupe.Network(layers, netloupe.InputSpec((16, 16))))
    with pytest.raises(NetworkError, match=r"can't do with fewer tokens, as where positions enter each attention"):
        drop(netloupe.Network(Tokens(rotary=True), netloupe.InputSpec((16, 16))))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.py"
    source = Path(__file__).read_text(encoding="utf-8")
    start, end = source.index("class Mixer"), source.index("@pytest.fixture")
    file.write_text(f"import torch\nfrom torch import Tensor, nn\n\n{source[start:end]}")
    netloupe.fool  # noqa: B018  # imported lazily, so the package is whole
    from PIL import Image

    Image.new("RGB", (16, 16), (200, 30, 90)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    command = ["occlude", str(tmp_path / "a.png"), "--model", f"{file}:Tokens", "--size", "16", "--seed", "3"]
    assert main([*command, "--baseline", "drop", "-w", "4", "-s", "4", "-o", str(out)]) == 0
    assert "tokens left out" in (out / "manifest.json").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "--baseline", "drop", "-w", "5"]) == 2
    assert "cuts through tokens of 4x4 px" in capsys.readouterr().err
