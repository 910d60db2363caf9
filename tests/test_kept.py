"""What the studio keeps: a folder, commands that make the same bytes, and settings that a picture brings back."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

import netloupe
from kill_helpers import killed, moments
from netloupe.atlas.server import application
from netloupe.cli.app import main
from netloupe.cli.command import command, settled
from netloupe.cli.options import NetworkOptions
from netloupe.core.command import command_line, network_flag, typed
from netloupe.core.errors import InputError
from netloupe.core.lock import held
from netloupe.core.perform import perform
from netloupe.core.task import Task
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT
from netloupe.render.pictures import decode
from netloupe.studio import desk
from netloupe.studio.kept import Kept
from netloupe.studio.live import Live
from netloupe.studio.photos import Shot
from netloupe.studio.studio import Studio
from netloupe.studio.wanted import Wanted
from netloupe.synthesis.facets import highest
from netloupe.synthesis.tasks import Fool, Visualize
from netloupe.synthesis.visualize import visualize
from studio_helpers import encoded, photograph

NETWORK = """
import torch
from atlas_helpers import Tiny

def make():
    torch.manual_seed(0)
    return Tiny()
"""
TRANSFORMER = """
import torch
from attention_helpers import ViT

def make():
    torch.manual_seed(0)
    return ViT("fused")
