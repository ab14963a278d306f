"""A scanned corpus on one screen: which units follow what, where they go furthest, where else.

Scan of CharacterModel · 2 parts, 33,012 steps     layer [rnn.l0 ▾]
Find [3, 8-12]  where [found by ▾] from [] to []  [clear]   192 of 192 units
┌ table of units: found by, its AUC, mean, sd, on, an AUC for each label ┐
── the unit: its histogram by label, the windows in which it goes furthest ──────
── similar moments: where else the chosen units are on together ─────────────────
── the place that was opened, in a lens ─────────────────────────────────────────
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import ipywidgets as W
import numpy as np
import traitlets as tl

from grulens.arguments import LayerName
from grulens.errors import ScanError, shown
from grulens.models.instrument.lock import LOCK
from grulens.probing.corpus.scan.direction import SIGNAL
from grulens.probing.corpus.scan.found_by import DIRECTION, corpus_columns
from grulens.probing.corpus.scan.place import Place
from grulens.probing.corpus.scan.scanned import Scan
from grulens.views.figure.tokens import different, number, visible_name
from grulens.views.still.lens import compose
from grulens.views.units.columns import about
from grulens.views.units.table import UnitTable
from grulens.widgets.corpus.moments import Moments
from grulens.widgets.corpus.places import open_in, size_of, steps_around, tell_again
from grulens.widgets.corpus.unit_view import UnitView
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.lens import Lens
from grulens.widgets.session.controls import button, row
from grulens.widgets.session.screen import Screen
from grulens.widgets.session.selection import Positions
from grulens.widgets.session.session import Session
from grulens.widgets.units.filter import UnitFilter
from grulens.words import language, say, say_n, so_many

#: What is chosen in the lens and on the screen alike.
LINKED: Final = ("units", "unit", "layer")
#: So many units stand in a still picture, in cells of this style.
FIRST: Final = 12
_CELL: Final = 'style="text-align:right;padding:1px 10px;background:transparent"'


class Chosen(Positions):
    """Units, sorted, and directions by name, each once."""

    def validate(self, obj: Any, value: Any) -> Any:
        """The units as a sorted tuple, the names after them."""
        if isinstance(value, str) or not isinstance(value, Iterable):
            return super().validate(obj, value)
        every = list(value)
        names = [one for one in every if isinstance(one, str)]
        units = super().validate(obj, [one for one in every if not isinstance(one, str)])
        return (*units, *dict.fromkeys(names))


class Corpus(Screen):
    """The units of a scanned corpus: what each follows, where it goes furthest, where else.

    All of it works without the model but the colours of the texts, a click on a text, which opens
    its place in a `Lens`, and the windows under a label that holds at some of their steps only,
    which is not offered then. Inputs that are numbers are drawn as lines.

    Args:
        scan: what `corpus.scan` or `corpus.open_scan` gave.
        layer: the layer to begin with; None is the only one, or the last.

    Attributes:
        scan: the scan.
        layer: the layer shown.
        units: the chosen units, and directions by name, which are rows of the table, too; the last
            one that was chosen is shown.
        unit: that one, or None.
        view: what it does over the corpus: its `end`, `where`, `most`, `label`, `name`, `pin` and
            `contexts`.
        moments: looks for similar moments: its `length`, `least`, `find` and `contexts`.
        lens: the `Lens` on the place that was opened last, or None.
        around: how many steps to either side of a place are opened with it.

    Raises:
        ScanError: that is no scan, or has no such layer.

    >>> from tempfile import mkdtemp
    >>> import torch
    >>> from grulens.corpus import Corpus, scan
    >>> model = torch.nn.GRU(3, 4, batch_first=True)
    >>> done = scan(model, [torch.rand(2, 100, 3)], mkdtemp(), on=0.0, progress=False)
    >>> screen = Corpus(done)
    >>> screen.units = [2]
    >>> screen, screen.unit, len(screen.view.found.contexts)
    (Corpus(GRU, l0, 200 steps), 2, 4)
    """

    layer = tl.Unicode()
    units = Chosen()
    unit = tl.Union([tl.Int(), tl.Unicode()], default_value=None, allow_none=True)

    def __init__(self, scan: Scan, layer: LayerName = None) -> None:
        if not isinstance(scan, Scan):
            raise ScanError(
                f"Corpus shows a scan (corpus.scan, corpus.open_scan), got {shown(scan)}"
            )
        self.scan = scan
        first = scan.layers[scan.manifest.layer(layer)]
        scan.stats(first)  # says what is wrong with it, before anything is made
        super().__init__()
        self.lens: Lens | None = None

        # controls
        self._title = W.HTML(self._about())
        self._layer = W.Dropdown(
            options=scan.layers, value=first, description=say("layer"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._filter = UnitFilter(
            self.callbacks, self._on_filter, columns=[(say("unit"), "unit")], column="unit",
            placeholder=say("3, 8-12 or a label"),
            tooltip=say("unit numbers and ranges, or a part of a label"),
            width="190px",
        )  # fmt: skip
        self.find, self.column = self._filter.find, self._filter.column
        self.low, self.high = self._filter.low, self._filter.high
        self._clear, self._count = self._filter.clear, self._filter.count
        self._close = button(
            say("close the lens"), say("the corpus alone"), self.callbacks.guard(self._on_close)
        )

        self.around = steps_around(self.callbacks.guard(self._on_around))

        # layout
        self._table = UnitTable(rows=9)
        self.picture = BokehView(self._table.root, lock=LOCK, retire=False)
        open_ = self.open_place
        self.view = UnitView(self, open_, self._on_named)
        self.moments = Moments(self, open_)
        self._head = row(self._close, self.around)
        self._opened = W.VBox([self._head], layout=W.Layout(display="none", width="100%"))
        self.fill(
            row(self._title, self._layer),
            self._filter.box,
            self.picture, self.view, self.moments, self._opened,
        )  # fmt: skip
        for picture in (self.picture, self.view.picture, self.moments.picture):
            self.settles_with(picture)

        # both ways
        self._from_table = self._linking = False
        self._linked = self.callbacks.guard(self._on_session)
        self._filter.follow()
        self._table.on_units(self._on_chosen)
        guard = self.callbacks.guard
        self.observe(guard(self._on_layer, source="layer"), "layer")
        self.observe(guard(self._on_units, source="units", clears=False), "units")
        self.observe(guard(lambda _: self._on_unit(), source="unit", clears=False), "unit")
        self.layer = first
        tl.link((self, "layer"), (self._layer, "value"))

    def open_place(self, place: Place) -> Lens:
        """Open a place in the lens under the corpus, with its edits if there is one already.

        Some steps around the place run from the states that the scan kept, or its whole row where
        the model cannot begin there, and are compared with what the scan kept of them; the steps
        of the place and the unit are chosen.

        Raises:
            ScanError: there is no model; the inputs were no ids; or it does not run as it did.
        """
        with LOCK:
            session = None if self.lens is None else self.lens.session
            session = open_in(session, self.scan, place, self.layer, self.around.value)
            if self.lens is None:
                session.scan = self.scan
                self.lens = Lens(session)
                self.lens.join()
                session.observe(self._linked, [*LINKED])
                self._opened.children = (self._head, self.lens)
                self._opened.layout.display = None
            self._tell_lens()
            return self.lens

    def to_frame(self) -> Any:
        """The table as a pandas DataFrame, one row a unit or direction; needs pandas."""
        columns = corpus_columns(self.scan, self.layer)
        heads = {n: columns[n] for n in ("called", "found_by", "found_auc") if n in columns}
        units = self.scan.stats(self.layer).to_frame()
        if self._names:
            along = self.scan.stats(self.layer, SIGNAL).to_frame().set_axis([*self._names])
            units = units.T.join(along.T).T.rename_axis(index="unit")
        return units.assign(**heads)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is computed; whether that was reached in time."""
        return self.view.wait(timeout) and self.moments.wait(timeout)

    def save(self, path: str | Path) -> Path:
        """Write the present state as a page that works without kernel and network.

        Args:
            path: where to; an existing file is replaced.

        Returns:
            The path.
        """
        path = Path(path)
        self.wait(30.0)
        title = escape(visible_name(repr(self), 200))
        path.write_text(
            f'<!doctype html><html lang="{language()}"><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light '
            f"dark}}body{{margin:12px}}</style><body>{self.still()}</body></html>",
            encoding="utf-8",
        )
        return path

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        parts = [f"<p>{self._about()}</p>", self._still_table()]
        parts += [self.view.still(), self.moments.still()]
        return compose(*parts)

    def close(self) -> None:
        """Close the screen, and the lens in it; a second time does nothing."""
        if getattr(self, "lens", None) is not None:
            self._on_close(None)
        super().close()

    # what a change does

    @tl.validate("layer", "units", "unit")
    def _valid(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "layer":
            return self.scan.layers[self.scan.manifest.layer(value)]
        scanned = self.scan.manifest.layers[self.scan.manifest.layer(self.layer)]
        if not isinstance(value, tuple):
            return value if value is None else scanned.at(scanned.row(value))
        return tuple(scanned.at(row) for row in sorted(map(scanned.row, value)))

    @property
    def _names(self) -> tuple[str, ...]:
        """The directions of the layer shown."""
        return self.scan.directions.get(self.layer, ())

    @property
    def _numbers(self) -> tuple[int, ...]:
        """The units among what is chosen."""
        return tuple(unit for unit in self.units if isinstance(unit, int))

    def _rows(self) -> Any:
        """What the table calls its rows: units by number, directions -1, -2, ..."""
        units = len(self.scan.stats(self.layer).mean)
        return np.concatenate([np.arange(units), -1 - np.arange(len(self._names))])

    def _on_layer(self, _: Any) -> None:
        with self.busy_marks.held(self._layer):
            self._show_layer()

    def _show_layer(self) -> None:
        self.units, self.unit = (), None
        columns = corpus_columns(self.scan, self.layer)
        asked = ["unit", *(name for name in columns if name not in ("called", "found_by"))]
        titles = different([about(name).title for name in asked])
        self.column.options = list(zip(titles, asked, strict=True))
        with self.picture.batch():
            self._table.update(columns, units=self._rows())
        self._on_filter()
        self._on_unit()
        if self.lens is not None and self.layer in self.lens.session.baseline:
            self.lens.session.layer = self.layer

    def _on_chosen(self, units: Sequence[int]) -> None:
        """Rows that a person chose in the table."""
        self._from_table = True
        try:
            self.units = tuple(self._names[-1 - one] if one < 0 else one for one in units)
        finally:
            self._from_table = False

    def _on_units(self, change: Any) -> None:
        new = [unit for unit in self.units if unit not in change["old"]]
        with self.picture.batch():
            rows = (-1 - self._names.index(one) if isinstance(one, str) else one
                    for one in self.units)  # fmt: skip
            self._table.select(rows)
        if new or self.unit not in self.units:
            self.unit = new[-1] if new else self.units[-1] if self.units else None
        self.moments.ask(self.scan, self.layer, self._numbers)
        self._tell_lens()

    def _on_unit(self) -> None:
        if self.unit is not None and self.unit not in self.units:
            self.units = (*self.units, self.unit)
        if self.unit is None:
            self.view.hide()
        else:
            pressed = [self.picture] if self._from_table else []
            self.view.show(self.scan, self.layer, self.unit, later=bool(pressed), pressed=pressed)
        self.moments.ask(self.scan, self.layer, self._numbers)
        self._tell_lens()

    def _on_named(self) -> None:
        """A unit has another name, or is pinned or no longer."""
        with self.picture.batch():
            self._table.update(corpus_columns(self.scan, self.layer), units=self._rows())
        self._on_filter()
        if self.lens is not None:
            tell_again(self.lens.session)

    def _tell_lens(self) -> None:
        """Have what is chosen here chosen in the lens, where it shows the same layer."""
        session = None if self.lens is None else self.lens.session
        if session is None or session.layer != self.layer or self._linking:
            return
        self._linking = True
        try:
            session.units = self._numbers
            session.unit = self.unit if self._knows(session, self.unit) else None
        finally:
            self._linking = False

    def _on_session(self, change: Any) -> None:
        """What was chosen in the lens; its one direction stands in place of those chosen here."""
        session = change["owner"]
        if change["name"] == "layer" and session.layer in self.scan.layers:
            self.layer = session.layer
        if session.layer != self.layer or self._linking:
            return
        unit = session.unit
        self._linking = True
        try:
            along = isinstance(unit, str) and self._knows(session, unit)
            self.units = (*session.units, unit) if along else session.units
            if unit in self.units:
                self.unit = unit
        finally:
            self._linking = False

    def _knows(self, session: Session, unit: int | str | None) -> bool:
        """Whether this is the same to the lens: a direction of another scan is another."""
        mine = session.scan is not None and session.scan.path == self.scan.path
        return mine or not isinstance(unit, str)

    def _on_filter(self) -> None:
        ranges = self._filter.ranges
        with self.picture.batch():
            self._table.filter(text=self.find.value, ranges=ranges)
        total, along = len(self.scan.stats(self.layer).mean), len(self._names)
        units = sum(one >= 0 for one in self._table.shown)
        words = say("{n} of {total} units", n=units, total=total)
        if along:
            words += say(", ") + say_n(
                "{some} of {n} direction", "{some} of {n} directions", along,
                some=len(self._table.shown) - units,
            )  # fmt: skip
        self._filter.tell(words)

    def _on_around(self, _: Any) -> None:
        excerpt = None if self.lens is None else self.lens.session.excerpt
        if excerpt is not None:
            with self.busy_marks.held(self.around):
                self.open_place(excerpt.asked)

    def _on_close(self, _: Any) -> None:
        lens, self.lens = self.lens, None
        self._opened.children, self._opened.layout.display = (self._head,), "none"
        if lens is not None:
            # this alone: the parts of the lens end what they follow themselves
            lens.session.unobserve(self._linked, [*LINKED])
            lens.close()

    def _about(self) -> str:
        model, words = escape(self.scan.manifest.model), size_of(self.scan)
        if self.scan.model is None:
            words += " · " + say("without the model: no colours, and no place opens")
        return (
            f'<span class="grulens-title">{say("scan of {model}", model=model)}</span> '
            f'<span class="grulens-quiet">{words}</span>'
        )

    def _still_table(self) -> str:
        """The units that follow a label best, as a table."""
        columns = corpus_columns(self.scan, self.layer)
        if "found_auc" not in columns:
            return ""
        far = np.abs(np.nan_to_num(columns["found_auc"], nan=0.5) - 0.5)
        best = np.argsort(-far, kind="stable")[:FIRST]
        along = [f"{DIRECTION} {visible_name(name, 40)}" for name in self._names]
        called = [*map(str, range(len(far) - len(along))), *along]
        rows = [
            (called[unit], visible_name(columns["found_by"][unit], 40),
             *(number(columns[name][unit], ".3f") for name in ("found_auc", "mean")))
            for unit in best.tolist()
            if not np.isnan(columns["found_auc"][unit])
        ]  # fmt: skip
        body = ""
        for row_ in ((say("unit"), say("found by"), "AUC", say("mean")), *rows):
            cells = "".join(f"<td {_CELL}>{escape(cell)}</td>" for cell in row_)
            body += f'<tr style="background:transparent">{cells}</tr>'
        return (
            f"<b>{say('units of {layer}', layer=escape(self.layer))}</b>"
            f'<table style="color:inherit;font:inherit;border-collapse:collapse">{body}</table>'
        )

    def __repr__(self) -> str:
        if self.comm is None:
            return f"{type(self).__name__}(closed)"
        name, steps = self.scan.manifest.model, so_many(self.scan.steps, "step")
        return f"{type(self).__name__}({name}, {self.layer}, {steps})"
