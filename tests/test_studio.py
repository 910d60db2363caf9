"""The studio: photos that are sent, looks, jobs and what they tell, and what hostile requests get."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from atlas_helpers import tiny_network
from netloupe.analysis.activations import activation_maps
from netloupe.analysis.explain.evidence import mapped_by
from netloupe.analysis.explain.figure import overlay_picture
from netloupe.analysis.methods import METHODS, Method
from netloupe.analysis.occlusion import occlusion
from netloupe.atlas.server import application
from netloupe.core import objectives as obj
from netloupe.core.errors import NetloupeError
from netloupe.core.network import Network
from netloupe.render.colors import enlarged, heat, strength
from netloupe.studio import desk
from netloupe.studio.desk import Desk, Job, Order
from netloupe.studio.live import BYTES
from netloupe.studio.photos import opened
from netloupe.studio.refusal import Refused
from netloupe.studio.sections import SECTIONS
from studio_helpers import Client, encoded, part, photograph, picture


@pytest.fixture(scope="module")
def net() -> Network:
    return tiny_network()


@pytest.fixture(scope="module")
def client(net: Network) -> Iterator[Client]:
    made = Client(net)
    yield made
    made.studio.desk.close()


def test_a_look_is_what_predict_gives(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    found = client.http.post("/live/look", json=client.asked(seen=True, about="conv2:3")).json()
    (expected,) = net.predict(pixels)
    assert [(one["label"], pytest.approx(one["probability"], abs=1e-6)) for one in found["top"]] == expected
    assert found["about"] == pytest.approx(float(net.read(pixels, obj.unit("conv2:3"))[0].detach()))
    assert np.array_equal(picture(found["seen"]), (pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    other = client.http.post("/live/look", json={**client.asked(), "crop": [0, 0, 60, 80]}).json()
    assert [one["probability"] for one in other["top"]] != [one["probability"] for one in found["top"]]


def test_what_is_hidden_is_hidden_as_occlusion_does(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    window = occlusion(net, pixels, obj.probability(1), 6, 3)
    box = window.windows.box(2, 4)
    found = client.http.post("/live/look", json=client.asked(hidden=list(box))).json()["top"]
    (score,) = (one["probability"] for one in found if one["index"] == 1)
    assert score == pytest.approx(float(window.scores[0, 2, 4]), abs=1e-5)


def test_layers_are_those_of_activation_maps(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    rows = client.done("layers")["rows"]
    assert [row["layer"] for row in rows] == ["conv1", "conv2"]
    expected = activation_maps(net, pixels, ["conv1", "conv2"], top=8)
    for row in rows:
        channels = expected.strongest(row["layer"], 0)
        assert row["channels"] == channels
        maps = expected.maps[row["layer"]][0]
        assert row["peaks"] == pytest.approx([float(maps[c].max()) for c in channels])
        sheet, width = picture(row["sheet"]), maps.shape[2]
        for i, channel in enumerate(channels):
            assert np.array_equal(sheet[:, i * width : (i + 1) * width], heat(maps[channel], row["peaks"][0]))


def applies(method: Method, net: Network, pixels: torch.Tensor) -> bool:
    try:
        method.attribution(net, pixels, obj.logit(2))
    except NetloupeError:
        return False
    return True


def test_every_methods_map_comes_as_the_library_makes_it(client: Client, net: Network) -> None:
    pixels, shown = part(net)
    events = client.events(client.post("pixels", about="class:2"))
    pictures = {data["name"]: data["src"] for kind, data in events if kind == "picture"}
    able = [name for name in METHODS if applies(METHODS[name], net, pixels)]
    assert {"gradient", "grad_cam", "occlusion"} <= set(able) < set(METHODS)  # those of attention have nothing here
    assert list(pictures) == sorted(able, key=lambda name: METHODS[name].passes)
    for name, src in pictures.items():
        method = METHODS[name]
        one = mapped_by(method, method.attribution(net, pixels, obj.logit(2)))
        assert not one.zero
        assert np.array_equal(picture(src), overlay_picture(one, shown)), name
    assert events[-1] == ("done", {})
    assert not any(data.get("part") == "methods" for kind, data in events if kind == "progress")


def test_figures_of_trust_come_where_they_are_wanted(client: Client) -> None:
    found = client.done("pixels", about="class:2", whole=True)
    assert {"gradient", "grad_cam", "occlusion"} <= found["figures"].keys() < METHODS.keys()
    assert found["rival"] in tiny_network().head.labels
    assert 0 <= found["figures"]["gradient"]["deletion"] <= 1


def test_hiding_fills_in_and_ends_as_the_library_says(
    client: Client, net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_BETWEEN", 0)
    monkeypatch.setattr("netloupe.core.trace.windows.BATCH", 16)
    pixels, _ = part(net)
    events = client.events(client.post("hide", about="class:2", window=6, stride=3))
    frames = [picture(data["src"]) for kind, data in events if kind == "picture"]
    known = [int((frame != 128).any(axis=2).sum()) for frame in frames]
    assert len(frames) >= 5
    assert known == sorted(known)
    assert 0 < known[0] < known[-1] == 7 * 10 == frames[0].size // 3
    found = events[-1][1]
    expected = occlusion(net, pixels, obj.probability(2), 6, 3)
    assert np.abs(np.array(found["scores"]) - expected.scores[0]).max() < 1e-5
    assert np.ptp(found["scores"]) > 1e-3
    assert found["clean"] == pytest.approx(float(expected.clean[0]))
    shown = enlarged(expected.heat()[0], picture(found["overlay"]).shape[:2])
    assert found["strongest"] == pytest.approx(strength(shown), abs=1e-5), "what the deepest color stands for"
    assert found["strongest"] > 1e-3


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side px."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">I", zlib.crc32(head))
        + struct.pack(">I", 9)
        + b"IDAT"
        + b"\0" * 50
    )


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"\xff" * (BYTES + 1), 413, "more than 20 MB"),
        (b"", 415, "not an image that can be read (accepted: JPEG, PNG, WebP)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "accepted: JPEG, PNG, WebP"),
        (encoded(photograph(), "GIF"), 415, "accepted: JPEG, PNG, WebP"),
        (encoded(photograph(), "TIFF"), 415, "accepted: JPEG, PNG, WebP"),
        (encoded(photograph(), "BMP"), 415, "accepted: JPEG, PNG, WebP"),
        (encoded(photograph(), "JPEG")[:900], 415, "the photo: can't be read"),
        (bomb(60_000), 400, "million"),
        (bomb(7_000), 400, "49 million pixels (accepted: up to 40 million)"),
        (encoded(photograph().resize((3, 90))), 400, "90 x 3 px (accepted: sides of 4 or more)"),
    ],
    ids=["large", "empty", "svg", "gif", "tiff", "bmp", "cut short", "bomb", "many pixels", "thin"],
)
def test_uploads_are_bounded(client: Client, sent: bytes, status: int, said: str) -> None:
    answer = client.http.put("/live/photo", content=sent)
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_a_photo_is_made_anew_of_its_pixels(client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "secret place"
    sent = encoded(photograph().resize((1800, 1200)), "JPEG", exif=exif)
    found = client.http.put("/live/photo", content=sent).json()
    assert found["size"] == [1600, 1067]
    answer = client.http.get(f"/live/photo/{found['id']}.webp")
    assert b"secret" not in answer.content
    assert Image.open(io.BytesIO(answer.content)).size == (1067, 1600)
    assert opened(sent).mode == "RGB"


def test_photos_are_forgotten(net: Network) -> None:
    made = Client(net)
    for seed in range(1, 17):
        made.http.put("/live/photo", content=encoded(photograph(seed)))
    answer = made.http.post("/live/look", json=made.asked())
    assert (answer.status_code, answer.json()["message"]) == (404, "that photo is not kept any more; choose it again")
    made.studio.desk.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop": [0, 0, 900, 900]}, "within 90 x 120 px"),
        ({"crop": [0, 0, float("nan"), 9]}, "accepted: [top, left, bottom, right] px"),
        ({"crop": "all"}, "accepted: [top, left, bottom, right] px"),
        ({"photo": ["x"]}, "not kept any more"),
        ({"photo": "sample-../../etc/passwd"}, "no photo '../../etc/passwd'"),
        ({"section": "dig"}, "no section 'dig'"),
        ({"section": None}, "no section 'None'"),
        ({"settings": {"about": "class:7"}, "run": True}, "class"),
        ({"settings": {"about": "conv9:1"}}, "no layer 'conv9'"),
        ({"settings": {"about": "logit(" * 80}}, "is no objective"),
        ({"settings": [1]}, "settings are no object"),
        (
            {"section": "hide", "settings": {"window": 900}, "run": True},
            "window 900 (accepted: a whole number from 2 to 24)",
        ),
        ({"section": "hide", "settings": {"window": True}, "run": True}, "a whole number from 2 to 24"),
        ({"section": "hide", "settings": {"stride": 99}, "run": True}, "a whole number from 1 to"),
    ],
)
def test_mistakes_are_one_sentence(client: Client, change: dict[str, Any], said: str) -> None:
    asked = {"section": "layers", **client.asked(), **{k: v for k, v in change.items() if k != "run"}}
    if change.get("run") and asked["section"] == "layers":
        asked["section"] = "pixels"
    answer = client.http.post("/live/jobs", content=json.dumps(asked))
    if change.get("run") and answer.status_code == 200:
        kind, data = client.events(answer.json()["job"])[-1]
        assert kind == "failed"
        assert said in data["message"]
    else:
        assert answer.status_code in (400, 404)
        assert said in answer.json()["message"]
        assert "\n" not in answer.json()["message"]


def test_only_its_own_page_may_ask(client: Client) -> None:
    asked = json.dumps(client.asked())
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert client.http.post("/live/look", content=asked, headers=headers).status_code == 403, headers
    plain = TestClient(client.http.app, base_url="http://localhost")
    for method, path in (("POST", "look"), ("POST", "jobs"), ("PUT", "photo"), ("DELETE", "jobs/1")):
        answer = plain.request(method, f"/live/{path}", content=asked)
        assert (answer.status_code, answer.json()["message"]) == (403, "only the studio's own page may ask for that")
    assert client.http.post("/live/look", content=asked, headers={"Origin": "http://localhost"}).status_code == 200
    for body in (b"", b"[]", b"{" * 100_000, b'{"a":' * 2000, b"\xff"):
        assert client.http.post("/live/jobs", content=body).status_code in (400, 413)


def test_the_page_is_told_of_the_studio_and_only_where_there_is_one(client: Client) -> None:
    assert '<meta name="netloupe-studio" content="alone">' in client.http.get("/").text
    assert "netloupe-studio" not in TestClient(application(None), base_url="http://localhost").get("/").text
    found = client.http.get("/live/studio.json").json()
    assert found["name"] == "tiny"
    assert found["input"] == {"size": [24, 32], "channels": 3}
    assert found["sections"]["hide"]["title"] == "occlude"
    assert len(found["samples"]) == 8
    for sample in found["samples"]:
        assert client.http.get(f"/live/photo/{sample['id']}.webp").headers["content-type"] == "image/webp"
    assert client.http.get("/live/photo/nope.webp").status_code == 404
    assert client.http.get("/live/jobs/999/events").status_code == 404


class Slow:
    """Work that goes on until it is cancelled, or for so many steps."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.started = threading.Event()

    def __call__(self, job: Job) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        try:
            told = job.part("steps", 1000)
            for _ in range(1000):
                time.sleep(0.005)
                told.advance()
            return {}
        finally:
            self.running -= 1


