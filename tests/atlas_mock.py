"""A made-up atlas export, for working on the page and testing it without a network."""

from __future__ import annotations

import io
import json
import math
import random
import shutil
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw

import netloupe.atlas

INPUT = (60, 80)  # height, width
TILE = {"columns": 8, "size": 120, "count": 32}
MAPS = {"columns": 8, "size": 64}
PROJECTION = 80  # px of a tile
PER_BLOCK = {"images": 200, "units": 64}
LABELS = [
    "goldfish",
    "espresso",
    'say "hi" & <b>bold</b>',
    "red panda",
    "lighthouse",
    "acoustic guitar",
    "pizza",
    "school bus",
]
GAPS = {
    7: "broken.jpg",
    21: "holidays/a very long name of a photograph, 2019-08-14.png",
}  # skipped images, which keep their numbers
NEVER = len(LABELS) - 1  # the class that no image shows and none is taken for


def write_mock(
    folder: Path, *, channels: tuple[int, ...] = (32, 512), images: int = 60, photographs: tuple[Path, ...] = ()
) -> None:
    """Writes the page and all its resources to `folder`; the same arguments give the same files.

    Image numbers are 0 to `images` - 1, without those in GAPS.

    One convolution for each number in `channels`, the last called `features.3.relu~2`, then a layer whose
    name has a slash and a space in it, then a linear layer. Channel 1 of each layer is dead, image 3 has no
    label. The pictures are drawn, or taken from `photographs` as far as they go.
    """
    static = Path(netloupe.atlas.__file__).parent / "static"
    shutil.copytree(static, folder / "static", ignore=shutil.ignore_patterns("index.html"), dirs_exist_ok=True)
    shutil.copy(static / "index.html", folder / "index.html")
    rows = [_image_row(index) for index in range(images) if index not in GAPS]
    pictures = {row["id"]: _picture(place, row, photographs) for place, row in enumerate(rows)}
    layers = _layers(channels)
    for row in rows:
        _save(pictures[row["id"]].resize((256, 192)), folder / "img" / f"{row['id']}.webp")
        _write_image(folder, row, rows, layers)
    for start in range(0, images, PER_BLOCK["images"]):
        block = [row for row in rows if start <= row["id"] < start + PER_BLOCK["images"]]
        _write(folder / "data" / "images" / f"{start // PER_BLOCK['images']}.json", {"images": block})
    for layer in layers:
        _write_layer(folder, layer, rows, pictures)
    wrong = [row for row in rows if row["label"] not in (None, row["prediction"])]
    _write(folder / "data" / "examples.json", {"surest": rows[:8], "mistaken": wrong[:8]})
    _write(folder / "data" / "network.json", _network(layers, images, len(rows)))


def _network(layers: list[dict], images: int, kept: int) -> dict:
    return {
        "format": 10,
        "name": "mocknet",
        "source": "made-up photos",
        "created": "2026-01-31T12:00:00Z",
        "input": {"size": list(INPUT), "channels": 3},
        "images": kept,
        "pictures": {"of": "all", "kept": kept},
        "images_per_block": PER_BLOCK["images"],
        "units_per_block": PER_BLOCK["units"],
        "labels": LABELS,
        "source_classes": None,
        "labeled": True,
        "accuracy": {"top1": 0.553, "top5": 0.79, "count": kept},
        "skipped": [
            {"id": number, "name": name, "reason": "not an image"} for number, name in GAPS.items() if number < images
        ],
        "parameters": sum(layer["parameters"] for layer in layers),
        "tile": TILE,
        "maps": {**MAPS, "sizes": [[MAPS["size"]] * 2] * sum(len(layer["shape"]) == 3 for layer in layers)},
        "per_photograph": None,
        "projections": {"rule": "deconvnet", "missing": None, "columns": 3, "size": PROJECTION},
        "map": None,
        "unit_map": None,
        "synthesis": None,
        "layers": layers,
        "provenance": {
            "network": "sha256:0123456789abcdef",
            "seed": 0,
            "versions": {"netloupe": "0.1.0", "torch": "2.6.0"},
        },
    }


def _layers(channels: tuple[int, ...]) -> list[dict]:
    layers = []
    for index, width in enumerate(channels):
        name = "features.3.relu~2" if index == len(channels) - 1 else f"conv{index + 1}"
        size = [min(7 + 16 * index, side * 2) for side in INPUT]
        field = {"size": size, "stride": [2 ** min(index, 3)] * 2, "exact": index == 0, "whole": False}
        layers.append(
            _layer(name, "Conv2d" if index == 0 else "ReLU", [width, 60 >> min(index, 3), 80 >> min(index, 3)], field)
        )
    whole = {"size": list(INPUT), "stride": [1, 1], "exact": True, "whole": True}
    layers.append(_layer("mixed/5b pool", "MaxPool2d", [9, 8, 10], whole))
    layers.append(_layer("fc", "Linear", [200], whole))
    return layers


