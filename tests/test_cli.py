"""The command line: help, results, and how each run ends."""

from __future__ import annotations

import errno
import inspect
import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from netloupe.cli import app as cli
from netloupe.cli.watch import Bars
from netloupe.core.errors import LESS
from netloupe.core.table import table

Run = Callable[..., tuple[int, str, str]]

FACTORY = """
from collections import OrderedDict
from torch import nn

def tiny(classes=5):
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(3, 4, 3, padding=1), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(4, 6, 3, padding=1), relu2=nn.ReLU(),
        mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(6, classes)))
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network (tiny.py), images (images/, a class a folder), and what is no image."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.py").write_text(FACTORY)
    random = np.random.default_rng(0)
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1"):
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no image")
    (folder / "file").write_text("in the way")
    return folder


@pytest.fixture
def tiny(place: Path) -> list[str]:
    return ["--model", f"{place / 'tiny.py'}:tiny", "--size", "16", "--device", "cpu"]


def verbs() -> Iterator[list[str]]:
    def walk(command: Any, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])

    yield from walk(typer.main.get_command(cli.app), [])


# --- help


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", list(verbs()), ids=" ".join)
def test_help(verb: list[str], flag: str, run: Run) -> None:
    status, out, err = run(*verb, flag)
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(['netloupe', *verb])} ")


def test_without_arguments_there_is_help(run: Run) -> None:
    assert run() == run("--help")


def test_help_is_fast() -> None:
    """In time of the processor, which does not hang on what else the machine does."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "netloupe", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_every_help_line_fits(run: Run) -> None:
    _, out, _ = run("--help")
    assert "..." not in out.partition("Commands:")[2]


def test_version(run: Run) -> None:
    assert run("--version")[1].startswith("netloupe ")


# --- the documentation shows commands that exist

