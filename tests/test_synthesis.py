"""The recipes that climb: visualize, fool, invert, dream, and their contact sheets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import netloupe
from netloupe import objectives as obj
from netloupe.cli.command import parse_sweeps
from netloupe.core.errors import InputError, NetloupeError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.perform import perform
from netloupe.data.images import load_images
from netloupe.synthesis import optimizers, parameterizations
from netloupe.synthesis.contact import contact
from netloupe.synthesis.dream import accentuate, dream
from netloupe.synthesis.fool import Near, fool
from netloupe.synthesis.invert import invert
from netloupe.synthesis.parameterizations import rounded
from netloupe.synthesis.presets import PRESETS
from netloupe.synthesis.tasks import OPTIMIZERS, PARAMETERIZATIONS, Visualize
from netloupe.synthesis.visualize import visualize


@pytest.fixture(scope="module")
def lenslet() -> Network:
    return netloupe.load()


@pytest.fixture(scope="module")
def photos() -> Tensor:
    source = netloupe.photos()
    from netloupe.data.images import fit, to_float

    return torch.stack([to_float(fit(source.open(i), 64)) for i in (0, 1, 3)])


# --- visualize


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_raises_what_it_climbs(preset: str, lenslet: Network, photos: Tensor) -> None:
    units = ["class:goldfish", "conv5:17"]
    found = visualize(lenslet, units, preset=preset, steps=25, size=48)
    assert found.images.shape == (2, 3, 48, 48)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert found.names == tuple(units)
    assert found.provenance["parameters"]["preset"] == preset
    assert found.bounded == (not preset.startswith(("simonyan", "yosinski")))
    noise = torch.rand(16, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    for i, unit in enumerate(units):
        images = torch.from_numpy(found.images[i : i + 1])
        objective = obj.excitation("conv5", 17) if unit == "conv5:17" else obj.unit(unit)
        score = float(lenslet.read(images, objective).detach())
        assert found.scores[i] == pytest.approx(score, rel=1e-4)
        assert score > found.before[i]
        if preset in ("lucid", "none"):
            assert score > float(lenslet.read(noise, objective).detach().max())
            assert score > float(lenslet.read(photos[:, :, 8:56, 8:56], objective).detach().max())


def test_options_replace_parts_of_the_preset(lenslet: Network) -> None:
    found = visualize(lenslet, "conv3:2", steps=3, lr=0.2, size=(24, 32), every=1, start="gray", seed=4)
    told, how = found.provenance["parameters"], found.summary()["recipe"]
    assert (told["steps"], told["seed"], told["size"]) == (3, 4, [24, 32])
    assert found.provenance["inputs"]["start"] == "gray"
    assert how["optimizer"].startswith("Adam(lr=0.2")
    assert (how["steps"], how["parameterization"]) == (3, "Fourier(decay=1.0)")
    assert found.frames.shape == (3, 1, 3, 24, 32)
    assert found.history.shape == (3, 1)


def test_parts_of_the_preset_by_name_are_the_objects(lenslet: Network) -> None:
    def made(**settings: Any) -> np.ndarray:
        return visualize(lenslet, "conv3:2", steps=2, size=24, preset="none", **settings).images

    assert set(PARAMETERIZATIONS) == set(parameterizations.NAMED)
    assert set(OPTIMIZERS) == set(optimizers.NAMED)
    for name, kind in parameterizations.NAMED.items():
        assert np.array_equal(made(parameterization=name), made(parameterization=kind()))
    for name, optimizer in optimizers.NAMED.items():
        assert np.array_equal(made(optimizer=name, lr=0.1), made(optimizer=optimizer(lr=0.1)))
    assert np.array_equal(made(dtype="float32"), made(dtype=torch.float32))


def test_all_presets_are_settings() -> None:
    assert Visualize.setting("preset").choices == tuple(PRESETS)


def test_units_objectives_and_layers_are_climbed_alike(lenslet: Network) -> None:
    found = visualize(lenslet, ["conv3:1", obj.excitation("conv3", 1), "excitation(conv3, 1)"], steps=2, size=24)
    assert np.array_equal(found.images[0], found.images[1])
    assert np.array_equal(found.images[0], found.images[2])
    assert found.names == ("conv3:1", "excitation(conv3, 1)", "excitation(conv3, 1)")
    layer = visualize(lenslet, layer="conv3", first=2, steps=2, size=24)
    assert layer.names == ("conv3:0", "conv3:1")
    assert np.array_equal(layer.images[1], found.images[0])
    both = visualize(lenslet, "class:koala", layer="conv3", first=1, steps=0, size=24)
    assert both.names == ("class:koala", "conv3:0")


def test_a_visualization_saves_itself(lenslet: Network, tmp_path: Path) -> None:
    found = visualize(lenslet, ["conv3:2", "conv3:3"], steps=2, size=24)
    paths = {path.name for path in found.save(tmp_path)}
    assert paths == {"visualization.png", "image-0.png", "image-1.png", "images.npy", "history.npy", "manifest.json"}
    again = np.asarray(Image.open(tmp_path / "image-1.png")) / 255
    assert np.abs(again - found.images[1].transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-6
    assert json.loads((tmp_path / "manifest.json").read_text())["summary"]["images"][1]["objective"] == "conv3:3"


def dead() -> Network:
    torch.manual_seed(3)
    conv = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        conv.bias[1] = -100.0
    return Network(
        nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)),
        InputSpec((12, 12)),
        name="net",
    )


def test_a_dead_unit_says_so() -> None:
    for preset in ("lucid", "none", "simonyan"):
        with pytest.raises(NetworkError, match=r"1:1: nothing that was tried changes the score in net.*: a dead unit"):
            visualize(dead(), "1:1", preset=preset, steps=70)
        found = visualize(dead(), ["1:0", "1:1"], preset=preset, steps=70)
        assert found.dead.tolist() == [False, True]
        assert [one["dead"] for one in found.summary()["images"]] == [False, True]


def test_a_size_too_small_names_the_smallest_that_works() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 7), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3))
    net = Network(nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten()), InputSpec((40, 40)), name="deep")
    with pytest.raises(InputError, match=r"images of 12x12 px don't fit deep \(accepted: 18 px a side or more\)"):
        visualize(net, "class:1", size=12, steps=1)
    assert visualize(net, "class:1", size=18, steps=1).images.shape[2] == 18


@pytest.mark.parametrize(
    ("unit", "options", "error", "message"),
    [
        ("class:goldfsh", {}, UnknownName, "did you mean 'goldfish'"),
        ("conv3:999", {}, UnknownName, "no channel 999"),
        ("conv33:1", {}, UnknownName, "did you mean 'conv3'"),
        ("conv3:1", {"preset": "lucent"}, UnknownName, "did you mean 'lucid'"),
        ("conv3:1", {"start": "grey"}, UnknownName, "did you mean 'gray'"),
        ("conv3:1", {"lr": 0.0}, InputError, "lr 0"),
        ("conv3:1", {"size": 0}, InputError, "size 0"),
        ([], {}, InputError, "no unit to visualize"),
        ("conv3:1", {"apart": 1.0}, InputError, "apart without diverse"),
        ("conv3:1", {"dtype": "int8"}, UnknownName, "no dtype 'int8'"),
        ("logit(koala", {}, InputError, "koala"),
    ],
)
def test_what_cannot_be_visualized(
    unit: Any, options: Any, error: type[NetloupeError], message: str, lenslet: Network
) -> None:
    with pytest.raises(error, match=message):
        visualize(lenslet, unit, steps=1, **options)


# --- fool


def on_disk(found: Any, folder: Path) -> Tensor:
    found.save(folder)
    return load_images([folder / f"image-{i}.png" for i in range(len(found.images))], found.images.shape[2])


@pytest.mark.parametrize(
    "options",
    [
        {"method": "ascent"},
        {"method": "pgd"},
        {"method": "iterated", "epsilon": 6 / 255},
        {"method": "pgd", "norm": "l2", "epsilon": 3.0},
        {"method": "iterated", "norm": "l2"},
    ],
    ids=str,
)
def test_the_saved_file_fools_and_stays_near(
    options: dict[str, Any], lenslet: Network, photos: Tensor, tmp_path: Path
) -> None:
    found = fool(lenslet, photos, ["koala", "goldfish", 7], sure=0.5, **options)
    assert found.fooled.all()
    saved = on_disk(found, tmp_path)
    probability = lenslet(saved).softmax(1)
    for i, target in enumerate(found.targets):
        assert float(probability[i, target]) >= 0.5 - 1e-5
        assert float(probability[i, target]) == pytest.approx(found.probability[i], abs=1e-5)
        assert int(lenslet(rounded(photos[i : i + 1])).argmax()) == found.before[i] != target
    away = saved - rounded(photos)
    if options.get("norm") == "l2":
        assert (away.flatten(1).norm(dim=1) <= found.epsilon + 1e-4).all()
    elif options["method"] != "ascent":
        assert float(away.abs().max()) <= options.get("epsilon", 8 / 255) + 1e-6
    assert found.psnr == pytest.approx([-10 * float(one.square().mean().log10()) for one in away], abs=1e-3)
    assert found.largest == pytest.approx([round(float(one.abs().max()) * 255) for one in away], abs=1e-3)


def test_one_step_of_fgsm_moves_every_number_by_epsilon(lenslet: Network, photos: Tensor) -> None:
    middle = photos * 0.8 + 0.1
    found = fool(lenslet, middle, "koala", method="fgsm", epsilon=4 / 255)
    moved = np.abs(found.images - found.originals) * 255
    assert (np.abs(moved - 4) < 1e-3).mean() > 0.99
    assert (found.probability > found.probability_before).all()
    assert found.steps.tolist() == [1, 1, 1]


def test_an_image_that_is_of_the_class_already_is_left_as_it_is(lenslet: Network, photos: Tensor) -> None:
    first = fool(lenslet, photos[:1], "koala")
    again = fool(lenslet, torch.from_numpy(first.images), "koala")
    assert again.steps.tolist() == [0]
    assert np.array_equal(again.images, first.images)
    assert again.psnr[0] == np.inf
    assert again.summary()["images"][0]["psnr"] is None


def test_a_ball_in_eight_bits_holds() -> None:
    torch.manual_seed(0)
    start = rounded(torch.rand(4, 3, 9, 9))
    for near, size in ((Near(0.1, "l2", 1), 0.1), (Near(0.5, "l2"), 0.5), (Near(3 / 255, "linf", 2), None)):
        variables = near(start)
        with torch.no_grad():
            variables.tensors[0].add_(torch.randn_like(start) * 0.05)
            variables.settle()
        away = variables.images().detach() - start
        assert float(away.abs().max()) > 0
        if size is None:
            assert float(away.abs().max()) <= 3 / 255 + 1e-6
        else:
            assert float(away.flatten(1).norm(dim=1).max()) <= size + 1e-6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "koalla"}, UnknownName, "did you mean 'koala'"),
        ({"target": ["koala", "lynx"]}, InputError, "2 targets for 3 images"),
        ({"target": "koala", "method": "pdg"}, UnknownName, "did you mean 'pgd'"),
        ({"target": "koala", "norm": "l1"}, UnknownName, "no norm 'l1'"),
        ({"target": "koala", "epsilon": 0.0}, InputError, "epsilon 0.0"),
        ({"target": "koala", "sure": 1.0}, InputError, "sure 1.0"),
    ],
)
def test_what_cannot_be_fooled(
    options: dict[str, Any], error: type[Exception], message: str, lenslet: Network, photos: Tensor
) -> None:
    with pytest.raises(error, match=message):
        fool(lenslet, photos, **options)


# --- invert


def test_early_layers_give_the_photo_back_and_deep_ones_less(lenslet: Network, photos: Tensor, tmp_path: Path) -> None:
    found = invert(lenslet, photos[:2], ["conv1", "conv4", "conv7"], steps=60)
    assert found.images.shape == (6, 3, 64, 64)
    early, middle, deep = found.psnr.mean(1)
    assert early > 20
    assert early > middle > deep
    for at, layer in enumerate(found.layers):
        wanted = lenslet.activations(photos[:2], [layer])[layer]
        features = lenslet.activations(torch.from_numpy(found.of(layer)), [layer])[layer]
        error = (features - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)
        assert found.errors[at] == pytest.approx(error.numpy(), rel=1e-3)
        assert found.errors[at].max() < 0.6
    alone = invert(lenslet, photos[1:2], "conv4", steps=60)
    assert np.array_equal(alone.images[0], found.of("conv4")[1])
    assert {path.name for path in found.save(tmp_path)} >= {"inversion.png", "images.npy", "manifest.json"}


def test_without_layers_all_with_weights_are_inverted(lenslet: Network, photos: Tensor) -> None:
    found = invert(lenslet, photos[:1], steps=0)
    assert found.layers == (*(f"conv{i}" for i in range(1, 8)), "fc")
    started = invert(lenslet, photos[:1], "conv1", steps=0, start=photos[1])
    assert np.array_equal(started.images[0], photos[1].numpy())


def test_smoothness_makes_it_smoother(lenslet: Network, photos: Tensor) -> None:
    def variation(weight: float) -> float:
        images = invert(lenslet, photos[:1], "conv6", steps=40, smoothness=weight).images
        return float(np.square(np.diff(images, axis=3)).mean())

    assert variation(20.0) < 0.7 * variation(0.0)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [("conv77", {}, "did you mean 'conv7'"), ([], {}, "no layer"), ("conv1", {"smoothness": -1}, "smoothness -1")],
)
def test_what_cannot_be_inverted(layer: Any, options: Any, message: str, lenslet: Network, photos: Tensor) -> None:
    with pytest.raises(NetloupeError, match=message):
        invert(lenslet, photos, layer, **options)


# --- dream


@pytest.mark.parametrize("layer", ["conv2", "conv5", "conv5:17", "class:koala", obj.channel("conv3", 4)], ids=str)
def test_a_dream_makes_more_of_what_is_there(layer: Any, lenslet: Network, photos: Tensor) -> None:
    found = dream(lenslet, photos[:2], layer, octaves=2, steps=4)
    assert found.images.shape == (2, 3, 64, 64)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert (found.scores > found.before).all()
    correlation = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found.images, photos[:2].numpy(), strict=True)
    ]
    assert min(correlation) > 0.3  # it is still the photo


def test_a_guide_and_a_zoom(lenslet: Network, photos: Tensor, tmp_path: Path) -> None:
    guided = dream(lenslet, photos[:1], "conv5", guide=photos[2], octaves=2, steps=4, frames=3)
    plain = dream(lenslet, photos[:1], "conv5", octaves=2, steps=4)
    assert not np.allclose(guided.images, plain.images, atol=0.02)
    assert guided.scores[0] > guided.before[0]
    assert guided.frames.shape == (4, 1, 3, 64, 64)
    assert np.array_equal(guided.frames[0], guided.images)
    assert "zoom.gif" in {path.name for path in guided.save(tmp_path)}
    with Image.open(tmp_path / "zoom.gif") as animation:
        assert animation.n_frames == 4
        assert animation.size == (64, 64)


def test_large_images_are_dreamed_in_tiles_without_seams(lenslet: Network, photos: Tensor) -> None:
    large = torch.nn.functional.interpolate(photos[:1], (150, 190), mode="bilinear")
    found = dream(lenslet, large, "conv4", octaves=1, steps=12, tile=64)
    change = np.abs(found.images - large.numpy()).mean((0, 1))
    assert found.scores[0] > found.before[0]
    down, right = np.abs(np.diff(change, axis=0)).mean(1), np.abs(np.diff(change, axis=1)).mean(0)
    for jumps, seams in ((down, (50, 100)), (right, (63, 126))):  # where tiles of an image that stood still would meet
        assert np.mean([jumps[seam - 1] for seam in seams]) < 2 * np.median(jumps)


def test_accentuation_keeps_the_photo_and_raises_the_unit(lenslet: Network, photos: Tensor) -> None:
    found = accentuate(lenslet, photos[:2], "conv6:9", "conv2", steps=20)
    loose = accentuate(lenslet, photos[:2], "conv6:9", "conv2", steps=20, strength=100.0)
    assert (found.scores > found.before).all()

    def distance(images: np.ndarray) -> float:
        wanted = lenslet.activations(photos[:2], ["conv2"])["conv2"]
        return float((lenslet.activations(torch.from_numpy(images), ["conv2"])["conv2"] - wanted).square().sum())

    assert distance(found.images) < distance(loose.images)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("conv77", {}, "did you mean 'conv7'"),
        ("conv5", {"octaves": 0}, "octaves 0"),
        ("conv5", {"zoom": 0.9}, "zoom 0.9"),
        ("logit(koala)", {"guide": torch.rand(3, 64, 64)}, "a guide with an objective"),
        ("conv5", {"octaves": 9}, "octave of 4x4 px"),
        ("conv5:3", {"guide": torch.rand(3, 64, 64)}, "a guide with conv5:3"),
        (obj.channel("conv3", 1), {"guide": torch.rand(3, 64, 64)}, "a guide with an objective"),
    ],
    ids=str,
)
def test_what_cannot_be_dreamed(layer: Any, options: Any, message: str, lenslet: Network, photos: Tensor) -> None:
    with pytest.raises(NetloupeError, match=message):
        dream(lenslet, photos[:1], layer, **options)


# --- contact sheets


def test_a_sweep_is_one_sheet(lenslet: Network, tmp_path: Path) -> None:
    task = Visualize(objective=("conv3:1", "conv3:2"), steps=2, size=(24, 24))
    found = contact(task, lenslet, {}, parse_sweeps(task, ["lr=0.01,0.1"]))
    assert {path.name for path in found.save(tmp_path)} == {
        "sweep.png",
        "images-0.npy",
        "images-1.npy",
        "manifest.json",
    }
    assert [one["value"] for one in found.summary()["values"]] == [0.01, 0.1]
    assert not np.array_equal(found.results[0].images, found.results[1].images)
    for text, message in (
        ("lrr=1", "did you mean 'lr'"),
        ("lr", "lr=VALUE"),
        ("lr=fast", "lr 'fast'"),
        ("steps=1.5", "steps '1.5'"),
        ("size=24", "no parameter to sweep 'size'"),
    ):
        with pytest.raises(NetloupeError, match=message):
            parse_sweeps(task, [text])


def test_a_sheet_of_several_numbers_of_images_has_gaps(lenslet: Network) -> None:
    task = Visualize(objective=("conv3:1",), steps=0, size=(24, 24))
    sheet = contact(task, lenslet, {}, {"diverse": [1, 3]}).pictures()["sweep"]
    height, width = sheet.shape[0] // 3, sheet.shape[1] // 2
    assert len(np.unique(sheet[height + 9 :, : width - 9].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(sheet[height + 9 :, width + 9 :].reshape(-1, 3), axis=0)) > 1


def test_a_sheet_of_two_settings_has_a_cell_for_each_pair(lenslet: Network) -> None:
    task = Visualize(objective=("conv3:1",), steps=1, size=(24, 24))
    axes = {"lr": [0.01, 0.05, 0.1], "preset": ["none", "lucid"]}
    found = contact(task, lenslet, {}, axes)
    assert found.pairs == [(lr, preset) for preset in axes["preset"] for lr in axes["lr"]]
    for (lr, preset), result in zip(found.pairs, found.results, strict=True):
        alone = perform(task.changed({"lr": lr, "preset": preset}), lenslet, {})
        assert np.array_equal(result.images, alone.images)
    assert len({result.images.tobytes() for result in found.results}) == 6
    sheet = found.pictures()["sweep"]
    assert sheet.shape[:2] == (2 * (160 + 36) + 18, 3 * 160 + 24), "two lines of words above each cell"
    assert [one["value"] for one in found.summary()["values"]] == [list(pair) for pair in found.pairs]
    assert found.provenance["sweep"] == axes
    words = task.words(found.summary()).splitlines()
    assert words[0].split()[:3] == ["lr", "preset", "objective"]
    assert words[1].split()[:2] == ["0.01", "none"]


def test_only_the_cells_that_changed_are_made_anew(lenslet: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        "netloupe.synthesis.contact.perform", lambda task, *more: made.append(task) or perform(task, *more)
    )
    task, cells = Visualize(objective=("conv3:1",), steps=1, size=(24, 24)), {}
    heard: list[int] = []
    first = contact(task, lenslet, {}, {"lr": [0.01, 0.1]}, made=cells, each=lambda place, _: heard.append(place))
    assert (len(made), heard) == (2, [0, 1])
    wider = contact(task, lenslet, {}, {"lr": [0.01, 0.05, 0.1], "seed": [0, 1]}, made=cells)
    assert [(one.lr, one.seed) for one in made[2:]] == [(0.05, 0), (0.01, 1), (0.05, 1), (0.1, 1)]
    assert wider.results[0] is first.results[0]
    start = torch.rand(1, 3, 24, 24)
    contact(task, lenslet, {"start": start}, {"lr": [0.01]}, made=cells)
    assert len(made) == 7, "another start is another cell"
    contact(task, lenslet, {"start": start.clone()}, {"lr": [0.01]}, made=cells)
    assert len(made) == 7
    for axes, message in (({}, "0 settings"), ({"lr": []}, "no values"), ({"lr": [1], "seed": [1], "steps": [1]}, "3")):
        with pytest.raises(InputError, match=message):
            contact(task, lenslet, {}, axes)


def test_a_single_image_is_quick_and_the_same_each_time(lenslet: Network) -> None:
    seen: list[int] = []
    hook = lenslet.module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        steady = visualize(lenslet, "conv3:1", steps=3, size=24)
        assert set(seen) == {2}, "an image is seen together with a copy of itself"
        seen.clear()
        quick = visualize(lenslet, "conv3:1", steps=3, size=24, quick=True)
        assert set(seen) == {1}
    finally:
        hook.remove()
    assert np.array_equal(quick.images, visualize(lenslet, "conv3:1", steps=3, size=24, quick=True).images)
    assert quick.images == pytest.approx(steady.images, abs=0.02)
    assert quick.provenance["parameters"]["quick"] is True
