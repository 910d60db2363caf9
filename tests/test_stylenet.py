"""The style network: its normalization, its styles, its training, and its file."""

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
from safetensors.torch import load_file, save_file

from netloupe.core.errors import InputError, NetworkError, StoreError, UnknownName
from netloupe.data.open import from_files, open_source
from netloupe.stylenet.model import EMBEDDED, StyleModel, load_styles, save_styles
from netloupe.stylenet.network import Enlargement, Norm, StyleNet, StyleNorm
from netloupe.training.crops import crops, turns
from netloupe.zoo import load as zoo
from stylenet_helpers import RECIPE, blends, few, fitted, judge, photo, same, some, tiny, tiny_model
from watch_helpers import Recorder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are then added up in the same order as in the process that is killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The normalization


def styled_norm(norm: Norm) -> StyleNorm:
    torch.manual_seed(0)
    layer = StyleNorm(3, 5, norm)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def test_the_norm_is_that_of_torch_with_the_scale_and_shift_of_each_image() -> None:
    layer, x = styled_norm("instance"), 3 + 2 * torch.randn(4, 5, 7, 9)
    chosen = [2, 0, 1, 2]
    found = layer(x, blends(*chosen, styles=3))
    wanted = [F.instance_norm(x[i : i + 1], weight=layer.scale[s], bias=layer.shift[s]) for i, s in enumerate(chosen)]
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-5, rtol=1e-4)
    assert found.std() > 0.3


def test_a_blend_is_the_norm_with_blended_scale_and_shift() -> None:
    layer, x = styled_norm("instance"), torch.randn(1, 5, 6, 6)
    weights = torch.tensor([0.2, 0.5, 0.3])
    scale, shift = ((weights[:, None] * own).sum(0) for own in (layer.scale, layer.shift))
    wanted = F.instance_norm(x, weight=scale, bias=shift)
    torch.testing.assert_close(layer(x, weights[None]), wanted, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(wanted, layer(x, blends(1, styles=3)), atol=0.01)


def test_the_batch_norm_is_that_of_torch() -> None:
    layer, x = styled_norm("batch"), 3 + torch.randn(4, 5, 6, 6)
    mean, variance = torch.zeros(5), torch.ones(5)
    with torch.no_grad():
        found = layer.train()(x, blends(1, 1, 1, 1, styles=3))
        wanted = F.batch_norm(x, mean, variance, layer.scale[1], layer.shift[1], training=True)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        known = layer.eval()(x, blends(1, 1, 1, 1, styles=3))
        wanted = F.batch_norm(x, mean, variance, layer.scale[1], layer.shift[1])
    assert mean.mean() > 0.2
    torch.testing.assert_close(known, wanted, atol=1e-5, rtol=1e-4)


# The network


def test_an_enlargement_is_repetition_reflection_and_a_convolution() -> None:
    torch.manual_seed(0)
    layer, x = Enlargement(2, 5, 3, "instance").double(), torch.randn(2, 5, 4, 7, dtype=torch.float64)
    large = F.pad(x.repeat_interleave(2, 2).repeat_interleave(2, 3), (1, 1, 1, 1), mode="reflect")
    wanted = layer.norm(F.conv2d(large, layer.conv.weight), blends(0, 1).double())
    found = layer(x, blends(0, 1).double())
    assert found.shape == (2, 3, 8, 14)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert found.std() > 0.3
    (gradient,) = torch.autograd.grad(found.sin().sum(), layer.conv.weight)
    again = torch.autograd.grad(wanted.sin().sum(), layer.conv.weight)[0]
    torch.testing.assert_close(gradient, again, atol=1e-5, rtol=1e-5)
    assert gradient.abs().max() > 0.1


@torch.no_grad()
def test_the_other_images_of_a_batch_do_not_matter() -> None:
    network, images = tiny(), some(3)
    together = network(images, blends(0, 1, 1))
    for i, style in enumerate((0, 1, 1)):
        torch.testing.assert_close(network(images[i : i + 1], blends(style))[0], together[i], atol=1e-5, rtol=1e-4)
    assert together.std() > 0.05
    batch = tiny(norm="batch").train()  # where they do
    assert (batch(images, blends(0, 1, 1))[0] - batch(images[:1], blends(0))[0]).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("size", [(16, 16), (17, 19), (34, 50), (63, 41)])
def test_any_size_keeps_its_size(size: tuple[int, int], norm: Norm) -> None:
    image = F.interpolate(some(1, 64), size)
    painted = tiny(norm=norm)(image, blends(1))
    assert painted.shape == image.shape
    assert 0 <= painted.min() < painted.max() <= 1


@torch.no_grad()
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_an_extended_network_keeps_its_styles(norm: Norm) -> None:
    network, images = tiny(2, norm), some(2, 34)
    larger = network.with_styles([0, 1, None, None]).eval()
    assert larger.styles == 4
    assert torch.equal(network(images, blends(0, 1)), larger(images, blends(0, 1, styles=4)))
    half = torch.full((2, 2), 0.5)  # a new style begins as the mean
    torch.testing.assert_close(larger(images, blends(2, 3, styles=4)), network(images, half), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments", [(0,), (1, (4, 8)), (1, (4, 0, 8)), (1, (4, 8, 8), -1), (1, (4, 8, 8), 1, "layer")]
)
def test_a_network_that_can_not_be(arguments: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="accepted: 1 or more, three numbers"):
        StyleNet(*arguments)  # type: ignore[arg-type]


# What it is trained on


def test_crops_depend_on_seed_and_step_alone() -> None:
    whole, again = list(crops(few(), 32, 2, 0, range(4))), list(crops(few(), 32, 2, 0, range(2, 4)))
    assert [tuple(batch.shape) for batch in whole] == [(2, 3, 32, 32)] * 4
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], again, strict=True))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], next(crops(few(), 32, 2, 1, range(1))))


