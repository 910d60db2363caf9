"""Networks of transformers from local folders, with random weights: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.zoo.folders import _height_width, _inputs
from netloupe.zoo.load import load

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed")


def told(folder: Path, **facts: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


def test_a_classifier_and_what_its_folder_states(transformers: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=3, **TINY)
    config.id2label = {0: "ant", 1: "bee", 2: "cat"}
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    told(tmp_path, do_normalize=True, image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.6, 0.7], size=size)
    net = load(f"hf:{tmp_path}")
    assert net.inputs == InputSpec((32, 32), mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7))
    assert list(net.labels or ()) == ["ant", "bee", "cat"]
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.5, 0.6, 0.7)))
    with torch.no_grad():
        assert torch.allclose(net(images), model((images - mean) / std).logits, atol=1e-5)
    assert net.name == f"hf:{tmp_path.name}"
    assert net.origin is not None
    assert str(tmp_path) not in str(net.origin)
    assert not torch.allclose(load(f"hf:{tmp_path}", weights="random", seed=1)(images), net(images))
    with pytest.raises(InputError, match="5 classes"):
        load(f"hf:{tmp_path}", classes=5)


def test_of_images_and_texts_the_part_that_sees(transformers: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = {**TINY, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(vision_config=vision, text_config={**TINY, "vocab_size": 50}, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    told(tmp_path, do_center_crop=True, crop_size={"height": 32, "width": 32}, size={"shortest_edge": 40})
    net = load(f"hf:{tmp_path}")
    assert net.inputs == InputSpec((32, 32))
    assert len(net.layers) > 4


def test_a_folder_that_can_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"has no config\.json \(accepted: a local folder .*nothing is downloaded"):
        load(f"hf:{tmp_path}")
    with pytest.raises(NetworkError, match="'google/vit-base-patch16-224' is no folder"):
        load("hf:google/vit-base-patch16-224")


@pytest.mark.parametrize(
    ("facts", "spec"),
    [
        ({}, InputSpec((48, 48))),
        ({"size": 40}, InputSpec((40, 40))),
        ({"size": {"height": 20, "width": 30}}, InputSpec((20, 30))),
        ({"size": {"shortest_edge": 50}, "crop_size": 44, "do_center_crop": True}, InputSpec((44, 44))),
        ({"image_mean": [0.5] * 3, "image_std": [0.2] * 3, "do_normalize": False}, InputSpec((48, 48))),
        ({"do_rescale": False}, InputSpec((48, 48), range=(0, 255))),
        ({"rescale_factor": 0.00784313725490196}, InputSpec((48, 48), range=(0, 2))),
    ],
)
def test_what_image_processors_say(tmp_path: Path, facts: dict[str, Any], spec: InputSpec) -> None:
    told(tmp_path, **facts)
    assert _inputs(tmp_path, (48, 48), 3) == spec


def test_sizes_that_say_nothing() -> None:
    assert [_height_width(one) for one in (None, {}, "big", [1, 2, 3])] == [None] * 4
