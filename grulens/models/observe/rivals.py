"""What a loop's code may run in place of the line that makes a state: a step that nobody counts.

A state is read where its line makes it. Where a branch of the loop makes it by another line, the
one comes by in some steps and the other one in the rest. Which lines these are, the code tells:
within one step no way leads from the one to the other. And where a call on the way to that line
calls something else in some steps, the run tells: other code comes by the same call.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import CodeType

from torch import nn

from grulens.models.observe.flow import (
    Comprehension,
    Loop,
    Tree,
    body_of,
    flow_of,
    is_around,
    is_in,
    iterated,
    loops_of,
    placed_in,
    reached,
    start_of,
    tree_of,
    whole,
)  # fmt: skip
from grulens.models.observe.sites import Chain, Site, span

_FLOW = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match
Callee = int | tuple[str, str]
"""What an expression calls: the id of its code; of torch's function the path and the name."""


@dataclass(frozen=True)
class Rival:
    """An expression that may stand in for the one that makes a state, or a call for itself.

    Attributes:
        code: the code in which it stands.
        instructions: its instructions.
        around: the calls that lead to that code.
        is_state: whether it is given the state's own name.
        after: whether it may also read what was made: it stands behind the loop, or ends a call.
        always: whether it runs in every step, and its value is the state in some.
        but: where it is a call on the way to the state, what it calls there.
        varies: whether a call may call something else in another step.
        among: the path of the list of modules of which it calls one; empty if that is not known.
    """

    code: CodeType
    instructions: frozenset[int]
    around: Chain
    is_state: bool
    after: bool = False
    always: bool = False
    but: frozenset[Callee] = frozenset()
    varies: bool = False
    among: str = ""

    def holds(self, site: Site) -> bool:
        """Whether an operation stands in it, or is called by it."""
        depth = len(site.chain) - len(self.around) - 1
        if depth < 0 or site.chain[depth + 1 :] != self.around:
            return False
        number, instruction = site.chain[depth]
        if number != id(self.code) or instruction not in self.instructions:
            return False
        return not self.but or self.called(site) not in self.but

    def called(self, site: Site) -> Callee:
        """What it calls on the way to an operation."""
        depth = len(site.chain) - len(self.around) - 1
        return site.chain[depth - 1][0] if depth else (site.path, site.function)

    def besides(self, sites: Iterable[Site]) -> Rival:
        """The same, of a call that may call what leads to some other sites too."""
        return replace(self, but=self.but.union(map(self.called, sites)))

    def may_call_more(self, modules: Mapping[str, nn.Module]) -> bool:
        """Whether a call may call what it has not called yet: not if it called all of a list.

        Args:
            modules: those of the model, by path.
        """
        every = [one for one in modules if self.among and one.rpartition(".")[0] == self.among]
        paths = [f"{one[0]}." for one in self.but if isinstance(one, tuple)]
        if paths:  # the innermost code may be that of each of them
            called = all(any(p.startswith(f"{one}.") for p in paths) for one in every)
        else:
            forwards = (inspect.unwrap(type(modules[one]).forward) for one in every)
            called = {id(getattr(one, "__code__", None)) for one in forwards} <= self.but
        return not (every and called)

    def __str__(self) -> str:
        # its last instruction is that of the whole expression
        link = id(self.code), max(self.instructions)
        site = Site("", (link, *self.around), "")
        which = "something else that is called in " if self.but else ""
        return f"{which}line {site.line} of {site.file}" + (f" (`{site.text}`)" * bool(site.text))


@functools.lru_cache(1 << 10)
def rivals_of(site: Site) -> tuple[Rival, ...]:
    """The expressions that may stand in for what makes a state at a site, within a step.

    They stand in the code of the site, or in that of the calls around it, out to the loop. Each of
    these calls is one itself, for what it may call besides.
    """
    found: list[Rival] = []
    calls: list[Rival] = []
    called: Callee = site.path, site.function
    for depth, (code, (number, instruction)) in enumerate(zip(site.codes, site.chain, strict=True)):
        inside, here = _of_code(code, instruction)
        around = site.chain[depth + 1 :]
        # equal code is held apart
        found += (replace(one, code=code, around=around) for one in here)
        among = _varies(site, depth, inside=inside)
        at, only = whole(code, [start_of(code, instruction)]), frozenset((called,))
        calls.append(
            Rival(
                code, at, around, is_state=True, but=only, varies=among is not None,
                among=among or "",
            )
        )  # fmt: skip
        called = number
        if inside:
            break
    # where any of them calls another module, the innermost code may be the same
    lists = {one.among for one in calls if one.varies}
    among = lists.pop() if len(lists) == 1 else ""
    calls[0] = replace(calls[0], varies=any(one.varies for one in calls), among=among)
    return *found, *calls


