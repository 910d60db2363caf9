"""Receptive fields against brute force, and the known numbers of known networks."""

from __future__ import annotations

import random
from itertools import pairwise, product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_helpers import Branches, ChannelsLast, Dense, Fn, Gate, Residual, Reused, Shuffle, conv, network, seen_by_each
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.trace.measuring import measure


def pad(*amounts: int, mode: str = "constant") -> nn.Module:
    return Fn(lambda x: F.pad(x, amounts, mode=mode))


def resize(mode: str, **options: Any) -> nn.Module:
    return Fn(lambda x: F.interpolate(x, mode=mode, **options))


STACKS: dict[str, list[nn.Module]] = {
    "plain": [conv(), nn.ReLU(), conv(), nn.ReLU()],
    "strides": [conv(kernel=(5, 3), stride=(2, 1), padding=(1, 0)), nn.ReLU(True), conv(stride=2, padding=1)],
    "dilation": [conv(dilation=2, padding=2), conv(kernel=(1, 3), dilation=(1, 3), padding=(0, 2))],
    "dropped rows": [conv(stride=2), conv(padding=1), nn.MaxPool2d(3, 2, 1)],
    "asymmetric": [pad(0, 1, 1, 0), conv(stride=2), pad(1, 2, 0, 1), conv(stride=2), pad(-1, 0, 0, -1)],
    "same": [conv(kernel=(4, 5), padding="same"), conv(kernel=4, padding="same")],
    "mirror": [pad(2, 2, 2, 2, mode="reflect"), conv(kernel=5), pad(1, 1, 1, 1, mode="replicate"), conv(stride=2)],
    "wrapped": [conv(), pad(1, 1, 1, 1, mode="circular"), conv()],
    "pooling": [nn.MaxPool2d(3, 2, ceil_mode=True), conv(padding=1), nn.AvgPool2d(2, ceil_mode=True)],
    "padded pooling": [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(2, 1, dilation=2)],
    "adaptive": [conv(padding=1), nn.AdaptiveAvgPool2d((5, 10)), nn.AdaptiveMaxPool2d((3, 5)), nn.LPPool2d(2, 2)],
    "norms": [conv(), nn.BatchNorm2d(4), nn.LocalResponseNorm(3), nn.PReLU(4), nn.Hardswish(), nn.Dropout2d()],
    "global norm": [conv(stride=2), nn.GroupNorm(2, 4), conv()],
    "instance norm": [conv(stride=2), nn.InstanceNorm2d(4), conv()],
    "residual": [Residual(conv(padding=1), nn.ReLU()), Residual(conv(kernel=5, padding=2)), conv(stride=2)],
    "dense": [Dense(), nn.AvgPool2d(2), conv(of=16)],
    "inception": [Branches(), conv(of=11, stride=2), Branches()],
    "gate": [conv(stride=2), Gate(), conv()],
    "shuffle": [conv(padding=1), Shuffle(), Shuffle(), conv(stride=2)],
    "native shuffle": [conv(padding=1, groups=2), nn.ChannelShuffle(2), conv(stride=2)],
    "channels last": [conv(kernel=4, stride=4), ChannelsLast(), ChannelsLast()],
    "reused": [Reused(), conv(stride=2), Reused()],
    "separate axes": [conv(stride=2), Fn(lambda x: x * x.mean(3, True)), Fn(lambda x: x + x.amax(2, True))],
    "channel attention": [conv(stride=2), Fn(lambda x: x * torch.cat([x.mean(1, True), x.amax(1, True)], 1)[:, :1])],
    "upsampling": [conv(stride=2), resize("nearest", scale_factor=2), conv(), resize("bilinear", size=(9, 31))],
    "aligned": [conv(stride=2), resize("bilinear", size=17, align_corners=True), resize("bicubic", size=9)],
    "transposed": [conv(stride=2), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ConvTranspose2d(4, 4, 3, 2, dilation=2)],
    "pixels": [nn.PixelUnshuffle(1), conv(16, stride=2), nn.PixelShuffle(2), nn.PixelUnshuffle(2), conv(of=16)],
    "slices": [conv(), Fn(lambda x: x[:, :, 2:-1:2, 1:]), conv(), Fn(lambda x: torch.flip(x, [2])), conv()],
    "focus": [Fn(lambda x: torch.cat([x[..., i : i + 18 : 2, 1:19:2] for i in (0, 1)], 1)), conv(of=8)],
    "rows joined": [conv(), Fn(lambda x: torch.cat([x[:, :, -2:], x, x[:, :, :1]], 2)), conv(stride=2)],
    "flattened": [conv(stride=2), nn.Flatten(), nn.Linear(4 * 11 * 9, 6), nn.LayerNorm(6)],
    "pooled flat": [conv(stride=2), Fn(lambda x: x.flatten(2).mean(2)), nn.Linear(4, 3)],
    "tokens": [conv(stride=2), Fn(lambda x: x.flatten(2).transpose(1, 2).sum(1))],
    "squeezed": [conv(), nn.AdaptiveAvgPool2d(1), Fn(lambda x: x.squeeze(-1).squeeze(-1)), nn.Linear(4, 3)],
    "in place": [conv(), nn.ReLU6(inplace=True), Fn(lambda x: x.mul_(x[:, :1].clone()).clamp_(0)), conv()],
    "split": [conv(), Fn(lambda x: sum(x.split(1, 1))), Fn(lambda x: torch.stack([x, -x], 2).amax(2)), conv(of=1)],
}  # fmt: skip