def test_crops_pass_over_broken_images(tmp_path: Path) -> None:
    photo("cat", 40, 60).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    source = open_source(tmp_path)
    assert len(list(crops(source, 32, 4, 0, range(3)))) == 3
    with pytest.raises(InputError, match="none of 8 images could be read, such as .*bad.png: not an image"):
        list(crops(from_files([tmp_path / "bad.png"]), 32, 1, 0, range(1)))


def test_styles_take_turns() -> None:
    drawn = torch.cat([turns(range(2, 5), 4, step) for step in range(6)])
    assert torch.bincount(drawn).tolist() == [0, 0, 8, 8, 8]
    many = [turns(range(9), 4, step).tolist() for step in range(9)]
    assert all(len(set(batch)) == 4 for batch in many)
    assert np.bincount(np.ravel(many)).tolist() == [4] * 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ()}, "sizes"),
        ({"sizes": ((31, 5),)}, "sizes"),
        ({"sizes": ((32, 0),)}, "sizes"),
        ({"batch": 0}, "batch"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"warmup": 1.5}, "warmup"),
        ({"content": -1.0}, "content"),
        ({"smoothness": float("nan")}, "smoothness"),
        ({"style_size": 31}, "style size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_recipe_that_can_not_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"unusable {message}"):
        replace(RECIPE, **changes)  # type: ignore[arg-type]


# Training


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = replace(RECIPE, sizes=((32, 40),), rate=0.01)
    network, losses = tiny().train(), judge(recipe=recipe)
    photos, chosen = next(crops(few(), 32, 6, 99, range(1))), torch.tensor([0, 1] * 3)

    @torch.no_grad()
    def style_and_content() -> tuple[float, float]:
        content, style = losses(network.eval()(photos, blends(*chosen)), photos, chosen)
        return float(style.mean()), float(content.mean())

    before = style_and_content()
    log = fitted(network, tmp_path, recipe, every=20, samples=some(1, 32))
    after = style_and_content()
    assert after[0] < 0.6 * before[0]
    assert log[1].style < log[0].style
    assert not network.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["style"]) for line in lines] == [(entry.step, entry.style) for entry in log]
    sheets = [Image.open(tmp_path / "samples" / f"{step:06}.jpg") for step in (20, 40)]
    assert {sheet.size for sheet in sheets} == {(3 * 34 + 2, 36)}  # the photo and two styles


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stylenet_helpers import fitted, tiny
from watch_helpers import Reacting
torch.set_num_threads(1)
def react(name, done):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
fitted(tiny(), Path(sys.argv[1]), every=2, watch=Reacting(react))
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    network, resumed = tiny(), tiny()
    log = fitted(network, tmp_path / "whole", every=2)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    killed = subprocess.run(command, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    watch = Recorder()
    again = fitted(resumed, tmp_path / "killed", every=2, watch=watch)
    assert watch.steps("training") == [4, 5, 6, 7, 8]  # it was killed before the checkpoint of step 6
    assert same(network, resumed)
    assert not same(network, tiny())
    assert [replace(entry, seconds=0) for entry in log] == [replace(entry, seconds=0) for entry in again]


KILLED_AS_IT_SAVES = """
import os, signal, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from netloupe.training import loop
from test_stylenet import fitted, some, tiny

torch.set_num_threads(1)
write, saved = loop.write_atomically, []
def killing(path, content):
    write(path, content)
    saved.extend([path] if path.name == "checkpoint.pt" else [])
    if len(saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
loop.write_atomically = killing
fitted(tiny(), Path(sys.argv[1]), every=2, samples=some(1, 32))
"""


def test_a_kill_right_after_a_checkpoint_loses_no_picture(tmp_path: Path) -> None:
    fitted(tiny(), tmp_path / "whole", every=2, samples=some(1, 32))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_AS_IT_SAVES, str(tmp_path / "killed"), str(Path(__file__).parent)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    fitted(tiny(), tmp_path / "killed", every=2, samples=some(1, 32))
    pictures = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "samples").iterdir()}
        for name in ("whole", "killed")
    ]
    assert pictures[0] == pictures[1]
    assert sorted(pictures[0]) == ["000002.jpg", "000004.jpg", "000006.jpg", "000008.jpg"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    fitted(tiny(), tmp_path, about={"styles": "a"})
    changed = replace(RECIPE, content=0.5)
    for recipe, about, key in ((changed, "a", r"recipe\.content"), (RECIPE, "b", r"styles\.styles")):
        with pytest.raises(StoreError, match=rf"checkpoint\.pt is of another training, its {key}: "):
            fitted(tiny(), tmp_path, recipe, about={"styles": about})
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="can't be read as a checkpoint"):
        fitted(tiny(), tmp_path)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_new_styles_leave_the_old_ones_as_they_are(norm: Norm, tmp_path: Path) -> None:
    images, larger = some(2, 34), tiny(2, norm).with_styles([0, 1, None])
    smaller = tiny(2, norm).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as training has it
    with torch.no_grad():
        old = smaller(images, blends(0, 1))
        new = larger.eval()(images, blends(2, 2, styles=3))
    log = fitted(larger, tmp_path, first=2, every=4, samples=some(1, 32))
    with torch.no_grad():
        assert torch.equal(larger(images, blends(0, 1, styles=3)), old)
        assert (larger(images, blends(2, 2, styles=3)) - new).abs().max() > 1e-4
    assert log[-1].by_style[:2] == (None, None)
    assert log[-1].by_style[2] is not None


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    network = tiny()
    with torch.no_grad():
        network.down[0].conv.weight.fill_(float("inf"))  # type: ignore[union-attr,operator]
    with pytest.raises(NetworkError, match="the loss is nan at step 1"):
        fitted(network, tmp_path)


