"""A result is made again from itself, byte for byte, and says what is not as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import netloupe
from netloupe.atlas.store import Store
from netloupe.cli.app import main
from netloupe.core.errors import NetloupeError
from netloupe.core.files import portable
from netloupe.core.watch import Watch
from netloupe.data.images import ImageFiles
from netloupe.remake import again, differences
from netloupe.render.pictures import about, encode
from netloupe.studies.trust.measure import trust
from netloupe.tasks import task_named
from netloupe.training.recorder import Recorder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photos, from which the command is run."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(run: Run, place: Path, *arguments: object) -> Path:
    status, _, err = run(*arguments, "-o", place / "one")
    assert status == 0, err
    return place / "one"


FOOL = ("fool", "a.png", "b.png", "--target", "koala", "--steps", "3", "--epsilon", "8/255", "--method", "pgd")


def test_a_manifest_makes_the_same_bytes(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL, "--seed", "3")
    status, out, err = run("again", one / "manifest.json", "-o", place / "two", "--json")
    assert (status, "byte for byte" in err, "differs" in err) == (0, True, False)
    assert contents(one) == contents(place / "two")
    assert json.loads(out)["of"] == 2
    other = made(run, place, *FOOL, "--seed", "4")
    assert contents(other) != contents(place / "two"), "the seed matters, so equal bytes mean something"


def test_every_png_is_enough(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    for png in one.glob("*.png"):
        assert about(png.read_bytes()) == json.loads((one / "manifest.json").read_text())["provenance"]
    (place / "alone").mkdir()
    (one / "fooling.png").rename(place / "alone" / "kept.png")
    status, _, err = run("again", place / "alone" / "kept.png", "-o", place / "two")
    assert status == 0, err
    assert (place / "alone" / "kept.png").read_bytes() == (place / "two" / "fooling.png").read_bytes()


def test_a_contact_sheet_too(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL, "--sweep", "steps=1,2")
    assert run("again", one, "-o", place / "two")[0] == 0
    assert contents(one) == contents(place / "two")


def test_a_setting_is_changed(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    status, _, err = run("again", one, "--set", "steps=1", "-o", place / "two")
    assert (status, "byte for byte" in err) == (0, False)
    changed = json.loads((place / "two" / "manifest.json").read_text())["provenance"]
    assert (changed["parameters"]["steps"], changed["parameters"]["method"]) == (1, "pgd")
    status, out, _ = run("diff", one, place / "two", "--json")
    assert (status, json.loads(out)) == (0, [{"name": "steps", "a": 3, "b": 1}])
    assert run("diff", one, one)[1] == "made in the same way\n"


def test_images_are_named_without_their_place(run: Run, place: Path) -> None:
    one = made(run, place, "fool", place / "a.png", "--target", "koala", "--steps", "1")
    text = (one / "manifest.json").read_text()
    assert str(place) not in text
    assert json.loads(text)["provenance"]["inputs"]["images"][0]["name"] == "a.png"
    assert portable("x/y.png") == "x/y.png"


def test_moved_and_renamed_images_are_found_by_their_digest(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    (place / "moved").mkdir()
    (place / "a.png").rename(place / "moved" / "renamed.png")
    status, _, err = run("again", one)
    assert status == 2
    assert err == "netloupe: a.png: not there (fix: --images FOLDER, where it lies)\n"
    status, _, err = run("again", one, "--images", place / "moved", "-o", place / "two")
    assert status == 0, err
    assert ("byte for byte" in err, "differs" in err) == (True, False)
    assert contents(place / "two") == contents(one), "images keep the names that they were given by"


def test_a_changed_image_is_told(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    (place / "a.png").write_bytes((place / "b.png").read_bytes())
    status, _, err = run("again", one)
    assert status == 0
    assert "differs: a.png is not the file that it was" in err
    assert "other bytes" in err


def test_changed_weights_and_versions_are_told(run: Run, place: Path) -> None:
    status, _, _ = run("filters", "--weights", "random", "-o", place / "one")
    assert status == 0
    manifest = json.loads((place / "one" / "manifest.json").read_text())
    manifest["provenance"]["network"]["model"]["seed"] = 5
    manifest["provenance"]["versions"]["torch"] = "1.0"
    (place / "one" / "manifest.json").write_text(json.dumps(manifest))
    status, _, err = run("again", place / "one")
    assert status == 0
    assert "differs: the network lenslet is not the same" in err
    assert "differs: torch is" in err


def test_as_many_threads_as_then(place: Path) -> None:
    before = torch.get_num_threads()
    netloupe.filters(netloupe.load()).save(place / "one")
    manifest = json.loads((place / "one" / "manifest.json").read_text())
    assert manifest["provenance"]["threads"] == before
    manifest["provenance"]["threads"] = before + 1
    (place / "one" / "manifest.json").write_text(json.dumps(manifest))
    assert again(place / "one").result.provenance["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_what_two_threads_made_is_made_again_where_there_is_one(run: Run, place: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        one = made(run, place, "visualize", "conv3:17", "--steps", "2")
        torch.set_num_threads(1)
        assert run("again", one, "-o", place / "two")[0] == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert json.loads((one / "manifest.json").read_text())["provenance"]["threads"] == 2
    assert contents(one) == contents(place / "two")


def test_what_was_made_in_python(place: Path) -> None:
    net = netloupe.load()
    image = netloupe.load_image(place / "a.png", size=64)[None]
    netloupe.fool(net, image, "koala", steps=1).save(place / "one")
    with pytest.raises(NetloupeError, match="handed over in Python, not as a file"):
        again(place / "one")
    trust(net, image, methods=["gradient"], count=1, steps=1).save(place / "three")
    with pytest.raises(NetloupeError, match=r"data was not a source, but images .* \(fix: --data SOURCE\)"):
        again(place / "three")
    netloupe.filters(netloupe.Network(net.module, net.inputs)).save(place / "two")
    with pytest.raises(NetloupeError, match="was made in Python"):
        again(place / "two")
    assert not again(place / "two", model="lenslet").differs[1:]


def edited(place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A manifest in which something was changed by hand."""
    netloupe.filters(netloupe.load()).save(place / "one")
    manifest = json.loads((place / "one" / "manifest.json").read_text())
    change(manifest)
    (place / "one" / "manifest.json").write_text(json.dumps(manifest))
    return place / "one"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["provenance"].pop("format"), "in format 0 (accepted: format 1)"),
        (lambda m: m["provenance"].update(format=99), "in format 99"),
        (lambda m: m["provenance"].pop("technique"), "does not say how it was made"),
        (lambda m: m.pop("provenance"), "does not say how it was made"),
        (lambda m: m["provenance"].update(technique="filtres"), "no task 'filtres'; did you mean 'filters'?"),
        (lambda m: m["provenance"]["parameters"].update(scal="layer"), "no setting 'scal'; did you mean 'scale'?"),
        (lambda m: m["provenance"]["network"]["model"].update(model="lenslat"), "no model 'lenslat'"),
        (lambda m: m["provenance"]["network"]["model"].update(weights={"name": "w.pt"}), "w.pt: not there (fix: --wei"),
        (
            lambda m: m["provenance"]["network"]["model"].update(model={"name": "n.py:f", "sha256": ""}),
            "the network is a Python file, n.py:f (fix: --model FILE.py:FACTORY)",
        ),
        (lambda m: m["provenance"].update(network=None), "can't be read"),
        (lambda m: m["provenance"].update(threads="many"), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(model={}), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(weights={}), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(labels={}), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(output={"a": 1}), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(classes=10**9), "can't be read"),
        (lambda m: m["provenance"]["network"]["model"].update(seed="x"), "can't be read"),
        (lambda m: m["provenance"]["input"].update(range=[1]), "can't be read"),
        (lambda m: m["provenance"].update(sweep=5), "can't be read"),
        (lambda m: m["provenance"].update(sweep={"name": 5, "values": [1]}), "can't be read"),
        (lambda m: m["provenance"]["inputs"].update(image=5), "can't be read"),
    ],
)
def test_bad_manifests(change: Callable[[dict[str, Any]], object], message: str, run: Run, place: Path) -> None:
    folder = edited(place, change)
    status, out, err = run("again", folder, "-o", place / "two")
    assert (status, out) == (2, "")
    assert err.startswith("netloupe: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (place / "two").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["inputs"].clear(), "does not say of what images"),
        (lambda told: told["inputs"].update(images="a.png"), "does not say of what images"),
        (lambda told: told["inputs"]["images"][0].update(name="x" * 300), ": not there (fix: --images"),
        (lambda told: told["parameters"].pop("target"), "fool without target"),
    ],
)
def test_bad_manifests_of_images(change: Callable[[Any], object], message: str, run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    manifest = json.loads((one / "manifest.json").read_text())
    change(manifest["provenance"])
    (one / "manifest.json").write_text(json.dumps(manifest))
    status, out, err = run("again", one, "-o", place / "two")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_python_file_is_not_run_however_it_is_named(run: Run, place: Path) -> None:
    (place / "n.py").write_text("open('ran', 'w').close()\n")
    for name in ("n.py:f", str(place / "n.py:f")):
        folder = edited(place, lambda m, name=name: m["provenance"]["network"]["model"].update(model=name))
        status, _, err = run("again", folder)
        assert (status, (place / "ran").exists()) == (2, False)
        assert "is a Python file, " in err
        assert "(fix: --model FILE.py:FACTORY)" in err


def test_compares_with_the_files_as_they_were(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    (one / "images.npy").write_bytes(b"other")
    assert "1 of 7 files have other bytes" in run("again", one, "-o", one)[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", b"{", "no manifest that can be read"),
        ("m.json", b"[1]", "does not say how"),
        ("m.json", b"[" * 100_000, "no manifest that can be read"),
        ("m.json", b"\xff\xfe", "no manifest that can be read"),
        ("m.png", b"\x89PNG", "m.png: not a PNG that can be read"),
        ("m.png", encode(np.zeros((4, 4, 3), np.uint8)), "does not say how it was made"),
        ("m.png", encode(np.zeros((4, 4, 3), np.uint8), about={"technique": 3}), "in format 0"),
    ],
)
def test_bad_files(name: str, content: bytes, message: str, run: Run, place: Path) -> None:
    (place / name).write_bytes(content)
    for verb in (("again", name), ("diff", name, name)):
        status, out, err = run(*verb)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_bad_options(run: Run, place: Path) -> None:
    one = made(run, place, *FOOL)
    for options, message in (
        (("--set", "stepz=3"), "no setting 'stepz'; did you mean 'steps'?"),
        (("--set", "steps"), "(accepted: NAME=VALUE, as in steps=500)"),
        (("--set", "steps=-1"), "steps -1 (accepted: 0 or more)"),
        (("--images", "nowhere"), "nowhere"),
        (("--model", "lenslat"), "no model 'lenslat'"),
    ):
        status, out, err = run("again", one, *options, "-o", place / "two")
        assert (status, out) == (2, ""), options
        assert message in err
        assert not (place / "two").exists()
    assert run("again", "nothing.json")[0] == 2


def test_differences_name_settings_and_the_rest() -> None:
    a = {"technique": "x", "parameters": {"steps": 1}, "versions": {"torch": "2"}, "inputs": {"i": [{"sha256": "a"}]}}
    b = {"technique": "x", "parameters": {"steps": 2}, "versions": {"torch": "3"}, "inputs": {"i": [{"sha256": "b"}]}}
    assert differences(a, b) == [("steps", 1, 2), ("versions.torch", "2", "3"), ("inputs.i.0.sha256", "a", "b")]


VERBS: Mapping[str, tuple[str, ...]] = {
    "activations": ("a.png", "{place}/b.png", "-l", "conv3", "--top", "2"),
    "attention": (
        *("{place}/a.png", "--model", "patchlet", "--weights", "random", "--data", "{place}/images"),
        *("--from", "1,2", "--first", "2"),
    ),
    "tokens": ("a.png", "{place}/b.png", "-l", "conv3", "--foreground", "above", "--at", "1,2"),
    "tokens --model patchlet": (
        *("a.png", "--weights", "random", "-l", "blocks.2", "--layout", "blocks.*=tokens:prefix=5,grid=4x16"),
        *("--layout", "norm=tokens:prefix=37,grid=4x8"),
    ),
    "patches": ("--data", "{place}/images", "-l", "conv1", "-k", "2"),
    "patches --unit conv3:17": ("--data", "{place}/images", "--project", "deconvnet", "-k", "1"),
    "neighbors": ("{place}/a.png", "--data", "{place}/images", "-k", "1"),
    "texture": ("a.png", "--side", "32", "-l", "relu1", "-l", "pixels=2", "--steps", "2", "--start", "b.png"),
    "texture --method quilting": ("a.png", "--side", "24", "--block", "8", "--to", "20x30"),
    "texture --sweep start=noise,gray": ("a.png", "--side", "24", "-l", "relu1", "--steps", "2"),
    "style --dream conv3:1": ("a.png", "-s", "b.png=2", "-s", "a.png", "--side", "32", "-l", "relu1", "--steps", "2"),
    "style --sweep style-scale=0.5,1": ("a.png", "-s", "b.png", "--side", "32", "-l", "relu1", "--steps", "1"),
    "visualize class:koala": ("logit(koala) - logit(goldfish)", "--steps", "2", "--start", "a.png"),
    "visualize conv3:1": ("--steps", "1", "--start", "gray", "--diverse", "2", "--every", "1"),
    "visualize --layer conv3": ("--first", "2", "--steps", "1", "--sweep", "optimizer=adam,lbfgs"),
    "visualize conv3:2": ("--steps", "1", "--quick", "--sweep", "lr=0.01,0.1", "--sweep", "preset=none,lucid"),
    "facets class:koala": ("--data", "?.png", "--steps", "1"),
    "invert a.png": ("-l", "conv3", "--steps", "2", "--start", "b.png", "--quick"),
    "dream a.png": ("-l", "conv3", "--octaves", "1", "--steps", "1", "--guide", "b.png", "--frames", "1"),
    "dream b.png": ("-l", "conv3", "--octaves", "1", "--steps", "1", "--sweep", "layer=conv1,conv2"),
    "accentuate a.png": ("--class", "koala", "--keep", "conv2", "--steps", "2"),
    "study correspondence": ("--draws", "1", "-l", "pool1", "-l", "mean"),
    "audit": ("--data", "{place}/kinds", "--size", "16", "--predicted", "--tested", "1", "--per-class", "9"),
    "study probe": ("--dense", "--data", "{place}/kinds", "--boxes", "{place}/boxes.json", "-l", "conv3"),
    "study trust": ("--data", "{place}/images", "-m", "gradient", "--stages", "2", "--steps", "2"),
    "map": ("--data", "{place}/images", "--pixels", "--method", "pca", "--place", "{place}/a.png", "--first", "2"),
    "explain": ("{place}/a.png", "-m", "gradient,grad_cam", "--steps", "4"),
    "occlude": ("{place}/a.png", "--data", "{place}/images", "-w", "32", "-s", "16", "-l", "conv3"),
    "occlude --unit conv3:1": ("a.png", "-w", "32", "-w", "24x48", "--growth", "0.5", "--baseline", "#ff8000"),
    "study invariance": ("--data", "{place}/images", "--steps", "2"),
    "study ablation": ("--data", "{place}/images", "--first", "2", "-l", "fc"),
    "study retraining": ("remove conv3", "--data", "{place}/kinds", "--size", "16", "--budget", "0.1"),
    "study evolution": ("--data", "{place}/kinds", "-l", "conv4", "--show", "1"),
    "study filters": ("--data", "{place}/images", "--first", "2"),
    "study generalization": ("--data", "{place}/kinds", "-n", "2", "--folds", "2", "-l", "pool1", "--epochs", "1"),
}


def two_kinds(folder: Path) -> None:
    """A folder of small images of two classes, and beside it boxes of theirs."""
    boxes = {}
    rng = np.random.default_rng(0)
    for i in range(90):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        boxes[f"{'ab'[i % 2]}/{i}.png"] = [i % 3, 1, 5, 6]
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (folder.parent / "boxes.json").write_text(json.dumps(boxes))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_makes_the_same_bytes(verb: str, run: Run, place: Path) -> None:
    """From its manifest and from a PNG alone, and no file says where the images lay."""
    (place / "images").mkdir()
    for name in ("a.png", "b.png"):
        (place / "images" / name).write_bytes((place / name).read_bytes())
    if "{place}/kinds" in VERBS[verb]:
        two_kinds(place / "kinds")
    one = made(run, place, *verb.split(), *(text.format(place=place) for text in VERBS[verb]))
    for start in (one, min(one.rglob("*.png"))):
        status, _, err = run("again", start, "-o", place / "two")
        assert (status, "differs" in err) == (0, False), err
        assert contents(one) == contents(place / "two")
    assert [name for name, content in contents(one).items() if str(place).encode() in content] == []


def test_a_folder_of_files_is_found_by_its_digest(run: Run, place: Path) -> None:
    module = netloupe.load().module
    recorder = Recorder(place / "snapshots", module, (1, 2))
    for epoch in (1, 2):
        recorder.epoch_done(epoch)
        with torch.no_grad():
            module.get_parameter("conv1.weight").mul_(-1)
    given = ("study", "evolution", "--data", place, "-l", "conv1", "--show", "1")
    one = made(run, place, *given[:2], place / "snapshots", *given[2:])
    told = json.loads((one / "manifest.json").read_text())["provenance"]
    assert told["inputs"]["folder"]["name"] == "snapshots"
    assert told["network"]["model"]["weights"] is None, "the snapshots are the weights"
    (place / "moved").mkdir()
    (place / "snapshots").rename(place / "moved" / "snapshots")
    images = [place / name for name in ("a.png", "b.png")]
    (place / "list.txt").write_text("".join(f"{path}\n" for path in images))
    status, _, err = run("again", one, "--data", "list.txt", "-o", place / "two")
    assert (status, err) == (2, "netloupe: snapshots: not there (fix: --images FOLDER, where it lies)\n")
    status, _, err = run("again", one, "--data", "list.txt", "--images", place / "moved", "-o", place / "two")
    assert status == 0, err
    assert (place / "two" / "likeness-conv1.npy").read_bytes() == (one / "likeness-conv1.npy").read_bytes()
    (place / "moved" / "snapshots" / "epoch-0003.safetensors").write_bytes(b"")
    (place / "moved" / "snapshots" / "epoch-0003.safetensors").rename(place / "moved" / "snapshots" / "other")
    status, _, err = run("again", one, "--data", "list.txt", "--images", place / "moved")
    assert "differs: snapshots is not the file that it was" in err


def test_what_was_read_is_told_though_it_changes_meanwhile(place: Path) -> None:
    net, files = netloupe.load(), ImageFiles.of([place / "a.png"])
    was = hashlib.sha256((place / "a.png").read_bytes()).hexdigest()

    class Removing(Watch):
        def tell(self, name: str, done: int, total: int, note: str) -> None:
            (place / "a.png").unlink(missing_ok=True)

    task = task_named("fool").of({"target": "koala", "steps": 2})
    result = netloupe.perform(task, net, {"images": files}, Removing())
    assert not (place / "a.png").exists()
    assert result.provenance["inputs"]["images"] == [{"name": "a.png", "sha256": was}]
    with pytest.raises(NetloupeError, match="a.png: can't be read"):
        netloupe.perform(task, net, {"images": files})


def told_by(atlas: Path) -> dict[str, Any]:
    """All that an atlas holds, but when it was made."""
    store = Store.open(atlas)
    names = sorted(path.stem for path in atlas.glob("*.lance"))
    found: dict[str, Any] = {name: store.arrow(name).to_pylist() for name in names if name != "provenance"}
    return found | {"network": {name: one for name, one in store.network.items() if name != "created"}}


def test_an_atlas_is_made_again_row_for_row(run: Run, place: Path) -> None:
    (place / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (place / "images" / name).write_bytes((place / ("a.png" if name == "a.png" else "b.png")).read_bytes())
    given = ("--data", place / "images", "-l", "conv1", "-k", "2", "--first", "2", "--map", "none", "--project", "none")
    one = made(run, place, "atlas", "build", *given)
    assert run("again", one)[0::2] == (2, "netloupe: an atlas is made where it is saved (fix: --out FOLDER)\n")
    status, out, err = run("again", one, "-o", place / "two")
    assert (status, "differs" in err, "2 images" in out) == (0, False, True), err
    assert told_by(one) == told_by(place / "two")
    assert len(told_by(one)) > 3
    status, out, _ = run("again", one, "--set", "k=1", "-o", place / "three")
    assert (status, told_by(place / "three") == told_by(one)) == (0, False)
    assert run("diff", one, place / "three")[1].split() == ["A", "B", "k", "2", "1"]
    assert str(place).encode() not in (one / "manifest.json").read_bytes()