PAGES = [Path(__file__).parents[1] / "README.md", *sorted((Path(__file__).parents[1] / "docs").glob("*.md"))]
COMMANDS = [
    shlex.split(line.rstrip("\\"), comments=True)[1:]
    for page in PAGES
    if page.exists()
    for line in page.read_text(encoding="utf-8").splitlines()
    if line.lstrip(" $").startswith("netloupe ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_documented_commands_exist(words: list[str]) -> None:
    command: Any = typer.main.get_command(cli.app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not getattr(command, "commands", {}), f"no verb {words}"
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= known


# --- defaults are those of the functions


def defaults(*verb: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(cli.app)
    for name in verb:
        command = command.commands[name]
    return {parameter.name: parameter.default for parameter in command.params}


@pytest.mark.parametrize(
    ("verb", "module", "function", "names"),
    [
        ("atlas serve", "atlas.server", "serve", {"host": "host", "port": "port"}),
        ("layers", "zoo.load", "load", {"model": "model", "weights": "weights", "output": "output"}),
    ],
)
def test_defaults(verb: str, module: str, function: str, names: dict[str, str]) -> None:
    parameters = inspect.signature(getattr(__import__(f"netloupe.{module}", fromlist=["_"]), function)).parameters
    shown = defaults(*verb.split())
    assert {name: shown[name] for name in names} == {name: parameters[given].default for name, given in names.items()}


# --- mistakes

MISTAKES = [
    (["laers"], "did you mean 'layers'?"),
    (["xyzzy"], "accepted: layers, again, diff, filters"),
    (["atlas", "bild"], "did you mean 'build'?"),
    (["atlas"], "missing command"),
    (["layers", "--modle", "x"], "--model"),
    (["layers", "x"], "unexpected extra argument"),
    (["layers", "--seed", "-1"], "--seed"),
    (["layers", "--seed", "99999999999999999999"], "--seed"),
    (["layers", "--seed", "x"], "--seed"),
    (["layers", "--model", "lensslet"], "did you mean 'lenslet'?"),
    (["layers", "--model", "{place}/missing.py:tiny"], "missing.py"),
    (["layers", "--model", "{place}/tiny.py:tinny", "--size", "16"], "did you mean 'tiny'?"),
    (["layers", "{tiny}", "--device", "gpu"], "accepted: auto, cpu, cuda"),
    (["layers", "{tiny}", "--device", "meta"], "accepted: auto, cpu, cuda"),
    (["layers", "{tiny}", "--weights", "{place}/missing.safetensors"], "missing.safetensors"),
    (["layers", "{tiny}", "--weights", "{place}/text.png"], "text.png"),
    (["layers", "{tiny}", "--labels", "{place}/missing.txt"], "missing.txt"),
    (["layers", "{tiny}", "--size", "big"], "big"),
    (["layers", "{tiny}", "--size", "0"], "size"),
    (["layers", "{tiny}", "--mean", "1,x,3"], "1,x,3"),
    (["layers", "{tiny}", "--std", "0,1,1"], "std"),
    (["layers", "{tiny}", "--channels", "0"], "channels"),
    (["layers", "{tiny}", "--channels", "1"], "shape"),
    (["layers", "{tiny}", "--classes", "0"], "classes 0 (accepted: 1 or more)"),
    (["filters", "{tiny}", "--layer", "konv1"], "did you mean 'conv1'?"),
    (["filters", "{tiny}", "--layer", "relu1"], "accepted: conv1, conv2"),
    (["filters", "{tiny}", "--scale", "filtr"], "did you mean 'filter'?"),
    (["filters", "{tiny}", "-o", "{place}/file"], "can't be written"),
    (["filters", "{tiny}", "-o", "{place}/file/deeper"], "can't be written"),
    (["activations", "{tiny}"], "missing argument"),
    (["activations", "{tiny}", "{place}/missing.png"], "missing.png"),
    (["activations", "{tiny}", "{place}/text.png"], "not an image"),
    (["activations", "{tiny}", "{place}/empty"], "empty: a folder, not an image"),
    (["layers", "--seed", "-1"], "--seed '-1' (accepted: greater than or equal to 0)"),
    (["layers", "--seed", "x"], "--seed 'x' (accepted: a whole number)"),
    (
        ["visualize", "{tiny}", "0", "--sweep", "steps=1", "--sweep", "lr=1", "--sweep", "seed=1"],
        "'lr=1' and 'seed=1' (accepted: one or two settings)",
    ),
    (
        ["visualize", "{tiny}", "0", "--sweep", "steps=1", "--sweep", "steps=2"],
        "'steps=1' and 'steps=2' (accepted: one or two settings)",
    ),
    (["activations", "{tiny}", "{place}/images/a/0.png", "--layer", "fc"], "has no maps"),
    (["activations", "{tiny}", "{place}/images/a/0.png", "--layer", "konv2"], "did you mean 'conv2'?"),
    (["activations", "{tiny}", "{place}/images/a/0.png", "--top", "0"], "top 0"),
    (["patches", "{tiny}", "--data", "{place}/images", "--layer", "konv2"], "did you mean 'conv2'?"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "konv2:1"], "did you mean 'conv2'?"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "conv1:4"], "accepted: 0 to 3"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "conv1:x"], "layer:channel"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "conv1"], "layer:channel"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "class:5"], "layer:channel"),
    (["patches", "{tiny}", "--data", "{place}/images", "--unit", "conv1:1", "--layer", "conv2"], "one of them"),
    (["patches", "{tiny}", "--data", "{place}/images", "-k", "0"], "k 0 (accepted: 1 or more)"),
    (["patches", "{tiny}", "--data", "{place}/images", "-k", "many"], "k 'many' (accepted: a whole number"),
    (["patches", "{tiny}", "--data", "{place}/images", "--batch-size", "0"], "batch_size 0"),
    (["patches", "{tiny}", "--data", "{place}/empty"], "no images in"),
    (["patches", "{tiny}", "--data", "{place}/missing"], "missing"),
    (["patches", "{tiny}", "--data", "{place}/tiny.py"], "tiny.py"),
    (["patches", "{tiny}", "--data", "{place}/text.png"], "text.png"),
    (["neighbors", "{tiny}", "{place}/missing.png", "--data", "{place}/images"], "missing.png"),
    (
        ["neighbors", "{tiny}", "{place}/images/a/0.png", "--data", "{place}/images", "-k", "0"],
        "k 0 (accepted: 1 or more)",
    ),
    (["photos", "-o", "{place}/file"], "can't be written"),
    (["train"], "--data"),
    (["train", "{labeled}", "-o", "{place}/new", "-a", "lenslett"], "did you mean 'lenslet'?"),
    (["train", "{labeled}", "-o", "{place}/new", "-a", "lenslet", "--sizes", "64"], "40:7,48:7,56:5"),
    (["train", "{labeled}", "-o", "{place}/new", "-a", "lenslet", "--batch", "6"], "fewer than one batch of 6"),
    (["train", "{labeled}", "-o", "{place}/new", "-a", "lenslet", "--rate", "0"], "rate 0.0 (accepted: above 0)"),
    (["train", "{labeled}", "-o", "{place}/file"], "can't be written"),
    (["train", "--data", "{place}/images/a", "--val", "{place}/images", "-o", "{place}/new"], "no labels"),
    (["atlas", "build", "{tiny}", "--data", "{place}/empty", "-o", "{place}/new"], "no images in"),
    (["atlas", "build", "{tiny}", "--data", "{place}/images", "-o", "{place}/file"], "can't be written"),
    (["atlas", "build", "{tiny}", "--data", "{place}/images", "-o", "{place}/images"], "images"),
    (
        ["atlas", "build", "{tiny}", "--data", "{place}/images", "-o", "{place}/new", "--first", "0"],
        "first 0 (accepted: 1 or more)",
    ),
    (["atlas", "build", "{tiny}", "--data", "{place}/images", "-o", "{place}/new", "--map", "tsn"], "'tsne'"),
    (["atlas", "serve", "{place}/empty"], "no atlas"),
    (["atlas", "serve", "{place}/missing"], "no atlas"),
    (["atlas", "serve", "--port", "99999"], "--port"),
    (["atlas", "export", "{place}/empty", "-o", "{place}/new"], "no atlas"),
    (["atlas", "export", "{place}/empty"], "--out"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(arguments: list[str], message: str, run: Run, place: Path, tiny: list[str]) -> None:
    before = sorted(place.rglob("*"))
    several = {"{tiny}": tiny, "{labeled}": ["--data", f"{place}/images", "--val", f"{place}/images"]}
    given = [part for a in arguments for part in (several[a] if a in several else [a.format(place=place)])]
    status, out, err = run(*given)
    assert (status, out) == (2, "")
    assert err.startswith("netloupe: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert message in err
    assert [path for path in sorted(place.rglob("*")) if "__pycache__" not in str(path)] == before


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_read_only_folder(run: Run, tiny: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    status, _, err = run("filters", *tiny, "-o", tmp_path / "new")
    assert status == 2
    assert err.startswith("netloupe: ")
    assert "can't be written" in err


def test_python_m_netloupe_exits_with_the_code() -> None:
    found = subprocess.run([sys.executable, "-m", "netloupe", "laers"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run([sys.executable, "-m", "netloupe", "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert found.returncode == 1
    assert found.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        found = subprocess.run([sys.executable, "-m", "netloupe", "--help"], stdout=full, stderr=subprocess.PIPE)
    assert found.returncode == 2
    assert found.stderr.count(b"\n") == 1


# --- how a run ends when the library fails


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "netloupe: stopped; nothing of it is kept; begin anew with: netloupe layers\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), 2, "netloupe: x.png: No space left on device\n"),
        (MemoryError(), 2, f"netloupe: {LESS} (--batch-size, --size, --first, --classes)\n"),
    ],
    ids=["interrupt", "full disk", "memory"],
)
def test_ends(error: BaseException, status: int, message: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netloupe.cli.options.NetworkOptions.load", raiser(error))
    assert run("layers") == (status, "", message)


def test_our_own_faults_keep_their_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netloupe.cli.options.NetworkOptions.load", raiser(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run("layers")


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


# --- results


def test_layers(run: Run, tiny: list[str]) -> None:
    status, out, err = run("layers", *tiny)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].split()[:4] == ["name", "kind", "shape", "parameters"]
    assert lines[1].split()[:5] == ["conv1", "Conv2d", "4x16x16", "112", "3x3"]
    assert len(lines) == 9


def test_layers_json(run: Run, tiny: list[str]) -> None:
    found = json.loads(run("layers", *tiny, "--json")[1])
    assert [layer["name"] for layer in found] == ["conv1", "relu1", "pool1", "conv2", "relu2", "mean", "flat", "fc"]
    assert found[3]["parameters"] == 4 * 6 * 9 + 6
    assert found[3]["receptive_field"]["size"] == [8, 8]


def test_the_seed_decides_untrained_weights(run: Run, tiny: list[str]) -> None:
    first, again, other = (json.loads(run("filters", *tiny, "--json", "--seed", s)[1])["high"] for s in (1, 1, 2))
    assert first == again != other


def _unasked(err: str) -> list[str]:
    """What is said beside the layers that were chosen."""
    return [line for line in err.splitlines() if not line.endswith("NAME for another)")]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["filters"], "layer"),
        (["activations", "{place}/images/a/0.png", "{place}/images/b/0.png"], "images"),
        (["patches", "--data", "{place}/images", "--layer", "conv1", "-k", "2"], "layers"),
        (["patches", "--data", "{place}/images", "--unit", "conv2:5", "-k", "2"], "layers"),
        (["neighbors", "{place}/images/a/0.png", "--data", "{place}/images", "-k", "2"], "queries"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_results(arguments: list[str], key: str, run: Run, place: Path, tiny: list[str], tmp_path: Path) -> None:
    given = [a.format(place=place) for a in arguments]
    status, text, err = run(*given, *tiny)
    assert (status, _unasked(err)) == (0, [])
    assert len(text.splitlines()) >= 1
    status, out, err = run(*given, *tiny, "--json", "-o", tmp_path / "deep" / "out")
    found = json.loads(out)
    assert (status, _unasked(err)) == (0, [])
    assert key in found
    written = sorted(str(path) for path in (tmp_path / "deep" / "out").iterdir())
    assert sorted(found["files"]) == written
    assert {Path(path).suffix for path in written} == {".png", ".npy", ".json"}


def test_a_query_is_its_own_nearest_image(run: Run, place: Path, tiny: list[str]) -> None:
    query = place / "images" / "b" / "1.png"
    found = json.loads(run("neighbors", query, "--data", place / "images", *tiny, "--json")[1])
    assert found["queries"][0]["features"][0]["name"] == "b/1.png"
    assert found["queries"][0]["features"][1]["distance"] > 0


def test_photos(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("photos", "--json", "-o", tmp_path / "photos")
    found = json.loads(out)
    assert status == 0
    assert len(found) > 10
    assert all(photo["origin"] for photo in found)
    for photo in found[:2]:
        with Image.open(photo["file"]) as image:
            assert min(image.size) > 64
    assert run("photos")[1].count("\n") == len(found) + 1


def test_train(run: Run, place: Path, tmp_path: Path) -> None:
    images, model = place / "images", f"{place / 'tiny.py'}:tiny"
    train = ["train", "--data", images, "--val", images, "-o", tmp_path, "--architecture", model, "--device", "cpu"]
    train += ["--size", 16, "--sizes", "16:2", "--batch", 2, "--seed", 3]
    status, out, err = run(*train, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["card"]["labels"] == ["a", "b"]
    assert (found["card"]["recipe"]["seed"], found["card"]["recipe"]["sizes"]) == (3, [[16, 2]])
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert "top-1" in run(*train)[1]  # finished: nothing is trained again
    status, out, err = run("layers", "--model", model, "--weights", found["weights"], "--classes", 2, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)[-1]["shape"] == [2]


def test_atlas(run: Run, place: Path, tiny: list[str], tmp_path: Path) -> None:
    build = ["atlas", "build", *tiny, "--data", place / "images", "-k", 2, "-o", tmp_path / "atlas"]
    status, out, err = run(*build, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["images"] == 5
    assert found["fresh"] is True
    assert "built before" in run(*build)[1]
    status, out, err = run("atlas", "export", tmp_path / "atlas", "-o", tmp_path / "pages")
    assert (status, err) == (0, "")
    count = sum(path.is_file() for path in (tmp_path / "pages").rglob("*"))
    assert f"{count:,} files" in out
    assert (tmp_path / "pages" / "index.html").is_file()


# --- parts


def test_table_aligns_numbers_to_the_right() -> None:
    text = table(("name", "count", "mean"), [("a", 1200, 0.5), ("long name", 7, None), ("c", 0, -1.25e-7)])
    assert text.splitlines() == [
        "name       count       mean",
        "a          1,200        0.5",
        "long name      7          -",
        "c              0  -1.25e-07",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_silent_without_a_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with Bars() as watch:
        watch.part("images", 10).advance(3)
        watch.part("layers", 2).advance(note="of two")
    out, err = capsys.readouterr()
    assert out == ""
    assert ("images" in err and "3/10" in err and "of two" in err) == terminal
    assert bool(err) == terminal
