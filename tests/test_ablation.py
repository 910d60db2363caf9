"""Mean ablation of channels and layers, and the part of a network after a layer that it runs again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_helpers import encoded, noise
from netloupe.cli import app as cli
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.trace.after import Rest
from netloupe.studies.ablation.measure import ablation
from netloupe.studies.ablation.record import half_of, mean_and_error

SIDE = 8


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def wrapped(module: nn.Module) -> Network:
    return Network(module.eval(), InputSpec((SIDE, SIDE)))


class ReadsThree(nn.Module):
    """The first class's logit is the mean of channel 3 alone, the second's is 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.act = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(5, 2)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        with torch.no_grad():
            self.conv.weight[3] *= 4
            self.conv.bias[3] = 1.0
            self.fc.weight[0, 3] = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mean(self.act(self.conv(x))).flatten(1))


class Skip(nn.Module):
    """A block whose input is added to its output, in place, and a branch that goes around the first layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.side = nn.Conv2d(3, 4, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.first(x))
        z = self.block(y)
        z += y
        return self.fc((self.act(z) + self.side(x)).mean((2, 3)))


class Branches(nn.Module):
    """Code that can't be repeated from a record: which way it goes depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y if float(y.detach().abs().sum()) > 0 else -y
        return self.fc(y.mean((2, 3)))


# --- the part after a layer


@pytest.mark.parametrize(
    ("module", "layer", "cut"),
    [
        (Skip, "first", True),
        (Skip, "act", True),
        (Skip, "block", True),
        (Skip, "side", True),
        (Skip, "act~2", True),
        (Branches, "first", False),
        (ReadsThree, "fc", True),
    ],
)
def test_the_part_after_a_layer_gives_the_logits_of_the_whole(
    module: Callable[[], nn.Module], layer: str, cut: bool
) -> None:
    net = wrapped(module())
    rest = Rest(net, layer)
    output, logits = rest.record(images())
    assert (rest.whole is None) == cut
    torch.testing.assert_close(logits, net(images()).detach())
    changed = output + torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    expected: list[Tensor] = []
    with torch.no_grad():
        net.run(images(), {layer: lambda _: changed.clone(), "": expected.append})
    assert not torch.allclose(expected[0], logits, atol=1e-3)  # the change matters
    for _ in range(2):
        torch.testing.assert_close(rest(changed.clone()), expected[0])
    torch.testing.assert_close(rest(output.clone()), logits)
    assert not any(part._forward_hooks for part in net.module.modules())


def test_a_network_that_decides_by_numbers_says_why() -> None:
    rest = Rest(wrapped(Branches()), "first")
    rest.record(images())
    assert "depends on the values" in str(rest.whole)
    with pytest.raises(UnknownName, match="did you mean 'first'"):
        Rest(wrapped(Skip()), "frist")


# --- channels


def test_the_channel_that_the_logit_reads_comes_first_with_the_loss_that_follows() -> None:
    net, x = wrapped(ReadsThree()), images()
    maps = net.activations(x, ["act"])["act"].double().numpy()
    means = [maps[i, 3].mean() for i in range(6)]
    labels = [0 if mean > np.mean(means) else 1 for mean in means]  # so that the mean is worse than what was there
    found = ablation(net, x, labels, layers=["act"])
    (layer,) = found.layers
    assert layer.ranking[0] == 3
    assert layer.loss[3] > 0.01
    others = [c for c in range(5) if c != 3]
    assert np.array_equal(layer.rise[others], np.zeros((4, 6)))
    for i, label in enumerate(labels):  # by hand: logits are (2 m, 0)
        before, after = 2 * means[i], 2 * np.mean(means)
        loss = [np.log(1 + np.exp(-z)) if label == 0 else np.log(1 + np.exp(z)) for z in (before, after)]
        assert found.clean_loss[i] == pytest.approx(loss[0], abs=1e-5)
        assert layer.rise[3, i] == pytest.approx(loss[1] - loss[0], abs=1e-5)
        p, q = (1 / (1 + np.exp(-z)) for z in (before, after))
        divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        assert layer.divergence[3, i] == pytest.approx(divergence, abs=1e-5)
        assert layer.right[3, i] == ((after > 0) == (label == 0))
    np.testing.assert_allclose(layer.whole_rise, layer.rise[3], atol=1e-6)  # no other channel is read


