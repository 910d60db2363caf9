"""What images cost: each in an atlas, in time, memory and bytes; workers on Ray, killed ones too; an index of vectors.

python benchmarks/scale.py [costs] [atlas] [made-up] [ray] [failures] [neighbors] [--sizes N ...] [--made-up N ...]
[--images N] [--every SECONDS] [--vectors N]

Without names, all parts in the sizes that were planned, which takes most of a day on two cores; the page holds the
parts that were run, each in the sizes it was run in. `costs` and `atlas` need the shared data (NETLOUPE_SHARED or
../shared), `ray` and `failures` Ray. Each build has a process of its own, whose peak of resident memory is told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from atlas_map import measured
from common import RESULTS, SHARED, mobilenet, publish
from PIL import Image
from torch import nn

from netloupe.analysis.nearest import search
from netloupe.analysis.patches import top_patches
from netloupe.atlas.build import build
from netloupe.atlas.store import Store
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.watch import Watch
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource, read_all, read_batches
from netloupe.sweep.accumulator import Accumulator
from netloupe.sweep.blocks import DataSet
from netloupe.sweep.classes import ClassMeans
from netloupe.sweep.engine import BLOCKS, sweep, swept_by
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.top import Strongest
from netloupe.sweep.vectors import Features
from netloupe.zoo.load import load

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

from processes import command_of, descendants

PARTS = ("costs", "atlas", "made-up", "ray", "failures", "neighbors")
WANTED = {"all": 25_000, "shown": 6_000}  # bytes an image at most
SIDE = 32  # px of a made-up image
PICTURES = 1_000  # of them there are so many different ones
RAY_SIDE = 64
CORES, DECODED, PASSED, SHARD, START = 16, 150, 4_000, 64 * 128, 60  # assumed of a GPU and those beside it
DATA = {"ImageNet, 1.28 million": 1_281_167, "LAION, 400 million": 400_000_000}


class Noted(Watch):
    """Notes the seconds of processor that each stage took, and its peak of resident memory in MiB (Linux only)."""

    def __init__(self) -> None:
        self._stages: dict[str, list[float]] = {}
        self.peaks: dict[str, float] = {}
        self._now = "start"

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        now = time.process_time()
        self._stages.setdefault(name, [now, now])[1] = now
        if name != self._now:
            self.note()
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            self._now = name

    def note(self) -> None:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        self.peaks[self._now] = max(peak, self.peaks.get(self._now, 0))

    def seconds(self) -> dict[str, float]:
        return {name: round(last - first, 2) for name, (first, last) in self._stages.items()}


def photos(count: int) -> ImageSource:
    """Images of tiny-imagenet, evenly over its classes."""
    whole = open_source(SHARED / "data" / "tiny-imagenet" / "*.parquet")
    chosen = np.random.default_rng(0).permutation(len(whole))[:count]
    return whole.subset(sorted(chosen.tolist()))


class Names(Sequence[str]):
    """Of made-up images, none of them held."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [f"{place:08d}" for place in range(self._count)[i]]
        return f"{range(self._count)[i]:08d}"


