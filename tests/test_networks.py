"""The table of networks against verbs, in short: a transformer and a convolutional network of our own."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attention_helpers import SIDE, ViT
from netloupe.core.errors import InputError

TOOL = Path(__file__).resolve().parent.parent / "tools" / "networks.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("networks_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up the types of their fields
    spec.loader.exec_module(module)
    return module


def convolutional() -> nn.Module:
    parts = living(nn.Conv2d(3, 6, 3, padding=1)), nn.ReLU(), nn.MaxPool2d(2), living(nn.Conv2d(6, 8, 3)), nn.ReLU()
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def embedding() -> nn.Module:
    return nn.Sequential(living(nn.Conv2d(3, 6, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def living(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with no channel that a ReLU would silence, whatever its weights are."""
    assert layer.bias is not None
    nn.init.ones_(layer.bias)
    return layer


def test_every_verb_works_or_says_why(tool: Any) -> None:
    verbs = list(tool.VERBS)
    found = {}
    for name, make, head in (
        ("vit", lambda: ViT("fused"), None),
        ("conv", convolutional, None),
        ("embedding", embedding, "vector"),
    ):
        found[f"ours:{name}"] = tool.row(tool.Family("ours", name, make, SIDE, head), verbs, 120)
    faults = [(key, verb, one) for key, row in found.items() for verb, one in row.items() if one["outcome"] == "FAULT"]
    assert faults == []
    refused = {key: {verb for verb, one in row.items() if one["outcome"] == "refuses"} for key, row in found.items()}
    assert refused == {
        "ours:vit": set(),
        "ours:conv": {"attention"},
        "ours:embedding": {"attention", "fool"},
    }
    page = tool.page(found)
    assert re.search(r"\| vit \| ours \| [0-9]+\.[0-9] \|", page)
    assert "3 networks: 45 results, 3 refusals, 0 too slow, 0 faults. `layers` takes at most" in page
    assert "`fool`: fool needs classes, but the network gives a vector" in page
    assert "(conv, embedding)" in page
    numbers = re.findall(r"no \(([0-9]+)\)", page)
    lines = dict(re.findall(r"^([0-9]+)\. `(\w+)`: ", page, re.MULTILINE))
    assert [lines[number] for number in numbers] == ["attention", "attention", "fool"]


def test_faults_refusals_and_what_is_late_are_told_apart(tool: Any) -> None:
    def refuse() -> None:
        raise InputError("no")

    def fail() -> None:
        raise KeyError("layer")

    def late() -> None:
        try:
            while True:
                pass
        except Exception:
            return

    outcomes = [tool.tried(one, 1)["outcome"] for one in (lambda: 1, refuse, fail, late)]
    assert outcomes == ["works", "refuses", "FAULT", "slow"]


def test_random_weights_behind_batch_normalization_depend_on_the_image(tool: Any) -> None:
    torch.manual_seed(0)
    blind = nn.Conv2d(3, 4, 3)
    nn.init.constant_(blind.bias, -100.0)  # type: ignore[arg-type]
    net = nn.Sequential(blind, nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, 2))
    images = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(*net.eval()(images))
        assert not torch.equal(*tool.settled(net, 4)(images))
        blank = nn.Linear(3, 2)
        nn.init.zeros_(blank.weight)
        assert tool.settled(blank, 4).weight.any(), "a head that is made of zeros"
    assert not any(part.training for part in net.modules())


def test_networks_that_can_not_be_made_are_left_out(tool: Any) -> None:
    def absent() -> nn.Module:
        raise ImportError("no such library")

    row = tool.row(tool.Family("none", "absent", absent, 8), ["layers"], 5)
    assert row["make"]["outcome"] == "absent"
    assert "absent" not in tool.page({"none:absent": row})
