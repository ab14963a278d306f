"""What to call each step: texts that a user gave, or the labels of an input of class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import Tensor

from grulens.errors import GrulensError, shown
from grulens.views.tokens import valid

Tokens = str | Sequence[str] | Sequence[Sequence[str]] | None


def token_rows(
    tokens: Tokens, labels: Sequence[str] | None, args: Sequence[Any], batch: int, steps: int
) -> list[list[str]] | None:
    """One list of texts a row, or None when steps have only numbers.

    Args:
        tokens: a text (one character a step), one list for all rows, or one list a row.
        labels: names of the classes, for an input of class numbers (batch, time).
        args: the model's arguments.
        batch: rows of the run.
        steps: steps of the run.

    Raises:
        GrulensError: there are more or fewer tokens than steps, or lists than rows.

    >>> token_rows("abc", None, (), 2, 3)
    [['a', 'b', 'c'], ['a', 'b', 'c']]
    """
    if tokens is None:
        return _labelled(labels, args, batch, steps)
    given = _listed(tokens, "tokens")
    nested = bool(given) and not isinstance(given[0], str) and isinstance(given[0], Sequence)
    rows = [texts(row) for row in given] if nested else [texts(given)]
    if nested and len(rows) != batch:
        raise GrulensError(f"tokens for {len(rows)} rows were given; this run has {batch} rows")
    for row in rows:
        # rows of a padded batch end before the longest one
        if len(row) > steps or (not nested and len(row) != steps):
            raise GrulensError(f"{len(row)} tokens were given; this run has {steps} steps")
    padded = [row + [""] * (steps - len(row)) for row in rows]
    return padded if nested else padded * batch


def names_of(labels: Any) -> list[str] | None:
    """The names of the classes as texts; None if there are none.

    Raises:
        GrulensError: they are no list with one name a class.

    >>> names_of(("a", 3))
    ['a', '3']
    """
    if labels is None:
        return None
    expected = "labels must be a list with one name a class"
    if isinstance(labels, Mapping):
        raise GrulensError(
            f"{expected}, got a {type(labels).__name__}, whose order says nothing of the classes: "
            f"{shown(labels)}"
        )
    if isinstance(labels, str | bytes | Set | Tensor):
        raise GrulensError(f"{expected}, got {shown(labels)}")
    given = _listed(labels, "labels")
    for place, name in enumerate(given):
        if isinstance(name, Mapping | Set | list | tuple | Tensor | np.ndarray):
            raise GrulensError(f"{expected}, and item {place} is {shown(name)}")
    return texts(given, "labels")


def texts(given: Any, what: str = "tokens") -> list[str]:
    """Each item as a text that a page can show.

    Raises:
        GrulensError: they are no list.
    """
    found = []
    for item in _listed(given, what):
        try:
            text = str(item)
        except Exception:  # an object of the user's that cannot be shown: its kind is its name
            text = shown(item)
        found.append(valid(text))
    return found


def _listed(given: Any, what: str) -> list[Any]:
    try:
        return list(given)
    except Exception as error:
        raise GrulensError(f"{what} must be a list of texts, got {shown(given)}") from error


def _labelled(
    labels: Sequence[str] | None, args: Sequence[Any], batch: int, steps: int
) -> list[list[str]] | None:
    ids = args[0] if args else None
    if labels is None or not isinstance(ids, Tensor) or ids.is_floating_point():
        return None
    if ids.shape != (batch, steps) or int(ids.min()) < 0 or int(ids.max()) >= len(labels):
        return None
    return [[str(labels[i]) for i in row] for row in ids.tolist()]
