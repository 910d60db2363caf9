"""The trust study: each test on networks and methods whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from skimage import metrics
from torch import Tensor, nn

from netloupe.analysis import fidelity, gradients
from netloupe.analysis.correlation import likeness, structural_similarity
from netloupe.analysis.fidelity import center_map, random_map
from netloupe.analysis.methods import METHODS, Method, quick_methods
from netloupe.core import objectives as obj
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.studies.trust.measure import stages, trust
from netloupe.studies.trust.record import Trust
from watch_helpers import Recorder

SIDE = 16


def linear() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 4)), InputSpec(SIDE), list("abcd"), name="linear")


def deep(depth: int = 3) -> Network:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for i in range(depth):
        parts += [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return Network(module, InputSpec(SIDE), list("abcd"), name="deep")


def some_images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def edges(net: Network, images: Tensor, objective: Objective) -> Tensor:
    """The photograph's edges, whatever the network."""
    gray = images.mean(1)
    return (gray - gray.roll(1, 1)).abs() + (gray - gray.roll(1, 2)).abs()


EDGES = Method("edges", "Edges", "nobody", False, edges)
PEAKS = ((2, 3), (9, 9), (15, 0))


def peaks(net: Network, images: Tensor, objective: Objective) -> Tensor:
    """For image i of `some_images` its peak at PEAKS[i]."""
    found = torch.zeros(len(images), SIDE, SIDE)
    for i, image in enumerate(images):
        which = next(j for j, one in enumerate(some_images()) if torch.equal(one, image))
        found[i, PEAKS[which][0], PEAKS[which][1]] = 1.0
    return found


def gradient_and_edges(**options: object) -> Trust:
    return trust(linear(), some_images(), methods=["gradient", EDGES], count=1, steps=4, **options)  # type: ignore[arg-type]


# --- what depends on the weights and what does not


def test_the_gradient_of_a_linear_network_is_another_and_edges_stay() -> None:
    found = gradient_and_edges(targets="class:a")
    assert found.ranks.shape == found.structures.shape == (2, 2, 3)
    assert np.allclose(found.ranks[:, 0], 1)
    assert np.allclose(found.structures[:, 0], 1)
    assert (np.abs(found.ranks[0, 1]) < 0.2).all()  # 256 numbers drawn independently: 0 with a deviation of 0.06
    assert (np.abs(found.structures[0, 1]) < 0.2).all()
    assert (np.abs(found.rival_ranks[0]) < 0.2).all()
    assert np.allclose(found.ranks[1], 1)
    assert np.allclose(found.structures[1], 1)
    assert np.allclose(found.rival_ranks[1], 1)
    assert np.allclose(found.other_ranks[0], 1)  # the gradient of a linear network is the same for every image,
    assert (found.other_ranks[1] < 0.4).all()  # edges are not
    words = found.summary()["methods"]
    assert words["gradient"]["verdict"].startswith("Depends on the weights")
    assert words["edges"]["verdict"].startswith("Draws edges, not reasons: with all weights random its maps stay 1.00")
    assert "says next to nothing about the target (1.00 alike" in words["edges"]["verdict"]


def test_likeness_is_scipys_and_skimages() -> None:
    a, b = torch.randn(2, 20, 24), torch.randn(2, 20, 24)
    ranks, structures = likeness(a, b)
    for i in range(2):
        x, y = a[i].abs().numpy().astype(float), b[i].abs().numpy().astype(float)
        assert ranks[i] == pytest.approx(spearmanr(x.ravel(), y.ravel()).statistic)
        x, y = ((v - v.min()) / (np.quantile(v, 0.99) - v.min()) for v in (x, y))
        expected = metrics.structural_similarity(
            x.clip(0, 1), y.clip(0, 1), data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert structures[i] == pytest.approx(expected)
        assert abs(expected) > 1e-4
    both = likeness(a, -3 * a)  # sizes only, on a scale of their own
    assert np.allclose(both, 1)


def test_a_constant_map_is_like_nothing_and_nothing_is_like_it() -> None:
    flat, other = torch.ones(1, SIDE, SIDE), torch.rand(1, SIDE, SIDE)
    assert [v.tolist() for v in likeness(other, flat)] == [[0.0], [0.0]]
    assert all(np.isnan(v).all() for v in likeness(flat, other))
    assert all(np.isnan(v).all() for v in likeness(flat, flat))
    blank = replace(EDGES, attribution=lambda _n, images, _o: torch.zeros(len(images), SIDE, SIDE))
    row = trust(linear(), some_images(), methods=[blank], count=1, steps=1).summary()["methods"]["edges"]
    assert row["all_random"] is None
    assert row["verdict"].startswith("Its maps are constant")


def test_small_maps_have_no_structural_similarity() -> None:
    with pytest.raises(InputError, match="11 px a side or more"):
        structural_similarity(torch.rand(1, 10, 20), torch.rand(1, 10, 20))


# --- the cascade


def test_stages_go_from_the_score_to_the_image() -> None:
    net = deep(3)
    logits = [obj.logit(0)]
    assert stages(net, logits, 9) == [("8",), ("8", "4"), ("8", "4", "2"), ("8", "4", "2", "0")]
    assert stages(net, logits, 2) == [("8",), ("8", "4", "2", "0")]
    assert stages(net, logits, 1) == [("8", "4", "2", "0")]
    assert stages(net, [obj.channel("2", 0), obj.channel("1", 0)], 9) == [("2",), ("2", "0")]
    depths = [len(layers) for layers in stages(deep(20), logits, 5)]
    assert depths == [1, 6, 11, 16, 21]
    with pytest.raises(InputError, match="0 stages"):
        stages(net, logits, 0)
    with pytest.raises(InputError, match="no layer with parameters"):
        stages(Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), InputSpec(SIDE)), logits, 3)