# The model


def test_blends() -> None:
    model = tiny_model("brick", "coffee", "rain")
    assert model.blend("coffee").tolist() == [0, 1, 0]
    assert model.blend({"rain": 1, "brick": 3}).tolist() == [0.75, 0, 0.25]
    for weights in ({"brick": -1}, {"brick": 0.0, "rain": 0}, {"brick": float("nan")}, {"brick": float("inf")}, {}):
        with pytest.raises(InputError, match="accepted"):
            model.blend(weights)
    with pytest.raises(UnknownName, match="no style 'cofee'; did you mean 'coffee'"):
        model.blend({"brick": 1, "cofee": 1})
    with pytest.raises(NetworkError, match="styles named a, a for a network of 2"):
        StyleModel(tiny(), ("a", "a"))


def test_the_blend_of_one_style_is_that_style() -> None:
    model, images = tiny_model("a", "b"), some(2, 34)
    b = model(images, "b")
    assert torch.equal(b, model(images, {"b": 7.0, "a": 0}))
    assert torch.equal(model(images, ["a", {"b": 1}])[1], b[1])
    assert (b - model(images, "a")).abs().mean() > 0.02
    assert (b - model(images, {"a": 1, "b": 3})).abs().mean() > 0.005


def test_the_model_paints_as_its_network_does() -> None:
    model, images = tiny_model("a", "b"), some(2, 37)
    painted = model(images, ["a", "b"])
    assert (painted.shape, painted.dtype) == (images.shape, torch.float32)
    assert 0 <= painted.min() < painted.max() <= 1
    with torch.no_grad():
        wanted = model.network(images, blends(0, 1))
    torch.testing.assert_close(painted, wanted, atol=0.03, rtol=0)  # it may multiply in bfloat16
    assert wanted.std() > 0.05
    assert not painted.is_inference()