"""
OPTIONS = {"model": "tiny.py:make", "size": "24x32", "mean": "0.5", "std": "0.25"}
CROP = [10, 20, 70, 100]


class Client:
    """What the page does, without a browser."""

    def __init__(self, folder: Path, options: dict[str, str] = OPTIONS) -> None:
        net = NetworkOptions(**options).load()
        self.studio = Studio(net, kept=Kept(folder, options))
        app = application(None, studio=Live(lambda: self.studio).router)
        self.http = TestClient(app, base_url="http://localhost", headers={"X-Netloupe": "1"})
        self.photo = {"photo": self.put(encoded(photograph()))["id"], "crop": CROP}

    def put(self, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.http.put("/live/photo", content=data).json()
        return found

    def events(self, section: str, settings: dict[str, Any], photo: dict[str, Any] | None) -> list[tuple[str, Any]]:
        asked = {"section": section, "settings": settings, "page": "p", **(photo or {})}
        posted = self.http.post("/live/jobs", json=asked).json()
        assert "job" in posted, posted
        lines = self.http.get(f"/live/jobs/{posted['job']}/events").text.split("\n\n")
        parts = [dict(line.split(": ", 1) for line in one.split("\n")) for one in lines if one.startswith("id: ")]
        return [(part["event"], json.loads(part["data"])) for part in parts]

    def done(self, section: str, settings: dict[str, Any], photo: dict[str, Any] | None) -> dict[str, Any]:
        kind, data = self.events(section, settings, photo)[-1]
        assert kind == "done", data
        found: dict[str, Any] = data
        return found


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(desk, "ABANDONED", 1e4)  # on a busy machine it takes long until a job is listened to
    monkeypatch.setattr(desk, "LONGEST", 1e4)
    (tmp_path / "tiny.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    found = Client(Path("kept"))
    yield found
    found.studio.desk.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("photo.png", "like.png")}


CASES = {
    "hide": ({"about": "conv2:3", "window": 12}, True),
    "layers": ({}, True),
    "pixels": ({"about": "class:1"}, True),
    "hide from a class": ({"about": None, "window": 12}, True),
    "grow": ({"unit": "conv2:5", "steps": 8, "preset": "none", "seed": 2}, False),
    "grow another": ({"unit": "conv2:5", "steps": 8, "preset": "none"}, False),
    "fool": ({"target": 1}, True),
    "dream": ({"layer": "conv2", "side": 64, "octaves": 1, "steps": 2}, True),
    "keep": ({"layer": "conv2", "steps": 3, "quick": True}, True),
    "colors": ({"layer": "conv2", "at": [1, 2]}, True),
    "paint": ({"style": {"scream": 3, "shipwreck": 1}, "side": 64}, True),
    "like a picture": ({"side": 32, "steps": 2}, True),
    "grow quickly": ({"unit": "conv2:5", "steps": 8, "preset": "none", "quick": True}, False),
    "grow from a photo": ({"unit": "class:1", "steps": 8}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_either_command_makes_the_same_bytes(client: Client, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, of_photo = CASES[case]
    photo = client.photo if of_photo else None
    if case.startswith("like"):
        photo = {**client.photo, "like": client.put(encoded(photograph(5)))["id"]}
    kept = client.done("save", {"section": case.partition(" ")[0], "settings": settings}, photo)["kept"]
    told = client.http.get(f"/live/kept/{kept}.json").json()
    first = contents(Path("kept") / kept)
    assert "manifest.json" in first
    assert told["photos"] == ["photo.png", "like.png"][: 2 if case.startswith("like") else int(of_photo)]
    for i, line in enumerate(told["commands"]):
        words = shlex.split(line)
        words[words.index("-o") + 1] = f"made-{i}"
        assert main(words[1:]) == 0, capsys.readouterr().err
        alone = words[1:3] == ["stylenet", "apply"]  # which writes the picture and no manifest
        expected = {"painted.png": first["painted.png"]} if alone else first
        assert contents(Path(f"made-{i}")) == expected
    assert i == (0 if "seed" in settings else 1), "the one seed of the command line is the network's too"
    other = client.done("save", {"section": "layers", "settings": {}}, {**client.photo, "crop": [0, 0, 60, 80]})["kept"]
    assert contents(Path("kept") / other) != first, "so equal bytes mean something"


@pytest.mark.parametrize("origin", [None, [1, 2]])
def test_where_it_looks_is_kept_as_the_command_makes_it(
    client: Client, origin: list[int] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("vit.py").write_text(TRANSFORMER)
    own = Client(Path("looks"), {"model": "vit.py:make", "size": "12x12", "mean": "0.5", "std": "0.25"})
    photo = {**own.photo, "crop": [0, 0, 90, 90]}
    kept = own.done("save", {"section": "looks", "settings": {"origin": origin}}, photo)["kept"]
    first = contents(Path("looks") / kept)
    assert "attention.png" in first
    lines = own.http.get(f"/live/kept/{kept}.json").json()["commands"]
    assert len(lines) > 0
    for i, line in enumerate(lines):
        words = shlex.split(line)
        words[words.index("-o") + 1] = f"looks-{i}"
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert contents(Path(f"looks-{i}")) == first
    other = own.done("save", {"section": "looks", "settings": {"origin": [2, 0]}}, photo)["kept"]
    assert contents(Path("looks") / other)["attention.png"] != first["attention.png"]
    own.studio.desk.close()


def test_the_commands_find_a_network_whose_files_lie_elsewhere(
    client: Client, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file given by an absolute path a manifest holds the name alone."""
    away = tmp_path_factory.mktemp("away")
    (away / "net.py").write_text(NETWORK)
    torch.save({k: v + 0.01 for k, v in client.studio.net.module.state_dict().items()}, away / "net.pt")
    (away / "names.txt").write_text("elk\nemu\neel\nauk\n")
    named = {"model": f"{away}/net.py:make", "weights": f"{away}/net.pt", "labels": f"{away}/names.txt"}
    own = Client(Path("own"), {**OPTIONS, **named})
    kept = own.done("save", {"section": "hide", "settings": {"about": "class:1", "window": 12}}, own.photo)["kept"]
    first = contents(Path("own") / kept)
    lines = own.http.get(f"/live/kept/{kept}.json").json()["commands"]
    assert len(lines) == 2
    for i, line in enumerate(lines):
        words = shlex.split(line)
        words[words.index("-o") + 1] = f"own-{i}"
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert contents(Path(f"own-{i}")) == first
    own.studio.desk.close()


