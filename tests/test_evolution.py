"""`netloupe study evolution`: responses, likeness and projections over snapshots, against slow oracles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from data_helpers import encoded, noise
from netloupe.analysis.unproject import project
from netloupe.cli import app as cli
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.studies.evolution import measure
from netloupe.studies.evolution.measure import evolution
from netloupe.studies.evolution.record import Evolution
from netloupe.studies.responses import Responses
from netloupe.sweep.engine import sweep
from netloupe.training import practice as practicing
from netloupe.training.recorder import Recorder, snapshots

IMAGES = torch.rand(9, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def small(seed: int = 0, channels: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(channels, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )  # fmt: skip


def net(module: nn.Module, **options: object) -> Network:
    return Network(module, InputSpec((12, 12)), name="small", **options)  # type: ignore[arg-type]


def moved(share: float, seed: int = 0) -> nn.Sequential:
    """The weights on the way from one random network (0) to another (1); the first layer is there at 0.5."""
    start, end, found = small(seed), small(seed + 1), small(seed)
    with torch.no_grad():
        for name, value in found.named_parameters():
            own = min(1.0, 2 * share) if name.startswith("0.") else share
            value.copy_((1 - own) * start.state_dict()[name] + own * end.state_dict()[name])
    return found


STEPS = {1: 0.0, 2: 0.25, 5: 0.5, 10: 1.0}


def lazily(share: float) -> Callable[[], Network]:
    return lambda: net(moved(share))


def study(**options: object) -> Evolution:
    return evolution({e: lazily(s) for e, s in STEPS.items()}, IMAGES, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> Evolution:
    return study(channels=3)


def test_strongest_images_and_projections_by_hand(found: Evolution) -> None:
    assert found.epochs == (1, 2, 5, 10)
    assert list(found.layers) == ["0", "3"]
    changed = shown = 0
    for name, depth in (("0", 1), ("3", 4)):
        layer = found.layers[name]
        for i, share in enumerate(STEPS.values()):
            module = moved(share).eval()
            with torch.no_grad():
                maps = module[:depth](IMAGES)
            for c in range(maps.shape[1]):
                values = [float(maps[n, c].max()) for n in range(len(IMAGES))]
                best = int(np.argmax(values))
                assert layer.images[i, c] == best
                assert layer.values[i, c] == pytest.approx(values[best], rel=1e-5)
                y, x = (int(v) for v in layer.positions[i, c])
                assert float(maps[best, c, y, x]) == pytest.approx(values[best], rel=1e-5)
            for k, c in enumerate(layer.channels):
                best = int(layer.images[i, c])
                if layer.values[i, c] <= 0:
                    assert not layer.projections[k, i].any()
                    continue
                shown += 1
                at = [[int(v) for v in layer.positions[i, c]]]
                expected = project(net(module), IMAGES[best : best + 1], name, [c], at)[0]
                assert torch.allclose(torch.from_numpy(layer.projections[k, i]), expected, atol=1e-5)
                assert float(expected.abs().max()) > 0
                top, left, bottom, right = layer.boxes[k][i]
                outside = layer.projections[k, i].copy()
                outside[:, top:bottom, left:right] = 0
                assert not outside.any()
        changed += int((layer.images[0] != layer.images[-1]).sum())
        order = np.argsort(-layer.values[-1], kind="stable")[:3]
        assert list(layer.channels) == order.tolist()
        assert layer.final_image[-1] == 1
        assert layer.final_image[0] == pytest.approx((layer.images[0] == layer.images[-1]).mean())
    assert changed > 3
    assert shown > 12


def test_likeness_is_spearmans_over_images_and_places(found: Evolution) -> None:
    places = 16
    for name, depth in (("0", 1), ("3", 4)):
        values = []
        for share in STEPS.values():
            with torch.no_grad():
                maps = moved(share).eval()[:depth](IMAGES).numpy()
            rows = []
            for n in range(len(IMAGES)):
                at = np.random.default_rng([0, n]).random((places, 2))
                rows += [maps[n, :, int(y * maps.shape[2]), int(x * maps.shape[3])] for y, x in at]
            values.append(np.stack(rows))
        for i in range(len(STEPS)):
            for c in range(values[0].shape[1]):
                expected = spearmanr(values[i][:, c], values[-1][:, c]).statistic
                assert found.layers[name].likeness[i, c] == pytest.approx(expected, abs=1e-6)
    assert found.layers["0"].mean[0] < 0.8


def test_the_layer_that_stops_changing_settles_first(found: Evolution) -> None:
    assert found.settled("0") == 5
    assert found.settled("3") == 10
    assert found.layers["0"].mean[2] == pytest.approx(1)
    limit = "a mean rank correlation of 0.9 with the last snapshot"
    assert found.verdict() == f"First to reach {limit}: 0, by epoch 5; last: 3, by epoch 10."
    weights = found.layers["3"].weights
    assert weights is not None
    a, b = (moved(share)[3].get_parameter("weight").detach().flatten(1) for share in (0.25, 1.0))
    assert weights[1] == pytest.approx(torch.cosine_similarity(a, b).numpy(), abs=1e-6)
    assert weights[-1] == pytest.approx(1)
    low, high = found.layers["3"].quartiles()
    assert (low <= high).all()
    assert low[0] < high[0]


def test_results_do_not_depend_on_the_batch_size_and_leave_the_networks_alone(found: Evolution) -> None:
    other = study(channels=3, batch_size=2)
    for name, array in found.arrays().items():
        assert np.array_equal(array, other.arrays()[name]), name
    held = net(moved(1.0))
    before = held.fingerprint()
    evolution({1: lazily(0.0), 2: lambda: held}, IMAGES, ["3"], channels=1)
    assert held.fingerprint() == before
    assert not any(m._forward_hooks for m in held.module.modules())


def test_units_random_channels_and_silent_ones() -> None:
    chosen = study(units=["3:4", "3:0", "0:2"])
    assert {n: layer.channels for n, layer in chosen.layers.items()} == {"0": (2,), "3": (4, 0)}
    first, again = (study(choose="random", channels=3, seed=4, layers=["0"]).layers["0"].channels for _ in range(2))
    assert first == again
    assert first != study(choose="random", channels=3, seed=5, layers=["0"]).layers["0"].channels

    def silenced(share: float, dead: bool) -> Network:
        module = moved(share)
        with torch.no_grad():
            if dead:
                module[0].get_parameter("weight")[1] = 0
                module[0].get_parameter("bias")[1] = -1
        return net(module)

    late = evolution({1: lambda: silenced(0, True), 2: lambda: silenced(1, False)}, IMAGES, units=["0:1"])
    assert late.layers["0"].likeness[0, 1] == 0
    assert not late.layers["0"].projections[0, 0].any()
    assert late.layers["0"].projections[0, 1].any()
    gone = evolution({1: lambda: silenced(0, False), 2: lambda: silenced(1, True)}, IMAGES, units=["0:1"])
    assert np.isnan(gone.layers["0"].likeness[:, 1]).all()
    assert gone.summary()["layers"]["0"]["constant"] == 1
    assert np.isfinite(gone.layers["0"].mean).all()
    assert len(gone.pictures()) == 2


def test_pictures_and_files(found: Evolution, tmp_path: Path) -> None:
    pictures = found.pictures()
    assert all(p.ndim == 3 and p.shape[2] == 3 and p.dtype == np.uint8 for p in pictures.values())
    frame = (pictures["evolution"] == (214, 96, 22)).all(2)
    assert frame.any()
    same = evolution({1: lazily(1.0), 2: lazily(1.0)}, IMAGES)
    assert not (same.pictures()["evolution"] == (214, 96, 22)).all(2).any()
    assert "by the same of the recorded epochs, 1" in same.verdict()
    found.save(tmp_path)
    summary = json.loads((tmp_path / "manifest.json").read_text())["summary"]
    assert summary["layers"]["3"]["likeness"][-1] == pytest.approx(1)
    assert np.load(tmp_path / "projections-3.npy").shape == (3, 4, 3, 12, 12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": 0}, InputError, "channels 0 \\(accepted: 1 or more\\)"),
        ({"choose": "strong"}, UnknownName, "did you mean 'strongest'"),
        ({"layers": ["conv9"]}, UnknownName, "no layer 'conv9'"),
        ({"units": ["0"]}, InputError, "'0' is no channel"),
        ({"units": ["0:6"]}, UnknownName, "no channel 6 in layer '0' \\(accepted: 0 to 5\\)"),
        ({"rule": "guide"}, UnknownName, "no rule 'guide'"),
    ],
)
def test_mistakes(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        study(**options)


def test_mistakes_of_snapshots() -> None:
    with pytest.raises(InputError, match=r"1 snapshots \(accepted: 2 or more\)"):
        evolution({1: lazily(0.0)}, IMAGES)
    with pytest.raises(NetworkError, match="epoch 1 has no layer '0' of shape"):
        evolution({1: lambda: net(small(channels=7)), 2: lazily(0.0)}, IMAGES)
    linear = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NetworkError, match="finds no ReLU"):
        evolution({1: lambda: net(linear), 2: lambda: net(linear)}, IMAGES)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(432, 3), nn.ReLU())
    with pytest.raises(InputError, match="no two-dimensional convolution"):
        evolution({1: lambda: net(flat), 2: lambda: net(flat)}, IMAGES)


def test_responses_merge_and_resume() -> None:
    network = net(moved(0.3))
    whole, first, second = Responses(3), Responses(3), Responses(3)
    sweep(network, IMAGES, {"a": whole}, layers=["0", "3"])
    sweep(network, IMAGES[:4], {"a": first}, layers=["0", "3"])
    again = Responses(3)
    again.load(first.state())
    for name, one in again.result().items():
        assert np.array_equal(one.values, whole.result()[name].values[:12])
    again.merge(second)
    assert whole.result()["0"].values.shape == (27, 6)
    with pytest.raises(InputError, match="can't be merged"):
        first.merge(Responses(4))
    with pytest.raises(InputError, match="0 places"):
        Responses(0)


# --- the command line

FACTORY = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["study", "evolution", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_command_on_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "images").mkdir()
    for i in range(4):
        (tmp_path / "images" / f"{i}.png").write_bytes(encoded(noise(16, 16, seed=i)))
    space: dict[str, Callable[[], nn.Module]] = {}
    exec(FACTORY, space)
    module = space["small"]()
    recorder = Recorder(tmp_path / "made", module)
    for epoch in (1, 2):
        recorder.epoch_done(epoch)
        with torch.no_grad():
            module[0].weight.add_(torch.randn(4, 3, 3, 3))  # type: ignore[index]
    model = ["--model", f"{tmp_path / 'net.py'}:small", "--size", 16, "--data", tmp_path / "images", "--device", "cpu"]
    status, out, err = run(capsys, tmp_path / "made", *model, "-o", tmp_path / "out", "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["epochs"] == [1, 2]
    assert result["layers"]["0"]["likeness"][0] < 0.9
    assert (tmp_path / "out" / "evolution.png").exists()
    status, out, _ = run(capsys, tmp_path / "made", *model, "-u", "0:3")
    assert out.splitlines()[0].split() == ["layer", "epoch", "1", "epoch", "2", "settled", "by"]
    for arguments, message in (
        ([tmp_path / "none"], "no such folder"),
        ([tmp_path / "images"], "no snapshots there"),
        ([tmp_path / "made", "--weights", "random"], "whose snapshots are the weights"),
        ([tmp_path / "made", "-u", "0:3", "-l", "0"], "accepted: one of them"),
        ([tmp_path / "made", "--choose", "best"], "no choose 'best'"),
        ([tmp_path / "made", "--project", "plain"], "no rule 'plain'"),
        ([tmp_path / "made", "--model", "zfnet"], "doesn't fit zfnet"),
    ):
        given = [*model, *arguments] if "zfnet" not in arguments else [*arguments, *model[4:]]
        status, out, err = run(capsys, *given)
        assert (status, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err


def test_command_without_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = practicing.practice

    def shorter(source: object, folder: Path, **options: object) -> object:
        return own(open_source("digits").first(200), folder, epochs=2, recorded=(1, 2), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "practice", shorter)
    status, out, err = run(capsys, "-o", tmp_path / "out", "--show", 1, "--device", "cpu", "-l", "conv4")
    assert status == 0
    assert "a small network was trained on 160 images of digits" in err
    assert out.splitlines()[1].startswith("conv4")
    assert list(snapshots(tmp_path / "out" / "snapshots")) == [1, 2]
    for mistake, message in (
        (["-l", "conv9"], "no layer 'conv9'"),
        (["-u", "fc:10"], "no channel 10 in layer 'fc' (accepted: 0 to 9)"),
        (["--choose", "stronges"], "did you mean 'strongest'"),
    ):  # before anything is trained or written
        status, out, err = run(capsys, "-o", tmp_path / "none", "--device", "cpu", *mistake)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert not (tmp_path / "none").exists()
    status, out, err = run(capsys, "--model", "zfnet")
    assert (status, out) == (2, "")
    assert "--model is about the network of a FOLDER of snapshots" in err


def test_practice_is_reproducible_and_learns(tmp_path: Path) -> None:
    source = open_source("digits").first(400)
    runs = [practicing.practice(source, tmp_path / name, epochs=3, recorded=(0, 3)) for name in ("a", "b")]
    for epoch, path in snapshots(tmp_path / "a").items():
        assert path.read_bytes() == snapshots(tmp_path / "b")[epoch].read_bytes()
    assert runs[0].images == 320
    assert list(snapshots(tmp_path / "a")) == [0, 3]
    with pytest.raises(InputError, match="50 images with a label"):
        practicing.practice(open_source("digits").first(50), tmp_path / "c")
    with pytest.raises(InputError, match="has no labels, which training needs"):
        practicing.practice(open_source("photos").first(50), tmp_path / "c")


def test_images_may_be_a_source(tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        (tmp_path / f"{i}.png").write_bytes(encoded(pixels))
    rounded: Tensor = (IMAGES * 255).round() / 255
    snaps = {e: lazily(s) for e, s in STEPS.items()}
    one, other = evolution(snaps, open_source(tmp_path), ["3"]), evolution(snaps, rounded, ["3"])
    assert np.allclose(one.layers["3"].projections, other.layers["3"].projections, atol=1e-5)
    assert np.array_equal(one.layers["3"].images, other.layers["3"].images)
