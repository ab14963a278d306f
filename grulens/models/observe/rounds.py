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

from grulens.models.observe.flow import (
    Comprehension,
    following,
    instructions_of,
    is_around,
    is_in,
    iterated,
    loops_of,
    placed_in,
    start_of,
    tree_of,
)
from grulens.models.observe.sites import Chain, Site, span

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


def in_turn(site: Site, lag: int, turn: int) -> str:
    """What must be known of a line that carries several states in turn; "" if it carries one.

    Args:
        site: where the states are made.
        lag: how many they are: each is made of the one so many before.
        turn: which of them.
    """
    if lag == 1:
        return ""
    around, where = 0, f"line {site.line} of {site.file}"
    for code, (_, instruction) in zip(site.codes, site.chain, strict=True):
        tree = tree_of(code)
        around += 2 if tree is None else len(loops_of(code, tree, start_of(code, instruction)))
    # in one loop they are no layers that make a step in turn
    said = f"{where} makes {lag} states in turn"
    if around == 1:
        said = (
            f"{where} mixes its state with the one {lag} rounds of its loop before, and not with "
            "the last one"
        )
    number = f"{lag} s" + (f" + {turn}" if turn else "")
    return f"{said}: step s here is state {number} of this line, both counted from 0"


@functools.lru_cache(1 << 10)
def _loop(code: CodeType, instruction: int) -> tuple[int, frozenset[int], int, bool]:
    """Where rounds of the loop around an instruction begin and end, its line; if one may skip it.

    Without a loop it is said of a call of the code whether it may skip the instruction.
    """
    every, instruction = instructions_of(code), start_of(code, instruction)
    tree = tree_of(code)
    for loop in reversed(loops_of(code, tree, instruction) if tree else []):
        begin, ends = _ends(code, loop)
        skips = bool(ends & _reached(code, begin, instruction, loop))
        # one that goes through the layers of a step is seldom written so that it leaves some out
        if skips or not isinstance(loop, Comprehension):
            return begin, ends, loop.lineno, skips
    leaves = _run(code, {one.offset for one in every if one.opname in _LEAVES})
    resumed = next(n for n, one in enumerate(every) if one.opname == "RESUME")
    begin = every[resumed + 1].offset
    is_loop = isinstance(tree, Comprehension)
    return begin, leaves, 0, not is_loop and bool(leaves & _reached(code, begin, instruction, None))


def _ends(code: CodeType, loop: ast.For | ast.While | Comprehension) -> tuple[int, frozenset[int]]:
    """Where rounds of a loop begin, and where they end."""
    first = loop.body[0] if isinstance(loop, ast.While) else [*iterated([loop])][-1][0]
    placed = [(n, where) for n, where in placed_in(code) if where[2] is not None]
    begin = min(n for n, where in placed if is_around(first, where))
    every = [one.offset for one in instructions_of(code)]
    if isinstance(loop, ast.While):
        return begin, frozenset(n for n in every if is_in(code, n, [loop.test]))
    return begin, _run(code, {max(n for n in every if n < begin)})


def _run(code: CodeType, starts: set[int]) -> frozenset[int]:
    """Some instructions, with what stands before those that have a large argument.

    Python jumps to that, and says of both together once that they run. The jump over a long loop,
    for one, has a large argument.
    """
    found = set(starts)
    for one in reversed(instructions_of(code)):
        if one.opname == "EXTENDED_ARG" and one.offset + 2 in found:
            found.add(one.offset)
    return frozenset(found)


def _reached(
    code: CodeType, start: int, without: int, loop: ast.stmt | ast.expr | None
) -> set[int]:
    """What may run after an instruction, in one round, where another does not run to its end."""
    then, raised = following(code), _raised(code)
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
def _raised(code: CodeType) -> dict[int, list[int]]:
    """What may follow on each instruction where it raises."""
    caught = getattr(dis.Bytecode(code), "exception_entries", ())
    return {
        one.offset: [entry.target for entry in caught if entry.start <= one.offset < entry.end]
        for one in instructions_of(code)
    }
