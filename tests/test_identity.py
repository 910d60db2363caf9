"""What a saved state is of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netloupe.core.errors import StoreError
from netloupe.core.identity import Identity, Stamped


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


@pytest.mark.parametrize(
    ("names", "stamps", "told"),
    [
        ("abc", "xyz", None),
        ("abc", "xuz", "b changed since"),
        ("abc", "uyv", "a and 1 more changed since"),
        ("ab", "xy", "its images.count: 2, now: 3"),
        ("abd", "xyz", "the names of its images are others now"),
    ],
)
def test_of_many_things_it_says_which_changed(tmp_path: Path, names: str, stamps: str, told: str | None) -> None:
    saved = json.loads(json.dumps(Identity(images=Stamped(list(names), list(stamps)))))
    now = Identity(images=Stamped(list("abc"), list("xyz")))
    if told is None:
        now.check(saved, tmp_path, "sweep")
    else:
        with pytest.raises(StoreError, match=f"is of another sweep, {told}; delete it to start anew"):
            now.check(saved, tmp_path, "sweep")


def test_a_saved_identity_grows_little_with_what_it_is_of() -> None:
    many = Stamped([f"folder/photo-{i}.jpg" for i in range(1000)], [f"{i} 2026" for i in range(1000)])
    assert len(json.dumps(Identity(images=many))) < 8 * 1000 + 100
