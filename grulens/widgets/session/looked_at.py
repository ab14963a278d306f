"""The unit that a person looks at, or a direction of a scan in its place.

Several units are chosen at once, for an edit or a match, and one of them is looked at: the last one
that was chosen. A direction that a scan followed is looked at as a unit is, and is none: it is not
among the units, for no edit acts on it, and what is done to all units is done where none is chosen.
"""

from __future__ import annotations

from typing import Any

import traitlets as tl

from grulens.errors import PositionError, ScanError, shown
from grulens.probing.corpus.numbers import as_whole
from grulens.probing.corpus.scan.direction import followed
from grulens.probing.corpus.scan.scanned import Scan
from grulens.widgets.session.selection import Selection


class LookedAt(Selection):
    """A choice in a run, and what of it is looked at; `Session` says what each trait is."""

    scan = tl.Any(None, allow_none=True)
    unit: Any = tl.Any(None, allow_none=True)
    _last: int | None = None

    @property
    def directions(self) -> tuple[str, ...]:
        """The names of the directions that the scan followed of the layer shown."""
        scan: Scan | None = self.scan
        return () if scan is None else scan.directions.get(self.layer, ())

    @tl.validate("scan")
    def _valid_scan(self, proposal: Any) -> Scan | None:
        given = proposal["value"]
        if given is None or (isinstance(given, Scan) and given.model is self.model):
            return given
        if not isinstance(given, Scan):
            raise ScanError(f"a session takes a scan of its model, got {shown(given)}")
        return Scan(given.path, self.model)  # which compares the weights

    @tl.validate("unit")
    def _valid_unit(self, proposal: Any) -> int | str:
        value, scan = proposal["value"], self.scan
        if isinstance(value, str):
            if scan is None:
                raise ScanError(
                    f"direction {shown(value)} is of a scan, and the session has none: set "
                    "session.scan, or choose a unit by its number"
                )
            followed(value, scan.manifest.layers[scan.manifest.layer(self.layer)])
            return value
        number = as_whole(value)
        if number is None:
            raise PositionError(
                f"unit is the number of a unit or the name of a direction, got {shown(value)}"
            )
        self.check_positions("unit", (number,))
        return number

    @tl.observe("unit")
    def _on_unit(self, change: Any) -> None:
        if self.unit is None and self.units:  # then it is one of these
            self.unit = self._last if self._last in self.units else self.units[-1]
        elif isinstance(self.unit, int):
            self._last = self.unit
            if self.unit not in self.units:
                self.units = (*self.units, self.unit)

    @tl.observe("units")
    def _on_units(self, change: Any) -> None:
        new = [unit for unit in self.units if unit not in change["old"]]
        if new:
            self.unit = new[-1]
        elif isinstance(self.unit, int) and self.unit not in self.units:
            self.unit = None

    @tl.observe("layer", "scan")
    def _on_directions(self, change: Any) -> None:
        other = change["name"] == "layer" and bool(change["old"])
        if other:
            self.units = ()  # first: none of them takes the place of a direction
        # one of the same name along another layer is another
        if isinstance(self.unit, str) and (other or self.unit not in self.directions):
            self.unit = None
