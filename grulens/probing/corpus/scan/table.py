"""The rows of a table as parts: each is an input, and small, so that many of them are one part.

A data set that gives mappings is a table as well, whose rows are made one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from numpy import ndarray
from torch import Tensor

from grulens.probing.corpus.scan.sequences import Labelled
from grulens.probing.corpus.scan.taken import are_ids

#: So many rows are a part, or fewer: those that hold so many ids or characters.
ROWS: Final = 256
LONG: Final = 1 << 18


class Rows(list[Any]):
    """Rows of a table that are one part: its inputs."""


def asked_by_number(parts: Any, every: Iterator[Any]) -> tuple[Iterator[Any], bool]:
    """What stands in a data set, and whether that is a table: mappings, asked for by their number.

    In a list, a dict, an array, or what else is no data set of its own, parts stand.

    Args:
        parts: what may be a data set.
        every: what it gives, one after another; the first is asked for.

    >>> asked_by_number([{"text": "a"}], iter([{"text": "a"}]))[1]
    False
    """
    asked = all(hasattr(type(parts), name) for name in ("__len__", "__getitem__"))
    if not asked or isinstance(parts, Sequence | Mapping | ndarray | Tensor):
        return every, False
    first = [*islice(every, 1)]
    return chain(first, every), bool(first) and isinstance(first[0], Mapping)


def grouped(rows: Iterable[Any]) -> Iterator[Any]:
    """The rows of a table as parts, by nothing but the rows and their order.

    A part has 256 rows at most, and ends with the row that brings it to 262,144 ids or characters.
    A row that is several inputs by itself is a part of its own.

    Args:
        rows: the rows, each with what was given of its labels, if anything was.

    >>> [len(part) for part in grouped(["text"] * 300)]
    [256, 44]
    >>> [len(part) for part in grouped(["long " * 60_000, "a", "b"])]
    [1, 2]
    """
    held: list[Any] = []
    long = 0
    for row in rows:
        inputs = row.part if isinstance(row, Labelled) else row
        several = callable(inputs) or (isinstance(inputs, list) and not are_ids(inputs))
        if several:
            yield from _part(held)
            yield row
            held, long = [], 0
            continue
        held.append(row)
        long += _long(inputs)
        if len(held) == ROWS or long >= LONG:
            yield from _part(held)
            held, long = [], 0
    yield from _part(held)


def _part(rows: list[Any]) -> Iterator[Any]:
    """Some rows as one part, with what was given of the labels of each."""
    if rows and isinstance(rows[0], Labelled):
        held = {name: [row.held[name] for row in rows] for name in rows[0].held}
        yield Labelled(Rows(row.part for row in rows), held)
    elif rows:
        yield Rows(rows)


def _long(row: Any) -> int:
    """How many ids or characters a row holds at most; of a file it is not known, and many."""
    if isinstance(row, Mapping):
        return max(map(_long, row.values()), default=0)
    if isinstance(row, ndarray | Tensor) and row.ndim:
        return math.prod(row.shape[:2])  # of a batch, all its rows
    if isinstance(row, str | Sequence):
        return len(row)
    return LONG if hasattr(row, "__fspath__") else 1
