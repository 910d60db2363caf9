"""From a task to its command: one option a setting, one argument or option an input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from netloupe.cli.options import (
    EngineOptions,
    Json,
    NetworkOptions,
    Out,
    Sweep,
    hints_of,
    parameter,
    setting_parameters,
)
from netloupe.cli.output import deliver
from netloupe.cli.precision import tell_precision
from netloupe.core.command import network_flag
from netloupe.core.errors import InputError
from netloupe.core.lock import held
from netloupe.core.settings import TRUTH, Setting
from netloupe.core.task import Input, Task

if TYPE_CHECKING:
    from netloupe.core.network import Network
    from netloupe.core.watch import Watch
    from netloupe.render.result import Result
    from netloupe.sweep.engine import Engine

_SHARED = [f.name for f in fields(NetworkOptions)]


def command(
    task: type[Task], options: type[Any] = NetworkOptions, then: Callable[..., None] | None = None
) -> Callable[..., None]:
    """The function that typer makes a command of.

    options: a dataclass of what the command takes beside the task, which loads its network. then: what is done with the
    task, those, and all that was given, by name.
    """
    shared = {"seed", *(one.shares for one in task.inputs)}  # the network's, and those that stand in IMAGE=SHARE
    settings = [one for one in task.settings() if one.name not in shared]
    arguments = [_input_parameter(one) for one in task.inputs if not one.flags]
    arguments += [p for one in settings if one.argument for p in setting_parameters(one)]
    taken = [_input_parameter(one) for one in task.inputs if one.flags]
    taken += [p for one in settings if not one.argument for p in setting_parameters(one)]
    taken += [_moved_parameter(flag, text) for flag, text in task.moved.items()]
    if task.sweeps:
        taken.append(parameter("sweep", Sweep, None))
    if task.spreads:
        hints = hints_of(EngineOptions)
        taken += [parameter(f.name, hints[f.name], f.default) for f in fields(EngineOptions)]
    taken += [parameter("out", Out, None if task.folder is None else Path(task.folder))]
    taken.append(parameter("as_json", Json, False))
    taken += _network_parameters(task, options)

    def call(**given: Any) -> None:
        network = options(**{f.name: given.pop(_of_network(task, f.name)) for f in fields(options)})
        (then or run)(task, network, given)

    call.__doc__ = task.__doc__
    call.__name__ = task.verb.replace(" ", "_")
    call.__signature__ = inspect.Signature([*arguments, *taken])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*arguments, *taken]}
    return call


def _network_parameters(task: type[Task], options: type[Any]) -> list[inspect.Parameter]:
    hints = dict(hints_of(options))  # type: ignore[arg-type]
    for name in _clashing(task) & set(hints):
        kind, option = get_args(hints[name])
        hints[name] = Annotated[kind, typer.Option(network_flag(task, name), metavar=option.metavar, help=option.help)]
    return [parameter(_of_network(task, f.name), hints[f.name], f.default) for f in fields(options)]


def _clashing(task: type[Task]) -> set[str]:
    """Names of the network's options that the task has too, with another meaning."""
    return {one.name for one in task.settings()} & (set(_SHARED) - {"seed"})


def _of_network(task: type[Task], name: str) -> str:
    return f"network_{name}" if name in _clashing(task) else name


def _input_parameter(one: Input) -> inspect.Parameter:
    kind: Any = list[str] if one.many else str
    kind = kind if one.required else kind | None
    default = inspect.Parameter.empty if one.required else None
    help = f"{one.help}{f'  [default: {one.default}]' if one.default else ''}"
    metavar = one.metavar or {"source": "SOURCE", "images": "IMAGE", "file": "FILE", "folder": "FOLDER"}[one.what]
    if not one.flags:
        shown = metavar if one.required else f"[{metavar}]"
        return parameter(one.name, Annotated[kind, typer.Argument(metavar=shown, help=help)], default)
    return parameter(one.name, Annotated[kind, typer.Option(*one.flags, metavar=metavar, help=help)], default)


def _moved_parameter(flag: str, text: str) -> inspect.Parameter:
    def refuse(value: str | None) -> None:
        if value is not None:
            raise InputError(f"{flag} is a verb of its own now: {text}")

    name = f"moved_{flag.lstrip('-').replace('-', '_')}"
    return parameter(name, Annotated[str | None, typer.Option(flag, hidden=True, callback=refuse)], None)


def run(task: type[Task], network: NetworkOptions, given: dict[str, Any]) -> None:
    """Run a task by what the command line gives, save its result and tell of it."""
    out, as_json = given.pop("out"), given.pop("as_json")
    sweep = given.pop("sweep", None)
    spread = EngineOptions(**{f.name: given.pop(f.name) for f in fields(EngineOptions)}) if task.spreads else None
    texts = {one.name: given.pop(one.name) for one in task.inputs}
    texts = {name: [text] if isinstance(text, str) else text for name, text in texts.items()}
    made, texts = settled(task, given, texts, network.seed)
    axes = parse_sweeps(made, sweep or [])
    engine = None if spread is None else spread.made()
    with held(out, made.verb) if out is not None else nullcontext(), _swept_by(engine):
        inputs = read_inputs(made, texts)
        net = made.network(network, inputs)
        tell_precision(net, inputs)
        from netloupe.cli.watch import Bars

        with Bars() as watch:
            result = performed(made, net, inputs, axes, watch)
        tell(result, made, out, as_json)


