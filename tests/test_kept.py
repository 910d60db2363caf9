"""What the studio keeps: a folder, commands that make the same bytes, and settings that a picture brings back."""

from __future__ import annotations

import base64
import io
import json
import shlex
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

from netloupe.atlas.server import application
from netloupe.cli.app import main
from netloupe.cli.command import command, settled
from netloupe.cli.options import NetworkOptions
from netloupe.core.command import command_line, network_flag
from netloupe.core.errors import InputError
from netloupe.core.task import Task
from netloupe.core.units import Unit
from netloupe.render.pictures import decode
from netloupe.studio import desk
from netloupe.studio.kept import Kept
from netloupe.studio.live import Live
from netloupe.studio.studio import Studio
from netloupe.synthesis.facets import highest
from netloupe.synthesis.tasks import Fool, Visualize
from netloupe.synthesis.visualize import visualize

NETWORK = """
import torch
from atlas_helpers import Tiny

def make():
    torch.manual_seed(0)
    return Tiny()
"""
OPTIONS = {"model": "tiny.py:make", "size": "24x32", "mean": "0.5", "std": "0.25"}
CROP = [10, 20, 70, 100]


class Client:
    """What the page does, without a browser."""

    def __init__(self, folder: Path) -> None:
        net = NetworkOptions(**OPTIONS).load()
        self.studio = Studio(net, kept=Kept(folder, OPTIONS))
        app = application(None, studio=Live(lambda: self.studio).router)
        self.http = TestClient(app, base_url="http://localhost", headers={"X-Netloupe": "1"})
        small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC).save(buffer, "PNG")
        self.photo = {"photo": self.put(buffer.getvalue())["id"], "crop": CROP}

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
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "photo.png"}


CASES = {
    "hide": ({"about": "conv2:3", "window": 12}, True),
    "layers": ({}, True),
    "pixels": ({"about": "class:1"}, True),
    "hide from a class": ({"about": None, "window": 12}, True),
    "grow": ({"unit": "conv2:5", "steps": 8, "preset": "none", "seed": 2}, False),
    "grow another": ({"unit": "conv2:5", "steps": 8, "preset": "none"}, False),
    "fool": ({"target": "1"}, True),
    "dream": ({"layer": "conv2", "side": 64, "octaves": 1, "steps": 2}, True),
    "keep": ({"layer": "conv2", "steps": 3}, True),
    "grow from a photo": ({"unit": "class:1", "steps": 8}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_either_command_makes_the_same_bytes(client: Client, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings, of_photo = CASES[case]
    photo = client.photo if of_photo else None
    kept = client.done("save", {"section": case.partition(" ")[0], "settings": settings}, photo)["kept"]
    told = client.http.get(f"/live/kept/{kept}.json").json()
    first = contents(Path("kept") / kept)
    assert "manifest.json" in first
    assert bool(told["photo"]) == of_photo
    for i, line in enumerate(told["commands"]):
        words = shlex.split(line)
        words[words.index("-o") + 1] = f"made-{i}"
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert contents(Path(f"made-{i}")) == first
    assert i == (0 if "seed" in settings else 1), "the one seed of the command line is the network's too"
    other = client.done("save", {"section": "layers", "settings": {}}, {**client.photo, "crop": [0, 0, 60, 80]})["kept"]
    assert contents(Path("kept") / other) != first, "so equal bytes mean something"


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


def test_growing_shows_frames_and_ends_at_the_librarys_image(client: Client) -> None:
    net = client.studio.net
    for text in ("conv2:3", "class:1"):
        told = client.events("grow", {"unit": text, "steps": 32, "seed": 1}, None)
        frames = [data for kind, data in told if kind == "picture"]
        made = visualize(net, text, steps=32, seed=1)
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
