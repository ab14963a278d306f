"""Where else in a corpus some units are on together, with the labels there and their lift.

units 137, 12 on together for [5] steps, at least [2] of them   [find similar moments]
┌ lift of each label ┐
[2 on]  …text around the place…    in_text
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import ipywidgets as W
import numpy as np

from grulens.errors import ScanError
from grulens.models.instrument.lock import LOCK
from grulens.probing.corpus.scan.match import Match
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan
from grulens.views.corpus.lifts import Lifts
from grulens.views.figure.tokens import number, visible_name
from grulens.widgets.corpus.context_list import TRACKS, ContextList, Line
from grulens.widgets.corpus.places import inputs_of, labels_called
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.plot.corpus import match_still
from grulens.widgets.session.controls import button, row
from grulens.widgets.session.screen import Screen
from grulens.words import say, say_n

#: A run of units that are on is looked for in so many steps at most.
LONGEST: Final = 64
#: So many units are named.
NAMED: Final = 12


@dataclass(frozen=True)
class Wanted:
    """What is looked for."""

    scan: Scan
    layer: str
    units: tuple[int, ...]
    length: int
    least: int


class Moments(W.VBox):
    """Looks for places where the chosen units are on together.

    Args:
        screen: the screen that it is a part of.
        on_open: opens a place.

    Attributes:
        length: for how many steps on end.
        least: how many of the units at least.
        find: begins to look.
        contexts: the places found.
        found: the answer shown, or None.
    """

    def __init__(self, screen: Screen, on_open: Callable[[Place], object]) -> None:
        super().__init__()
        self._screen = screen
        self._given: tuple[Scan, str, tuple[int, ...]] | None = None
        self.found: Match | None = None
        # controls
        self._units = W.HTML()
        self.length, self.least = (
            W.BoundedIntText(
                value=value, min=1, max=LONGEST, description=word,
                style={"description_width": "auto"}, layout=W.Layout(width=width),
            )
            for value, word, width in (
                (5, say("on for so many steps"), "210px"),
                (1, say("at least so many units"), "210px"),
            )
        )  # fmt: skip
        self.find = button(
            say("find similar moments"),
            say("where else in the corpus these units are on together"),
            screen.callbacks.guard(self._on_find, source=self, clears=False),
        )  # fmt: skip
        # layout
        self._lifts = Lifts()
        self.picture = BokehView(self._lifts.root, lock=LOCK, retire=False)
        self.picture.layout.display = "none"
        self.contexts = ContextList(
            screen.callbacks.guard(self._on_open, source="open"), name=say("similar moments")
        )
        self._on_place = on_open
        self.children = (
            row(self._units, self.length, self.least, self.find), self.picture, self.contexts,
        )  # fmt: skip
        self._worker = screen.callbacks.background(
            self._answer, source=self, lock=LOCK,
            busy=lambda: screen.busy_marks.held(self.find, self.contexts),
        )  # fmt: skip

    def ask(self, scan: Scan, layer: str, units: Sequence[int], length: int | None = None) -> None:
        """Offer to look for some units; what was found for others goes.

        Args:
            scan: in which corpus.
            layer: of which layer.
            units: which ones.
            length: how many steps are chosen; None keeps the number.
        """
        given = scan, layer, tuple(units)
        many = max(1, len(units))
        if length:
            self.length.value = min(length, LONGEST)
        if given == self._given:
            return
        self._given, self.found = given, None
        self._screen.callbacks.clear(self)  # what was wrong was of other units
        self.least.max = many
        self.least.value = many
        names = scan.names(layer)
        said = (
            f"{unit} ({visible_name(names[unit])})" if unit in names else str(unit)
            for unit in units[:NAMED]
        )  # fmt: skip
        named = ", ".join(said) + (" …" if len(units) > NAMED else "")
        words = say("no unit chosen")
        if units:
            words = say("unit {numbers}" if len(units) == 1 else "units {numbers}", numbers=named)
        elif scan.directions.get(layer):
            words += say(" (a direction is neither on nor off)")
        self._units.value = f'<span class="grulens-label">{escape(words)}</span>'
        self.find.disabled = not units
        self.picture.layout.display = "none"
        self.contexts.show([], [], (0.0, 1.0))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is looked for; whether that was reached in time."""
        return self._worker.wait(timeout)

    def still(self) -> str:
        """What was found as HTML that needs no kernel and no network; "" where nothing was."""
        return "" if self.found is None else match_still(self.found)

    # what a change does

    def _on_find(self, _: object) -> None:
        if self._given is None or not self._given[2]:
            raise ScanError("choose one or more units first, in the table of units")
        self._worker.later(Wanted(*self._given, self.length.value, self.least.value))

    def _on_open(self, place: Place) -> None:
        with self._screen.busy_marks.held(self.contexts):
            self._on_place(place)

    def _answer(self, wanted: Wanted) -> None:
        self.contexts.old = True
        try:
            found = wanted.scan.match(
                wanted.units, wanted.length, at_least=wanted.least, layer=wanted.layer
            )
            if self._given == (wanted.scan, wanted.layer, wanted.units):
                self._show(wanted.scan, found)
        finally:
            self.contexts.old = False

    def _show(self, scan: Scan, found: Match) -> None:
        self.found = found
        units = len(found.units)
        where = say_n("{many} place", "{many} places", found.found, many=f"{found.found:,}")
        if found.found > len(found.contexts):
            where = say("{places}, the first {n} of them", places=where, n=len(found.contexts))
        drawn = bool(found.labels) and found.found > 0
        order: list[int] = []
        if drawn:
            lift = found.lift.numpy()
            with np.errstate(divide="ignore"):
                logs = np.log2(lift)
            with self.picture.batch():
                self._lifts.update(
                    found.labels, logs, found.share.numpy(), found.chance.numpy(),
                    title=say_n(
                        "labels at {many} similar moment", "labels at {many} similar moments",
                        found.found, many=f"{found.found:,}",
                    ),
                )  # fmt: skip
            there = (i for i in np.argsort(-np.nan_to_num(lift), kind="stable") if lift[i] > 0)
            order = [int(i) for i in there][:TRACKS]
        self.picture.layout.display = None if drawn else "none"
        lines = [
            Line(
                say("{n} on", n=many),
                one,
                place,
                scan.holds(one.place).numpy()[order],
                inputs=inputs_of(scan, one.place),
                closed=scan.lost(place, say),
            )
            for many, one, place in zip(found.together, found.contexts, found.places, strict=False)
        ]
        given = {"all": f"{found.of:,}", "on": number(scan.manifest.on)}
        said = say(
            "{places}; {steps} of {all} steps. The more colour, the more units on; on is above "
            "{on}", places=where, steps=f"{found.steps:,}", **given,
        )  # fmt: skip
        if not found.found:
            said = say(
                "no such place in {all} steps: on is above {on}, which scan(on=) sets", **given
            )
        said = say(
            "{least} of {n} units on for {long}: {said}", least=found.at_least, n=units,
            long=say_n("{n} step", "{n} steps", found.length), said=said,
        )  # fmt: skip
        self.contexts.show(
            lines, [found.labels[i] for i in order], (0.0, float(units)), signal="weight",
            said=said, called=labels_called(scan),
        )  # fmt: skip
