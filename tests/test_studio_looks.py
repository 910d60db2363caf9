"""Where tokens look, and tokens in color, as the studio tells them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from atlas_helpers import tiny_network
from attention_helpers import HEADS, PATCH, SIDE, fresh
from netloupe.analysis.attention.measure import attention_maps
from netloupe.analysis.tokens import tokens
from netloupe.core.network import Network
from netloupe.render.colors import diverging, heat
from test_studio import Client, part, picture

GRID = SIDE // PATCH


@pytest.fixture(scope="module")
def net() -> Network:
    return fresh(prefix=2)


@pytest.fixture(scope="module")
def client(net: Network) -> Iterator[Client]:
    made = Client(net)
    yield made
    made.studio.desk.close()


@pytest.mark.parametrize("origin", [None, [1, 2]])
def test_every_heads_map_is_the_librarys(client: Client, net: Network, origin: list[int] | None) -> None:
    found = client.done("looks", origin=origin)
    expected = attention_maps(net, part(net)[0], origin=None if origin is None else (1, 2))
    assert (found["from"], found["place"], found["skipped"]) == (expected.origin, origin, {})
    assert [one["layer"] for one in found["layers"]] == list(net.attentions)
    for one in found["layers"]:
        maps = expected.looks[one["layer"]].maps
        assert one["grid"] == [GRID, GRID]
        assert one["peaks"] == pytest.approx(maps.max((1, 2)), rel=1e-6)
        sheet = picture(one["sheet"])
        assert sheet.shape == (GRID, HEADS * GRID, 3)
        for head in range(HEADS):
            assert np.array_equal(sheet[:, head * GRID : (head + 1) * GRID], heat(maps[head]))


def test_from_elsewhere_it_looks_elsewhere(client: Client) -> None:
    sheets = [client.done("looks", origin=origin)["layers"][0]["sheet"] for origin in (None, [0, 0], [2, 1])]
    assert len(set(sheets)) == 3


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("looks", {"origin": [3, 0]}, "position (3, 0) (accepted: row 0 to 2, column 0 to 2)"),
        ("looks", {"origin": ["a", 0]}, "origin ['a', 0]"),
        ("looks", {"origin": {"y": 1}}, "origin {'y': 1}"),
        ("colors", {"layer": "blocks.1", "at": [0, 3]}, "place 0,3 (accepted: up to 2,2)"),
        ("colors", {"layer": "blocks.9"}, "no layer 'blocks.9'"),
        ("colors", {"layer": ["blocks.1"]}, "layer ['blocks.1']"),
    ],
)
def test_what_is_not_there_is_one_line(client: Client, section: str, settings: dict[str, object], message: str) -> None:
    kind, told = client.events(client.post(section, **settings))[-1]
    assert kind == "failed"
    assert message in told["message"]


def test_positions_in_color_are_the_librarys(client: Client, net: Network) -> None:
    (layer, grid) = list(client.http.get("/live/studio.json").json()["colored"].items())[-1]
    assert (layer, grid) == ("blocks.2", [GRID, GRID])
    found = client.done("colors", layer=layer, at=[1, 2])
    expected = tokens(net, part(net)[0], layer, at=(1, 2))
    assert expected.likeness is not None
    assert np.array_equal(picture(found["colors"]), (expected.colors[0] * 255).round().astype(np.uint8))
    assert np.array_equal(picture(found["likeness"]), diverging(expected.likeness[0], 1.0))
    assert found["explained"] == pytest.approx(expected.explained)
    assert (found["grid"], found["outliers"]) == ([GRID, GRID], int(expected.outliers.sum()))
    assert client.done("colors", layer=layer)["likeness"] is None


def test_the_place_itself_is_as_red_as_can_be(client: Client) -> None:
    found = client.done("colors", layer="blocks.0", at=[2, 0])
    assert np.array_equal(picture(found["likeness"])[2, 0], diverging(np.ones((1, 1)), 1.0)[0, 0])


def test_a_network_without_attention_says_so_and_has_colors() -> None:
    net = tiny_network()
    client = Client(net)
    told = client.http.get("/live/studio.json").json()
    assert told["attentions"] == []
    assert told["colored"] == {name: list(net.layers[name].shape[1:]) for name in ("pool", "conv2")}
    kind, answer = client.events(client.post("looks"))[-1]
    assert (kind, answer["message"][:26]) == ("failed", "tiny has no attention that")
    found = client.done("colors", layer="conv2", at=[0, 0])
    expected = tokens(net, part(net)[0], "conv2")
    assert np.array_equal(picture(found["colors"]), (expected.colors[0] * 255).round().astype(np.uint8))
    client.studio.desk.close()


def test_a_transformer_shows_its_blocks_layer_by_layer(client: Client, net: Network) -> None:
    assert list(client.http.get("/live/studio.json").json()["layers"]) == ["blocks.0", "blocks.1", "blocks.2"]
    with torch.no_grad():
        values = net.activations(part(net)[0], ["blocks.1"])["blocks.1"][0]
    row = next(one for one in client.done("layers")["rows"] if one["layer"] == "blocks.1")
    assert row["peaks"] == pytest.approx(sorted(values.amax((1, 2)).tolist(), reverse=True)[:8])
