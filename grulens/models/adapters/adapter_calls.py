"""What the functions of an adapter give: what they raise is named as a mistake in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from grulens.cells.cell import RecurrentCell
from grulens.errors import AdapterError, CellError
from grulens.models.adapters.stack import keyed
from grulens.models.call.call import Cells

MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def call_adapter(
    adapter: Any, module: Any, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """What a user's function gives; what it raises is a mistake in the adapter."""
    try:
        return function(module, *args, **kwargs)
    except Exception as error:
        raise AdapterError(
            f"{what!r} of the {type(adapter).__name__} of {type(module).__name__} failed with "
            f"{type(error).__name__}: {error}"
        ) from error


def takes_more(function: Callable[..., Any] | None, first: int) -> bool:
    """Whether a user's function, if there is one, takes more than a few arguments.

    >>> takes_more(lambda module, out: out, 2), takes_more(lambda module, out, *call: out, 2)
    (False, True)
    """
    if function is None:
        return False
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False  # made in C, it does not say what it takes
    return len(parameters) > first or any(p.kind in MANY for p in parameters)


def checked_cells(adapter: Any, module: Any) -> Cells:
    """The cells it gives, by level and direction."""
    cells = call_adapter(adapter, module, "cells", adapter.cells)
    who = f"'cells' of the {type(adapter).__name__} of {type(module).__name__}"
    try:
        by_key = keyed(cells)
    except CellError as error:
        raise AdapterError(f"{who}: {error}") from error
    for cell in by_key.values():
        if len(cell.states) > 1:
            raise AdapterError(
                f"{who}: {cell!r} keeps {' and '.join(cell.states)}; a module can be registered "
                "that keeps one state, h (torch's own nn.LSTM and nn.LSTMCell need no adapter)"
            )
    return by_key


def pair(adapter: Any, module: Any, given: Any) -> tuple[Any, Any]:
    """The input and the first state that its `arguments` gave."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise AdapterError(
            f"'arguments' of the {type(adapter).__name__} of {type(module).__name__} must give "
            f"the input and the first state (or None), got {type(given).__name__}"
        )
    return given[0], given[1]


def check(
    module: Any,
    name: str,
    value: Any,
    shape: tuple[int | None, ...],
    words: str,
    cell: RecurrentCell,
) -> None:
    """Raise AdapterError unless a value has a shape and the weights' dtype."""
    dtype = cell.weight_hh.dtype
    expected = ", ".join("any" if size is None else str(size) for size in shape)
    if not isinstance(value, Tensor):
        came = type(value).__name__
    elif (
        value.dim() == len(shape)
        and all(want in (None, size) for want, size in zip(shape, value.shape, strict=True))
        and value.dtype == dtype
    ):
        return
    else:
        came = f"{tuple(value.shape)} in {value.dtype}"
    raise AdapterError(
        f"the adapter of {type(module).__name__} gives {name} as {came}; its cells need {words} = "
        f"({expected}) in {dtype}"
    )
