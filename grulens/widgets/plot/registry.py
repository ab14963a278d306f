"""Which figure shows which kind of result; a new kind is one decorated function.

    @draws(Spectrum)
    def draw_spectrum(found: Spectrum, options: PlotOptions) -> Figure:
        ...
        return root, still

`plot` finds it by the class of what it is given, or by a class that this derives from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bokeh.model import Model

from grulens.cells.cell import RecurrentCell
from grulens.errors import GrulensError, PositionError, shown
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.edits import positions
from grulens.widgets.session.tokens import texts
from grulens.words import so_many

Figure = tuple[Model, Callable[[], str]]
"""A Bokeh figure, and what draws its present state as HTML that needs no kernel."""


@dataclass(frozen=True)
class PlotOptions:
    """What `plot` was asked for, beside the result.

    Attributes:
        tokens: what to call each step, or None.
        output: which number of the readout, or None.
        row: which row of the batch.
        toward: a direction (unit,), or None.
    """

    tokens: list[str] | None
    output: Any
    row: Any
    toward: Any

    def tokens_of(self, steps: int) -> list[str] | None:
        """The tokens, if there is one for each of so many steps.

        Raises:
            GrulensError: there are more or fewer.
        """
        if self.tokens is not None and len(self.tokens) != steps:
            raise GrulensError(
                f"{so_many(len(self.tokens), 'token')} for a layer of {so_many(steps, 'step')}"
            )
        return self.tokens

    def row_of(self, rows: int, where: str) -> int:
        """The row that is meant, of so many.

        Raises:
            PositionError: there is no such row.
        """
        return position(self.row, rows, "row", where)


Draw = Callable[[Any, PlotOptions], Figure]
D = TypeVar("D", bound=Draw)

_DRAWS: Final[dict[type, Draw]] = {}

#: What to show of something that has no figure of its own.
INSTEAD: Final = (
    (Recording | LayerRecording, ": a run is shown by Lens(model, x), and its questions by "
     "sweep, attention(run), timescales(run), portrait(run)"),
    (RecurrentCell, ": a Cell has no figure; portrait(run), find_fixed_points(cell, ...), "
     "jacobian(cell, ...) and lyapunov(cell, ...) have"),
    (DFA, ": a DFA has no figure; Graphviz draws dfa.to_dot()"),
)  # fmt: skip


def draws(kind: Any) -> Callable[[D], D]:
    """Let a function draw what `plot` is given of a class.

    Args:
        kind: the class.

    Raises:
        GrulensError: it is no class, or another function draws it.

    >>> draws(3)
    Traceback (most recent call last):
        ...
    grulens.errors.GrulensError: draws takes the class of a result, got 3
    """
    if not isinstance(kind, type) or kind is object:
        raise GrulensError(f"draws takes the class of a result, got {shown(kind)}")
    if kind in _DRAWS:
        raise GrulensError(f"{kind.__name__} is drawn by {_DRAWS[kind].__name__} already")

    def keep(draw: D) -> D:
        _DRAWS[kind] = draw
        return draw

    return keep


def drawer(found: object) -> Draw:
    """The function that draws a result.

    Raises:
        GrulensError: there is none.
    """
    for kind in type(found).__mro__:
        if kind in _DRAWS:
            return _DRAWS[kind]
    *most, last = sorted(kind.__name__ for kind in _DRAWS)
    raise GrulensError(
        f"plot shows an {', '.join(most)} or {last}; got {shown(found)}"
        + next((said for kind, said in INSTEAD if isinstance(found, kind)), "")
    )


def plot_options(tokens: Sequence[object] | str | None, **more: Any) -> PlotOptions:
    """The options of `plot`, its tokens as texts.

    Raises:
        GrulensError: they are no texts.
    """
    return PlotOptions(tokens=None if tokens is None else texts(tokens), **more)


def position(value: Any, size: int, word: str, where: str) -> int:
    """One position of so many, counted from the start.

    Raises:
        PositionError: it is none.
    """
    place = positions.normal(value, word)
    if not isinstance(place, int):
        raise PositionError(f"{word} must be an int, got {shown(value)}")
    positions.check(place, size, word, where)
    return place % size


def check_enough(tokens: Sequence[object] | None, steps: int) -> None:
    """Raise GrulensError where there are fewer tokens than steps."""
    if tokens is not None and len(tokens) < steps:
        given, there = so_many(len(tokens), "token"), so_many(steps, "step")
        raise GrulensError(f"{given} for a figure of {there}")
