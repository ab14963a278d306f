"""How the code of a module may carry a state: it takes one, or goes round a loop of any kind.

A loop is a `for` or a `while`; a function that calls itself; and `reduce`, `accumulate` and `map`,
which go round in C. It may stand in a method of the module, or in a function that one calls.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import os
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from grulens.models.adapters.lookalike import STATE
from grulens.models.observe.sites import is_users, library_of, methods_of

_PYTHON = os.path.dirname(os.__file__) + os.sep
_ROUND = {
    functools.reduce: "functools.reduce", itertools.accumulate: "itertools.accumulate", map: "map",
    itertools.starmap: "itertools.starmap",
}  # fmt: skip
"""What calls a function once and once again."""


def may_carry(module: nn.Module) -> str:
    """How the code of a module may carry a state, in words; "" if nothing in it says so.

    >>> class Mine(nn.Module):
    ...     def forward(self, x, hidden): ...
    >>> may_carry(Mine()), may_carry(nn.Linear(2, 3))
    ("takes a state, 'hidden'", '')
    """
    kind: Any = type(module)
    return _of_class(kind)


@functools.cache
def _of_class(kind: type[Any]) -> str:
    if (kind.__module__ or "").startswith("torch."):
        return ""
    forward = inspect.unwrap(getattr(kind, "forward", None) or _nothing)
    code = getattr(forward, "__code__", None)
    if code is None or (getattr(forward, "__module__", None) or "").startswith("torch."):
        return ""
    takes = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    states = [name for name in takes if STATE.match(name.lower())]
    if len(takes) > 1 and states:
        return f"takes a state, {states[0]!r}"
    methods = [*methods_of(kind)]
    if any(_loops(method.__code__) for method in methods):
        return "goes round a loop"
    said = (_goes_round(method, owner=True) for method in methods)
    called = (
        f"calls {one.__name__}(), which {how}"
        for one in _called(methods)
        for how in ["goes round a loop" if _loops(one.__code__) else _goes_round(one)]
        if how
    )
    return next(filter(None, said), "") or next(called, "")


def _called(functions: list[FunctionType]) -> Iterator[FunctionType]:
    """The functions that some call by name, and those that these call, of the same library."""
    seen, queue = {id(one.__code__) for one in functions}, [*functions]
    while queue:
        by = queue.pop(0)
        for held in _named(by):
            one = inspect.unwrap(held) if callable(held) else held
            if not isinstance(one, FunctionType) or id(one.__code__) in seen:
                continue
            if _is_beside(one.__code__, by.__code__):
                seen.add(id(one.__code__))
                queue.append(one)
                yield one


def _is_beside(code: CodeType, other: CodeType) -> bool:
    """Whether code is of the same library as other code, and no part of Python's own."""
    own = library_of(code)
    pythons = not own and code.co_filename.startswith(_PYTHON)
    return own == library_of(other) and not pythons and is_users(code)


def _named(function: FunctionType) -> Iterator[object]:
    """What the names stand for that a function uses and does not bind itself."""
    code = function.__code__
    around = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
    for cell in around.values():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
    names = {name for one in _codes(code) for name in one.co_names}
    known = function.__globals__
    for name in names:
        held = known.get(name, map if name == "map" else None)
        yield held
        if isinstance(held, ModuleType) and not held.__name__.startswith("torch"):
            yield from (vars(held).get(part) for part in names)


def _goes_round(function: FunctionType, *, owner: bool = False) -> str:
    """By what a function without a loop of its own goes round; "" if it does not.

    Args:
        function: it.
        owner: whether it is a method.
    """
    for held in _named(function):
        if isinstance(held, type | FunctionType) or inspect.isbuiltin(held):
            if word := _ROUND.get(held):
                return f"goes round by {word}"
            if held is function:
                return f"goes round, as {function.__name__}() calls itself"
    code = function.__code__
    if owner and code.co_argcount:
        itself = code.co_varnames[0], code.co_name
        for one, then in itertools.pairwise(dis.get_instructions(code)):
            if (one.argval, then.argval) == itself and then.opname in ("LOAD_METHOD", "LOAD_ATTR"):
                return f"goes round, as {code.co_name}() calls itself"
    if any(inner.co_name in inner.co_freevars for inner in _codes(code)):
        return "goes round, as a function inside it calls itself"
    return ""


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of what is written inside it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _codes(part)


def _loops(code: CodeType) -> bool:
    # a while ends in a jump of its own where Python writes its condition twice; a comprehension
    # is code of its own
    return any(
        "JUMP_BACKWARD" in one.opname for part in _codes(code) for one in dis.get_instructions(part)
    )


def _nothing() -> None: ...
