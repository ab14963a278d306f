"""What every screen has around its controls: an error box, a still picture, a busy mark, an end."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Final

import anywidget
import ipywidgets as W
import traitlets as tl

from grulens.views.figure.palette import ACCENT
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.jupyter.rerun import RERUN, forget
from grulens.widgets.jupyter.script import script
from grulens.widgets.jupyter.still import Still, publish
from grulens.widgets.session.after_cells import AFTER_CELLS
from grulens.widgets.session.busy import BusyMark, BusyMarks
from grulens.widgets.session.callbacks import Callbacks
from grulens.words import of_script

#: So many signals of a cell have buttons in the colours of their roles.
SIGNALS: Final = 9


class Style(anywidget.AnyWidget):
    """Nothing to see: the style sheet of the panels, and what knows when the kernel is gone."""

    _esm = script(Path(__file__).with_name("panel.js"))
    _css = Path(__file__).with_name("panel.css").read_text(encoding="utf-8") + "".join(
        f".grulens-{role}-{place} button:nth-of-type({place}) {{ --grulens-accent: {color}; }}\n"
        for role, color in ACCENT.items()
        for place in range(1, SIGNALS + 1)
    )

    words = tl.Dict().tag(sync=True)

    def __init__(self) -> None:
        super().__init__(words=of_script(self._esm))

    def tell_busy(self, widget: W.Widget, busy: bool) -> None:
        """Have a screen reader know that a widget is busy, or no longer."""
        if self.comm is not None and widget.comm is not None:
            self.send({"busy": widget.model_id, "on": busy})


class Screen(W.VBox):
    """A widget that a person works in, whatever it shows.

    Attributes:
        callbacks: makes the callbacks of its controls, and shows their errors.
        busy_mark: marks the screen while something goes on.
        busy_marks: marks single controls and parts of it.
    """

    def __init__(self) -> None:
        self.callbacks = Callbacks()
        self._errors = self.callbacks.box
        super().__init__()
        self._still = Still(self.still)
        self.add_class("grulens")
        self.add_class("grulens-panel")
        self.layout.width = "100%"
        self._style = Style()
        self.busy_mark = BusyMark(self)
        self.busy_marks = BusyMarks(self._style.tell_busy)
        AFTER_CELLS.add(self)
        RERUN.replace(self)

    def fill(self, *children: W.Widget) -> None:
        """Set what the screen shows, under its error box."""
        self.children = (self._style, self._errors, *children)

    def look(self) -> None:
        """A cell has run: let go of the screen if it is closed."""
        if self.comm is None:  # closed, and shown by the cell that has run: nobody else forgets it
            AFTER_CELLS.discard(self)
            forget(self)

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        return f"<p>{escape(repr(self))}</p>"

    def close(self) -> None:
        """Close the screen and all its parts; a second time does nothing."""
        AFTER_CELLS.discard(self)
        if hasattr(self, "callbacks"):  # not where the screen could not be made
            self.callbacks.close()
        if self.comm is not None:
            parts = [*parts_of(self)]
            opened = [part.model_id for part in (*parts, self) if part.comm is not None]
            self._style.send({"closing": opened})
            for part in parts:
                part.close()
            super().close()
            forget(self)

    def settles_with(self, view: BokehView) -> None:
        """Bring the still picture up to date whenever this view has come to rest."""
        view.on_settled(self._still.refresh)

    def _ipython_display_(self) -> None:
        if self.comm is None:
            AFTER_CELLS.add(self)  # IPython keeps what a cell shows: after it, it is let go of
            publish({"text/plain": repr(self)}, raw=True)
            return
        self._still.show(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = repr(self)
        data["text/html"] = self.still()
        return bundle


def parts_of(widget: W.Widget) -> Iterator[W.Widget]:
    """Everything a widget is made of, the innermost first; ipywidgets forgets layouts and styles.

    What a screen holds and does not show is a part of it too.
    """
    held = vars(widget).values() if isinstance(widget, Screen) else ()
    hidden = [part for part in held if isinstance(part, W.Widget)]
    for child in (*getattr(widget, "children", ()), *hidden):
        if not isinstance(child, Screen):  # which closes its own
            yield from parts_of(child)
        yield child
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, W.Widget):
            yield part