def test_what_was_kept_survives_a_restart_and_is_told_of(client: Client) -> None:
    settings = {"unit": "conv2:5", "steps": 16, "preset": "none", "seed": 2}
    kept = client.done("save", {"section": "grow", "settings": settings}, None)["kept"]
    again = Client(Path("kept"))
    (one,) = again.http.get("/live/kept.json").json()["kept"]
    assert (one["id"], one["verb"], one["films"]) == (kept, "visualize", ["climb.gif"])
    changed = {each["name"]: each["value"] for each in one["settings"] if not each["usual"]}
    assert {name: changed[name] for name in ("objective", "steps", "preset", "seed")} == {
        "objective": "conv2:5", "steps": "16", "preset": "none", "seed": "2",
    }  # fmt: skip
    page = again.http.get(f"/live/kept/{kept}/page.html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.text.count("data:image/") >= 2
    assert re.search(r", \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</p>", page.text), "for people"
    gif = again.http.get(f"/live/kept/{kept}/climb.gif")
    assert (gif.headers["content-type"], gif.content[:4]) == ("image/gif", b"GIF8")
    again.studio.desk.close()


def test_a_picture_brings_its_settings_back(client: Client) -> None:
    settings = {"about": "conv2:3", "window": 12}
    kept = client.done("save", {"section": "hide", "settings": settings}, client.photo)["kept"]
    one = client.http.get(f"/live/kept/{kept}.json").json()
    told = client.put((Path("kept") / kept / one["pictures"][0]).read_bytes())["told"]
    assert (told["verb"], told["own"], told["section"], told["settings"]) == ("occlude", True, "hide", settings)
    grow = {"unit": "conv2:5", "steps": 8, "preset": "none", "seed": 2}
    kept = client.done("save", {"section": "grow", "settings": grow}, None)["kept"]
    told = client.put((Path("kept") / kept / "visualization.png").read_bytes())["told"]
    assert (told["section"], told["settings"]) == ("grow", grow)
    assert client.put(_plain())["told"] is None


def _plain() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def test_only_what_was_kept_is_on_disk_and_only_that_is_served(client: Client) -> None:
    client.done("layers", {}, client.photo)
    assert not Path("kept").exists()
    kept = client.done("save", {"section": "layers", "settings": {}}, client.photo)["kept"]
    assert [path.name for path in Path("kept").iterdir()] == [kept]
    (Path("kept") / kept / "secret.png").write_bytes(b"x")
    (Path("kept") / "else").mkdir()
    for path in (f"{kept}/secret.png", f"{kept}/..%2F..%2Ftiny.py", "else.json", "..%2Fkept.json", "else/x.png"):
        assert client.http.get(f"/live/kept/{path}").status_code == 404, path
    assert len(client.http.get("/live/kept.json").json()["kept"]) == 1


def test_a_run_that_fails_or_is_stopped_leaves_nothing(client: Client) -> None:
    dead = {"section": "grow", "settings": {"unit": "conv2:3", "steps": 8, "preset": "simonyan"}}
    kind, data = client.events("save", dead, None)[-1]
    assert kind == "failed", data
    assert not any(Path("kept").glob("*/*"))
    for settings in (None, {"section": "save"}, {"section": "nothing"}, {"section": ["grow"]}):
        asked = {"section": "save", "settings": settings, "page": "p", **client.photo}
        assert client.http.post("/live/jobs", json=asked).status_code == 400, settings


def test_a_keep_that_is_killed_leaves_nothing_that_lingers(client: Client) -> None:
    task = Visualize.of({"objective": ["conv2:5"], "steps": 1, "preset": "none"})
    net, photo = client.studio.net, Shot(photograph())
    made = perform(task, net, {"start": photo})
    wanted = Wanted(task, net, {"start": photo}, made=made)
    place = Path("kept")

    def run() -> None:
        Kept(place).keep(wanted, SILENT)

    count = len(moments(run, place))
    assert count > 8, "so there are moments to be killed at"
    shutil.rmtree(place)
    whole = 0
    for moment in range(1, count + 1):
        assert killed(run, place, moment)
        Kept(place).clear()
        names = [path.name for path in place.iterdir()] if place.exists() else []
        assert not any(name.startswith(".") for name in names), (moment, names)
        assert len(Kept(place).all()) == len(names)
        whole += len(names)
        shutil.rmtree(place, ignore_errors=True)
    assert 0 < whole < count, "some were killed before it lay there, some after"
    place.mkdir()
    (place / ".mine.new").mkdir()
    with held(place / "fool-0123456789", "studio"):
        (place / ".fool-0123456789.new").mkdir()
        thread = threading.Thread(target=Kept(place).clear)
        thread.start()
        thread.join()
        assert (place / ".fool-0123456789.new").exists(), "another run is at it"
    assert (place / ".mine.new").exists(), "that is none of ours"


SHEETS: list[tuple[str, dict[str, Any], list[Any], str]] = [
    ("fool", {"target": "1"}, [["epsilon", ["2/255", "8/255"]], ["method", ["fgsm", "pgd"]]], "fool"),
    ("dream", {"layer": "conv2", "side": 64, "octaves": 1, "steps": 2}, [["lr", [0.006, 0.05]]], "dream"),
    ("grow", {"unit": "conv2:5", "steps": 8, "preset": "none"}, [["seed", ["0", "1"]], ["steps", [8, 9]]], "visualize"),
    ("like", {"side": 32, "steps": 2}, [["content_weight", ["0", "1"]]], "style"),
]


@pytest.mark.parametrize(("section", "settings", "axes", "verb"), SHEETS, ids=[one[0] for one in SHEETS])
def test_a_sheet_is_what_the_command_makes_and_is_gone_on_with(
    client: Client,
    section: str,
    settings: dict[str, Any],
    axes: list[Any],
    verb: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = None if section == "grow" else client.photo
    if section == "like":
        photo = {**client.photo, "like": client.put(encoded(photograph(5)))["id"]}
    of = {"section": section, "settings": settings}
    told = client.events("sheet", {"of": of, "axes": axes}, photo)
    there = [data for kind, data in told if kind == "picture" and data["there"]]
    count = math.prod(len(values) for _, values in axes)
    assert [one["cell"] for one in there] == list(range(count))
    assert [{"src": one["src"], "facts": one["facts"]} for one in there] == told[-1][1]["cells"]
    assert (told[-1][1]["made"], len({one["src"] for one in there})) == (count, count)
    kept = client.done("save", {"section": "sheet", "settings": {"of": of, "axes": axes}}, photo)["kept"]
    one = client.http.get(f"/live/kept/{kept}.json").json()
    first = contents(Path("kept") / kept)
    assert (one["verb"], one["pictures"], list(one["sweep"])) == (verb, ["sweep.png"], [name for name, _ in axes])
    for i, line in enumerate(one["commands"]):
        words = shlex.split(line)
        words[words.index("-o") + 1] = f"made-{i}"
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert contents(Path(f"made-{i}")) == first
    (name, values), *others = axes
    wider = [[name, [*values, *values[:1], {"fool": "4/255", "seed": "7"}.get(name, "0.5")]], *others]
    of = {"section": "kept", "settings": {"id": kept}}
    again = client.done("sheet", {"of": of, "axes": wider}, None)
    assert len(again["cells"]) == count // len(values) * (len(values) + 1), "what was given twice is there once"
    assert again["made"] == count // len(values), "only the new values are made"
    assert again["cells"][: len(values)] == told[-1][1]["cells"][: len(values)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "nothing to make a contact sheet of"),
        ({"of": {"section": "hide", "settings": {}}, "axes": [["window", [1]]]}, "occlude, which makes no images"),
        ({"of": {"section": "rival", "settings": {}}, "axes": [["seed", [1]]]}, "can't be kept"),
        ({"of": {"section": "sheet", "settings": {}}}, "nothing to make a contact sheet of"),
        ({"of": {"section": "kept", "settings": {"id": "no"}}, "axes": [["seed", [1]]]}, "nothing is kept as 'no'"),
        ({"of": {"section": "like", "settings": {}}, "axes": [["seed", [1]]]}, "no styles for 'Paint like a picture'"),
        ({"axes": None}, "no settings for a contact sheet"),
        ({"axes": [["seed", []]]}, "no values for a contact sheet"),
        ({"axes": [["seed", [[1]]]]}, "no values for a contact sheet"),
        ({"axes": [["sure", [True]]]}, "no values for a contact sheet"),
        ({"axes": [["lr", ["fast"]]]}, "lr 'fast'"),
        ({"axes": [["lrr", [1]]]}, "did you mean 'lr'"),
        ({"axes": [["seed", [1]], ["seed", [2]]]}, "one setting twice"),
        ({"axes": [["steps", [601]]]}, "steps 601 (accepted here: up to 600)"),
        ({"axes": [["seed", list(range(37))]]}, "37 cells (accepted: up to 36)"),
        ({"axes": [["seed", [-1]]]}, "seed -1"),
    ],
)
def test_a_sheet_that_is_none_is_refused(client: Client, settings: dict[str, Any], said: str) -> None:
    of = {"of": {"section": "fool", "settings": {"target": "1"}}}
    given = settings if "of" in settings or not settings else {**of, **settings}
    asked = {"section": "sheet", "settings": given, "page": "p", **client.photo}
    answer = client.http.post("/live/jobs", json=asked)
    assert answer.status_code in (400, 404)
    assert said in answer.json()["message"]


