"""What a run makes from what: every call of torch in it, for the first few steps of each loop.

All that Python calls of torch passes a `TorchFunctionMode`. It sees what goes in and what comes
out, and where in the code that stands. From that follows which value was made of which.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType, FrameType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from grulens.models.observe.paths import Paths
from grulens.models.observe.sites import Chain, Chains, Site, innermost

FIRST = 12
"""How often a site is looked at: enough for some steps, whatever stands in a step several times."""
OFTEN = 8 * FIRST
"""How often a piece of code is looked at in one module, called by one line, whoever calls that."""


_LOOKED_AT = object()
"""What stands for the site of a call that is looked at."""


@dataclass(eq=False)
class Value:
    """A tensor at one moment of a run: after an operation in place, it is another value.

    Attributes:
        tensor: it.
        node: the operation that made it; None if none was seen.
        part: which part of that operation's result it is.
        first: an equal value that an equal call made before, or None.
        again: the equal values that equal calls made after it.
        plain: the value whose numbers it holds; None until somebody asks, when the run is over.
        late: whether a call made it that was not looked at any more.
        maker: where that call stands; None where nobody asked.
        ranges: by how many calls behind it are looked at, between which numbers it lies, and by how
            many it would be the same; None until somebody asks.
    """

    tensor: Tensor
    node: Node | None = None
    part: int = 0
    first: Value | None = None
    again: list[Value] = field(default_factory=list)
    plain: Value | None = None
    late: bool = False
    maker: Site | None = None
    ranges: dict[int, tuple[tuple[float, float], float]] | None = None

    def __repr__(self) -> str:
        return f"Value({tuple(self.shape)} of {self.node})"

    @property
    def shape(self) -> torch.Size:
        """Its shape."""
        return self.tensor.shape


@dataclass(eq=False)
class Node:
    """One call of torch.

    Attributes:
        number: its place among all calls of the run.
        site: where it stands.
        function: the name of torch's function without underscores: "mul" of `*`, `*=` and `mul_`.
        args: its arguments, a `Value` for every tensor.
        kwargs: those by name.
        results: what it made.
        in_place: whether it wrote over its first argument.
        names: by which it was given its arguments, where it was given all of them by name.
        works_on: out of which it works number by number; None until somebody asks.
        adds_up: whether it makes a sum of products of what it was given; None until somebody asks.
        hands_on: the values whose numbers it works on, if it makes others of them; None until then.
        below: whether it bends these, and the calls that made them; None until somebody asks.
        call: torch's function itself.
    """

    number: int
    site: Site
    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Value] = field(default_factory=list)
    in_place: bool = False
    names: tuple[str, ...] = ()
    works_on: tuple[Value, ...] | None = None
    adds_up: bool | None = None
    hands_on: tuple[Value, ...] | None = None
    below: tuple[bool, tuple[Node, ...]] | None = None
    call: Any = None

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """The tensors among its arguments."""
        return (*_values(self.args), *_values(tuple(self.kwargs.values())))

    def __repr__(self) -> str:
        return f"Node({self.number}, {self.site})"

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


_PLACES = ("input", "other", "end", "weight", "tensor1", "tensor2", "mask", "value")


def _values(given: Any) -> Iterator[Value]:
    if isinstance(given, Value):
        yield given
    elif isinstance(given, tuple | list):
        for part in given:
            yield from _values(part)


class Trace(TorchFunctionMode):
    """Notes the calls of torch in a run.

    Args:
        paths: says which module's forward runs.
        end: the code that begins the run.

    Attributes:
        nodes: the calls, in order; of each site the first ones.
        seen: how many calls there were, at all.
        unseen: by site the number of the first call that was not looked at any more.
    """

    def __init__(self, paths: Paths, end: CodeType) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.seen = 0
        self.unseen: dict[Site, int] = {}
        self._paths, self._end, self._chains = paths, end, Chains(end)
        self._often: dict[tuple[Any, ...], int] = {}
        self._met: dict[tuple[str, Chain, str], tuple[Site, int]] = {}
        self._kinds: dict[Any, tuple[str, str, bool]] = {}
        self._frame: FrameType | None = None
        self._spent: dict[tuple[int, Any], Any] = {}
        # values hold their tensors, so no other tensor can have the same id meanwhile
        self._values: dict[int, Value] = {}
        # what is made by a call that is not looked at is held by nobody for that
        self._late: dict[int, tuple[ReferenceType[Tensor], Site | None]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen += 1
        # as long as a frame lives, the same instruction in it is the same site
        frame: Any = sys._getframe(1)
        if frame is not self._frame:
            frame = innermost(frame, self._end)
            if frame is None:
                return func(*args, **(kwargs or {}))
            if frame is not self._frame:
                self._frame = frame
                self._spent.clear()
        here = frame.f_lasti, func
        spent = self._spent.get(here, _LOOKED_AT)
        if spent is not _LOOKED_AT:  # most calls come by here
            result = func(*args, **kwargs) if kwargs else func(*args)
            if isinstance(result, Tensor) and id(result) not in self._values:
                self._late[id(result)] = ref(result), spent
            return result
        kwargs = kwargs or {}
        by = frame.f_back
        inner = self._paths.now, id(frame.f_code), frame.f_lasti, id(by.f_code), by.f_lasti
        often = self._often[inner] = self._often.get(inner, 0) + 1
        if often > OFTEN + 1:
            self._spent[here] = None
            return self._dated(func(*args, **kwargs), None)
        number, (raw, bare, over) = self.seen, self._kind(func)
        key = self._paths.now, self._chains.of(frame), raw
        site, count = self._met.get(key) or (Site(*key), 0)
        count += 1
        self._met[key] = site, count
        if count > FIRST:
            self._spent[here] = site
            if count == FIRST + 1:
                self.unseen[site] = number
            return self._dated(func(*args, **kwargs), site)
        named = {name: self._taken(value) for name, value in kwargs.items()} if kwargs else {}
        taken = tuple([self._taken(value) for value in args]), named
        result = func(*args, **kwargs)
        node = Node(number, site, bare, *taken, call=func)
        if not node.args and "input" in node.kwargs:
            # by name or by place, it is the same call
            node.names = tuple(name for name in _PLACES if name in node.kwargs)
            node.args = tuple(node.kwargs.pop(name) for name in node.names)
        node.in_place = over or kwargs.get("out") is not None
        made = result
        if raw == "__setitem__" or (over and raw == "data"):
            made = args[0] if args else None
        for part, tensor in enumerate(made if isinstance(made, tuple | list) else [made]):
            if isinstance(tensor, Tensor):
                before = self._values.get(id(tensor))
                if before is not None and not node.in_place and before.node is not None:
                    # what gives back what it was given (a dropout that is off) makes nothing
                    node.results.append(before)
                    continue
                value = Value(tensor, node, part)
                self._values[id(tensor)] = value
                node.results.append(value)
        self.nodes.append(node)
        return result

    def _kind(self, func: Any) -> tuple[str, str, bool]:
        """The name of a function, the same without how it was called, and if it writes over."""
        known = self._kinds.get(func)
        if known is None:
            raw = name_of(func)
            sets = raw == "data" and func.__name__ == "__set__"
            known = self._kinds[func] = raw, plain(raw), writes(raw) or sets
        return known

    def _dated(self, result: Any, site: Site | None) -> Any:
        """The result of a call that is not looked at, noted as made there."""
        if isinstance(result, Tensor) and id(result) not in self._values:
            self._late[id(result)] = ref(result), site
        return result

    def __exit__(self, *error: Any) -> None:
        self._chains.forget()
        self._late.clear()
        self._frame = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's

    def _taken(self, given: Any) -> Any:
        if isinstance(given, Tensor):
            value = self._values.get(id(given))
            if value is None:
                made, maker = self._late.get(id(given), (None, None))
                late = made is not None and made() is given
                value = Value(given, late=late, maker=maker if late else None)
                self._values[id(given)] = value
            return value
        if type(given) in (tuple, list):
            return type(given)([self._taken(part) for part in given])
        return given


def name_of(func: Any) -> str:
    """The name of one of torch's functions; of a property that of its getter's owner.

    >>> name_of(torch.sigmoid), name_of(Tensor.__rsub__), name_of(Tensor.T.__get__)
    ('sigmoid', '__rsub__', 'T')
    """
    name: str = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        return getattr(getattr(func, "__self__", None), "__name__", name)
    return name


def writes(name: str) -> bool:
    """Whether a function of this name writes over its first argument.

    >>> writes("add_"), writes("__iadd__"), writes("__setitem__"), writes("__invert__")
    (True, True, True, False)
    """
    if name.startswith("__"):
        return name == "__setitem__" or name in _IN_PLACE
    return name.endswith("_")


_IN_PLACE = {f"__i{name}__" for name in ("add", "sub", "mul", "div", "truediv", "and", "or", "pow")}


def plain(name: str) -> str:
    """The name of a function without what says how it was called.

    >>> [plain(name) for name in ("__mul__", "__rmul__", "mul_", "__imul__", "__rsub__", "where")]
    ['mul', 'mul', 'mul', 'mul', 'rsub', 'where']
    """
    bare = name.strip("_")
    if name in _IN_PLACE:
        bare = bare[1:]
    return _SAME.get(bare, bare)


_SAME = {
    "radd": "add", "rmul": "mul", "truediv": "div", "rtruediv": "rdiv", "true_divide": "div",
    "multiply": "mul", "subtract": "sub", "negative": "neg", "special_expit": "sigmoid",
    "concat": "cat", "concatenate": "cat", "invert": "logical_not", "and": "logical_and",
    "or": "logical_or",
}  # fmt: skip
