"""Two runs beside each other: another row, another text, another model, or without the edits.

beside [another row ▾]  row [3] [pick a row]      align by [step | token]     show [h|r|z|n]
"row 0 says good, 93 %; row 3 says bad, 81 %; 2.3 bits apart"
┌ both texts, step over step, coloured by one unit on one scale ┐
┌ map: what each unit is here less what it is there              ┐
┌ the units that differ most        ┬ both answers               ┐
"""

from __future__ import annotations

import os
from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np
from bokeh.layouts import column
from torch import nn

from grulens import csv
from grulens.errors import GrulensError, NoAnswerError, ReadoutError
from grulens.probing.comparison.align import NONE
from grulens.probing.comparison.compare import OTHER_WEIGHTS, Comparison, compare, place_names
from grulens.probing.readout.readout import Answer, divergence
from grulens.views.figure import raster
from grulens.views.figure.tokens import valid, visible_name
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.pair_lines import PairLines
from grulens.views.readout.class_bars import ClassBars
from grulens.views.still.lens import compose, heatmap
from grulens.views.units.table import ROW, UnitTable
from grulens.widgets.comparison.pair_text import PairText
from grulens.widgets.comparison.side import (
    MODEL,
    PLAIN,
    TEXT,
    Beside,
    Side,
    offered,
    sentence,
    top,
)
from grulens.widgets.comparison.side import (
    ROW as ANOTHER_ROW,
)
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.rows import RowTable
from grulens.widgets.session.controls import button, choice, quiet, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.words import say, say_n

#: How tall the map is, and how many units are seen at once in the table.
HEIGHT: Final = 210
UNITS: Final = 8
#: No difference below this fills the colours: rounding must not look like one.
FLOOR: Final = 1e-3


