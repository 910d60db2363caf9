"""What the studio makes of a photo: fooled, inverted, dreamed, painted; and that it is what the library makes."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from atlas_helpers import tiny_network
from netloupe.analysis.baselines import baseline_images
from netloupe.core import objectives as obj
from netloupe.core.network import Network
from netloupe.data.images import fit, to_float
from netloupe.render.pictures import from_pixels
from netloupe.studio import desk
from netloupe.studio.desk import uri
from netloupe.studio.sections import SECTIONS
from netloupe.stylenet.model import load_styles
from netloupe.synthesis.dream import dream
from netloupe.synthesis.fool import fool
from netloupe.synthesis.invert import invert
from netloupe.synthesis.style import style
from studio_helpers import CROP, Client, encoded, part, photograph, picture


@pytest.fixture(scope="module")
def net() -> Network:
    return tiny_network()


@pytest.fixture(scope="module")
def client(net: Network) -> Iterator[Client]:
    made = Client(net)
    yield made
    made.studio.desk.close()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pictures are told, however fast they come."""
    monkeypatch.setattr(desk, "_BETWEEN", 0)


def cut() -> torch.Tensor:
    """The crop at its own resolution, (1, 3, H, W)."""
    top, left, bottom, right = CROP
    return to_float(np.asarray(photograph().crop((left, top, right, bottom))))[None]


def told(client: Client, section: str, more: dict[str, Any] | None = None, **settings: Any) -> tuple[Any, Any]:
    """The pictures of a job, and what it tells at the end."""
    asked = client.asked(section=section, settings=settings, **(more or {}))
    events = client.events(client.http.post("/live/jobs", json=asked).json()["job"])
    assert events[-1][0] == "done", events[-1]
    return [data for kind, data in events if kind == "picture"], events[-1][1]


