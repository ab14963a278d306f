"""Ctrl-C at a chosen line of grulens: what the tests of interrupts stand on."""

from __future__ import annotations

import linecache
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
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


def _counts(frame: FrameType) -> bool:
    # a trace function can raise between the end of a `with` block and its __exit__, where the
    # interpreter itself never looks for a signal
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return not line.startswith("with ")


def at_line(number: int, action: Callable[[], object]) -> tuple[list[str], bool]:
    """Run an action, with Ctrl-C at the n-th line of grulens that it runs; 0 is never.

    Returns:
        The lines that ran, as file:line, and whether the interrupt was raised.
    """
    lines: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if event == "line" and _counts(frame):
            lines.append(f"{frame.f_code.co_filename[len(ROOT) + 1 :]}:{frame.f_lineno}")
            if len(lines) == number:
                signal.raise_signal(signal.SIGINT)
        return look

    before, handler = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.settrace(look)
        try:
            action()
        finally:
            sys.settrace(before)
    except KeyboardInterrupt:
        return lines, True
    finally:
        signal.signal(signal.SIGINT, handler)
    return lines, False


def everywhere(
    action: Callable[[], object], stride: int = 15, often: tuple[str, ...] = OPENING
) -> Iterator[Place]:
    """Interrupt an action at one line after the other; after each the caller looks around.

    Every line of the files `often`, where things are opened and closed; of the others one in
    `stride`. No line more than `MOST` times.
    """
    action()  # what is computed once and kept
    lines, _ = at_line(0, action)
    tried = Counter[str]()
    for number, line in enumerate(lines, 1):
        if number % stride and not line.startswith(often):
            continue
        tried[line] += 1
        if tried[line] > MOST:
            continue
        seen, raised = at_line(number, action)
        if len(seen) >= number:
            yield Place(seen[number - 1], raised)
