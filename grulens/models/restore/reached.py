"""What a model's code can change besides tensors of the model: lists, counters, iterators, globals.

A forward may keep what it made in a list of the module's, of its file or of a closure, count its
calls in a global or a class attribute, or take the next of an iterator. A run of which nothing is
to remain would be felt by the next one through any of these. So what the model holds and its code
names is followed, and noted as it stands: through containers, objects of the user's own classes,
functions with their closures, defaults and globals, hooks, and other modules. What installed
packages define is not followed.
"""

from __future__ import annotations

import array
import dis
import functools
import itertools
import operator
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from grulens.models.restore.generators import is_generator
from grulens.models.restore.versions import version

MOST: Final = 2**16
"""So many objects are followed at most."""
NUMBERS: Final = 2**22
"""So many numbers of tensors and arrays, beside the model's own, are copied at most."""
_ATOMS = frozenset({
    bool, int, float, complex, str, bytes, NoneType, range, slice, type(...), torch.dtype,
    torch.device, torch.Size, ModuleType,
})  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_MISSING = object()

Back = Callable[[], str]
"""Puts something back; what it gives says what cannot be put back, "" if all is."""


class Reached:
    """What a model's code can change, as it stands now; see above.

    Args:
        model: the model.
        known: what is kept otherwise: it is followed, and not noted.
        also: what else its run is given.

    Attributes:
        generators: the generators of random numbers that were met.

    >>> model = nn.Identity()
    >>> model.calls = {"of it": []}
    >>> reached = Reached(model)
    >>> model.calls["of it"].append(1)
    >>> reached.put_back(), model.calls
    ([], {'of it': []})
    """

    def __init__(
        self, model: nn.Module, known: Iterable[object] = (), also: Iterable[object] = ()
    ) -> None:
        self._back: list[Back] = []
        self._seen: dict[int, object] = {}
        self._known = {id(one) for one in known}
        self._left = NUMBERS
        self.generators: list[object] = []
        todo: list[object] = [model, *also]
        while todo and len(self._seen) < MOST:
            one = todo.pop()
            if type(one) in _ATOMS or id(one) in self._seen:
                continue
            self._seen[id(one)] = one
            todo += self._inside(one)

    def put_back(self) -> list[str]:
        """Put all of it back; what comes back says what could not be."""
        with torch.no_grad():
            said = [back() for back in self._back]
        return [one for one in dict.fromkeys(said) if one]

    def _inside(self, one: Any) -> Iterable[object]:
        """What can be reached from an object, which is noted as it stands."""
        if isinstance(one, nn.Module):
            return self._module(one)
        if isinstance(one, Tensor | np.ndarray):
            self._numbers(one)
            return ()
        if is_generator(one):
            self.generators.append(one)
            return ()
        if isinstance(one, dict | list | deque | set | bytearray | array.array):
            self._container(one)
            if isinstance(one, bytearray | array.array):
                return ()
            return one.values() if isinstance(one, dict) else [*one]
        if isinstance(one, tuple | frozenset):
            return one
        if isinstance(one, FunctionType):
            return self._function(one)
        if isinstance(one, MethodType):
            return one.__func__, one.__self__
        if isinstance(one, BuiltinFunctionType):
            return (one.__self__,)
        if isinstance(one, functools.partial):
            return one.func, one.args, one.keywords
        if isinstance(one, staticmethod | classmethod):
            return (one.__func__,)
        if isinstance(one, property):
            return one.fget, one.fset
        if isinstance(one, type):
            return self._class(one) if is_users(one.__module__) else ()
        if isinstance(one, Iterator) and not hasattr(one, "__dict__"):
            return self._iterator(one)
        return self._object(one)

    def _names(self, held: dict[str, Any], names: Iterable[str]) -> None:
        """Note what stands under some names."""
        if id(held) in self._known:
            return
        before = {name: held.get(name, _MISSING) for name in names}

        def back() -> str:
            for name, value in before.items():
                if held.get(name, _MISSING) is value:
                    continue
                if value is _MISSING:
                    del held[name]
                else:
                    held[name] = value
            return ""

        self._back.append(back)

    def _all_names(self, held: dict[str, Any]) -> None:
        """Note everything that stands in a dict of attributes."""
        if id(held) in self._known:
            return
        before = dict(held)

        def back() -> str:
            for name in held.keys() - before.keys():
                del held[name]
            held.update(before)
            return ""

        self._back.append(back)

    def _module(self, one: nn.Module) -> Iterable[object]:
        if isinstance(one, torch.jit.ScriptModule):
            return
        held = vars(one)
        self._all_names(held)
        yield type(one)
        for name, value in held.items():
            if not name.startswith("_") or name not in _TORCHS:
                yield value
        for name in (*_HOOKS, "_buffers", "_modules"):
            yield from held.get(name, {}).values()

    def _object(self, one: Any) -> Iterable[object]:
        """An object of a class of the user's."""
        kind = type(one)
        if not is_users(kind.__module__):
            return
        yield kind
        if isinstance(held := getattr(one, "__dict__", None), dict):
            self._all_names(held)
            yield from held.values()
        slots = [name for base in kind.__mro__ for name in _slots(base)]
        before = {name: getattr(one, name, _MISSING) for name in slots}
        yield from (value for value in before.values() if value is not _MISSING)

        def back() -> str:
            for name, value in before.items():
                if value is _MISSING and hasattr(one, name):
                    object.__delattr__(one, name)
                elif value is not _MISSING and getattr(one, name, _MISSING) is not value:
                    object.__setattr__(one, name, value)
            return ""

        if before:
            self._back.append(back)

    def _class(self, one: type) -> Iterable[object]:
        before = {name: value for name, value in vars(one).items() if name[:2] != "__"}
        yield from one.__mro__[1:]
        yield from vars(one).values()

        def back() -> str:
            now = {name: value for name, value in vars(one).items() if name[:2] != "__"}
            for name in now.keys() - before.keys():
                type.__delattr__(one, name)
            for name, value in before.items():
                if now.get(name, _MISSING) is not value:
                    type.__setattr__(one, name, value)
            return ""

        self._back.append(back)

    def _function(self, one: FunctionType) -> Iterable[object]:
        if (inner := getattr(one, "__wrapped__", None)) is not None:
            yield inner
        if not is_users(one.__module__):
            return
        if vars(one):
            self._all_names(vars(one))
        for cell in one.__closure__ or ():
            yield from self._cell(cell)
        yield from (vars(one), one.__defaults__, one.__kwdefaults__)
        read, bound, set_ = _named(one.__code__)
        self._names(one.__globals__, bound)
        for name in read:
            value = one.__globals__.get(name)
            if isinstance(value, ModuleType):
                if is_users(value.__name__):
                    self._names(vars(value), set_ & vars(value).keys())
                    yield from (vars(value)[name] for name in read & vars(value).keys())
            else:
                yield value

    def _cell(self, cell: CellType) -> Iterable[object]:
        before = _content(cell)

        def back() -> str:
            if _content(cell) is not before:
                if before is _MISSING:
                    del cell.cell_contents
                else:
                    cell.cell_contents = before
            return ""

        self._back.append(back)
        if before is not _MISSING:
            yield before

    def _container(self, one: Any) -> None:
        if id(one) in self._known:
            return
        before = one.copy() if type(one) is not array.array else one[:]

        def back() -> str:
            if not _are_same(one, before):
                kind = next(base for base in _KINDS if isinstance(one, base))
                if kind is array.array:
                    one[:] = before
                else:
                    kind.clear(one)
                    (kind.update if hasattr(kind, "update") else kind.extend)(one, before)
            return ""

        self._back.append(back)

    def _numbers(self, one: Any) -> None:
        """A tensor or an array."""
        if isinstance(one, nn.Parameter) or id(one) in self._known:
            return
        is_tensor = isinstance(one, Tensor)
        if is_tensor and (one.layout is not torch.strided or one.is_meta or one.is_nested):
            return
        if not is_tensor and (one.dtype.hasobject or not one.flags.writeable):
            return
        size = one.numel() if is_tensor else one.size
        if self._left < size:
            if is_tensor:
                then = version(one)
                said = f"a tensor of {size:,} numbers, which was written over"
                self._back.append(lambda: "" if version(one) == then else said)
            return
        self._left -= size
        before = one.detach().clone() if is_tensor else one.copy()

        def back() -> str:
            if is_tensor:
                # only then: a copy counts as a write, and an earlier graph may hold it
                if not torch.equal(one, before):
                    one.copy_(before)
            elif one.tobytes() != before.tobytes():
                np.copyto(one, before)
            return ""

        self._back.append(back)

    def _iterator(self, one: Any) -> Iterable[object]:
        if type(one).__module__ == "itertools" and type(one) is not itertools.count:
            return
        before, said = _stand(one), f"an iterator ({type(one).__name__}), which has gone on"

        def back() -> str:
            if not _is_there(one, before) and hasattr(one, "__setstate__"):
                one.__setstate__(before[-1])
            return "" if _is_there(one, before) else said

        self._back.append(back)
        # what stands in a generator is its own: it is not put back, but said to have gone on
        if type(one) is not GeneratorType and len(before) > 1 and type(before[1]) is tuple:
            yield from before[1]


