"""One row a unit: what it does over the run, sorted, filtered, selected in step with the rest.

find [3-8, 27]   where [mean z ▾] from [0.8] to [    ]   [clear]     12 of 192 units
[measure effects]  ▓▓▓░░░░░░  measured 64 of 192 units  [sort by effect]
unit  effect direct recurrent  mean h  sd h  mean z  half-life  r<0.1 …  last h  h over time
── the directions of the scan, where there are any ──
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as W
import numpy as np
import torch
from torch import nn

from grulens import csv
from grulens.arguments import Frame
from grulens.errors import GrulensError, shown
from grulens.probing.corpus.scan.found_by import called, label_columns
from grulens.probing.layer import keeping
from grulens.probing.units.statistics import Neurons, names, neurons
from grulens.probing.units.sweep import PATHS
from grulens.views.figure.tokens import visible_text
from grulens.views.still.lens import compose
from grulens.views.still.sweep import effects
from grulens.views.still.units import units as still_units
from grulens.views.units.columns import about
from grulens.views.units.table import UnitTable
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import button, row
from grulens.widgets.session.job_button import JobButton
from grulens.widgets.session.page import Paged
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.widgets.session.space import SpaceControl
from grulens.widgets.units.directions import DirectionList
from grulens.widgets.units.effects import Columns, measure_effects
from grulens.widgets.units.filter import UnitFilter
from grulens.words import message, say


class NeuronTable(Paged):
    """A table of the units of the layer shown.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        directions: a table of the directions that the session's scan followed of the layer.

    >>> from grulens import NeuronTable
    >>> screen = NeuronTable(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.to_frame().shape
    (4, 9)
    """

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session

        # controls
        self._filter = UnitFilter(
            self.callbacks, self._on_filter, columns=self._titles(), column=self._usual,
            placeholder="3, 8-12", tooltip=say("unit numbers and ranges, or a text"),
            width="170px",
        )  # fmt: skip
        self.find, self.column = self._filter.find, self._filter.column
        self.low, self.high = self._filter.low, self._filter.high
        self._clear, self._count = self._filter.clear, self._filter.count
        self._measuring: JobButton[Columns] = JobButton(
            self,
            text=message("measure effects"),
            tip=say(
                "switch each unit off in a run of its own, without the edits, and see how far the "
                "output moves"
            ),
            noun="unit",
            work=partial(measure_effects, session),
            show=self._show_effects,
        )
        self.measure = self._measuring.button
        self.space = SpaceControl(session, self.callbacks)
        self._measured = W.HTML()
        self.by_effect = button(
            say("sort by effect"), say("the units that move the output most first"),
            self.callbacks.guard(lambda _: self.sort("effect")),
        )  # fmt: skip
        self.directions = DirectionList(self)

        # layout
        self._table = UnitTable()
        self.picture = BokehView(self._table.root, lock=session.lock, retire=False)
        self.fill(
            self.space.box,
            self._filter.box,
            row(self.measure, self._measuring.bar, self._measured, self.by_effect),
            self.picture,
            self.directions,
        )

        self.settles_with(self.picture)
        self.picture.offer(say("table as CSV"), lambda: (f"{self.about} units", self.to_csv()))

        # both ways
        self._filter.follow()
        self._table.on_units(lambda chosen: setattr(session, "units", self._seen.units(chosen)))
        self.follow(self._on_asked, "baseline", "layer", "row", "space")
        self.follow(self._on_run, "edited", "layer", "row", "space", "scan")
        self.follow(self.space.show, "space", "layer", "baseline")
        self.follow(self._on_units, "units")
        self.follow(self._show_measured, "scan")  # and the columns that can be filtered by
        self._on_run()
        self._on_units()
        self._show_measured()

    @property
    def measured(self) -> bool:
        """Whether there are effects of the input, row and layer shown."""
        return bool(self._effects)

    def columns(self) -> dict[str, np.ndarray]:
        """The numbers by name, each (unit,): effects if measured, and what the units do."""
        # what was asked for, first
        return self._places | self._effects | self._corpus | self._neurons().columns()

    def seen(self) -> dict[str, Any]:
        """What a page of it shows first."""
        return {"columns": self.columns}

    def to_frame(self) -> Frame:
        """The numbers as a pandas DataFrame, one row a unit, effects if measured; needs pandas."""
        found = self._neurons().to_frame().assign(**self._effects, **self._places, **self._corpus)
        return found.rename_axis(self._seen.noun)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows that are seen, in the order in which they are, as CSV.

        Numbers are exact. A text that a spreadsheet would run (it begins with =, +, - or @) has
        an apostrophe before it. The column "run" says whether the numbers are of the "edited" run
        or of the "baseline"; effects are measured without the edits, always.

        Args:
            path: a file to write it to as well, in UTF-8; one that is there is replaced.

        Raises:
            FileError: `path` is no name of a file.
        """
        session, rows = self.session, self._table.ordered
        seen = self.columns()
        run = "baseline" if session.edited is session.baseline else "edited"
        named: dict[str, Any] = {self._seen.noun: rows, "run": [run] * len(rows)}
        return csv.written(csv.text_of(named | {n: v[rows] for n, v in seen.items()}), path)

    def sort(self, column: str, *, ascending: bool = False) -> None:
        """Sort the rows by a column, the largest first.

        Args:
            column: its name, one of `columns()`, or "unit".
            ascending: the smallest first. What is not a number stands last either way.

        Raises:
            GrulensError: there is no such column.
        """
        known = ["unit", *self.columns()]
        if not isinstance(column, str) or column not in known:
            raise GrulensError(
                f"column must be one of {', '.join(known)}, got {shown(column)}; effects have a "
                "column once they are measured"
            )
        with self.picture.batch():
            self._table.sort(column, ascending=ascending)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no effects are being measured; whether that was reached in time."""
        return self._measuring.wait(timeout)

    def join(self) -> None:
        """Leave to the screen of the gates, too, how a state over space is shown."""
        super().join()
        self.space.hide()

    def still(self) -> str:
        """The strongest units, if measured, else the first rows, as HTML that needs no kernel."""
        found, note = self._effects, self._measuring.job.said
        seen = self._seen
        if not found:
            return compose(
                still_units(
                    self._table.source.data,
                    self._table.ordered,
                    signals=self.session.now.cell.signals,
                    noun=seen.noun,
                    title=f"{say('table of units')} · {seen.layer}",
                )
            )
        title = say(
            "effect of switching a {noun} off · {layer}", noun=say(seen.noun), layer=seen.layer
        )
        title += f" ({note})" if note else ""
        units = range(len(found["effect"]))
        return compose(
            effects(units, *(found[name] for name in PATHS), title=title, noun=seen.noun)
        )

    # what a change does

    @property
    def _effects(self) -> Columns:
        return self._measuring.job.result or {}

    def _on_asked(self) -> None:
        self._measuring.clear()
        self._measuring.show()

    def _show_effects(self) -> None:
        with self.picture.batch():
            self._table.put({name: self._effects.get(name) for name in PATHS})
        self._show_measured()
        self._on_filter()

    def _show_measured(self) -> None:
        job, units = self._measuring.job, len(self._neurons())
        done = job.done
        chosen, titles = self.column.value, self._titles(PATHS if done else ())
        if list(self.column.options) != titles:
            # given other options, ipywidgets chooses the first
            self.column.options = titles
            known = chosen in [name for _, name in titles]
            self.column.value = chosen if known else self._usual
        self.by_effect.layout.display = None if done else "none"
        # what moves the output can be measured only where there is one
        self.measure.disabled = not job.running and self.session.unread is not None
        text = ""
        if job.running:
            text = say("measuring, {percent} %", percent=self._measuring.percent)
        elif done:
            value = self.session.answer_before.scale == "value"
            text = job.said or say("measured {done} of {n} {noun}s", done=done, n=units,
                                   noun=say(self._seen.noun))  # fmt: skip
            text += "" if value else say(", in bits a step")
        self._measured.value = f'<span role="status" class="grulens-quiet">{text}</span>'

    def _on_run(self) -> None:
        session, now, seen = self.session, self.session.now, self._seen
        h = seen.values(now.h)
        with self.picture.batch():
            self._table.update(
                self.columns(),
                units=np.arange(len(h)),
                h=h,
                mask=now.mask[session.row].cpu().numpy(),
                signals=now.cell.signals,
                noun=seen.noun,
            )
            self._table.select(seen.chosen(session.units))
        self._on_filter()

    def _on_units(self) -> None:
        with self.picture.batch():
            self._table.select(self._seen.chosen(self.session.units))

    def _on_filter(self) -> None:
        ranges = self._filter.ranges
        with self.picture.batch():
            self._table.filter(text=self.find.value, ranges=ranges)
        passing, total, noun = len(self._table.shown), len(self._neurons()), self._seen.noun
        text = say("{passing} of {total} {noun}s", passing=passing, total=total, noun=say(noun))
        if not passing:
            text = say(
                "{sought} fits no {noun}: there are {total}, 0 to {last}", sought=self._sought(),
                noun=say(noun), total=total, last=total - 1,
            )  # fmt: skip
        self._filter.tell(text)

    def _sought(self) -> str:
        """What the filter asks for, in words."""
        text, low, high = (box.value.strip() for box in (self.find, self.low, self.high))
        bounds = [say("from {bound}", bound=low)] if low else []
        bounds += [say("to {bound}", bound=high)] if high else []
        parts = [say("“{name}”", name=visible_text(text))] if text else []
        parts += [f"{self.column.label} {' '.join(bounds)}"] if bounds else []
        if len(parts) < 2:
            return "".join(parts)
        return say("{first} and {second}", first=parts[0], second=parts[1])

    def _titles(self, more: Sequence[str] = ()) -> list[tuple[str, str]]:
        """The columns that can be filtered by, title and name."""
        found = [name for name in self._corpus if name not in ("called", "found_by")]
        columns = ("unit", *names(self.session.now.cell), *more, *found)
        signals = self.session.now.cell.signals
        return [(about(name, signals).title, name) for name in columns]

    @property
    def _places(self) -> dict[str, np.ndarray]:
        """The column that says what the units are called, where that is more than a number."""
        seen = self._seen
        called = seen.names if seen.fold is None else None  # a channel's number says it all
        return {} if called is None else {"place": np.array(called)}

    @property
    def _seen(self) -> Seen:
        return Seen(self.session)

    @property
    def _corpus(self) -> dict[str, np.ndarray]:
        """What each unit is found by over the session's corpus, where the layer was scanned."""
        scan, layer = self.session.scan, self.session.layer
        there = scan is not None and layer in scan.layers
        # a scan has units, and no channels
        if not there or self._seen.fold is not None:
            return {}
        return called(scan, layer) | label_columns(scan.stats(layer))

    @property
    def _usual(self) -> str:
        """The column to filter by at first: how long units keep their memory."""
        return f"mean_{keeping(self.session.now.cell) or 'h'}"

    def _neurons(self) -> Neurons:
        with torch.no_grad():
            return neurons(self.session.now, self.session.row, self.session.fold)
