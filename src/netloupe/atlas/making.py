"""A build on its way: what is asked for, and what the sweep found, for the parts to make their rows of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from netloupe.analysis.attention.placed import attentions
from netloupe.analysis.unproject import mixed, no_rectifier, rectifies
from netloupe.atlas.pictures import Ledger, Listed, Looks, Photographs, Pictures, Shelved, Shown, small, whole
from netloupe.atlas.sheets import PER_PHOTOGRAPH
from netloupe.atlas.shelf import Shelf, thumbs_in
from netloupe.atlas.store import Store
from netloupe.atlas.synthesis import Synthesis
from netloupe.atlas.task import ALL, NONE, SHOWN
from netloupe.core.errors import InputError
from netloupe.core.head import Classes
from netloupe.core.network import Network
from netloupe.core.perform import Provenance
from netloupe.core.rules import Rule
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import class_names, of_network
from netloupe.data.sources import ImageSource, ReadPixels, Skipped
from netloupe.sweep.accumulator import Scribe
from netloupe.sweep.classes import ClassMeans, MeansByClass
from netloupe.sweep.engine import SoFar, check_any_read, sweep
from netloupe.sweep.peaks import Peaks, PeakStatistics
from netloupe.sweep.sampled import PeaksByImage, SampledPeaks
from netloupe.sweep.top import Strongest, Top

MAP_LAYERS = 24  # rows of a sheet of maps at most, spread evenly over the network

_STATE, _SHOWN = "sweep.safetensors", "pictures.safetensors"
_PIXELS = "pixels.bin"


@dataclass(frozen=True)
class Found:
    """What the sweep found, by layer. varied: the patches with at most PER_PHOTOGRAPH of one photograph.

    None where each image is a photograph of its own. sampled: the peaks in some images, where units are laid out.
    """

    patches: dict[str, Top]
    varied: dict[str, Top] | None
    peaks: dict[str, PeakStatistics]
    classes: dict[str, MeansByClass]
    skipped: tuple[Skipped, ...]
    sampled: Mapping[str, PeaksByImage] = field(default_factory=dict)


NOTHING = Found({}, None, {}, {}, ())
"""Before the first image."""


@dataclass(frozen=True)
class Making:
    """What an atlas is asked to show, and where it is made.

    images: of which of them pictures are kept; shows: gives the ids of those that pages show large. views: layers by
    which the images are laid out too. told: what the parts tell of themselves, once made. swept: what the sweep found,
    of one that was. glance: sees what there is again and again while it goes on: how many images were taken in, and
    what was found in them, where it asks.
    """

    net: Network
    source: ImageSource
    store: Store
    layers: Sequence[str]
    feature_layer: str
    k: int
    images: str
    shows: Callable[[Making], Collection[int]]
    project: Rule | None
    map_by: str | None
    views: Sequence[str]
    synthesis: Synthesis
    provenance: Provenance
    batch_size: int = 32
    watch: Watch = SILENT
    told: list[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]] = field(default_factory=list)
    swept: Found | None = None
    glance: Callable[[int, Callable[[], Found]], None] | None = None

    def of(self, swept: Found) -> Making:
        """The same, of what a sweep found so far; with --images shown, pictures are made after it."""
        later: dict[str, Any] = {"images": NONE, "project": None} if self.images == SHOWN else {}
        return replace(self, swept=swept, watch=SILENT, **later)

    @cached_property
    def rule(self) -> Rule | None:
        """The rule of the projections, where it has something to act on."""
        return self.project if self.project is not None and self.no_projections is None else None

    @cached_property
    def _mixed(self) -> tuple[Collection[str], str]:
        return mixed(self.net, self.layers)

    @property
    def unprojected(self) -> Mapping[str, str]:
        """Layers without projections, and why: a rule that acts on a part of the nonlinearities is not its paper's."""
        if self.rule is None:
            return {}
        names, others = self._mixed
        return dict.fromkeys(names, f"{self.rule} is a rule for ReLU, and to this layer leads {others} too")

    @property
    def no_projections(self) -> str | None:
        """Why there are none although they were asked for."""
        if self.project is None:
            return None
        if not self.pictured:
            return f"--images {NONE} leaves them out, for they show what was in images"
        if not rectifies(self.net):
            return str(no_rectifier(self.net, self.project))
        names, others = self._mixed
        if len(names) < len(self.layers):
            return None
        return f"{self.project} is a rule for ReLU, and to every layer shown leads {others} too"

    @property
    def pictured(self) -> bool:
        """Whether pictures of images are kept at all."""
        return self.images != NONE

    @property
    def map_layers(self) -> list[str]:
        """The layers whose maps are shown: at most MAP_LAYERS of those that are maps over the image, evenly spread."""
        return list(self.net.layers.only(self.layers).maps().evenly(MAP_LAYERS))

    @cached_property
    def source_classes(self) -> list[str] | None:
        """The names of the images' own classes, where they are not the network's."""
        return None if of_network(self.source, list(self.net.head.choices)) else class_names(self.source)

    @property
    def read(self) -> ReadPixels:
        """Reads images as the network sees them, none of them decoded again."""
        return self._photographs.read

    @property
    def _reads_again(self) -> bool:
        return self.rule is not None or bool(self.synthesis.layers) or bool(attentions(self.net))

    @cached_property
    def _pixels(self) -> Shelf | None:
        shape = (*self.net.inputs.size, self.net.inputs.channels)
        return Shelf(self.store.scratch / _PIXELS, shape) if self._reads_again else None

    @cached_property
    def _photographs(self) -> Photographs:
        return Photographs(self.source, self.net.inputs.size, self.net.inputs.channels, self._pixels)

    @property
    def _ledger(self) -> Ledger:
        """Takes what the one pass writes into the store."""
        scribes: list[Scribe] = [
            Listed(self.store, self.net, self.feature_layer, self.images == SHOWN, self.views),
            Shelved(self._photographs.shelved),
        ]
        if self.images == ALL:
            scribes.append(Pictures(self.store, self.map_layers, self.net))
        shelves = {"thumbs": thumbs_in(self.store), **({} if self._pixels is None else {"pixels": self._pixels})}
        return Ledger(self.store, self.source, scribes, "images", shelves)

    def _seen(self, shown: Shown | None) -> ImageSource:
        """The images, of which what `shown` makes is kept."""
        looks = Looks(self.source, self.net.inputs.size, self.net.inputs.channels, shown)
        return replace(self.source, opener=looks, ids=None)

    @cached_property
    def found(self) -> Found:
        """What the one pass over the images found; it also writes them into the store.

        Raises InputError where no image can be read.
        """
        if self.swept is not None:
            return self.swept
        patches, peaks = Strongest(max(self.k, self.synthesis.ranked)), Peaks()
        classes = ClassMeans(isinstance(self.net.head, Classes))
        pieces = self.source.photographs is not None
        varied = {"varied": Strongest(self.k, per_photograph=PER_PHOTOGRAPH)} if pieces else {}
        sampled = {} if self.map_by is None else {"sampled": SampledPeaks(len(self.source))}
        ledger = self._ledger

        def so_far(taken: SoFar) -> None:
            def found() -> Found:
                ledger.flush()
                kinds = ("patches", *varied, "peaks", "classes")
                results = {name: taken.of(name).result() for name in kinds}
                return replace(NOTHING, **results, skipped=taken.skipped)

            resumed = ledger.next_id > taken.next_id  # there is more, of the run before
            if self.glance is not None and not resumed:
                self.glance(taken.images, found)

        report = sweep(
            self.net,
            self._seen({ALL: whole, SHOWN: small, NONE: None}[self.images]),
            {"patches": patches, "peaks": peaks, "classes": classes, **varied, **sampled},
            layers=list(dict.fromkeys([*self.layers, self.feature_layer])),
            sink=ledger,
            batch_size=self.batch_size,
            state=self.store.scratch / _STATE,
            glance=None if self.glance is None else so_far,
            watch=self.watch.named("sweep"),
        )
        check_any_read(report, self.source)
        shown = varied["varied"].result() if pieces else None
        peaks_of = {layer: found for one in sampled.values() for layer, found in one.result().items()}
        return Found(patches.result(), shown, peaks.result(), classes.result(), report.skipped, peaks_of)

    def show(self) -> None:
        """Write the pictures of the images that pages show, which are read and looked at again."""
        ids = sorted(self.shows(self))
        scribe = Pictures(self.store, self.map_layers, self.net, ids)
        report = sweep(
            self.net,
            self._seen(whole).subset(ids),
            {},
            layers=self.layers,
            sink=Ledger(self.store, self.source, [scribe], "pictures", {}),
            batch_size=self.batch_size,
            state=self.store.scratch / _SHOWN,
            watch=self.watch.named("pictures"),
        )
        for one in report.skipped:
            raise InputError(f"{one.name} was read at first, and then no more: {one.reason}")
