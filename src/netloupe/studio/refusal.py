"""What is not accepted of a browser."""

from __future__ import annotations

from netloupe.core.errors import InputError


class Refused(InputError):
    """What a browser sent is not accepted. status: of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
