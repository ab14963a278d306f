"""What people have their inputs in, as what torch takes: arrays of numpy, lists of numbers, tables.

Arrays that lie backwards in memory, or in the byte order of another machine, hold ids like all
others. Objects are ids where all of them are whole numbers. The rows of a data frame, and what
stands in one of its columns, are inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from grulens.errors import ScanError, shown
from grulens.probing.corpus.numbers import as_whole
from grulens.words import so_many

#: The largest id that torch has.
MOST: Final = 2**63 - 1


def taken(given: Any) -> Any:
    """An input as torch takes it: an array, a column, or a list of whole numbers as a tensor.

    Of a tuple of one row of ids, as data sets give them, it is this row. What is none of these is
    given back as it is.

    Raises:
        ScanError: it is an array of something that torch does not have; or a table.

    >>> taken(np.arange(3)[::-1]), taken([np.int64(3), 4]), taken("a text")
    (tensor([2, 1, 0]), tensor([3, 4]), 'a text')
    """
    if type(given) is tuple and len(given) == 1 and np.ndim(given[0]) == 1:
        return taken(given[0])
    rows = rows_of(given)
    if rows is not None and not are_ids(rows):
        raise ScanError(
            f"a {type(given).__name__} of {so_many(len(rows), 'row')} stands among the inputs of a "
            "part: its rows are inputs themselves, so give it as a part of its own, "
            "parts=[frame, ...], or as all parts"
        )
    given = given if rows is None else rows
    if are_ids(given):
        check_ids(int(max(given)))
        return torch.tensor([*map(int, given)], dtype=torch.int64)
    if isinstance(given, list | range) and not len(given):
        return torch.zeros(0, dtype=torch.int64)
    return _as_tensor(given) if isinstance(given, ndarray) else given


def are_ids(given: Any) -> bool:
    """Whether something is a list of whole numbers, one or more.

    >>> are_ids([np.int64(3), 4]), are_ids(range(3)), are_ids([True, 3]), are_ids([])
    (True, True, False, False)
    """
    if not isinstance(given, list | range) or not len(given):
        return False
    plain = isinstance(given, range) or all(type(item) is int for item in given)
    return plain or all(as_whole(item) is not None for item in given)


def check_ids(largest: int) -> None:
    """Raise where torch has no such id.

    Raises:
        ScanError: it has not.
    """
    if largest > MOST:
        raise ScanError(f"an id is {largest}; torch has ids up to {MOST} (2^63 - 1)")


def _as_tensor(given: ndarray) -> Tensor:
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise ScanError(
            "an array of numpy has masked values, which torch does not know: array.compressed() "
            "leaves them out, array.filled(id) has an id for them"
        )
    if given.dtype.kind == "O":
        other = next((item for item in given.flat if as_whole(item) is None), None)
        if other is not None or not given.size:
            raise ScanError(f"an array of numpy holds objects, such as {shown(other)}{_INSTEAD}")
        check_ids(max(map(int, given.flat)))
        given = given.astype(np.int64)
    if given.dtype.kind == "u" and given.size:
        check_ids(int(given.max()))
        given = given if given.dtype.itemsize in (1, 8) else given.astype(np.int64)
    native = given.dtype.isnative and all(stride >= 0 for stride in given.strides)
    if not (native and given.flags.writeable):
        given = np.array(given, given.dtype.newbyteorder("="), order="C", copy=True)
    try:
        return torch.from_numpy(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise ScanError(f"an array of numpy is of {given.dtype}{_INSTEAD}") from error


_INSTEAD: Final = (
    "; torch has no such thing: give ids as array.astype(int), numbers as array.astype('float32'), "
    "and texts as a list, array.tolist()"
)


def rows_of(given: Any) -> list[Any] | None:
    """The rows of a data frame as mappings, or what stands in one of its columns; else None.

    pandas and polars have both.
    """
    if isinstance(given, Tensor | ndarray | Mapping | str | bytes):
        return None
    if hasattr(given, "iterrows"):
        return list(given.to_dict("records"))
    if hasattr(given, "to_dicts"):
        return list(given.to_dicts())
    if hasattr(given, "to_list") and hasattr(given, "to_numpy"):
        return list(given.to_list())
    return None
