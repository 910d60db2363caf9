"""The sentence on each method, from figures that are given."""

from __future__ import annotations

from typing import Any

import pytest

from netloupe.studies.trust.words import verdict

SCORES: dict[str, Any] = {"half_random": 0.3, "all_random": 0.1, "rival": 0.2, "other_image": 0.3, "pointing": None}
SCORES["beats"] = {"random": ["deletion", "insertion"], "center": ["deletion", "insertion"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "Depends on the weights: with all of them random its maps are 0.10 alike"),
        ({"all_random": 0.5}, "Partly draws the photograph"),
        ({"all_random": 0.6}, "Draws edges, not reasons"),
        (
            {"half_random": 0.7},
            "Hardly notices random weights: with half of the layers random its maps stay 0.70 alike",
        ),
        ({}, "depends on the target (0.20 alike for its rival)"),
        ({"rival": 0.7}, "says little about the target"),
        ({"rival": 0.9}, "says next to nothing about the target"),
        ({"other_image": 0.7}, "marks much the same place in every image (0.70 alike)"),
        ({"pointing": 0.25}, "points at the object in 25% of the images, the center in 50%."),
        ({}, "deletion and insertion beat a random order and the center."),
    ],
)
def test_verdicts(change: dict[str, float], said: str) -> None:
    assert said in verdict(SCORES | change, 0.5)


@pytest.mark.parametrize(
    ("random", "center", "said"),
    [
        (
            ["deletion", "insertion"],
            ["deletion"],
            "deletion and insertion beat a random order, but not the center at ins",
        ),
        (["deletion", "insertion"], [], "deletion and insertion beat a random order, but not the center."),
        (["deletion"], ["deletion"], "deletion beats a random order and the center."),
        (["deletion"], ["insertion"], "deletion beats a random order, but not the center."),
        ([], ["deletion"], "the pixels it marks do not clearly matter more than random ones."),
    ],
)
def test_verdicts_on_curves(random: list[str], center: list[str], said: str) -> None:
    assert said in verdict(SCORES | {"beats": {"random": random, "center": center}}, None)


def test_what_was_not_measured_is_not_said() -> None:
    said = verdict(SCORES | {"rival": None, "other_image": None}, None)
    assert "rival" not in said
    assert "every image" not in said
    assert "object" not in said
