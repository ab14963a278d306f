"""What is kept of a run's values, and whether its code wrote over them after it had made them.

A value that stands in the equation is kept as the code made it, and not copied: the equation shows
whether it was written over since. All others are copied, since there is nothing that shows a write
by `x.data`, by the storage or by numpy. Where no copy can stand for a value, as autograd's graph is
of the value, the copy is what the value is compared with after the run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor


def kept(values: Sequence[Any], *, graph: bool) -> list[Tensor]:
    """Values as they are kept.

    Args:
        values: tensors, or numbers.
        graph: whether they are part of autograd's graph.
    """
    made = [value if isinstance(value, Tensor) else torch.tensor(float(value)) for value in values]
    if graph or not any(map(_requires_grad, made)):
        return made
    return [value.detach() if value.requires_grad else value for value in made]


_requires_grad = operator.attrgetter("requires_grad")


def copied(value: Any) -> Any:
    """A value that nobody can write over; of a tuple, of each part."""
    if isinstance(value, (tuple, list)):
        return tuple(map(copied, value))
    return value.detach().clone() if isinstance(value, Tensor) else value


def witness(value: Any) -> Any:
    """What tells later whether a value was written over; of a tuple, of each part.

    It is the number of writes that torch has counted; a copy, where torch counts none.
    """
    if isinstance(value, (tuple, list)):
        return tuple(map(witness, value))
    if not isinstance(value, Tensor):
        return None
    return copied(value) if value.is_inference() else value._version


_counted = operator.attrgetter("_version")


def writes_to(values: Iterable[Tensor]) -> list[int | None]:
    """How many writes torch has counted to each tensor; None in inference mode: it does not."""
    values = [*values]
    try:
        return [*map(_counted, values)]
    except RuntimeError:
        return [None if value.is_inference() else value._version for value in values]


class Noted:
    """What a run makes at one place, one value after the other.

    Attributes:
        values: the values.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._witnesses: list[Any] = []

    @property
    def witnesses(self) -> list[Any]:
        """Of each value what tells whether it was written over since; None of a copy."""
        return self._witnesses or [None] * len(self.values)

    def noting(self, *, copies: bool, graph: bool) -> Callable[[Any], Any]:
        """A function that notes a value, and gives it back.

        Args:
            copies: whether copies are noted, as the code may write over what it makes.
            graph: whether the values must be those that the code made.
        """
        keep, testify = self.values.append, self._witnesses.append

        def note(value: Any) -> Any:
            keep(value)
            try:
                several = type(value) is tuple
                testify(tuple(map(_counted, value)) if several else value._version)
            except (AttributeError, RuntimeError):  # of a number, or in inference mode
                testify(witness(value))
            return value

        def note_copy(value: Any) -> Any:
            try:
                keep(value.clone())
            except AttributeError:  # of a number, or of a tuple
                keep(copied(value))
            return value

        def note_both(value: Any) -> Any:
            keep(value)
            testify(copied(value))
            return value

        return note if not copies else note_both if graph else note_copy


def are_written_over(values: Sequence[Any], thens: Sequence[Any]) -> bool:
    """Whether some values are others than they were.

    Args:
        values: they.
        thens: their witnesses.
    """
    if not set(map(type, thens)) - {NoneType}:
        return False  # they are copies
    try:
        counted = [*map(_counted, values)] == thens
    except (AttributeError, RuntimeError):  # of numbers, or in inference mode
        counted = False
    return not counted and any(map(_is_another, values, thens))


def _is_another(value: Any, then: Any) -> bool:
    if isinstance(then, Tensor):
        return value.shape != then.shape or not torch.equal(_as_bits(value), _as_bits(then))
    return then is not None and value._version != then


def _as_bits(value: Tensor) -> Tensor:
    """No number is NaN, so that equal ones are equal."""
    return value.detach().flatten().view(torch.uint8)