def test_what_is_drawn_anew_keeps_to_its_layers_and_goes_on_from_stage_to_stage() -> None:
    net = deep(3)
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    top, more, all_of_it = (
        fidelity.randomized(net, layers).module.state_dict() for layers in (["8"], ["8", "4"], None)
    )
    changed = [{name for name in before if not torch.equal(before[name], s[name])} for s in (top, more, all_of_it)]
    assert changed[0] == {"8.weight", "8.bias"}
    assert changed[1] == changed[0] | {"4.weight", "4.bias"}
    assert changed[2] == set(before)
    assert torch.equal(top["8.weight"], more["8.weight"])
    assert torch.equal(more["4.weight"], all_of_it["4.weight"])
    assert not torch.equal(top["8.weight"], fidelity.randomized(net, ["8"], 1).module.state_dict()["8.weight"])
    assert not all_of_it["2.bias"].any()
    assert float(all_of_it["2.weight"].var()) == pytest.approx(2 / 72, rel=0.2)  # 576 numbers
    assert all(torch.equal(before[name], value) for name, value in net.module.state_dict().items())


def test_the_signal_does_not_die_out_in_a_deep_network() -> None:
    net, images = deep(40), some_images(2)

    def difference(drawn: Network) -> float:
        with torch.no_grad():
            logits = drawn(images)
        return float((logits[0] - logits[1]).norm() / logits.norm())

    assert difference(fidelity.randomized(net, None)) > 1e-4
    for part in net.module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    assert difference(net) < 1e-6  # why these do not do


# --- deletion, insertion, pointing


def test_curves_are_those_of_each_image_and_its_class() -> None:
    net, images = deep(), some_images()
    labels = [2, 0, 2]
    found = trust(net, images, labels, methods=["gradient"], count=1, steps=3)
    assert found.targets == ("c", "a", "c")
    for i, label in enumerate(labels):
        one = images[i : i + 1]
        importance = gradients.saliency(net, one, obj.logit(label))
        for curves, way in ((found.deletion, fidelity.deletion), (found.insertion, fidelity.insertion)):
            expected = way(net, one, obj.probability(label), importance, steps=3)[0].numpy()
            assert np.allclose(curves[0, i], expected, atol=1e-6)
            assert np.ptp(expected) > 0
    assert found.deletion.shape == (3, 3, 4)
    assert found.rows == ["gradient", "random", "center"]
    areas = found.summary()["baselines"]["center"]
    assert areas["deletion"] == pytest.approx(np.trapezoid(found.deletion[2], dx=1 / 3).mean(), rel=1e-5)


def test_an_image_alone_gives_the_same() -> None:
    net, images = deep(), some_images()
    whole = trust(net, images, [2, 0, 2], methods=["gradient", "grad_cam"], count=2, steps=2)
    alone = trust(net, images[1:2], [0], methods=["gradient", "grad_cam"], count=2, steps=2)
    assert np.allclose(whole.ranks[:, :, 1], alone.ranks[:, :, 0], atol=1e-3, equal_nan=True)
    assert np.allclose(whole.deletion[:2, 1], alone.deletion[:2, 0], atol=1e-6)
    assert np.isnan(alone.other_ranks).all()