def attended(x: Tensor) -> Tensor:
    """Attention between all positions, in two heads, and back to a map."""
    heads = x.flatten(2).transpose(1, 2).contiguous().unflatten(2, (2, 2)).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(heads, heads, heads)
    return mixed.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, tuple(x.shape[2:]))


def batched(x: Tensor) -> Tensor:
    """Each image written into a batch of zeros, as detectors do with images of any size."""
    batch = x.new_zeros(x.shape)
    for i in range(len(x)):
        batch[i, :, : x.shape[2], : x.shape[3]].copy_(x[i])
    return batch


MOVED: dict[str, Any] = {
    "tokens and back": lambda x: x.flatten(2).transpose(1, 2).relu().transpose(1, 2).unflatten(2, tuple(x.shape[2:])),
    "linear of positions": lambda x: F.linear(x.permute(0, 2, 3, 1), torch.ones(4, 4)).permute(0, 3, 1, 2),
    "rolled": lambda x: x.roll((1, 2), (2, 3)),
    "picked by number": lambda x: x[:, :, [5, 0, 2, 2]],
    "repeated": lambda x: x.repeat(1, 1, 2, 1),
    "a border of constants": lambda x: torch.cat([torch.ones(len(x), 4, 1, x.shape[3]), x], 2),
    "attended": attended,
    "batched one by one": batched,
}


@pytest.mark.parametrize("name", MOVED)
def test_what_only_moves_is_followed(name: str) -> None:
    net = network(conv(stride=2), Fn(MOVED[name]), conv(2), Fn(lambda x: x.flatten(1)[:, 7:21].unflatten(1, (1, 2, 7))))
    for layer in "abc":
        assert net.layers[layer].receptive_field.exact
        same_boxes(net, layer, net.layers[layer].receptive_field)


def test_channels_flattened_with_positions_are_not_told_apart() -> None:
    """Where channels see differently: whoever reads them all is followed, a pick of them is measured."""
    uneven = Fn(lambda x: torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], 1))
    net = network(conv(), uneven, nn.Flatten(), nn.Linear(8 * 9 * 8, 4), size=(11, 10))
    assert net.layers["d"].receptive_field.exact
    picked = network(conv(), uneven, Fn(lambda x: x.flatten(1)[:, :3]), size=(11, 10)).layers["c"].receptive_field
    assert (picked.exact, picked.size) == (False, (3, 5))


def same_boxes(net: Network, layer: str, field: ReceptiveField, value: float = torch.nan) -> None:
    found = {neuron: box for neuron, box in seen_by_each(net, layer, value).items() if box is not None}
    assert found
    assert {neuron: field.box(*neuron, net.inputs.size) for neuron in found} == found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", STACKS)
def test_every_neuron_sees_its_box(name: str) -> None:
    net = network(*STACKS[name])
    exact = 0
    for layer in net.layers.values():
        if "~" in layer.name or layer.name == "head" or not layer.receptive_field.exact:
            continue
        exact += 1
        # NaN times a weight of zero is NaN, and interpolation has such weights
        same_boxes(net, layer.name, layer.receptive_field, 1e4 if name == "aligned" else torch.nan)
    assert exact


