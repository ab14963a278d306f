"""What a user calls things: the names that code for them is written with.

A lens gets objects. Their names stand in the call that made it, `Lens(exp.net, x[:1])`, whose
source Python can show; or a name of the caller's is bound to the very object. Whenever code is
written, each name is looked up again: one that now stands for something else is not used.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType, ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits.edit import Edit

#: Whose frames stand between a user's call and us: our own, and those that check annotations.
INSIDE: Final = frozenset(
    {"grulens", "jaxtyping", "beartype", "traitlets", "ipywidgets", "anywidget"}
)
#: Whose frames call us where no user does.
OUTSIDE: Final = frozenset(
    {"ipykernel", "IPython", "tornado", "asyncio", "threading", "comm", "bokeh", "concurrent"}
)
#: Items of a dict that are looked through for a name.
FEW: Final = 200
_CALLED: ContextVar[Names | None] = ContextVar("called", default=None)


class Names:
    """The names of one place in a user's code.

    Args:
        namespace: name to object.
        written: expressions that stand in the code there, the likeliest first.
        earlier: the names of an earlier place, for what has none here.

    >>> x = torch.ones(3)
    >>> names = Names({"batch": {"x": x}, "y": 1}, ["batch['x']"])
    >>> names.of(x), names.of(torch.zeros(3))
    ("batch['x']", None)
    """

    def __init__(
        self,
        namespace: Mapping[str, Any],
        written: Sequence[str] = (),
        earlier: Names | None = None,
    ) -> None:
        self._namespace = namespace
        self._written = tuple(written)
        self._earlier = earlier

    def before(self, earlier: Names) -> Names:
        """These first, and then those of an earlier place."""
        return Names(self._namespace, self._written, earlier)

    def of(self, thing: object) -> str | None:
        """What an object is called, None if it has no name."""
        for expression in self._written:
            found = value(expression, self._namespace)
            if found is thing or _same(found, thing):
                return expression
        name = next((name for name, held in self._bound() if held is thing), None)
        return self._earlier.of(thing) if name is None and self._earlier is not None else name

    def those(self, kind: type) -> Iterator[tuple[str, Any]]:
        """Everything of a kind that has a name of its own."""
        yield from ((name, held) for name, held in self._bound() if isinstance(held, kind))
        if self._earlier is not None:
            yield from self._earlier.those(kind)

    def _bound(self) -> Iterator[tuple[str, Any]]:
        plain = [
            (name, held)
            for name, held in list(self._namespace.items())
            if name.isidentifier() and not name.startswith("_")
        ]
        yield from plain
        for name, held in plain:  # one step further: attributes, items
            if isinstance(held, ModuleType | type | Tensor) or _ours(held):
                continue
            if isinstance(held, nn.Module):
                inside = [(f"{name}.{k}", part) for k, part in held.named_children()]
            elif type(held) is dict:
                inside = [(f"{name}[{k!r}]", part) for k, part in _few(held) if type(k) is str]
            else:
                inside = [(f"{name}.{k}", part) for k, part in _few(getattr(held, "__dict__", {}))]
            yield from inside


def _ours(held: object) -> bool:
    """Whether it is one of our own screens, sessions and results: no place for a user's model."""
    return type(held).__module__.partition(".")[0] == "grulens" and not isinstance(held, nn.Module)


def _few(held: Any) -> list[tuple[Any, Any]]:
    """The items of a dict; none of one that holds data and not a handful of things."""
    return list(held.items()) if type(held) is dict and len(held) <= FEW else []


def value(expression: str, namespace: Mapping[str, Any]) -> Any:
    """What a name, or a path of attributes and subscripts, stands for; None if for nothing.

    Nothing else is evaluated: no call, no operator.

    >>> value("batch['x'][-1]", {"batch": {"x": [1, 2]}}), value("gone", {}), value("f(1)", {})
    (2, None, None)
    """
    try:
        return _value(ast.parse(expression, mode="eval").body, namespace)
    except Exception:  # whatever a user's own object does when it is asked
        return None


def here() -> Names | None:
    """The names where the user called; None where no code of a user's did, but a click in a page.

    A function's own names are not there when its code is run elsewhere: those of its module win.
    """
    given = _CALLED.get()
    if given is not None:
        return given
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _root(frame) in INSIDE:
        frame = frame.f_back
    if frame is None or _root(frame) in OUTSIDE:
        return None
    written = _written(frame)
    if frame.f_locals is frame.f_globals:
        return Names(frame.f_globals, written)  # which go on: a name may change what it means
    # of a function no more than what may be asked for: the rest ends with it
    roots = {expression.split(".")[0].split("[")[0] for expression in written}
    local = {
        name: held
        for name, held in frame.f_locals.items()
        if name in roots or isinstance(held, nn.Module | Edit | Recording | LayerRecording)
    }
    return Names(frame.f_globals, written, Names(local, written))


@contextmanager
def called(namespace: Mapping[str, Any], written: Sequence[str]) -> Iterator[None]:
    """Inside, `here` answers with these: for a magic, whose line is no Python call."""
    token = _CALLED.set(Names(namespace, written))
    try:
        yield
    finally:
        _CALLED.reset(token)


def expressions(source: str) -> list[str]:
    """The names and paths in a piece of code, the longest first.

    >>> expressions("Lens(exp.net, x[:1])")
    ['exp.net', 'x[:1]', 'Lens', 'exp', 'x']
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
    ]
    return sorted(dict.fromkeys(found), key=len, reverse=True)


def _written(frame: FrameType) -> list[str]:
    """The names and paths in the call that a frame is making."""
    line, end, column, stop = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if line is None or end is None:
        return []
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)[line - 1 : end]
    if not lines:
        return []
    # columns count bytes
    cut = [text.encode() for text in lines]
    cut[-1] = cut[-1][:stop]
    cut[0] = cut[0][column:]
    return expressions("(" + b"".join(cut).decode(errors="replace") + ")")


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _same(one: object, other: object) -> bool:
    """Whether two tensors are equal to the last bit: `x[:1]` is another one each time."""
    return (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and one.dtype == other.dtype
        and one.device == other.device
        and one.shape == other.shape
        and torch.equal(one, other)
    )


def _value(node: ast.AST, namespace: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return namespace[name]
        case ast.Attribute(value=inner, attr=name):
            return getattr(_value(inner, namespace), name)
        case ast.Subscript(value=inner, slice=index):
            return _value(inner, namespace)[_index(index)]
    raise ValueError(ast.unparse(node))


def _index(node: ast.AST) -> Any:
    match node:
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(None if part is None else _index(part) for part in (lower, upper, step)))
        case ast.Tuple(elts=items):
            return tuple(_index(item) for item in items)
    return ast.literal_eval(node)
