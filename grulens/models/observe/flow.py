"""The loops of a piece of code, and which instructions may follow on which in one round of them.

The source says where a loop, a branch and an expression stand, the instructions what runs when.
"""

from __future__ import annotations

import ast
import dis
import functools
import itertools
import linecache
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType

from grulens.models.observe.sites import parsed, span

_AWAY = {
    "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE", "RETURN_VALUE",
    "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "RETURN_GENERATOR",
}  # fmt: skip
"""Instructions after which the next one does not run."""
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Loop = ast.For | ast.While | Comprehension
Tree = ast.FunctionDef | ast.Lambda | Comprehension

_Span = tuple[int, int, int | None, int | None]
_NOWHERE = {"RESUME", "NOP", "JUMP_BACKWARD", "JUMP_FORWARD", "COPY_FREE_VARS", "MAKE_CELL",
            "RETURN_GENERATOR", "POP_TOP"}  # fmt: skip


@functools.lru_cache(1 << 10)
def instructions_of(code: CodeType) -> tuple[dis.Instruction, ...]:
    """The instructions of a piece of code."""
    return tuple(dis.get_instructions(code))


def whole(code: CodeType, starts: Iterable[int]) -> frozenset[int]:
    """Some instructions with their caches, behind which a call of what is written in Python is."""
    places = [*(one.offset for one in instructions_of(code)), len(code.co_code)]
    ends = dict(itertools.pairwise(places))
    return frozenset(n for start in starts for n in range(start, ends[start], 2))


def start_of(code: CodeType, instruction: int) -> int:
    """Where an instruction begins: a call of what is written in Python stands behind its cache."""
    return max(one.offset for one in instructions_of(code) if one.offset <= instruction)


@functools.lru_cache(1 << 10)
def tree_of(code: CodeType) -> Tree | None:
    """The source of a piece of code; None where nobody has it."""
    if not code.co_name.startswith("<"):
        return parsed(code)
    kind = _KINDS.get(code.co_name)
    try:
        whole = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    placed = [where for _, where in placed_in(code) if where[2:] != (0, 0)]  # a lambda's return
    nodes = [
        node
        for node in ast.walk(whole)
        if kind is not None
        and isinstance(node, kind)
        and node.lineno == code.co_firstlineno
        and all(is_around(node, where) for where in placed)
    ]
    return nodes[-1] if nodes else None


_KINDS: dict[str, type[ast.Lambda | Comprehension]] = {
    "<lambda>": ast.Lambda, "<listcomp>": ast.ListComp, "<setcomp>": ast.SetComp,
    "<dictcomp>": ast.DictComp, "<genexpr>": ast.GeneratorExp,
}  # fmt: skip


def loops_of(code: CodeType, tree: Tree, instruction: int) -> list[Loop]:
    """The loops around an instruction, the outermost first."""
    every = (node for node in ast.walk(tree) if isinstance(node, Loop))
    return [node for node in every if is_in(code, instruction, body_of(node))]


def innermost(code: CodeType, tree: Tree, instruction: int) -> Loop | None:
    """The innermost loop around an instruction; None if there is none."""
    around = loops_of(code, tree, instruction)
    return around[-1] if around else None


def body_of(loop: Loop) -> Sequence[ast.AST]:
    """What a loop runs in each round."""
    if isinstance(loop, ast.For | ast.While):
        return loop.body
    values = [loop.key, loop.value] if isinstance(loop, ast.DictComp) else [loop.elt]
    return [*values, *(one for part in loop.generators for one in part.ifs)]


def iterated(loops: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What loops give another value to in each round, and where they have it from."""
    for loop in loops:
        parts = loop.generators if isinstance(loop, Comprehension) else [loop]
        for one in parts:
            if isinstance(one, ast.For | ast.comprehension):
                yield one.target, one.iter


def placed_in(code: CodeType) -> list[tuple[int, _Span]]:
    """The instructions of code that stand for some expression, each with where that is."""
    return [
        (one.offset, span(code, one.offset))
        for one in instructions_of(code)
        if one.opname not in _NOWHERE
    ]


def is_around(node: ast.AST, where: _Span) -> bool:
    """Whether a part of the source has another part in it."""
    line, last, begin, end = where
    first, until = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    if begin is None or end is None:
        return bool(first <= line and last <= until)
    return bool(
        (first, getattr(node, "col_offset", 0)) <= (line, begin)
        and (last, end) <= (until, getattr(node, "end_col_offset", 0))
    )


def is_in(code: CodeType, instruction: int, block: Sequence[ast.AST]) -> bool:
    """Whether an instruction stands in some statements."""
    return any(is_around(node, span(code, instruction)) for node in block)


def flow_of(code: CodeType, loop: Loop | None, inner: Sequence[Loop]) -> dict[int, list[int]]:
    """Which instructions may follow on each, within one round of a loop."""
    return {
        one: [other for other in then if not _begins_anew(code, one, other, loop, inner)]
        for one, then in following(code).items()
    }


@functools.lru_cache(1 << 10)
def following(code: CodeType) -> dict[int, list[int]]:
    """Which instructions may follow on each where nothing raises."""
    every, jumps = instructions_of(code), {*dis.hasjrel, *dis.hasjabs}
    return {
        one.offset: [
            *([] if after is None or one.opname in _AWAY else [after.offset]),
            *([one.argval] if one.opcode in jumps else []),
        ]
        for one, after in zip(every, [*every[1:], None], strict=True)
    }


def _begins_anew(
    code: CodeType, one: int, other: int, loop: Loop | None, inner: Sequence[Loop]
) -> bool:
    """Whether what leads from an instruction to another one begins the next round of a loop."""
    if loop is None or other > one:
        return False
    to = span(code, other)
    return is_around(loop, to) and not any(is_around(node, to) for node in inner)


def reached(flow: dict[int, list[int]], start: int) -> set[int]:
    """The instructions that may run behind one."""
    found, stack = set[int](), [*flow.get(start, ())]
    while stack:
        one = stack.pop()
        if one not in found:
            found.add(one)
            stack += flow.get(one, ())
    return found