def _layer(name: str, kind: str, shape: list[int], field: dict) -> dict:
    typical = [channel for channel in range(0, shape[0], max(1, shape[0] // 12)) if channel != 1][:12]
    parameters = 0 if kind in ("ReLU", "MaxPool2d") else shape[0] * 148
    common = {"name": name, "kind": kind, "shape": shape, "parameters": parameters}
    return {
        **common,
        "receptive_field": field,
        "dead": 1,
        "typical": typical,
        "alike": {"random": 0.41, "channels": 0.63},
        "classes": False,
        "repeats": None,
        "synthesized": None,
    }


def _image_row(index: int) -> dict:
    chance = random.Random(index)
    label = index % NEVER
    guess = label if chance.random() < 0.6 else (label + 1) % NEVER
    named = None if index == 3 else LABELS[label]
    common = {"id": index, "name": f"folder {label}/photo-{index:04d}.jpg", "label": named}
    return {**common, "prediction": LABELS[guess], "index": guess, "probability": 0.3 + 0.69 * chance.random()}


def _picture(place: int, row: dict, photographs: tuple[Path, ...]) -> Image.Image:
    if place < len(photographs):
        with Image.open(photographs[place]) as photograph:
            return photograph.convert("RGB").resize((INPUT[1], INPUT[0]))
    chance = random.Random(1000 + row["id"])
    hue = 360 * row["index"] // len(LABELS)
    picture = Image.new("RGB", (INPUT[1], INPUT[0]), f"hsl({hue}, 35%, {chance.randint(35, 75)}%)")
    draw = ImageDraw.Draw(picture)
    for _ in range(14):
        x, y, radius = chance.randint(0, INPUT[1]), chance.randint(0, INPUT[0]), chance.randint(3, 16)
        fill = f"hsl({(hue + chance.randint(-50, 50)) % 360}, {chance.randint(30, 90)}%, {chance.randint(15, 90)}%)"
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return picture


def _write_image(folder: Path, row: dict, rows: list[dict], layers: list[dict]) -> None:
    chance = random.Random(2000 + row["id"])
    rest = 1 - row["probability"]
    others = [(row["index"] + step) % len(LABELS) for step in range(1, 5)]
    top = [{"label": row["prediction"], "index": row["index"], "probability": row["probability"]}]
    top += [
        {"label": LABELS[index], "index": index, "probability": rest / 2**step} for step, index in enumerate(others, 1)
    ]
    shown = [layer for layer in layers if len(layer["shape"]) == 3]
    maps = [
        {
            "layer": layer["name"],
            "channels": chance.sample(range(layer["shape"][0]), min(8, layer["shape"][0])),
            "peaks": sorted((chance.uniform(0.1, 12) for _ in range(min(8, layer["shape"][0]))), reverse=True),
        }
        for layer in shown
    ]
    maps = [{**row, "top": MAPS["size"] * place} for place, row in enumerate(maps)]
    sheet = Image.new("RGB", (MAPS["columns"] * MAPS["size"], len(shown) * MAPS["size"]))
    for number in range(len(shown) * MAPS["columns"]):
        side = 4 + 3 * (number // MAPS["columns"] % 5)
        cells = Image.frombytes("L", (side, side), bytes(int(255 * chance.random() ** 4) for _ in range(side * side)))
        place = (number % MAPS["columns"] * MAPS["size"], number // MAPS["columns"] * MAPS["size"])
        sheet.paste(cells.resize((MAPS["size"], MAPS["size"])), place)
    _save(sheet, folder / "maps" / f"{row['id']}.webp")

    def near(scale: float) -> list[dict]:
        ids = chance.sample([other["id"] for other in rows if other is not row], min(8, len(rows) - 1))
        distances = sorted(chance.uniform(0.05, 1) * scale for _ in ids)
        return [{"id": index, "distance": distance} for index, distance in zip(ids, distances, strict=True)]

    data = {"id": row["id"], "name": row["name"], "label": row["label"], "size": list(INPUT), "top": top, "maps": maps}
    data |= {"said": [], "drawn": False, "kept": "picture"}
    _write(
        folder / "data" / "image" / f"{row['id']}.json",
        {**data, "neighbors": {"features": near(1), "pixels": near(30)}},
    )


def _write_layer(folder: Path, layer: dict, rows: list[dict], pictures: dict[int, Image.Image]) -> None:
    name = layer["name"]  # as web servers look for it: decoded, and with folders where it has slashes
    total = layer["shape"][0]
    units = [_unit(layer, channel, rows) for channel in range(total)]
    for start in range(0, total, PER_BLOCK["units"]):
        block = units[start : start + PER_BLOCK["units"]]
        number = start // PER_BLOCK["units"]
        _write(folder / "data" / "units" / name / f"{number}.json", {"units": block})
    order = sorted(range(total), key=lambda c: -units[c]["patches"][0]["value"] if units[c]["patches"] else math.inf)
    for number, start in enumerate(range(0, total, TILE["count"])):
        some = [units[c] for c in order[start : start + TILE["count"]]]
        _save(_tiles(some, pictures), folder / "tiles" / name / f"{number}.webp")
    strip = [units[c] for c in layer["typical"]]
    _save(_tiles(strip, pictures, columns=len(strip)), folder / "strips" / f"{name}.webp")
    for unit in units:
        if unit["patches"]:
            path = folder / "projections" / name / f"{unit['channel']}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_projections(len(unit["patches"])))
    dead = [not unit["patches"] for unit in units]
    chance = random.Random(layer["name"])
    _write(
        folder / "data" / "layer" / f"{name}.json",
        {
            "name": layer["name"],
            "strength": [unit["patches"][0]["value"] if unit["patches"] else 0 for unit in units],
            "mean": [0 if unit_is_dead else chance.uniform(0, 1) for unit_is_dead in dead],
            "sparsity": [1 if unit_is_dead else chance.random() for unit_is_dead in dead],
            "selectivity": [None if unit_is_dead else chance.random() for unit_is_dead in dead],
            "dead": dead,
            "place": [order.index(c) for c in range(total)],
            "class": [unit["classes"][0]["index"] if unit["classes"] else None for unit in units],
            "label": [unit["classes"][0]["label"] if unit["classes"] else None for unit in units],
            "count": [unit["classes"][0]["count"] if unit["classes"] else None for unit in units],
        },
    )


def _unit(layer: dict, channel: int, rows: list[dict]) -> dict:
    if channel == 1:
        flat = {"low": 0, "high": 0, "counts": [len(rows)] + [0] * 31}
        return {"channel": channel, "patches": [], "histogram": flat, "classes": [], "synthesized": None}
    chance = random.Random(f"{layer['name']}:{channel}")
    best = chance.uniform(1, 20)
    patches = []
    for rank, row in enumerate(chance.sample(rows, min(9, len(rows)))):
        box = _box(layer["receptive_field"], chance)
        patches.append({"image": row["id"], "value": best * 0.93**rank, "position": [0, 0], "box": box})
    low = -1.0 if layer["kind"] in ("Conv2d", "Linear") else 0.0
    counts = [round(1.6 * len(rows) * math.exp(-0.5 * column) * chance.uniform(0.1, 0.5)) for column in range(32)]
    counts[-1] = 1
    favorite = channel % NEVER
    classes = [
        {
            "label": LABELS[index],
            "index": index,
            "mean": best * 0.6**step - 0.2,
            "count": sum(row["index"] == index for row in rows),
        }
        for step, index in enumerate((favorite + step) % len(LABELS) for step in range(8))
        if index != NEVER
    ]
    return {
        "channel": channel,
        "patches": patches,
        "histogram": {"low": low, "high": best, "counts": counts},
        "classes": classes,
        "synthesized": None,
    }


def _box(field: dict, chance: random.Random) -> list[int]:
    """A window of the receptive field's size around a random point, cut off at the edges of the input."""
    if field["whole"]:
        return [0, 0, *INPUT]
    starts = [
        chance.randint(-(size // 2), side - size // 2 - 1) for size, side in zip(field["size"], INPUT, strict=True)
    ]
    stops = [start + size for start, size in zip(starts, field["size"], strict=True)]
    return [*(max(0, start) for start in starts), *(min(side, stop) for side, stop in zip(INPUT, stops, strict=True))]


def _tiles(units: list[dict], pictures: dict[int, Image.Image], columns: int = TILE["columns"]) -> Image.Image:
    size = TILE["size"]
    sheet = Image.new("RGB", (columns * size, math.ceil(len(units) / columns) * size), (128, 128, 128))
    for place, unit in enumerate(units):
        for rank, patch in enumerate(unit["patches"]):
            top, left, bottom, right = patch["box"]
            piece = pictures[patch["image"]].crop((left, top, right, bottom)).resize((size // 3, size // 3))
            x = place % columns * size + rank % 3 * (size // 3)
            y = place // columns * size + rank // 3 * (size // 3)
            sheet.paste(piece, (x, y))
    return sheet


@cache
def _projections(count: int) -> bytes:
    """A WebP of tiles with their rank on them, three a row."""
    sheet = Image.new("RGB", (min(3, count) * PROJECTION, math.ceil(count / 3) * PROJECTION), (128, 128, 128))
    for rank in range(count):
        place = (rank % 3 * PROJECTION + 24, rank // 3 * PROJECTION + 16)
        ImageDraw.Draw(sheet).text(place, str(rank), fill=(220, 90, 60), font_size=48)
    encoded = io.BytesIO()
    sheet.save(encoded, "WEBP", quality=85)
    return encoded.getvalue()


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=85)


def _write(path: Path, data: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
