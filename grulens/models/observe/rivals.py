"""What a loop's code may run in place of the line that makes a state: a step that nobody counts.

A state is read where its line makes it. Where a branch of the loop makes it by another line, the
one comes by in some steps and the other one in the rest. Which lines these are, the code tells:
within one step no way leads from the one to the other.
"""

from __future__ import annotations

import ast
import dis
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType

from grulens.models.observe.sites import Chain, Site, parsed, span

_AWAY = {
    "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE", "RETURN_VALUE",
    "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "RETURN_GENERATOR",
}  # fmt: skip
"""Instructions after which the next one does not run."""
_FLOW = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match


@dataclass(frozen=True)
class Rival:
    """An expression that may stand in for the one that makes a state.

    Attributes:
        code: the code in which it stands.
        instructions: its instructions.
        around: the calls that lead to that code.
        is_state: whether it is given the state's own name.
    """

    code: CodeType
    instructions: frozenset[int]
    around: Chain
    is_state: bool

    def holds(self, chain: Chain) -> bool:
        """Whether an operation to which these calls lead stands in it, or is called by it."""
        depth = len(chain) - len(self.around) - 1
        if depth < 0 or chain[depth + 1 :] != self.around:
            return False
        number, instruction = chain[depth]
        return number == id(self.code) and instruction in self.instructions

    def __str__(self) -> str:
        # its last instruction is that of the whole expression
        link = id(self.code), max(self.instructions)
        site = Site("", (link, *self.around), "")
        return f"line {site.line} of {site.file}" + (f" (`{site.text}`)" if site.text else "")


def rivals_of(site: Site) -> tuple[Rival, ...]:
    """The expressions that may stand in for what makes a state at a site, within a step.

    They stand in the code of the site, or in that of the calls around it, out to the loop.
    """
    found: list[Rival] = []
    for depth, (code, (_, instruction)) in enumerate(zip(site.codes, site.chain, strict=True)):
        inside, here = _of_code(code, instruction)
        around = site.chain[depth + 1 :]
        found += (Rival(code, instructions, around, own) for instructions, own in here)
        if inside:
            break
    return tuple(found)


def words_of(site: Site) -> tuple[str, ...]:
    """The names under which a loop keeps the state that is made at a site: variables, lists."""
    for code, (_, instruction) in zip(site.codes, site.chain, strict=True):
        tree, start = parsed(code), _start(code, instruction)
        loops = () if tree is None else _loops(code, tree, start)
        if tree is not None and loops:
            flow = _flow(code, loops[-1], ())
            here = [one for one in _given(code, tree) if one.instructions]
            names = _carried(start, here, _reached(flow, start))
            return tuple(sorted(re.sub(r"\.\w+\(\)$", "", name) for name in names))
    return ()


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
def _of_code(
    code: CodeType, instruction: int
) -> tuple[bool, tuple[tuple[frozenset[int], bool], ...]]:
    """Whether an instruction stands in a loop, and what may stand in for it there."""
    tree = parsed(code)
    if tree is None:
        return False, ()
    instruction = _start(code, instruction)
    loops = _loops(code, tree, instruction)
    every = [one for one in _given(code, tree) if one.instructions]
    modes = [*_by_mode(tree)]
    every = [
        one
        for one in every
        if not any(
            _is_in(code, instruction, a) and _is_in(code, one.instructions[0], b)
            for pair in modes
            for a, b in (pair, pair[::-1])
        )
    ]
    regions: list[ast.For | ast.While | None] = [*loops] or [None]
    found = dict[_Given, bool]()
    for loop in regions:
        found |= _in_one(code, instruction, loop, every)
    places = [*(one.offset for one in dis.get_instructions(code)), len(code.co_code)]
    ends = dict(itertools.pairwise(places))
    return bool(loops), tuple(
        (frozenset(n for start in one.instructions for n in range(start, ends[start], 2)), own)
        for one, own in found.items()
    )


def _start(code: CodeType, instruction: int) -> int:
    """Where an instruction begins: a call of what is written in Python stands behind its cache."""
    return max(one.offset for one in dis.get_instructions(code) if one.offset <= instruction)


def _loops(code: CodeType, tree: ast.FunctionDef, instruction: int) -> list[ast.For | ast.While]:
    """The loops around an instruction, the outermost first."""
    every = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While))
    return [node for node in every if _is_in(code, instruction, node.body)]


def _carried(instruction: int, here: list[_Given], after: set[int]) -> set[str]:
    """The names of what is made of a state in the same round: it is the state, by another name."""
    state = set[str]()
    for given in sorted(here, key=lambda one: one.instructions[0]):
        makes = instruction in given.instructions
        if makes or (given.instructions[0] in after and given.read & state):
            state |= given.names
    return state


