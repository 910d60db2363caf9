"""Receptive fields from the operations of one pass: what each tensor sees of the image, as they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from netloupe.core.layout import MAPS, Layout
from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.trace.field_rules import rule_for
from netloupe.core.trace.marks import Axis, Call, Mark
from netloupe.core.trace.mode import CantTell, Follow, Memory, Operation, tensors, unfollowed


class Tracker:
    """Follows what tensors see, whatever Python code calls the operations.

        tracker = Tracker()
        with following(tracker.start(images)):
            module(images)                      # tracker.field(tensor) inside, as tensors are made, or after it

    Where a rule can't tell, track is lost of what it gives and of all that follows from that. A fault of a rule comes
    out of `following`.
    """

    def __init__(self) -> None:
        self._known: Memory[Mark | None] = Memory()  # None: track was lost
        self._image = (0, 0)

    def start(self, images: Tensor) -> Follow:
        """Begin with `images` (N, C, H, W): what follows the operations of a pass (see `following`)."""
        height, width = images.shape[2:]
        self._image = (height, width)
        y, x = (Axis(d, tuple((i, i + 1) for i in range(n)), (0, 1, 1)) for d, n in ((2, height), (3, width)))
        self._known.put(images, Mark(y, x))
        return self._follow

    def field(self, tensor: Tensor, layout: Layout = MAPS) -> ReceptiveField | None:
        """What the neurons of (1, C, H, W) or (1, C), or of what lies otherwise, see.

        None if an operation that is not known stood in between.
        """
        mark = self._of(tensor)
        viewed = None if mark is None else mark.viewed(layout)
        return None if viewed is None else viewed.field((1, *layout.shape(tensor.shape)), self._image)

    def _follow(self, operation: Operation) -> Callable[[Any], None] | None:
        operands = tuple(tensor for tensor in operation.tensors if tensor in self._known)
        if not operands or operation.blind:
            return None

        def finish(result: Any) -> None:
            outputs = tuple(tensors(result))
            found = self._apply(operation, operands, outputs)
            for output, mark in zip(outputs, found, strict=True):
                if any(output is target for target in operation.written):
                    self._overwrite(output, mark)
                else:
                    self._known.put(output, mark)
            for target in operation.written:
                if not any(output is target for output in outputs):
                    self._overwrite(target, None)

        return finish

    def _apply(
        self, operation: Operation, operands: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> Sequence[Mark | None]:
        """The marks of the outputs; None for all where an operand's track was lost or the rule can't tell."""
        known = [self._of(operand) for operand in operands]
        marks = tuple(mark for mark in known if mark is not None)
        if len(marks) < len(known) or not outputs:
            return [None] * len(outputs)
        try:
            found = rule_for(operation)(Call(operation, operands, marks, outputs))
        except CantTell:
            return [None] * len(outputs)
        if isinstance(found, Sequence):
            return found
        return [found if output.shape == outputs[0].shape else None for output in outputs]

    def _of(self, tensor: Tensor) -> Mark | None:
        """What is known of a tensor; of a batch of one also by what was written into its image, as detectors do."""
        mark = self._known.get(tensor)
        if mark is not None or tensor.ndim < 2 or len(tensor) != 1:
            return mark
        with unfollowed():
            written = self._known.get(tensor.detach()[0])
        return None if written is None else written.moved({dim: dim + 1 for dim in written.dims})

    def _overwrite(self, tensor: Tensor, mark: Mark | None) -> None:
        """After an in-place operation; other views of the same memory lose track unless nothing changed."""
        if not (tensor in self._known and self._known.get(tensor) == mark):
            self._known.forget(tensor)
            self._known.put(tensor, mark)
