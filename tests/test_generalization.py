"""Linear probes with few images per class: folds, penalties, scores, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from netloupe.cli import app as cli
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.sources import ImageSource
from netloupe.studies.generalization.folds import class_accuracy, draw_folds
from netloupe.studies.generalization.measure import generalization, grid_of, read_features
from netloupe.studies.generalization.record import ahead, over_folds
from netloupe.studies.generalization.task import KINDS
from netloupe.studies.probes import Kind, Scale, fit_path, probe, scores_of
from netloupe.zoo.architectures import Lenslet

# --- folds


def test_folds_are_disjoint_even_and_nested() -> None:
    labels = np.repeat(np.arange(4), [9, 20, 90, 7])
    labels[::13] = -1
    small, large = (draw_folds(labels, n, 3, seed=5) for n in (2, 5))
    for fold, other in zip(small.folds, large.folds, strict=True):
        assert not set(fold.train) & set(fold.test)
        assert set(fold.train) < set(other.train)
        for c in range(4):
            assert (labels[fold.train] == c).sum() == 2
            assert (labels[fold.test] == c).sum() == min(50, (labels == c).sum() - 2)
        assert (labels[fold.train] >= 0).all()
        assert (labels[fold.test] >= 0).all()
    assert len({tuple(fold.train) for fold in large.folds}) == 3
    assert np.array_equal(draw_folds(labels, 5, 3, seed=5).folds[1].train, large.folds[1].train)
    assert not np.array_equal(draw_folds(labels, 5, 3, seed=6).folds[1].train, large.folds[1].train)


def test_small_classes_are_left_out_and_named() -> None:
    found = draw_folds(np.repeat([0, 1, 2, 5], [1, 6, 5, 8]), 5, 2)
    assert found.classes.tolist() == [1, 5]  # class 2 would have none to test
    assert found.short == {0: 1, 2: 5}


def test_a_test_set_of_its_own() -> None:
    train, test = np.repeat([0, 1, 2], [4, 4, 4]), np.repeat([0, 1], [60, 3])
    found = draw_folds(train, 4, 5, test_labels=test)
    assert (len(found.folds), found.same) == (1, True)
    assert found.classes.tolist() == [0, 1]
    assert np.bincount(test[found.folds[0].test]).tolist() == [50, 3]
    several = draw_folds(train, 3, 5, test_labels=test)
    assert len(several.folds) == 5
    assert len({tuple(fold.test) for fold in several.folds}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "0 images per class"),
        ((2, 0), "0 folds"),
        ((9, 5), r"0 of 2 classes have 10 or more images, for 9 per class \(accepted: 2 or more\)"),
        ((4, 5), "1 of 2 classes have 5 or more"),
    ],
)
def test_folds_that_cannot_be(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_folds(np.repeat([0, 1], [4, 6]), *arguments)


def test_class_accuracy_by_plain_loops() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 5, 200), generator.integers(0, 5, 200)
    truth[:120] = 2  # uneven, so that it differs from the share of all images
    shares = []
    for c in range(5):
        hits = [predicted[i] == c for i in range(200) if truth[i] == c]
        shares.append(sum(hits) / len(hits))
    assert class_accuracy(truth, predicted) == pytest.approx(sum(shares) / 5)
    assert class_accuracy(truth, predicted) != pytest.approx((truth == predicted).mean())


# --- probes


def blobs(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centers = np.random.default_rng(99).normal(size=(classes, d))
    return (centers[labels] + 2 * generator.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_are_the_classes_give_all_and_random_labels_give_chance(kind: Kind) -> None:
    labels = np.arange(120) % 4
    hot = np.eye(4, dtype=np.float32)[labels]
    assert class_accuracy(labels, probe(hot, labels, hot, kind).predicted) == 1.0
    features, _ = blobs(400, 30, 4)
    drawn = np.random.default_rng(1).integers(0, 4, 400)
    found = probe(features[:200], drawn[:200], features[200:], kind)
    assert class_accuracy(drawn[200:], found.predicted) == pytest.approx(0.25, abs=0.12)


def test_the_optima_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    features, labels = blobs(150, 12, 3)
    features = Scale.of(features)(features).astype(np.float64)
    penalty = 1e-2
    exact = {"tolerance": 1e-14, "steps": 5000}
    ours = fit_path(features, labels, 3, "logistic", [penalty], **exact)[0]
    peer = LogisticRegression(C=1 / (penalty * 150), tol=1e-10, max_iter=5000).fit(features, labels)
    np.testing.assert_allclose(ours[:-1].T, peer.coef_, atol=2e-4)
    assert np.abs(peer.coef_).max() > 0.5
    ours = fit_path(features, labels, 3, "svm", [penalty], **exact)[0]
    svm = LinearSVC(C=1 / (penalty * 150), tol=1e-10, max_iter=100_000, dual=False, intercept_scaling=1e3)
    svm.fit(features, labels)  # it penalizes the bias, less so the larger its scaling
    np.testing.assert_allclose(ours[:-1].T, svm.coef_, atol=2e-3)
    np.testing.assert_allclose(ours[-1], svm.intercept_, atol=2e-3)


def test_more_numbers_than_images_are_turned_without_loss() -> None:
    features, labels = blobs(60, 200, 3)
    found = probe(features[:30], labels[:30], features[30:], "logistic", [1e-3])
    scale = Scale.of(features[:30])
    exact = {"tolerance": 1e-12, "steps": 2000}
    weights = fit_path(scale(features[:30]), labels[:30], 3, "logistic", [1e-3], **exact)[0]
    plain = scores_of(scale(features[30:]), weights)
    agree = found.predicted == plain.argmax(1)
    assert agree.mean() > 0.95
    assert class_accuracy(labels[30:], found.predicted) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_from_the_test_images(kind: Kind) -> None:
    features, labels = blobs(90, 10, 3)
    own = probe(features[:60], labels[:60], features[60:], kind)
    wild = features[60:].copy()
    wild[1:] = 1e3 * np.random.default_rng(3).normal(size=wild[1:].shape)
    other = probe(features[:60], labels[:60], wild, kind)
    assert other.predicted[0] == own.predicted[0]
    assert other.penalty == own.penalty
    alone = [probe(features[:60], labels[:60], features[i : i + 1], kind).predicted[0] for i in range(60, 66)]
    assert alone == own.predicted[:6].tolist()


def test_standardization() -> None:
    features = np.random.default_rng(0).normal(3, 5, (50, 4)).astype(np.float32)
    features[:, 2] = 7.0
    scaled = Scale.of(features)(features)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0) * 2, [1, 1, 0, 1], atol=1e-4)


def test_the_penalty_is_the_one_that_held_out_training_images_like() -> None:
    features, labels = blobs(300, 100, 3)
    features[:, 5:] = np.random.default_rng(5).normal(size=(300, 95))  # mostly noise: strong penalties are better
    found = probe(features[:150], labels[:150], features[150:], "logistic", [1.0, 1e-9])
    assert (found.chosen, found.penalty) in ((True, 1.0), (True, 1e-9))
    assert not probe(features[:3], labels[:3], features[150:], "logistic").chosen  # one image a class
    both = [probe(features[:150], labels[:150], features[150:], "logistic", [p]).predicted for p in (1.0, 1e-9)]
    assert np.array_equal(found.predicted, both[0] if found.penalty == 1.0 else both[1])


def test_features_that_are_not_finite() -> None:
    features, labels = blobs(30, 4, 3)
    features[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of the training features are not finite"):
        probe(features, labels, features, "svm")


# --- the study


class Colors(nn.Module):
    """conv1 keeps the colors, conv2 nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 1)
        self.conv2 = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, 2)
        with torch.no_grad():
            self.conv1.weight[:] = torch.eye(3)[:, :, None, None]
            self.conv1.bias.zero_()
            self.conv2.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(x)).mean((2, 3)))


