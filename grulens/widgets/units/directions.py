"""The directions that a scan followed, beside the table of units: what each is found by.

directions of the scan, one at a time; edits are of units
direction   found by  its AUC  an AUC for each label

They are no rows of the table of units. There each row can be switched off and is a row of the map,
and where none is chosen all are meant: who had chosen a direction would edit every unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import ipywidgets as W
import numpy as np

from grulens.probing.corpus.scan.direction import SIGNAL
from grulens.probing.corpus.scan.found_by import directions_called, label_columns
from grulens.views.units.table import ROW, UnitTable
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import quiet
from grulens.widgets.session.panel import Panel
from grulens.words import message, say

SAID: Final = message("directions of the scan, one at a time; edits are of units")
#: So many directions are seen at once.
SEEN: Final = 5
#: How high the bar is along the foot of a table that is wider than its place.
BAR: Final = 10


class DirectionList(W.VBox):
    """A table of the directions of the layer shown, of which one can be looked at.

    Nothing is seen of it where the scan followed none.

    Args:
        panel: the screen that it is a part of.

    Attributes:
        picture: the table on the page; None before there is anything to show.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(layout=W.Layout(width="100%"))
        self._session = panel.session
        self._table = UnitTable()
        self._table.root.name = say("table of directions")
        self.picture: BokehView | None = None
        self._table.on_units(panel.callbacks.guard(self._on_chosen))
        panel.follow(self._show, "scan", "layer")
        panel.follow(self._on_unit, "unit")
        self._show()

    # what a change does

    def _show(self) -> None:
        session, names = self._session, self._session.directions
        self.layout.display = None if names else "none"
        if not names:
            return
        if self.picture is None:
            self.picture = BokehView(self._table.root, lock=session.lock, retire=False)
            self.children = (W.HTML(quiet(say(SAID))), self.picture)
        called = np.array(directions_called(session.scan, session.layer))
        found = label_columns(session.scan.stats(session.layer, SIGNAL))
        with self.picture.batch():
            self._table.root.height = ROW * (1 + min(len(names), SEEN)) + BAR
            self._table.update(
                {"unit": called, **found}, units=np.arange(len(names)), noun=message("direction")
            )
        self._on_unit()

    def _on_unit(self) -> None:
        session = self._session
        if self.picture is not None:
            chosen = [k for k, name in enumerate(session.directions) if name == session.unit]
            with self.picture.batch():
                self._table.select(chosen)

    def _on_chosen(self, rows: Sequence[int]) -> None:
        """A person chose one, another beside it, which takes its place, or none any more."""
        session = self._session
        names = [session.directions[one] for one in rows]
        other = [name for name in names if name != session.unit]
        session.unit = other[-1] if other else next(iter(names), None)
        self._on_unit()
