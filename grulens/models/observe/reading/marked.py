"""A copy of a forward's code in which some expressions tell what they are worth.

It stands in for the forward only where it is shown to be the same code: compiled without marks, the
source must give the forward's own code, instruction by instruction. And an expression is marked
only where its value is for certain that of the call of torch which was met there.
"""

from __future__ import annotations
import __future__ as futures

import ast
import copy
import dis
import functools
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from grulens.models.observe.sites import is_users, parsed, span
from grulens.models.observe.trace import name_of

_LATER = (
    inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
)  # fmt: skip
_FINDERS = "__getattr__", "__getattribute__"
_FUTURES = functools.reduce(
    int.__or__, (getattr(futures, name).compiler_flag for name in futures.all_feature_names)
) & ~inspect.CO_NESTED  # fmt: skip
_LOOKS = {
    "locals", "vars", "eval", "exec", "dir", "f_locals", "_getframe", "currentframe", "__dict__",
}  # fmt: skip
"""What shows a function its own names, of which a marked one has more."""
_ONE_CALL = {
    nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.ReLU: "relu", nn.Linear: "linear",
    nn.LayerNorm: "layer_norm", nn.GroupNorm: "group_norm", nn.Softplus: "softplus",
    nn.SiLU: "silu", nn.ELU: "elu", nn.Conv1d: "conv1d", nn.Conv2d: "conv2d", nn.Conv3d: "conv3d",
}  # fmt: skip
"""Modules that give back what their one call of torch makes, and the name of that."""


class Role(Enum):
    """What a marked expression is in its call."""

    VALUE = auto()
    FIRST = auto()
    """The first operand; which argument it is, the second one tells."""
    SECOND = auto()
    OWNER = auto()
    """That of which a method is called."""


@dataclass(frozen=True)
class Place:
    """One call of torch in a forward's code, and what is read there besides what it makes.

    Attributes:
        code: the id of the code.
        instruction: where in it.
        function: the name of torch's function.
        given: the arguments that are read, each by its place and, where it is given so, its name.
    """

    code: int
    instruction: int
    function: str
    given: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Mark:
    """What is around an expression.

    Attributes:
        place: the number of the place to which it belongs.
        role: what the expression is there.
        given: as which argument it is read; None if as what is made.
    """

    place: int
    role: Role
    given: tuple[int, str] | None = None


@dataclass(frozen=True)
class Copy:
    """A function's code with marks.

    Attributes:
        code: it.
        marks: by the name under which the code calls it.
    """

    code: CodeType
    marks: Mapping[str, Mark]


def forward_of(module: nn.Module) -> FunctionType | None:
    """The forward that a module's class gives it; None where something stands in its place."""
    # a static one is given no module
    function = inspect.getattr_static(type(module), "forward", None)
    if not isinstance(function, FunctionType) or "forward" in vars(module):
        return None
    code = function.__code__
    return None if code.co_flags & _LATER or _LOOKS.intersection(code.co_names) else function


_COPIES: dict[tuple[object, ...], Copy | None] = {}


def copy_of(function: FunctionType, module: nn.Module, places: tuple[Place, ...]) -> Copy | None:
    """A function's code with marks at some places; None where it cannot be had for certain.

    Args:
        function: the forward of a module.
        module: the module.
        places: where to put marks.
    """
    code = function.__code__
    if any(place.code != id(code) or _at(place) in _OTHERWISE for place in places):
        return None
    imported = tuple(filter(functools.partial(_is_imported, function), code.co_names))
    if _tree(code, imported) is None:
        imported = ()  # by another cell of a notebook, of which the compiler knew nothing
    expressions, kinds = _expressions(code, imported), list[str]()
    for place in places:
        node = _node(expressions, code, place)
        kinds.append("" if node is None else _kind(node, place, function, module))
    key = imported, places, tuple(kinds)  # sites hold the code, so its id is its own
    if key not in _COPIES:
        _COPIES[key] = _with_marks(code, imported, places, kinds) if all(kinds) else None
    return _COPIES[key]


_OTHERWISE = set[tuple[int, int]]()
"""Where a mark has met something else than the source was taken for."""


def _at(place: Place) -> tuple[int, int]:
    return place.code, place.instruction


def met_otherwise(place: Place) -> None:
    """Put no mark at a place any more: what is called there is none of torch's own methods."""
    _OTHERWISE.add(_at(place))


def _is_imported(function: FunctionType, name: str) -> bool:
    """Whether a global name was imported: Python compiles a call of its attributes otherwise."""
    held = function.__globals__.get(name)
    here = function.__globals__.get("__name__")
    return isinstance(held, ModuleType) or getattr(held, "__module__", here) != here


@functools.cache
def _tree(code: CodeType, imported: tuple[str, ...]) -> ast.FunctionDef | None:
    """The source of a function, if it gives that code."""
    tree = parsed(code)
    if tree is None:
        return None
    made = _compiled(tree, code, imported, ())
    return tree if made is not None and _same(made, code) else None


