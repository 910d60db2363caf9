"""What a saved state is of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netloupe.core.errors import StoreError
from netloupe.core.identity import Identity


def test_facts_come_back_from_json_the_same() -> None:
    identity = Identity(sizes=((40, 7), (48, 7)), classes={3: "koala"}, recipe={"rate": 0.1, "mean": (0.5,)})
    assert identity == {"sizes": [[40, 7], [48, 7]], "classes": {"3": "koala"}, "recipe": {"rate": 0.1, "mean": [0.5]}}
    assert identity.differs(json.loads(json.dumps(identity))) is None
    assert identity.differs(dict(reversed(identity.items()))) is None


@pytest.mark.parametrize(
    ("saved", "difference"),
    [
        ({"k": 3, "recipe": {"rate": 0.1}}, ("k", 3, 9)),
        ({"k": 9, "recipe": {"rate": 0.2}}, ("recipe.rate", 0.2, 0.1)),
        ({"k": 9, "recipe": {}}, ("recipe.rate", None, 0.1)),
        ({"k": 9, "recipe": {"rate": 0.1, "seed": 1}}, ("recipe.seed", 1, None)),
        ({"k": 9, "recipe": [1]}, ("recipe", [1], {"rate": 0.1})),
        ({}, ("k", None, 9)),
    ],
)
def test_the_difference_is_named(saved: dict[str, object], difference: tuple[str, object, object]) -> None:
    assert Identity(k=9, recipe={"rate": 0.1}).differs(saved) == difference


def test_the_error_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Identity(k=9).check({"k": 9}, path, "sweep")
    with pytest.raises(StoreError, match=r"state is of another sweep, its k: 3, now: 9; delete it to start anew$"):
        Identity(k=9).check({"k": 3}, path, "sweep")
    with pytest.raises(StoreError) as error:
        Identity(layers=[f"conv{i}" for i in range(99)]).check({"layers": []}, path, "sweep")
    assert len(str(error.value)) < len(str(path)) + 130