def words_of(site: Site) -> tuple[str, ...]:
    """The names under which a loop keeps the state that is made at a site: variables, lists."""
    for code, (_, instruction) in zip(site.codes, site.chain, strict=True):
        tree, start = tree_of(code), start_of(code, instruction)
        loops = () if tree is None else loops_of(code, tree, start)
        if tree is not None and loops:
            flow = flow_of(code, loops[-1], ())
            here = [one for one in _given(code, tree) if one.instructions]
            names = _carried(start, here, reached(flow, start))
            return tuple(sorted(re.sub(r"\.\w+\(\)$", "", name) for name in names))
    return ()


def behind(site: Site) -> Iterator[Rival]:
    """The expressions behind the loop around a state's line that make it of itself once more."""
    for depth, (code, (_, instruction)) in enumerate(zip(site.codes, site.chain, strict=True)):
        tree, start = tree_of(code), start_of(code, instruction)
        loops = () if tree is None else loops_of(code, tree, start)
        if tree is None or not loops:
            continue
        every = [one for one in _given(code, tree) if one.instructions]
        state = _carried(start, every, reached(flow_of(code, loops[-1], ()), start))
        last = max(getattr(one, "end_lineno", 0) for one in loops)
        for one in every:
            if one.line > last and one.names & state and one.read & state:
                at = whole(code, one.instructions)
                yield Rival(code, at, site.chain[depth + 1 :], is_state=True, after=True)
        return


@dataclass(frozen=True)
class _Given:
    """An expression of a statement.

    Attributes:
        names: to what its value is given: "h", "states.append", "return".
        read: the names that it reads.
        instructions: its instructions, in order.
        line: the number of its line.
    """

    names: frozenset[str]
    read: frozenset[str]
    instructions: tuple[int, ...]
    line: int


@functools.lru_cache(1 << 10)
def _of_code(code: CodeType, instruction: int) -> tuple[bool, tuple[Rival, ...]]:
    """Whether an instruction stands in a loop, and what may stand in for it there."""
    tree = tree_of(code)
    if tree is None:
        return False, ()
    instruction = start_of(code, instruction)
    loops = loops_of(code, tree, instruction)
    every = [one for one in _given(code, tree) if one.instructions]
    modes = [*_by_mode(tree)]
    every = [
        one
        for one in every
        if not any(
            is_in(code, instruction, a) and is_in(code, one.instructions[0], b)
            for pair in modes
            for a, b in (pair, pair[::-1])
        )
    ]
    regions: list[Loop | None] = [*loops] or [None]
    found = dict[_Given, tuple[bool, bool, bool]]()
    for loop in regions:
        found |= _in_one(code, instruction, loop, every)
    return bool(loops), tuple(
        Rival(code, whole(code, one.instructions), (), *which) for one, which in found.items()
    )


