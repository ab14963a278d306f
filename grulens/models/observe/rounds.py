"""The loop that makes a state, and whether it may go round without making one.

What is recorded of a cell are the steps that make a state. Where a loop has a `continue`, or makes
its state in one branch, a step of the recording has another number than the round that made it.
"""

from __future__ import annotations

import ast
import dis
import functools
import os
from dataclasses import dataclass
from types import CodeType

from grulens.models.observe.sites import Chain, Site, parsed, span

_AWAY = {
    "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RETURN_VALUE", "RETURN_CONST",
    "RAISE_VARARGS", "RERAISE", "RETURN_GENERATOR",
}  # fmt: skip
"""Instructions after which the next one does not run."""
_LEAVES = {"RETURN_VALUE", "RETURN_CONST"}
"""Instructions that leave a call."""


@dataclass(frozen=True)
class Loop:
    """A loop that makes a state.

    Attributes:
        code: the code in which it stands.
        around: the calls that lead to that code.
        line: the number of its first line.
        begin: the instruction with which each round begins.
        ends: the instructions before each next round, or when it is over.
        may_skip: whether a round may come by without making a state.
    """

    code: CodeType
    around: Chain
    line: int
    begin: int
    ends: frozenset[int]
    may_skip: bool

    def __str__(self) -> str:
        return f"line {self.line} of {os.path.basename(self.code.co_filename)}"


def loop_of(site: Site) -> Loop | None:
    """The innermost loop around what makes a state; None if there is none that can be read.

    Where none is written, as in `map`, it is the outermost call that may make none: one a round.

    Args:
        site: where the state is made.
    """
    may_skip, called = False, None
    for depth, (code, (_, instruction)) in enumerate(zip(site.codes, site.chain, strict=True)):
        begin, ends, line, skips = _loop(code, instruction)
        may_skip = may_skip or skips
        around = site.chain[depth + 1 :]
        if line:
            return Loop(code, around, line, begin, ends, may_skip)
        if skips and around and code.co_name not in (*code.co_names, *code.co_freevars):
            called = Loop(code, around, code.co_firstlineno, begin, ends, True)
    return called


@functools.lru_cache(1 << 10)
def _loop(code: CodeType, instruction: int) -> tuple[int, frozenset[int], int, bool]:
    """Where rounds of the loop around an instruction begin and end, its line; if one may skip it.

    Without a loop it is said of a call of the code whether it may skip the instruction.
    """
    every = [*dis.get_instructions(code)]
    instruction = max(one.offset for one in every if one.offset <= instruction)
    tree = parsed(code)
    loops = (
        () if tree is None else (n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While))
    )
    around = [n for n in loops if any(_holds(part, code, instruction) for part in n.body)]
    if not around:
        leaves = frozenset(one.offset for one in every if one.opname in _LEAVES)
        resumed = next(n for n, one in enumerate(every) if one.opname == "RESUME")
        begin = every[resumed + 1].offset
        return begin, leaves, 0, bool(leaves & _reached(code, begin, instruction, None))
    loop = max(around, key=lambda node: node.lineno)
    first = loop.target if isinstance(loop, ast.For) else loop.body[0]
    begin = min(one.offset for one in every if _holds(first, code, one.offset))
    if isinstance(loop, ast.For):
        ends = {max(one.offset for one in every if one.offset < begin)}
    else:
        ends = {one.offset for one in every if _holds(loop.test, code, one.offset)}
    skips = bool(ends & _reached(code, begin, instruction, loop))
    return begin, frozenset(ends), loop.lineno, skips


def _holds(node: ast.AST, code: CodeType, instruction: int) -> bool:
    """Whether a part of the source has an instruction in it."""
    line, last, begin, end = span(code, instruction)
    first, until = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    if begin is None or end is None:
        return bool(first <= line and last <= until)
    here = first, getattr(node, "col_offset", 0)
    return bool(
        here <= (line, begin) and (last, end) <= (until, getattr(node, "end_col_offset", 0))
    )


def _reached(code: CodeType, start: int, without: int, loop: ast.stmt | None) -> set[int]:
    """What may run after an instruction, in one round, where another does not run to its end."""
    then, raised = _flow(code)
    # what Python adds of its own, to catch an exception, has no line but the function's first one
    lines = (
        {code.co_firstlineno, *range(loop.lineno, (loop.end_lineno or loop.lineno) + 1)}
        if loop
        else None
    )
    found, stack = {start}, [start]
    while stack:
        one = stack.pop()
        for other in raised[one] if one == without else then[one] + raised[one]:
            if other not in found and (lines is None or span(code, other)[0] in lines):
                found.add(other)
                stack.append(other)
    return found


@functools.lru_cache(1 << 10)
def _flow(code: CodeType) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Which instructions may follow on each, and which where it raises."""
    every, jumps = [*dis.get_instructions(code)], {*dis.hasjrel, *dis.hasjabs}
    then: dict[int, list[int]] = {}
    for one, following in zip(every, [*every[1:], None], strict=True):
        on = [] if following is None or one.opname in _AWAY else [following.offset]
        then[one.offset] = on + ([one.argval] if one.opcode in jumps else [])
    caught = getattr(dis.Bytecode(code), "exception_entries", ())
    raised = {
        one.offset: [entry.target for entry in caught if entry.start <= one.offset < entry.end]
        for one in every
    }
    return then, raised
