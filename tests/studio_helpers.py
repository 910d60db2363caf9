"""A studio without a browser, a photo for it, and what the network sees of that."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient
from PIL import Image

from netloupe.atlas.server import application
from netloupe.core.network import Network
from netloupe.data.images import as_seen, fit, to_float
from netloupe.render.pictures import decode
from netloupe.studio.live import Live
from netloupe.studio.studio import Studio

CROP = [10, 20, 70, 100]  # of a photo of 90 x 120 px, in the proportions of the input


def photograph(seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Client:
    """What the page does, without a browser."""

    def __init__(self, net: Network) -> None:
        self.studio = Studio(net)
        app = application(None, studio=Live(lambda: self.studio).router)
        self.http = TestClient(app, base_url="http://localhost", headers={"X-Netloupe": "1"})
        self.photo = self.http.put("/live/photo", content=encoded(photograph())).json()["id"]

    def asked(self, **more: Any) -> dict[str, Any]:
        return {"photo": self.photo, "crop": CROP, **more}

    def post(self, section: str, **settings: Any) -> int:
        number: int = self.http.post("/live/jobs", json=self.asked(section=section, settings=settings)).json()["job"]
        return number

    def events(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        """All that a job tells, to its end."""
        lines = self.http.get(f"/live/jobs/{number}/events").text.split("\n\n")
        parts = [dict(line.split(": ", 1) for line in one.split("\n")) for one in lines if one.startswith("id: ")]
        assert [int(part["id"]) for part in parts] == list(range(len(parts)))
        return [(part["event"], json.loads(part["data"])) for part in parts]

    def done(self, section: str, **settings: Any) -> dict[str, Any]:
        kind, data = self.events(self.post(section, **settings))[-1]
        assert kind == "done", data
        return data


def part(net: Network) -> tuple[torch.Tensor, np.ndarray]:
    """The crop as the network sees it, and as people do."""
    top, left, bottom, right = CROP
    cut = photograph().crop((left, top, right, bottom))
    return to_float(fit(cut, net.inputs.size, 3))[None], as_seen(cut, net.inputs.size)


def picture(src: str) -> np.ndarray:
    return decode(base64.b64decode(src.partition(",")[2]))