@pytest.mark.parametrize(
    ("images", "style", "message"),
    [
        (torch.zeros(1, 3, 15, 40), "a", "15x40 px .accepted: sides of 16 or more"),
        (torch.zeros(1, 1, 40, 40), "a", r"accepted: \(N, 3, H, W\)"),
        (torch.full((1, 3, 40, 40), 255.0), "a", "accepted: .0, 1."),
        (torch.zeros(2, 3, 40, 40), ["a"], "1 styles for 2 images"),
    ],
)
def test_images_that_can_not_be_painted(images: torch.Tensor, style: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model("a", "b")(images, style)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_saved_model_comes_back(norm: Norm, tmp_path: Path) -> None:
    model = StyleModel(tiny(2, norm), ("a", "é=b"), {"note": "größer"}, "tiny")
    save_styles(model, tmp_path / "m.safetensors")
    loaded = load_styles(tmp_path / "m.safetensors", "cpu")
    assert (loaded.styles, loaded.name, loaded.card["note"]) == (model.styles, "tiny", "größer")
    assert loaded.card["architecture"] == {"widths": [4, 8, 8], "blocks": 1, "norm": norm}
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.network(some(1), blends(0)), model.network(some(1), blends(0)), atol=0.01, rtol=0
        )
    save_styles(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    assert all(value.dtype in (torch.float16, torch.int64) for value in load_file(tmp_path / "m.safetensors").values())


def test_a_file_that_holds_no_style_network(tmp_path: Path) -> None:
    save_styles(tiny_model("a", "b"), tmp_path / "good.safetensors")
    state = load_file(tmp_path / "good.safetensors")
    card = {"styles": ["a", "b"], "architecture": {"widths": [4, 8, 8], "blocks": 1, "norm": "instance"}}
    nan = {**state, "paint.norm.shift": torch.full((2, 3), float("nan"))}
    few = {name: value for name, value in state.items() if name != "up.0.conv.weight"}
    architecture = card["architecture"]
    cases = [
        (state, {**card, "styles": ["a"]}, "header and tensors disagree"),
        (state, {**card, "styles": ["a", "a"]}, "header and tensors disagree"),
        (state, {**card, "architecture": {**architecture, "blocks": 10**9}}, "header and tensors disagree"),  # type: ignore[dict-item]
        (state, {**card, "architecture": {**architecture, "norm": "layer"}}, "header and tensors disagree"),  # type: ignore[dict-item]
        (state, {"styles": ["a", "b"]}, "holds no style network"),
        (state, [1], "holds no style network"),
        (nan, card, "not finite"),
        (few, card, r"1 missing \(up.0.conv.weight\)"),
    ]
    for tensors, header, message in cases:
        save_file(tensors, tmp_path / "bad.safetensors", {"card": json.dumps(header)})
        with pytest.raises(NetworkError, match=message) as raised:
            load_styles(tmp_path / "bad.safetensors")
        assert "\n" not in str(raised.value)
    torch.save(state, tmp_path / "state.pt")
    for path in (zoo.WEIGHTS / "lenslet.safetensors", tmp_path / "state.pt"):
        with pytest.raises(NetworkError, match="holds no style network"):
            load_styles(path)


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert EMBEDDED.name == "styles.safetensors"
    monkeypatch.setattr("netloupe.stylenet.model.EMBEDDED", tmp_path / "none.safetensors")
    with pytest.raises(NetworkError, match="lacks the weights of the styles"):
        load_styles()
    save_styles(tiny_model("a"), tmp_path / "none.safetensors")
    assert load_styles().styles == ("a",)
    with pytest.raises(InputError, match="no device 'abacus' here"):
        load_styles(device="abacus")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be written"):
        save_styles(tiny_model("a"), tmp_path / "file" / "m.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "none.safetensors"]
