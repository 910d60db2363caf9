"""Texture and style: statistics reached, regions and mixtures kept apart, and every wrong number in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import netloupe
from netloupe import Network
from netloupe.cli.app import app, main
from netloupe.core.errors import NetloupeError
from netloupe.data.images import fit, to_float
from netloupe.synthesis.colors import light_matched, luminance, matched, with_colors_of
from netloupe.synthesis.looks import look
from netloupe.synthesis.octaves import covering, doubling, octaves
from netloupe.synthesis.optimizers import LBFGS
from netloupe.synthesis.style import style
from netloupe.synthesis.texture import texture
from watch_helpers import Recorder

LAYERS = ["relu1", "relu2", "pixels"]


@pytest.fixture(scope="module")
def net() -> Network:
    return netloupe.load()


def photo(name: str, side: int) -> Tensor:
    source = netloupe.photos()
    return to_float(fit(source.open(list(source.names).index(f"{name}/full")), side))


@pytest.fixture(scope="module")
def sample() -> Tensor:
    return photo("gravel", 48)


@pytest.fixture(scope="module")
def cat() -> Tensor:
    return photo("cat", 48)[None]


@pytest.fixture(scope="module")
def styles() -> list[Tensor]:
    return [photo("tissue", 64), photo("hubble", 56)]


# --- texture


@pytest.mark.parametrize("method", ["gram", "covariance"])
def test_a_texture_has_the_statistics_of_its_sample(net: Network, sample: Tensor, method: str) -> None:
    found = texture(net, sample, method=method, layers=LAYERS, size=(40, 56), steps=60)
    assert found.images.shape == (1, 3, 40, 56)
    one = found.summary()["images"][0]
    assert one["distance"] < 0.03 * one["before"]
    assert one["before"] > 0.3
    measured = look(net, [sample], layers=LAYERS, statistic=method)
    again = measured.distances(torch.from_numpy(found.images), measured.targets())
    for name, distance in found.distances.items():
        assert float(again[name][0]) == pytest.approx(float(distance[0]), rel=1e-4)
    assert np.abs(found.images - sample[:, :40].mean().item()).mean() > 0.02  # no gray plane
    assert found.images.std() == pytest.approx(float(sample.std()), rel=0.3)


def test_layer_by_layer_each_image_has_what_it_was_made_by(net: Network, sample: Tensor) -> None:
    found = texture(net, sample, layers=["relu1", "relu3"], by_layer=True, steps=40)
    assert found.read == (("relu1",), ("relu1", "relu3"))
    assert len(found.images) == 2
    deep = found.distances["relu3"]
    assert deep[1] < 0.5 * deep[0]
    alone = texture(net, sample, layers=["relu1"], steps=40)
    assert np.abs(found.images[0] - alone.images[0]).mean() < 0.005 < np.abs(found.images[1] - alone.images[0]).mean()


def seam(image: np.ndarray) -> float:
    """How much the opposite sides differ, in terms of neighbors inside."""
    across = np.abs(image[:, :, 0] - image[:, :, -1]).mean() + np.abs(image[:, 0] - image[:, -1]).mean()
    inside = np.abs(np.diff(image, axis=2)).mean() + np.abs(np.diff(image, axis=1)).mean()
    return float(across / inside)


def test_tileable_textures_have_no_seam(net: Network) -> None:
    smooth = photo("moon", 48)
    for method in ("gram", "wei-levoy", "quilting"):
        steps = {"steps": 60} if method == "gram" else {}
        found = texture(net, smooth, method=method, tileable=True, layers=LAYERS, **steps)
        assert found.tileable
        assert seam(found.images[0]) < (1.15 if method == "gram" else 1.4), method
        assert found.pictures()["tiled"].shape[:2] == (96, 96)
    plain = texture(net, smooth, layers=LAYERS, steps=60)
    assert seam(plain.images[0]) > 1.4


@pytest.mark.parametrize("method", ["efros-leung", "wei-levoy", "quilting"])
def test_sampled_textures_hold_the_sample_s_own_colors(net: Network, method: str) -> None:
    little = photo("grass", 24)
    found = texture(net, little, method=method, size=(30, 34), layers=LAYERS)
    assert found.images.shape == (1, 3, 30, 34)
    own = {tuple(color) for color in little.flatten(1).T.numpy().round(5).tolist()}
    made = {tuple(color) for color in found.images[0].reshape(3, -1).T.round(5).tolist()}
    assert made <= own
    assert len(made) > 20
    assert found.summary()["images"][0]["before"] is None
    assert 0 < found.summary()["images"][0]["distance"] < 2


def test_the_same_seed_gives_the_same_texture(net: Network, sample: Tensor) -> None:
    runs = [texture(net, sample, layers=["relu1"], steps=4, seed=seed).images for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "grim"}, "did you mean 'gram'"),
        ({"method": "efros-leung", "tileable": True}, "tileable texture by efros-leung"),
        ({"method": "quilting", "by_layer": True}, "quilting layer by layer"),
        ({"method": "quilting", "window": 5}, "window for quilting"),
        ({"method": "gram", "block": 5}, "block for gram"),
        ({"method": "quilting", "steps": 3}, "steps for quilting"),
        ({"layers": ["relu0"]}, "no layer 'relu0'"),
        ({"layers": ["fc"]}, "'fc' has no positions"),
        ({"sizes": 9}, "octave of 0x0 px"),
        ({"start": "grey"}, "did you mean 'gray'"),
    ],
)
def test_wrong_textures_say_why(net: Network, sample: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NetloupeError, match=message):
        texture(net, sample, **{"steps": 2, **options})


# --- style


def test_a_styled_photo_is_nearer_to_the_style_and_keeps_the_content(
    net: Network, cat: Tensor, styles: list[Tensor]
) -> None:
    found = style(net, cat, styles[0], layers=LAYERS, steps=40)
    one = found.summary()["images"][0]
    assert one["style"] < 0.2 * one["before"]
    other = style(net, 1 - cat.flip(2), styles[0], layers=LAYERS, steps=40)
    features = [net.activations(torch.from_numpy(f.images), ["relu4"])["relu4"] for f in (found, other)]
    wanted = net.activations(cat, ["relu4"])["relu4"]
    assert (features[0] - wanted).norm() < 0.8 * (features[1] - wanted).norm()
    firmer = style(net, cat, styles[0], layers=LAYERS, steps=40, content_weight=5.0)
    assert firmer.content_distances[0] < 0.7 * found.content_distances[0]
    assert firmer.summary()["images"][0]["style"] > one["style"]


def test_starts_are_what_they_are_called(net: Network, cat: Tensor, styles: list[Tensor]) -> None:
    assert torch.equal(torch.from_numpy(style(net, cat, styles[0], steps=0).images), cat)
    begun = style(net, cat, styles[0], start="style", steps=0).images[0]
    assert begun.shape == cat.shape[1:]
    assert abs(begun.mean((1, 2)) - styles[0].mean((1, 2)).numpy()).max() < 0.03
    gray = style(net, cat, styles[0], start="gray", steps=0).images
    assert np.all(gray == 0.5)
    given = style(net, cat, styles[0], start=torch.zeros(3, 10, 12), steps=0).images
    assert not given.any()


def test_shares_mix_and_a_share_of_nothing_is_no_share(net: Network, cat: Tensor, styles: list[Tensor]) -> None:
    alone = style(net, cat, styles[0], layers=LAYERS, steps=10)
    most = style(net, cat, styles, shares=[1, 0], layers=LAYERS, steps=10)
    assert np.allclose(alone.images, most.images, atol=2e-3)
    half = style(net, cat, styles, layers=LAYERS, steps=30)

    def distance(images: np.ndarray, image: Tensor) -> float:
        one = look(net, [netloupe.synthesis.octaves.scaled(image[None], 48 / min(image.shape[1:]))[0]], layers=LAYERS)
        return float(sum(d[0] for d in one.distances(torch.from_numpy(images), one.targets()).values()))

    ends = [style(net, cat, one, layers=LAYERS, steps=30).images for one in styles]
    assert distance(ends[0], styles[0]) < distance(half.images, styles[0]) < distance(ends[1], styles[0])
    assert distance(ends[1], styles[1]) < distance(half.images, styles[1]) < distance(ends[0], styles[1])


def test_masks_give_each_style_its_region(net: Network, cat: Tensor, styles: list[Tensor]) -> None:
    left = torch.zeros(48, cat.shape[3])
    left[:, : cat.shape[3] // 2] = 1
    options: dict[str, Any] = {"layers": LAYERS, "steps": 40, "content_weight": 0.01}
    found = torch.from_numpy(style(net, cat, styles, masks=[left, 1 - left], **options).images)
    swapped = torch.from_numpy(style(net, cat, styles, masks=[1 - left, left], **options).images)
    small = [netloupe.synthesis.octaves.scaled(s[None], 48 / min(s.shape[1:]))[0] for s in styles]
    wanted = look(net, small, layers=LAYERS, masks=[left, 1 - left])

    def distance(images: Tensor) -> float:
        return float(sum(d[0] for d in wanted.distances(images, wanted.targets()).values()))

    assert distance(found) < 0.3 * distance(swapped)


def test_the_photo_s_own_colors_are_kept(net: Network, cat: Tensor, styles: list[Tensor]) -> None:
    kept = torch.from_numpy(style(net, cat, styles[0], colors="luminance", layers=LAYERS, steps=20).images)
    inside = ((kept > 0.01) & (kept < 0.99)).all(1, keepdim=True).expand_as(kept)
    chroma = [image - luminance(image) for image in (kept, cat)]
    assert torch.allclose(chroma[0][inside], chroma[1][inside], atol=1e-5)
    assert float(inside.float().mean()) > 0.5
    assert not torch.allclose(luminance(kept), luminance(cat), atol=0.05)
    taken = torch.from_numpy(style(net, cat, styles[0], colors="match", layers=LAYERS, steps=20).images)
    plain = torch.from_numpy(style(net, cat, styles[0], layers=LAYERS, steps=20).images)
    means = [image.mean((2, 3)) for image in (taken, plain, cat)]
    assert (means[0] - means[2]).norm() < 0.5 * (means[1] - means[2]).norm()


def test_colors_matched_have_the_other_s_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    soft = 0.5 + 0.05 * torch.randn(1, 3, 30, 30, generator=generator)
    other = 0.4 + 0.04 * torch.randn(1, 3, 20, 25, generator=generator) @ torch.eye(25)
    other[:, 1] += 0.5 * (other[:, 0] - 0.4)
    found = matched(soft, other).flatten(2)[0].double().numpy()
    wanted = other.flatten(2)[0].double().numpy()
    assert np.allclose(found.mean(1), wanted.mean(1), atol=1e-4)
    assert np.allclose(np.cov(found), np.cov(wanted), atol=1e-4)
    gray = light_matched(soft, other)
    assert torch.equal(gray[:, 0], gray[:, 1])
    assert float(gray.mean()) == pytest.approx(float(luminance(other).mean()), abs=1e-3)
    assert torch.allclose(with_colors_of(other, other), other, atol=1e-6)


def test_a_dream_in_a_style_raises_the_unit(net: Network, cat: Tensor, styles: list[Tensor]) -> None:
    plain, dreamed = (
        torch.from_numpy(style(net, cat, styles[0], layers=LAYERS, steps=30, dream=dream, dream_weight=0.5).images)
        for dream in (None, "conv5:3")
    )
    objective = netloupe.objectives.energy("conv5", 3)
    with torch.no_grad():
        assert float(net.read(dreamed, objective)) > 1.5 * float(net.read(plain, objective))


def test_in_tiles_and_with_lbfgs_the_result_is_as_good(net: Network, styles: list[Tensor]) -> None:
    large = photo("cat", 80)[None]
    whole = style(net, large, styles[0], layers=LAYERS, steps=12, sizes=1)
    tiled = style(net, large, styles[0], layers=LAYERS, steps=12, sizes=1, tile=64)
    assert np.abs(whole.images - tiled.images).mean() < 0.01
    assert np.abs(whole.images - large.numpy()).mean() > 0.03
    second = style(net, large, styles[0], layers=LAYERS, steps=12, sizes=1, optimizer=LBFGS())
    assert second.summary()["images"][0]["style"] < 0.3 * second.summary()["images"][0]["before"]


def test_frames_show_it_forming_at_every_size(net: Network, cat: Tensor, styles: list[Tensor], tmp_path: Path) -> None:
    watch = Recorder()
    found = style(
        net, torch.cat([cat, 1 - cat]), styles, layers=["relu1"], steps=4, every=2, sizes=2,
        watch=watch,
    )  # fmt: skip
    assert found.frames.shape == (4, *found.images.shape)
    assert np.array_equal(found.frames[-1], found.images)
    assert watch.told == [("steps", done, 16) for done in range(0, 17, 2)]
    names = {path.name for path in found.save(tmp_path)}
    assert {"style-0.png", "style-1.png", "figure-0.png", "forming.gif", "manifest.json"} <= names
    facts = json.loads((tmp_path / "manifest.json").read_text())["summary"]
    assert facts["sizes"] == [[24, round(cat.shape[3] / 2)], list(cat.shape[2:])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colors": "luminanz"}, "did you mean 'luminance'"),
        ({"start": "contents"}, "did you mean 'content'"),
        ({"content_weight": -1.0}, "content_weight -1.0"),
        ({"content_weight": float("nan")}, "content_weight nan"),
        ({"content_weight": float("inf")}, "content_weight inf"),
        ({"style_scale": 0.0}, "style_scale 0.0"),
        ({"lr": 0.1, "optimizer": LBFGS()}, "with an optimizer by name"),
        ({"style_scale": 0.02}, "style images of .* px don't fit"),
        ({"shares": [1.0, 2.0]}, "weights \\[1.0, 2.0\\] for 1 style"),
        ({"masks": [torch.zeros(8, 8)]}, "mask that is empty"),
        ({"content_layers": ["relu99"]}, "no layer 'relu99'"),
        ({"dream": "conv5:9999"}, "no channel 9999"),
        ({"statistic": "mean"}, "no statistic 'mean'"),
        ({"tile": 4, "layers": ["relu5"]}, "can't be seen in tiles of 4 px"),
    ],
)
def test_wrong_styles_say_why(
    net: Network, cat: Tensor, styles: list[Tensor], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NetloupeError, match=message):
        style(net, cat, styles[:1], **{"steps": 1, **options})


def test_sizes() -> None:
    assert octaves((64, 100), 3) == [(16, 25), (32, 50), (64, 100)]
    assert doubling((100, 300), None) == [(100, 300)]
    assert doubling((512, 700), None) == [(128, 175), (256, 350), (512, 700)]
    assert covering(torch.rand(1, 3, 20, 50), (30, 30)).shape == (1, 3, 30, 30)


# --- the commands


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    source = netloupe.photos()
    for name in ("cat", "gravel", "tissue", "hubble"):
        image = source.open(list(source.names).index(f"{name}/full")).convert("RGB")
        image.resize((60, 48)).save(folder / f"{name}.png")
    white = np.zeros((48, 60), np.uint8)
    white[:, :30] = 255
    Image.fromarray(white).save(folder / "left.png")
    Image.fromarray(255 - white).save(folder / "right.png")
    return folder


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_texture_command(files: Path, tmp_path: Path) -> None:
    result = run("texture", files / "gravel.png", "--side", 32, "--to", "40x48", "--layer", "relu1", "--layer",
                 "pixels=2", "--steps", 5, "--tileable", "--json", "-o", tmp_path)  # fmt: skip
    found = json.loads(result.stdout)
    assert found["size"] == [40, 48]
    assert set(found["images"][0]["layers"]) == {"relu1", "pixels"}
    with Image.open(tmp_path / "tiled.png") as tiled:
        assert tiled.size == (96, 80)
    run("texture", files / "gravel.png", "--side", 24, "--method", "quilting", "--block", 8, "-o", tmp_path / "q")
    swept = run("texture", files / "gravel.png", "--side", 24, "--layer", "relu1", "--sweep", "steps=1,3", "--json")
    assert [each["value"] for each in json.loads(swept.stdout)["values"]] == [1, 3]


def test_style_command(files: Path, tmp_path: Path) -> None:
    common = ["style", files / "cat.png", "--side", 32, "--steps", 3, "--layer", "relu1"]
    result = run(*common, "-s", f"{files / 'tissue.png'}=2", "-s", files / "hubble.png", "--json", "-o", tmp_path)
    assert json.loads(result.stdout)["size"] == [32, 40]
    facts = json.loads((tmp_path / "manifest.json").read_text())
    assert facts["summary"]["shares"] == pytest.approx([2 / 3, 1 / 3])
    assert facts["provenance"]["parameters"]["shares"] == [2, 1]
    run(*common, "-s", files / "tissue.png", "-s", files / "hubble.png", "--mask", files / "left.png", "--mask",
        files / "right.png", "--dream", "conv3", "--dream-weight", 0.1, "--colors", "match", "--optimizer", "lbfgs",
        "--every", 1)  # fmt: skip
    text = run(*common, "-s", files / "tissue.png", "--sweep", "style-scale=0.5,1").stdout
    assert text.splitlines()[0].split()[0] == "style_scale"
    text = run(*common, "-s", files / "tissue.png", "--sweep", "start=content,noise").stdout
    assert [line.split()[0] for line in text.splitlines()] == ["start", "content", "noise"]
    run(*common, "-s", files / "tissue.png", "--start", files / "gravel.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["style", "cat.png", "-s", "nothing.png"], "nothing.png: no such file"),
        (["style", "cat.png", "-s", "tissue.png", "-s", "tissue.png"], "given twice"),
        (
            ["style", "cat.png", "-s", "tissue.png", "-s", "hubble.png", "--mask", "left.png"],
            "1 masks for 2 style images",
        ),
        (["style", "cat.png", "-s", "tissue.png", "--optimizer", "sgd"], "no optimizer 'sgd'"),
        (["style", "cat.png", "-s", "tissue.png", "--preset", "gatis"], "did you mean 'gatys'"),
        (["style", "cat.png", "-s", "tissue.png", "--sweep", "sides=1"], "no parameter to sweep 'sides'"),
        (["style", "cat.png", "-s", "tissue.png", "--sweep", "start=grey"], "did you mean 'gray'"),
        (["style", "cat.png", "-s", "tissue.png", "--start", "grey"], "accepted as start: content, style"),
        (["texture", "cat.png", "--block", "4"], "block for gram (accepted: none of window, block, tolerance)"),
        (["texture", "cat.png", "--method", "tiling"], "no method 'tiling'"),
        (["texture", "cat.png", "--to", "big"], "size 'big'"),
        (["texture", "left.txt"], "left.txt: no such file"),
    ],
)
def test_mistakes_take_one_line(
    files: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    assert main([*arguments, "--steps", "1", "-o", str(files / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (files / "out").exists()