def colors(counts: tuple[int, ...] = (8, 8, 8), spec: str = "colors") -> ImageSource:
    """Images of one color for each class: red, green, blue, with a little noise."""
    labels = [c for c, n in enumerate(counts) for _ in range(n)]

    def opened(i: int) -> Image.Image:
        pixels = np.random.default_rng(i).integers(0, 90, (16, 16, 3))
        pixels[:, :, labels[i]] += 150
        return Image.fromarray(pixels.astype(np.uint8))

    names = [f"{spec}/{i}" for i in range(len(labels))]
    return ImageSource(spec, names, opened, labels, ["red", "green", "blue"][: len(counts)])


def net(module: nn.Module | None = None) -> Network:
    return Network((module if module is not None else Colors()).eval(), InputSpec((16, 16)))


def test_study_finds_the_layer_that_knows() -> None:
    found = generalization(net(), colors(), per_class=(4, 2), folds=3, scratch=1, epochs=2)
    assert found.layers == ("conv1", "conv2")
    assert found.per_class == (2, 4)
    assert found.accuracy.shape == (2, 2, 2, 3)
    assert (found.accuracy[0] == 1).all()
    assert (found.accuracy[1] == pytest.approx(1 / 3)) or (found.accuracy[1] < 0.6).all()
    assert found.scratch.shape == (2, 1)
    assert np.isfinite(found.scratch).all()
    summary = found.summary()["per_class"]["4"]
    assert (summary["best"]["layer"], summary["best"]["mean"], summary["best"]["deviation"]) == ("conv1", 1.0, 0.0)
    assert (summary["training_images"], summary["test_images"], summary["chance"]) == (12, 12, 1 / 3)
    assert summary["ahead"] == pytest.approx(1 - found.scratch[1, 0])
    again = generalization(net(), colors(), per_class=(4, 2), folds=3, scratch=0)
    assert np.array_equal(again.accuracy, found.accuracy)
    assert again.summary()["per_class"]["4"]["scratch"] is None


