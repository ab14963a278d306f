"""See every gate, move it, and watch the output answer.

show [h|r|z|n] [edited − baseline]  order [activity ▾]
selected: units 3, 17 · all steps [clear]
act by [scale|set|shift]   r ──●──   z ──●──   n ──●──
┌ heatmap: units down, steps across         ┐
│ strip of tokens, coloured by one unit     │
│ divergence along time                     │
└ the readout at one step, before and after ┘
"""

from __future__ import annotations

from typing import Any

import ipywidgets as W
import numpy as np
import traitlets as tl
from bokeh.layouts import column
from torch import Tensor, nn

from grulens.cells.signal import Signal
from grulens.errors import shown
from grulens.probing.edits.positions import words
from grulens.probing.units.order import ORDERS, order_units
from grulens.views.figure.raster import scale
from grulens.views.gates.heatmap import Heatmap
from grulens.views.gates.token_strip import TokenStrip
from grulens.views.readout.output_chart import OutputChart
from grulens.widgets.gates.controls import GateControls
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.controls import button, choice, row
from grulens.widgets.session.display_names import places
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.picture import still
from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session
from grulens.widgets.session.space import SpaceControl


class GateSliders(Panel):
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
        controls: mode, sliders and resets.

    >>> import torch
    >>> from grulens import GateSliders
    >>> screen = GateSliders(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.controls.sliders["z"].value = 0.5
    >>> screen.session.slots[0].edit
    scale('l0', 'z', by=0.5)
    """

    signal = tl.Unicode("h")
    difference = tl.Bool(False)
    order: Any = tl.Enum(ORDERS, "activity")

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session

        self._order_of: tuple[Tensor, tuple[Any, ...], np.ndarray] | None = None

        # controls
        show, self._signal = choice("Show", [], [])
        self._offer()
        self._difference = W.ToggleButton(
            description="edited − baseline",
            tooltip="show what the edits changed in this signal",
            layout=W.Layout(width="auto"),
        )
        self._order = W.Dropdown(
            options=list(ORDERS), description="Order units by",
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._chosen = W.HTML()
        self._clear = button(
            "clear", "select no unit and all steps", self.callbacks.guard(self._on_clear)
        )
        self.space = SpaceControl(session, self.callbacks)
        self.controls = GateControls(session, self.callbacks)
        for trait, control in (
            ("signal", self._signal),
            ("difference", self._difference),
            ("order", self._order),
        ):
            W.link((self, trait), (control, "value"))

        # layout
        self._heat = Heatmap()
        self._strip = TokenStrip(x_range=self._heat.x_range)
        # a decoder may answer at other steps than its layer's: then the output has its own axis
        answers = (
            not session.unread and len(session.answer_before.values) == session.before.shape[1]
        )
        self._output = OutputChart(x_range=self._heat.x_range if answers else None)
        views = (self._heat.root, self._strip.root, *self._output.roots)
        self.picture = BokehView(
            column([*views], sizing_mode="stretch_width"),
            lock=session.lock,
            retire=False,
        )
        self.fill(
            row(show, self._signal, self._difference, self._order),
            self.space.box,
            row(self._chosen, self._clear),
            self.controls.box,
            self.picture,
        )

        self.settles_with(self.picture)

        # both ways
        self._heat.on_units(lambda chosen: setattr(session, "units", self._seen.units(chosen)))
        self._heat.on_times(lambda times: setattr(session, "times", times))
        self._strip.on_times(lambda times: setattr(session, "times", times))
        self._output.on_step(lambda step: setattr(session, "step", step))
        self.follow(self._on_run, "edited", "baseline", "layer", "row")
        self.follow(self._on_space, "space", "layer", "baseline")
        self.follow(self._on_selection, "units", "times")
        self.follow(self._on_step, "step")
        self.follow(lambda: self.controls.sync(unanswered=False), "slots")
        self.follow(self.controls.sync, "units", "times", "layer", "row", "baseline")
        self._on_run()
        self._on_selection()

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        return still(self.session, self.signal, difference=self.difference, order=self.order)

    def shown(self) -> dict[str, Any]:
        """What is chosen to be seen, as arguments of `views.page.page`."""
        return {"order": self._ordered(), "signal": self.signal, "difference": self.difference}

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
        options = tuple((f"{s.name} {s.words}", s.name) for s in signals)
        if self._signal.options == options:
            return
        for name in [n for n in self._signal._dom_classes if n.startswith("grulens-")]:
            self._signal.remove_class(name)
        kept = self.signal if self.signal in [s.name for s in signals] else h.name
        # a choice of other options begins with the first of them: h, which every cell has
        self.signal = h.name
        self._signal.options = options
        self._signal.tooltips = [f"show the {s.words}" for s in signals]
        for place, signal in enumerate(signals, 1):
            self._signal.add_class(f"grulens-{signal.role}-{place}")
        self.signal = kept

    # what a change does

    @tl.observe("signal", "difference", "order")
    def _on_view(self, _: Any) -> None:
        if hasattr(self, "picture"):
            self.callbacks.guard(self._draw)()

    def _on_run(self) -> None:
        with self.picture.batch():
            self._offer()
            self._draw()
            self._draw_output()

    def _on_selection(self) -> None:
        session = self.session
        units = words(session.units, "unit") if session.units else "all units"
        times = words(session.times, "step") if session.times else "all steps"
        where = places(session.now.cell, session.units)
        units += f" ({where})" if where else ""
        self._chosen.value = f'<span class="grulens-quiet">Selected:</span> {units} · {times}'
        self._clear.disabled = not (session.units or session.times)
        with self.picture.batch():
            self._heat.select(self._seen.chosen(session.units), session.times)
            self._strip.select(session.times)
            self._draw_strip(self._values())

    def _on_space(self) -> None:
        self.space.show()
        with self.picture.batch():
            self._draw()

    def _on_step(self) -> None:
        with self.picture.batch():
            self._show_step()

    def _on_clear(self, _: Any) -> None:
        self.session.units, self.session.times = (), ()

    # drawing

    def _draw(self) -> None:
        session, seen = self.session, self._seen
        units = self._ordered()
        values = self._values()
        called = seen.names
        with self.picture.batch():
            self._heat.update(
                values[units],
                signal=self._shown,
                units=units,
                tokens=session.tokens,
                mask=self._mask(),
                layer=seen.layer,
                labels=None if called is None else [called[unit] for unit in units.tolist()],
                down=seen.noun,
            )
            self._heat.select(seen.chosen(session.units), session.times)
            self._draw_strip(values)

    def _draw_strip(self, values: np.ndarray) -> None:
        session, seen = self.session, self._seen
        chosen = seen.chosen(session.units)
        unit = chosen[0] if chosen else int(np.argmax(np.nan_to_num(values).std(1)))
        self._strip.update(
            values[unit],
            signal=self._shown,
            tokens=session.tokens,
            mask=self._mask(),
            name=seen.name(unit),
            ends=scale("difference", values) if self.difference else None,
        )

    def _draw_output(self) -> None:
        session = self.session
        if session.unread:
            self._output.hide()
            return
        before, now = session.answer_before, session.answer_now
        with self.picture.batch():
            measure = "difference" if before.scale == "value" else "bits"
            mask = self._mask() if len(before.values) == session.before.shape[1] else None
            self._output.update(session.divergence.numpy(), measure=measure, mask=mask)
            if before.values.shape[1] == 1:
                self._output.update_values(before.values[:, 0].numpy(), now.values[:, 0].numpy())
            self._show_step()

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
        at = f" at step {step}" if len(before.values) > 1 else ""
        if at and session.tokens and len(session.tokens) == len(before.values):
            at += f", after {session.tokens[step]!r}"
        self._output.show_step(
            step,
            names,
            was,
            now,
            quantity="value" if before.scale == "value" else "probability",
            title=f"output{at}",
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

    def _values(self) -> np.ndarray:
        session = self.session
        values = self._seen.values(session.now.signal(self.signal))
        if self.difference:
            values = values - self._seen.values(session.before.signal(self.signal))
        return values

    def _mask(self) -> np.ndarray:
        mask: np.ndarray = self.session.before.mask[self.session.row].cpu().numpy()
        return mask
