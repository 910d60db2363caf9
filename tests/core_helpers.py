"""Small networks of every shape for the tests of core, and slow oracles that share no code with it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network


class Fn(nn.Module):
    """A function as a module, so that it has a name; parts are the submodules it uses."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.children())


def conv(channels: int = 4, kernel: Any = 3, **options: Any) -> nn.Conv2d:
    """A convolution of four channels to `channels`."""
    return nn.Conv2d(options.pop("of", 4), channels, kernel, **options)


def network(*parts: nn.Module, size: Any = (23, 20), channels: int = 4, **options: Any) -> Network:
    """Parts 'a', 'b', ... one after the other, then whatever stands between them and five logits ('head')."""
    torch.manual_seed(0)
    body = nn.Sequential()
    for letter, part in zip("abcdefghijkl", parts, strict=False):
        body.add_module(letter, part)
    body.add_module("head", Fn(lambda x: x.flatten(1)[:, :5]))
    return Network(body, InputSpec(size=size, channels=channels), **options)


def seen_by_each(
    net: Network, layer: str, value: float = torch.nan
) -> dict[tuple[int, int], tuple[int, int, int, int] | None]:
    """(y, x) -> the box of all pixels that change the neuron if they take `value`, row by row and column by column."""
    height, width = net.inputs.size
    spans: list[list[list[tuple[int, int] | None]]] = []
    for axis, limit in enumerate((height, width)):
        images = torch.full((limit, net.inputs.channels, height, width), 0.5)
        for i in range(limit):
            images[i].select(1 + axis, i).fill_(value)
        maps = run_to(net.module, layer, images) != run_to(net.module, layer, torch.full_like(images, 0.5))
        maps = maps.permute(0, 3, 1, 2) if str(net.layers[layer].layout) == "nhwc" else maps
        maps = (maps if maps.ndim == 4 else maps[:, :, None, None]).any(1)
        spans.append(
            [
                [
                    (int(hits[0]), int(hits[-1]) + 1) if len(hits := maps[:, y, x].nonzero().flatten()) else None
                    for x in range(maps.shape[2])
                ]
                for y in range(maps.shape[1])
            ]
        )
    rows, columns = spans
    boxes: dict[tuple[int, int], tuple[int, int, int, int] | None] = {}
    for y, (row, column) in enumerate(zip(rows, columns, strict=True)):
        for x, (down, across) in enumerate(zip(row, column, strict=True)):
            boxes[y, x] = None if down is None or across is None else (down[0], across[0], down[1], across[1])
    return boxes


def run_to(module: nn.Module, layer: str, x: Tensor) -> Tensor:
    """The output of a layer by a plain hook."""
    found: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _m, _a, output: found.append(output.clone()))
    module.eval()
    with torch.no_grad():
        module(x)
    handle.remove()
    return found[0]


def held_in_circles(run: Callable[[], object]) -> list[str]:
    """The kinds of what a call leaves behind that holds itself: all of it stays until the garbage collector comes."""
    run()  # what is made once
    gc.collect()
    gc.disable()
    try:
        run()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return [type(one).__name__ for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


class Residual(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        out += x
        return F.relu_(out)


class Dense(nn.Module):
    """Every part reads the concatenation of all before it (DenseNet)."""

    def __init__(self, steps: int = 3) -> None:
        super().__init__()
        self.parts = nn.ModuleList(conv(4, of=4 * (i + 1), padding=1) for i in range(steps))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = torch.cat([x, part(x).relu()], 1)
        return x


class Branches(nn.Module):
    """1x1, 3x3, 5x5 and pooling side by side (Inception)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three, self.five = conv(2, 1), conv(2, 3, padding=1), conv(3, 5, padding=2)
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), F.relu(self.three(x)), self.five(x), self.pool(x)], dim=1)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.down(self.up(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Shuffle(nn.Module):
    """ShuffleNet v2's unit: half passes by, then the channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.part = conv(2, 3, of=2, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        kept, used = x.chunk(2, dim=1)
        out = torch.cat((kept, self.part(used)), 1)
        n, c, h, w = out.shape
        return out.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ChannelsLast(nn.Module):
    """ConvNeXt's block: depthwise, then layer norm and linear with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = conv(4, 5, padding=2, groups=4), nn.LayerNorm(4)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.second(F.gelu(self.first(y)))
        return x + y.permute(0, 3, 1, 2)


class Reused(nn.Module):
    """The same convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.part = conv(4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.part(x).relu())
