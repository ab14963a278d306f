"""What the functions are that tell labels, as far as their code says, so that others are noticed.

A scan that goes on asks them of the first part again. To ask them of all would take as long as they
do; so that is done where they are not what they were. What they are is their code, what it closes
over, and what of the user's own it reads, and so on from there; what is installed counts by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
from torch import Tensor

from grulens.models.restore.reached import is_users

#: A value of more than so many parts counts by how many they are.
MANY: Final = 10_000


def rules_of(labels: Mapping[str, Any]) -> str:
    """A hash of what the functions among these labels are; "" where none is a function.

    >>> ones, twos = ({"a": partial(np.equal, k)} for k in (1, 2))
    >>> rules_of(ones) == rules_of({"a": partial(np.equal, 1)}), rules_of(ones) == rules_of(twos)
    (True, False)
    """
    rules = {name: rule for name, rule in labels.items() if callable(rule)}
    if not rules:
        return ""
    found = hashlib.sha256()
    seen: dict[int, Any] = {}  # with what is made on the way: else another may have its number
    left: list[Any] = [rules]
    while left:
        one = left.pop()
        words, held = f"{type(one).__qualname__} {_words(one)}", _held(one)
        if id(one) not in seen and held:
            seen[id(one)] = one
            left += held
        found.update(words.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()


def _words(one: Any) -> str:
    """What a value is by itself, in words."""
    if one is None or isinstance(one, bool | int | float | complex | str | bytes):
        return repr(one)
    if isinstance(one, type | ModuleType | FunctionType):
        return f"{getattr(one, '__module__', '')}.{getattr(one, '__qualname__', one.__name__)}"
    if isinstance(one, Tensor | np.ndarray):
        array = one.detach().cpu().numpy() if isinstance(one, Tensor) else one
        whole = array.size <= MANY and not array.dtype.hasobject
        return f"{array.dtype}{array.shape}{array.tobytes().hex() if whole else ''}"
    return str(len(one)) if isinstance(one, dict | list | tuple | set | frozenset) else ""


def _held(one: Any) -> list[Any]:
    """What it is made of beside that."""
    if isinstance(one, CodeType):
        return [one.co_code, one.co_names, one.co_consts]
    if isinstance(one, MethodType):
        return [one.__func__, one.__self__]
    if isinstance(one, partial):
        return [one.func, one.args, one.keywords]
    if isinstance(one, FunctionType) and is_users(one.__module__):
        cells = [_content(cell) for cell in one.__closure__ or ()]
        return [one.__code__, one.__defaults__, one.__kwdefaults__, cells, _read(one)]
    if isinstance(one, dict | list | tuple) and len(one) <= MANY:
        return [*one.items()] if isinstance(one, dict) else [*one]
    if isinstance(one, set | frozenset) and len(one) <= MANY:
        return sorted(one, key=repr)  # their own order is another in each process
    if isinstance(one, type | ModuleType | FunctionType) or not is_users(type(one).__module__):
        return []
    call = type(one).__call__ if callable(one) else None
    return [call, getattr(one, "__dict__", None)]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _read(function: FunctionType) -> dict[str, Any]:
    """What a function reads of its module, by name."""
    names: set[str] = set()
    left = [function.__code__]
    while left:
        code = left.pop()
        names |= set(code.co_names)
        left += [part for part in code.co_consts if isinstance(part, CodeType)]
    return {n: function.__globals__[n] for n in sorted(names) if n in function.__globals__}