def _swept_by(engine: Engine | None) -> AbstractContextManager[None]:
    if engine is None:
        return nullcontext()
    from netloupe.sweep.engine import swept_by

    return swept_by(engine)


def settled(
    task: type[Task], given: Mapping[str, Any], texts: dict[str, list[str] | None], seed: int
) -> tuple[Task, dict[str, list[str] | None]]:
    """The task of what the command line gives, and the texts of its inputs, without the shares of IMAGE=SHARE."""
    values: dict[str, Any] = {}
    shares = {each.shares for each in task.inputs}
    for one in task.settings():
        if one.name in shares:
            continue
        if one.name == "seed":
            values["seed"] = seed
        elif one.target:
            values[one.name] = _target(one, given)
        elif one.kind is TRUTH:
            values[one.name] = given[one.name] or one.default
        else:
            values[one.name] = given[one.name]
    for each in task.inputs:
        if each.shares is not None and texts[each.name]:
            weights = Setting(each.name, task.setting(each.shares).kind, "", None, weights=True).read(texts[each.name])
            texts[each.name] = list(weights)
            values[each.shares] = list(weights.values())
    return task(**{name: value for name, value in values.items() if value is not None and value != []}), texts


def _target(one: Setting, given: Mapping[str, Any]) -> str | None:
    ways = {"--class": "class_", "--unit": "unit", "--objective": "objective"}
    found = {flag: given[f"{one.name}__{name}"] for flag, name in ways.items()}
    found = {flag: text for flag, text in found.items() if text is not None}
    if len(found) > 1:
        raise InputError(f"{' and '.join(found)} were given (accepted: one of them)")
    for flag, text in found.items():
        return f"class:{text}" if flag == "--class" else str(text)
    if one.required:
        raise InputError(f"no {one.name} was given (accepted: {', '.join(ways)})")
    return None


def parse_sweep(task: Task, text: str) -> tuple[str, list[Any]]:
    """The name and the values of NAME=VALUE,VALUE,... Raises UnknownName, or InputError for what is no value."""
    name, mark, rest = text.partition("=")
    one = task.swept(name)
    if not mark or not rest:
        raise InputError(f"sweep {text!r} (accepted: {name}=VALUE,VALUE,...)")
    values = [one.read(part) for part in rest.split(",")]
    for value in values:
        task.changed({one.name: value} if hasattr(task, one.name) else {})
    return one.name, values


def parse_sweeps(task: Task, texts: list[str]) -> dict[str, list[Any]]:
    """The values of up to two settings. Raises InputError for more, or for one that comes twice."""
    axes = dict(parse_sweep(task, text) for text in texts)
    if len(texts) > 2 or len(axes) < len(texts):
        raise InputError(f"sweeps of {' and '.join(map(repr, texts))} (accepted: one or two settings)")
    return axes


def read_inputs(task: Task, texts: Mapping[str, list[str] | None]) -> dict[str, Any]:
    """What the task is given, by name, of the texts on the command line."""
    found: dict[str, Any] = {}
    present = [name for name, text in texts.items() if text]
    for one in task.inputs:
        usual = task.usual(one, present)
        given = texts.get(one.name) or (None if usual is None else [usual])
        if given is not None and (one.first is None or getattr(task, one.first) != 0):
            found[one.name] = _read(task, one, given)
    return found


def _read(task: Task, one: Input, given: list[str]) -> Any:
    if one.what == "source":
        from netloupe.data.open import open_source

        count = None if one.first is None else getattr(task, one.first)
        return open_source(given[0]).first(count)
    if one.what in ("file", "folder"):
        return Path(given[0])
    if given[0] in one.names:
        return given[0]
    from netloupe.data.images import ImageFiles

    try:
        files = ImageFiles.of(given)
    except InputError as error:
        if not one.names:
            raise
        raise InputError(f"{error} (accepted as {one.name}: {', '.join(one.names)}, or an image file)") from None
    return files


def performed(
    task: Task, net: Network, inputs: Mapping[str, Any], axes: Mapping[str, list[Any]], watch: Watch
) -> Result:
    """The result of a task, or the contact sheet of the values of one or two settings."""
    from netloupe.core.perform import perform

    if not axes:
        found: Result = perform(task, net, inputs, watch)
        return found
    from netloupe.synthesis.contact import contact

    return contact(task, net, inputs, axes, watch=watch)


def tell(result: Result, task: Task, out: Path | None, as_json: bool) -> None:
    """Save a result where `out` says so; its summary to stdout, to stderr what was chosen and its remarks."""
    deliver(result, out, as_json, task.words)
    for remark in [*task.chosen(result.task), *result.remarks()]:
        typer.echo(remark, err=True)