def test_judged_by_its_own_predictions_the_read_channel_is_first() -> None:
    net = wrapped(ReadsThree())
    middle = net.activations(images(), ["act"])["act"][:, 3].mean()
    with torch.no_grad():
        net.module.fc.bias[0] = -2 * middle  # the logit is 0 for the mean
    found = ablation(net, images(), layers=["conv", "act"])
    assert not found.labeled
    assert found.clean_right.all()
    assert [layer.ranking[0] for layer in found.layers] == [3, 3]
    assert found.layers[1].loss[3] == pytest.approx(np.log(2) - found.clean_loss.mean(), abs=1e-5)
    assert found.summary()["clean"]["accuracy"] is None


def test_every_channel_against_plain_loops_with_skips_and_batches() -> None:
    net, x = wrapped(Skip()), images(35)
    labels = [i % 3 for i in range(35)]
    found = ablation(net, x, labels, layers=["act", "block"])
    for layer in found.layers:
        clean = net.activations(x, [layer.name])[layer.name]
        mean = clean.double().mean(0).float()
        for c in [*range(4), None]:
            losses = []
            for i in range(35):  # one image at a time, full passes
                changed = clean[i : i + 1].clone()
                if c is None:
                    changed[0] = mean
                else:
                    changed[0, c] = mean[c]
                logits: list[Tensor] = []
                with torch.no_grad():
                    net.run(x[i : i + 1], {layer.name: lambda _, now=changed: now, "": logits.append})
                before = net(x[i : i + 1]).detach()[0].double().log_softmax(0)[labels[i]]
                losses.append(float(before - logits[0][0].double().log_softmax(0)[labels[i]]))
            ours = layer.whole_rise if c is None else layer.rise[c]
            np.testing.assert_allclose(ours, losses, atol=2e-5)
            assert np.abs(losses).max() > 1e-3
        assert layer.whole_passes is None
        np.testing.assert_allclose(layer.activity, clean.double().mean((0, 2, 3)).numpy(), atol=1e-6)
        np.testing.assert_allclose(layer.change, (clean - mean).abs().mean((0, 2, 3)).numpy(), atol=1e-5)
        for c in range(4):
            image = int(layer.patches[c, 0])
            assert clean[image, c].max() == clean[:, c].max()


def test_a_network_that_decides_by_numbers_is_ablated_by_whole_passes() -> None:
    found = ablation(wrapped(Branches()), images(), layers=["first"])
    assert "depends on the values" in str(found.layers[0].whole_passes)
    assert np.abs(found.layers[0].rise).max() > 0
    assert any("whole network" in note for note in found.summary()["notes"])


def test_one_image_is_its_own_mean() -> None:
    found = ablation(wrapped(Skip()), images(1), layers=["block"])
    assert np.abs(found.layers[0].rise).max() < 1e-6
    assert any("its own mean" in note for note in found.summary()["notes"])
    assert found.summary()["layers"]["block"]["worst"][0]["error"] is None


def test_numbers() -> None:
    mean, error = mean_and_error(np.array([[1.0, 2.0, 4.0, 5.0]]))
    assert (mean[0], error[0]) == (3.0, pytest.approx(np.sqrt(10 / 3) / 2))
    assert half_of(np.array([1.0, 5.0, 0.5, -3.0, 2.0])) == 1
    assert half_of(np.array([1.0, 1.0, 1.0, 1.0])) == 2
    assert half_of(np.array([-1.0, 0.0])) is None