@pytest.mark.parametrize("seed", range(12))
def test_random_stacks(seed: int) -> None:
    """Random windows on random sizes, with branches that meet again."""
    draw = random.Random(seed)

    def part() -> nn.Module:
        kernel, stride, dilation = draw.randint(1, 4), draw.randint(1, 3), draw.randint(1, 2)
        window = {"kernel_size": kernel, "stride": stride, "padding": draw.randint(0, kernel // 2)}
        return draw.choice(
            [
                conv(kernel=kernel, stride=stride, padding=draw.randint(0, 3), dilation=dilation),
                nn.MaxPool2d(**window, dilation=dilation, ceil_mode=draw.random() < 0.5),
                nn.AvgPool2d(**window, ceil_mode=draw.random() < 0.5),
                nn.Sequential(pad(*(draw.randint(0, 2) for _ in range(4))), conv(kernel=2, stride=stride)),
                Branches() if stride == 1 else Residual(conv(padding=1), nn.BatchNorm2d(4), conv(padding=1)),
            ]
        )

    parts: list[nn.Module] = []
    for _ in range(4):
        parts.append(part())
        if isinstance(parts[-1], Branches):
            parts.append(conv(of=11, kernel=1))
    net = network(*parts, size=(draw.randint(30, 47), draw.randint(30, 47)))
    for letter, _ in zip("abcdefgh", parts, strict=False):
        field = net.layers[letter].receptive_field
        assert field.exact
        same_boxes(net, letter, field)


def window_field(*parts: nn.Module, size: int = 224) -> ReceptiveField:
    net = network(*parts, size=size, channels=3)
    field = net.layers["abcdefghijkl"[len(parts) - 1]].receptive_field
    assert field.exact
    assert net.layers["abcdefghijkl"[len(parts) - 1]].spatial
    return field


def vgg(*blocks: int) -> list[nn.Module]:
    """Blocks of 3x3 convolutions, each block but the last followed by pooling."""
    parts: list[nn.Module] = []
    for block, depth in enumerate(blocks):
        body = [conv(4, of=3 if block == 0 and i == 0 else 4, padding=1) for i in range(depth)]
        parts.append(nn.Sequential(*body))
        parts.append(nn.MaxPool2d(2))
    return parts


ZFNET = [
    conv(4, 7, of=3, stride=2, padding=1),
    nn.MaxPool2d(3, 2, 1),
    conv(4, 5, stride=2),
    nn.MaxPool2d(3, 2, 1),
    conv(padding=1),
    conv(padding=1),
    conv(padding=1),
    nn.MaxPool2d(3, 2),
]
ALEXNET = [
    conv(4, 11, of=3, stride=4, padding=2),
    nn.MaxPool2d(3, 2),
    conv(4, 5, padding=2),
    nn.MaxPool2d(3, 2),
    conv(padding=1),
    conv(padding=1),
    conv(padding=1),
    nn.MaxPool2d(3, 2),
]


@pytest.mark.parametrize(
    ("parts", "size", "stride"),
    [
        (vgg(2, 2, 3, 3, 3)[:-1], 196, 16),
        (vgg(2, 2, 3, 3, 3), 212, 32),
        (vgg(2, 2, 3)[:-1], 40, 4),
        *((ZFNET[: i + 1], *known) for i, known in enumerate([(7, 2), (11, 4), (27, 8), (43, 16), (75, 16)])),
        (ZFNET[:7], 139, 16),
        (ZFNET, 171, 32),
        (ALEXNET[:7], 163, 16),
        (ALEXNET, 195, 32),
    ],
)
def test_known_networks(parts: list[nn.Module], size: int, stride: int) -> None:
    field = window_field(*parts)
    assert (field.size, field.stride, field.whole) == ((size, size), (stride, stride), False)


def test_whole_image_and_boxes_of_other_sizes() -> None:
    net = network(conv(padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), size=(9, 8))
    assert [layer.receptive_field.whole for layer in net.layers.values()] == [False, True, True, True]
    pooled = net.layers["b"].receptive_field
    assert (pooled.size, pooled.box(0, 0, (9, 8)), pooled.box(0, 0, (40, 30))) == ((9, 8), (0, 0, 9, 8), (0, 0, 40, 30))
    near = net.layers["a"].receptive_field
    assert near.box(0, 0, (9, 8)) == (0, 0, 2, 2)
    assert near.box(8, 7, (9, 8)) == (7, 6, 9, 8)
    assert near.box(8, 7, (40, 30)) == (7, 6, 10, 9)


def test_a_small_pooled_net_need_not_see_all() -> None:
    """The last rows that a strided layer drops are seen by nobody."""
    field = network(conv(stride=3), nn.AdaptiveAvgPool2d(1), size=(10, 13)).layers["b"].receptive_field
    assert (field.whole, field.size, field.start, field.stride) == (False, (9, 12), (0, 0), (0, 0))


@pytest.mark.parametrize(
    "lost",
    [
        Fn(lambda x: F.grid_sample(x, torch.zeros(x.shape[0], 5, 5, 2), align_corners=False)),
        Fn(lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1)),
        Fn(lambda x: torch.zeros_like(x).index_add(2, torch.arange(x.shape[2]), x)),
    ],
)
def test_unknown_operations_give_up(lost: nn.Module) -> None:
    net = network(conv(), lost, conv())
    assert [net.layers[name].receptive_field.exact for name in "abc"] == [True, False, False]


def test_writing_into_part_of_a_tensor_gives_up() -> None:
    def paste(x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 4, *x.shape[2:])
        out[:, :2] = x[:, :2]
        out[:, 2:] = F.avg_pool2d(x[:, 2:], 5, 1, 2)
        return out

    def add(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :2] += F.avg_pool2d(x[:, 2:], 5, 1, 2)
        return x

    for write in (paste, add):
        field = network(conv(), Fn(write), conv()).layers["b"].receptive_field
        assert (field.size, field.exact) == ((7, 7), False)


def test_channels_with_different_boxes_are_a_bound() -> None:
    """Picking channels that see less than others: the union is more than what is seen, and says so."""
    net = network(conv(), Fn(lambda x: torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], 1)), Fn(lambda x: x[:, :4]))
    assert net.layers["b"].receptive_field.exact
    assert not net.layers["c"].receptive_field.exact
    assert net.layers["c"].receptive_field.size == (5, 5)


