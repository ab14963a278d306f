"""Pin the chosen units, so that they are seen as lines whatever is chosen next, and name them.

Selected: unit 3 · all steps [clear] [★ unpin] name [in a string]
"""

from __future__ import annotations

from typing import Any

import ipywidgets as W

from grulens.probing.corpus.scan.found_by import PIN
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.controls import button
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.words import say


class PinControl:
    """A button that pins the chosen units or no longer, and the name of one that is.

    Args:
        session: whose units.
        callbacks: makes the callbacks, and shows their errors.

    Attributes:
        pin: the button.
        name: what the one chosen unit is called; not seen where it is not pinned.
    """

    def __init__(self, session: Session, callbacks: Callbacks) -> None:
        self._session, self._telling = session, False
        self.pin = button(f"{PIN} {say('pin')}", "", callbacks.guard(self._on_pin))
        self.name = W.Text(
            description=say("name"), placeholder=say("none"), continuous_update=False,
            tooltip=say("what you call this unit: it stands over its line"),
            layout=W.Layout(width="180px"), style={"description_width": "auto"},
        )  # fmt: skip
        self.name.observe(callbacks.guard(lambda change: self._on_name()), "value")
        self.show()

    @property
    def _units(self) -> tuple[int, ...]:
        """The units by which the chosen rows of the map are pinned: of a channel its first."""
        session = self._session
        seen = Seen(session)
        rows = seen.chosen(session.units)
        return tuple(seen.units([row])[0] for row in rows)

    def show(self) -> None:
        """Say what the button would do, and the name of the chosen unit."""
        units, pinned = self._units, self._session.pinned
        held = bool(units) and all(unit in pinned for unit in units)
        self.pin.disabled = not units
        self.pin.description = f"{PIN} {say('unpin') if held else say('pin')}"
        self.pin.tooltip = (
            say("see the chosen units as lines no longer") if held
            else say("see the chosen units as lines, whatever is chosen next")
        )  # fmt: skip
        one = held and len(units) == 1
        self.name.layout.display = None if one else "none"
        self._telling = True
        try:
            self.name.value = pinned[units[0]] if one else ""
        finally:
            self._telling = False

    def _on_pin(self, _: Any) -> None:
        session, units = self._session, self._units
        if units and all(unit in session.pinned for unit in units):
            session.unpin(*units)
        elif units:
            session.pin(*units)

    def _on_name(self) -> None:
        units = self._units
        if not self._telling and len(units) == 1 and units[0] in self._session.pinned:
            self._session.pin(units[0], name=self.name.value)