def _in_one(
    code: CodeType, instruction: int, loop: ast.For | ast.While | None, every: list[_Given]
) -> dict[_Given, bool]:
    """What may stand in for an instruction in one round of a loop, or one call; and as the state.

    Args:
        code: the code.
        instruction: the one that makes the state.
        loop: the loop; None for the whole code.
        every: the expressions of the code.
    """
    parts = () if loop is None else ast.walk(loop)
    inner = [one for one in parts if isinstance(one, ast.For | ast.While) and one is not loop]
    flow = _flow(code, loop, inner)
    back: dict[int, list[int]] = {}
    for one, then in flow.items():
        for other in then:
            back.setdefault(other, []).append(one)
    after, leads = _reached(flow, instruction), _reached(back, instruction)
    here = [g for g in every if loop is None or _is_in(code, g.instructions[0], loop.body)]
    state = _carried(instruction, here, after)
    before = set[str]()
    if loop is not None:
        target = ast.walk(loop.target) if isinstance(loop, ast.For) else ()
        before = {node.id for node in target if isinstance(node, ast.Name)}
        made = {name for one in here if one.instructions[0] in leads for name in one.names}
        before = (before | made) - state
    found = dict[_Given, bool]()
    for given in here:
        if instruction in given.instructions or given.instructions[0] in after | leads:
            continue
        if given.names & state:
            found[given] = True
        elif given.read & before:
            found[given] = False
    if loop is not None and _is_left_before(code, loop, instruction):
        # the round in which it is left has taken its input
        for given in every:
            behind = given.line > (loop.end_lineno or loop.lineno)
            if behind and given.names & state and given.read & before:
                found[given] = True
    return found


def _by_mode(tree: ast.FunctionDef) -> Iterator[tuple[list[ast.stmt], list[ast.stmt]]]:
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


def _is_left_before(code: CodeType, loop: ast.For | ast.While, instruction: int) -> bool:
    """Whether a loop may be left in a round before it comes by an instruction."""

    def breaks(nodes: list[ast.stmt]) -> Iterator[ast.Break]:
        for node in nodes:
            if isinstance(node, ast.Break):
                yield node
            if isinstance(node, ast.If | ast.With | ast.Try):
                parts = (getattr(node, part, []) for part in ("body", "orelse", "finalbody"))
                yield from (one for part in parts for one in breaks(part))

    return any(one.lineno < span(code, instruction)[0] for one in breaks(loop.body))


def _given(code: CodeType, tree: ast.FunctionDef) -> Iterator[_Given]:
    """The expressions of a function's statements, and what their values are given to."""
    placed = [
        (place.offset, span(code, place.offset))
        for place in dis.get_instructions(code)
        if place.opname not in ("RESUME", "NOP", "JUMP_BACKWARD", "JUMP_FORWARD")
    ]

    def made(node: ast.AST, names: set[str]) -> Iterator[_Given]:
        if isinstance(node, ast.IfExp):
            yield from made(node.body, names)
            yield from made(node.orelse, names)
            return
        instructions = tuple(n for n, where in placed if _is_around(node, where))
        read = {
            ast.unparse(part)
            for part in ast.walk(node)
            if isinstance(part, ast.Name | ast.Attribute)
        }
        yield _Given(frozenset(names), frozenset(read), instructions, getattr(node, "lineno", 0))

    stack: list[ast.stmt] = [*tree.body]
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


_Span = tuple[int, int, int | None, int | None]


def _is_around(node: ast.AST, where: _Span) -> bool:
    """Whether a part of the source has another part in it."""
    line, last, begin, end = where
    first, until = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    if begin is None or end is None:
        return bool(first <= line and last <= until)
    return bool(
        (first, getattr(node, "col_offset", 0)) <= (line, begin)
        and (last, end) <= (until, getattr(node, "end_col_offset", 0))
    )


def _is_in(code: CodeType, instruction: int, block: list[ast.stmt]) -> bool:
    """Whether an instruction stands in some statements."""
    return any(_is_around(node, span(code, instruction)) for node in block)


def _flow(
    code: CodeType, loop: ast.For | ast.While | None, inner: Sequence[ast.For | ast.While]
) -> dict[int, list[int]]:
    """Which instructions may follow on each, within one round of a loop."""
    every = [*dis.get_instructions(code)]
    jumps = {*dis.hasjrel, *dis.hasjabs}
    flow: dict[int, list[int]] = {}
    for number, one in enumerate(every):
        then = [] if one.opname in _AWAY else [every[number + 1].offset]
        if one.opcode in jumps and not _begins_anew(code, one, loop, inner):
            then.append(one.argval)
        flow[one.offset] = then
    return flow


def _begins_anew(
    code: CodeType,
    one: dis.Instruction,
    loop: ast.For | ast.While | None,
    inner: Sequence[ast.For | ast.While],
) -> bool:
    """Whether a jump leads to the next round of a loop."""
    if loop is None or one.argval > one.offset:
        return False
    to = span(code, one.argval)
    return _is_around(loop, to) and not any(_is_around(node, to) for node in inner)


def _reached(flow: dict[int, list[int]], start: int) -> set[int]:
    """The instructions that may run behind one."""
    found, stack = set[int](), [*flow.get(start, ())]
    while stack:
        one = stack.pop()
        if one not in found:
            found.add(one)
            stack += flow.get(one, ())
    return found
