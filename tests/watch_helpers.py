"""A watch that writes down what it hears and sees, and cancels where it is asked to."""

from collections.abc import Callable
from typing import Any

from netloupe.core.watch import Watch


class Recorder(Watch):
    """`told`: (name, done, total); `notes`; `shown`: (name, image). Cancels as it hears for the `at`-th time."""

    def __init__(self, at: int | None = None, pictures: bool = False) -> None:
        self.pictures = pictures
        self.told: list[tuple[str, int, int]] = []
        self.notes: list[str] = []
        self.shown: list[tuple[str, Any]] = []
        self._at = at

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        self.told.append((name, done, total))
        self.notes.append(note)
        if self._at is not None and len(self.told) >= self._at:
            self.cancel()

    def show(self, name: str, image: Any) -> None:
        self.shown.append((name, image))

    def steps(self, name: str) -> list[int]:
        """What was told as done of the part."""
        return [done for told, done, _ in self.told if told == name]


class Reacting(Watch):
    """Calls `react(name, done)` at everything it hears."""

    def __init__(self, react: Callable[[str, int], object]) -> None:
        self._react = react

    def tell(self, name: str, done: int, total: int, note: str) -> None:
        self._react(name, done)
