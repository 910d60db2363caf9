"""A technique as data: its settings, what it is given, and how it runs.

From a task come the Python function, the command, the manifest, the contact sheet and a form. Nothing here imports
PyTorch, so that the command line can show its help at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from netloupe.core.errors import InputError, unknown
from netloupe.core.settings import TEXT, Setting, setting_of
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.core.network import Network
    from netloupe.core.watch import Watch


def _function(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"netloupe.{module}"), name)
    return found


def _several(one: Any) -> list[Any]:
    return one if isinstance(one, list) else [one]


@dataclass(frozen=True)
class Input:
    """Something that a task is given beside its settings. what: "images", "source", "file" or "folder".

    flags: on the command line; without any it is an argument. many: several images. default: of a source. names:
    accepted in place of an image. shares: the setting that holds the weights of IMAGE=WEIGHT. first: the setting that
    says how many images of a source are taken, 0 for none at all.
    """

    name: str
    what: str
    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    many: bool = False
    required: bool = False
    default: str | None = None
    names: tuple[str, ...] = ()
    shares: str | None = None
    first: str | None = None


PHOTOS = Input(
    "data", "source", "Images: a folder, list, Parquet, Lance, tars, an address, photos or digits.",
    ("--data",), "SOURCE", default="photos",
)  # fmt: skip
IMAGES = Input("images", "images", "Image files.", metavar="IMAGE...", many=True, required=True)
IMAGE = Input("image", "images", "An image file.", metavar="IMAGE", required=True)


class Networks(Protocol):
    """What loads the network of a task. device: where it goes. given: the names of the options that say which it is."""

    @property
    def device(self) -> str: ...

    @property
    def given(self) -> Collection[str]: ...

    def file(self) -> str | Path | None:
        """The file of weights that was asked for."""

    def load(self, weights: Path | None = None) -> Network:
        """The network that was asked for; weights: a file in place of its own."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The settings of a technique, checked as they are set. Subclasses are frozen dataclasses of `setting` fields.

    verb: on the command line, as in "study trust". inputs: what it is given. runs: where the function stands that runs
    it, "package.module:function", called with the task, the network, the inputs by name and a `Watch`. loads: where the
    function stands that gives its network, called with the task, `Networks` and the inputs; None for what they load.
    spreads: whether its images go through sweeps, which a cluster can do. sweeps: whether it makes images, so that a
    contact sheet can show values of a setting. folder: where it is written if nothing else is said; None for nowhere.
    head: of the table that `words` makes. moved: old flags that are verbs
    of their own now, {flag: what to say instead}.
    Raises InputError and UnknownName for settings that are not accepted.
    """

    verb: ClassVar[str]
    inputs: ClassVar[tuple[Input, ...]] = ()
    runs: ClassVar[str]
    loads: ClassVar[str | None] = None
    spreads: ClassVar[bool] = False
    sweeps: ClassVar[bool] = False
    folder: ClassVar[str | None] = None
    head: ClassVar[tuple[str, ...]] = ()
    moved: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        for one in self.settings():
            object.__setattr__(self, one.name, one.read(getattr(self, one.name)))
        self.check()

    def check(self) -> None:
        """Raise InputError for settings that don't go together."""

    def run(self, net: Any, inputs: Mapping[str, Any], watch: Watch) -> Any:
        """The `Result`. inputs: by name, see `core.perform`."""
        return _function(self.runs)(self, net, inputs, watch)

    def network(self, networks: Networks, inputs: Mapping[str, Any]) -> Any:
        """The network that it runs with."""
        return networks.load() if self.loads is None else _function(self.loads)(self, networks, inputs)

    def usual(self, one: Input, given: Collection[str]) -> str | None:
        """What is taken for an input that was not given; given: the names of those that were."""
        return one.default

    def words(self, found: Mapping[str, Any]) -> str:
        """The summary of a result, or of a contact sheet, for the terminal: a table, and notes below."""
        if "sweep" in found:
            rows = [(*map(str, _several(each["value"])), *row) for each in found["values"] for row in self.rows(each)]
            return table((*_several(found["sweep"]), *self.head), rows)
        return "\n".join([table(self.head, self.rows(found)), *self.notes(found)])

    def chosen(self, made: Task | None) -> list[str]:
        """A line for each choice of layers that was left to the run. made: the task with what was decided by it."""
        if type(made) is not type(self):
            return []
        left = [one for one in self.settings() if one.of_layers and not getattr(self, one.name)]
        pairs = [(one, getattr(made, one.name)) for one in left]
        return [f"{one.told(layers)}, by default ({one.flags[0]} NAME for another)" for one, layers in pairs if layers]

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows below `head` of a summary."""
        raise NotImplementedError

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        """Lines below the table; by default none."""
        return []

    @classmethod
    @functools.cache
    def settings(cls) -> tuple[Setting, ...]:
        """All settings, in order."""
        return tuple(setting_of(one) for one in fields(cls) if "setting" in one.metadata)

    @classmethod
    def setting(cls, name: str) -> Setting:
        """The setting of that name (dashes too), or UnknownName with the nearest match."""
        known = {one.name: one for one in cls.settings()}
        if name.replace("-", "_") not in known:
            raise unknown("setting", name, known, shown=len(known))
        return known[name.replace("-", "_")]

    @classmethod
    def swept(cls, name: str) -> Setting:
        """What a contact sheet can go through by that name: a setting, or an input for which names are accepted."""
        known = {one.name: one for one in cls.settings() if one.sweepable}
        known |= {
            one.name: Setting(one.name, TEXT, one.help, None, choices=one.names) for one in cls.inputs if one.names
        }
        if name.replace("-", "_") not in known:
            raise unknown("parameter to sweep", name, known)
        return known[name.replace("-", "_")]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The task with those settings, as a manifest or the command line gives them."""
        missing = [one.name for one in cls.settings() if one.required and one.name not in given]
        if missing:
            raise InputError(f"{cls.verb} without {', '.join(missing)} (accepted: all that it needs)")
        return cls(**{cls.setting(name).name: value for name, value in given.items()})

    def changed(self, given: Mapping[str, Any]) -> Self:
        """The same with some settings changed."""
        return replace(self, **{self.setting(name).name: value for name, value in given.items()})

    def as_json(self) -> dict[str, Any]:
        """The settings as a manifest holds them."""
        return {one.name: one.json(getattr(self, one.name)) for one in self.settings()}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """The JSON schema of the settings."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": cls.verb,
            "description": cls.title(),
            "type": "object",
            "properties": {one.name: one.schema() for one in cls.settings()},
            "required": [one.name for one in cls.settings() if one.required],
            "additionalProperties": False,
        }

    @classmethod
    def title(cls) -> str:
        """The first line of its help."""
        return (cls.__doc__ or "").strip().partition("\n")[0]