class CompareView(Panel):
    """What is different between the run shown and another one, step beside step.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        other: another model, which is given the same input, or another `Session`; it becomes the
            session's `other`.
        **options: as `Session`.

    Attributes:
        beside: the list of what can stand beside: "another row", "without the edits", "another
            text", "another model", as far as they are there.
        row: the other row.
        text: the other text; `run` runs the model on it.
        align: the buttons "step" and "token".
        signal: the buttons of the signals.
        found: the `Comparison` shown, b being the run shown; None where there is none.

    >>> import torch
    >>> from grulens import CompareView
    >>> screen = CompareView(nn.GRU(3, 4, batch_first=True), torch.randn(2, 6, 3))
    >>> screen.found, screen.found.rows
    (Comparison('l0', 6 steps), (1, 0))
    """

    _followed: Session | None = None

    def __init__(
        self,
        model: nn.Module | Session,
        *args: Any,
        other: nn.Module | Session | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, *args, **options)
        session = self.session
        if other is not None:
            session.other = other
        self.found: Comparison | None = None
        self._sides: tuple[Side, Side] | None = None
        self._makes = Beside(session)
        self._typed: str | None = None
        self._units, self._places = np.arange(1), np.arange(1)
        self._columns: dict[str, Any] = {}
        self._filling = False

        # controls
        auto = {"style": {"description_width": "auto"}, "layout": W.Layout(width="auto")}
        self.beside = W.Dropdown(options=[], description=say("beside"), **auto)
        self.row = W.BoundedIntText(
            min=0, max=0, description=say("row"), style={"description_width": "auto"},
            layout=W.Layout(width="110px"),
        )  # fmt: skip
        self.pick = W.ToggleButton(
            description=say("pick a row"),
            tooltip=say("by its text, its answer, and whether that is right"),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.rows: RowTable | None = None
        self._rows = W.VBox(layout=W.Layout(display="none", width="100%"))
        self.text = W.Textarea(
            value=valid(session.text), description=say("other text"), rows=2,
            style={"description_width": "auto"}, layout=W.Layout(width="100%", margin="0"),
        )  # fmt: skip
        self.run = button(say("run"), say("run the model on this text, with the same edits"),
                          self.callbacks.guard(self._on_text))  # fmt: skip
        self._asked = W.HBox([self.text, self.run])
        self._asked.add_class("grulens-asked")
        self._align_word, self.align = choice(
            say("Align by"), [(say("step"), "steps"), (say("token"), "tokens")],
            [say("steps as far from each row's start"), say("the same token in the same order")],
        )  # fmt: skip
        show, self.signal = choice(say("Show"), [("h", "h")], [""])
        self._said, self._note, self._which = W.HTML(), W.HTML(), W.HTML()

        # layout
        self.words = PairText()
        self._map = Heatmap(height=HEIGHT)
        # before there is anything to compare: the page draws axes of it all the same
        self._map.update(np.zeros((1, 1)), signal="difference", units=self._units)
        self._lines = PairLines(x_range=self._map.x_range)
        self.picture = BokehView(
            column([self._lines.root, self._map.root], sizing_mode="stretch_width"),
            lock=session.lock, retire=False,
        )  # fmt: skip
        self._table = UnitTable(rows=UNITS)
        self._table.root.name = say("table of units that differ")
        self.table = BokehView(self._table.root, lock=session.lock, retire=False)
        self.table.offer(say("table as CSV"), lambda: (f"{self.about} compared", self.to_csv()))
        self._bars = ClassBars()
        self.answer = BokehView(self._bars.root, lock=session.lock, retire=False)
        self._below = W.HBox([_part(self.table), _part(self.answer)])
        self._below.add_class("grulens-beside")
        self._show = row(self._align_word, self.align, show, self.signal)
        self.fill(
            row(self.beside, self.row, self.pick), self._rows, self._asked, self._said, self._note,
            self._show, self._which, self.words, self.picture, self._below,
        )  # fmt: skip
        self.settles_with(self.picture)

        # both ways
        for control in (self.beside, self.row, self.align):
            control.observe(self.callbacks.guard(lambda _: self._on_control()), "value")
        self.signal.observe(self.callbacks.guard(lambda _: self._on_control(anew=False)), "value")
        self.pick.observe(self.callbacks.guard(lambda _: self._on_pick()), "value")
        self._map.on_units(self._choose)
        self._map.on_times(self._go)
        self.words.on_times(self.callbacks.guard(self._go))
        self._table.on_units(self.callbacks.guard(self._choose))
        self.follow(self._on_run, "edited", "baseline", "layer", "row", "other")
        self.follow(self._draw, "space")
        self.follow(self._on_units, "units")
        self.follow(self._on_step, "step", "times")
        self._on_run()

    def wait(self, timeout: float | None = None) -> bool:
        """Nothing is computed in the background: it is always there."""
        return True

    def close(self) -> None:
        """Close the screen; another session is no longer followed."""
        self._follow_other(None)
        super().close()

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        said = [text for text in (self._sentence, self._why) if text]
        words = "".join(f"<p>{escape(text)}</p>" for text in said)
        if self.found is None or self.found.refused or not len(self.found.steps):
            return words or super().still()
        values, mask, _ = self._differences()
        most = self._units[: raster.ROWS]
        return words + compose(
            heatmap(
                values[most], signal="difference", units=most, mask=mask, layer=self._title,
                name=self._measure, ends=self._ends(values), down=self._seen.noun, across="place",
            )
        )  # fmt: skip

    # what a change does

    def _on_control(self, *, anew: bool = True) -> None:
        if not self._filling:
            (self._on_run if anew else self._draw)()

    def _on_text(self, _: Any) -> None:
        self._typed = self.text.value
        self._on_run()

    def _on_pick(self) -> None:
        if self.pick.value and self.rows is None:
            self.rows = RowTable(self.session, pick=lambda one: setattr(self.row, "value", one))
            self.rows.join()
            self._rows.children = (self.rows,)
        self._show_rows()

    def _show_rows(self) -> None:
        there = self.pick.value and self.beside.value == ANOTHER_ROW
        self._rows.layout.display = None if there else "none"
        if self.rows is not None:
            (self.rows.wake if there else self.rows.sleep)()
            if there:
                self.rows.mark(self.row.value)

    def _follow_other(self, other: Any) -> None:
        """See what another session does, as long as it is the other one."""
        if self._followed is not None:
            self._followed.unobserve(self._on_other, ["edited", "baseline", "row"])
        self._followed = other if isinstance(other, Session) else None
        if self._followed is not None:
            self._followed.observe(self._on_other, ["edited", "baseline", "row"])

    def _on_other(self, _: Any) -> None:
        if not self._asleep:
            self.callbacks.guard(self._on_run)()

    def wake(self) -> None:
        """Catch up with what has changed, of another session too."""
        super().wake()
        if self._followed is not None:
            self._on_run()

    def _on_run(self) -> None:
        with self.session.lock:
            self._offer()
            self.found, self._sides, self._why = None, None, ""
            try:
                self._sides = self._both()
                if self._sides is not None:
                    self.found = self._compared(*self._sides)
            except GrulensError as error:
                text = f"{error}"
                self._why = f"{text[:1].upper()}{text[1:]}."
            finally:  # what stood there is of another question
                self._draw()

    def _offer(self) -> None:
        """What can stand beside the run shown; what was chosen stays, where it can."""
        session = self.session
        if self._followed is not session.other:
            self._follow_other(session.other)
        words, rows = offered(session), len(session.before.h)
        self._filling = True
        try:
            known = [word for _, word in self.beside.options]
            if known != words:
                new = [one for one in words if one not in known]
                chosen = self.beside.value
                if chosen not in words or MODEL in new:
                    chosen = next(iter(words), None)
                self.beside.options = [(say(word), word) for word in words]
                self.beside.value = chosen
            if self.row.max != rows - 1:
                self.row.max = rows - 1
                self.row.value = min(session.row + 1, rows - 1) if session.row + 1 < rows else 0
            *inside, h = session.now.cell.signals
            options = tuple((f"{s.name} {s.said}", s.name) for s in (h, *inside))
            if tuple(self.signal.options) != options:
                kept = self.signal.value
                self.signal.options = options
                self.signal.value = kept if kept in [name for _, name in options] else "h"
                for place, signal in enumerate((h, *inside), 1):
                    self.signal.add_class(f"grulens-{signal.role}-{place}")
        finally:
            self._filling = False
        chosen = self.beside.value
        _shown(chosen == ANOTHER_ROW, self.row, self.pick)
        _shown(chosen == TEXT, self._asked)
        _shown(bool(words), self.beside)
        self._show_rows()

    def _both(self) -> tuple[Side, Side] | None:
        """The run shown and what stands beside it; None, and why, where there is nothing."""
        chosen = self.beside.value
        if chosen == PLAIN:
            return self._makes.plain()
        if chosen == ANOTHER_ROW:
            return self._makes.rows(self.row.value)
        if chosen == MODEL:
            return self._makes.model()
        if chosen == TEXT:
            if self._typed is not None:
                return self._makes.text(self._typed)
            self._why = say("Write another text, and run it.")
            return None
        self._why = say(
            "There is nothing to compare with: one row, no edits, and no way from a text to the "
            "input. session.other = another model, or another Session, stands beside this one."
        )
        return None

    def _compared(self, this: Side, beside: Side) -> Comparison:
        layer = self.session.layer
        names = [side.tokens(layer) for side in (beside, this)]
        tokens = None if names[0] is None or names[1] is None else (names[0], names[1])
        _shown(tokens is not None, self._align_word, self.align)
        return compare(
            beside.run[layer], this.run[layer], rows=(beside.row, this.row), tokens=tokens,
            align="steps" if tokens is None else self.align.value,
        )  # fmt: skip

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The table of the units that differ, in the order in which it is seen, as CSV.

        Numbers are exact: the mean size of a unit's difference, and its largest one, with its sign,
        the step of either run at which that is, and the token of each there.

        Args:
            path: a file to write it to as well, in UTF-8; one that is there is replaced.

        Raises:
            GrulensError: there is no such table: the runs have no states to compare.
            FileError: `path` is no name of a file.
        """
        found, rows = self.found, self._table.ordered
        if found is None or found.refused or not len(found.steps) or self._sides is None:
            raise GrulensError("there is no table of units: these runs are not compared by states")
        named: dict[str, Any] = {self._seen.noun: self._units[rows]}
        for word, side in zip(("run", "beside"), self._sides, strict=True):
            named[word] = [side.name] * len(rows)
        named["signal"] = [self.signal.value] * len(rows)
        named |= {name: self._columns[name][rows] for name in ("apart", "most")}
        places = self._places[rows]
        for which, beside in ((1, ""), (0, "_beside")):
            steps = found.alignment.numpy()[places, which]
            named[f"step{beside}"] = steps
            if found.tokens is not None:
                named[f"token{beside}"] = [found.tokens[which][step] for step in steps]
        return csv.written(csv.text_of(named), path)

    def _choose(self, units: Any) -> None:
        self.session.units = self._seen.units([int(unit) for unit in units])

    def _go(self, places: Any) -> None:
        """A person chose places: the steps there are chosen, of the run shown."""
        if self.found is None:
            return
        at = self.found.alignment[:, 1].tolist()
        steps = [at[place] for place in places if place < len(at) and at[place] != NONE]
        session = self.session
        with session.hold_trait_notifications():
            session.times = tuple(steps)
            if steps:
                session.step = steps[-1]

    # drawing

    def _draw(self) -> None:
        found = self.found
        whole = found is not None and not found.refused and len(found.steps) > 0
        _shown(whole, self._show, self.table, self.words)
        _shown(whole, self.picture)
        if found is not None:
            self._why = found.refused
            for letter, side in zip("ba", self._sides or (), strict=False):
                self._why = self._why.replace(f" in {letter}", f" in {side.name}")
            if not found.refused and not len(found.steps):
                self._why = say("No step of one has a partner in the other.")
        alone = [len(steps) for steps in found.alone] if found is not None and whole else [0, 0]
        notes = [self._why, found.note.partition("; answers")[0] if found is not None else ""]
        notes[1] = "" if notes[1].startswith("answers") else notes[1]
        if whole and self._sides is not None and not notes[1]:
            models = [side.session.model for side in self._sides]
            if models[0] is not models[1]:  # of what was observed, weights are not known
                notes[1] = say(OTHER_WEIGHTS)
        if any(alone) and self._sides is not None:
            this, beside = self._sides
            counts = [
                say_n("{n} step of {side}", "{n} steps of {side}", count, side=side.name)
                for count, side in ((alone[1], this), (alone[0], beside)) if count
            ]  # fmt: skip
            those = counts[0]
            if len(counts) > 1:
                those = say("{first} and {second}", first=those, second=counts[1])
            notes.append(
                say("{those} has no partner", those=those) if sum(alone) == 1
                else say("{those} have no partner", those=those)
            )  # fmt: skip
        said = "; ".join(filter(None, notes))
        self._note.value = quiet(f"{said[:1].upper()}{said[1:]}")
        _shown(bool(said), self._note)
        if whole:
            self._draw_map()
        self._on_step()

    def _differences(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """The difference (unit, place), where there is one, and both sides (2, unit, pair)."""
        found = self.found
        assert found is not None
        seen = self._seen
        both = np.stack(
            [seen.folded(one).double().numpy().T for one in found.both(self.signal.value)]
        )
        paired = (found.alignment != NONE).all(1).numpy()
        values = np.zeros((both.shape[1], len(paired)))
        values[:, paired] = both[1] - both[0]
        return values, None if paired.all() else paired, both

    def _draw_map(self) -> None:
        found, seen = self.found, self._seen
        assert found is not None
        values, mask, both = self._differences()
        sizes = np.abs(both[1] - both[0])
        self._units = np.argsort(-sizes.mean(1), kind="stable")
        called = seen.names
        places = place_names(found)
        with self.picture.batch(), self.table.batch():
            self._map.update(
                values[self._units], signal="difference", units=self._units, tokens=places,
                mask=mask, layer=self._title, name=self._measure, ends=self._ends(values),
                labels=None if called is None else [called[unit] for unit in self._units],
                down=seen.noun,
            )  # fmt: skip
            across = say("step") if self.align.value == "steps" else say("place")
            if self._map.root.xaxis.axis_label != across:
                self._map.root.xaxis.axis_label = across
            paired = np.arange(values.shape[1]) if mask is None else np.flatnonzero(mask)
            units = self._units
            self._places = paired[sizes.argmax(1)[units]]
            self._columns = {
                "apart": sizes.mean(1)[units], "most": values[units, self._places],
                "most_at": [visible_name(places[place], 20) for place in self._places],
            }  # fmt: skip
            self._table.update(self._columns, units=units, noun=seen.noun)
            self._table.root.height = ROW * (1 + min(len(units), UNITS))
        self._draw_unit()

    def _draw_unit(self) -> None:
        """One unit in both runs: as two texts, or as two lines where steps have no names."""
        found, session, seen = self.found, self.session, self._seen
        if found is None or self._sides is None:
            return
        this, beside = self._sides
        chosen = seen.chosen(session.units)
        unit = chosen[0] if chosen else int(self._units[0])
        signal = session.now.cell.signal(self.signal.value)
        a, b = found.alignment.unbind(1)
        values = np.full((2, len(a)), np.nan)
        for line, side, steps in ((0, this, b), (1, beside, a)):
            there = (steps != NONE).numpy()
            held = side.run[session.layer].signal(signal.name)[side.row].detach().cpu()
            values[line, there] = seen.folded(held[steps[steps != NONE]])[:, unit].double().numpy()
        title = f"{seen.name(unit)} · {signal.called}"
        named = found.tokens is not None
        _shown(named, self.words, self._which)
        with self.picture.batch(), self.table.batch():
            self._map.select(chosen, ())
            self._table.select(chosen)
            self._lines.root.visible = not named
            if not named:
                self._lines.update(
                    values[1], values[0], names=(beside.name, this.name), title=title
                )
        if found.tokens is None:
            return
        ends = raster.reach(signal, values, "all it can be")
        texts = [
            [None if step == NONE else tokens[step] for step in steps.tolist()]
            for tokens, steps in zip(found.tokens, (a, b), strict=True)
        ]
        self._which.value = quiet(
            say(
                "Over: {this}; under it: {other}; a dot is no step.",
                this=this.name,
                other=beside.name,
            )
        )
        self.words.name_pairs(texts[1], texts[0])
        self.words.paint_pairs(values, signal=signal, ends=ends, name=title)

    def _on_units(self) -> None:
        found = self.found
        if found is not None and not found.refused and len(found.steps):
            self._draw_unit()

    def _on_step(self) -> None:
        """Mark the step, and say both answers there."""
        session, found = self.session, self.found
        self._sentence, bars = "", False
        if self._sides is not None and found is not None:
            at = found.alignment[:, 1].tolist()
            place = at.index(session.step) if session.step in at else None
            chosen = [i for i, step in enumerate(at) if step in set(session.times)]
            self.words.select(chosen, place)
            self._map.select(self._map_units(), chosen)
            self._sentence, bars = self._answers(found, place)
        self._said.value = f'<span role="status">{escape(self._sentence)}</span>'
        _shown(bool(self._sentence), self._said)
        _shown(bars, self.answer)

    def _answers(self, found: Comparison, place: int | None) -> tuple[str, bool]:
        """What is said of both answers, and whether they can be drawn as bars."""
        this, beside = self._sides  # type: ignore[misc]
        layer = self.session.layer
        try:
            answers = [side.answer(layer) for side in (this, beside)]
        except NoAnswerError:
            return say("There are no answers to compare."), False
        lengths = [len(answer.values) for answer in answers]
        steps = [side.run[layer].shape[1] for side in (this, beside)]
        where = ""
        if lengths == steps and max(lengths) > 1:
            if place is None or found.alignment[place, 0] == NONE:
                return say("This step has no partner: no answers are compared."), False
            beside_step, this_step = found.alignment[place].tolist()
            places = this_step, beside_step
            where = (
                say("After “{token}”: ", token=visible_name(place_names(found)[place]))
                if found.tokens
                else say("At step {step}: ", step=this_step)
            )
        elif lengths[0] == lengths[1]:
            places = (min(self.session.step, lengths[0] - 1),) * 2
        else:
            return say(
                "The answers have {this} and {other} steps: which stand beside each other is not "
                "known.", this=lengths[0], other=lengths[1],
            ), False  # fmt: skip
        try:
            whole = _apart(answers, places)
        except ReadoutError:
            return say("The answers are of other classes, and are not compared."), False
        said = sentence(this, beside, layer, places, whole)
        names, was, now = top(this, beside, layer, places)
        quantity = "value" if answers[0].scale == "value" else "probability"
        with self.answer.batch():
            self._bars.name(beside.name, this.name)
            self._bars.update(names, was, now, quantity=quantity, title=say("answers"))
        said = said if not where else f"{where}{said[:1].lower()}{said[1:]}"
        return say("{sentence}.", sentence=said[:1].upper() + said[1:]), True

    def _map_units(self) -> list[int]:
        return list(self._seen.chosen(self.session.units))

    def _ends(self, values: np.ndarray) -> tuple[float, float]:
        return raster.symmetric(values, FLOOR)

    @property
    def _seen(self) -> Seen:
        return Seen(self.session)

    @property
    def _measure(self) -> str:
        this, beside = self._sides  # type: ignore[misc]
        return f"{self.signal.value}: {this.name} − {beside.name}"

    @property
    def _title(self) -> str:
        return self._seen.layer


def _apart(answers: Any, places: tuple[int, int]) -> float:
    this, beside = (
        Answer(answer.values[place : place + 1], answer.scale)
        for answer, place in zip(answers, places, strict=True)
    )
    return float(divergence(beside, this)[0])


def _part(view: W.Widget) -> W.VBox:
    return W.VBox([view])


def _shown(there: bool, *widgets: W.Widget) -> None:
    """Show widgets, or take them away."""
    for widget in widgets:
        widget.layout.display = None if there else "none"
