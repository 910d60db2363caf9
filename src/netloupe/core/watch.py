"""What goes through every long run: it hears what is done, sees pictures as they form, and can stop the run.

    for layer in watch.each("layers", names): ...    # a loop
    part = watch.part("images", len(source))         # or step by step
    part.advance(len(batch), note="loss 0.31")
    climb(..., watch=part.share(64))                 # a run whose steps are the next 64 of `part`

`Watch` itself is silent. Whoever wants to hear overrides `tell`; to see, `show`, and sets `pictures`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from netloupe.core.errors import Cancelled

T = TypeVar("T")


class Watch:
    """Of one run; a silent one. `pictures`: whether it wants them, for a run makes none for a watch that doesn't."""

    pictures: bool = False
    _cancelled: bool = False

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        """Hear that `done` of the `total` steps of part `name` are done; at first how many an earlier run did."""

    def show(self, name: str, image: Any) -> None:
        """See the image, (C, H, W) or (N, C, H, W) in [0, 1], that forms under this name."""

    def part(self, name: str, total: int, done: int = 0) -> Part:
        """A stage of the run, of `total` steps, of which an earlier run may have `done` some."""
        part = Part(self, name, total)
        part.at(done)
        return part

    def each(self, name: str, items: Collection[T]) -> Iterator[T]:
        """The items; a part with a step for each."""
        part = self.part(name, len(items))
        for item in items:
            yield item
            part.advance()

    def picture(self, name: str, image: Any) -> None:
        """Show an image as it forms, where pictures are wanted. Ask `pictures` first where making one costs time."""
        if self.pictures:
            self.show(name, image)

    def named(self, name: str) -> Watch:
        """This watch, hearing of all parts under one name."""
        return _Named(self, name)

    def heard(self, hear: Callable[[str, int, int], None]) -> Watch:
        """This watch, where `hear(name, done, total)` hears of all parts too."""
        return _Heard(self, hear)

    def cancel(self) -> None:
        """Have the run stop: what it does next here raises `Cancelled`. From any thread."""
        if self is SILENT:
            raise RuntimeError("SILENT goes through all runs that nobody watches; make a Watch() to cancel one")
        self._cancelled = True

    def check(self) -> None:
        """Raise `Cancelled` if the run shall stop."""
        if self._cancelled:
            raise Cancelled("cancelled")


class Part:
    """A stage of a run: `done` of `total` steps."""

    def __init__(self, watch: Watch, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self._watch = watch

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more steps are done. Raises Cancelled where the run shall stop."""
        self.at(self.done + n, note)

    def at(self, done: int, note: str = "") -> None:
        """So many steps are done. Raises Cancelled where the run shall stop."""
        self.done = done
        self._watch.tell(self.name, done, self.total, note)
        self._watch.check()

    def share(self, steps: int) -> Watch:
        """For a run of one part: a watch to which the whole of that part is the next `steps` steps of this one."""
        return _Share(self._watch, self, self.done, steps)


class _Derived(Watch):
    """A watch that hands all on to another."""

    def __init__(self, of: Watch) -> None:
        self._of = of
        self.pictures = of.pictures

    def show(self, name: str, image: Any) -> None:
        self._of.show(name, image)

    def cancel(self) -> None:
        self._of.cancel()

    def check(self) -> None:
        self._of.check()


class _Named(_Derived):
    def __init__(self, of: Watch, name: str) -> None:
        super().__init__(of)
        self._name = name

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        self._of.tell(self._name, done, total, note)


class _Heard(_Derived):
    def __init__(self, of: Watch, hear: Callable[[str, int, int], None]) -> None:
        super().__init__(of)
        self._hear = hear

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        self._hear(name, done, total)
        self._of.tell(name, done, total, note)


class _Share(_Derived):
    def __init__(self, of: Watch, part: Part, first: int, steps: int) -> None:
        super().__init__(of)
        self._part, self._first, self._steps = part, first, steps

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        at = self._first + (self._steps * done // total if total else self._steps)
        if at != self._part.done or note:
            self._part.at(at, note)


SILENT = Watch()
