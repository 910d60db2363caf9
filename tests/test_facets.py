"""Facets and diverse images: groups against brute force, and whether what is told apart comes out apart."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import netloupe
from netloupe import objectives as obj
from netloupe.cli.app import app, main
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.network import Network
from netloupe.core.units import Unit
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, read_batches
from netloupe.synthesis.climb import climb
from netloupe.synthesis.facets import by_likeness, centered, facets, features_of, rank, with_contrast
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import start_images
from netloupe.synthesis.visualize import visualize


@pytest.fixture(scope="module")
def lenslet() -> Network:
    return netloupe.load()


@pytest.fixture(scope="module")
def source() -> ImageSource:
    return netloupe.photos().first(300)


@pytest.fixture(scope="module")
def pixels(source: ImageSource) -> Tensor:
    return to_float(np.concatenate([batch.pixels for batch in read_batches(source, (64, 64))]))


def of_length_one(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- what groups are made of


def test_groups_are_the_clouds_that_the_rows_lie_in() -> None:
    draw = np.random.default_rng(0)
    centers = draw.normal(size=(3, 80))
    truth = np.repeat([2, 0, 1], [9, 4, 20])
    rows = centers[truth] + 0.05 * draw.normal(size=(33, 80))
    groups = by_likeness(rows, 3)
    assert [set(truth[group]) for group in groups] == [{1}, {2}, {0}]  # the largest first
    assert sorted(np.concatenate(groups)) == list(range(33))
    assert len(by_likeness(rows, 1)) == 1
    assert len(by_likeness(np.ones((5, 4)), 3)) == 1  # nothing to tell them apart


def test_images_are_moved_so_that_their_box_lies_in_the_middle() -> None:
    image = torch.zeros(1, 3, 12, 16)
    image[:, :, 2:4, 9:13] = 1
    (moved,) = centered(image, [(2, 9, 4, 13)])
    expected = torch.zeros(3, 12, 16)
    expected[:, 5:7, 6:10] = 1
    assert torch.equal(moved, expected)
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 0] = 1  # what comes in at the left repeats the edge
    assert torch.equal(centered(edge, [(0, 0, 8, 2)])[0, 0, :, :4], torch.ones(8, 4))


def test_the_mean_gets_the_contrast_of_its_images_back() -> None:
    images = 0.5 + 0.1 * torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)

    def spread(x: Tensor) -> float:
        return float((x - x.mean((-2, -1), keepdim=True)).square().mean((-3, -2, -1)).sqrt().mean())

    assert spread(images.mean(0)) < 0.3 * spread(images)
    assert spread(with_contrast(images)) == pytest.approx(spread(images), rel=0.05)
    assert torch.allclose(with_contrast(images).mean((1, 2)), images.mean((0, 2, 3)), atol=0.01)
    gray = torch.full((2, 3, 4, 4), 0.5)
    assert torch.equal(with_contrast(gray), gray[0])


def test_the_photographs_that_excite_most_are_found(lenslet: Network, source: ImageSource, pixels: Tensor) -> None:
    asked = [Unit.parse("conv5:17"), Unit.parse("class:espresso")]
    channel, class_ = rank(lenslet, asked, source, 12)
    maps = torch.cat([lenslet.activations(part, ["conv5"])["conv5"] for part in pixels.split(50)])[:, 17]
    with torch.no_grad():
        logits = torch.cat([lenslet(part) for part in pixels.split(50)])[:, lenslet.head.index("espresso")]
    for found, values in ((channel, maps.flatten(1).amax(1)), (class_, logits)):
        best = values.sort(descending=True, stable=True)
        np.testing.assert_allclose(found.responses, best.values[:12], rtol=1e-4)
        assert set(found.ids) == set(best.indices[:12].tolist())
    where = maps[torch.from_numpy(channel.ids)].flatten(1).argmax(1)
    assert [y * 8 + x for y, x in channel.positions] == where.tolist()


def test_photographs_that_leave_a_channel_silent_are_left_out(lenslet: Network, source: ImageSource) -> None:
    few = source.first(40)
    (found,) = rank(lenslet, [Unit("relu7", 5)], few, 40)
    assert 0 < len(found.ids) < 40
    assert found.responses.min() > 0


# --- facets


def test_facets_go_apart_and_excite_more_than_photographs(lenslet: Network, source: ImageSource) -> None:
    def apart(pull: float) -> float:
        found = facets(lenslet, "conv6:30", source, 3, images=60, steps=48, pull=pull)
        assert found.images.shape == (len(found.groups), 3, 64, 64)
        ids = [i for group in found.groups for i in group.ids]
        assert len(ids) == len(set(ids)) == 60
        assert (found.responses > [group.best for group in found.groups]).all()
        rows = of_length_one(features_of(lenslet, torch.from_numpy(found.images), Unit("conv6", 30)))
        return float(np.mean([a @ b for a, b in itertools.combinations(rows, 2)]))

    told, untold = apart(1.0), apart(0.0)
    assert told < untold - 0.1


def test_facets_tell_which_photographs_are_theirs(lenslet: Network, source: ImageSource, tmp_path: Path) -> None:
    found = facets(lenslet, ["class:espresso", "conv5:17"], source, 2, images=30, size=48, steps=24)
    assert found.units == ("class:espresso", "class:espresso", "conv5:17", "conv5:17")
    assert found.images.shape == found.starts.shape == (4, 3, 48, 48)
    for group, unit in zip(found.groups, found.units, strict=True):
        shown = torch.stack([found.read(i) for i in group.ids])
        rows = of_length_one(features_of(lenslet, shown, Unit.parse(unit)))
        if unit.startswith("class"):
            away = np.linalg.norm(rows - group.center, axis=1)
            assert (np.diff(away) >= -1e-6).all()  # nearest to the center first
            np.testing.assert_allclose(rows.mean(0), group.center, atol=1e-6)
    names = {path.name for path in found.save(tmp_path)}
    assert {"facets.png", "image-0.png", "images.npy", "starts.npy", "manifest.json"} <= names
    assert len(json.loads((tmp_path / "manifest.json").read_text())["summary"]["facets"]) == 4


def test_facets_of_what_has_none_are_refused(lenslet: Network, source: ImageSource) -> None:
    for unit in ("conv5", "conv5:17@2,3"):
        with pytest.raises(InputError, match="accepted: a channel as conv5:17, or a class"):
            facets(lenslet, unit, source)
    with pytest.raises(UnknownName, match="no channel 320 in layer 'conv5' \\(accepted: 0 to 319\\)"):
        facets(lenslet, "conv5:320", source)
    with pytest.raises(UnknownName, match="koalla"):
        facets(lenslet, "class:koalla", source)
    with pytest.raises(InputError, match="class:koala: fewer than 2 photographs excite it"):
        facets(lenslet, "class:koala", source.first(1))
    with pytest.raises(InputError, match="count 0"):
        facets(lenslet, "conv5:17", source, 0)


# --- diverse images


def test_diversity_is_minus_the_mean_cosine_of_gram_matrices(lenslet: Network, pixels: Tensor) -> None:
    some = pixels[:4]
    maps = lenslet.activations(some, ["conv3"])["conv3"].double().numpy()
    grams = [np.einsum("cyx,dyx->cd", m, m).ravel() for m in maps]
    expected = [
        -np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for j, b in enumerate(grams) if j != i])
        for i, a in enumerate(grams)
    ]
    assert min(expected) > -0.999
    np.testing.assert_allclose(lenslet.read(some, obj.diversity("conv3")).detach(), expected, rtol=1e-4)
    same = some[:1].expand(3, -1, -1, -1)
    np.testing.assert_allclose(lenslet.read(same, obj.diversity("conv3")).detach(), [-1] * 3, rtol=1e-5)
    assert lenslet.read(some[:1], obj.diversity("conv3")).tolist() == [0]
    with pytest.raises(InputError, match="'fc' has no positions"):
        lenslet.read(some, obj.diversity("fc"))


def test_diverse_images_are_less_alike(lenslet: Network) -> None:
    def alike(apart: float) -> float:
        found = visualize(lenslet, ["conv5:17", "class:goldfish"], diverse=3, apart=apart, steps=32, size=48)
        assert found.names == ("conv5:17",) * 3 + ("class:goldfish",) * 3
        images = torch.from_numpy(found.images)
        assert (found.scores > found.before).all()
        return float(-lenslet.read(images[:3], obj.diversity("conv5")).mean())

    assert alike(1.0) < alike(0.0) - 0.1


def test_scores_of_diverse_images_are_the_units_own(lenslet: Network) -> None:
    found = visualize(lenslet, "conv5:17", diverse=3, steps=8, size=48)
    with torch.no_grad():
        own = lenslet.read(torch.from_numpy(found.images), obj.excitation("conv5", 17))
    np.testing.assert_allclose(found.scores, own, rtol=1e-4)


def test_a_unit_without_photographs_is_left_out(source: ImageSource) -> None:
    from atlas_helpers import tiny_network

    found = facets(tiny_network(), ["conv1:2", "conv2:7"], source.first(40), 2, steps=2)
    assert found.without == ("conv1:2",)
    assert set(found.units) == {"conv2:7"}
    assert found.summary()["without"] == ["conv1:2"]
    told = found.provenance["parameters"]
    assert (told["units"], told["preset"], told["steps"], told["pull"]) == (["conv1:2", "conv2:7"], "lucid", 2, 1.0)
    assert found.provenance["inputs"]["data"]["images"] == 40


def test_diversity_can_be_climbed_by_itself(lenslet: Network) -> None:
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = climb(lenslet, [obj.diversity("conv2")], noise, Recipe(steps=10))
    assert (found.scores > found.before).all()


def test_the_first_of_diverse_images_starts_where_one_would(lenslet: Network) -> None:
    start = start_images(lenslet, "gray", 1, (32, 32), 0)
    found = visualize(lenslet, "conv2:3", diverse=3, start=start, steps=0, preset="none", size=32)
    assert np.array_equal(found.images[0], start[0].numpy())
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(found.images, 2))
    with pytest.raises(InputError, match="diverse 0"):
        visualize(lenslet, "conv2:3", diverse=0)
    with pytest.raises(InputError, match="reads no layer of several channels"):
        visualize(lenslet, obj.total_variation(), diverse=2, size=32)


# --- the command line


def test_facets_on_the_command_line(tmp_path: Path) -> None:
    command = ["facets", "class:espresso", "--count", "2", "--steps", "4", "-o", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["facets"]) == 2
    assert (tmp_path / "facets.png").is_file()
    done = CliRunner().invoke(app, ["facets", "conv5:17", "--every", "5"])
    assert done.exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "now"),
    [
        (["visualize", "conv5:17", "--facets", "2"], "netloupe facets UNIT --count N"),
        (["visualize", "conv5:17", "--pull", "2"], "netloupe facets UNIT --pull WEIGHT"),
        (["visualize", "conv5:17", "--data", "photos"], "netloupe facets UNIT --data SOURCE"),
        (["dream", "a.png", "-l", "conv5:17", "--accentuate", "conv2"], "netloupe accentuate IMAGE --unit UNIT"),
    ],
)
def test_old_flags_say_which_verb_they_are_now(
    arguments: list[str], now: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert f"is a verb of its own now: {now}" in told.err
