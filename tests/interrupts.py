"""Ctrl-C at a chosen line of grulens: what the tests of interrupts stand on."""

from __future__ import annotations

import linecache
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

import grulens

ROOT = grulens.__path__[0]
OPENING = (
    "models/record.py",
    "models/instrument/editing.py",
    "models/restore/interrupts.py",
    "models/restore/untouched.py",
    "models/restore/added.py",
)
MOST = 5
"""How often one line is interrupted: the tenth turn of a loop says what the fifth one said."""


class Place(NamedTuple):
    """Where an interrupt came, file:line, and whether it was raised."""

    where: str
    raised: bool


@cache
def _counts(file: str, line: int) -> bool:
    # a trace function can raise between the end of a `with` block and its __exit__, where the
    # interpreter itself never looks for a signal
    return not linecache.getline(file, line).strip().startswith("with ")


def _name(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename[len(ROOT) + 1 :]}:{frame.f_lineno}"


def _ours() -> Callable[[FrameType], bool]:
    """Whether a frame is one of grulens' own: asked at every call, and so remembered by code."""
    known: dict[CodeType, bool] = {}

    def ours(frame: FrameType) -> bool:
        code = frame.f_code
        if code not in known:
            known[code] = code.co_filename.startswith(ROOT)
        return known[code]

    return ours


def lines_of(action: Callable[[], object]) -> list[str]:
    """The lines of grulens that an action runs, as file:line."""
    lines: list[str] = []
    ours = _ours()

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if not ours(frame):
            return None
        if event == "line" and _counts(frame.f_code.co_filename, frame.f_lineno):
            lines.append(_name(frame))
        return look

    _traced(look, action)
    return lines


def at_line(number: int, action: Callable[[], object]) -> Place | None:
    """Run an action with Ctrl-C at the n-th line of grulens that it runs.

    Returns:
        That line, and whether the interrupt was raised; None where fewer lines ran.
    """
    left, place = number, None
    ours = _ours()

    def look(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, place
        if not ours(frame):
            return None
        if event == "line" and _counts(frame.f_code.co_filename, frame.f_lineno):
            left -= 1
            if left == 0:
                place = _name(frame)
                sys.settrace(None)  # what comes now is not looked at: it is the way out
                signal.raise_signal(signal.SIGINT)
        return look if left > 0 else None

    raised = _traced(look, action)
    return None if place is None else Place(place, raised)


def _traced(look: Callable[..., Any], action: Callable[[], object]) -> bool:
    """Run an action with a trace function; whether it ended with Ctrl-C."""
    before, handler = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.settrace(look)
        try:
            action()
        finally:
            sys.settrace(before)
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGINT, handler)
    return False


def everywhere(
    action: Callable[[], object], stride: int = 15, often: tuple[str, ...] = OPENING
) -> Iterator[Place]:
    """Interrupt an action at one line after the other; after each the caller looks around.

    Every line of the files `often`, where things are opened and closed; of the others one in
    `stride`. No line more than `MOST` times.
    """
    action()  # what is computed once and kept
    tried = Counter[str]()
    for number, line in enumerate(lines_of(action), 1):
        if number % stride and not line.startswith(often):
            continue
        tried[line] += 1
        if tried[line] > MOST:
            continue
        place = at_line(number, action)
        if place is not None:
            yield place