class Repeated:
    """Opens `PICTURES` pictures again and again under new ids."""

    def __init__(self, side: int) -> None:
        coarse = np.random.default_rng(0).integers(0, 256, (PICTURES, 4, 4, 3), np.uint8)
        self._pictures = coarse.repeat(side // 4, 1).repeat(side // 4, 2)

    def content(self, i: int) -> bytes:
        return i.to_bytes(8, "little")

    def __call__(self, i: int) -> Image.Image:
        return Image.fromarray(self._pictures[i % PICTURES])


def made_up(count: int, side: int = SIDE) -> ImageSource:
    return ImageSource(f"made up {count}", Names(count), Repeated(side))


def tiny() -> Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return Network(
        module.eval(), InputSpec((SIDE, SIDE), mean=(0.5,), std=(0.25,)), [str(i) for i in range(10)], name="tiny"
    )


def measure(kind: str, count: int, images: str, folder: Path) -> dict[str, Any]:
    """Build one atlas in this process; its seconds of processor and the peaks of resident memory by stage."""
    watch, start = Noted(), time.process_time()
    if kind == "atlas":
        report = build(load(), photos(count), folder, images=images, watch=watch)
    else:
        report = build(tiny(), made_up(count), folder, images=images, project=None, map_by="pca", watch=watch)
    watch.note()
    seconds = round(time.process_time() - start, 2)
    kept = Store.open(folder).network["pictures"]["kept"]
    found = {
        "images": report.images,
        "kept": kept,
        "units": report.units,
        "seconds": seconds,
        "stages": watch.seconds(),
    }
    return {**found, "peaks": watch.peaks, "peak": max(watch.peaks.values()), "swept": watch.peaks["sweep"]}


def built(kind: str, count: int, images: str, keep: Path | None) -> dict[str, Any]:
    """The same in a process of its own, with the bytes of the store by table; keep: a folder for the atlas."""
    with tempfile.TemporaryDirectory() as room:
        folder = (Path(room) if keep is None else keep) / f"{kind}-{count}-{images}"
        command = [sys.executable, __file__, "--measure", kind, str(count), images, str(folder)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found: dict[str, Any] = json.loads(said)
        files = [file for file in folder.rglob("*") if file.is_file()]
        tables = {
            table.stem: sum(f.stat().st_size for f in files if table in f.parents) for table in folder.glob("*.lance")
        }
        found |= {"kind": images, "bytes": sum(file.stat().st_size for file in files), "tables": tables}
        if kind == "made-up":
            found["opened"] = [ms / 1000 for ms in measured(folder, 1)["opening"]]
        print(json.dumps({kind: found}), file=sys.stderr)
        return found


def processor(run: Callable[[], object]) -> float:
    """Seconds of processor that it takes, which other work on the machine changes little."""
    start = time.process_time()
    run()
    return time.process_time() - start


def elapsed(run: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cost(name: str, net: Network, source: ImageSource) -> dict[str, Any]:
    """With one thread: seconds of processor an image in each step, and what of a shard is merged, and how fast."""
    source = source.read_for(net.inputs)
    images = read_all(source, net.inputs.size)[1]
    features = net.layers.features().name

    def decode() -> None:
        for _ in read_batches(source, net.inputs.size, workers=1):
            pass

    def forward() -> None:
        with torch.no_grad():
            for batch in images.split(16):
                net.module(net.inputs.normalize(batch))

    def swept(of: ImageSource | torch.Tensor = images) -> dict[str, Accumulator]:
        found: dict[str, Accumulator] = {"patches": Strongest(9), "peaks": Peaks(), "classes": ClassMeans()}
        sweep(net, of, {**found, "features": Features(features)}, layers=list(net.layers.distinct()))
        return found

    ways: dict[str, Callable[[], object]] = {"decode": decode, "forward": forward, "sweep": swept}
    taken = {way: [processor(ways[way]) for _ in range(3)] for way in ways}
    behind = [elapsed(lambda: swept(source)) / elapsed(swept) for _ in range(3)]
    shard, whole = swept(), swept()
    merge = processor(lambda: [whole[key].merge(shard[key]) for key in whole for _ in range(5)]) / 5
    held = sum(tensor.nbytes for one in shard.values() for tensor in one.state().values())
    units = sum(layer.channels for layer in net.layers.distinct().values())
    seconds = {way: statistics.median(some) / len(images) for way, some in taken.items()}
    told = {"network": name, "px": net.inputs.size[0], "units": units, "merge": merge, "state": held}
    return {**told, **seconds, "behind": statistics.median(behind)}


def costs() -> list[dict[str, Any]]:
    photographs = open_source(SHARED / "data" / "imagenet-samples")
    return [cost("lenslet", load(), photos(256)), cost("MobileNet v2", mobilenet(), photographs.first(96))]


def of_costs(runs: Sequence[dict[str, Any]]) -> Told:
    rows: list[dict[str, object]] = [
        {
            "network": run["network"],
            "px": run["px"],
            "units": f"{run['units']:,}",
            "decode, ms an image": f"{1e3 * run['decode']:.1f}",
            "forward pass": f"{1e3 * run['forward']:.1f}",
            "sweep": f"{1e3 * run['sweep']:.1f}",
            "of files / in memory": f"{run['behind']:.2f}",
            "its more, µs a unit": f"{1e6 * (run['sweep'] - run['forward']) / run['units']:.2f}",
            "merge, ms a shard": f"{1e3 * run['merge']:.0f}",
            "state, MB": f"{run['state'] / 1e6:.1f}",
        }
        for run in runs
    ]
    text = (
        "Milliseconds of processor, with one thread, that an image takes: decoding and resizing, the bare forward pass "
        "in batches of 16, and the sweep of all layers with the accumulators of an atlas over images in memory; how "
        "much longer the same takes of files, which other threads decode ahead; and what the driver merges of each "
        "shard."
    )
    return text, rows


EACH = ("images", "features", "neighbors", "embeddings", "map", "sprites")


def besides(run: dict[str, Any]) -> float:
    """Bytes of each image in the tables that have something of every image."""
    return float(sum(run["tables"].get(table, 0) for table in EACH) / run["images"])


def rest(run: dict[str, Any]) -> float:
    """Bytes of what has its size by the units."""
    return float(run["bytes"] - run["tables"]["pictures"] - besides(run) * run["images"])


Told = tuple[str, list[dict[str, object]]]


def spent(run: dict[str, Any], digits: int) -> dict[str, object]:
    """What a build took, as the tables of atlases tell it."""
    return {
        "swept, ms an image": f"{1e3 * run['stages']['sweep'] / run['images']:.{digits}f}",
        "all, s": f"{run['seconds']:.0f}",
        "peak of memory in the sweep, MiB": f"{run['swept']:.0f}",
        "in all": f"{run['peak']:.0f}",
    }


def of_atlas(runs: Sequence[dict[str, Any]]) -> Told:
    rows: list[dict[str, object]] = [
        {
            "images": f"{run['images']:,}",
            "--images": run["kind"],
            **spent(run, 1),
            "pictures kept": f"{run['kept']:,}",
            "kB for each": f"{run['tables']['pictures'] / run['kept'] / 1e3:.1f}",
            "kB for each image besides": f"{besides(run) / 1e3:.1f}",
            "for units and pages, MB": f"{rest(run) / 1e6:.1f}",
        }
        for run in runs
    ]
    text = (
        f"An atlas of lenslet ({runs[0]['units']:,} units) over images of tiny-imagenet drawn from all, with "
        "projections, its map by t-SNE; milliseconds and seconds of processor. "
        f"Wanted for each image: {WANTED['all'] / 1000:.0f} kB with all, {WANTED['shown'] / 1000:.0f} kB with "
        "shown of 90,000; and for these 300 MiB more of memory than for 1,000."
    )
    return text, rows


def of_made_up(runs: Sequence[dict[str, Any]]) -> Told:
    rows: list[dict[str, object]] = [
        {
            "images": f"{run['images']:,}",
            **spent(run, 2),
            "store, MB": f"{run['bytes'] / 1e6:.1f}",
            "the map is open after, s": f"{statistics.median(run['opened']):.2f}",
        }
        for run in runs
    ]
    text = (
        f"A tiny network over made-up images of {SIDE} px by reference, {PICTURES:,} pictures under ever new ids, "
        "with --images shown. Wanted for a million: memory flat, time in proportion, the page open after 3 s."
    )
    return text, rows


class Begun(Watch):
    """Notes when the first shard of a sweep was there, and how many images it had."""

    def __init__(self) -> None:
        self.event, self.at, self.images = threading.Event(), 0.0, 0

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        if name == "images" and done and not self.event.is_set():
            self.at, self.images = time.monotonic(), done
            self.event.set()


def on_ray(net: Network, source: ImageSource, workers: int, every: float | None) -> dict[str, Any]:
    """A sweep by so many workers, of which, once they are at work, one is killed about each `every` seconds.

    seconds: from when the first shard was there; images: taken in since; first: until then, when workers may be amid
    the next.
    """
    import ray

    from netloupe.sweep.ray import RayEngine

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with swept_by(RayEngine(workers=workers)):
            start, watch = time.monotonic(), Begun()
            with Killing(every, watch.event) as kills:
                found = top_patches(net, source, watch=watch)
            seconds = time.monotonic() - watch.at
    finally:
        ray.shutdown()
    images = len(source) - watch.images
    return {"seconds": seconds, "images": images, "first": watch.at - start, "kills": kills, "bits": bits(found)}


def here(net: Network, source: ImageSource) -> dict[str, Any]:
    start = time.monotonic()
    found = top_patches(net, source)
    return {"seconds": time.monotonic() - start, "images": len(source), "kills": [], "bits": bits(found)}


def bits(found: Any) -> str:
    """Equal where two results are, to the last bit."""
    digest = hashlib.sha256()
    for layer in sorted(found.layers):
        for array in (found[layer].values, found[layer].images, found[layer].positions):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class Killing:
    """Inside it, a worker of this process's cluster is killed at random times, `every` seconds apart on average.

    It gives the seconds until each one's successor was there, of those that had one before the end.
    """

    def __init__(self, every: float | None, begun: threading.Event) -> None:
        self._every, self._begun, self._over = every, begun, threading.Event()
        self._kills: list[float] = []

    def __enter__(self) -> list[float]:
        if self._every is not None:
            self._thread = threading.Thread(target=self._run, args=(self._every,))
            self._thread.start()
        return self._kills

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._begun.set()
        if self._every is not None:
            self._thread.join()

    def _run(self, every: float) -> None:
        draw = np.random.default_rng(0)
        self._begun.wait()
        while not self._over.wait(draw.exponential(every)):
            if before := self._workers():
                os.kill(int(draw.choice(before)), signal.SIGKILL)
                start = time.monotonic()
                while len(set(self._workers()) - set(before)) == 0 and not self._over.wait(0.1):
                    pass
                if not self._over.is_set():
                    self._kills.append(time.monotonic() - start)

    def _workers(self) -> list[int]:
        return [pid for pid in descendants(os.getpid()) if b"MapWorker" in command_of(pid)]


def simulated(
    shards: int, seconds: float, workers: int, every: float, again: float, draw: np.random.Generator
) -> tuple[float, int]:
    """Seconds until all shards are done, and how many workers died on the way.

    Each of the workers takes `seconds` for a shard. One of them dies each `every` seconds on average, at random; what
    it had of its shard is lost, and it is back after `again` seconds.
    """
    free, left, deaths = [0.0] * workers, shards, 0
    while left:
        first = int(np.argmin(free))
        life = draw.exponential(every * workers)  # of one worker
        if life < seconds:
            free[first] += life + again
            deaths += 1
        else:
            free[first] += seconds
            left -= 1
    return max(free), deaths


def expected(seconds: float, every: float, workers: int, again: float) -> float:
    """The share of time that failures add, of shards that take `seconds`: (exp(r s) - 1)(1/r + again)/s - 1.

    r: how often one worker dies, 1 / (every * workers).
    """
    rate = 1 / (every * workers)
    return float(np.expm1(rate * seconds) * (1 / rate + again) / seconds - 1)


def failures(count: int, every: float) -> dict[str, Any]:
    """Two workers with and without kills on this machine, and a thousand simulations of it."""
    net, source = tiny(), made_up(count)
    calm, hit = on_ray(net, source, 2, None), on_ray(net, source, 2, every)
    size = BLOCKS * DataSet(net, source).block
    shards = -(-calm["images"] // size)
    seconds = 2 * calm["seconds"] / shards
    again = statistics.median(hit["kills"])
    draw = np.random.default_rng(0)
    runs = np.array([simulated(shards, seconds, 2, every, again, draw) for _ in range(1000)])
    plain = -(-shards // 2) * seconds
    low, middle, high = np.percentile(runs[:, 0] / plain - 1, [5, 50, 95])
    return {
        "shards": shards, "shard": seconds, "every": every, "again": again, "calm": calm, "hit": hit,
        "overhead": hit["seconds"] / calm["seconds"] * calm["images"] / hit["images"] - 1,
        "simulated": [low, middle, high],
        "simulated deaths": float(runs[:, 1].mean()), "expected": expected(seconds, every, 2, again),
    }  # fmt: skip


def of_failures(run: dict[str, Any]) -> Told:
    low, middle, high = run["simulated"]
    rows: list[dict[str, object]] = [
        {
            "shards": run["shards"],
            "s a shard": f"{run['shard']:.1f}",
            "killed": f"{len(run['hit']['kills'])} times in {run['hit']['seconds']:.0f} s",
            "s until one is back": f"{run['again']:.1f}",
            "added here": f"{run['overhead']:.0%}",
            "added in simulations": f"{middle:.0%} ({low:.0%} to {high:.0%}), {run['simulated deaths']:.1f} kills",
            "by the formula": f"{run['expected']:.0%}",
            "same bits": run["hit"]["bits"] == run["calm"]["bits"],
        }
    ]
    text = (
        "A sweep of a tiny network by two workers on Ray with one thread each, of which one is killed each "
        f"{run['every']:.0f} s on average, against the same without kills, a thousand simulations of it, and the "
        "expected overhead."
    )
    return text, rows


def rays(count: int) -> list[dict[str, Any]]:
    """Each way over so many images, and on Ray over three times as many: what these take more, no start is in."""
    net = load()
    found = [{"way": "here", **here(net, made_up(count, RAY_SIDE))}]
    for workers in (1, 2):
        few, many = (on_ray(net, made_up(n, RAY_SIDE), workers, None) for n in (count, 3 * count))
        more = {"more": 2 * count, "longer": lasted(many) - lasted(few)}
        found.append({"way": f"Ray, {workers} worker{'s'[: workers - 1]}", **few, **more})
    return found


def lasted(run: dict[str, Any]) -> float:
    """Seconds from the start on."""
    return float(run.get("first", 0) + run["seconds"])


def of_rays(runs: Sequence[dict[str, Any]]) -> Told:
    rates = [run["more"] / run["longer"] if "more" in run else run["images"] / run["seconds"] for run in runs]
    rows: list[dict[str, object]] = [
        {
            "way": run["way"],
            "s, start included": f"{lasted(run):.1f}",
            "images/s once begun": f"{rate:.0f}",
            "to here": f"{rate / rates[0]:.2f}",
            "same bits": run["bits"] == runs[0]["bits"],
        }
        for run, rate in zip(runs, rates, strict=True)
    ]
    text = (
        f"Best patches of all layers of lenslet over {runs[0]['images']:,} made-up images of {RAY_SIDE} px, one thread "
        "a worker. Once begun: by what three times as many take longer. "
        "Wanted: one worker takes at most 1.1 times as long as it does here, two are 1.7 times as fast as one."
    )
    return text, rows


def neighbors(count: int) -> dict[str, Any]:
    """Vectors of 512 around 1,000 centers. Build: of the index, with 200 queries and their check."""
    draw = np.random.default_rng(0)
    centers = draw.normal(0, 1, (1000, 512)).astype(np.float32)
    vectors = centers[draw.integers(0, 1000, count)]
    for first in range(0, count, 10_000):
        vectors[first : first + 10_000] += draw.normal(0, 1, vectors[first : first + 10_000].shape).astype(np.float32)
    ids = np.arange(count)
    taken = []
    for asked in (200, 1_200):
        start = time.monotonic()
        _, found = search(vectors[:asked], vectors, ids, 12, exclude=ids[:asked], index_above=0)
        taken.append(time.monotonic() - start)
    return {"vectors": count, "build": taken[0], "query": (taken[1] - taken[0]) / 1000, "recall": found.recall}


def of_neighbors(run: dict[str, Any]) -> Told:
    rows: list[dict[str, object]] = [
        {
            "vectors": f"{run['vectors']:,}",
            "index, min": f"{run['build'] / 60:.1f}",
            "a query, ms": f"{1000 * run['query']:.1f}",
            "recall of 12": f"{run['recall']:.3f}",
        }
    ]
    text = (
        "Neighbors among vectors of 512 numbers around 1,000 centers, by LanceDB's index as `neighbors` asks it. "
        "Wanted among a million: 15 minutes, 50 ms a query, recall 0.95."
    )
    return text, rows


def planned(costs: Sequence[dict[str, Any]]) -> list[Told]:
    """What follows for larger data on more machines, by arithmetic, and what workers that die add."""
    run = costs[-1]  # with 224 px, as those data sets are looked at
    rate = min(CORES * DECODED, PASSED)
    rows: list[dict[str, object]] = []
    for name, count in DATA.items():
        for gpus in (1, 8, 64):
            swept, merged = START + count / (gpus * rate), -(-count // SHARD) * run["merge"]
            took, most = max(swept, merged), "the driver" if merged > swept else "decoding"
            rows.append({"images": name, "GPUs": gpus, "reading and passes": hours(swept)})
            rows[-1] |= {"merging": hours(merged), "in all": hours(took), "waits for": most}
    first = (
        f"What that means elsewhere: arithmetic, not measured. Assumed: {CORES} cores beside each GPU, each decoding "
        f"{DECODED} images of 224 px a second; passes with the accumulators at {PASSED:,} images a second; shards of "
        f"{SHARD:,} images, which one driver merges while others work, as fast as it does here of {run['network']} "
        f"({run['units']:,} units); {START} s to begin."
    )
    shard = SHARD / rate
    deaths: list[dict[str, object]] = [
        {"each worker dies every": hours(every), **added(shard, every)} for every in (600, 3_600, 86_400)
    ]
    second = f"The time that deaths add by the formula, for shards of {shard:.1f} s:"
    return [(first, rows), (second, deaths)]


def added(shard: float, every: float) -> dict[str, str]:
    """The share of time that deaths add, by how long it takes until a worker is back."""
    return {f"back after {again} s": f"{expected(shard, every, 1, again):.1%}" for again in (10, 60, 300)}


def hours(seconds: float) -> str:
    unit, name = next((u, n) for u, n in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")) if seconds >= u or u == 1)
    return f"{seconds / unit:.3g} {name}"


def told(found: dict[str, Any]) -> Iterator[Told]:
    """Texts and tables of the parts that were run, this time or before."""
    ways: dict[str, Callable[[Any], Told]] = {
        "costs": of_costs,
        "atlas": of_atlas,
        "made-up": of_made_up,
        "ray": of_rays,
        "failures": of_failures,
        "neighbors": of_neighbors,
    }
    for part in PARTS:
        if part in found:
            yield ways[part](found[part])
    if "costs" in found:
        yield from planned(found["costs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 90_000])
    parser.add_argument("--made-up", type=int, nargs="+", default=[1_000, 10_000, 1_000_000])
    parser.add_argument("--kept", choices=[*WANTED], nargs="+", default=[*WANTED], help="--images of the atlases")
    parser.add_argument("--keep", type=Path, help="a folder for the atlases, which are removed otherwise")
    parser.add_argument("--images", type=int, default=10_000, help="of ray; failures takes ten times as many")
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        kind, count, images, folder = options.measure
        print(json.dumps(measure(kind, int(count), images, Path(folder))))
        return
    runs: dict[str, Callable[[], Any]] = {
        "costs": costs,
        "atlas": lambda: [built("atlas", n, kind, options.keep) for kind in options.kept for n in options.sizes],
        "made-up": lambda: [built("made-up", n, "shown", options.keep) for n in options.made_up],
        "ray": lambda: rays(options.images),
        "failures": lambda: failures(10 * options.images, options.every),
        "neighbors": lambda: neighbors(options.vectors),
    }
    torch.set_num_threads(1)
    for part in options.parts or PARTS:
        made = runs[part]()
        found = before() | {part: made}
        (text, rows), *more = told(found)
        publish("scale", "Scale", text, rows, found, *more)


def before() -> dict[str, Any]:
    """What earlier runs found, by part."""
    file = RESULTS / "scale.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {part: found[part] for part in PARTS if part in found}


if __name__ == "__main__":
    main()
