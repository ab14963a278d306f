"""See every gate, move it, and watch the output answer.

the text, coloured by one unit; a drag over words chooses steps
┌ selected: units 3, 17 · all steps [clear] ┬ the readout at one step,   ┐
│ act by [scale|set|shift]                  │ before and after           │
│ r ──●──   z ──●──   n ──●──               │ ▬▬▬▬▬▬▬▬                   │
└───────────────────────────────────────────┴────────────────────────────┘
show [h|r|z|n] [edited − baseline]  order [similarity ▾]  colours over [all it can be ▾]
┌ heatmap: units down, steps across; where steps have no names, a strip of one unit ┐
└ divergence along time                                                            ┘

What is done and what it does are seen together: where there is room, the text and the map stand at
the left, and sliders and answer at the right of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final

import ipywidgets as W
import numpy as np
import traitlets as tl
from bokeh.layouts import column
from torch import Tensor, nn

from grulens import csv
from grulens.arguments import Frame
from grulens.cells.signal import Signal
from grulens.errors import shown
from grulens.models.observed import ObservedLayer
from grulens.probing.edits.positions import words
from grulens.probing.units.order import ORDERS, order_units
from grulens.results import frame
from grulens.views.figure.raster import REACHES, own_steps, reach
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.input_lines import MOST, InputLines
from grulens.views.gates.pinned_lines import PinnedLines
from grulens.views.gates.token_strip import TokenStrip
from grulens.views.readout.output_chart import OutputChart
from grulens.widgets.gates.answer_line import answer_line
from grulens.widgets.gates.controls import GateControls
from grulens.widgets.gates.out_of_range import out_of_range
from grulens.widgets.gates.pin_control import PinControl
from grulens.widgets.gates.selected import selected
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import button, choice, row
from grulens.widgets.session.display_names import places
from grulens.widgets.session.page import Paged
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.picture import still
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.widgets.session.space import SpaceControl
from grulens.widgets.session.token_text import TokenText
from grulens.words import message, say

#: How tall the map is: with the text over it, it is seen at once.
HEIGHT: Final = 230
#: What to do first; gone when it is done.
_HINT: Final = message(
    "Click a step, or drag over several; then move a gate, and see what the answer does."
)


class GateSliders(Paged):
    """A heatmap of a signal, sliders for the gates, and the output before and after.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        signal: the signal shown: "r", "z", "n" or "h" of a GRU, "i", "f", "g", "o", "c" or "h" of
            an LSTM, of an observed cell those that its code makes.
        difference: whether edited minus baseline is shown.
        order: how units are ordered: "index", "activity" or "similarity".
        colors: what the colours reach over: "all it can be", "1st to 99th percentile" or "all it
            is"; a map with white at zero reaches as far to both sides.
        controls: mode, sliders and resets.
        pin: pins the chosen units, and names them.
        areas: the parts of it by name: "text", "sliders", "answer" and "map".
        bar: where it is narrow, the sliders in use and the answer.

    >>> import torch
    >>> from grulens import GateSliders
    >>> screen = GateSliders(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.controls.sliders["z"].value = 0.5
    >>> screen.session.slots[0].edit
    scale('l0', 'z', by=0.5)
    """

    signal = tl.Unicode("h")
    difference = tl.Bool(False)
    order: Any = tl.Enum(ORDERS, "similarity")
    colors: Any = tl.Enum(REACHES, REACHES[0])

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session

        self._order_of: tuple[Tensor, tuple[Any, ...], np.ndarray] | None = None

        # controls
        show, self._signal = choice(say("Show"), [], [])
        self._offer()
        self._difference = W.ToggleButton(
            description=say("edited − baseline"),
            tooltip=say("show what the edits changed in this signal"),
            layout=W.Layout(width="auto"),
        )
        self._order = W.Dropdown(
            options=[(say(one), one) for one in ORDERS], description=say("Order units by"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._colors = W.Dropdown(
            options=[(say(one), one) for one in REACHES], description=say("Colours over"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._chosen = W.HTML()
        self._clear = button(
            say("clear"), say("select no unit and all steps"), self.callbacks.guard(self._on_clear)
        )
        self.pin = PinControl(session, self.callbacks)
        self.space = SpaceControl(session, self.callbacks)
        self.controls = GateControls(session, self.callbacks)
        self._hint = W.HTML(f'<span class="grulens-quiet">{say(_HINT)}</span>')
        self._out = W.HTML()
        self._line = W.HTML()
        self.bar = W.HBox([self._line])
        self.bar.add_class("grulens-bar")
        for trait, control in (
            ("signal", self._signal),
            ("difference", self._difference),
            ("order", self._order),
            ("colors", self._colors),
        ):
            W.link((self, trait), (control, "value"))

        # layout
        self.text = TokenText()
        self._heat = Heatmap(height=HEIGHT)
        self._input = InputLines(x_range=self._heat.x_range)
        self._strip = TokenStrip(x_range=self._heat.x_range)
        self._pinned = PinnedLines(x_range=self._heat.x_range)
        # a decoder may answer at other steps than its layer's: then the output has its own axis
        answers = (
            not session.unread and len(session.answer_before.values) == session.before.shape[1]
        )
        self._output = OutputChart(x_range=self._heat.x_range if answers else None)
        along, classes, values = self._output.roots
        self.picture = BokehView(
            column(
                [
                    self._input.root,
                    self._heat.root,
                    self._strip.root,
                    self._pinned.root,
                    along,
                    values,
                ],
                sizing_mode="stretch_width",
            ),
            lock=session.lock,
            retire=False,
        )
        self.answer = BokehView(classes, lock=session.lock, retire=False)
        self.areas = {
            "text": _area("words", self.text),
            "sliders": _area(
                "hand",
                row(self._chosen, self._clear, self.pin.pin, self.pin.name),
                self.controls.box,
                self._out,
            ),
            "answer": _area("answer", self.answer),
            "map": _area(
                "map",
                row(show, self._signal, self._difference, self._order, self._colors),
                self.space.box,
                self.picture,
            ),
        }
        self.desk = W.HBox(tuple(self.areas.values()))
        self.desk.add_class("grulens-desk")
        self.fill(self.bar, self._hint, self.desk)

        self.settles_with(self.picture)
        self.picture.offer(
            say("selection as CSV"), lambda: (f"{self.about} selection", self.to_csv())
        )

        # both ways
        self._heat.on_units(lambda chosen: setattr(session, "units", self._seen.units(chosen)))
        self._heat.on_times(lambda times: setattr(session, "times", times))
        self._strip.on_times(lambda times: setattr(session, "times", times))
        self.text.on_times(self.callbacks.guard(self._on_words))
        self._output.on_step(lambda step: setattr(session, "step", step))
        self.follow(self._draw_input, "baseline", "layer", "row")
        self.follow(self._on_run, "edited", "baseline", "layer", "row")
        self.follow(self._on_space, "space", "layer", "baseline")
        self.follow(self._on_selection, "units", "times")
        self.follow(self._on_step, "step")
        self.follow(self._on_slots, "slots")
        self.follow(self.pin.show, "pins", "units", "layer", "space")
        self.follow(self._on_pins, "pins")
        self.follow(self.controls.sync, "units", "times", "layer", "row", "baseline")
        self._draw_input()
        self._on_run()
        self._on_selection()

    def extend(self, edits: Panel, studies: Panel) -> W.HBox:
        """Be a part of a larger screen: with others beside the controls, without the bar.

        Args:
            edits: what stands under the answer.
            studies: what stands in the map's place, and moves it down.

        Returns:
            The bar, which stays in sight while the screen that holds it does.
        """
        self.children = tuple(child for child in self.children if child is not self.bar)
        self.areas["edits"] = _area("edits", edits)
        seen = self.areas | {"studies": _area("studies", studies)}
        # in the order in which Tab goes through them
        order = ("text", "sliders", "answer", "studies", "map", "edits")
        self.desk.children = tuple(seen[name] for name in order)
        return self.bar

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        return still(
            self.session, self.signal, difference=self.difference, order=self.order,
            colors=self.colors,
        )  # fmt: skip

    def to_frame(self) -> Frame:
        """The selected units at the selected steps as a pandas DataFrame, one row a step.

        The signal and the run are those that the map shows; no unit is all units, no step all
        steps of the row. Beside the numbers stand "step", "token" where steps have names, "run"
        ("baseline", "edited" or "edited minus baseline") and "signal".

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame(self._selection())

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The same as CSV.

        Numbers are exact. A text that a spreadsheet would run (it begins with =, +, - or @) has
        an apostrophe before it.

        Args:
            path: a file to write it to as well, in UTF-8; one that is there is replaced.

        Raises:
            FileError: `path` is no name of a file.
        """
        return csv.written(csv.text_of(self._selection()), path)

    def seen(self) -> dict[str, Any]:
        """What a page of it shows first."""
        return {
            "signal": self.signal, "difference": self.difference, "order": self.order,
            "colors": self.colors, "mode": self.controls.mode.value,
        }  # fmt: skip

    @tl.validate("signal")
    def _valid_signal(self, proposal: Any) -> str:
        name: str = proposal["value"]
        names = [signal.name for signal in self.session.now.cell.signals]
        if name not in names:
            raise tl.TraitError(f"signal must be one of {', '.join(names)}, got {shown(name)}")
        return name

    def _offer(self) -> None:
        """Offer the signals of the layer's cell, h first; the one shown stays if it can."""
        *inside, h = self.session.now.cell.signals
        signals = (h, *inside)
        options = tuple((f"{s.name} {s.said}", s.name) for s in signals)
        if self._signal.options == options:
            return
        for name in [n for n in self._signal._dom_classes if n.startswith("grulens-")]:
            self._signal.remove_class(name)
        kept = self.signal if self.signal in [s.name for s in signals] else h.name
        # a choice of other options begins with the first of them: h, which every cell has
        self.signal = h.name
        self._signal.options = options
        self._signal.tooltips = [say("show the {signal}", signal=s.said) for s in signals]
        for place, signal in enumerate(signals, 1):
            self._signal.add_class(f"grulens-{signal.role}-{place}")
        self.signal = kept

    # what a change does

    @tl.observe("signal", "difference", "order", "colors")
    def _on_view(self, _: Any) -> None:
        if hasattr(self, "picture"):
            self.callbacks.guard(self._draw)()
            self._remark()

    def _on_words(self, times: tuple[int, ...]) -> None:
        session = self.session
        session.times = times
        if times and self._answers:  # and what it says there is seen
            session.step = times[-1]

    def _on_run(self) -> None:
        with self._batch():
            self._offer()
            self._draw()
            self._draw_output()
        self._remark()

    def _on_selection(self) -> None:
        session = self.session
        units = words(session.units or None, "unit", say)
        times = words(session.times or None, "step", say)
        where = places(session.now.cell, session.units)
        units += f" ({where})" if where else ""
        self._chosen.value = (
            f'<span class="grulens-quiet">{say("Selected:")}</span> {units} · {times}'
        )
        self._clear.disabled = not (session.units or session.times)
        with self._batch():
            self._heat.select(self._seen.chosen(session.units), session.times)
            self._strip.select(session.times)
            self._mark_words()
            self._draw_strip(self._values())

    def _on_space(self) -> None:
        self.space.show()
        with self._batch():
            self._draw()

    def _on_step(self) -> None:
        with self._batch():
            self._show_step()
            self._mark_words()
        self._show_bar()

    def _on_slots(self) -> None:
        self.controls.sync(unanswered=False)
        if self.session.slots:  # who has made an edit knows how
            self._hint.layout.display = "none"
        self._show_bar()

    def _on_pins(self) -> None:
        with self._batch():
            self._draw_pinned()

    def _on_clear(self, _: Any) -> None:
        self.session.units, self.session.times = (), ()

    # drawing

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """What changes meanwhile reaches each figure as one message."""
        with self.picture.batch(), self.answer.batch():
            yield

    @property
    def _answers(self) -> bool:
        """Whether there is an answer at each step of the layer."""
        session = self.session
        steps = session.before.shape[1]
        return not session.unread and len(session.answer_before.values) == steps > 1

    def _show_bar(self) -> None:
        """The sliders that do something here and the answer, for a narrow screen."""
        sliders, resets = self.controls.sliders, self.controls.resets
        used = [slider for name, slider in sliders.items() if not resets[name].disabled]
        self.bar.children = (*used, self._line)
        said = answer_line(self.session)
        self._line.value = f'<span role="status">{escape(said)}</span>'
        self.bar.layout.display = None if used else "none"

    def _remark(self) -> None:
        """What the colours cannot show."""
        cut = self.colors == REACHES[0] and not self.difference
        said = out_of_range(self.session, cut=cut)
        self._out.value = f'<span class="grulens-quiet" role="status">{said}</span>'
        self._out.layout.display = None if said else "none"

    def _mark_words(self) -> None:
        session = self.session
        step = session.step if self._answers else None
        self.text.select(session.times, step)
        self._pinned.mark(step)

    def _draw(self) -> None:
        session, seen = self.session, self._seen
        units = self._ordered()
        values = self._values()
        called = seen.names
        with self._batch():
            self._heat.update(
                values[units],
                signal=self._shown,
                units=units,
                tokens=session.tokens,
                mask=self._mask(),
                layer=seen.layer,
                labels=None if called is None else [called[unit] for unit in units.tolist()],
                down=seen.noun,
                ends=self._ends(values),
            )
            self._heat.select(seen.chosen(session.units), session.times)
            self._draw_strip(values)
            self._draw_pinned(values)

    def _draw_pinned(self, values: np.ndarray | None = None) -> None:
        """The pinned units as lines of the signal shown, over those of the run without edits."""
        session, seen = self.session, self._seen
        pinned = session.pinned
        self._pinned.root.visible = bool(pinned)
        if not pinned:
            return
        values = self._values() if values is None else values
        rows = seen.rows(pinned)
        before = None
        if session.on and not self.difference:
            before = seen.values(session.before.signal(self.signal))[list(rows)]
        self._pinned.update(
            values[list(rows)], before=before, signal=self._shown, mask=self._mask(),
            ends=self._ends(values),
            names=[
                f"{seen.name(row)} · {name}" if name else seen.name(row)
                for row, name in zip(rows, pinned.values(), strict=True)
            ],
        )  # fmt: skip
        self._pinned.mark(session.step if self._answers else None)

    def _draw_strip(self, values: np.ndarray) -> None:
        session, seen = self.session, self._seen
        chosen = seen.chosen(session.units)
        unit = chosen[0] if chosen else int(np.argmax(np.nan_to_num(values).std(1)))
        ends, mask, name = self._ends(values), self._mask(), seen.name(unit)
        tokens = session.tokens
        self._strip.root.visible = tokens is None
        self.text.layout.display = "none" if tokens is None else None
        if tokens is not None:
            shown = self._shown
            what = say("edited − baseline") if isinstance(shown, str) else shown.called
            there = own_steps(mask)
            tokens, one, mask = tokens[:there], values[unit, :there], mask[:there]
            self.text.name(tokens)
            self.text.paint(one, signal=self._shown, mask=mask, ends=ends,
                            name=f"{name} · {what}")  # fmt: skip
            return
        self._strip.update(values[unit], signal=self._shown, mask=mask, name=name, ends=ends)

    def _draw_input(self) -> None:
        """The numbers that the layer reads, where they are few and no tokens; edits change none."""
        session = self.session
        # what an observed cell reads, only its module knows
        unknown = session.tokens is not None or isinstance(session.before, ObservedLayer)
        shown = not unknown and session.before.x.shape[2] <= MOST
        with self._batch():
            if shown:
                read = session.before.x[session.row].detach().float().cpu().numpy().T
                self._input.update(read, mask=self._mask())
            self._input.root.visible = shown

    def _draw_output(self) -> None:
        session = self.session
        below = self._answers
        if self._heat.root.xaxis.visible == below:  # the axis of what stands under it is its own
            self._heat.root.xaxis.visible = not below
        if session.unread:
            self._output.hide()
            self.desk.add_class("grulens-no-classes")
            self._show_bar()
            return
        before, now = session.answer_before, session.answer_now
        with self._batch():
            measure = "difference" if before.scale == "value" else "bits"
            own = session.answered.numpy()
            self._output.update(session.divergence.numpy(), measure=measure, mask=own)
            if before.values.shape[1] == 1:
                self._output.update_values(
                    before.values[:, 0].numpy(), now.values[:, 0].numpy(), mask=own
                )
            self._show_step()
        bars = self._output.roots[1].visible and self._output.classes.root.visible
        (self.desk.remove_class if bars else self.desk.add_class)("grulens-no-classes")
        self._show_bar()

    def _show_step(self) -> None:
        session = self.session
        if session.unread:
            return
        before = session.answer_before
        step = min(session.step, len(before.values) - 1)
        if before.values.shape[1] == 1:
            self._output.mark_step(step)
            return
        names, was, now = session.top(step)
        title = say("output")
        if len(before.values) > 1:
            title = say("output at step {step}", step=step)
            if session.tokens and len(session.tokens) == len(before.values):
                title = say("output at step {step}, after {token}", step=step,
                            token=repr(session.tokens[step]))  # fmt: skip
        self._output.show_step(
            step,
            names,
            was,
            now,
            quantity="value" if before.scale == "value" else "probability",
            title=title,
        )

    def _ordered(self) -> np.ndarray:
        # the order is the unedited run's: it stays while a slider moves, and so does the picture
        h, wanted = self.session.before.h, (self.session.row, self.order, self.session.space)
        if self._order_of is None or self._order_of[0] is not h or self._order_of[1] != wanted:
            self._order_of = h, wanted, order_units(self._seen.values(h), self.order)
        return self._order_of[2]

    @property
    def _seen(self) -> Seen:
        return Seen(self.session)

    @property
    def _shown(self) -> Signal | str:
        return "difference" if self.difference else self.session.now.cell.signal(self.signal)

    def _selection(self) -> dict[str, Any]:
        return selected(self.session, self.signal, difference=self.difference)

    def _values(self) -> np.ndarray:
        session = self.session
        values = self._seen.values(session.now.signal(self.signal))
        if self.difference:
            values = values - self._seen.values(session.before.signal(self.signal))
        return values

    def _ends(self, values: np.ndarray) -> tuple[float, float]:
        """The values at the ends of the colours, of the map and of the text alike."""
        # all that it can be asks nothing of a long run's values, and copies none
        there = values if self.colors == REACHES[0] else values[:, self._mask()]
        return reach(self._shown, there, self.colors)

    def _mask(self) -> np.ndarray:
        mask: np.ndarray = self.session.before.mask[self.session.row].cpu().numpy()
        return mask


def _area(name: str, *children: W.Widget) -> W.VBox:
    """A part of the screen, whose place depends on how wide that is."""
    box = W.VBox(children)
    box.add_class(f"grulens-area-{name}")
    return box
