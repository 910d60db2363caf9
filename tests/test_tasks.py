"""Python, command line, manifest, schema and documentation agree about every setting of every task."""

from __future__ import annotations

import inspect
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer

import commands_page
import netloupe
from netloupe.cli.app import app
from netloupe.core.errors import InputError, NetloupeError, UnknownName
from netloupe.core.settings import CLASS, OBJECTIVE, SIDES, TRUTH, setting, setting_of
from netloupe.core.task import Task
from netloupe.tasks import TASKS, task_named
from netloupe.training.recipes import ClassifierRecipe, StylizerRecipe

NAMES = [task.verb for task in TASKS]


def command_of(task: type[Task]) -> Any:
    found: Any = typer.main.get_command(app)
    for word in task.verb.split():
        found = found.commands[word]
    return found


def smallest(task: type[Task]) -> Task:
    """The task with its defaults, and something for what has none."""
    values: dict[Any, Any] = {OBJECTIVE: "conv3:1", CLASS: "3", SIDES: "8"}
    values |= {"changes": "remove conv3"}
    required = [one for one in task.settings() if one.required]
    return task.of({one.name: values.get(one.name, values.get(one.kind, "1")) for one in required})


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_every_field_is_a_setting(task: type[Task]) -> None:
    assert [one.name for one in task.settings()] == [field.name for field in fields(task)]
    assert all(one.help.endswith((".", "!")) for one in task.settings()), "help is a sentence"
    assert task.title().endswith(".")


def covered(task: type[Task], parameters: set[str], flags: set[str]) -> list[str]:
    """The settings that the command line lacks."""
    missing = []
    for one in task.settings():
        wanted = {"--class", "--unit", "--objective"} if one.target else set(one.flags)
        there = one.name in parameters or one.target
        for each in task.inputs:
            if each.shares == one.name:
                wanted, there = set(each.flags), each.name in parameters
        if one.name == "seed":
            wanted, there = {"--seed"}, True
        if not there or not wanted <= flags:
            missing.append(one.name)
    return missing


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_the_command_line_has_every_setting_and_input(task: type[Task]) -> None:
    command = command_of(task)
    flags = {flag for one in command.params for flag in one.opts}
    parameters = {one.name for one in command.params}
    assert covered(task, parameters, flags) == []
    assert {one.name for one in task.inputs} <= parameters
    assert {"--out", "--json"} <= flags
    assert ("--sweep" in flags) == task.sweeps
    assert set(task.moved) <= flags


def test_a_setting_without_its_option_is_missed() -> None:
    task = task_named("fool")
    command = command_of(task)
    flags = {flag for one in command.params for flag in one.opts} - {"--steps"}
    assert covered(task, {one.name for one in command.params}, flags) == ["steps"]


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_schema_and_manifest_have_every_setting(task: type[Task]) -> None:
    names = [one.name for one in task.settings()]
    schema, made = task.schema(), smallest(task)
    assert list(schema["properties"]) == names
    assert list(made.as_json()) == names
    assert set(schema["required"]) == {one.name for one in task.settings() if one.required}
    written = json.loads(json.dumps(made.as_json()))
    assert task.of(written) == made, "what a manifest holds reads back"
    assert pickle.loads(pickle.dumps(made)) == made
    for one in task.settings():
        if not one.required:
            assert schema["properties"][one.name]["default"] == one.json(made.setting(one.name).read(one.default))


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_what_runs_a_task_is_there(task: type[Task]) -> None:
    module, _, name = task.runs.partition(":")
    assert list(inspect.signature(getattr(import_module(f"netloupe.{module}"), name)).parameters) == [
        "task", "net", "inputs", "watch",
    ]  # fmt: skip


def functions() -> dict[str, Any]:
    """The Python functions of tasks, by verb."""
    found = {}
    for task in TASKS:
        module = import_module(f"netloupe.{task.runs.partition(':')[0]}")
        for one in vars(module).values():
            if getattr(one, "task", None) is task:
                found[task.verb] = one
    return found


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_the_function_has_every_setting(task: type[Task]) -> None:
    function = functions()[task.verb]
    parameters = inspect.signature(function).parameters
    assert {one.name for one in task.settings()} <= set(parameters)
    for one in task.settings():
        assert f"\n{one.name}: {one.help}" in function.__doc__


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_the_documentation_has_every_option(task: type[Task]) -> None:
    page = (Path(commands_page.PAGE)).read_text(encoding="utf-8")
    assert commands_page.section(task) in page, "run: python tests/commands_page.py"


