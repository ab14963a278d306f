"""Counts the rounds of loops in which no state is made, while they run.

A loop that may go round without making a state is followed instruction by instruction: nothing else
tells that a `continue` was taken. No other loop is.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from grulens.models.observe.form import ObservedForm
from grulens.models.observe.rounds import Loop
from grulens.models.observe.sites import Chains


class Counted:
    """The rounds in which loops made no state.

    Args:
        forms: the cells whose loops are followed, by name.
        made: how often a run has come by the line of a cell's state.
        is_in: from a cell's name to whether the code that runs belongs to it.
        end: the code that begins the run.

    Attributes:
        left_out: by name, of each round that made no state, how often the run had come by the line
            before; None where the rounds were not counted.
    """

    def __init__(
        self,
        forms: Mapping[str, ObservedForm],
        made: Callable[[str], int],
        is_in: Callable[[str], bool],
        end: CodeType,
    ) -> None:
        self._made, self._is_in, self._chains = made, is_in, Chains(end)
        self._loops = defaultdict[int, dict[str, Loop]](dict)
        for name, form in forms.items():
            if form.loop is not None:
                self._loops[id(form.loop.code)][name] = form.loop
        self._open: dict[str, int] = {}
        self.left_out: dict[str, list[int] | None] = {name: [] for name in forms}

    def begin(self) -> None:
        """Follow the loops from now on; not where a debugger follows the code already."""
        if sys.gettrace() is None:
            sys.settrace(self._called)
        else:
            self.left_out = dict.fromkeys(self.left_out)

    def end(self) -> None:
        """Follow them no more."""
        if sys.gettrace() == self._called:
            sys.settrace(None)
        self._chains.forget()

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        loops = self._loops.get(id(frame.f_code))
        if loops is None:
            return None
        around = self._chains.of(frame)[1:]
        here = {
            name: loop
            for name, loop in loops.items()
            if loop.around == around and self._is_in(name)
        }
        if not here:
            return None
        begins, ends = defaultdict[int, list[str]](list), defaultdict[int, list[str]](list)
        for name, loop in here.items():
            begins[loop.begin].append(name)
            for end in loop.ends:
                ends[end].append(name)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def ran(frame: FrameType, event: str, arg: object) -> Any:
            for name in begins.get(frame.f_lasti, ()):
                self._open[name] = self._made(name)
            for name in ends.get(frame.f_lasti, ()):
                before, left = self._open.pop(name, -1), self.left_out[name]
                if before == self._made(name) and left is not None:
                    left.append(before)
            return ran

        return ran