def _varies(site: Site, depth: int, *, inside: bool) -> str | None:
    """Of what a call on the way to a state may call something else in another step.

    Args:
        site: where the state is made.
        depth: which call of its chain.
        inside: whether that stands in the loop, and not in what is called there.

    Returns:
        The path of a list of modules; empty if it is not known what it may call; None if it always
        calls the same.
    """
    code, (_, instruction) = site.codes[depth], site.chain[depth]
    tree, where = tree_of(code), span(code, instruction)
    if tree is None or where[3] is None:
        return ""
    every = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    # where a call of several lines begins, Python does not always say
    found = [one.func for one in every if (one.end_lineno, one.end_col_offset) == where[1::2]]
    if not found or (not depth and getattr(found[0], "attr", "") == site.function):
        return None  # an operator, or a method of a tensor
    (what,) = found
    # what is called in the loop may be given another function each time
    region: ast.AST = loops_of(code, tree, instruction)[0] if inside else tree
    stored = {
        ast.unparse(one)
        for one in ast.walk(region)
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store)
    }
    if not inside:
        stored |= {*code.co_varnames[: code.co_argcount], *code.co_freevars} - {"self"}
    for part in ast.walk(what):
        is_call = isinstance(part, ast.Call) and ast.unparse(part) != "super()"
        if is_call or (isinstance(part, ast.Name | ast.Attribute) and ast.unparse(part) in stored):
            return _list_of(what, region, stored, site.path)
    while isinstance(what, ast.Subscript):
        what = what.value
    name = getattr(what, "attr", getattr(what, "id", ""))
    is_local = isinstance(what, ast.Name) and name in (*code.co_varnames, *code.co_cellvars)
    # a property gives another function, a function of torch's calls what it is given
    names = site.codes[depth - 1].co_name, *site.path.split(".")
    return "" if depth and not is_local and name not in names else None


def _list_of(what: ast.expr, region: ast.AST, stored: Collection[str], path: str) -> str:
    """The path of the list of modules of which an expression is one; empty if it is of none."""
    lists = [what.value] if isinstance(what, ast.Subscript) else []
    if isinstance(what, ast.Name):
        names = [one for one in ast.walk(region) if isinstance(one, ast.Name) and one.id == what.id]
        stores = [one for one in names if isinstance(one.ctx, ast.Store)]
        for target, given in iterated(ast.walk(region)):
            if len(stores) == 1 and stores[0] in ast.walk(target):
                zipped = isinstance(given, ast.Call) and ast.unparse(given.func) in _ZIPS
                lists = given.args if isinstance(given, ast.Call) and zipped else [given]
    parts = path.split(".")
    found = [
        one.attr
        for one in lists
        if isinstance(one, ast.Attribute) and one.attr in parts and ast.unparse(one) not in stored
    ]
    return ".".join(parts[: parts.index(found[0]) + 1]) if len(found) == 1 else ""


_ZIPS = "enumerate", "zip", "reversed"


def _carried(instruction: int, here: list[_Given], after: set[int]) -> set[str]:
    """The names of what is made of a state in the same round: it is the state, by another name."""
    state = set[str]()
    for given in sorted(here, key=lambda one: one.instructions[0]):
        makes = instruction in given.instructions
        if makes or (given.instructions[0] in after and given.read & state):
            state |= given.names
    return state


def _in_one(
    code: CodeType, instruction: int, loop: Loop | None, every: list[_Given]
) -> dict[_Given, tuple[bool, bool, bool]]:
    """What may stand in for an instruction in one round of a loop, or one call, and as what.

    Args:
        code: the code.
        instruction: the one that makes the state.
        loop: the loop; None for the whole code.
        every: the expressions of the code.
    """
    parts = () if loop is None else ast.walk(loop)
    inner = [one for one in parts if isinstance(one, Loop) and one is not loop]
    flow = flow_of(code, loop, inner)
    back: dict[int, list[int]] = {}
    for one, then in flow.items():
        for other in then:
            back.setdefault(other, []).append(one)
    after, leads = reached(flow, instruction), reached(back, instruction)
    here = [g for g in every if loop is None or is_in(code, g.instructions[0], body_of(loop))]
    state = _carried(instruction, here, after)
    before = set[str]()
    if loop is not None:
        parts = (node for one, _ in iterated([loop]) for node in ast.walk(one))
        target = {node.id for node in parts if isinstance(node, ast.Name)}
        made = {name for one in here if one.instructions[0] in leads for name in one.names}
        before = (target | made) - state
    found = dict[_Given, tuple[bool, bool, bool]]()
    for given in here:
        if instruction in given.instructions or given.instructions[0] in after | leads:
            continue
        # what is returned in a round is returned in place of the state
        is_state = bool(given.names & (state if loop is None else state | {"return"}))
        if is_state or given.read & before:
            found[given] = is_state, loop is None, False
        if is_state and len(given.instructions) == 1:
            # what has a name already is made in another line
            named = (one for one in here if one.names & (given.read - state) and one not in found)
            found |= dict.fromkeys(named, (True, False, True))
    if isinstance(loop, ast.For | ast.While) and (left := _left(code, loop, instruction)):
        # the round in which it is left has taken its input
        taken = {name for one in here if one.line < left for name in one.names} | target
        for given in every:
            behind = given.line > (loop.end_lineno or loop.lineno)
            if behind and given.names & state and given.read & (taken - state):
                found[given] = True, True, False
    return found