def test_growing_shows_frames_and_ends_at_the_librarys_image(client: Client) -> None:
    net = client.studio.net
    for text, more in (("conv2:3", {}), ("class:1", {}), ("class:1", {"quick": True})):
        told = client.events("grow", {"unit": text, "steps": 32, "seed": 1, **more}, None)
        frames = [data for kind, data in told if kind == "picture"]
        made = visualize(net, text, steps=32, seed=1, **more)
        assert len(frames) >= 8
        assert len({one["src"] for one in frames}) == len(frames)
        end = told[-1][1]
        assert np.array_equal(_picture(end["src"]), made.pictures()["visualization"])
        assert frames[-1]["value"] == pytest.approx(end["value"])
        assert end["value"] == pytest.approx(float(highest(net, torch.from_numpy(made.images), Unit.parse(text))[0]))
        assert end["value"] > frames[0]["value"]


def _picture(src: str) -> np.ndarray:
    return decode(base64.b64decode(src.partition(",")[2]))


def test_a_command_line_is_read_back_as_the_task() -> None:
    tasks: list[tuple[Task, dict[str, list[str]]]] = [
        (Visualize.of({"objective": ["logit(1) - 0.5 * l2()", "conv2:3"], "size": "24x32", "lr": 0.1, "seed": 7}), {}),
        (Fool.of({"target": "dog", "epsilon": "8/255"}), {"images": ["a b.png", "-c.png"]}),
    ]
    for task, given in tasks:
        words = command_line(task, given, {"size": "64"}, "out")
        assert words[:2] == ["netloupe", task.verb]
        read = _read(task, words[2:])
        assert read == (task.as_json(), given, "64")
    assert (network_flag(Visualize, "size"), network_flag(Fool, "size")) == ("--network-size", "--size")
    with pytest.raises(InputError, match="made in Python"):
        command_line(Visualize.of({"objective": ["conv2:3"], "optimizer": object()}), {}, {})


