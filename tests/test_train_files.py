"""A training run from image files to a weights file with its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.data.open import open_source
from netloupe.training.card import classifier_page
from netloupe.training.labeled import read_labeled
from netloupe.training.models import default_recipe, train_model
from netloupe.training.recipes import ClassifierRecipe
from netloupe.zoo.load import load
from netloupe.zoo.state import read_state
from test_train import RECIPE
from watch_helpers import Recorder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three colors, forty training and ten validation images each, and a network to train."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 10)):
        for i, name in enumerate(("blue", "green", "red")):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = generator.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[:, :, 2 - i] += 100
                Image.fromarray(pixels).save(tmp_path / part / name / f"{k}.png")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef small(classes):\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))\n"
    )
    return tmp_path


def test_a_run_writes_weights_that_load_with_labels_spec_and_card(folders: Path) -> None:
    recipe = replace(RECIPE, sizes=((12, 4), (16, 4)))
    architecture, out = f"{folders}/net.py:small", folders / "out"
    path = train_model(architecture, folders / "train", folders / "val", out, recipe=recipe)
    assert path == out / "small.safetensors"
    assert sorted(p.name for p in out.iterdir()) == ["card.md", "checkpoint.pt", "metrics.jsonl", "small.safetensors"]
    net = load(architecture, weights=path, classes=3)
    assert net.labels == ("blue", "green", "red")
    assert net.inputs == InputSpec((16, 16), mean=recipe.mean, std=recipe.std)
    images = read_labeled(open_source(folders / "val"), 16)
    with torch.no_grad():
        logits = net(images.pixels / 255.0)
    card = read_state(path).card
    assert card is not None
    top1 = float((logits.argmax(1) == images.labels).float().mean())
    assert card["top1"] == pytest.approx(top1, abs=1e-4)
    assert top1 > 0.8
    assert card["loss"] == pytest.approx(float(F.cross_entropy(logits, images.labels)), abs=1e-3)
    assert (card["data"]["train_images"], card["data"]["validation_images"], card["data"]["left_out"]) == (120, 30, 0)
    assert str(folders.parent) not in json.dumps(card)
    page = (out / "card.md").read_text()
    assert page == classifier_page(card)
    assert "| Top-1 accuracy | " in page

    content = path.read_bytes()
    path.unlink()
    watch = Recorder()
    train_model(architecture, folders / "train", folders / "val", out, recipe=recipe, watch=watch)
    assert path.read_bytes() == content
    assert watch.steps("training") == [63]


def test_the_card_lists_the_classes_best_first(folders: Path) -> None:
    path = train_model(
        f"{folders}/net.py:small",
        folders / "train",
        folders / "val",
        folders / "out",
        recipe=replace(RECIPE, sizes=((12, 1),)),
    )
    card = dict(read_state(path).card or {})
    card["labels"], card["by_class"] = ["worst", "b|r", "none"], [0.25, 0.5, None]
    table = classifier_page(card).split("## Accuracy by class")[1].splitlines()
    assert [line for line in table if "%" in line or "no images" in line] == [
        "| b\\|r | 50.0% |", "| worst | 25.0% |", "| none | no images |",
    ]  # fmt: skip


def test_lenslet_and_zfnet_can_be_trained(folders: Path) -> None:
    for architecture in ("lenslet", "zfnet"):
        recipe = replace(default_recipe(architecture), sizes=((48, 1),), size=48, batch=60)
        path = train_model(architecture, folders / "train", folders / "val", folders / architecture, recipe=recipe)
        net = load(architecture, weights=path)
        assert net.labels == ("blue", "green", "red")
        assert net.inputs.size == (48, 48)
        with torch.no_grad():
            assert net(torch.rand(2, 3, 48, 48)).shape == (2, 3)


def test_names_for_classes_that_the_images_only_number(folders: Path) -> None:
    (folders / "classes.json").write_text(
        '[{"index": 1, "name": "g"}, {"index": 0, "name": "b"}, {"index": 2, "name": "r"}]'
    )
    spec = folders / "train", folders / "val", folders / "out"
    architecture = f"{folders}/net.py:small"
    path = train_model(architecture, *spec, recipe=RECIPE, labels=folders / "classes.json")
    assert load(architecture, weights=path, classes=3).labels == ("b", "g", "r")
    with pytest.raises(InputError, match="2 labels for images of class 2 in"):
        train_model(architecture, *spec, recipe=RECIPE, labels=["b", "g"])


def test_unusable_runs(folders: Path) -> None:
    train_spec, val_spec, out = folders / "train", folders / "val", folders / "out"
    with pytest.raises(UnknownName, match="no architecture 'lenslett'; did you mean 'lenslet'"):
        train_model("lenslett", train_spec, val_spec, out)
    with pytest.raises(InputError, match="no device 'abacus' here"):
        train_model("lenslet", train_spec, val_spec, out, device="abacus")
    with pytest.raises(InputError, match="has no labels, which training needs"):
        train_model("lenslet", train_spec / "red", val_spec, out)
    (val_spec / "red").rename(val_spec / "crimson")
    with pytest.raises(InputError, match=r"class 1 is 'green' in .*, but 'crimson' in"):
        train_model("lenslet", train_spec, val_spec, out)
    assert not out.exists()


def test_the_default_recipes_suit_their_architectures() -> None:
    assert default_recipe("lenslet") == ClassifierRecipe(finish=2)
    assert all(47 <= side <= 78 for side, _ in default_recipe("zfnet").sizes)
    assert default_recipe("net.py:make").sizes == ((64, 19),)