def test_what_can_be_computed_is() -> None:
    found = generalization(net(), colors((1, 9, 5)), per_class=(4, 20), folds=2, scratch=0)
    assert found.per_class == (4,)
    assert found.classes == (2,)
    assert "0 (1 images)" in found.left_out["classes at 4 per class"]
    assert "0 of 3 classes have 21 or more images" in found.left_out["20 per class"]
    broken = Colors()
    with torch.no_grad():
        broken.conv2.weight[1] = torch.nan
    found = generalization(net(broken), colors(), per_class=(4,), folds=2, scratch=0)
    assert found.layers == ("conv1",)
    assert "activation nan in layer 'conv2', channel 1" in found.left_out["layer conv2"]

    class NoHead(Colors):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv2(self.conv1(x)).mean((2, 3))[:, :2]

    found = generalization(net(NoHead()), colors(), per_class=(4,), folds=2, layers=["conv1"])
    assert "no linear layer that gives its 2 logits" in found.left_out["scratch"]
    assert np.isnan(found.scratch).all()


def test_a_test_source_and_its_folds() -> None:
    found = generalization(net(), colors(), colors((5, 5, 5), "others"), per_class=(8, 4), folds=2, scratch=0)
    assert found.images.tolist() == [[12, 15], [24, 15]]
    assert np.isnan(found.accuracy[:, :, 1, 1]).all()  # all eight are drawn in every fold
    assert "one" in found.left_out["folds at 8 per class"]


def test_grids_and_usual_layers() -> None:
    lens = Network(Lenslet(5).eval(), InputSpec((64, 64)))
    assert list(lens.layers.stage_ends()) == ["pool1", "pool2", "relu3", "pool4", "relu5", "pool6", "relu7"]
    assert [grid_of(lens, name, 2048) for name in ("pool1", "pool2", "relu3", "relu7", "mean", "fc")] == [
        4,
        4,
        2,
        2,
        1,
        1,
    ]
    assert grid_of(lens, "pool1", 31) == 1
    found = read_features(net(), colors(), ["conv1"], 2048)
    maps = torch.stack([torch.from_numpy(np.asarray(colors().open(i)).copy()) for i in range(24)]).double() / 255
    cell = maps[3, 4:8, 12:16, 1].mean()
    assert found.vectors["conv1"].shape == (24, 48)
    assert found.vectors["conv1"][3, 16 + 4 * 1 + 3] == pytest.approx(float(cell), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"layers": ["conv3"]}, UnknownName, "no layer 'conv3'; did you mean"),
        ({"kinds": ["smv"]}, UnknownName, "no kind 'smv'; did you mean 'svm'"),
        ({"kinds": []}, InputError, "no kind of probe"),
        ({"folds": 0}, InputError, "folds 0"),
        ({"scratch": -1}, InputError, "scratch -1"),
        ({"epochs": 0}, InputError, "epochs 0"),
        ({"dimensions": 0}, InputError, "dimensions 0"),
        ({"per_class": []}, InputError, "no number of images per class"),
        ({"per_class": [2, -3]}, InputError, "per_class -3"),
        ({"per_class": [8]}, InputError, "0 of 3 classes have 9 or more"),
        ({"test": ImageSource("x", ["a"], lambda _: Image.new("RGB", (4, 4)), [0], ["cat"])}, InputError, "is 'red'"),
    ],
)
def test_mistakes(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        generalization(net(), colors(), **{"per_class": (2,), "scratch": 0, **change})  # type: ignore[arg-type]


class TwoThings(Colors):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"maps": self.conv1(x), "logits": super().forward(x)}


