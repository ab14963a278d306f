"""A loop that may leave a state aside that it has made says so, however it is written."""

from __future__ import annotations

import ast
import linecache
import os
import textwrap
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor

from grulens import record
from grulens.models.observe.aside import aside_in
from grulens.models.observe.flow import instructions_of
from grulens.models.observe.sites import span
from tests.models.observe.zoo import INPUT, Plain, zeros

SAID = "takes the state further in one branch only"
LAST = {
    "match": """
        new = self.step(x[:, t], h)
        match t:
            case 5: pass
            case _: h = new
    """,
    "one of a tuple": """
        new = self.step(x[:, t], h)
        h = (h, new)[t < 5]
    """,
    "one of a dict": """
        h = {True: self.step(x[:, t], h), False: h}[t < 5]
    """,
    "or": """
        new = self.step(x[:, t], h)
        h = t < 5 and [new] or [h]
        h = h[0]
    """,
    "not in": """
        new = self.step(x[:, t], h)
        h = new if t not in (5, 6) else h
    """,
    "continue": """
        new = self.step(x[:, t], h)
        if t == 5: continue
        h = new
    """,
    "break": """
        new = self.step(x[:, t], h)
        if t == 5: break
        h = new
    """,
    "raise": """
        try:
            new = self.step(x[:, t], h)
            if t == 5: raise ValueError
            h = new
        except ValueError: pass
    """,
    "set back": """
        old = h
        h = self.step(x[:, t], h)
        if t == 5: h = old
    """,
    "set back by a pair": """
        old, h = h, self.step(x[:, t], h)
        if t == 5: h, old = old, h
    """,
    "walrus": """
        states.append(new := self.step(x[:, t], h))
        if t < 5: h = new
    """,
    "zeros of its shape": """
        h = self.step(x[:, t], h)
        if t == 5: h = torch.zeros_like(h)
    """,
    "an attribute": """
        self.kept = h
        new = self.step(x[:, t], self.kept)
        if t < 5: self.kept = new
        h = self.kept
    """,
}
KEPT = {
    "masked": """
        new = self.step(x[:, t], h)
        h = new if mask is None else torch.where(mask, new, h)
    """,
    "read only in some rounds": """
        h = self.step(x[:, t], h)
        if t % 2: states.append(h)
    """,
    "left with it": """
        new = self.step(x[:, t], h)
        if t == 5: break
        h = new
    """,
    "returned": """
        new = self.step(x[:, t], h)
        if t == 5: return new
        h = new
    """,
    "taken further in two ways": """
        new = self.step(x[:, t], h)
        match t:
            case 3: h, states = new, []
            case _: h = new
    """,
    "tried": """
        try: new = self.step(x[:, t], h)
        except ValueError: new = h
        finally: states = []
        h = new
    """,
    "another input": """
        h = self.step(x[:, t], h)
        if t % 2: x = x.clone()
        else: x = x * h.mean()
    """,
    "an input made of it or given": """
        h = self.step(y, h)
        if t % 2: y = x[:, t]
        else: y = h[:, :4]
    """,
    "of no use further on": """
        h = self.step(x[:, t], h)
        first = h if t == 0 else first
    """,
}


HELPER = """
def later(self, x, h, goes_on):
    new = self.step(x, h)
    if goes_on:
        return new
    return h
"""


def said(source: str) -> str:
    """What is said of a function in which `self.step` makes a state."""
    name = f"{os.sep}tmp{os.sep}cells_{abs(hash(source))}.py"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    held = dict[str, Any]()
    exec(compile(source, name, "exec"), held)
    code = next(one for one in held.values() if isinstance(one, FunctionType)).__code__
    call = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.step"
    )
    where = call.lineno, call.end_lineno, call.col_offset, call.end_col_offset
    at = next(i.offset for i in instructions_of(code) if span(code, i.offset) == where)
    return aside_in(code, at) or ""


def loop(body: str, after: str = "h") -> str:
    """The source of a loop."""
    text = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    return (
        "def forward(self, x, mask=None):\n"
        "    h, states, first, new = zeros(x), [], None, None\n"
        f"    for t in range(x.shape[1]):\n{text}\n"
        f"    return {after}\n"
    )


@pytest.mark.parametrize("how", LAST)
def test_a_state_that_may_be_left_aside_is_said(how: str) -> None:
    assert SAID in said(loop(LAST[how]))


def test_what_a_helper_leaves_aside_is_said() -> None:
    assert SAID in said(HELPER)
    assert said(HELPER.replace("return h", "return new.clone()")) == ""


@pytest.mark.parametrize("how", KEPT)
def test_of_a_state_that_every_round_takes_further_nothing_is_said(how: str) -> None:
    assert said(loop(KEPT[how], "new" if how == "left with it" else "h")) == ""


class Matched(Plain):
    """Its last state is left aside."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            h = self.later(x[:, t], h, t)
        return h

    def later(self, x: Tensor, h: Tensor, t: int) -> Tensor:
        new = self.step(x, h)
        match t:
            case 5:
                return h
        return new


def test_the_note_of_a_recording_has_it() -> None:
    layer = record(Matched(), torch.randn(2, 6, INPUT))["cell"]
    assert layer.shape[1] == 6
    assert SAID in layer.note
