"""What every screen has around its controls: a session, an error box, a still picture, an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Final

import anywidget
import ipywidgets as W
import traitlets as tl
from torch import nn

from grulens.errors import GrulensError
from grulens.views.figure.palette import ACCENT
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.jupyter.rerun import RERUN, forget, in_terminal
from grulens.widgets.jupyter.still import Still, publish
from grulens.widgets.session.after_cells import AFTER_CELLS
from grulens.widgets.session.busy import BusyMark
from grulens.widgets.session.callbacks import Callbacks
from grulens.widgets.session.notices import Notices
from grulens.widgets.session.session import Session

#: What of a session the notices are about.
NOTICED: Final = ("changed", "mode", "evaluate", "baseline", "layer")


#: So many signals of a cell have buttons in the colours of their roles.
SIGNALS: Final = 9


class Style(anywidget.AnyWidget):
    """Nothing to see: the style sheet of the panels, and what knows when the kernel is gone."""

    _esm = Path(__file__).with_name("panel.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("panel.css").read_text(encoding="utf-8") + "".join(
        f".grulens-{role}-{place} button:nth-of-type({place}) {{ --grulens-accent: {color}; }}\n"
        for role, color in ACCENT.items()
        for place in range(1, SIGNALS + 1)
    )


class Panel(W.VBox):
    """A screen on a session.

    Args:
        model: the user's model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        session: the session that it shows.
        callbacks: makes the callbacks of its controls, and shows their errors.
        notices: say that the model has changed, its mode, and that an output cannot be read.
    """

    name: ClassVar[str] = "panel"
    #: What can be done with a screen where it cannot be seen.
    elsewhere: ClassVar[str] = (
        "A screen for JupyterLab and Notebook 7. Here: .session.edited is the run it shows, "
        "print(.session.code()) the Python that makes it."
    )

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        self._observed: list[tuple[Callable[[Any], None], tuple[str, ...]]] = []
        self._ties: list[tl.link] = []
        self._asleep = False
        self._missed: dict[Callable[[], object], None] = {}
        self.session = _session(model, args, options)
        self.callbacks = Callbacks()
        self._errors = self.callbacks.box
        super().__init__()
        self._still = Still(self.still)
        self.add_class("grulens")
        self.add_class("grulens-panel")
        self.layout.width = "100%"
        self._style = Style()
        self.notices = Notices(self.session, self.callbacks)
        mark = BusyMark(self)
        self.follow(lambda: mark.show(self.session.busy), "busy")
        self.follow(self.notices.show, *NOTICED)
        AFTER_CELLS.add(self)
        RERUN.replace(self)

    def fill(self, *children: W.Widget) -> None:
        """Set what the screen shows, under its error box."""
        self.children = (self._style, self._errors, self.notices.box, *children)

    def join(self) -> None:
        """Leave the notices and the busy mark to a larger screen that this one is a part of."""
        self.leave("busy")
        self.leave(*NOTICED)
        self.notices.hide()
        AFTER_CELLS.discard(self)

    def look(self) -> None:
        """See whether the model is still what it was in the runs shown."""
        if self.comm is None:  # closed, and shown by the cell that has run: nobody else forgets it
            AFTER_CELLS.discard(self)
            forget(self)
            return
        # of its own: that nothing has changed is no cure for another error
        self.callbacks.guard(self.session.look, source="look")()

    def follow(self, do: Callable[[], None], *traits: str) -> None:
        """Call `do` when one of these traits of the session changes, until the panel is closed."""
        # an error of its own: what else succeeds in answer to the same change is no cure for it
        shown = self.callbacks.guard(do, source=object())

        def changed(_: Any) -> None:
            if self._asleep:
                self._missed[shown] = None
            else:
                shown()

        self.session.observe(changed, traits)
        self._observed.append((changed, traits))

    def leave(self, *traits: str) -> None:
        """Follow these traits of the session no longer."""
        for pair in [pair for pair in self._observed if pair[1] == traits]:
            self.session.unobserve(*pair)
            self._observed.remove(pair)

    def sleep(self) -> None:
        """Follow nothing while the panel is not seen; what changes meanwhile is remembered."""
        self._asleep = True

    def wake(self) -> None:
        """Follow again, and catch up with what has changed."""
        self._asleep = False
        missed, self._missed = self._missed, {}
        for do in missed:
            do()

    def tie(self, trait: str, control: W.Widget) -> None:
        """Keep a trait of the session and a control's value equal, until the panel is closed."""
        self._ties.append(tl.link((self.session, trait), (control, "value")))

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        return f"<p>{escape(repr(self))}</p>"

    def close(self) -> None:
        """Close the panel and all its parts; a second time does nothing."""
        AFTER_CELLS.discard(self)
        for changed, traits in self._observed:
            self.session.unobserve(changed, traits)
        for tie in self._ties:
            tie.unlink()
        self._observed.clear()
        self._ties.clear()
        if hasattr(self, "callbacks"):  # not where the session could not be made
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

    def __repr__(self) -> str:
        if self.comm is None:
            return f"{type(self).__name__}(closed)"
        session = self.session
        edits = f"{sum(slot.on for slot in session.slots)} of {len(session.slots)} edits on"
        name = f"{type(self).__name__}({type(session.model).__name__}, {session.layer}, {edits})"
        return f"{name}\n{self.elsewhere}" if in_terminal() else name


def _session(model: nn.Module | Session, args: Any, options: Any) -> Session:
    """The session that is shared, or a new one."""
    if not isinstance(model, Session):
        return Session(model, *args, **options)
    if args or options:
        given = [*("an input" for _ in args[:1]), *options]
        raise GrulensError(
            f"a Session brings its own input and options, so {', '.join(given)} would do nothing: "
            "give them to Session(...), or use session.set_input(...)"
        )
    return model


def parts_of(widget: W.Widget) -> Iterator[W.Widget]:
    """Everything a widget is made of, the innermost first; ipywidgets forgets layouts and styles.

    What a panel holds and does not show is a part of it too.
    """
    held = vars(widget).values() if isinstance(widget, Panel) else ()
    hidden = [part for part in held if isinstance(part, W.Widget)]
    for child in (*getattr(widget, "children", ()), *hidden):
        if not isinstance(child, Panel):  # which closes its own
            yield from parts_of(child)
        yield child
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, W.Widget):
            yield part
