"""One unit over a corpus: its histogram, and the windows in which it goes furthest, as text.

unit 137 · found by in_text 0.97      [highest|lowest]  where [any step ▾]  windows [10 ▾]
┌ histogram of h, by label ┐
[ 0.998]  "Return␣a␣copy…     in_text
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np

from grulens.models.instrument.lock import LOCK
from grulens.probing.corpus.scan.found_by import PIN, apart, counted
from grulens.probing.corpus.scan.part import WINDOW
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.scanned import Scan
from grulens.probing.corpus.scan.top import Top
from grulens.views.corpus.histogram import Histogram, extent
from grulens.views.figure.palette import COLORS
from grulens.views.figure.tokens import number, visible_name
from grulens.views.still.contexts import contexts
from grulens.views.still.histogram import histogram
from grulens.widgets.corpus.context_list import TRACKS, ContextList, Line
from grulens.widgets.corpus.places import inputs_of, labels_called
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.plot.corpus import called, top_title
from grulens.widgets.session.controls import choice, quiet, row
from grulens.widgets.session.latest import from_browser
from grulens.widgets.session.screen import Screen
from grulens.words import say, say_n

ANY: Final = ""
MOST: Final = (5, 10, 20, 40)
#: So many windows to either side of one that nothing was read in.
BESIDE: Final = 6


@dataclass(frozen=True)
class Question:
    """What is asked of one unit."""

    scan: Scan
    layer: str
    unit: int | str
    end: str
    where: str
    most: int
    label: str


class UnitView(W.VBox):
    """What one unit does over a corpus.

    Args:
        screen: the screen that it is a part of, which shows errors and that it computes.
        on_open: opens a place.
        on_named: called when a unit has another name, or is pinned or no longer.

    Attributes:
        name: what the unit is called, kept with the scan.
        pin: whether it is pinned, kept with the scan, too.
        end: "high" or "low".
        where: the label whose steps alone are looked at.
        most: how many windows are shown.
        contexts: the list of them.
        found: the answer shown, or None.
        drawn: its contexts, with values where they could be run again, and the ends of the colours.
    """

    def __init__(
        self,
        screen: Screen,
        on_open: Callable[[Place], object],
        on_named: Callable[[], object],
    ) -> None:
        super().__init__()
        self._screen, self._on_named = screen, on_named
        self._telling = False
        self._asked: Question | None = None
        self._given: tuple[Scan, str, int | str] | None = None
        self._pressed: tuple[W.DOMWidget, ...] = ()
        self.found: Top | None = None
        self.drawn: tuple[list[Context], tuple[float, float]] = [], (-1.0, 1.0)
        # controls
        self._title = W.HTML()
        word, self.end = choice(
            say("windows in which it is"), [(say("highest"), "high"), (say("lowest"), "low")],
            [say("where the unit goes up furthest"), say("where it goes down furthest")],
        )  # fmt: skip
        self.where = W.Dropdown(
            options=[(say("any step"), ANY)], description=say("where"),
            layout=W.Layout(width="auto"), style={"description_width": "auto"},
        )  # fmt: skip
        self.most = W.Dropdown(
            options=MOST, value=10, description=say("show"), layout=W.Layout(width="auto"),
            style={"description_width": "auto"},
        )  # fmt: skip
        self.label = W.Dropdown(
            options=[(say("no label"), ANY)], description=say("histogram by"),
            layout=W.Layout(width="auto"), style={"description_width": "auto"},
        )  # fmt: skip
        self.name = W.Text(
            description=say("name"), placeholder=say("none"), continuous_update=False,
            tooltip=say("what you call the unit: kept with the scan, shown wherever the unit is"),
            layout=W.Layout(width="220px"), style={"description_width": "auto"},
        )  # fmt: skip
        self.pin = W.ToggleButton(
            description=PIN,
            tooltip=say("pin the unit: find {star} to see those that are pinned", star=PIN),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        # layout
        self._chart = Histogram()
        self.picture = BokehView(self._chart.root, lock=LOCK, retire=False)
        self.contexts = ContextList(
            screen.callbacks.guard(self._on_open, source="open"), name=say("windows of the unit")
        )
        self._on_place = on_open
        self._scale, self._gone = W.HTML(), W.HTML()
        self.children = (
            row(self._title, self.pin, self.name, self.label), self.picture,
            row(word, self.end, self.where, self.most, self._scale), self._gone, self.contexts,
        )  # fmt: skip
        self._worker = screen.callbacks.background(
            self._answer, source=self, lock=LOCK,
            busy=lambda: screen.busy_marks.held(*self._pressed, self.contexts),
        )  # fmt: skip
        for control in (self.end, self.where, self.most, self.label):
            control.observe(screen.callbacks.guard(self._on_control, clears=False), "value")
        for control in (self.name, self.pin):
            control.observe(screen.callbacks.guard(self._on_note, source="note"), "value")

    def show(
        self,
        scan: Scan,
        layer: str,
        unit: int | str,
        *,
        later: bool = False,
        pressed: Sequence[W.DOMWidget] = (),
    ) -> None:
        """Show a unit, or a direction.

        Args:
            scan: of which corpus.
            layer: of which layer.
            unit: which one: a number, or the name of a direction.
            later: on another thread, as for what a person did.
            pressed: where it was chosen, which is busy until it is shown.
        """
        before, self._given = self._given, None
        if before is None or before[0] is not scan:
            names = [(said, label) for label, said in labels_called(scan).items()]
            lost = scan.lost(scan.parts[0].place_of(0), say) if scan.parts else ""
            kept = [(name, label) for name, label in names if not (lost and scan.cuts(label))]
            self.where.options = [(say("any step"), ANY), *kept]
            self.where.disabled = bool(scan.labels) and not kept
            gone = len(names) - len(kept)
            self._gone.value = quiet(
                say_n(
                    "{n} label cannot be asked for: the windows in which they hold at some steps "
                    "only cannot run again, for {why}",
                    "{n} labels cannot be asked for: the windows in which they hold at some steps "
                    "only cannot run again, for {why}",
                    gone,
                    why=lost,
                )
                if gone
                else ""
            )
            self.label.options = [(say("no label"), ANY), *names]
        if scan.labels and before != (scan, layer, unit):
            found, at = counted(scan, layer, unit)
            self.label.value = scan.labels[int(apart(found)[:, at].argmax())]
        self._telling = True
        self.name.value = scan.names(layer).get(unit, "")
        self.pin.value = unit in scan.pins(layer)
        self._telling = False
        self.layout.display = None
        self._given = scan, layer, unit
        self._ask(later, pressed)

    def hide(self) -> None:
        """Show no unit."""
        self._given = self._asked = self.found = None
        self.layout.display = "none"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is computed; whether that was reached in time."""
        return self._worker.wait(timeout)

    def still(self) -> str:
        """The unit as HTML that needs no kernel and no network; "" where none is shown."""
        top, given = self.found, self._given
        if top is None or given is None:
            return ""
        label = self.label.value
        found, at = counted(given[0], top.layer, given[2])
        counts = found.counts[:, at].numpy()
        held = counts[1 + found.labels.index(label)] if label else None
        drawn = histogram(
            counts[0], held, found.edges.numpy(), label=label,
            title=self._measured(given[0], top.layer, top.unit),
        )  # fmt: skip
        ones, ends = self.drawn
        lengths = [one.place.stop - one.place.start for one in ones]
        values = np.full((len(ones), max([*lengths, 0])), np.nan)
        for line, one in enumerate(ones):
            values[line, : lengths[line]] = np.nan if one.values is None else one.values
        names = [
            " · ".join(
                [number(value, ".4f"), *(visible_name(label, 40) for label in one.labels[:2])]
            )
            for value, one in zip(top.values, ones, strict=True)
        ]
        title = top_title(
            self._called(given[0], top.layer, top.unit), top.layer, top.end, top.where
        )
        note = f"<div>{escape(top.words(say))}</div>" if top.note else ""
        return drawn + note + contexts(
            names, lengths, [one.tokens for one in ones], values, signal="state", ends=ends,
            down=say("value"),
            title=say("{title}; colours from {low} to {high}", title=title,
                      low=number(ends[0], ".2g"), high=number(ends[1], ".2g")),
        )  # fmt: skip

    # what a change does

    def _on_note(self, change: Any) -> None:
        if self._given is None or self._telling:
            return
        scan, layer, unit = self._given
        if change["owner"] is self.pin:
            scan.pin(unit, self.pin.value, layer=layer)
        else:
            scan.name(unit, self.name.value, layer=layer)
        if self._asked is not None:
            self._show_histogram(self._asked)  # its title has the name
        self._on_named()

    def _on_control(self, change: Any) -> None:
        if self._given is not None:
            self._ask(from_browser(change), (change["owner"],))

    def _ask(self, later: bool, pressed: Sequence[W.DOMWidget]) -> None:
        assert self._given is not None
        self._pressed = tuple(pressed)
        self._asked = Question(
            *self._given, self.end.value, self.where.value, self.most.value, self.label.value
        )
        self.contexts.old = True
        (self._worker.later if later else self._worker.now)(self._asked)

    def _answer(self, question: Question) -> None:
        self._show_histogram(question)
        self._show_contexts(question)

    def _on_open(self, place: Place) -> None:
        with self._screen.busy_marks.held(self.contexts):
            self._on_place(place)

    def _show_histogram(self, asked: Question) -> None:
        found, unit = counted(asked.scan, asked.layer, asked.unit)
        counts = found.counts[:, unit].numpy()
        held = counts[1 + found.labels.index(asked.label)] if asked.label else None
        with self.picture.batch():
            self._chart.update(
                counts[0], held, found.edges.numpy(), label=asked.label,
                title=say("{measured} over {steps} steps", steps=f"{found.steps:,}",
                          measured=self._measured(asked.scan, asked.layer, asked.unit)),
            )  # fmt: skip
        area = ""
        if asked.label:
            at = found.labels.index(asked.label)
            value, half = float(found.auc[at, unit]), float(found.half_width[at, unit])
            name, many = labels_called(asked.scan)[asked.label], int(found.positives[at])
            auc = f"AUC {value:.3f} ± {half:.1g}"
            area = say("{auc} for {label}", auc=auc, label=name)
            if many == 0:
                area = say("no AUC: {label} holds nowhere", label=name)
            elif many == found.steps:
                area = say("no AUC: {label} holds everywhere", label=name)
            elif bool(found.still[unit]):
                area = say("never moves, and says nothing of {label}", label=name)
            elif not abs(value - 0.5) > half:  # nor where it is not known
                area = say("not told apart from chance by {label}", label=name)
                area += "" if np.isnan(value) else f": {auc}"
            area = f" · {area}"
        what = visible_name(called(asked.unit), 80)
        self._title.value = (
            f'<span class="grulens-title">{escape(what)}</span>'
            f'<span class="grulens-quiet">{escape(area)}</span>'
        )

    def _show_contexts(self, asked: Question) -> None:
        scan, labels = asked.scan, asked.scan.labels
        try:
            top = scan.top(
                asked.unit, asked.most, layer=asked.layer, end=asked.end, where=asked.where or None
            )
        except Exception:  # what was shown is of another question
            self.found, self.drawn = None, ([], (-1.0, 1.0))
            self.contexts.show([], [], (-1.0, 1.0), said=say("the windows could not be found"))
            raise
        if self._asked is not asked:
            return
        found, unit = counted(scan, asked.layer, asked.unit)
        order = apart(found)[:, unit].numpy()
        first = [labels.index(asked.where)] if asked.where else []
        by_area = [int(i) for i in np.argsort(-order, kind="stable") if found.positives[i]]
        tracks = [*first, *(i for i in by_area if i not in first)][:TRACKS]
        ones = list(top.contexts)
        edges = found.edges.numpy()
        far = max(map(abs, extent(found.counts[0, unit].numpy(), edges)))
        ends = (-far, far)
        measure = "h" if isinstance(asked.unit, int) else say("h along it")
        self._scale.value = _scale(measure, ends)

        def show(words: str) -> None:
            lines = []
            for value, one in zip(top.values, ones, strict=True):
                read = one.tokens is not None or scan.inputs(one.place) is not None
                band, window = (None, 0) if read else self._band(asked, one.place)
                holds = scan.holds(one.place).numpy()[tracks]
                lines.append(
                    Line(
                        number(value, ".4f"), one, one.place, holds, band, window,
                        inputs_of(scan, one.place), scan.lost(one.place, say),
                    )
                )  # fmt: skip
            self.found, self.drawn = top, (ones, ends)
            said = say("; ").join(filter(None, [words, top.words(say)]))
            self.contexts.show(
                lines, [labels[i] for i in tracks], ends, said=said, called=labels_called(scan)
            )

        if not ones:
            show(say("the label holds nowhere in the corpus"))
            return
        lost = [scan.lost(one.place, say) for one in ones]
        numbers = scan.inputs(ones[0].place)
        if ones[0].tokens is None and numbers is None:
            self._scale.value = ""
            show(say("lines: the unit's largest and least value in the windows around, for the "
                     "inputs are not kept"))  # fmt: skip
            return
        lines = ""
        if numbers is not None:
            many = numbers.shape[1]
            lines = say_n("lines: the {n} number of the input at each step",
                          "lines: the {n} numbers of the input at each step", many)  # fmt: skip
        if any(lost):
            self._scale.value = ""
            why = say("without colours: {why}", why=next(filter(None, lost)))
            show(say("; ").join(filter(None, [lines, why])))
            return
        if lines:
            lines = say("{lines}; the strip under them: {measure}", lines=lines, measure=measure)
        show(say("running these places again for their colours"))
        try:
            ones = list(scan.contexts(top.places, asked.unit, layer=asked.layer))
        except Exception:
            show(say("without colours: these places do not run again as they did in the scan"))
            raise
        if self._asked is asked:
            show(lines)

    def _called(self, scan: Scan, layer: str, unit: int | str) -> str:
        """A unit by its number, a direction by its own name; and by what it is called, if it is."""
        name = scan.names(layer).get(unit)
        what = visible_name(called(unit), 80)
        return what + (say(", ") + visible_name(name, 80) if name else "")

    def _measured(self, scan: Scan, layer: str, unit: int | str) -> str:
        """What is counted of a unit, or of a direction."""
        what = self._called(scan, layer, unit)
        return say("h of {unit}", unit=what) if isinstance(unit, int) else say(
            "h along {direction}", direction=what
        )  # fmt: skip

    def _band(self, asked: Question, place: Place) -> tuple[Any, int]:
        """The extremes of the windows around a place, and which of them it is."""
        whole = asked.scan.row_of(place)
        start = max(0, place.start // WINDOW - BESIDE)
        around = replace(
            place, start=start * WINDOW, stop=min(whole.stop, (start + 2 * BESIDE + 1) * WINDOW)
        )
        ends = asked.scan.extremes(around, asked.unit, layer=asked.layer).numpy()
        return ends, place.start // WINDOW - start


def _scale(measure: str, ends: tuple[float, float]) -> str:
    """What the colours of a state mean: from the farthest that it goes to as far the other way."""
    low, high = (number(end, ".2g") for end in ends)
    stops = ", ".join(COLORS["state"][:: len(COLORS["state"]) // 8])
    return (
        f'<span class="grulens-quiet">{measure} {low} <span aria-hidden="true" style="width:90px;'
        f'display:inline-block;height:10px;background:linear-gradient(to right, {stops})"></span> '
        f"{high}</span>"
    )