def test_fooling_climbs_with_both_bars_and_ends_as_the_library(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    pictures, found = told(client, "fool", target=3, epsilon="16/255", method="pgd")
    expected = fool(net, pixels, 3, epsilon=16 / 255, method="pgd")
    assert np.array_equal(picture(found["src"]), from_pixels(expected.images[0]))
    assert found["bars"][0] == pytest.approx(float(expected.probability[0]), abs=1e-6)
    assert found["start"][0] == pytest.approx(float(expected.probability_before[0]), abs=1e-6)
    assert (found["fooled"], found["steps"]) == (bool(expected.fooled[0]), int(expected.steps[0]))
    assert found["names"] == [net.head.labels[3], net.head.labels[int(expected.before[0])]]
    assert len(pictures) == 30
    for one in pictures:  # each bar is that of the picture beside it
        shown = to_float(picture(one["src"]))[None]
        assert one["bars"][0] == pytest.approx(float(net.probabilities(shown)[0, 3].detach()), abs=1e-5)
    climbed = [one["bars"][0] for one in pictures]
    assert climbed[-1] > climbed[0] > found["start"][0]


def test_a_class_to_fool_it_into_is_kept_by_its_name(net: Network) -> None:
    kept = SECTIONS["fool"].kept
    assert kept is not None
    assert [kept(net, {"target": index}).as_json()["target"] for index in (1, 9)] == [["dog"], ["9"]]
    unnamed = Network(net.module, net.inputs)
    assert kept(unnamed, {"target": 1}).as_json()["target"] == ["1"]


def test_an_inversion_is_the_librarys(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    pictures, found = told(client, "keep", layer="conv2", steps=24)
    expected = invert(net, pixels, "conv2", steps=24)
    assert np.array_equal(picture(found["src"]), from_pixels(expected.images[0]))
    assert found["feature_error"] == pytest.approx([float(expected.errors[0, 0])])
    assert found["psnr"] == pytest.approx([float(expected.psnr[0, 0])])
    assert len(pictures) == 12
    assert client.http.get("/live/studio.json").json()["kept"] == ["conv1", "conv2", "fc"]


@pytest.mark.parametrize("layer", ["conv2", "conv1:3", "class:1"])
def test_a_dream_is_the_librarys(client: Client, net: Network, layer: str) -> None:
    pictures, found = told(client, "dream", layer=layer, octaves=2, steps=4, lr=0.02, side=48)
    side = round(60 * 48 / 60), round(80 * 48 / 60)
    top, left, bottom, right = CROP
    pixels = to_float(fit(photograph().crop((left, top, right, bottom)), side, 3))[None]
    expected = dream(net, pixels, layer, octaves=2, steps=4, lr=0.02, side=48)
    assert np.array_equal(picture(found["src"]), from_pixels(expected.images[0]))
    assert (found["size"], found["score"]) == ([48, 64], pytest.approx(float(expected.scores[0])))
    assert not np.array_equal(picture(found["src"]), from_pixels(pixels[0].numpy()))
    assert len(pictures) == 4


def test_painting_is_the_style_networks(client: Client) -> None:
    blend = {"scream": 2.0, "starry-night": 1.0, "shipwreck": 0.0}
    _, found = told(client, "paint", style=blend)
    expected = load_styles()(cut(), blend)[0].numpy()
    assert np.array_equal(picture(found["src"]), from_pixels(expected))
    assert found["shares"] == {"scream": 0.6667, "starry-night": 0.3333}
    assert client.http.get("/live/studio.json").json()["styles"] == list(load_styles().styles)


def test_painting_like_a_picture_is_the_librarys(client: Client, net: Network) -> None:
    other = client.http.put("/live/photo", content=encoded(photograph(5))).json()["id"]
    pictures, found = told(client, "like", {"like": other}, steps=6)
    expected = style(net, cut(), to_float(np.asarray(photograph(5))), steps=6, side=160)
    assert np.array_equal(picture(found["src"]), from_pixels(expected.images[0]))
    assert len(pictures) == 3
    assert found["style"] < found["before"]


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        ("fool", {}, "fool without target"),
        ("fool", {"target": "wolf"}, "no class 'wolf'"),
        ("fool", {"target": 9}, "no class 9"),
        ("fool", {"target": 1, "epsilon": -1}, "epsilon -1"),
        ("fool", {"target": 1, "method": "magic"}, "no method 'magic'"),
        ("keep", {"layer": "conv9"}, "no layer 'conv9'"),
        ("keep", {"steps": 10_000}, "steps 10000 (accepted here: up to 600)"),
        ("keep", {"steps": True}, "steps True"),
        ("dream", {"layer": "conv2", "side": 5000}, "side 5000 (accepted here: up to 512)"),
        ("dream", {"layer": "conv2", "octaves": 8, "side": 20}, "fewer octaves"),
        ("dream", {"layer": ["conv2"]}, "conv2"),
        ("paint", {"style": {"cubism": 1}}, "no style 'cubism'"),
        ("paint", {"style": {"scream": 0}}, "at least one above 0"),
        ("paint", {"style": 7}, "style"),
        ("like", {}, "no picture to paint it like"),
    ],
)
def test_mistakes_are_one_sentence(client: Client, section: str, settings: dict[str, Any], said: str) -> None:
    number = client.http.post("/live/jobs", json=client.asked(section=section, settings=settings)).json()["job"]
    kind, data = client.events(number)[-1]
    assert kind == "failed"
    assert said in data["message"]
    assert "\n" not in data["message"]
    assert "terminal" not in data["message"]  # no fault of ours


def test_a_picture_to_paint_it_like_is_one_that_was_sent(client: Client) -> None:
    answer = client.http.post("/live/jobs", json=client.asked(section="like", like="nope"))
    assert (answer.status_code, answer.json()["message"]) == (404, "that photo is not kept any more; choose it again")


STOPPED: list[tuple[str, dict[str, Any]]] = [
    ("fool", {"target": 3, "epsilon": "1/255", "method": "pgd"}),
    ("keep", {"layer": "conv1", "steps": 600}),
    ("dream", {"layer": "conv1", "steps": 40}),
    ("pixels", {"about": "class:1", "whole": True}),
]