def ended(job: Job, seconds: float = 20) -> str:
    for one in job.listen():
        if one is not None and one[1].last:
            return one[1].kind
    raise AssertionError


def test_the_latest_of_a_section_wins_and_never_two_run() -> None:
    made, work = Desk(), Slow()
    with ThreadPoolExecutor(20) as threads:
        jobs = list(threads.map(lambda _: made.post(Order("a", work)), range(20)))
    last = max(jobs, key=lambda job: job.number)
    other = made.post(Order("b", lambda job: {"answer": 42}))
    assert all(ended(job) == "cancelled" for job in jobs if job is not last)
    last.cancel()
    assert ended(last) == "cancelled"
    assert ended(other) == "done"
    assert work.most == 1
    made.close()


def test_twenty_posts_at_once_never_run_two_jobs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Slow()
    for name, section in SECTIONS.items():
        slow = replace(section, run=lambda net, seen, settings, job: work(job))
        monkeypatch.setitem(SECTIONS, name, slow)
    with ThreadPoolExecutor(20) as threads:
        numbers = list(threads.map(lambda i: client.post(list(SECTIONS)[i % 3], window=i), range(20)))
    assert len(set(numbers)) == 20
    assert work.started.wait(20)
    late = time.monotonic() + 20
    while len(client.studio.desk.of("")) > 3 and time.monotonic() < late:
        time.sleep(0.01)  # the one at work may be another's already, and hears of it at its next step
    assert len(client.studio.desk.of("")) <= 3  # one of each section
    for number in numbers:
        client.http.delete(f"/live/jobs/{number}")
    ends = [client.events(number)[-1] for number in numbers]
    assert all(end == ("cancelled", {"message": "stopped"}) for end in ends)
    assert work.most == 1