@pytest.mark.parametrize(
    "name", ["plain", "strides", "dilation", "pooling", "residual", "inception", "gate", "in place"]
)
def test_measured_is_exact_in_the_middle(name: str) -> None:
    net = network(*STACKS[name], size=(43, 38))
    shapes = {layer.name: layer.shape for layer in net.layers.values() if layer.spatial}
    assert shapes
    for layer, field in measure(net.module, net.inputs, net.module, shapes).items():
        exact = net.layers[layer].receptive_field
        middle = shapes[layer][1] // 2, shapes[layer][2] // 2
        assert field.box(*middle, net.inputs.size) == exact.box(*middle, net.inputs.size)
        assert (field.stride, field.whole, field.exact) == (exact.stride, exact.whole, False)


def test_measured_where_nan_does_not_come_through() -> None:
    net = network(conv(), Fn(lambda x: x.nan_to_num()), conv(), Fn(lambda x: x.detach()), conv(), size=(21, 24))
    shapes = {name: net.layers[name].shape for name in "abce"}
    fields = measure(net.module, net.inputs, net.module, shapes)
    assert [fields[name].size for name in "abc"] == [(3, 3), (3, 3), (5, 5)]
    assert [fields[name].start for name in "abc"] == [(0, 0)] * 3
    assert fields["e"].whole
    assert not any(field.exact for field in fields.values())


class Windowed(nn.Module):
    """Attention inside windows of 3 x 3 positions, shifted by one like a Swin's: windows that go on at the other border
    are masked. A map (N, C, 12, 12), channels first."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        tokens = self._windows(x.roll((-self.shift, -self.shift), (2, 3)))
        parts = (torch.arange(12) >= 12 - self.shift).float()
        told = self._windows((parts[:, None] * 2 + parts)[None, None])
        scores = tokens @ tokens.transpose(1, 2) / 8 - 100 * (told != told.transpose(1, 2)).float()
        mixed = scores.softmax(2) @ tokens
        found = mixed.view(4, 4, 3, 3, -1).permute(4, 0, 2, 1, 3).reshape(1, -1, 12, 12)
        return found.roll((self.shift, self.shift), (2, 3))

    @staticmethod
    def _windows(x: Tensor) -> Tensor:
        return x.view(-1, 4, 3, 4, 3).permute(1, 3, 2, 4, 0).reshape(16, 9, -1)


@pytest.mark.parametrize("shift", [0, 1])
def test_measured_inside_windows_of_attention(shift: int) -> None:
    """Neurons of one window see that window, wherever it lies; what is masked they do not see."""
    patches = nn.Conv2d(4, 4, 2, 2)
    net = network(patches, Windowed(shift), size=(24, 24))
    field = net.layers["b"].receptive_field
    assert (field.exact, field.whole) == (False, False)
    edges = sorted({0, *range(shift, 13, 3), 12})
    windows = [(first, end) for first, end in pairwise(edges) for _ in range(first, end)]
    assert len(set(windows)) == (4 if shift == 0 else 5)
    for y, x in product(range(12), range(12)):
        (top, bottom), (left, right) = ((2 * first, 2 * end) for first, end in (windows[y], windows[x]))
        assert field.box(y, x, (24, 24)) == (top, left, bottom, right)
        assert net.layers["b"].patch(y, x, (24, 24)) == (top, left, bottom, right)


def test_measured_of_a_broken_network_is_whole() -> None:
    net = network(conv(), Fn(lambda x: x / 0 * 0))
    assert measure(net.module, net.inputs, net.module, {"b": net.layers["b"].shape})["b"].whole


def test_one_channel_and_vectors() -> None:
    net = Network(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 7 * 6, 3)), InputSpec((9, 8), 1))
    fields = [layer.receptive_field for layer in net.layers.values()]
    assert [(field.size, field.whole) for field in fields] == [((3, 3), False), ((9, 8), True), ((9, 8), True)]
