"""The table of units: one row a unit, sorted and filtered, in step with what is selected elsewhere.

    unit  mean h  sd h  mean z  half-life  r < 0.1  …  h over time
      12   −0.31  0.42    0.93       9.6      12 %     ▁▂▇▇▅▁▁▂▇▇

A selection means units, never row positions: sorting happens in the browser and rows that a filter
hides keep their place in it. The page says what the rows are sorted by, and `sort` tells it. All
rows stay in the browser, so that a filter sends only which rows to show. Texts in cells are escaped
by Bokeh's own formatters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, IndexFilter, InlineStyleSheet
from bokeh.models.widgets import DataTable
from jaxtyping import Bool, Float, Int

from grulens.cells.signal import Signal
from grulens.views.figure.canvas import Listener, Positions, tell
from grulens.views.units.columns import COLUMNS, bars, column_of, described, is_large, side_by_side
from grulens.words import say

_STYLE = """
.slick-column-name { white-space: nowrap; }
.slick-header-column .slick-column-name { float: right; }
.slick-header-column .slick-column-name:has(.words) { float: left; }
.slick-cell { line-height: 21px; }
.slick-cell > * { overflow: hidden; text-overflow: ellipsis; }
.slick-header-column.at { box-shadow: inset 0 0 0 2px var(--jp-brand-color1, #1976d2); }
/* a scroll bar has its place, and is seen where somebody is at the table */
.slick-viewport { scrollbar-width: thin; scrollbar-gutter: stable; }
@media (hover: hover) {
  .slick-viewport:not(:hover, :focus-within) { scrollbar-color: transparent transparent; }
}
"""

#: How high a row is, in pixels.
ROW: Final = 25
_POSITIONS: Final = re.compile(r"\s*\d+(\s*[-–]\s*\d+)?(\s*[,\s]\s*\d+(\s*[-–]\s*\d+)?)*\s*")

__all__ = ["COLUMNS", "UnitTable"]


class UnitTable:
    """Numbers about every unit, a bar chart of its state in the row, sortable and selectable.

    Args:
        rows: so many are seen at once at most, none of them by half.
        live: whether a person may choose rows.

    Attributes:
        root: the Bokeh DataTable.
        units: the selected units.
        shown: the units that pass the filter.
    """

    def __init__(self, *, rows: int = 12, live: bool = True) -> None:
        self._listeners: list[Listener] = []
        self._units: Int[np.ndarray, " unit"] = np.arange(0)
        self._text = ""
        self._ranges: dict[str, tuple[float | None, float | None]] = {}
        self._own = False
        self._signals: tuple[Signal, ...] = ()
        self._noun = "unit"
        self._large: list[str] = []
        self.units: Positions = ()
        self._most = rows
        self.source = ColumnDataSource({"unit": np.arange(0)})
        self.filter_model = IndexFilter(indices=None)
        self.root = DataTable(
            name=say("table of units"),
            tags=["fits"],  # the page fills its width with columns: bokeh_table.js
            source=self.source,
            view=CDSView(filter=self.filter_model),
            columns=[],
            height=ROW * (1 + rows),  # a head is as high as a row
            sizing_mode="stretch_width",
            margin=(4, 0, 0, 0),  # under the left edge of the controls
            autosize_mode="none",
            index_position=None,
            # only with jQuery UI, which the page has not: Bokeh would warn
            reorderable=False,
            row_height=ROW,
            stylesheets=[InlineStyleSheet(css=_STYLE)],
        )
        if live:
            self.source.selected.on_change("indices", lambda attr, old, new: self._chosen())

    def on_units(self, listener: Listener) -> None:
        """Call `listener(units)` when a person chooses rows; never from `select` or a filter."""
        self._listeners.append(listener)

    def update(
        self,
        columns: Mapping[str, Any],
        *,
        units: Int[np.ndarray, " unit"],
        h: Float[np.ndarray, "unit time"] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        signals: Sequence[Signal] = (),
        noun: str = "unit",
    ) -> None:
        """Show other numbers.

        Args:
            columns: name to (unit,) numbers, or texts; COLUMNS describes the usual names. "unit",
                if given, is shown in place of `units`.
            units: (unit,), which unit each row is.
            h: (unit, time), drawn as bars in the row; None leaves that column away.
            mask: (time,), False where there is no step (padding).
            signals: those of the layer's cell, which some columns are of.
            noun: what each row is.

        >>> table = UnitTable()
        >>> table.update({"mean_h": np.array([0.5, -0.5])}, units=np.array([7, 9]))
        >>> [column.title for column in table.root.columns]
        ['...>unit<...', '...>mean h<...']
        """
        data: dict[str, Any] = {"unit": np.asarray(units, np.int32)}
        for name, values in columns.items():
            data[name] = column_of(values)
        if h is not None:
            data["bars"] = bars(h, mask)
        if (tuple(signals), noun) != (self._signals, self._noun):
            self._signals, self._noun, self.root.columns = tuple(signals), noun, []
        same = np.array_equal(units, self._units)
        self._units = np.asarray(units)
        self.root.height = ROW * (1 + min(max(len(self._units), 1), self._most))
        if not same:
            # positions of other rows: the browser would carry them over
            self._point(())
        self._show(data)

    def put(self, columns: Mapping[str, Any]) -> None:
        """Set some columns of the rows there are, in front of the others; other columns stay.

        Args:
            columns: name to (unit,), as for `update`; None takes a column away.

        >>> table = UnitTable()
        >>> table.update({"mean_h": np.array([0.5, -0.5])}, units=np.array([7, 9]))
        >>> table.put({"effect": np.array([0.25, 1.0])})
        >>> list(table.source.data)
        ['unit', 'effect', 'mean_h']
        """
        old: dict[str, Any] = dict(self.source.data)
        new = {name: column_of(values) for name, values in columns.items() if values is not None}
        rest = {name: values for name, values in old.items() if name not in columns}
        self._show({"unit": old["unit"], **new, **rest})

    def select(self, units: Iterable[int] = ()) -> None:
        """Select these units; those a filter hides are remembered; tells no listener."""
        self.units = tuple(sorted({int(u) for u in units}))
        self._point(self._rows())

    def filter(
        self,
        text: str = "",
        ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
    ) -> None:
        """Show only some rows; both conditions must hold. No argument shows all.

        Args:
            text: unit numbers ("3, 7, 10-20"), or a part of any text in the row.
            ranges: column name to (lowest, highest), None for no bound; NaN never passes.

        >>> table = UnitTable()
        >>> table.update({"mean_z": np.array([0.2, 0.9, 0.8])}, units=np.arange(3))
        >>> table.filter(ranges={"mean_z": (0.5, None)})
        >>> table.shown
        (1, 2)
        """
        self._text, self._ranges = text.strip(), dict(ranges or {})
        self._refresh()

    @property
    def shown(self) -> Positions:
        """The units that pass the filter, in the order in which they were given."""
        rows = self.filter_model.indices
        return tuple(self._units.tolist() if rows is None else self._units[rows].tolist())

    def sort(self, column: str, *, ascending: bool = False) -> None:
        """Sort the rows by a column, in every view of the table."""
        self.root.view.tags = [[column, ascending]]

    @property
    def sorted_by(self) -> tuple[tuple[str, bool], ...]:
        """The columns that the rows are sorted by, and whether upwards; the first one first."""
        # a page may say anything
        told = [one for one in self.root.view.tags if isinstance(one, list) and len(one) == 2]
        return tuple((name, bool(up)) for name, up in told if name in self.source.data)

    @property
    def ordered(self) -> Int[np.ndarray, " row"]:
        """The rows that are seen, in the order in which they are: positions in the columns given.

        >>> table = UnitTable()
        >>> table.update({"mean_h": np.array([0.5, np.nan, -0.5, 2.0])}, units=np.arange(4))
        >>> table.sort("mean_h")
        >>> table.ordered
        array([3, 0, 2, 1])
        """
        shown = self.filter_model.indices
        rows = np.arange(len(self._units)) if shown is None else np.asarray(shown, np.int64)
        for name, up in reversed(self.sorted_by):
            values: Any = self.source.data[name]
            if isinstance(values, list):
                texts = [(values[row].lower(), values[row]) for row in rows]
                rows = rows[sorted(range(len(rows)), key=texts.__getitem__, reverse=not up)]
            else:
                held = np.asarray(values)[rows].astype(float)
                rows = rows[np.argsort(held if up else -held, kind="stable")]  # NaN is last
        return rows

    def _show(self, data: dict[str, Any]) -> None:
        names = list(data)
        large = [name for name in names if name != "unit" and is_large(data[name])]
        if large != self._large or names != [column.field for column in self.root.columns]:
            self._large = large
            self.root.columns = side_by_side(
                [
                    described(
                        self._noun if name == "unit" else name, data[name], self._signals, name
                    )
                    for name in names
                ]
            )
        self.source.data = data
        self._refresh()

    # ── rows and units ───────────────────────────────────────────────────────────────────────

    def _refresh(self) -> None:
        passing = self._passing()
        rows = None if passing.all() else np.flatnonzero(passing).tolist()
        if rows != self.filter_model.indices:
            # BokehJS remembers selected rows that a filter hid and brings them back later, even
            # if they were deselected meanwhile: so no row is selected while the filter changes
            self._point(())
            self.filter_model.indices = rows
        self._point(self._rows())

    def _passing(self) -> Bool[np.ndarray, " unit"]:
        passing = np.ones(len(self._units), bool)
        data: dict[str, Any] = dict(self.source.data)
        for name, (low, high) in self._ranges.items():
            if name in data and np.asarray(data[name]).dtype.kind in "fiu":
                values = np.asarray(data[name], float)
                passing &= ~np.isnan(values)
                passing &= values >= (-np.inf if low is None else low)
                passing &= values <= (np.inf if high is None else high)
        if not self._text:
            return passing
        if _POSITIONS.fullmatch(self._text):
            return passing & np.isin(self._units, list(_positions(self._text)))
        found = np.zeros(len(self._units), bool)
        for name, values in data.items():
            if isinstance(values, list) and name != "bars":
                found |= np.array([self._text.casefold() in text.casefold() for text in values])
        return passing & found

    def _rows(self) -> Positions:
        chosen = np.flatnonzero(np.isin(self._units, self.units))
        shown = self.filter_model.indices
        return tuple((chosen if shown is None else np.intersect1d(chosen, shown)).tolist())

    def _point(self, rows: Positions) -> None:
        if sorted(self.source.selected.indices) == list(rows):
            return
        self._own = True
        try:
            self.source.selected.indices = list(rows)
        finally:
            self._own = False

    def _chosen(self) -> None:
        if self._own:
            return
        rows = [row for row in self.source.selected.indices if 0 <= row < len(self._units)]
        hidden = set(self.units) - set(self.shown)
        chosen = tuple(sorted({int(unit) for unit in self._units[rows]} | hidden))
        if chosen != self.units:
            self.units = chosen
            tell(self._listeners, chosen)


def _positions(text: str) -> Iterable[int]:
    for part in re.finditer(r"(\d+)(?:\s*[-–]\s*(\d+))?", text):
        first = int(part[1])
        last = min(int(part[2] or first), first + 1_000_000)
        yield from range(first, last + 1)