def test_what_is_asked_again_is_the_job_that_there_is(net: Network) -> None:
    made = Client(net)
    asked = made.asked(section="layers", page="a")
    assert made.http.post("/live/jobs", json={**asked, "known": True}).json() == {
        "job": None,
        "title": "Layer by layer",
    }
    first = made.http.post("/live/jobs", json=asked).json()["job"]
    whole = made.events(first)
    for more in ({}, {"known": True}):
        assert made.http.post("/live/jobs", json={**asked, **more}).json()["job"] == first
    assert made.events(first) == whole
    assert made.http.get(f"/live/jobs/{first}/events?after={len(whole) - 1}").text.count("id: ") == 1
    for more in ({"page": "b"}, {"crop": [0, 0, 60, 80]}, {"settings": {"about": "class:1"}}):
        assert made.http.post("/live/jobs", json={**asked, **more}).json()["job"] != first, more
    made.studio.desk.close()


def test_what_was_stopped_is_done_anew(net: Network) -> None:
    made, work = Desk(), Slow()
    order = Order("a", work, page="p", asked="this")
    first = made.post(order)
    assert work.started.wait(20)
    assert made.post(order) is first
    assert [job.number for job in made.of("p")] == [first.number]
    assert made.of("q") == []
    first.cancel()
    assert ended(first) == "cancelled"
    second = made.post(order)
    assert second is not first
    made.close()