@pytest.mark.parametrize(
    ("tolerance", "hits"), [(None, [1, 0, 0]), (0.0, [1, 0, 0]), (1.0, [1, 1, 0]), (20.0, [1, 1, 1])]
)
def test_hits_are_counted_by_hand(tolerance: float | None, hits: list[int]) -> None:
    boxes = torch.tensor([[0, 0, 3, 4], [0, 0, 9, 16], [0, 5, 4, 9]])  # (2, 3) inside, (9, 9) a row below, (15, 0) far
    method = replace(EDGES, name="peaks", attribution=peaks)
    found = trust(linear(), some_images(), methods=[method], boxes=boxes, tolerance=tolerance, count=1, steps=1)
    assert found.points[0].tolist() == [list(p) for p in PEAKS]
    assert found.hits is not None
    assert found.hits[0].tolist() == hits
    assert found.summary()["methods"]["peaks"]["pointing"] == pytest.approx(sum(hits) / 3)
    assert found.summary()["tolerance"] == (tolerance or 0.0)


def test_images_without_a_box_do_not_count() -> None:
    boxes = torch.tensor([[0, 0, 3, 4], [torch.nan] * 4, [0, 5, 4, 9]])
    method = replace(EDGES, name="peaks", attribution=peaks)
    found = trust(linear(), some_images(), methods=[method], boxes=boxes, count=1, steps=1)
    assert found.hits is not None
    assert np.array_equal(found.hits[0], [1, np.nan, 0], equal_nan=True)
    assert found.summary()["methods"]["peaks"]["pointing"] == 0.5
    assert found.summary()["boxes"] == 2
    assert (
        "points at the object in 50% of the images, the center in 0%" in found.summary()["methods"]["peaks"]["verdict"]
    )


def test_fifteen_pixels_are_allowed_from_224() -> None:
    net = Network(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)), InputSpec(224))
    method = replace(EDGES, attribution=lambda _n, x, _o: center_map(len(x), 224, 224))
    boxes = torch.tensor([[0, 0, 97, 224], [0, 0, 96, 224]])  # the middle is at row 111 or 112
    found = trust(net, torch.rand(2, 3, 224, 224), methods=[method], boxes=boxes, count=1, steps=1)
    assert found.hits is not None
    assert found.points[0, 0, 0] == 111
    assert found.hits[0].tolist() == [1, 0]


def test_the_baselines_look_at_no_image() -> None:
    center = center_map(2, 10, 20)
    assert fidelity.points(center)[0].tolist() in ([4, 9], [4, 10], [5, 9], [5, 10])
    assert torch.equal(center[0], center[1])
    assert torch.allclose(center[0], center[0].flip(0).flip(1))
    drawn = random_map(2, 10, 20)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn, random_map(2, 10, 20))
    assert not torch.equal(drawn, random_map(2, 10, 20, seed=1))


# --- targets and methods


def test_targets() -> None:
    net, images = deep(), some_images()
    with torch.no_grad():
        top = [net.head.label(i) for i in net(images).argmax(1).tolist()]
    assert trust(net, images, methods=[EDGES], count=1, steps=1).targets == tuple(top)
    assert trust(net, images, "class:b", methods=[EDGES], count=1, steps=1).targets == ("b",) * 3
    mixed = trust(net, images, [None, 3, "2:5"], methods=[EDGES], count=9, steps=1)
    assert mixed.targets == (top[0], "d", "2:5")
    of_a_unit = trust(net, images, "2:5", methods=["gradient"], count=9, steps=1)
    assert of_a_unit.stages == (("2",), ("2", "0"))
    assert np.isfinite(of_a_unit.rival_ranks).all()
    without = trust(net, images, obj.energy("2"), methods=["gradient"], count=9, steps=1)
    assert without.summary()["methods"]["gradient"]["rival"] is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"targets": [0, 1]}, InputError, "2 targets for 3 images"),
        ({"targets": "class:e"}, UnknownName, "no class 'e'"),
        ({"targets": [9, 9, 9]}, UnknownName, "no class 9"),
        ({"methods": ["gradeint"]}, UnknownName, "did you mean 'gradient'"),
        ({"methods": []}, InputError, "3 images, 0 methods"),
        ({"boxes": torch.zeros(2, 4)}, InputError, r"boxes of shape \(2, 4\) for 3 images"),
        ({"boxes": torch.full((3, 4), torch.nan)}, InputError, "no image has a box"),
        ({"boxes": torch.zeros(3, 4), "tolerance": -1.0}, InputError, "tolerance -1.0"),
        ({"count": 0}, InputError, "count 0"),
        ({"steps": 0}, InputError, "steps 0"),
        ({"images": torch.zeros(0, 3, SIDE, SIDE)}, InputError, "0 images, 1 methods"),
        ({"images": torch.full((3, 3, SIDE, SIDE), 255.0)}, InputError, "accepted: \\[0, 1\\]"),
        ({"images": torch.zeros(3, 1, SIDE, SIDE)}, InputError, r"accepted: \(N, 3, H, W\)"),
    ],
)
def test_trust_refuses(change: dict[str, object], error: type[Exception], message: str) -> None:
    given = {"images": some_images(), "methods": [EDGES], "count": 1, "steps": 1} | change
    with pytest.raises(error, match=message):
        trust(linear(), **given)  # type: ignore[arg-type]