def test_usual_layers() -> None:
    assert list(wrapped(ReadsThree()).layers.stage_ends()) == ["act"]
    assert list(wrapped(Skip()).layers.stage_ends(2)) == ["act", "side"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0], "1 labels for 6 images"),
        ([0, 1, 2, 3, 0, 0], r"label 3 \(accepted: 0 to 2"),
        ([0, 1, None, 0, 0, 0], "label None"),
    ],
)
def test_labels_that_do_not_fit(labels: list[int | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ablation(wrapped(Skip()), images(), labels)


def test_a_layer_given_twice_is_ablated_once() -> None:
    assert len(ablation(wrapped(Skip()), images(), layers=["block", "block"]).layers) == 1


def test_other_mistakes() -> None:
    net = wrapped(Skip())
    with pytest.raises(InputError, match="0 images"):
        ablation(net, images()[:0])
    with pytest.raises(UnknownName, match="did you mean 'block'"):
        ablation(net, images(), layers=["blok"])
    net.module.fc.weight.data[0, 0] = torch.nan
    with pytest.raises(NetworkError, match="not finite"):
        ablation(net, images())


# --- the command line

FACTORY = """
from torch import nn

def tiny(classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, classes))
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """`netloupe study ablation`, or retraining where the arguments begin so, on twelve images of two classes."""
    (tmp_path / "tiny.py").write_text(FACTORY)
    for i in range(12):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(encoded(noise(20, 24)))

    def call(*arguments: object) -> tuple[int, str, str]:
        model = ["--model", f"{tmp_path / 'tiny.py'}:tiny", "--size", "16", "--device", "cpu", "--classes", 2]
        verb, *given = arguments if arguments[:1] == ("retraining",) else ("ablation", *arguments)
        status = cli.main([str(a) for a in ["study", verb, *given, *model, "--data", tmp_path / "images"]])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, _ = run()
    assert status == 0
    assert out.startswith("12 images, judged by the classes predicted before; loss")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    status, out, _ = run("--json", "--labels", tmp_path / "labels.txt", "-o", tmp_path / "out", "--layer", 1)
    found = json.loads(out)
    assert status == 0
    assert found["judged_by"] == "judged by their labels"
    assert list(found["layers"]) == ["1"]
    assert np.load(tmp_path / "out" / "rise-1.npy").shape == (4, 12)
    assert (tmp_path / "out" / "ablation.png").exists()


def test_command_retraining(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = run("retraining", "resize 0 2", "--epochs", 1, "--json", "-o", tmp_path / "out")
    found = json.loads(out)
    assert status == 0
    assert [one["title"] for one in found["networks"]] == ["unchanged", "resize 0 2"]
    assert (found["images"], found["val_images"]) == (10, 2)
    assert err.startswith("1 epochs of each training: unchanged ")
    assert (tmp_path / "out" / "retraining.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "9"], "no layer '9'"),
        (["retraining", "drop 0"], "changes 'drop 0' (accepted: remove LAYER"),
        (["retraining", "remove 1"], "no convolution or linear layer '1'"),
        (["retraining", "remove 4"], "gives the logits"),
        (["retraining", "remove 0", "--layer", "1"], "--layer"),
        (["retraining", "remove 0", "--budget", 0], "minutes 0 (accepted: above 0)"),
        (["retraining", "remove 0", "--budget", 3, "--epochs", 3], "accepted: one of them"),
        (["--retrain", "remove 0"], "--retrain is a verb of its own now: netloupe study retraining CHANGES"),
        (["--epochs", 3], "--epochs is a verb of its own now: netloupe study retraining CHANGES"),
        (["--budget", 3], "--budget is a verb of its own now: netloupe study retraining CHANGES"),
        (["--val", "digits"], "--val is a verb of its own now: netloupe study retraining CHANGES"),
    ],
)
def test_command_mistakes(arguments: list[object], message: str, run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