def test_a_job_says_how_long_it_will_take() -> None:
    made = Desk()

    def work(job: Job) -> dict[str, Any]:
        told = job.part("steps", 40, done=10)
        for _ in range(30):
            time.sleep(0.03)
            told.advance()
        return {}

    events = [one[1].data for one in made.post(Order("a", work)).listen() if one is not None]
    known = [(one["total"] - one["done"], one["left"]) for one in events if one.get("left") is not None]
    assert len(known) > 3
    assert all(left >= 0.03 * steps for steps, left in known)
    assert events[0]["left"] is None
    assert known[-1][1] == 0
    made.close()


def test_of_many_pictures_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_BETWEEN", 0)
    monkeypatch.setattr(desk, "_HELD", 3)
    made = Desk()

    def work(job: Job) -> dict[str, Any]:
        job.beside = lambda name, image: {"mean": float(image.mean())}
        for i in range(8):
            job.picture("image 0", torch.full((3, 2, 2), i / 8))
        return {"answer": 1}

    job = made.post(Order("a", work))
    assert ended(job) == "done"
    heard = [one for one in job.listen() if one is not None]
    assert [number for number, _ in heard] == [5, 6, 7, 8]
    assert [event.data["mean"] for _, event in heard[:-1]] == [5 / 8, 6 / 8, 7 / 8]
    made.close()


def test_a_job_ends_that_nobody_listens_to_and_one_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "ABANDONED", 0.2)
    made, work = Desk(), Slow()
    job = made.post(Order("a", work))
    until = time.monotonic() + 20
    while not (job.events and job.events[-1].last):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert job.events[-1].kind == "cancelled"
    monkeypatch.setattr(desk, "ABANDONED", 100)
    monkeypatch.setattr(desk, "LONGEST", 0.2)
    assert ended(made.post(Order("a", work))) == "cancelled"
    made.close()


def test_a_fault_of_one_job_is_not_the_next_ones(capsys: pytest.CaptureFixture[str]) -> None:
    made = Desk()

    def broken(job: Job) -> dict[str, Any]:
        raise ZeroDivisionError

    def refused(job: Job) -> dict[str, Any]:
        raise Refused("no such thing")

    said = {"message": "this did not work; the terminal says why"}
    assert list(made.post(Order("a", broken)).listen())[-1] == (0, desk.Event("failed", said))
    assert list(made.post(Order("a", refused)).listen())[-1] == (0, desk.Event("failed", {"message": "no such thing"}))
    assert ended(made.post(Order("a", lambda job: {}))) == "done"
    assert "ZeroDivisionError" in capsys.readouterr().err
    made.close()


def test_after_a_cancelled_job_all_is_as_it_was(net: Network) -> None:
    fresh = Client(tiny_network())
    expected = fresh.done("hide", about="class:2")
    made = Client(net)
    number = made.post("pixels", about="class:1", whole=True)
    made.http.delete(f"/live/jobs/{number}")
    assert made.events(number)[-1][0] in ("cancelled", "done")
    assert made.done("hide", about="class:2") == expected
    assert not any(module._forward_hooks for module in net.module.modules())
    for one in (fresh, made):
        one.studio.desk.close()