def test_methods_that_cannot_explain_a_network_are_left_out_unless_named() -> None:
    found = trust(linear(), some_images(1), count=1, steps=1)
    assert [method.name for method in found.methods] == [
        "gradient",
        "smooth_grad",
        "integrated_gradients",
        "occlusion",
    ]
    assert set(found.skipped) == set(METHODS) - {method.name for method in found.methods}
    assert "no ReLU" in found.summary()["skipped"]["guided_backprop"]
    with pytest.raises(NetworkError, match="no ReLU"):
        trust(linear(), some_images(1), methods=["gradient", "guided_backprop"], count=1, steps=1)


def test_quick_methods_are_the_methods_with_fewer_passes() -> None:
    assert [method.name for method in quick_methods()] == list(METHODS)
    assert quick_methods(["gradient"]) == [METHODS["gradient"]]
    assert quick_methods([EDGES]) == [EDGES]
    net, images = deep(), some_images(1)
    smooth, path = quick_methods(["smooth_grad", "integrated_gradients"], samples=3, steps=5)
    for method, expected in (
        (smooth, gradients.smooth_grad(net, images, obj.logit(0), samples=3)),
        (path, gradients.integrated_gradients(net, images, obj.logit(0), steps=5)),
    ):
        assert torch.equal(method.attribution(net, images, obj.logit(0)), expected)
        assert expected.abs().max() > 0
    (hidden,) = quick_methods(["occlusion"])
    heat = hidden.attribution(net, images, obj.logit(0))
    assert heat.shape == (1, SIDE, SIDE)
    assert len(heat.unique()) <= 8 * 8  # windows of 4 px, 2 px apart: squares of 2 px


def test_progress_counts_to_the_end() -> None:
    watch = Recorder()
    trust(deep(), some_images(1), methods=["gradient", EDGES], count=2, steps=1, watch=watch)
    total = len(watch.told) - 1
    assert total > 0
    assert watch.told == [("maps", done, total) for done in range(total + 1)]


# --- figures and files


def test_to_beat_a_baseline_is_more_than_chance() -> None:
    def beats(deletion: list[list[float]], insertion: list[list[float]]) -> dict[str, list[str]]:
        """Areas of the method and of the baselines random and center by image, as flat curves."""
        curves = [np.repeat(np.array(areas)[..., None], 2, axis=2) for areas in (deletion, insertion)]
        found = replace(base, deletion=curves[0], insertion=curves[1])
        return found.summary()["methods"]["edges"]["beats"]

    base = trust(linear(), some_images(), methods=[EDGES], count=1, steps=1)
    clear, chance = [0.1, 0.2, 0.3], [0.0, 0.5, 0.3]
    assert beats([clear, [0.5, 0.6, 0.7], clear], [clear, clear, [0.0, 0.1, 0.1]]) == {
        "random": ["deletion"],
        "center": ["insertion"],
    }
    assert beats([clear, chance, [0, 0, 0]], [clear, chance, [1, 1, 1]]) == {"random": [], "center": []}


def test_saved_files(tmp_path: Path) -> None:
    found = gradient_and_edges(boxes=torch.tensor([[0, 0, 9, 9]] * 3))
    written = {path.name for path in found.save(tmp_path)}
    assert {"trust.png", "cascade.png", "manifest.json", "ranks.npy", "hits.npy", "maps.npy"} <= written
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["summary"]["images"] == 3
    assert manifest["provenance"]["technique"] == "study trust"
    assert np.load(tmp_path / "maps.npy").shape == (2, 2, SIDE, SIDE)
    for name in ("trust", "cascade"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 50
    with Image.open(tmp_path / "trust.png") as wide:
        assert wide.width == 1220