_KINDS: Final[tuple[Any, ...]] = (
    OrderedDict, dict, list, deque, set, bytearray, array.array,
)  # fmt: skip
_TORCHS: Final = frozenset(vars(nn.Module()))
"""Torch's own attributes of a module."""


def _are_same(one: Any, other: Any) -> bool:
    """Whether two containers of one kind hold the same objects, in one order."""
    if len(one) != len(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return all(a is c and b is d for (a, b), (c, d) in pairs)
    if isinstance(one, list | deque):
        return all(a is b for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _stand(one: Any) -> list[Any]:
    """Where an iterator stands, as far as it says so."""
    kind = type(one)
    if kind is GeneratorType:
        frame = one.gi_frame
        return [] if frame is None else [frame.f_lasti, *frame.f_locals.values()]
    if kind is itertools.count:
        return [repr(one)]
    if kind in (enumerate, zip, map, filter) or hasattr(one, "__setstate__"):
        return [*one.__reduce__()]
    return [operator.length_hint(one, -1)]


def _is_there(one: Any, before: list[Any]) -> bool:
    """Whether an iterator stands where it stood."""
    now = _stand(one)
    if type(one) is GeneratorType:
        return len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True))
    return now == before


def _slots(kind: type) -> tuple[str, ...]:
    held = vars(kind).get("__slots__", ())
    names = (held,) if isinstance(held, str) else tuple(held)
    return tuple(name for name in names if name[:2] != "__")


@functools.cache
def _named(code: CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names that a piece of code reads, the globals it binds, and the attributes it sets."""
    read, bound, set_ = set(code.co_names), set[str](), set[str]()
    for one in dis.get_instructions(code):
        if one.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            bound.add(one.argval)
        elif one.opname in ("STORE_ATTR", "DELETE_ATTR"):
            set_.add(one.argval)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            for mine, theirs in zip((read, bound, set_), _named(part), strict=True):
                mine.update(theirs)
    return frozenset(read), frozenset(bound), frozenset(set_)


@functools.cache
def is_users(module: str | None) -> bool:
    """Whether a module of this name is the user's own: not Python's, and not installed."""
    root = (module or "").split(".")[0]
    if root in ("torch", "grulens") or (root in sys.stdlib_module_names and root != "__main__"):
        return False
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file
