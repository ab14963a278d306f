"""What a signal of a cell is, and what every cell says of its signals.

Recording, edits, screens, colours and saved pages read nothing else of a kind of cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from grulens.errors import CellError, shown
from grulens.words import say

Role = Literal["reset", "keep", "write", "candidate", "read", "memory", "state"]


@dataclass(frozen=True)
class Signal:
    """One signal of a cell.

    Attributes:
        name: its name: "r".
        words: what it is: "reset gate".
        low: its least value with torch's activations.
        high: its largest value.
        role: what it does in the cell; screens colour it by that. A gate that keeps the memory has
            one colour in every kind of cell.
        activated: whether it comes out of an activation, so that a shift acts before that.
    """

    name: str
    words: str
    low: float
    high: float
    role: Role
    activated: bool = True

    @property
    def is_gate(self) -> bool:
        """Whether it goes from shut to open, 0 to 1."""
        return (self.low, self.high) == (0, 1)

    @property
    def title(self) -> str:
        """What it is, and by which letter: "reset gate r"."""
        return f"{self.words} {self.name}"

    @property
    def said(self) -> str:
        """What it is, in the language of the screens; what stands in brackets by itself."""
        what, _, how = self.words.removesuffix(")").partition(" (")
        return say("{what} ({how})", what=say(what), how=say(how)) if how else say(what)

    @property
    def called(self) -> str:
        """Its title in the language of the screens."""
        return f"{self.said} {self.name}"


NAMED: dict[str, tuple[Signal, ...]] = {}
"""The signals that the kinds of cells have under each name. Only for an edit that is in no run yet:
wherever there is a layer, its own cell says what a signal is."""


@runtime_checkable
class Signalling(Protocol):
    """What can be asked of every cell: one that is known by its weights, and one by its signals."""

    @property
    def kind(self) -> str:
        """What such a cell is called."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What a step makes, the states last."""

    @property
    def hidden_size(self) -> int:
        """Number of units."""

    def signal(self, name: str) -> Signal:
        """One of its signals by name; KeyError if it has none of that name."""


def note_signals(signals: tuple[Signal, ...]) -> None:
    """Let the signals of a kind of cell be known by their names."""
    for signal in signals:
        others = NAMED.get(signal.name, ())
        NAMED[signal.name] = others if signal in others else (*others, signal)


def check_signals(name: str, signals: Any, states: tuple[str, ...]) -> None:
    """Raise CellError unless what a kind of cell says of its signals makes sense.

    Args:
        name: the kind's class.
        signals: what it says they are.
        states: the names of those that the next step reads.
    """
    if not isinstance(signals, tuple) or not all(isinstance(one, Signal) for one in signals):
        raise CellError(f"{name}.signals must be a tuple of Signal, got {shown(signals)}")
    names = [signal.name for signal in signals]
    if names[-1:] != ["h"] or states[:1] != ("h",) or not set(states) <= set(names):
        raise CellError(
            f"the last of {name}.signals must be h, and {name}.states h and signals of it; they "
            f"are {', '.join(names) or 'none'} and {', '.join(states) or 'none'}"
        )
    roles = get_args(Role)
    for signal in signals:
        if signal.name in ("x", "h_prev") or names.count(signal.name) > 1:
            raise CellError(
                f"{name} has a signal {signal.name!r}, which is another one's name already: the "
                "input is x, the state before a step h_prev"
            )
        if signal.role not in roles:
            raise CellError(
                f"the role of {signal.name!r} of {name} must be one of {', '.join(roles)}, got "
                f"{shown(signal.role)}"
            )
