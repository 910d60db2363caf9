"""Writes docs/commands.md, the reference of all tasks: python tests/commands_page.py"""

from __future__ import annotations

from pathlib import Path

from netloupe.core.settings import Setting
from netloupe.core.task import Input, Task
from netloupe.tasks import TASKS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"

HEAD = """# Commands

Every technique is a task: its settings are the options of its command, the keyword arguments of its function, and the
keys under `parameters` in its manifest. All but
`stylenet apply` also take the options about the network (`--model`, `--weights`,
`--device`, `--seed`, `--size`, `--mean`, `--std`, `--range`, `--channels`, `--classes`, `--labels`, `--output`,
`--head`), `--out FOLDER` and `--json`; those that make images take `--sweep NAME=VALUE,VALUE,...` for a sheet of
several values, twice for those of two settings. Those that take images through sweeps take `--engine ray`,
`--address` and `--workers` for [a cluster](data.md#on-a-cluster):
SPREADS.

[`netloupe again`](again.md) makes a result again from its manifest or from any of its PNGs, `netloupe diff` names the
settings in which two results differ. This page is written by `python tests/commands_page.py`, and a test holds it.
"""


def section(task: type[Task]) -> str:
    settings = sorted(task.settings(), key=lambda one: not one.argument)
    rows = [_input(one) for one in task.inputs] + [_setting(task, one) for one in settings]
    lines = [
        f"## netloupe {task.verb}",
        "",
        task.title(),
        "",
        "| option | setting | what | default |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *rows, ""])


def _input(one: Input) -> str:
    option = f"`{one.flags[0]}`" if one.flags else f"`{one.metavar or one.name.upper()}`"
    return f"| {option} | | {one.help} | {'required' if one.required else one.default or ''} |"


def _setting(task: type[Task], one: Setting) -> str:
    default = "required" if one.required else one.usual
    option = ", ".join(f"`{flag}`" for flag in one.flags) or f"`{one.name.upper()}`"
    if one.target:
        option = "`--class`, `--unit`, `--objective`"
    for each in task.inputs:
        option = f"`{each.metavar}`" if each.shares == one.name else option
    listed = f" One of {', '.join(one.choices)}." if one.choices else ""
    what = f"{one.help}{listed}{f' {one.limits().capitalize()}.' if one.limits() else ''}".replace("|", r"\|")
    return f"| {option} | `{one.name}` | {what} | {default} |"


def page() -> str:
    spread = ", ".join(f"`{task.verb}`" for task in TASKS if task.spreads)
    return "\n".join([HEAD.replace("SPREADS", spread), *(section(task) for task in TASKS)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
