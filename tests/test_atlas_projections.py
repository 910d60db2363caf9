"""The projections of an atlas: mosaics beside patches, how alike they are, and networks that have none."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.fidelity import randomized
from netloupe.analysis.gradients import gradient
from netloupe.analysis.patches import top_patches
from netloupe.analysis.unproject import project
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.pages import Pages
from netloupe.atlas.sheets import projection_side, typical
from netloupe.atlas.store import FORMAT, Store
from netloupe.cli.app import main
from netloupe.core import objectives as obj
from netloupe.core.errors import UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import load_images
from netloupe.data.open import open_source
from netloupe.render.colors import relief


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("atlas") / "photos", 11)


@pytest.fixture(scope="module", params=["deconvnet", "guided"])
def atlas(request: pytest.FixtureRequest, folder: Path) -> tuple[Any, Pages]:
    net = tiny_network()
    before = net.fingerprint()
    report = build(net, open_source(folder), folder.parent / request.param, project=request.param, batch_size=5)
    assert report.no_projections is None
    assert net.fingerprint() == before
    return request.param, Pages(Store.open(folder.parent / request.param))


def picture(pages: Pages, path: str) -> np.ndarray:
    found = pages.resource(path)
    assert found is not None, path
    assert found[1] == "image/webp"
    return np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB")).astype(int)


def document(pages: Pages, path: str) -> Any:
    found = pages.resource(path)
    assert found is not None
    return json.loads(found[0])


@pytest.mark.parametrize(("layer", "channel"), [("conv1", 4), ("relu", 0), ("pool", 5), ("conv2", 66), ("fc", 3)])
def test_a_mosaic_holds_the_projection_of_every_patch(
    atlas: tuple[Any, Pages], folder: Path, layer: str, channel: int
) -> None:
    rule, pages = atlas
    net, batch = tiny_network(), load_images(sorted(folder.iterdir()), (24, 32))
    mosaic = picture(pages, f"projections/{layer}/{channel}.webp")
    assert mosaic.shape == (192, 192, 3)
    patches = document(pages, f"data/units/{layer}/{channel // 64}.json")["units"][channel % 64]["patches"]
    assert len(patches) == 9
    for rank, patch in enumerate(patches):
        i, (top, left, bottom, right) = patch["image"], patch["box"]
        raw = project(net, batch[i : i + 1], layer, [channel], [patch["position"]], rule)[0, :, top:bottom, left:right]
        expected = Image.fromarray(relief(raw.numpy())).resize((64, 64), Image.Resampling.BICUBIC)
        y, x = rank // 3 * 64, rank % 3 * 64
        shown = mosaic[y : y + 64, x : x + 64].mean(2).ravel()
        assert raw.abs().max() > 0
        assert np.corrcoef(shown, np.asarray(expected).mean(2).ravel())[0, 1] > 0.9
        assert np.corrcoef(shown, np.asarray(expected).mean(2)[::-1, ::-1].ravel())[0, 1] < 0.8


def test_the_network_document_tells_of_them(atlas: tuple[Any, Pages]) -> None:
    rule, pages = atlas
    network = document(pages, "data/network.json")
    assert network["format"] == FORMAT
    assert network["projections"] == {"rule": rule, "missing": None, "columns": 3, "size": 64}
    for layer in network["layers"]:
        assert set(layer["alike"]) == {"random", "channels"}
        assert all(0 <= value <= 1 for value in layer["alike"].values())
    assert len({layer["alike"]["random"] for layer in network["layers"]}) > 1


@pytest.mark.parametrize("layer", ["conv1", "pool", "conv2"])
def test_how_alike_projections_are_against_scipy(atlas: tuple[Any, Pages], folder: Path, layer: str) -> None:
    rule, pages = atlas
    net, batch = tiny_network(), load_images(sorted(folder.iterdir()), (24, 32))
    top = top_patches(net, open_source(folder))
    strength = top[layer].values[:, 0].numpy()
    sample = typical(strength, strength <= 0, 8)
    assert len(sample) == min(8, int((strength > 0).sum()))

    def seen(network: Network, channel: int, at: int) -> np.ndarray:
        """The projection of a channel from where another is strongest, started with one: the neuron's gradient."""
        i, (y, x) = int(top[layer].images[at, 0]), top[layer].positions[at, 0].tolist()
        rules = "plain" if layer == "conv1" else rule  # before any ReLU there is nothing for a rule to act on
        found = gradient(network, batch[i : i + 1], obj.neuron(layer, channel, y, x), rules)[0].abs().sum(0)
        t, left, b, r = top.box(layer, at, 0)
        return found[t:b, left:r].numpy().ravel()

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return abs(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else np.nan

    random = randomized(net)
    drawn = [alike(seen(net, c, c), seen(random, c, c)) for c in sample]
    others = [alike(seen(net, c, c), seen(net, sample[i - 1], c)) for i, c in enumerate(sample)]
    told = next(entry for entry in document(pages, "data/network.json")["layers"] if entry["name"] == layer)["alike"]
    assert told["random"] == pytest.approx(np.nanmean(drawn), abs=1e-3)
    assert told["channels"] == pytest.approx(np.nanmean(others), abs=1e-3)


def test_a_rounded_type_is_used_only_where_it_agrees(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netloupe.atlas import mosaics as drawn

    mosaics = {}
    for name, dtype, nearly in (("exact", torch.float32, 0), ("wrong", torch.bfloat16, 2), ("fast", torch.bfloat16, 0)):
        monkeypatch.setattr(drawn, "fast_dtype", lambda _device, dtype=dtype: dtype)
        monkeypatch.setattr(drawn, "_NEARLY", nearly)
        build(tiny_network(), open_source(folder), tmp_path / name, layers=["conv2"])
        mosaics[name] = picture(Pages(Store.open(tmp_path / name)), "projections/conv2/7.webp")
    assert (mosaics["exact"] == mosaics["wrong"]).all()
    assert not (mosaics["exact"] == mosaics["fast"]).all()
    assert np.corrcoef(mosaics["exact"].ravel(), mosaics["fast"].ravel())[0, 1] > 0.97


def test_a_dead_channel_has_none(atlas: tuple[Any, Pages]) -> None:
    _, pages = atlas
    for path in (
        "projections/conv1/2.webp",
        "projections/conv1/6.webp",
        "projections/nope/0.webp",
        "projections/fc/x.webp",
    ):
        assert pages.resource(path) is None, path
    paths = [path for path in pages.paths() if path.startswith("projections/")]
    assert len(paths) == len(set(paths)) > 70
    assert "projections/conv1/3.webp" in paths
    assert "projections/conv1/2.webp" not in paths


def test_more_patches_than_nine_and_fewer_than_three(folder: Path, tmp_path: Path) -> None:
    build(tiny_network(), open_source(folder), tmp_path / "many", layers=["conv1"], k=11)
    assert picture(Pages(Store.open(tmp_path / "many")), "projections/conv1/0.webp").shape == (4 * 64, 3 * 64, 3)
    build(tiny_network(), open_source(folder).first(2), tmp_path / "few", layers=["conv1"])
    mosaic = picture(Pages(Store.open(tmp_path / "few")), "projections/conv1/0.webp")
    assert mosaic.shape in ((64, 128, 3), (64, 64, 3))  # the weaker of two images may be left out
    assert [projection_side(size) for size in ((24, 32), (65, 64), (224, 224), (80, 60))] == [64, 80, 96, 80]


def smooth_network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    return Network(module, InputSpec((24, 32)), name="smooth")


def test_a_network_without_relu_goes_without(folder: Path, tmp_path: Path) -> None:
    for fresh in (True, False):
        report = build(smooth_network(), open_source(folder), tmp_path / "out")
        assert report.fresh is fresh
        assert report.no_projections is not None
        assert report.no_projections.startswith("rule 'deconvnet' finds no ReLU in smooth")
    pages = Pages(Store.open(tmp_path / "out"))
    network = document(pages, "data/network.json")
    assert network["projections"]["rule"] is None
    assert network["projections"]["missing"] == report.no_projections
    assert all(layer["alike"] is None for layer in network["layers"])
    assert pages.resource("projections/0/0.webp") is None
    assert export(tmp_path / "out", tmp_path / "site") == len(list(pages.paths()))
    assert not (tmp_path / "site" / "projections").exists()


def test_layers_behind_another_nonlinearity_go_without(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
    )
    build(Network(module, InputSpec((24, 32)), name="mixed"), open_source(folder), tmp_path / "out")
    store = Store.open(tmp_path / "out")
    reasons = {layer["name"]: layer["unprojected"] for layer in document(Pages(store), "data/network.json")["layers"]}
    without = [name for name, reason in reasons.items() if reason is not None]
    assert list(reasons)[:3] == ["0", "1", "2"]
    assert without == list(reasons)[3:]
    assert set(reasons.values()) == {None, "deconvnet is a rule for ReLU, and to this layer leads gelu too"}
    assert {row["layer"] for row in store.rows("projections")} == {0, 1, 2}


def test_an_atlas_of_such_layers_alone_goes_without(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 5), nn.Hardswish(), nn.Conv2d(4, 4, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    )
    report = build(
        Network(module, InputSpec((24, 32)), name="late"), open_source(folder), tmp_path / "out", layers=["2", "3"]
    )
    assert report.no_projections == "deconvnet is a rule for ReLU, and to every layer shown leads hardswish too"
    network = document(Pages(Store.open(tmp_path / "out")), "data/network.json")
    assert (network["projections"]["rule"], network["projections"]["missing"]) == (None, report.no_projections)
    assert export(tmp_path / "out", tmp_path / "site") > 0


def test_the_rule_is_part_of_the_atlas(folder: Path, tmp_path: Path) -> None:
    def rule() -> Any:
        return Store.open(tmp_path / "out").network["projections"]["rule"]

    net, source = tiny_network(), open_source(folder)
    build(net, source, tmp_path / "out", layers=["conv1"], project=None)
    assert rule() is None
    assert Store.open(tmp_path / "out").network["projections"]["missing"] is None
    assert build(net, source, tmp_path / "out", layers=["conv1"], project="guided").fresh
    assert rule() == "guided"
    assert not build(net, source, tmp_path / "out", layers=["conv1", "conv1"], project="guided").fresh
    with pytest.raises(UnknownName, match="no project 'giuded'; did you mean 'guided'"):
        build(net, source, tmp_path / "out", project="giuded")  # type: ignore[arg-type]


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.{act}(), nn.Flatten())\n"
    for act in ("ReLU", "Tanh"):
        (tmp_path / f"{act}.py").write_text(code.format(act=act))

    def run(act: str, *options: object) -> tuple[int, str, str]:
        model = ["--model", f"{tmp_path / act}.py:make", "--weights", "random", "--size", "8"]
        given = ["atlas", "build", *model, "--data", folder, "-o", tmp_path / "out", *options]
        return main([str(word) for word in given]), *capsys.readouterr()

    status, _, err = run("ReLU", "--project", "plain")
    assert (status, "accepted: deconvnet, guided, none" in err) == (2, True)
    assert not (tmp_path / "out").exists()
    assert run("ReLU", "--project", "none")[::2] == (0, "")
    assert Store.open(tmp_path / "out").network["projections"]["rule"] is None
    assert run("ReLU")[::2] == (0, "")
    assert Store.open(tmp_path / "out").network["projections"]["rule"] == "deconvnet"
    status, out, err = run("Tanh", "--json")
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("no projections: rule 'deconvnet' finds no ReLU in ")
    assert json.loads(out)["no_projections"] in err
