"""Two networks look at one photo."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from atlas_helpers import tiny_network
from netloupe.analysis.gradients import gradient
from netloupe.analysis.occlusion import occlusion
from netloupe.core import objectives as obj
from netloupe.core.errors import UnknownName
from netloupe.core.network import Network
from netloupe.data.images import as_seen, fit, to_float
from netloupe.render.colors import overlay
from netloupe.render.pictures import decode
from netloupe.studio import desk
from netloupe.studio.comparing import compare
from netloupe.studio.desk import Job, Order
from netloupe.studio.photos import Photo, seen_of
from netloupe.studio.studio import Studio
from studio_helpers import photograph


def job() -> Job:
    return Job(1, Order("compare", lambda job: {}))


def networks() -> dict[str, Network]:
    """The second knows a class less by name, and takes smaller images."""
    return {"one": tiny_network(), "other": tiny_network(seed=1)}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "ABANDONED", 1e4)
    monkeypatch.setattr(desk, "LONGEST", 1e4)


def test_it_is_what_the_library_finds_of_each(patient: None) -> None:
    nets = networks()
    photo = photograph()
    seen = {name: seen_of(photo, net.inputs) for name, net in nets.items()}
    found = compare(nets, seen, {"class": "dog"}, job())
    costs = {}
    for side, (name, net) in zip(found["sides"], nets.items(), strict=True):
        pixels = to_float(fit(photo, net.inputs.size, 3))[None]
        assert (side["name"], side["label"]) == (name, "dog")
        assert [(one["label"], pytest.approx(one["probability"], abs=1e-6)) for one in side["top"]] == net.predict(
            pixels
        )[0]
        window = max(2, round(min(net.inputs.size) / 7))
        made = occlusion(net, pixels, obj.probability(1), window, max(1, window // 2))
        costs[name] = made.heat()[0]
        assert side["clean"] == pytest.approx(float(made.clean[0]))
    high = max(float(np.abs(cost).max()) for cost in costs.values())
    assert found["high"] == pytest.approx(high)
    for side, (name, net) in zip(found["sides"], nets.items(), strict=True):
        shown = overlay(as_seen(photo, net.inputs.size), costs[name], high, signed=True)
        assert np.array_equal(decode(base64.b64decode(side["pictures"]["hide"].partition(",")[2])), shown), "one scale"
    pooled = [torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(c)[None], 14).flatten() for c in costs.values()]
    assert found["alike"]["hide"] == pytest.approx(spearmanr(*pooled).statistic, abs=1e-6)
    maps = [gradient(net, seen[name].pixels, obj.logit(1)).abs().sum(1) for name, net in nets.items()]
    assert maps[0].std() > 0


def test_a_network_is_wholly_like_itself_and_others_are_less(patient: None) -> None:
    net, photo = tiny_network(), photograph()
    seen = seen_of(photo, net.inputs)
    same = compare({"a": net, "b": net}, {"a": seen, "b": seen}, {}, job())["alike"]
    assert set(same) >= {"hide", "gradient"}
    assert all(value is None or math.isclose(value, 1) for value in same.values())
    other = compare(networks(), dict.fromkeys(networks(), seen), {}, job())["alike"]
    assert all(value is None or value < 0.99 for value in other.values())


def test_a_class_that_one_does_not_know_is_told(patient: None) -> None:
    nets = networks()
    nets["other"] = Network(nets["other"].module, nets["other"].inputs, ["ant", "bee", "cow", "doe"])
    seen = {name: seen_of(photograph(), net.inputs) for name, net in nets.items()}
    found = compare(nets, seen, {"class": "eel"}, job())
    assert [side["label"] for side in found["sides"]] == ["eel", found["sides"][1]["top"][0]["label"]]


def test_only_networks_that_were_named_at_the_start_can_be_compared() -> None:
    studio = Studio(tiny_network(), Photo("first", photograph()), others={"other": tiny_network(seed=1)})
    asked = {"section": "compare", "photo": "first", "crop": [0, 0, 60, 80], "page": "p"}
    with pytest.raises(UnknownName, match="accepted: other"):
        studio.post({**asked, "settings": {"with": "torchvision:resnet18"}})
    posted = studio.post({**asked, "settings": {"with": "other"}})
    made = studio.desk.job(posted["job"])
    assert made is not None
    told = [one for one in made.listen() if one is not None][-1][1]
    assert told.kind == "done", told.data
    assert [side["name"] for side in told.data["sides"]] == ["tiny", "other"]
    assert studio.document()["others"] == ["other"]
    studio.desk.close()
