"""Credit and a logit lens as figures over tokens, for a panel and for `plot`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.layouts import column
from jaxtyping import Float
from torch import Tensor

from grulens.probing.credit.credit import Credit
from grulens.probing.credit.logit_lens import LogitLens
from grulens.views.credit.bars import FLOOR, TokenBars
from grulens.views.credit.logit_lens import LINES, LensLines
from grulens.views.credit.waterfall import Waterfall
from grulens.views.figure import raster
from grulens.views.figure.canvas import without_choosing
from grulens.views.figure.tokens import visible_name, visible_text
from grulens.views.gates.token_strip import TokenStrip
from grulens.views.still import credit as still_credit
from grulens.views.still import lens as still
from grulens.words import message, say

#: Units that have a bar of their own; the others share one.
UNITS: Final = 12
CLASSES: Final = len(LINES)
Names = Callable[[Sequence[int]], list[str]]
Tokens = Sequence[str] | None
#: What is read of a class, and after which step.
OF: Final = {
    message("logit"): (
        message("the logit of {name}"), message("the logit of {name} after step {step}{token}"),
    ),
    message("value"): (
        message("the value of {name}"), message("the value of {name} after step {step}{token}"),
    ),
}  # fmt: skip


def unit_called(unit: int) -> str:
    """What a unit is called that has nothing but its number."""
    return say("unit {unit}", unit=unit)


class CreditFigure:
    """A bar for each step, and the ledger under them.

    Attributes:
        bars: the bars and tokens.
        ledger: the parts of the score.
        root: both.
    """

    def __init__(self) -> None:
        self.bars = TokenBars()
        self.ledger = Waterfall(say("where the score comes from"))
        self.root = column(self.bars.root, self.ledger.root, sizing_mode="stretch_width")
        self._drawn: Callable[[], str] = lambda: ""

    def update(
        self, found: Credit, row: int, *, tokens: Tokens, mask: Any = None, title: str = ""
    ) -> None:
        """Show a row of a credit; arguments as `TokenBars.update`."""
        values, parts = _array(found.tokens[row]), found.ledger(row)
        if mask is not None:
            own = raster.own_steps(mask)
            values, mask, tokens = values[:own], mask[:own], tokens and tokens[:own]
        self.bars.update(values, tokens=tokens, mask=mask, title=title)
        parts = {say(part): value for part, value in parts.items()}
        self.ledger.update(list(parts), np.array(list(parts.values())), whole=say("score"))
        self._drawn = lambda: still_credit.credit(
            values, parts, tokens=tokens, mask=mask, title=title
        )

    def still(self) -> str:
        """The same as HTML."""
        return still.compose(self._drawn()) if self._drawn() else ""


class LensFigure:
    """Lines of a few classes over time, and the shares of units in one of them at one step.

    Attributes:
        lines: the lines.
        strip: the tokens, coloured by the logit of the first class.
        shares: the units' shares.
        root: all of them.
    """

    def __init__(self) -> None:
        self.lines = LensLines()
        self.strip = TokenStrip(x_range=self.lines.x_range)
        self.strip.root.name = say("tokens, coloured by a logit")
        without_choosing(self.strip.root)
        self.strip.update(np.zeros(1), signal="difference")
        self.shares = Waterfall(say("what each unit adds"))
        self.root = column(
            self.lines.root, self.strip.root, self.shares.root, sizing_mode="stretch_width"
        )
        self._drawn: list[Callable[[], str]] = []

    def on_step(self, listener: Callable[[int], object]) -> None:
        """Call `listener(step)` when a person taps a step; never from `update`."""
        self.lines.on_step(listener)
        self.strip.on_times(lambda times: listener(times[-1]) if times else None)

    def update(
        self,
        found: LogitLens,
        row: int,
        step: int,
        klass: int,
        *,
        names: Names,
        tokens: Tokens,
        unit_name: Callable[[int], str] = unit_called,
        probability: bool = True,
    ) -> None:
        """Show a row of a lens, and its shares at a step in the logit of a class.

        Args:
            found: the lens.
            row: a row of it.
            step: the marked step.
            klass: the class whose line comes first.
            names: from classes to what they are called.
            tokens: (time,), what to call each step.
            unit_name: from a unit to what it is called.
            probability: whether the readout is of classes and lines are their probabilities; else
                it is of values, and so are lines.
        """
        quantity, word = ("probability", "logit") if probability else ("value", "value")
        of, of_after = OF[word]
        word = say(word)
        mask = found.mask[row].cpu().numpy()
        own = raster.own_steps(mask)
        mask, tokens = mask[:own], tokens and tokens[:own]
        values = _array((found.probability if probability else found.logits)[row, :own])
        shown = likeliest(values[step], klass)
        called = names(shown)
        lines, title = values[:, shown].T, say("logit lens · {layer}", layer=found.layer)
        self.lines.update(lines, called, quantity=quantity, tokens=tokens, mask=mask, title=title)
        self.lines.select(step)
        logits = _array(found.logits[row, :own, klass])
        ends = raster.symmetric(logits[mask], FLOOR)
        self.strip.update(
            logits, signal="difference", tokens=tokens, mask=mask, name=word,
            ends=ends,
        )  # fmt: skip
        self.strip.select([step])
        self._drawn = [
            lambda: still_credit.lines(
                np.where(mask, lines, np.nan), called, quantity=quantity, title=title, step=step
            )
        ]
        if tokens is not None:
            self._drawn.append(
                lambda: still.tokens(
                    logits, signal="difference", tokens=tokens, mask=mask, ends=ends,
                    name=say(of, name=visible_name(called[0])),
                )
            )  # fmt: skip
        self.shares.root.visible = found.weight is not None
        if found.weight is not None:
            after = say(", ") + visible_text(tokens[step]) if tokens is not None else ""
            title = say(of_after, name=visible_name(called[0]), step=step, token=after)
            labels, parts = shares(found, row, step, klass, unit_name)
            self.shares.update(labels, np.array(parts), whole=word, title=title)
            self._drawn.append(lambda: still_credit.parts(labels, parts, word, title))

    def still(self) -> str:
        """The same as HTML."""
        return still.compose(*(draw() for draw in self._drawn)) if self._drawn else ""


def likeliest(values: Float[np.ndarray, " klass"], first: int) -> list[int]:
    """The classes of the largest values, one chosen class before them.

    >>> likeliest(np.array([0.1, 0.6, 0.3]), 2)
    [2, 1, 0]
    """
    order = np.argsort(-values, kind="stable")[: CLASSES + 1].tolist()
    return [first, *(klass for klass in order if klass != first)][:CLASSES]


def shares(
    found: LogitLens, row: int, step: int, klass: int, unit_name: Callable[[int], str]
) -> tuple[list[str], list[float]]:
    """What a logit is made of at a step: the strongest units, the others, and what is beside them.

    Args:
        found: the lens.
        row: a row of it.
        step: the step.
        klass: the class.
        unit_name: from a unit to what it is called.

    Returns:
        What to call each part, and the parts.
    """
    values = _array(found.share(klass)[row, step])
    order = np.argsort(-np.abs(values), kind="stable")
    top, others = order[:UNITS], order[UNITS:]
    labels, parts = [*map(unit_name, top.tolist())], values[top].tolist()
    if len(others):
        labels.append(
            say("{n} others", n=len(others)) if len(others) > 1 else unit_name(int(others[0]))
        )
        parts.append(float(values[others].sum()))
    rest = float(found.rest[row, step, klass])
    if rest:
        labels.append(say("beside it"))
        parts.append(rest)
    bias = 0.0 if found.bias is None else float(found.bias[klass])
    return [*labels, say("bias")], [*parts, bias]


def _array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    array: Float[np.ndarray, "*shape"] = values.detach().cpu().double().numpy()
    return array