def test_a_network_with_several_outputs_is_trained_from_scratch_too() -> None:
    several = Network(TwoThings().eval(), InputSpec((16, 16)), output="logits")
    found, plain = (
        generalization(one, colors(), per_class=[4], folds=1, epochs=2, kinds=["logistic"]) for one in (several, net())
    )
    assert "scratch" not in found.left_out
    assert np.isfinite(found.scratch).all()
    np.testing.assert_array_equal(found.scratch, plain.scratch)
    np.testing.assert_array_equal(found.trained, plain.trained)


def test_a_layer_given_twice_counts_once() -> None:
    found = generalization(net(), colors(), layers=["conv1", "conv1"], per_class=[2], folds=1, scratch=0)
    assert found.layers == ("conv1",)


def test_images_without_labels() -> None:
    bare = ImageSource("bare", ["a", "b"], lambda _: Image.new("RGB", (16, 16)))
    with pytest.raises(InputError, match="'bare' has no labels"):
        generalization(net(), bare)


def test_spread_and_lead() -> None:
    assert over_folds(np.array([0.5, 0.7, np.nan])) == {
        "mean": pytest.approx(0.6),
        "deviation": pytest.approx(0.1 * 2**0.5),
        "folds": 2,
    }
    assert over_folds(np.array([0.5]))["deviation"] is None
    assert over_folds(np.full(2, np.nan))["mean"] is None
    assert ahead(np.array([0.9, 0.7, 0.8]), np.array([0.5, np.nan])) == pytest.approx(0.4)
    assert ahead(np.array([0.9]), np.array([])) is None


# --- the command line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\n\ndef tiny():\n    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
    )
    source = colors()
    for i in range(len(source)):
        folder = tmp_path / "images" / f"{source.label(i)}"
        folder.mkdir(parents=True, exist_ok=True)
        source.open(i).save(folder / f"{i}.png")

    def call(*arguments: object) -> tuple[int, str, str]:
        model = ["--model", f"{tmp_path / 'tiny.py'}:tiny", "--size", "16", "--device", "cpu"]
        given = ["study", "generalization", *model, "--data", tmp_path / "images", *arguments]
        status = cli.main([str(a) for a in given])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "images" / "0" / "broken.png").write_text("no image")
    status, out, _ = run("-n", 3, "--folds", 2, "--epochs", 1)
    assert status == 0
    assert "3 per class: best 1" in out
    assert "left out: images: 1 can't be read, such as 0/broken.png" in out
    status, out, _ = run(
        "-n", 3, "-n", 2, "--folds", 2, "--scratch", 0, "--json", "-o", tmp_path / "out", "--probe", "svm"
    )
    found = json.loads(out)
    assert status == 0
    assert list(found["per_class"]) == ["2", "3"]
    assert list(found["per_class"]["2"]["probes"]["1"]) == ["svm"]
    assert np.load(tmp_path / "out" / "accuracy.npy").shape == (1, 1, 2, 2)
    assert (tmp_path / "out" / "generalization.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe", "tree"], "no kind 'tree'"),
        (["-n", 0], "per_class 0"),
        (["--folds", 0], "folds 0"),
        (["--layer", "x"], "no layer 'x'"),
        (["--test", "photos"], "'photos' has no labels"),
    ],
)
def test_command_mistakes(arguments: list[object], message: str, run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
