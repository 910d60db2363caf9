"""The loop: what it reaches, that images do not touch, and how it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import netloupe
from core_helpers import Fn
from netloupe import objectives as obj
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.synthesis import constraints, transforms
from netloupe.synthesis.climb import Climbed, climb
from netloupe.synthesis.natural import Natural, frequencies, measure_natural, natural
from netloupe.synthesis.optimizers import LBFGS, Adam, Normalized, Optimizer
from netloupe.synthesis.parameterizations import Codes, Fourier, Phases, Pixels, Pyramid, rounded
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import NOISE, start_images
from netloupe.synthesis.tasks import STARTS
from watch_helpers import Recorder

SIDE = 6


def linear(weights: Tensor) -> Network:
    """Its only logit is the sum of pixels times weights (C, H, W)."""
    return Network(Fn(lambda x: (x * weights).flatten(1).sum(1, keepdim=True)), InputSpec(tuple(weights.shape[1:])))


def small() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip
    return Network(module, InputSpec((16, 16)), list("abcd"), name="small")


def gray(count: int, side: int = 16) -> Tensor:
    return torch.full((count, 3, side, side), 0.5)


@pytest.mark.parametrize("optimizer", [Adam(0.1), Normalized(0.1), Normalized(0.1, "l1"), Normalized(0.1, "sign")])
def test_a_linear_score_is_highest_at_a_corner(optimizer: Optimizer) -> None:
    torch.manual_seed(1)
    weights = torch.randn(3, SIDE, SIDE)
    found = climb(linear(weights), [obj.logit(0)], gray(1, SIDE), Recipe(optimizer=optimizer, steps=120))
    assert float(((found.images[0] > 0.5) == (weights > 0)).double().mean()) > 0.99
    best = float(weights.clamp(min=0).sum())
    assert float(found.scores) > 0.97 * best
    assert float(found.scores) <= best + 1e-3
    assert float(found.before) == pytest.approx(float(weights.sum() / 2), abs=1e-4)


def test_lbfgs_finds_the_top_of_a_hill_in_a_few_steps() -> None:
    torch.manual_seed(0)
    top, widths = torch.rand(3, SIDE, SIDE) * 0.5 + 0.25, torch.rand(3, SIDE, SIDE) + 0.1
    net = Network(Fn(lambda x: -((x - top) * widths).square().flatten(1).sum(1, keepdim=True)), InputSpec((SIDE, SIDE)))
    found = climb(
        net, [obj.logit(0)] * 2, gray(2, SIDE), Recipe(optimizer=LBFGS(), parameterization=Pixels("free"), steps=25)
    )
    assert float((found.images - top).abs().max()) < 1e-2
    slow = climb(net, [obj.logit(0)], gray(1, SIDE), Recipe(optimizer=Normalized(0.001), steps=12))
    assert float((slow.images - top).abs().max()) > 0.1


TRANSFORMS = (transforms.Pad(2), transforms.Jitter(2), transforms.Scale((0.9, 1.1)), transforms.Crop((16, 16)))


@pytest.mark.parametrize("optimizer", [Adam(0.05), Normalized(0.02), LBFGS(0.1)])
def test_an_image_comes_out_the_same_whatever_others_there_are(optimizer: Optimizer) -> None:
    net = netloupe.load()
    objectives = [
        obj.logit(3),
        obj.channel("conv4", 7),
        obj.neuron("conv2", 5),
        obj.logit(150),
        obj.channel("conv7", 1),
    ]
    start = start_images(net, "noise", 5, (40, 40), 0)
    steps = 2 if isinstance(optimizer, LBFGS) else 6

    def run(some: list[int], batch_size: int = 16, seed: int = 0) -> Tensor:
        chosen = [objectives[i] for i in some]
        return climb(
            net,
            chosen,
            start[some],
            Recipe(parameterization=Fourier(), optimizer=optimizer, steps=steps, transforms=TRANSFORMS),
            seed=seed,
            batch_size=batch_size,
        ).images

    together = run([0, 1, 2, 3, 4])
    assert torch.equal(together, run([0, 1, 2, 3, 4], batch_size=2))
    for i in range(5):
        assert torch.equal(run([i])[0], together[i])
    assert torch.equal(run([4, 0])[1], together[0])
    assert not torch.equal(run([0], seed=1)[0], together[0])
    assert not torch.equal(together[0], together[3])


def test_the_network_is_left_alone_and_run_no_deeper_than_needed() -> None:
    net = small()
    state = {name: value.clone() for name, value in net.module.state_dict().items()}
    reached: list[str] = []
    assert net.layers  # probes once
    assert net.runs_channels_last  # too
    handle = net.module[6].register_forward_hook(lambda *_: reached.append("fc"))
    climb(net, [obj.channel("2", 1)], gray(1), Recipe(steps=2))
    assert not reached
    climb(net, [obj.logit(1)], gray(1), Recipe(steps=2))
    assert len(reached) == 4  # two steps, and the scores before and after
    handle.remove()
    assert all(p.grad is None for p in net.module.parameters())
    assert all(torch.equal(value, net.module.state_dict()[name]) for name, value in state.items())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.module.modules())


def test_a_network_that_can_only_be_run_in_rows_is() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).relu()
            found: Tensor = self.fc(y.view(len(y), -1))  # fails where channels lie last
            return found

    torch.manual_seed(0)
    net = Network(Viewing(), InputSpec((8, 8)))
    assert not net.runs_channels_last
    assert small().runs_channels_last
    found = climb(net, [obj.logit(0), obj.logit(1)], torch.rand(2, 3, 8, 8), Recipe(steps=5))
    assert (found.scores > found.before).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_rounded_passes_lead_to_the_same_place_and_keep_apart(count: int) -> None:
    net = netloupe.load()
    units = [obj.excitation("conv4", c) for c in range(6)]
    start = start_images(net, "noise", 6, (48, 48), 0)
    kept: dict[torch.dtype, Climbed] = {}
    for dtype in (torch.float32, torch.bfloat16):
        kept[dtype] = climb(net, units, start, Recipe(steps=24, optimizer=Adam(0.03)), dtype=dtype)
        some = climb(net, units[:count], start[:count], Recipe(steps=24, optimizer=Adam(0.03)), dtype=dtype)
        assert torch.equal(some.images, kept[dtype].images[:count])
    exact, rounded = kept[torch.float32], kept[torch.bfloat16]
    assert not torch.equal(exact.images, rounded.images)
    assert torch.allclose(exact.before, rounded.before, rtol=1e-5)  # scores are found in float32
    assert torch.allclose(exact.scores, rounded.scores, rtol=0.1)
    with torch.no_grad():
        again = torch.cat([net.read(rounded.images[i : i + 1], unit) for i, unit in enumerate(units)])
    assert torch.allclose(again, rounded.scores, rtol=1e-4)


def test_objectives_may_have_several_images_each() -> None:
    class Spread(obj.Objective):
        layers = ()

        def score(self, reading: obj.Reading) -> Tensor:
            return reading.images.flatten(1).var(0).sum().expand(len(reading.images))

    apart = Spread()
    torch.manual_seed(0)
    start = torch.rand(4, 3, 4, 4) * 0.01 + 0.5
    found = climb(small(), [apart, -apart], start, Recipe(steps=20, optimizer=Normalized(0.01)))
    before, after = start.view(2, 2, -1).var(1).sum(1), found.images.view(2, 2, -1).var(1).sum(1)
    assert float(after[0]) > 10 * float(before[0])
    assert float(after[1]) < float(before[1])


def test_a_step_that_diverges_stops_with_its_number() -> None:
    with pytest.raises(NetworkError, match=r"logit\(0\) is (nan|-?inf) in small at step [2-9]: Normalized.*smaller lr"):
        climb(
            small(),
            [obj.logit(0)],
            gray(1),
            Recipe(optimizer=Normalized(1e38), parameterization=Pixels("free"), steps=9),
        )
    bad = Network(Fn(lambda x: x.flatten(1)[:, :2] * torch.inf), InputSpec((16, 16)), name="bad")
    with pytest.raises(NetworkError, match=r"in bad at step 1 \(accepted: finite scores\)"):
        climb(bad, [obj.logit(0)], gray(1), Recipe(steps=3))


def off() -> Network:
    """A ReLU that a gray image leaves off."""
    conv = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.copy_(torch.tensor([-1.8, -5.0]))
    return Network(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)), InputSpec((4, 4)), name="off")


def test_a_channel_that_is_nowhere_above_zero_is_excited_when_redirected() -> None:
    net, objective = off(), [obj.excitation("0", 0)]
    assert climb(net, objective, gray(1, 4), Recipe(steps=30)).dead.tolist() == [True]
    assert float(climb(net, objective, gray(1, 4), Recipe(steps=30, redirected=16)).scores[0]) > 0.5


def test_a_unit_that_is_off_comes_alive_when_redirected_and_a_dead_one_is_told() -> None:
    net, objectives = off(), [obj.channel("1", 0), obj.channel("1", 1)]
    plain = climb(net, objectives, gray(2, 4), Recipe(steps=30))
    assert plain.dead.tolist() == [True, True]
    assert plain.taken.tolist() == [1, 1]
    woken = climb(net, objectives, gray(2, 4), Recipe(steps=30, redirected=16))
    assert float(woken.scores[0]) > 0.5
    assert float(woken.scores[1]) == 0.0  # no image in [0, 1] reaches it
    assert torch.equal(
        climb(net, [objectives[0]], gray(1, 4), Recipe(steps=30, redirected=16)).images[0], woken.images[0]
    )


def test_what_is_done_goes_no_further() -> None:
    def bright(reading: Any, ids: list[int]) -> Tensor:
        return reading.images.mean((1, 2, 3)) > torch.tensor([0.6, 0.8])[ids]

    net = linear(torch.ones(3, SIDE, SIDE))
    found = climb(net, [obj.logit(0)] * 2, gray(2, SIDE), Recipe(optimizer=Normalized(0.01), steps=100), until=bright)
    means = found.images.mean((1, 2, 3)).tolist()
    assert means == pytest.approx([0.61, 0.81], abs=0.011)
    assert found.taken.tolist() == [round((m - 0.5) / 0.01) for m in means]
    assert found.history[:, 0].isnan().sum() > found.history[:, 1].isnan().sum() > 0
    apart = climb(
        net,
        [obj.logit(0)] * 2,
        gray(2, SIDE),
        Recipe(optimizer=Normalized(0.01), steps=100),
        until=bright,
        batch_size=1,
    )
    assert torch.equal(apart.images, found.images)


def test_frames_and_progress_are_those_of_the_steps() -> None:
    watch = Recorder()
    net = small()
    found = climb(net, [obj.logit(i) for i in range(3)], gray(3), Recipe(steps=7), every=3, batch_size=2, watch=watch)
    assert found.frames.shape == (2, 3, 3, 16, 16)
    third = climb(net, [obj.logit(i) for i in range(3)], gray(3), Recipe(steps=3)).images
    assert torch.equal(found.frames[0], third)
    assert watch.told == [("steps", done, 21) for done in (*range(0, 15, 2), *range(15, 22))]
    assert not watch.shown
    assert climb(net, [obj.logit(0)], gray(1), Recipe(steps=0)).history.shape == (0, 1)


@pytest.mark.parametrize("kernel", [1, 3])
def test_tiles_give_the_gradient_of_the_whole(kernel: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 5, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3, padding=1)]
    net = Network(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 25, 2)), InputSpec((10, 10)))
    assert net.layers  # probes once
    assert net.runs_channels_last  # too
    seen: list[tuple[int, ...]] = []
    start = torch.rand(2, 3, 44, 37)
    wanted = obj.gram(net.activations(torch.rand(1, 3, 30, 30), ["3"])["3"])[0]

    def run(tile: int | None) -> Climbed:
        handle = net.module[0].register_forward_hook(lambda _m, x, _y: seen.append(tuple(x[0].shape[2:])))
        try:
            return climb(
                net,
                [obj.energy("1") + 100 * obj.match_gram("3", wanted)] * 2,
                start,
                Recipe(steps=3, optimizer=Normalized(0.05), transforms=(transforms.Jitter(4),)),
                tile=tile,
            )
        finally:
            handle.remove()

    whole = run(None)
    assert set(seen) == {(44, 37)}
    seen.clear()
    tiled = run(16)
    assert max(max(sides) for sides in seen) <= 16 + 2 * 4  # a margin of the maps' reach, in whole strides
    assert torch.allclose(whole.images, tiled.images, atol=1e-6)
    assert torch.allclose(whole.scores, tiled.scores, rtol=1e-5)
    assert not torch.allclose(whole.images, start, atol=0.02)


def test_what_cannot_be_seen_in_tiles_says_so() -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU()), InputSpec((10, 10)))
    with pytest.raises(InputError, match="layer '0' of 6x6 .* can't be seen in tiles of 16 px"):
        climb(net, [obj.channel("0", 0)], torch.rand(1, 3, 40, 40), Recipe(steps=1), tile=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": []}, "0 objectives for 2 images"),
        ({"objectives": [obj.logit(0)] * 3}, "3 objectives for 2 images"),
        ({"recipe": Recipe(steps=-1)}, "-1 steps"),
        ({"batch_size": 0}, "batch size 0"),
        ({"recipe": Recipe(Fourier(), constraints=(constraints.Blur(1.0),))}, "only where the pixels themselves"),
    ],
)
def test_what_cannot_be_climbed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        climb(small(), options.pop("objectives", [obj.logit(0)] * 2), gray(2), **options)


@pytest.mark.parametrize("make", [lambda: Adam(0), lambda: Normalized(-1), lambda: LBFGS(float("nan"))])
def test_step_sizes_that_are_none(make: Any) -> None:
    with pytest.raises(InputError, match=r"accepted: above 0"):
        make()


# --- parameterizations


@pytest.mark.parametrize("parameterization", [Pixels(), Pixels("squash"), Pixels("free"), Fourier(), Pyramid(3)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (13, 20)])
def test_a_climb_begins_where_it_is_told(parameterization: Any, channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.rand(2, channels, *size) * 0.8 + 0.1
    variables = parameterization(start)
    assert torch.allclose(variables.images(), start, atol=2e-4)
    assert all(tensor.requires_grad and tensor.is_leaf and len(tensor) == 2 for tensor in variables.tensors)


def test_phases_keep_the_amplitudes_of_photographs() -> None:
    start = torch.rand(1, 3, 32, 32)
    variables = Phases()(start)
    with torch.no_grad():
        variables.tensors[0].add_(torch.randn_like(variables.tensors[0]))
    stats, center = natural(), natural().mean.view(1, 3, 1, 1)
    away = (variables.images().logit() - center.logit()) * center * (1 - center)
    found = torch.fft.rfft2(stats.decorrelated(away + center), norm="ortho").abs()[0]
    expected = stats.amplitudes(32, 32)
    assert torch.allclose(found[:, :, 1:-1], expected[:, :, 1:-1], rtol=1e-3, atol=1e-5)
    assert float(expected[:, 1:, 1:].min()) > 0


def test_bits_are_those_of_a_file() -> None:
    start = torch.rand(1, 3, 8, 8)
    pixels = start.clone().requires_grad_()
    images = rounded(pixels)
    assert torch.equal(images, (start * 255).round() / 255)
    (slope,) = torch.autograd.grad((images * 2).sum(), pixels)
    assert torch.equal(slope, torch.full_like(start, 2.0))


def test_a_decoder_is_climbed_through_and_left_as_it_is() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(5, 3 * 256), nn.Sigmoid(), nn.Unflatten(1, (3, 16, 16)))
    weights = [p.clone() for p in decoder.parameters()]
    net = small()
    how = Codes(decoder, torch.zeros(1, 5))
    found = climb(
        net, [obj.logit(0), obj.logit(1)], gray(2), Recipe(parameterization=how, steps=30, optimizer=Adam(0.1))
    )
    assert (found.scores > found.before).all()
    assert all(torch.equal(a, b) for a, b in zip(weights, decoder.parameters(), strict=True))
    with pytest.raises(InputError, match="9 levels of images of"):
        Pyramid(9)(gray(1))


# --- starts, statistics, transforms, constraints


def test_starts() -> None:
    net = Network(small().module, InputSpec((16, 16), mean=(0.2, 0.4, 0.6), std=(0.3,)))
    made = {name: start_images(net, name, 2, (12, 10), 3) for name in STARTS}
    assert all(images.shape == (2, 3, 12, 10) and torch.equal(images[0], images[1]) for images in made.values())
    assert float(made["zeros"].max()) == 0
    assert made["mean"][0, :, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert float(made["noise"].std()) == pytest.approx(NOISE, rel=0.05)
    assert 0.25 < float(made["uniform"].std()) < 0.33
    assert not torch.equal(made["noise"], start_images(net, "noise", 2, (12, 10), 4))
    with pytest.raises(NetworkError.__mro__[1], match="no start 'grey'; did you mean 'gray'"):
        start_images(net, "grey", 1, (8, 8), 0)
    with pytest.raises(InputError, match="start images of shape"):
        start_images(net, torch.rand(3, 8, 9), 1, (8, 8), 0)


def test_statistics_of_photographs_are_found_again() -> None:
    torch.manual_seed(0)
    mixing = torch.tensor([[0.2, 0.05, 0.0], [0.2, 0.0, 0.02], [0.2, -0.05, 0.0]])
    scale = 1 / frequencies(32, 32)
    waves = torch.fft.irfft2(torch.fft.rfft2(torch.randn(400, 3, 32, 32)) * scale, s=(32, 32))
    waves /= waves.std((0, 2, 3), keepdim=True)
    images = 0.5 + torch.einsum("dc,nchw->ndhw", mixing, waves)
    found = measure_natural(images)
    assert torch.allclose(found.colors @ found.colors.T, mixing @ mixing.T, atol=2e-3)
    ring = frequencies(32, 32)
    flat = (found.spectrum * ring)[:, (ring > 0.1) & (ring < 0.4)]
    assert float(flat.std(1).max() / flat.mean()) < 0.15  # 1 / f, as it was made
    again = found.colored(found.decorrelated(images))
    assert torch.allclose(again, images, atol=1e-5)


def test_amplitudes_of_another_size_follow_the_same_law() -> None:
    ring = frequencies(64, 64)
    flat = Natural(torch.zeros(1), torch.eye(1), (0.3 / ring)[None])
    for size in ((64, 64), (96, 40), (200, 200), (31, 33)):
        found = flat.amplitudes(*size)
        assert found[0, 0, 0] == 0
        found[0, 0, 0] = 0.3 / frequencies(*size)[0, 0]
        assert torch.allclose(found[0] * frequencies(*size), torch.tensor(0.3), rtol=1e-3)
    stats = natural()
    assert torch.allclose(stats.amplitudes(128, 128)[:, :, 1:64], stats.spectrum[:, :, 1:64], rtol=0.02, atol=1e-4)


def test_transforms() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 12, 12)
    assert transforms.Pad(3)(images, generator).shape == (2, 3, 18, 18)
    moved = transforms.Jitter(3)(images, generator)
    assert torch.equal(moved.flatten().sort()[0], images.flatten().sort()[0])
    for degrees, turned in ((90, torch.rot90(images, 1, (2, 3))), (180, images.flip(2, 3))):
        found = transforms.Rotate((degrees,))(images, generator)
        assert torch.allclose(found, turned, atol=1e-5) or torch.allclose(found, turned.flip(2, 3), atol=1e-5)
    assert torch.equal(transforms.Rotate((0,))(images, generator), images)
    assert transforms.Scale((0.5,))(images, generator).shape == (2, 3, 6, 6)
    assert transforms.Crop((5, 40))(images, generator).shape == (2, 3, 5, 12)
    assert transforms.Zoom(0.5, 0.6)(images, generator).shape == images.shape
    noisy = transforms.Noise(0.1)(images, generator) - images
    assert torch.allclose(noisy[0], noisy[1], atol=1e-6)
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.1)


def test_constraints() -> None:
    torch.manual_seed(0)
    images, gradient, zero = torch.rand(2, 3, 20, 20), torch.randn(2, 3, 20, 20), torch.full((3, 1, 1), 0.4)
    blurred = constraints.Blur(1.5, 4)
    assert torch.equal(blurred(images, gradient, 3, zero), images)
    expected = gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=4)
    assert np.abs(blurred(images, gradient, 8, zero).numpy() - expected).max() < 1e-5
    decayed = constraints.Decay(0.3)(images, gradient, 1, zero)
    assert torch.allclose(decayed - zero, 0.7 * (images - zero), atol=1e-6)
    for clip, sizes in (
        (constraints.ClipNorm(0.25), (images - zero).norm(dim=1)),
        (constraints.ClipContribution(0.25), ((images - zero) * gradient).sum(1).abs()),
    ):
        kept = clip(images, gradient, 1, zero)
        gone = (kept == zero).all(1)
        assert gone.flatten(1).sum(1).tolist() == [100, 100]
        assert sizes[gone].max() < sizes[~gone].min() or all(
            one[g].max() < one[~g].min() for one, g in zip(sizes, gone, strict=True)
        )
        assert torch.equal(kept[(~gone)[:, None].expand_as(kept)], images[(~gone)[:, None].expand_as(images)])
