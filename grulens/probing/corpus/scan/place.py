"""A place in a scanned corpus, and what stands there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Some steps of one row of a scanned corpus.

    Attributes:
        part: the part of the corpus.
        row: the row of that part.
        document: which input of the part the row is from.
        offset: the step of that input at which the row begins.
        start: the first step, counted in the row.
        stop: the step after the last one.
        batch_row: which row of that input it is, where the input is a batch of several.
    """

    part: int
    row: int
    document: int
    offset: int
    start: int
    stop: int
    batch_row: int = 0


@dataclass(frozen=True)
class Context:
    """What stands at some steps of a scanned corpus.

    Attributes:
        place: the steps.
        tokens: what was read at each of them, or None where it was no ids. An id that has no name
            is its number.
        labels: the labels that hold at one of these steps or more.
        values: a number for each step, or None where none is known.
    """

    place: Place
    tokens: tuple[str, ...] | None
    labels: tuple[str, ...]
    values: tuple[float, ...] | None = None

    @property
    def text(self) -> str:
        """The tokens in one string."""
        return "".join(self.tokens or ())
