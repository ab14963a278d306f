"""Credit and a logit lens as figures of their own, without a session around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bokeh.model import Model

from grulens.errors import GrulensError, PositionError, shown
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.lensed import LogitLens
from grulens.probing.edits import positions
from grulens.widgets.credit.figures import CreditFigure, LensFigure

Figure = tuple[Model, Callable[[], str]]
Words = Sequence[str] | None


def of_credit(found: Credit, tokens: Words, row: Any) -> Figure:
    """A bar for each step of a row, and the ledger; a tap outlines steps."""
    batch, steps, _ = found.inputs.shape
    place = _place(row, batch, "row", "this credit")
    figure = CreditFigure()
    figure.update(
        found, place, tokens=_fitted(tokens, steps), title=f"{found.method} · {found.layer}"
    )
    figure.bars.on_times(figure.bars.select)
    return figure.root, figure.still


def of_lens(found: LogitLens, tokens: Words, row: Any, output: Any) -> Figure:
    """Lines of the likeliest classes of a row, and the units' shares in one; a tap chooses a step.

    Shown at first is the step read last; the class is `output`, or the likeliest at the step.
    """
    batch, steps, classes = found.logits.shape
    place = _place(row, batch, "row", "this lens")
    klass = None if output is None else _place(output, classes, "class", "this lens")
    words, figure = _fitted(tokens, steps), LensFigure()

    def show(step: int) -> None:
        chosen = int(found.top(step, 1)[0][place, 0]) if klass is None else klass
        figure.update(
            found, place, step, chosen, tokens=words, probability=classes > 1,
            names=lambda of: [f"class {c}" if classes > 1 else "output" for c in of],
        )  # fmt: skip

    figure.on_step(show)
    show(max(0, int(found.last[place])))
    return figure.root, figure.still


def _place(value: Any, size: int, word: str, where: str) -> int:
    place = positions.normal(value, word)
    if not isinstance(place, int):
        raise PositionError(f"{word} must be an int, got {shown(value)}")
    positions.check(place, size, word, where)
    return place % size


def _fitted(tokens: Words, steps: int) -> Words:
    if tokens is not None and len(tokens) != steps:
        raise GrulensError(f"{len(tokens)} tokens were given; this layer has {steps} steps")
    return tokens
