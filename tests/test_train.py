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

import pytest
import torch
from torch import nn

from netloupe.core.errors import Cancelled, InputError, NetworkError, StoreError
from netloupe.training.classifier import Epoch, Trained, train
from netloupe.training.labeled import Images, Score, score
from netloupe.training.recipes import ClassifierRecipe
from netloupe.zoo.state import save_weights
from watch_helpers import Recorder

RECIPE = ClassifierRecipe(sizes=((12, 2), (16, 2)), size=16, batch=16, rate=0.05, finish=1)


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


def run(out: Path, recipe: ClassifierRecipe = RECIPE, **options: object) -> tuple[nn.Module, Score, list[Epoch]]:
    return parts(train(small(), colored(96), colored(30), 3, out, recipe=recipe, dtype=torch.float32, **options))  # type: ignore[arg-type]


def parts(found: Trained) -> tuple[nn.Module, Score, list[Epoch]]:
    return found.network, found.score, found.log


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# The whole run


def test_it_learns(tmp_path: Path) -> None:
    before = score(lambda pixels: small().eval()(pixels / 255.0), colored(30), 3)
    network, after, log = run(tmp_path, replace(RECIPE, sizes=((12, 6), (16, 5))))
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
from watch_helpers import Reacting
torch.set_num_threads(1)
def step(name, done):
    print(done, flush=True)
    time.sleep(0.05)
test_train.run(Path(sys.argv[1]), watch=Reacting(step))
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, whole_score, whole_log = run(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 14:  # two epochs of six steps, and two more
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    watch = Recorder()
    resumed, resumed_score, log = run(tmp_path / "killed", watch=watch)
    assert watch.told == [("training", done, 30) for done in range(12, 31)]
    assert "top-1" in watch.notes[-1]
    assert equal(resumed, whole)
    assert resumed_score == whole_score
    assert [entry.loss for entry in log] == [entry.loss for entry in whole_log]


def test_a_cancelled_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, _, _ = run(tmp_path / "whole")
    network, watch = small(), Recorder(at=21)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(Cancelled):
        train(network, colored(96), colored(30), 3, tmp_path / "cut", recipe=RECIPE, dtype=torch.float32, watch=watch)
    assert watch.told[-1] == ("training", 20, 30)
    assert torch.equal(torch.rand(3), wanted)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 3
    watch = Recorder()
    resumed, _, _ = run(tmp_path / "cut", watch=watch)
    assert watch.told[0] == ("training", 18, 30)
    assert watch.notes[-1].startswith("epoch 5 of 5, loss ")
    assert equal(resumed, whole)


def test_a_finished_run_only_scores(tmp_path: Path) -> None:
    first, first_score, log = run(tmp_path)
    watch = Recorder()
    again, again_score, again_log = run(tmp_path, watch=watch)
    assert watch.told == [("training", 30, 30)]
    assert equal(first, again)
    assert (first_score, log) == (again_score, again_log)


def test_gray_images(tmp_path: Path) -> None:
    recipe = replace(RECIPE, mean=(0.5,), std=(0.5,))
    images = colored(48, channels=1)
    _, result, _ = parts(train(small(channels=1), images, images, 3, tmp_path, recipe=recipe))
    assert result.loss > 0
    with pytest.raises(InputError, match="images of 1 channels, but the recipe's mean and std have 3 values"):
        train(small(channels=1), images, images, 3, tmp_path, recipe=RECIPE)


# What can go wrong


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(StoreError, match=r"of another training, its recipe\.rate: 0\.05, now: 0\.01; delete it"):
        run(tmp_path, replace(RECIPE, rate=0.01))
    other = Images(colored(96).pixels.flip(0), colored(96).labels)
    shapes = r"its shapes\.6\.weight: .*, now: "
    for network, images, told in ((small(classes=4), colored(96), shapes), (small(), other, "image 0 and 95 more")):
        classes = network[-1].out_features  # type: ignore[index,union-attr]
        with pytest.raises(StoreError, match=f"of another training, {told}"):
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
    with pytest.raises(NetworkError, match=r"the loss is (nan|inf) at step \d+ of 30; try a lower rate"):
        run(tmp_path, replace(RECIPE, rate=1e30))


@pytest.mark.parametrize(
    "change",
    [{"sizes": ()}, {"sizes": ((0, 1),)}, {"sizes": ((16, 0),)}, {"batch": 0}, {"rate": 0.0}, {"warmup": 1.5},
     {"momentum": 1.0}, {"decay": -1.0}, {"smoothing": 1.0}, {"crop": 0.0}, {"seed": -1}, {"std": (1.0,)}],
)  # fmt: skip
def test_unusable_recipes(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"recipe with unusable {next(iter(change))} .*accepted: "):
        replace(RECIPE, **change)  # type: ignore[arg-type]