@pytest.mark.parametrize(("section", "settings"), STOPPED, ids=[name for name, _ in STOPPED])
def test_after_a_stop_all_is_as_on_a_fresh_server(
    section: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(picture: np.ndarray, kind: str = "PNG") -> str:
        time.sleep(0.05)  # so that there is time for a stop
        return uri(picture, kind)

    monkeypatch.setattr(desk, "uri", slowly)
    fresh, made = Client(tiny_network()), Client(tiny_network())
    number = made.post(section, **settings)
    job = made.studio.desk.job(number)
    assert job is not None
    seen = []
    for one in job.listen():
        seen += [] if one is None else [one[1].kind]
        if seen.count("picture") == 2:
            made.http.delete(f"/live/jobs/{number}")
    assert seen[-1] == "cancelled"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.studio.net.module.modules())
    for name, more in (("keep", {"layer": "conv2", "steps": 10}), ("hide", {"about": "class:2"})):
        assert made.done(name, **more) == fresh.done(name, **more), name
    for one in (fresh, made):
        one.studio.desk.close()


def test_looks_come_in_between_the_passes_of_a_climb(
    client: Client, net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(picture: np.ndarray, kind: str = "PNG") -> str:
        time.sleep(0.05)  # so that there is time for looks
        return uri(picture, kind)

    monkeypatch.setattr(desk, "uri", slowly)
    look = client.asked(about="conv2:3", seen=True)
    alone = client.http.post("/live/look", json=look).json()
    number = client.post("keep", layer="conv2", steps=60)
    job = client.studio.desk.job(number)
    assert job is not None
    answers = []
    while not job.over:
        answers.append(client.http.post("/live/look", json=look).json())
    assert len(answers) > 2
    assert all(one == alone for one in answers)
    kind, found = client.events(number)[-1]
    assert kind == "done"
    expected = invert(net, part(net)[0], "conv2", steps=60)
    assert np.array_equal(picture(found["src"]), from_pixels(expected.images[0])), "nor do looks change what is made"


def test_a_painted_mask_hides_as_occlusion_does(client: Client, net: Network) -> None:
    pixels, _ = part(net)
    where = np.zeros((24, 32), bool)
    where[3:9, 5:20] = True
    where[20, 31] = True
    mask = base64.b64encode(np.packbits(where).tobytes()).decode()
    found = client.http.post("/live/look", json=client.asked(mask=mask, seen=True, about="class:1")).json()
    expected = torch.where(torch.from_numpy(where), baseline_images(net, pixels, "mean"), pixels)
    assert found["about"] == pytest.approx(float(net.read(expected, obj.logit(1))[0].detach()), abs=1e-5)
    assert np.array_equal(picture(found["seen"]), from_pixels(expected[0].numpy()))
    for wrong in ("AAAA", "*", 7, ["x"], ""):
        answer = client.http.post("/live/look", json=client.asked(mask=wrong))
        assert answer.status_code == 400
        assert "(accepted: 96 in base64, a bit for each pixel)" in answer.json()["message"]


@pytest.mark.parametrize("unit", ["conv1:4", "conv2:60", "fc:2"])
def test_what_a_unit_answers_is_its_peak(client: Client, net: Network, unit: str) -> None:
    pixels, _ = part(net)
    layer, _, channel = unit.partition(":")
    found = client.http.post("/live/look", json=client.asked(unit=unit)).json()["unit"]
    values = net.activations(pixels, [layer])[layer][0, int(channel)].detach().numpy()
    assert found["value"] == pytest.approx(float(values.max()))
    y, x = found["position"]
    if values.ndim == 2:
        assert values[y, x] == values.max()
    assert tuple(found["box"]) == net.layers[layer].patch(y, x, (24, 32))


@pytest.mark.parametrize(
    ("unit", "said"),
    [("conv1", "is no channel"), ("conv1:99", "no channel 99"), ("nope:1", "no layer 'nope'"), (7, "is no unit")],
)
def test_a_unit_that_is_none_is_told(client: Client, unit: Any, said: str) -> None:
    answer = client.http.post("/live/look", json=client.asked(unit=unit))
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_frame_is_looked_at_and_not_kept(client: Client, net: Network) -> None:
    kept = dict(client.studio.photos._photos)
    found = client.http.put("/live/frame", content=encoded(photograph(3), "PNG")).json()
    pixels = to_float(fit(photograph(3), (24, 32), 3))[None]
    (expected,) = net.predict(pixels)
    assert [(one["label"], pytest.approx(one["probability"], abs=1e-6)) for one in found["top"]] == expected
    assert client.studio.photos._photos == kept
    answer = client.http.put("/live/frame", content=b"no image")
    assert answer.status_code == 415
