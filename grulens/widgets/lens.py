"""The linked whole: gates, units and edits of one model on one input, on one screen.

CharacterModel   layer [rnn.l0 ▾] ▸ 1 not opened  row [0] [pick a row]  192 units × 80 steps
input [def f(x): …                                                              ] [run]
── text, sliders, answer ─────────────────────────────────────────────────────────
look into [nothing] [cell] [compare] [memory] [motion] [credit] [phrases] [corpus]
── the map of a signal ───────────────────────────────────────────────────────────
── edits ─────────────────────────────────────────────────────────────────────────
── units ─────────────────────────────────────────────────────────────────────────
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as W
import torch
from torch import nn

from grulens.cells.cell import RecurrentCell
from grulens.models.adapters.closed import Closed, sentences
from grulens.models.observed import ObservedLayer
from grulens.views.figure.tokens import valid
from grulens.views.still.lens import compose
from grulens.widgets.edits.toggles import AblationToggles
from grulens.widgets.gates.sliders import GateSliders
from grulens.widgets.rows import RowTable
from grulens.widgets.session.controls import button, quiet, row
from grulens.widgets.session.page import Paged, page_of
from grulens.widgets.session.parts import Parts
from grulens.widgets.session.picture import found
from grulens.widgets.session.session import Session
from grulens.widgets.studies import NONE, Studies
from grulens.widgets.units.table import NeuronTable
from grulens.words import say, say_n


class Lens(Paged):
    """Gates, units and edits, linked.

    Args:
        model: any module that holds recurrent layers which `grulens.layers` lists, or a `Session`
            to share.
        *args: the model's own arguments; one text is encoded where there is an `encode`.
        tokens: the name of each step, as for `Session`.
        encode: from a text to the model's input; None is the model's own `encode`, if it has one.
        decode: from ids (time,) to a text or a list of texts; None is the model's own.
        readout: from the model's output to (batch, time, class), (batch, class), (batch, time)
            or (batch,).
        layer: which layer to begin with.
        scale: what the readout's numbers are: "logits", "probability" or "value".
        labels: names of the classes.
        call: the name of the method, or of the submodule, whose call is the run; None is the model.
        space: how a state over space is shown: its channels by "mean", "max" or at a place (y, x).
        inputs: all arguments of the run as (args, kwargs), in place of `*args` and `**kwargs`.
        truth: what each row's answer should be (batch,), as for `Session`.
        scan: a scan of the model over a corpus, as for `Session`.
        **kwargs: the model's own keyword arguments.

    Attributes:
        gates: the `GateSliders`.
        table: the `NeuronTable`.
        toggles: the `AblationToggles`.
        rows: the rows as a table; None before "pick a row" is pressed: `lens.pick.value = True`.
        parts: which parts are seen: `lens.parts.hidden = ("map", "units")` folds these away, in the
            lenses that are made later, too.
        studies: further screens, of which one is open at a time: `lens.studies.shown = "memory"`.
        session: what they share.

    >>> from grulens import Lens
    >>> lens = Lens(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> lens
    Lens(GRU, l0, 0 of 0 edits on)
    """

    elsewhere = f"{Paged.elsewhere} .save('lens.html') writes a page for any browser."

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session

        # controls
        self._title = W.HTML(
            f'<span class="grulens-title">{escape(type(session.model).__name__)}</span>'
        )
        self.layer = W.Dropdown(
            options=tuple(session.baseline), value=session.layer, description=say("layer"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        self._closed = W.HTML(_closed(session.baseline.closed))
        self._closed.layout.display = None if session.baseline.closed else "none"
        self.row = W.BoundedIntText(
            min=0, max=len(session.before.h) - 1, value=session.row, description=say("row"),
            style={"description_width": "auto"}, layout=W.Layout(width="110px"),
        )  # fmt: skip
        self.rows: RowTable | None = None
        self.pick = W.ToggleButton(
            description=say("pick a row"),
            tooltip=say("by its text, its answer, and whether that is right"),
            layout=W.Layout(width="auto"),
        )  # fmt: skip
        self.pick.observe(self.callbacks.guard(lambda _: self._on_pick()), "value")
        self._rows = W.VBox(layout=W.Layout(display="none", width="100%"))
        self._about, self._form, self._part = W.HTML(), W.HTML(), W.HTML()
        self._form.add_class("grulens-code")
        self.text = W.Textarea(
            value=valid(session.text), description=say("input"), rows=2,
            style={"description_width": "auto"}, layout=W.Layout(width="100%", margin="0"),
        )  # fmt: skip
        self.run = button(say("run"), say("run the model on this text; the edits stay"),
                          self.callbacks.guard(self._on_text))  # fmt: skip
        self.tie("layer", self.layer)
        self.tie("row", self.row)

        # layout
        self.gates = GateSliders(session)
        self.toggles = AblationToggles(session)
        self.table = NeuronTable(session)
        self.studies = Studies(session)
        bar = self.gates.extend(self.toggles, self.studies)
        self.parts = Parts({**self.gates.areas, "units": self.table}, self.callbacks)
        parts: list[W.Widget] = [
            row(self._title, self.layer, self._closed, self.row, self.pick, self._about,
                self.parts.open)
        ]  # fmt: skip
        parts += [self.parts.box, self._rows, self._part, self._form]
        if session.coder.encode is not None:
            asked = W.HBox([self.text, self.run])
            asked.add_class("grulens-asked")
            parts.append(asked)
        self.fill(*parts[:1], bar, *parts[1:], self.gates, self.table)
        for part in (self.gates, self.toggles, self.table, self.studies):
            part.join()

        for view in (self.gates.picture, self.table.picture):
            self.settles_with(view)
        self.follow(self._on_run, "edited", "baseline", "layer", "row")
        self.follow(self._on_excerpt, "excerpt")
        self.studies.observe(self.callbacks.guard(lambda _: self._on_study()), "shown")
        self.follow(lambda: setattr(self.text, "value", valid(session.text)), "text")
        self._on_run()
        self._on_excerpt()

    def save(self, path: str | Path, *, weights: bool = True) -> Path:
        """Write the present state as a page that works without kernel and network.

        Signal, order, selection, edits and step are those of the screen. Where the run can be made
        of the weights alone (layers of torch's GRU, LSTM and RNN that feed one another, and a
        linear readout), they stand in the page, and it runs: sliders, ablations, undo, another
        text. Else, and where the weights are more than 8 MB as float16, the page shows both runs
        as they were, and says why. The study that is open stands at the end as a picture.

        Args:
            path: where to; an existing file is replaced.
            weights: whether the page may hold the model's weights; False keeps them out of it, and
                the page shows the runs as they were.

        Returns:
            The path.
        """
        path = Path(path)
        made = page_of(self.session, **self.seen(), weights=weights)
        path.write_text(made, encoding="utf-8")
        return path

    def seen(self) -> dict[str, Any]:
        """What a page of it shows first."""
        return self.gates.seen() | self.table.seen() | {"study": self.studies.settled()}

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        measured = self.table.still() if self.table.measured else ""
        lines = found(self.session)
        about = compose(f"<pre>{escape(lines)}</pre>") if lines else ""
        return about + self.gates.still() + measured + self.studies.still()

    # what a change does

    def _on_run(self) -> None:
        session = self.session
        if self.layer.options != tuple(session.baseline):
            self.layer.options = tuple(session.baseline)
        self.row.max = len(session.before.h) - 1
        for control in (self.row, self.pick):
            control.layout.display = None if self.row.max else "none"
        if not self.row.max:
            self.pick.value = False
        with torch.no_grad():
            residual = session.now.residual
        _, _, units = session.before.shape
        equation = escape(session.now.cell.equation)
        apart = f"max |{equation} − h|" if isinstance(session.now.cell, RecurrentCell) else equation
        self._form.value = _form(session)
        self._form.layout.display = None if self._form.value else "none"
        size = (
            f"{say_n('{n} unit', '{n} units', units)} × "
            f"{say_n('{n} step', '{n} steps', session.steps)}"
        )
        exact = say("{apart}: how exactly the gates explain the states", apart=apart)
        off = say("residual {residual}", residual=f"{residual:.0e}")
        took = say("last run {ms} ms", ms=f"{session.seconds * 1e3:.0f}")
        self._about.value = (
            f'<span class="grulens-quiet">{size} · <span title="{exact}">{off}</span> · '
            f"{took}</span>"
        )

    def _on_pick(self) -> None:
        opened = self.pick.value
        if opened and self.rows is None:
            self.rows = RowTable(self.session)
            self.rows.join()
            self._rows.children = (self.rows,)
        self._rows.layout.display = None if opened else "none"
        if self.rows is not None:
            (self.rows.wake if opened else self.rows.sleep)()

    def _on_study(self) -> None:
        desk = self.gates.desk
        (desk.remove_class if self.studies.shown == NONE else desk.add_class)("grulens-studying")

    def _on_excerpt(self) -> None:
        excerpt = self.session.excerpt
        self._part.value = "" if excerpt is None else quiet(excerpt.words(say))
        self._part.layout.display = None if excerpt is not None else "none"

    def _on_text(self, _: Any) -> None:
        text, typed = self.session.text, self.text.value
        # half a surrogate pair is seen as the replacement character, and stays what it was
        self.session.set_input(text if typed == valid(text) else typed)


def _form(session: Session) -> str:
    """The equation of an observed cell; a click opens where in the code it was found.

    Of any cell, its note: what the model does to its state between two calls, and which steps it
    left out.
    """
    layer = session.before
    note = f'<div class="grulens-note">{escape(layer.note)}</div>' if layer.note else ""
    if not isinstance(layer, ObservedLayer):
        return note
    return (
        f"<details><summary>{say('observed:')} <code>{escape(layer.cell.equation)}</code></summary>"
        f'<pre class="grulens-lines">{escape(found(session))}</pre></details>{note}'
    )


def _closed(parts: Sequence[Closed]) -> str:
    """What stands in no list of layers, and why: one line, which opens."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(parts))
    count = say("{n} not opened", n=len(parts))
    return (
        f'<details class="grulens-quiet grulens-closed"><summary>{count}</summary>'
        f"<ul>{items}</ul></details>"
    )
