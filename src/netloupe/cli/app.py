"""`netloupe VERB`: the verbs together, and how each run ends.

Exit codes: 0 done, 2 a user's mistake (one line on stderr), 130 stopped by Ctrl-C, 143 by SIGTERM (one line
too), 1 our own fault (a traceback).
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from netloupe.cli import (
    again,
    atlas,
    layers,
    photos,
    studio,
    stylenet,
    train,
)
from netloupe.cli.command import command
from netloupe.cli.stop import Stopped, terminable
from netloupe.core.errors import (
    LESS,
    Cancelled,
    NetloupeError,
    NetloupeWarning,
    failure,
    lacks_memory,
    unknown,
)
from netloupe.core.memory import keep_memory
from netloupe.tasks import TASKS

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # what typer raises for a wrong command line

_NEEDS = "Input should be "
"""How the reason begins for which typer takes no number."""

_ENVIRONMENT = {
    errno.EACCES, errno.EADDRINUSE, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG,
    errno.ENFILE, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
"""Failures of the machine, not of the program: full and read-only disks, taken ports, names longer than it takes."""


class Verbs(TyperGroup):
    """A group whose error for an unknown verb names the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        verbs = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in verbs:
            raise unknown("verb", args[0], verbs, shown=len(verbs))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Cancelled) as stop:
            raise Stopped(stop) from None


app = typer.Typer(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from netloupe import __version__

        typer.echo(f"netloupe {__version__}")
        raise typer.Exit


@app.callback()
def netloupe(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """A loupe for vision networks: see what every layer, channel and class responds to."""


study_app = typer.Typer(cls=Verbs, subcommand_metavar="VERB ...", help="Experiments about a network.")
stylenet_app = typer.Typer(cls=Verbs, subcommand_metavar="VERB ...", help="Paint in many styles by one fast network.")
atlas_app = typer.Typer(cls=Verbs, subcommand_metavar="VERB ...", help="Build, serve or export an atlas of a network.")
app.command("layers")(layers.layers)
app.command("again")(again.again)
app.command("diff")(again.diff)
_groups = {"": app, "study": study_app, "stylenet": stylenet_app, "atlas": atlas_app}
_own = {"stylenet apply": (stylenet.StyleOptions, stylenet.apply), "atlas build": (atlas.BuildOptions, atlas.build)}
for _task in TASKS:
    _group, _, _verb = _task.verb.rpartition(" ")
    _groups[_group].command(_verb)(command(_task, *_own.get(_task.verb, ())))
app.add_typer(study_app, name="study")
stylenet_app.command("train")(stylenet.train)
stylenet_app.command("styles")(stylenet.styles)
stylenet_app.command("export")(stylenet.export)
app.add_typer(stylenet_app, name="stylenet")
app.command("train")(train.train)
app.command("photos")(photos.photos)
app.command("studio")(studio.studio)
atlas_app.command("serve")(atlas.serve)
atlas_app.command("export")(atlas.export)
app.add_typer(atlas_app, name="atlas")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    keep_memory()
    try:
        with terminable(), _saying():
            status = app(arguments or ["--help"], prog_name="netloupe", standalone_mode=False)
            sys.stdout.flush()
    except NetloupeError as error:
        return _fail(str(error))
    except _UsageError as error:
        return _fail(_usage(error))
    except Stopped as stop:
        _say(stop.line(arguments))
        return stop.status
    except (KeyboardInterrupt, typer.Abort) as stop:  # before there was a verb
        return Stopped(stop).status
    except (Exception, SystemExit) as error:
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):  # typer exits then
            _drop_output()
            return 1
        return _fail(_foreign(error))
    return status if isinstance(status, int) else 0


@contextmanager
def _saying() -> Iterator[None]:
    """What was taken for granted goes to stderr, a line each time it is new."""
    said: set[str] = set()

    def say(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
        if not issubclass(category, NetloupeWarning):
            shown(message, category, filename, lineno, *more)
        elif str(message) not in said:
            said.add(str(message))
            typer.echo(f"note: {message}", err=True)

    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.simplefilter("always", NetloupeWarning)
        warnings.showwarning = say  # type: ignore[assignment]
        yield


def _foreign(error: Exception | SystemExit) -> str:
    """What is not our own fault, in one line: the machine's, or that of code of others; the error again otherwise."""
    if lacks_memory(error):
        return f"{LESS} (--batch-size, --size, --first, --classes)"
    if isinstance(error, SystemExit):
        return f"the network fails: {failure(error)}"
    if not isinstance(error, OSError) or error.errno not in _ENVIRONMENT:
        raise error
    if error.filename is None:
        _drop_output()
    return f"{error.filename or 'output'}: {error.strerror}"


def _fail(message: str) -> int:
    _say(message)
    return 2


def _say(message: str) -> None:
    typer.echo(f"netloupe: {' '.join(message.splitlines())}", err=True)


def _drop_output() -> None:
    """Let what stdout still holds go nowhere, since it can't be written; else Python complains at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # stdout is no file
        pass


def _usage(error: Any) -> str:
    """typer's message in one line, with the command whose help has more."""
    wrong: list[Any] = getattr(error.__cause__, "errors", list)()
    if wrong and str(wrong[0]["msg"]).startswith(_NEEDS):
        needs = str(wrong[0]["msg"]).removeprefix(_NEEDS).partition(",")[0]
        needs = needs.replace("valid integer", "whole number").replace("valid number", "number")
        text = f"{error.param.opts[0]} {wrong[0]['input']!r} (accepted: {needs})"
    else:
        text = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    hint = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
    return f"{text[:1].lower()}{text[1:]}{hint}"
