"""Training: it learns, it is reproducible, it survives being killed, and its parts do what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, StoreError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.data.sources import ImageSource, open_source
from netloupe.zoo.card import to_markdown
from netloupe.zoo.load import load
from netloupe.zoo.runs import default_recipe, train_model
from netloupe.zoo.samples import Images, random_crops, read_labeled
from netloupe.zoo.score import Score, score
from netloupe.zoo.state import as_stored, read_state, save_weights
from netloupe.zoo.train import Epoch, Recipe, train

RECIPE = Recipe(sizes=((12, 2), (16, 3)), size=16, batch=16, rate=0.05)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are then added up in the same order as in the process that is killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(classes: int = 3, channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(8, classes),
    )  # fmt: skip


def colored(count: int, classes: int = 3, channels: int = 3) -> Images:
    """Noise whose class is its brightest channel (in gray: the brightness)."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % classes
    pixels = torch.randint(0, 120, (count, channels, 16, 16), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        if channels == 3:
            pixels[i, label] += 100
        else:
            pixels[i] += 60 * label
    return Images(pixels, labels)


def run(out: Path, recipe: Recipe = RECIPE, **options: object) -> tuple[nn.Module, Score, list[Epoch]]:
    return train(small(), colored(96), colored(30), 3, out, recipe=recipe, dtype=torch.float32, **options)  # type: ignore[arg-type]


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# The whole run


def test_it_learns(tmp_path: Path) -> None:
    before = score(lambda pixels: small().eval()(pixels / 255.0), colored(30), 3)
    network, after, log = run(tmp_path, replace(RECIPE, sizes=((12, 6), (16, 6))))
    assert before.top1 < 0.7
    assert after.top1 > 0.9
    assert after.loss < log[0].loss
    assert [entry.side for entry in log] == [12] * 6 + [16] * 6
    assert not network.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [entry.loss for entry in log]


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path: Path) -> None:
    first, again, other = (
        run(tmp_path / name, replace(RECIPE, seed=seed))[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert equal(first, again)
    assert not equal(first, other)


def test_the_callers_random_state_stays(tmp_path: Path) -> None:
    network, images = small(), colored(32)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(network, images, images, 3, tmp_path, recipe=replace(RECIPE, sizes=((12, 1),)))
    assert torch.equal(torch.rand(3), wanted)


KILLED = """
import sys, time, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_train
torch.set_num_threads(1)
def step(epoch, seen, loss):
    print(epoch, seen, flush=True)
    time.sleep(0.05)
test_train.run(Path(sys.argv[1]), on_step=step)
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, whole_score, whole_log = run(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["2", "32"]:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    epochs: list[Epoch] = []
    resumed, resumed_score, log = run(tmp_path / "killed", on_epoch=epochs.append)
    assert [entry.epoch for entry in epochs] == [2, 3, 4]
    assert equal(resumed, whole)
    assert resumed_score == whole_score
    assert [entry.loss for entry in log] == [entry.loss for entry in whole_log]


def test_a_finished_run_only_scores(tmp_path: Path) -> None:
    first, first_score, log = run(tmp_path)
    again, again_score, again_log = run(tmp_path, on_step=lambda *_: pytest.fail("it trained"))
    assert equal(first, again)
    assert (first_score, log) == (again_score, again_log)


def test_gray_images(tmp_path: Path) -> None:
    recipe = replace(RECIPE, mean=(0.5,), std=(0.5,))
    images = colored(48, channels=1)
    _, result, _ = train(small(channels=1), images, images, 3, tmp_path, recipe=recipe)
    assert result.loss > 0
    with pytest.raises(InputError, match="images of 1 channels, but the recipe's mean and std have 3 values"):
        train(small(channels=1), images, images, 3, tmp_path, recipe=RECIPE)


# What can go wrong


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(StoreError, match="of another recipe, data set or architecture"):
        run(tmp_path, replace(RECIPE, rate=0.01))
    other = Images(colored(96).pixels.flip(0), colored(96).labels)
    for network, images in ((small(classes=4), colored(96)), (small(), other)):
        classes = network[-1].out_features  # type: ignore[index,union-attr]
        with pytest.raises(StoreError, match="of another recipe, data set or architecture"):
            train(network, images, colored(30), classes, tmp_path, recipe=RECIPE)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage if damage is not None else path.read_bytes()[:-2000])
    with pytest.raises(StoreError, match=r"checkpoint.pt: can't be read as a checkpoint.*remove it"):
        run(tmp_path)


def test_a_failing_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, replace(RECIPE, sizes=((12, 1),)))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_path: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / "checkpoint.pt").rename(tmp_path / "kept")
    with pytest.raises(StoreError, match="No space left on device"):
        run(tmp_path)
    with pytest.raises(StoreError, match="No space left on device"):
        save_weights(small(), tmp_path / "w.safetensors", {})
    (tmp_path / "kept").rename(tmp_path / "checkpoint.pt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_unusable_data_sets(tmp_path: Path) -> None:
    good, empty = colored(96), Images(torch.zeros((0, 3, 16, 16), dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(InputError, match="9 training images are fewer than one batch of 16"):
        train(small(), colored(9), good, 3, tmp_path, recipe=RECIPE)
    with pytest.raises(InputError, match="no validation images with a label"):
        train(small(), good, empty, 3, tmp_path, recipe=RECIPE)
    with pytest.raises(InputError, match=r"training labels from 0 to 2 \(accepted: 0 to 1\)"):
        train(small(), good, good, 2, tmp_path, recipe=RECIPE)
    with pytest.raises(NetworkError, match=r"gives \(1, 3\) for one image \(accepted: \(1, 5\)"):
        train(small(), good, good, 5, tmp_path, recipe=RECIPE)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(NetworkError, match="can't be trained on images of 12 px"):
        train(fixed, good, good, 3, tmp_path, recipe=RECIPE)
    assert not list(tmp_path.iterdir())


def test_divergence_is_told(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"the loss is (nan|inf) in epoch 0 after \d+ images; try a lower rate"):
        run(tmp_path, replace(RECIPE, rate=1e30))


@pytest.mark.parametrize(
    "change",
    [{"sizes": ()}, {"sizes": ((0, 1),)}, {"sizes": ((16, 0),)}, {"batch": 0}, {"rate": 0.0}, {"warmup": 1.5},
     {"momentum": 1.0}, {"decay": -1.0}, {"smoothing": 1.0}, {"crop": 0.0}, {"seed": -1}, {"std": (1.0,)}],
)  # fmt: skip
def test_unusable_recipes(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"recipe with unusable .*{next(iter(change))}"):
        replace(RECIPE, **change)  # type: ignore[arg-type]


# The parts


def test_crops_of_the_whole_image_are_it_or_its_mirror_image() -> None:
    pixels = colored(64).pixels
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand((5, 64), generator=torch.Generator().manual_seed(0))
    found = random_crops(pixels, 16, 1.0, generator)
    whole = ((drawn[1] * 2 - 1).abs() < 0.02).nonzero().flatten().tolist()  # aspect ratio almost 1: all of the image
    mirrored = [bool(drawn[4, i] < 0.5) for i in whole]
    for i, mirror in zip(whole, mirrored, strict=True):
        wanted = pixels[i].flip(-1) if mirror else pixels[i]
        assert float((found[i] - wanted.float()).abs().mean()) < 3
    assert len(whole) > 0


def test_crops_are_the_boxes_that_were_drawn() -> None:
    """On a linear ramp, bilinear sampling gives each output pixel the coordinate of its center, exactly."""
    ramp = torch.arange(64, dtype=torch.uint8).expand(200, 1, 64, 64).contiguous()
    drawn = torch.rand((5, 200), generator=torch.Generator().manual_seed(7))
    across = random_crops(ramp, 8, 0.35, torch.Generator().manual_seed(7))
    down = random_crops(ramp.transpose(2, 3).contiguous(), 8, 0.35, torch.Generator().manual_seed(7))
    areas = []
    for i in range(200):
        area = 0.35 + 0.65 * float(drawn[0, i])
        aspect = (4 / 3) ** (2 * float(drawn[1, i]) - 1)
        height, width = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
        left, top = float(drawn[2, i]) * (1 - width) * 64, float(drawn[3, i]) * (1 - height) * 64
        xs = [left + (k + 0.5) * width * 8 - 0.5 for k in range(8)]
        ys = [top + (k + 0.5) * height * 8 - 0.5 for k in range(8)]
        xs = xs[::-1] if drawn[4, i] < 0.5 else xs
        inside = slice(1, -1)  # the outermost may lie beyond the centers of the image's outermost pixels
        np.testing.assert_allclose(across[i, 0, 0, inside].numpy(), xs[inside], atol=1e-3)
        np.testing.assert_allclose(down[i, 0, inside, 0].numpy(), ys[inside], atol=1e-3)
        areas.append(height * width)
    assert min(areas) >= 0.35 - 1e-6
    assert float(across.min()) >= 0
    assert float(across.max()) <= 63


def test_the_score_agrees_with_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    table, labels = torch.randn(40, 7, generator=generator), torch.randint(0, 6, (40,), generator=generator)
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    found = score(lambda part: table[part.flatten().long()], Images(pixels, labels), 7, batch_size=9)
    first, five, loss, hits = 0, 0, 0.0, {c: [] for c in range(7)}  # type: ignore[var-annotated]
    for row, label in zip(table.double().tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(7), key=lambda c: -row[c])
        first += ranked[0] == label
        five += label in ranked[:5]
        hits[label].append(ranked[0] == label)
        loss -= row[label] - np.log(np.exp(row).sum())
    assert (found.top1, found.top5) == pytest.approx((first / 40, five / 40))
    assert found.loss == pytest.approx(loss / 40, rel=1e-5)
    assert found.by_class == [pytest.approx(sum(h) / len(h)) if h else None for h in hits.values()]
    assert found.by_class[6] is None
    assert 0 < first < five < 40


def test_broken_and_unlabeled_images_are_left_out(tmp_path: Path) -> None:
    for i, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (i * 50, 0, 255)).save(tmp_path / name)
    (tmp_path / "b/0.png").write_bytes(b"not an image")
    source = open_source(tmp_path)
    calls: list[tuple[int, int]] = []
    images = read_labeled(source, 8, lambda done, total: calls.append((done, total)))
    assert images.labels.tolist() == [0, 0, 1]
    assert images.left_out == 1
    assert images.pixels[:, :, 4, 4].tolist() == [[0, 0, 255], [50, 0, 255], [100, 0, 255]]
    assert calls == [(4, 4)]
    unlabeled = ImageSource(source.spec, source.names, source.opener, [0, None, 1, 1])
    assert read_labeled(unlabeled, 8).left_out == 2
    assert read_labeled(source, 8, channels=1).pixels.shape == (3, 1, 8, 8)
    with pytest.raises(InputError, match="has no labels to train on"):
        read_labeled(ImageSource(source.spec, source.names, source.opener), 8)


def test_values_beyond_half_precision_stay_as_they_are() -> None:
    module = nn.BatchNorm2d(2)
    module.running_var.copy_(torch.tensor([1.0, 1e6]))
    state = as_stored(module)
    assert state["running_var"].tolist() == [1.0, 1e6]
    assert state["weight"].dtype is torch.float16
    assert state["num_batches_tracked"].dtype is torch.int64


# A run from files to files


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
    assert page == to_markdown(card)
    assert "| Top-1 accuracy | " in page

    content = path.read_bytes()
    path.unlink()
    seen: list[int] = []
    train_model(architecture, folders / "train", folders / "val", out, recipe=recipe, on_step=lambda *_: seen.append(1))
    assert path.read_bytes() == content
    assert not seen


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
    table = to_markdown(card).split("## Accuracy by class")[1].splitlines()
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


def test_unusable_runs(folders: Path) -> None:
    train_spec, val_spec, out = folders / "train", folders / "val", folders / "out"
    with pytest.raises(UnknownName, match="no architecture 'lenslett'; did you mean 'lenslet'"):
        train_model("lenslett", train_spec, val_spec, out)
    with pytest.raises(InputError, match="device 'abacus' can't be used"):
        train_model("lenslet", train_spec, val_spec, out, device="abacus")
    with pytest.raises(InputError, match="has no labels to train on"):
        train_model("lenslet", train_spec / "red", val_spec, out)
    (val_spec / "red").rename(val_spec / "crimson")
    with pytest.raises(InputError, match="class 1 is 'green' in .*, but 'crimson' in"):
        train_model("lenslet", train_spec, val_spec, out)
    assert not out.exists()


def test_the_default_recipes_suit_their_architectures() -> None:
    assert default_recipe("lenslet") == Recipe()
    assert all(47 <= side <= 78 for side, _ in default_recipe("zfnet").sizes)
    assert default_recipe("net.py:make").sizes == ((64, 19),)


def test_random_numbers_depend_on_seed_and_epoch_alone() -> None:
    pixels = colored(8).pixels

    def drawn(seed: int) -> Tensor:
        return random_crops(pixels, 8, 0.35, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