def test_a_command_is_told_as_it_can_be_typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` puts the program where the shell does not look for it."""
    program, python = tmp_path / "a venv" / "bin" / "netloupe", tmp_path / "a venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    for one in (program, python):
        one.write_text("#!/bin/sh\n")
        one.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(sys, "executable", str(python))
    line, there = "netloupe again out/x -o again", "'a venv/bin/{}'"
    module = Path(netloupe.__file__).with_name("__main__.py")
    for called, first in (
        (program, there.format("netloupe")),
        (module, there.format("python") + " -m netloupe"),
        ("/usr/lib/pytest/__main__.py", "netloupe"),
    ):
        monkeypatch.setattr(sys, "argv", [str(called)])
        assert typed(line) == line.replace("netloupe", first, 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert shlex.split(typed(line))[0] == str(program)
    monkeypatch.setenv("PATH", str(program.parent))
    assert typed(line) == line


def _read(task: Task, words: list[str]) -> tuple[Any, dict[str, list[str]], str]:
    """What the command makes of words: settings, texts of inputs, and the network's size."""
    found: list[Any] = []

    def run(kind: type[Task], network: Any, given: dict[str, Any]) -> None:
        texts = {one.name: given.pop(one.name) for one in kind.inputs}
        made, texts = settled(kind, given, texts, network.seed)
        found.extend([made.as_json(), {name: text for name, text in texts.items() if text}, network.size])

    app = typer.Typer()
    app.command()(command(type(task), then=run))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return found[0], found[1], found[2]
