"""What every screen on a session has: it follows the session, and ends with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import ipywidgets as W
import traitlets as tl
from torch import nn

from grulens.errors import GrulensError
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.jupyter.rerun import in_terminal
from grulens.widgets.session.after_cells import AFTER_CELLS
from grulens.widgets.session.notices import Notices
from grulens.widgets.session.screen import Screen, parts_of
from grulens.widgets.session.session import Session

#: What of a session the notices are about.
NOTICED: Final = ("changed", "mode", "evaluate", "baseline", "layer")


class Panel(Screen):
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
    #: Whether what it shows is of the run with the edits.
    of_edited: ClassVar[bool] = True
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
        super().__init__()
        self.notices = Notices(self.session, self.callbacks)
        self.follow(lambda: self.busy_mark.show(self.session.busy), "busy")
        self.follow(self.notices.show, *NOTICED)
        self.follow(self._name_files, "edited", "layer", "row")

    def fill(self, *children: W.Widget) -> None:
        """Set what the screen shows, under its error box."""
        super().fill(self.notices.box, *children)
        self._name_files()

    def settles_with(self, view: BokehView) -> None:
        """Bring the still picture up to date whenever this view has come to rest."""
        super().settles_with(view)
        view.about = self.about

    @property
    def about(self) -> str:
        """What is looked at, as the names of saved files begin: model, layer, row, edits."""
        session = self.session
        row = f"row {session.row}" if len(session.before.h) > 1 else ""
        edits = "edited" if session.edited is not session.baseline and self.of_edited else ""
        words = (type(session.model).__name__, session.layer, row, edits)
        return " ".join(word for word in words if word)

    def join(self) -> None:
        """Leave the notices and the busy mark to a larger screen that this one is a part of."""
        self.leave("busy")
        self.leave(*NOTICED)
        self.notices.hide()
        AFTER_CELLS.discard(self)

    def look(self) -> None:
        """See whether the model is still what it was in the runs shown."""
        if self.comm is None:
            super().look()
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

    def _name_files(self) -> None:
        for part in parts_of(self):
            if isinstance(part, BokehView):
                part.about = self.about

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

    def close(self) -> None:
        """Close the panel and all its parts; a second time does nothing."""
        for changed, traits in self._observed:
            self.session.unobserve(changed, traits)
        for tie in self._ties:
            tie.unlink()
        self._observed.clear()
        self._ties.clear()
        super().close()

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
