"""Which units, times or rows an edit means: an int, a slice, a sequence or a bool mask.

Negative numbers count from the end, and for times the end is each row's own. What cannot be right
for any size is refused when the edit is made; what depends on a size, when it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor

from grulens.errors import PositionError, shown
from grulens.words import Say, english, message, so_many

Index = int | slice | tuple[int, ...] | tuple[bool, ...] | None
#: How positions are said, by what they are of.
_SAID: Final = {
    "unit": (
        message("all units"), message("no unit"), message("unit {numbers}"),
        message("units {numbers}"), message("units {first} to {last}"),
        message("units from {first}"),
    ),
    "step": (
        message("all steps"), message("no step"), message("step {numbers}"),
        message("steps {numbers}"), message("steps {first} to {last}"),
        message("steps from {first}"),
    ),
    "row": (
        message("all rows"), message("no row"), message("row {numbers}"),
        message("rows {numbers}"), message("rows {first} to {last}"), message("rows from {first}"),
    ),
}  # fmt: skip


def normal(index: Any, what: str) -> Index:
    """An index as plain Python: hashable, comparable, and the same for arrays and lists.

    >>> normal(np.array([3, 1, 3]), "units")
    (3, 1, 3)
    >>> normal(range(2), "units")
    (0, 1)

    Raises:
        PositionError: it is nothing of the kind.
    """
    given = index
    if isinstance(index, Tensor | np.ndarray):
        try:
            index = index.tolist()
        except RuntimeError as error:  # a tensor without values to look at: meta, sparse
            raise PositionError(f"{what} cannot be read from {shown(given)}: {error}") from error
    if index is None or (isinstance(index, int) and not isinstance(index, bool)):
        return index
    if isinstance(index, np.integer):
        return int(index)
    if isinstance(index, slice):
        parts = (index.start, index.stop, index.step)
        if all(part is None or isinstance(part, int) for part in parts) and index.step != 0:
            return index
    if isinstance(index, Sequence) and not isinstance(index, str):
        items = tuple(i.item() if isinstance(i, np.generic) else i for i in index)
        kinds = {type(item) for item in items}
        if kinds <= {int} or kinds == {bool}:
            return items
    raise PositionError(
        f"{what} must be an int, a slice, a sequence of int, a bool mask or None, got "
        f"{shown(given)}"
    )


def is_relative(index: Index) -> bool:
    """Whether an index counts from the end anywhere."""
    if isinstance(index, slice):
        return any(part is not None and part < 0 for part in (index.start, index.stop, index.step))
    if isinstance(index, int):
        return index < 0
    return index is not None and any(item < 0 for item in index)


def check(index: Index, size: int, what: str, where: str) -> None:
    """Raise PositionError unless `index` fits `size` positions.

    Args:
        index: a normal index.
        size: how many positions there are.
        what: "unit", "time" or "row".
        where: of what, in words.
    """
    if index is None or isinstance(index, slice):
        return
    if _is_mask(index):
        if len(index) != size:
            raise PositionError(
                f"a bool mask of {so_many(len(index), what)} does not fit {where}, which has {size}"
            )
        return
    for item in (index,) if isinstance(index, int) else index:
        if not -size <= item < size:
            raise PositionError(
                f"{what} {item} is out of range for {where}, which has {so_many(size, what)} "
                f"(0 to {size - 1}, or -{size} to -1 from the end)"
            )


def mask(index: Index, size: int, length: int | None = None) -> Tensor:
    """A bool mask (size,) of the positions meant, in a row that ends at `length` of them.

    >>> mask((0, -1), 4).tolist()
    [True, False, False, True]
    >>> mask(-1, 4, length=2).tolist()
    [False, True, False, False]
    """
    length = size if length is None else length
    chosen = np.zeros(size, dtype=bool)
    if _is_mask(index):
        chosen[: len(index)] = index[:size]
        chosen[length:] = False
    elif index is None or isinstance(index, slice):
        chosen[range(length)[index or slice(None)]] = True
    else:
        for item in (index,) if isinstance(index, int) else index:
            if -length <= item < length:
                chosen[item if item >= 0 else item + length] = True
    return torch.from_numpy(chosen)


def chosen(index: Any, size: int, what: str, where: str) -> Tensor:
    """A bool mask (size,) of the positions that a user named, in any of the forms.

    >>> chosen([0, -1], 3, "unit", "layer 'l0'").tolist()
    [True, False, True]

    Raises:
        PositionError: they are no positions, or not among these.
    """
    given = normal(index, f"{what}s")
    check(given, size, what, where)
    return mask(given, size)


def in_a_row(index: Index) -> Index:
    """Positions that follow one another as the slice that means the same; any others as they are.

    >>> in_a_row((4, 2, 3)), in_a_row((False, True, True)), in_a_row((2, 4)), in_a_row((-2, -1))
    (slice(2, 5, None), slice(1, 3, None), (2, 4), (-2, -1))
    """
    if not isinstance(index, tuple):
        return index
    chosen = [i for i, on in enumerate(index) if on] if _is_mask(index) else sorted({*index})
    if len(chosen) < 2 or chosen[0] < 0 or chosen != list(range(chosen[0], chosen[-1] + 1)):
        return index
    return slice(chosen[0], chosen[-1] + 1)


def to_json(index: Index) -> Any:
    """An index as JSON."""
    if isinstance(index, slice):
        return {"slice": [index.start, index.stop, index.step]}
    return list(index) if isinstance(index, tuple) else index


def from_json(value: Any, what: str) -> Index:
    """The way back from `to_json`."""
    if isinstance(value, dict) and set(value) == {"slice"} and len(value["slice"]) == 3:
        return normal(slice(*value["slice"]), what)
    return normal(value, what)


def words(index: Index, what: Literal["unit", "step", "row"], say: Say = english) -> str:
    """An index as a person says it: "units 3, 7", "steps 2 to 5", "all units".

    Args:
        index: the index.
        what: what it is of.
        say: says it in a language.

    >>> words(None, "unit"), words((3, 7), "unit"), words(slice(2, 6), "step")
    ('all units', 'units 3, 7', 'steps 2 to 5')
    """
    every, none, one, several, span, since = _SAID[what]
    if index is None:
        return say(every)
    if isinstance(index, int):
        return say(one, numbers=index)
    if isinstance(index, slice):
        first, stop = index.start or 0, index.stop
        if index.step not in (None, 1) or first < 0 or (stop is not None and stop < 0):
            numbers = f"{first}:{'' if stop is None else stop}:{index.step or 1}"
            return say(several, numbers=numbers)
        if stop is None:
            return say(since, first=first)
        if stop - first > 2:  # it may be as long as it likes
            return say(span, first=first, last=stop - 1)
        index = tuple(range(first, stop))
    if _is_mask(index):
        index = tuple(i for i, chosen in enumerate(index) if chosen)
    if not index:
        return say(none)
    run = len(index) > 2 and index == tuple(range(index[0], index[0] + len(index)))
    if run:
        return say(span, first=index[0], last=index[-1])
    numbers = ", ".join(map(str, index[:6]))
    if len(index) > 6:
        numbers = say("{named} and {n} more", named=numbers, n=len(index) - 6)
    return say(one if len(index) == 1 else several, numbers=numbers)


def _is_mask(index: Index) -> TypeGuard[tuple[bool, ...]]:
    return isinstance(index, tuple) and bool(index) and isinstance(index[0], bool)