def test_settings_import_no_pytorch() -> None:
    code = "import sys, netloupe.tasks; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass(frozen=True, kw_only=True)
class Sample(Task):
    """A sample."""

    verb: ClassVar = "sample"
    runs: ClassVar = "nowhere:run"

    count: int = setting(3, "How many.", low=1, high=9)
    share: float | None = setting(None, "How much.", above=0, below=1)
    way: str = setting("up", "Which way.", choices=("up", "down"))
    size: tuple[int, int] | None = setting(None, "Size.", kind=SIDES, low=1)
    names: tuple[str, ...] = setting((), "Names.", commas=True)
    layers: dict[str, float] | None = setting(None, "Layers.", low=0)
    sure: bool = setting(False, "Sure.", kind=TRUTH)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"count": "4"}, 4),
        ({"share": "1/4"}, 0.25),
        ({"share": None}, None),
        ({"size": "3x4"}, (3, 4)),
        ({"size": 5}, (5, 5)),
        ({"size": [5, 6]}, (5, 6)),
        ({"names": ["a,b", "c"]}, ("a", "b", "c")),
        ({"names": "a"}, ("a",)),
        ({"layers": ["a", "b=2"]}, {"a": 1.0, "b": 2.0}),
        ({"layers": {"a": 2}}, {"a": 2.0}),
        ({"sure": "yes"}, True),
    ],
)
def test_settings_are_read_alike_from_everywhere(given: dict[str, Any], value: Any) -> None:
    made = Sample.of(given)
    (name,) = given
    assert getattr(made, name) == value
    assert Sample.of(json.loads(json.dumps(made.as_json()))) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, r"^count 0 \(accepted: 1 or more and up to 9\)$"),
        ({"count": "x"}, r"^count 'x' \(accepted: a whole number, 1 or more and up to 9\)$"),
        ({"count": True}, "count True"),
        ({"count": 2.5}, "count 2.5"),
        ({"count": None}, "no count"),
        ({"share": 1}, r"^share 1 \(accepted: above 0 and below 1\)$"),
        ({"share": float("nan")}, "share nan"),
        ({"share": "1/0"}, "share '1/0'"),
        ({"way": "dwn"}, "did you mean 'down'"),
        ({"size": "3x"}, "size '3x'"),
        ({"size": (0, 3)}, "size"),
        ({"layers": ["a", "a=2"]}, "twice"),
        ({"layers": {"a": -1}}, "layers -1"),
        ({"names": [3]}, "names 3"),
        ({"cont": 3}, "no setting 'cont'; did you mean 'count'"),
        ({"way": {"object": "Way()"}}, "made in Python"),
    ],
)
def test_bad_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(NetloupeError, match=message) as caught:
        Sample.of(given)
    assert "\n" not in str(caught.value)


def test_unknown_verbs_and_settings_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'fool'"):
        task_named("fol")
    with pytest.raises(UnknownName, match="did you mean 'steps'"):
        smallest(task_named("fool")).changed({"stepz": 3})
    with pytest.raises(InputError, match="steps"):
        smallest(task_named("fool")).changed({"steps": -3})


def test_results_know_their_task() -> None:
    net = netloupe.load()
    result = netloupe.filters(net, scale="layer")
    assert result.task == task_named("filters")(layer="conv1", scale="layer")  # type: ignore[call-arg]
    assert result.provenance["parameters"] == {"layer": "conv1", "scale": "layer"}


@pytest.mark.parametrize(("verb", "recipe"), [("train", ClassifierRecipe), ("stylenet train", StylizerRecipe)])
def test_the_settings_of_recipes_are_options(verb: str, recipe: type) -> None:
    found = typer.main.get_command(app)
    for word in verb.split():
        found = found.commands[word]  # type: ignore[attr-defined]
    shown = {one.name: one for one in found.params}
    settings = [setting_of(one) for one in fields(recipe) if "setting" in one.metadata]
    assert len(settings) >= 9
    for one in settings:
        assert shown[one.name].help.startswith(one.help)  # type: ignore[attr-defined]
        assert one.read(one.default) == one.default
        assert getattr(recipe(), one.name) == one.default
