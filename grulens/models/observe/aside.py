"""Whether a loop leaves states aside that it has made: some rounds take them further, others not.

The ways through one round are followed in the source, from the line that makes the state on. At the
end of each the state stands under some names. A name that the next round reads, and under which it
stands at the end of some ways and of others not, says that the code may leave a state aside; but
not one that never has more than what was made of it, where the state itself goes on in every way.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import CodeType

from grulens.models.observe.flow import Comprehension, Tree, innermost, is_in, start_of
from grulens.models.observe.sites import Site, parsed

MOST = 256
"""How many ways through a round are followed, at most."""
_BLANK = ("zeros", "ones", "empty", "full", "new_")
"""How the names of functions begin that take of a value its shape alone."""


def left_aside(site: Site) -> str:
    """What must be known of a loop that takes its state further in some rounds only; "" if none.

    Args:
        site: where the states are made.
    """
    for code, (_, instruction) in zip(site.codes, site.chain, strict=True):
        said = aside_in(code, start_of(code, instruction))
        if said is not None:
            return said
    return ""


@functools.lru_cache(1 << 10)
def aside_in(code: CodeType, instruction: int) -> str | None:
    """What `left_aside` says of one piece of code; None if it has no loop around, and says nothing.

    Where the code has none, what it returns is followed instead.

    Args:
        code: the code.
        instruction: the one that makes the state, or that calls what does.
    """
    tree = parsed(code)
    if tree is None:
        return None
    loop = innermost(code, tree, instruction)
    if isinstance(loop, Comprehension):
        return ""
    body = tree.body if loop is None else loop.body
    behind = () if loop is None else _read_behind(tree, loop)
    ends = _Round(code, instruction, behind).ends(body)
    names = {_RETURNED}

    if loop is not None:
        names = _read_anew(loop) & _needed(code, instruction, loop)
        ends = [one for one in ends if _RETURNED not in one.held]
    line = _parting([one for one in ends if one.made], names)
    if line:
        return (
            f"line {line} of {os.path.basename(code.co_filename)} takes the state further in one "
            "branch only: in the other a step here is one whose state the code leaves aside"
        )
    return None if loop is None else ""


def _parting(ends: Sequence[_Way], names: set[str]) -> int:
    """The line at which ways part of which one keeps the state under a name, and another not."""
    own = {name for one in ends for name in one.own} & names
    goes_on = any(all(name in one.own for one in ends) for name in own)
    for name in sorted({name for one in ends for name in one.held} & names):
        if goes_on and name not in own:
            continue  # the next input, say, may be made of this state, or be another one
        for one in ends:
            for other in ends:
                if name in one.held and name not in other.held:
                    pairs = zip(one.turns, other.turns, strict=False)
                    return next((a[0] for a, b in pairs if a != b), 0)
    return 0


_RETURNED = "return"
"""What is held by what a function returns."""


@dataclass(frozen=True)
class _Way:
    """A way through a round.

    Attributes:
        made: whether it has come by the line that makes the state.
        held: under which names the state stands, or what was made of it.
        own: under which of them it stands itself.
        turns: the lines at which it parted from others, and which way it took there.
    """

    made: bool = False
    held: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    turns: tuple[tuple[int, int], ...] = ()

    def turned(self, line: int, number: int) -> _Way:
        """The same, having parted from others."""
        return replace(self, turns=(*self.turns, (line, number)))


class _Round:
    """Follows the ways through the statements of one round.

    Args:
        code: the code.
        instruction: the one that makes the state.
        behind: the names that are read behind the loop.
    """

    def __init__(self, code: CodeType, instruction: int, behind: Iterable[str] = ()) -> None:
        self._code, self._instruction, self._behind = code, instruction, frozenset(behind)
        self._away: list[_Way] = []
        """Ways that ended within the round."""
        self._met: list[_Way] = []
        """Ways as they were after each statement: there something may have been raised."""

    def ends(self, body: Sequence[ast.stmt]) -> list[_Way]:
        """Each way, as it is when the round is over."""
        through = self._block(body, [_Way()])
        return [*self._away, *through]

    def _block(self, body: Sequence[ast.stmt], ways: list[_Way]) -> list[_Way]:
        for one in body:
            ways = _merged(way for before in ways for way in self._statement(one, before))
            self._met += ways
            if len(ways) > MOST:
                return []
        return ways

    def _statement(self, node: ast.stmt, way: _Way) -> list[_Way]:
        match node:
            case ast.If():
                blocks: list[Sequence[ast.stmt]] = [node.body, node.orelse]
            case ast.Match():
                blocks = [one.body for one in node.cases]
                last = node.cases[-1]
                anything = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
                blocks += [] if anything and last.guard is None else [[]]
            case ast.With():
                return self._block(node.body, [way])
            case ast.For() | ast.While():
                away, self._away = self._away, []
                inside = self._block(node.body, [way.turned(node.lineno, 1)])
                # what goes on or leaves here does so in the inner loop
                inside, self._away = [*inside, *self._away], away
                return self._block(node.orelse, [way.turned(node.lineno, 0), *inside])
            case ast.Try():
                return self._tried(node, way)
            case ast.Continue() | ast.Break():
                # what is read behind the loop is not left aside with it
                if isinstance(node, ast.Continue) or way.held.isdisjoint(self._behind):
                    self._away.append(way)
                return []
            case ast.Raise() | ast.FunctionDef() | ast.ClassDef():
                return [] if isinstance(node, ast.Raise) else [way]
            case _:
                return self._simple(node, way)
        return [
            after
            for number, block in enumerate(blocks)
            for after in self._block(block, [way.turned(node.lineno, number)])
        ]

    def _tried(self, node: ast.Try, way: _Way) -> list[_Way]:
        met, self._met = self._met, [way]
        body = self._block(node.body, [way])
        raised, self._met = _merged(self._met), [*met, *self._met]
        ways = self._block(node.orelse, body)
        for number, one in enumerate(node.handlers, 1):
            ways += self._block(one.body, [way.turned(node.lineno, number) for way in raised])
        return self._block(node.finalbody, _merged(ways))

    def _simple(self, node: ast.stmt, way: _Way) -> list[_Way]:
        """What a statement of one expression makes of a way."""
        here = is_in(self._code, self._instruction, [node])
        if here:
            way = replace(way, made=True)
        if isinstance(node, ast.Return):
            if node.value is None or isinstance(node.value, ast.Constant):
                return []  # the state goes another way
            for number, holds in self._ways(node.value, way.held):
                held = way.held | {_RETURNED} if holds else way.held - {_RETURNED}
                self._away.append(replace(way, held=held).turned(node.lineno, number))
            return []
        ways = [way]
        for name in _walrus(node):
            ways = self._given(ways, name.target, name.value)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            # all is worked out before any of it is given
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            pairs = [pair for target in targets for pair in self._pairs(target, node.value)]
            ways = [after for one in ways for after in self._all_given(one, pairs)]
        elif isinstance(node, ast.AugAssign) and here:
            ways = self._given(ways, node.target, node.value)
        return ways

    def _pairs(self, target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
        if isinstance(target, ast.Tuple | ast.List):
            same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            parts = value.elts if same and isinstance(value, ast.Tuple | ast.List) else None
            for number, one in enumerate(target.elts):
                yield from self._pairs(one, value if parts is None else parts[number])
        else:
            yield target, value

    def _all_given(self, way: _Way, pairs: Sequence[tuple[ast.expr, ast.expr]]) -> list[_Way]:
        ways, before = [way], way
        for target, value in pairs:
            ways = self._given(ways, target, value, before)
        return ways

    def _given(
        self,
        ways: Iterable[_Way],
        target: ast.expr,
        value: ast.expr,
        before: _Way | None = None,
    ) -> list[_Way]:
        """Some ways after a name was given a value; nothing, of what is written into another."""
        name, found = ast.unparse(target), list[_Way]()
        is_part = isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Constant)
        for way in ways:
            if is_part or isinstance(target, ast.Starred):
                found.append(way)
                continue
            several = self._ways(value, (before or way).held)
            is_own = self._is_itself(value, (before or way).own)
            for number, holds in several:
                held, own = (
                    frozenset(one for one in names if not f"{one}.".startswith(f"{name}."))
                    for names in (way.held, way.own)
                )
                after = replace(
                    way,
                    held=held | {name} if holds else held,
                    own=own | {name} if holds and is_own else own,
                )
                found.append(after.turned(value.lineno, number) if len(several) > 1 else after)
        return found

    def _ways(self, value: ast.expr, held: frozenset[str]) -> list[tuple[int, bool]]:
        """Whether a value is the state, or made of it, numbered where it is so in one case only."""
        return [*enumerate(sorted(self._holds(value, held)))]

    def _is_itself(self, node: ast.expr, own: frozenset[str]) -> bool:
        """Whether an expression makes the state, or is one of the names under which it stands."""
        return is_in(self._code, self._instruction, [node]) or ast.unparse(node) in own

    def _holds(self, node: ast.expr, held: frozenset[str]) -> set[bool]:
        is_here = is_in(self._code, self._instruction, [node])
        match node:
            case ast.IfExp(body=one, orelse=other):
                made = [
                    part for part in (one, other) if is_in(self._code, self._instruction, [part])
                ]
                return set[bool]().union(
                    *(self._holds(part, held) for part in made or (one, other))
                )
            case ast.Subscript(value=ast.Tuple() | ast.List() | ast.Dict() as several):
                parts = several.values if isinstance(several, ast.Dict) else several.elts
                match node.slice:
                    case ast.Constant(value=int() as at) if not isinstance(several, ast.Dict):
                        parts = parts[at : at + 1] or parts
                return set[bool]().union(*(self._holds(part, held) for part in parts))
            case ast.BoolOp(values=parts) if not is_here:
                return set[bool]().union(*(self._holds(part, held) for part in parts))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                every = [self._holds(part, held) for part in parts]
                return {True} if {True} in every else set[bool]().union({False}, *every)
            case ast.Call(func=func) if not is_here:
                called = func.attr if isinstance(func, ast.Attribute) else ast.unparse(func)
                if called.startswith(_BLANK):
                    return {False}
        return {is_here or not held.isdisjoint(_names(node))}


def _merged(ways: Iterable[_Way]) -> list[_Way]:
    """Some ways, each of those once that are alike from here on."""
    found: dict[tuple[bool, frozenset[str], frozenset[str]], _Way] = {}
    for one in ways:
        found.setdefault((one.made, one.held, one.own), one)
    return [*found.values()]


def _walrus(node: ast.AST) -> Iterator[ast.NamedExpr]:
    return (one for one in ast.walk(node) if isinstance(one, ast.NamedExpr))


def _names(node: ast.AST) -> Iterator[str]:
    """What an expression reads: names, attributes and parts."""
    for one in ast.walk(node):
        yield from _name(one)


def _name(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        yield ast.unparse(node)


def _read_anew(loop: ast.For | ast.While) -> set[str]:
    """The names that a round may read before it gives them a value: those of the round before."""
    given, found = set[str](), set[str]()
    if isinstance(loop, ast.While):
        found |= {*_names(loop.test)}
    for one in loop.body:
        found |= {*_names_before(one)} - given
        given |= {*_stored(one)}
    return found


def _needed(code: CodeType, instruction: int, loop: ast.For | ast.While) -> set[str]:
    """The names of which a round makes its state, and those that these are given."""
    every = [one for one in ast.walk(loop) if isinstance(one, ast.stmt | ast.NamedExpr)]
    plain = [one for one in every if not hasattr(one, "body")]
    found = {name for one in plain if is_in(code, instruction, [one]) for name in _names(one)}
    while True:
        more = {
            name
            for one in plain
            if isinstance(one, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
            and not found.isdisjoint(_given_names(one))
            for name in _names(one)
        }
        if more <= found:
            return found
        found |= more


def _given_names(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if _is_stored(one):
            yield ast.unparse(one)


def _read_behind(tree: Tree, loop: ast.For | ast.While) -> set[str]:
    """The names that are read behind a loop."""
    last = loop.end_lineno or loop.lineno
    every = (one for one in ast.walk(tree) if getattr(one, "lineno", 0) > last)
    behind = {name for one in every for name in _names(one)}
    return behind.union(*({*_names(one)} for one in loop.orelse))


def _names_before(node: ast.stmt) -> Iterator[str]:
    """The names that a statement reads, but for those to which it has given a value itself."""
    blocks = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
    blocks += [one.body for one in getattr(node, "handlers", getattr(node, "cases", []))]
    own = {id(one) for block in blocks for part in block for one in ast.walk(part)}
    for one in ast.walk(node):
        if id(one) not in own and not _is_stored(one):
            yield from _name(one)
    for block in blocks:
        given = set[str]()
        for part in block:
            yield from {*_names_before(part)} - given
            given |= {*_stored(part)}


def _is_stored(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def _stored(node: ast.stmt) -> Iterator[str]:
    """The names to which a statement gives a value for certain."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr | ast.Return):
        for one in ast.walk(node):
            if _is_stored(one) and isinstance(one, ast.Name | ast.Attribute):
                yield ast.unparse(one)
