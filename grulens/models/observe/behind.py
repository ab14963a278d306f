"""Whether some code names a way to write over a tensor that torch does not count.

A write to `x.data`, or by numpy to the memory of a tensor, leaves no trace in the tensor. Code that
may do so is known by the names that it needs for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from grulens.models.observe.sites import library_of, methods_of

BEHIND = frozenset({
    "data", "numpy", "__array__", "asarray", "untyped_storage", "storage", "data_ptr", "set_",
    "__dlpack__", "to_dlpack", "from_dlpack", "swap_tensors", "_unsafe_preserve_version_counter",
})  # fmt: skip
"""The names of such ways."""


def names_behind(codes: Iterable[CodeType]) -> bool:
    """Whether some code names such a way.

    Args:
        codes: functions' code; that of functions inside them is looked at too.
    """
    return any(not BEHIND.isdisjoint(_names(code)) for code in codes)


@functools.cache
def may_write_behind(kind: type[Any]) -> bool:
    """Whether the methods of a class, but for those that make its weights, name such a way.

    So may the functions of its library that they call by name.
    """
    methods = (m for m in methods_of(kind) if not m.__name__.startswith(("reset", "init", "_init")))
    return names_behind(_reached(methods))


def _reached(functions: Iterable[FunctionType]) -> Iterator[CodeType]:
    """The code of functions, and of those that they name."""
    stack, seen = [*functions], set[CodeType]()
    while stack:
        function = stack.pop()
        code = function.__code__
        if code in seen:
            continue
        seen.add(code)
        yield code
        named = map(function.__globals__.get, _names(code))
        own = (inspect.unwrap(one) for one in named if isinstance(one, FunctionType))
        stack += [
            one
            for one in own
            if isinstance(one, FunctionType) and library_of(one.__code__) == library_of(code)
        ]


def _names(code: CodeType) -> set[str]:
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)
