"""Layers that nobody named: which they are, and that they are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import netloupe
from netloupe.cli.app import main
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.synthesis.statistics import preset_layers
from netloupe.tasks import task_named
from netloupe.zoo.patchlet import Patchlet


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photos, from which the command is run."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("filters",), ["layer conv1, by default (--layer NAME for another)"]),
        (("tokens", "a.png"), ["layer relu7, by default (--layer NAME for another)"]),
        (("neighbors", "a.png", "--data", "?.png"), ["layer mean, by default (--layer NAME for another)"]),
        (
            ("texture", "a.png", "--steps", "1"),
            ["layers pixels, relu1, relu2, relu3, relu5, by default (--layer NAME for another)"],
        ),
        (
            ("style", "a.png", "-s", "b.png", "-l", "relu1", "--steps", "1"),
            ["content layer relu4, by default (--content-layer NAME for another)"],
        ),
        (("texture", "a.png", "--steps", "1", "-l", "relu1"), []),
        (
            ("study", "invariance", "--data", "?.png", "--steps", "2"),
            ["layers pool1, mean, by default (--layer NAME for another)"],
        ),
    ],
)
def test_the_layers_that_were_chosen_are_told(
    call: tuple[str, ...], told: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*call, "-o", "out"]) == 0
    found = [line for line in capsys.readouterr().err.splitlines() if "by default" in line]
    assert found == told
    parameters = json.loads((place / "out" / "manifest.json").read_text())["provenance"]["parameters"]
    assert all(value for name, value in parameters.items() if name in ("layer", "layers", "content_layers"))


def test_many_are_told_in_few_words() -> None:
    task = task_named("study ablation").of({})
    names = [f"layer{i}" for i in range(12)]
    (line,) = task.chosen(task.changed({"layers": names}))
    assert line.startswith("layers layer0, layer1, ")
    assert line.endswith(", layer7, ... (12 in all), by default (--layer NAME for another)")
    assert task.chosen(None) == task.chosen(task) == []


def test_grad_cam_says_what_it_reads() -> None:
    found = netloupe.explain(netloupe.load(), torch.rand(3, 64, 64), methods=["gradient", "grad_cam"], steps=1)
    assert (found["gradient"].note, found["grad_cam"].note) == ("", "reads layer relu7")
    assert found.said == ["Grad-CAM reads layer relu7."]


def test_of_a_transformer_they_mean_something() -> None:
    torch.manual_seed(0)
    net = Network(Patchlet(5).eval(), InputSpec((64, 64)), name="patchlet")
    layers = net.layers
    assert (layers.features().name, layers.last_map().name, layers.first_features().name) == (
        "norm@cls",
        "blocks.5",
        "stem.relu1",
    )
    assert list(layers.stage_ends())[-2:] == ["blocks.4", "blocks.5"]
    read, content = preset_layers(net, "gatys")
    assert list(read) == ["stem.relu1", "stem.relu2", "stem.relu3", "blocks.1.mlp.act", "blocks.3.mlp.act"]
    assert list(content) == ["blocks.2.mlp.act"]
