"""`netloupe audit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netloupe.cli import app as cli

FACTORY = """
import torch
from torch import nn

def corner():
    linear = nn.Linear(3 * 16 * 16, 2)
    weights = torch.zeros(16, 16)
    weights[:4, :4] = 0.5
    with torch.no_grad():
        linear.weight[:] = torch.stack([-weights, weights]).repeat_interleave(3, 0).reshape(2, -1)
        linear.bias[:] = torch.tensor([15.6, -15.6])
    return nn.Sequential(nn.Flatten(), linear)
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`netloupe audit` on noise, of which class b is light in the top left corner, and one image that is broken."""
    (tmp_path / "corner.py").write_text(FACTORY)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    rng = np.random.default_rng(0)
    for i in range(24):
        image = rng.uniform(0.3, 0.7, (16, 16, 3))
        image[:4, :4] += 0.3 * (i % 2)
        file = tmp_path / "images" / "ab"[i % 2] / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(file)
    (tmp_path / "images" / "b" / "broken.png").write_text("no image")

    def call(*arguments: object) -> tuple[int, str, str]:
        model = ["--model", f"{tmp_path / 'corner.py'}:corner", "--size", "16", "--labels", tmp_path / "labels.txt"]
        given = ["audit", *model, "--device", "cpu", "--data", tmp_path / "images", *arguments]
        status = cli.main([str(a) for a in given])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_command(run: Run, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({f"{i:02}.png": [0, 0, 7, 7] for i in range(24)}))
    status, out, err = run("--boxes", boxes, "-o", tmp_path / "out")
    assert status == 0
    assert "Can't be read: b/broken.png" in err
    lines = out.splitlines()
    assert lines[0] == ("1 class suspected: b (2 of 2 classes tested for a place, 2 for the background, 24 images).")
    assert lines[1].startswith("b relies on the top left corner (rows 0 to ")
    assert next(line for line in lines if line.startswith("class")).split()[:3] == ["class", "place", "hiding"]
    assert "background" in out
    assert (tmp_path / "out" / "audit.html").read_text().startswith("<!doctype html>")


def test_json(run: Run) -> None:
    status, out, _ = run("--json", "--per-class", 10, "--tested", 1, "--method", "integrated_gradients")
    assert status == 0
    found = json.loads(out)
    assert found["images"] == 20
    assert len(found["places"]) == 1
    assert found["backgrounds"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "gradcam"], "no method 'gradcam'; did you mean 'grad_cam'"),
        (["--per-class", "0"], "per_class 0 (accepted: 8 or more)"),
        (["--per-class", "7"], "per_class 7 (accepted: 8 or more)"),
        (["--data", "digits"], "is labeled with other classes (0, 1, 2, 10 in all)"),
        (["--first", "8"], "classes with 8 images or more: 1 of 1 (accepted: 2, so"),
        (["--data", "nowhere"], "no images at 'nowhere'"),
        (["--boxes", "none.json"], "boxes can't be read"),
    ],
)
def test_mistakes_end_in_one_line(run: Run, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
