"""Which way a loop goes through its input, as far as its code alone says.

A `for` over `reversed(range(n))` or over a flipped input reads its last place first. What a name
holds only when the code runs (a flag, what a function returns) says nothing here.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import CodeType
from typing import Literal

from grulens.models.observe.flow import Tree, tree_of

Order = Literal["forwards", "backwards", ""]


@functools.lru_cache(1 << 10)
def order_of(code: CodeType, line: int) -> Order:
    """Which way a loop goes through what it reads; "" where that is not known.

    Args:
        code: the code in which it stands.
        line: the number of its first line.
    """
    tree = tree_of(code)
    loops = () if tree is None else ast.walk(tree)
    node = next((n for n in loops if isinstance(n, ast.For) and n.lineno == line), None)
    if tree is None or node is None:
        return ""
    found = {*_Reader(tree, node).read()}
    return "forwards" if found == {1} else "backwards" if found == {-1} else ""


class _Reader:
    """How the places of what a loop reads follow one another: 1, -1, or 0 where nobody knows.

    Args:
        tree: the function.
        loop: its loop.
    """

    def __init__(self, tree: Tree, loop: ast.For) -> None:
        self.loop = loop
        self.given = dict[str, list[ast.expr]]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for name in _stored(target):
                        self.given.setdefault(name, []).append(node.value)
            elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.NamedExpr):
                for name in _stored(node.target):
                    value = node.iter if isinstance(node, ast.For) else node.value
                    self.given.setdefault(name, []).append(value or node.target)
        self.inside = {
            name
            for part in loop.body
            for node in ast.walk(part)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            for name in [node.id]
        }
        self.numbers, self.values = dict[str, int](), dict[str, int]()
        self._follow(loop.target, loop.iter)

    def read(self) -> Iterator[int]:
        """The way of each thing that a round reads of what was made before the loop."""
        indices = set[int]()
        for part in self.loop.body:
            for node in ast.walk(part):
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                    names = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
                    indices |= {id(one) for one in ast.walk(node.slice)}
                    if not names & self.inside:
                        yield from self._index(node)
        for part in self.loop.body:
            for node in ast.walk(part):
                is_value = isinstance(node, ast.Name) and node.id in self.values
                if isinstance(node, ast.Name) and is_value and id(node) not in indices:
                    yield self.values[node.id]

    def _index(self, node: ast.Subscript) -> Iterator[int]:
        """How the places follow that an index takes."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in parts:
            if any(isinstance(one, ast.Name) and one.id in self.numbers for one in ast.walk(part)):
                yield self._number(part) * self._goes(node.value)

    def _number(self, node: ast.expr) -> int:
        """How a number follows in the next round: 1 up, -1 down, 0 for all else."""
        match node:
            case ast.Name(id=name) if name in self.numbers and name not in self.inside:
                return self.numbers[name]
            case ast.UnaryOp(op=ast.USub(), operand=one):
                return -self._number(one)
            case ast.BinOp(op=ast.Add(), left=one, right=other):
                pair = self._number(one), self._number(other)
                fixed = self._is_fixed(other), self._is_fixed(one)
                return next((way for way, rest in zip(pair, fixed, strict=True) if rest), 0)
            case ast.BinOp(op=ast.Sub(), left=one, right=other):
                if self._is_fixed(other):
                    return self._number(one)
                return -self._number(other) if self._is_fixed(one) else 0
            case ast.Slice(lower=ast.expr() as lower, upper=ast.expr() as upper, step=None):
                return self._number(lower) if self._number(lower) == self._number(upper) else 0
        return 0

    def _is_fixed(self, node: ast.expr) -> bool:
        """Whether an expression is the same in every round."""
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return not names & (self.inside | self.numbers.keys() | self.values.keys())

    def _follow(self, target: ast.expr, given: ast.expr) -> None:
        """What the loop gives to its names."""
        match target, given:
            case ast.Tuple(elts=[number, value]), ast.Call(
                func=ast.Name(id="enumerate"), args=[inner, *_]
            ):
                self._hold(number, 1, self.numbers)
                self._follow(value, inner)
            case ast.Tuple(elts=parts), ast.Call(func=ast.Name(id="zip"), args=args) if len(
                parts
            ) == len(args):
                for part, one in zip(parts, args, strict=True):
                    self._follow(part, one)
            case ast.Name(), _:
                way = self._goes(given)
                self._hold(target, way, self.numbers if _counts(given) else self.values)
            case _:
                for name in _stored(target):
                    self.values[name] = 0

    def _hold(self, target: ast.expr, way: int, held: dict[str, int]) -> None:
        if isinstance(target, ast.Name):
            held[target.id] = way

    def _goes(self, node: ast.expr, seen: frozenset[str] = frozenset()) -> int:
        """Which way an expression goes through what it is made of."""
        match node:
            case ast.Call(func=ast.Name(id="reversed"), args=[one]):
                return -self._goes(one, seen)
            case ast.Call(func=ast.Name(id="range"), args=args):
                return _range(args)
            case ast.Call(func=ast.Name(id="list" | "tuple" | "enumerate"), args=[one, *_]):
                return self._goes(one, seen)
            case ast.Call(func=ast.Attribute(attr="flip", value=one), args=args):
                is_torchs = isinstance(one, ast.Name) and one.id == "torch"
                return -self._goes(args[0] if is_torchs and args else one, seen)
            case ast.Call(func=ast.Attribute(attr="unbind", value=one), args=args):
                is_torchs = isinstance(one, ast.Name) and one.id == "torch"
                return self._goes(args[0] if is_torchs and args else one, seen)
            case ast.Subscript(value=one, slice=ast.Slice(step=None | ast.Constant(value=1))):
                return self._goes(one, seen)
            case ast.Subscript(value=one, slice=ast.Slice(lower=None, upper=None, step=step)):
                return -self._goes(one, seen) if step and ast.unparse(step) == "-1" else 0
            case ast.Name(id=name):
                if name in seen or name in self.inside:
                    return 0
                values = self.given.get(name, [])
                if len(values) == 1:
                    return self._goes(values[0], seen | {name})
                return 0 if any(map(_may_turn, values)) else 1
        return 0 if _may_turn(node) else 1


def _range(args: list[ast.expr]) -> int:
    if len(args) < 3:
        return 1
    match args[2]:
        case ast.Constant(value=int() as step):
            return 1 if step > 0 else 0
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int())):
            return -1
    return 0


def _counts(node: ast.expr) -> bool:
    """Whether an expression goes through numbers: a range, in any order."""
    return any(isinstance(one, ast.Name) and one.id == "range" for one in ast.walk(node))


def _may_turn(node: ast.expr) -> bool:
    """Whether an expression may turn the order of what it is made of, or choose another."""
    for one in ast.walk(node):
        name = getattr(one, "attr", getattr(one, "id", ""))
        turns = any(
            word in str(name).lower() for word in ("flip", "revers", "sort", "perm", "roll")
        )
        if turns or isinstance(one, ast.IfExp | ast.BoolOp | ast.Subscript | ast.Lambda):
            return True
    return False


def _stored(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            yield node.id
