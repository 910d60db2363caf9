"""What can go wrong by a user's doing, each in one plain line.

    NetloupeError        the command line prints it as one line and exits with code 2
    ├── UnknownName      a layer, channel, class, model or command that is not there
    ├── InputError       an image, folder, list, tensor or option that can't be used
    ├── NetworkError     a module or its weights: no logits, wrong shapes, non-finite activations
    │   └── DeadUnit     nothing to climb: nothing changes a score
    └── StoreError       an atlas store, checkpoint or disk that can't be read or written
    Cancelled            a run that was told to stop, through its `Watch`; the command line exits with code 130

Anything else that escapes is our own fault and keeps its traceback.
`NetloupeWarning` is no error, but a word on what was taken for granted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetloupeError(Exception):
    """A mistake that the user can mend; `str(error)` is one line, whatever it names."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class UnknownName(NetloupeError):
    """A name that is not there; the message names the nearest that is."""


class InputError(NetloupeError):
    """An image, path, tensor or option that can't be used."""


class NetworkError(NetloupeError):
    """A module or weights file that can't be used."""


class DeadUnit(NetworkError):
    """Units whose score does not depend on the image."""


class StoreError(NetloupeError):
    """A store, checkpoint or disk that can't be read or written."""


class Cancelled(Exception):
    """A run was told to stop, and has: nothing of it is left half-written."""


class NetloupeWarning(UserWarning):
    """What a result rests on although nobody said it, in one line; the command line prints it on stderr."""


def unknown(kind: str, given: object, accepted: Iterable[str], *, shown: int = 8) -> UnknownName:
    """The error for `given` not being one of `accepted`, with the nearest match.

    `kind` is the noun of the message ("layer", "class"). At most `shown` names are listed.
    """
    names = list(accepted)
    text = str(given)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(text.lower(), lowered, n=1, cutoff=0.5)
    listed = ", ".join(names[:shown]) + (f", ... ({len(names)} in all)" if len(names) > shown else "")
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ""
    return UnknownName(f"no {kind} {text!r}{hint} (accepted: {listed or 'none'})")


def short(value: object) -> str:
    """What was given, in one line that is not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


LESS = "out of memory; less at once helps: a smaller batch size, size of image, or number of images or classes"


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU, however Python, PyTorch or a library says it."""
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY)


_NO_MEMORY = (
    "OutOfMemoryError", "out of memory", "can't allocate memory", "annot allocate memory", "not enough memory",
    "std::bad_alloc", "failed to map segment", "unable to mmap",
)  # fmt: skip


def failure(error: BaseException) -> str:
    """How code of others failed, in one line; also where it would have ended the program."""
    return f"it ends the program (sys.exit({error.code!r}))" if isinstance(error, SystemExit) else first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