def _compiled(
    tree: ast.FunctionDef, code: CodeType, imported: Sequence[str], names: Sequence[str]
) -> CodeType | None:
    """The code of a function inside one that has its free names, and some more."""
    around = ast.parse(f"def around({', '.join((*code.co_freevars, *names))}): pass")
    outer = around.body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.body = [tree]
    # nobody runs these lines
    around.body += [ast.parse(f"import {name}").body[0] for name in imported]
    flags = code.co_flags & _FUTURES
    try:
        made: CodeType = compile(around, code.co_filename, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    for name in ("around", code.co_name):
        made = next(c for c in made.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return made


def _same(one: CodeType, other: CodeType) -> bool:
    """Whether two pieces of code do the same, at the same places of the source."""
    whats = (
        "co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars",
        "co_exceptiontable", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount",
    )  # fmt: skip
    return (
        all(getattr(one, what) == getattr(other, what) for what in whats)
        and [*map(_exact, one.co_consts)] == [*map(_exact, other.co_consts)]
        and (one.co_flags ^ other.co_flags) & ~inspect.CO_NESTED == 0
        and [*one.co_positions()] == [*other.co_positions()]
    )


def _exact(constant: object) -> object:
    """A constant that equals no other one: 100, 1e2 and True are three."""
    return constant if isinstance(constant, CodeType) else repr(constant)


_Span = tuple[int, int | None, int | None, int | None]


@functools.cache
def _expressions(code: CodeType, imported: tuple[str, ...]) -> dict[_Span, list[ast.expr]]:
    tree = _tree(code, imported)
    return {} if tree is None else _by_span(tree)


def _by_span(tree: ast.FunctionDef) -> dict[_Span, list[ast.expr]]:
    """The expressions that may call torch, by where they begin and end."""
    found = defaultdict[_Span, list[ast.expr]](list)
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Compare | ast.Subscript | ast.Call):
            place = node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
            found[place].append(node)
    return found


def _node(
    expressions: Mapping[_Span, list[ast.expr]], code: CodeType, place: Place
) -> ast.expr | None:
    """The expression of a call of torch."""
    found = expressions.get(span(code, place.instruction), [])
    return found[0] if len(found) == 1 and _stands_once(code, place.instruction) else None


@functools.cache
def _instructions(code: CodeType) -> tuple[dis.Instruction, ...]:
    return tuple(dis.get_instructions(code))


@functools.cache
def _stands_once(code: CodeType, instruction: int) -> bool:
    """Whether an expression was compiled once: what is in a `finally` is for each way into it."""
    # a call of what is written in Python stands at the end of its own cache
    name = [i.opname for i in _instructions(code) if i.offset <= instruction][-1]
    where = span(code, instruction)
    every = (i.offset for i in _instructions(code) if i.opname == name)
    return sum(span(code, offset) == where for offset in every) == 1


def _kind(node: ast.expr, place: Place, function: FunctionType, module: nn.Module) -> str:
    """How an expression calls torch: "operator", "function", "method" or "module"; "" if unsure."""
    if not isinstance(node, ast.Call):
        single = not isinstance(node, ast.Compare) or len(node.ops) == 1
        return "operator" if single else ""
    code, names = function.__code__, _dotted(node.func)
    local = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
    if names and names[0] in local and (modules := _modules(function)):
        # what a method has in front of it, a function is given as its first argument
        by_place = any(not keyword for _, keyword in place.given)
        if names[0] in modules and (by_place or not modules[names[0]]):
            return ""
    if names and names[0] not in local:
        called: Any = function.__globals__.get(names[0])
        for name in names[1:]:
            called = vars(called).get(name) if isinstance(called, ModuleType) else None
        return "function" if _is_torchs(called, place.function) else ""
    if names and code.co_argcount and names[0] == code.co_varnames[0]:
        held: Any = module
        for name in names[1:-1]:
            held = _held(held, name)
        if isinstance(held, nn.Module):
            return "module" if _makes_one_call(_held(held, names[-1]), place.function) else ""
        if not isinstance(held, Tensor):
            return ""
    return "method" if _method(node) == place.function else ""


def _modules(function: FunctionType) -> dict[str, bool]:
    """The names of a function's own that stand for modules, as `T` in `T = torch`.

    Returns:
        Of each whether it is one of torch's.
    """
    code, tree = function.__code__, parsed(function.__code__)
    held: dict[str, Any] = {}
    with suppress(ValueError):  # not bound yet
        cells = function.__closure__ or ()
        held |= {name: one.cell_contents for name, one in zip(code.co_freevars, cells, strict=True)}
    defaults = function.__defaults__ or ()
    last = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    held |= dict(zip(last, defaults, strict=True)) | (function.__kwdefaults__ or {})
    found = {name: _is_of_torch(one) for name, one in held.items() if isinstance(one, ModuleType)}
    every = [] if tree is None else [*ast.walk(tree)]
    for one in every:
        if isinstance(one, ast.Import | ast.ImportFrom):
            away = getattr(one, "module", None)
            for part in one.names:
                name = (part.asname or part.name).partition(".")[0]
                found[name] = (away or part.name).partition(".")[0] == "torch"
    for one in every:
        for name, value in _named(one):
            root, *rest = _dotted(value) or [""]
            known: Any = function.__globals__.get(root)
            for attr in rest:
                known = vars(known).get(attr) if isinstance(known, ModuleType) else None
            if root in found:
                found[name] = found[root]
            elif isinstance(known, ModuleType):
                found[name] = _is_of_torch(known)
    return found


def _is_of_torch(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] == "torch"


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names to which a statement gives a value, each with that."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = [*zip(target.elts, node.value.elts, strict=False)]
            yield from ((to.id, value) for to, value in pairs if isinstance(to, ast.Name))


def _dotted(node: ast.expr) -> list[str]:
    """The names of `a.b.c`; none of what is something else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return [*before, node.attr]
    return []


def _method(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _is_torchs(called: Any, name: str) -> bool:
    if isinstance(called, FunctionType) and is_users(called.__code__):
        return False  # whatever it wraps and is called after
    own = getattr(called, "__module__", None) or "torch"
    return callable(called) and own.split(".")[0] == "torch" and name_of(called) == name


def calls_torchs(owner: Any, name: str) -> bool:
    """Whether what is called of an object by a name is for certain torch's function of that name.

    Args:
        owner: a tensor, or a module of either kind.
        name: the name.
    """
    if isinstance(owner, ModuleType):
        return _is_torchs(vars(owner).get(name), name)
    return isinstance(owner, Tensor) or _makes_one_call(_held(owner, name), name)


def _held(owner: Any, name: str) -> Any:
    """What a module has under a name; None where only a property, which is code, could say it."""
    kind, found = type(owner), inspect.getattr_static
    if (
        not isinstance(owner, nn.Module)
        or any(found(kind, one) is not found(nn.Module, one) for one in _FINDERS)
        or found(kind, name, None) is not None
    ):
        return None
    held = vars(owner)
    stores = (held, held["_parameters"], held["_buffers"], held["_modules"])
    return next((store[name] for store in stores if name in store), None)


def _makes_one_call(module: Any, name: str) -> bool:
    hooked = torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks
    return (
        _ONE_CALL.get(type(module)) == name
        and "forward" not in vars(module)
        and not (hooked or module._forward_hooks)
    )


def _with_marks(
    code: CodeType, imported: Sequence[str], places: Sequence[Place], kinds: Sequence[str]
) -> Copy | None:
    tree = copy.deepcopy(_tree(code, imported))  # the file may hold another text by now
    if tree is None:
        return None
    expressions = _by_span(tree)
    around = defaultdict[int, list[str]](list)
    marks: dict[str, Mark] = {}

    def mark(node: ast.expr, *what: Any) -> None:
        name = f"_grulens_{len(marks)}"
        marks[name] = Mark(*what)
        around[id(node)].append(name)

    for number, (place, kind) in enumerate(zip(places, kinds, strict=True)):
        node = _node(expressions, code, place)
        if node is None:
            return None
        mark(node, number, Role.VALUE)
        if kind == "method" and isinstance(node, ast.Call):
            mark(_owner(node), number, Role.OWNER)
        for given in place.given:
            operands = _operands(node)
            if len(operands) == 2:
                mark(operands[0], number, Role.FIRST, given)
                mark(operands[1], number, Role.SECOND, given)
            else:
                one = operands[0] if operands else _argument(node, kind, *given)
                if one is None:
                    return None
                mark(one, number, Role.VALUE, given)
    made = _compiled(_Marker(around).visit(tree), code, imported, [*marks])
    return None if made is None else Copy(made, marks)


def _operands(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.BinOp():
            return [node.left, node.right]
        case ast.Compare():
            return [node.left, *node.comparators]
        case ast.UnaryOp():
            return [node.operand]
        case ast.Subscript():
            return [node.value]
    return []


def _owner(call: ast.Call) -> ast.expr:
    """That of which a method is called."""
    assert isinstance(call.func, ast.Attribute), "a method is called by its name"
    return call.func.value


def _argument(node: ast.expr, kind: str, part: int, keyword: str) -> ast.expr | None:
    """The expression of an argument of a call."""
    if not isinstance(node, ast.Call) or kind == "module":
        return None
    if keyword:
        return next((one.value for one in node.keywords if one.arg == keyword), None)
    args = [_owner(node), *node.args] if kind == "method" else node.args
    plain = not any(isinstance(one, ast.Starred) for one in args[: part + 1])
    return args[part] if plain and part < len(args) else None


class _Marker(ast.NodeTransformer):
    def __init__(self, around: Mapping[int, Sequence[str]]) -> None:
        self._around = around

    def visit(self, node: ast.AST) -> Any:
        names = self._around.get(id(node), ())
        found = self.generic_visit(node)
        for name in names:
            call = ast.Call(ast.Name(name, ast.Load()), [found], [])  # type: ignore[list-item]
            found = ast.fix_missing_locations(ast.copy_location(call, node))
        return found