def _by_mode(tree: Tree) -> Iterator[tuple[list[ast.stmt], list[ast.stmt]]]:
    """What runs when a module is in training, and what then does not: no run comes by both."""
    for node in ast.walk(tree):
        for part in ("body", "orelse"):
            block = getattr(node, part, None)
            block = block if isinstance(block, list) else []
            for number, one in enumerate(block):
                if not isinstance(one, ast.If):
                    continue
                if ast.unparse(one.test) in ("self.training", "not self.training"):
                    leaves = isinstance(one.body[-1], ast.Return | ast.Continue)
                    yield one.body, [*one.orelse, *(block[number + 1 :] if leaves else ())]


def _left(code: CodeType, loop: ast.For | ast.While, instruction: int) -> int:
    """The last line in which a loop is left in a round, before an instruction; 0 for none."""

    def breaks(nodes: list[ast.stmt]) -> Iterator[int]:
        for node in nodes:
            if isinstance(node, ast.Break):
                yield node.lineno
            if isinstance(node, ast.If | ast.With | ast.Try):
                parts = (getattr(node, part, []) for part in ("body", "orelse", "finalbody"))
                yield from (one for part in parts for one in breaks(part))

    line = span(code, instruction)[0]
    return max((one for one in breaks(loop.body) if one < line), default=0)


def _given(code: CodeType, tree: Tree) -> Iterator[_Given]:
    """The expressions of a function's statements, and what their values are given to."""
    placed = placed_in(code)

    def made(node: ast.AST, names: set[str]) -> Iterator[_Given]:
        if isinstance(node, ast.IfExp):
            yield from made(node.body, names)
            yield from made(node.orelse, names)
            return
        instructions = tuple(n for n, where in placed if is_around(node, where))
        read = {
            ast.unparse(part)
            for part in ast.walk(node)
            if isinstance(part, ast.Name | ast.Attribute)
        }
        yield _Given(frozenset(names), frozenset(read), instructions, getattr(node, "lineno", 0))

    for one in ast.walk(tree):
        if isinstance(one, ast.NamedExpr):
            yield from made(one.value, {one.target.id})
        if isinstance(one, Comprehension):
            for part in body_of(one):
                yield from made(part, {"yield"})
    if isinstance(tree, ast.Lambda):
        yield from made(tree.body, {"return"})
    stack = [*tree.body] if isinstance(tree, ast.FunctionDef) else []
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = [*zip(target.elts, node.value.elts, strict=False)]
                for to, value in pairs:
                    yield from made(value, _names(to))
        elif isinstance(node, ast.AugAssign):
            yield from made(node, _names(node.target))
        elif isinstance(node, ast.Return) and node.value is not None:
            yield from made(node.value, {"return"})
        elif isinstance(node, ast.Expr):
            yield from made(node.value, _names(node.value))
        elif isinstance(node, _FLOW):
            parts = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            parts += [one.body for one in getattr(node, "handlers", getattr(node, "cases", []))]
            stack += [one for part in parts for one in part]


def _names(target: ast.expr) -> set[str]:
    """What a target is called, or that to which a method gives a value: "states.append"."""
    if isinstance(target, ast.Tuple | ast.List):
        return {name for part in target.elts for name in _names(part)}
    if isinstance(target, ast.Starred | ast.Subscript):
        return _names(target.value)
    if isinstance(target, ast.Yield):
        return {"yield"}
    if isinstance(target, ast.Call):
        return {f"{name}()" for name in _names(target.func)} if target.args else set()
    if isinstance(target, ast.Attribute):
        return {ast.unparse(target)}
    return {target.id} if isinstance(target, ast.Name) else set()
