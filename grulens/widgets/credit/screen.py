"""Which steps an answer is owed to, and what the model would have answered at every other one.

look at [credit | logit lens]  by [integrated gradients ▾]  answer [the likeliest ▾]  at step [17]
logit of “)” at step 17: 3.21 = inputs 2.90 + h_0 0 + bias 0.31 + gap 0.0013
┌ a bar a token, the tokens   ┐      ┌ a line for each of the likeliest classes ┐
└ the ledger: what adds up    ┘  or  └ what each unit adds at one step          ┘
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

import ipywidgets as W
import traitlets as tl
from torch import nn

from grulens.errors import CellError, GrulensError, NoAnswerError, ReadoutError
from grulens.models.observed import ObservedLayer
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.logit_lens import LogitLens
from grulens.widgets.credit.credit_view import CreditView
from grulens.widgets.credit.logit_lens import LogitLensView
from grulens.widgets.credit.methods import METHODS
from grulens.widgets.credit.target import Target
from grulens.widgets.credit.view import Overtaken, Request, View
from grulens.widgets.session.controls import choice, row
from grulens.widgets.session.panel import Panel
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import no_head
from grulens.words import message, say

CREDIT: Final = message("credit")
LENS: Final = message("logit lens")


class CreditBars(Panel):
    """Credit for an answer to the steps of the input, and a logit lens over time.

    Both are computed for the model with the edits that are on; where a method does not apply, the
    status line says why. They are computed in the background, and a newer request ends an older
    one.

    Args:
        model: the model, or a `Session` to share.
        *args: the model's own arguments.
        **options: as `Session`.

    Attributes:
        view: "credit" or "logit lens".
        method: a key of `grulens.widgets.credit.methods.METHODS`.
        target: the list of classes; `target.klass` is the class that is explained.
        views: the two views by name, each with its result `found`, its `figure` and `picture`.

    >>> import torch
    >>> from grulens.credit import CreditBars
    >>> screen = CreditBars(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> screen.wait(), screen.credit
    (True, Credit('integrated gradients' to 'l0', batch 1, time 6, largest gap ...))
    """

    view: Any = tl.Enum((CREDIT, LENS), CREDIT)
    method: Any = tl.Enum(tuple(METHODS), next(iter(METHODS)))

    def __init__(self, model: nn.Module | Session, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        session = self.session
        self._request: Request | None = None
        self._showing = False
        self._words = ""

        # controls
        word, self._view = choice(
            say("look at"), [(say(one), one) for one in (CREDIT, LENS)],
            [say("what each step adds to an answer"),
             say("what the model would answer at each step")],
        )  # fmt: skip
        W.link((self, "view"), (self._view, "value"))
        self._method = W.Dropdown(
            options=[(say(one), one) for one in METHODS], description=say("by"),
            style={"description_width": "auto"}, layout=W.Layout(width="auto"),
        )  # fmt: skip
        W.link((self, "method"), (self._method, "value"))
        self.target = Target(session)
        self.step = W.BoundedIntText(
            min=0, max=0, description=say("at step"), layout=W.Layout(width="130px"),
            style={"description_width": "auto"},
        )  # fmt: skip
        self._status = W.HTML()

        # layout
        self._credit = CreditView(session, self.target)
        self._lens = LogitLensView(session, self.target)
        self.views: dict[str, View] = {CREDIT: self._credit, LENS: self._lens}
        pictures = [view.picture for view in self.views.values()]
        self.fill(
            row(word, self._view, self._method, self.target.control, self.step),
            self._status,
            *pictures,
        )

        for picture in pictures:
            self.settles_with(picture)

        # both ways
        self._finding = self.callbacks.background(self._find, source=self, stop=self._ask_nothing)
        self.step.observe(self.callbacks.guard(self._on_step_box), "value")
        self.target.control.observe(self.callbacks.guard(lambda _: self._on_target()), "value")
        self.follow(self._ask, "edited", "baseline", "layer", "row", "step")
        self.follow(self._credit.select, "times")
        self._credit.select()
        self._show(self.view)
        self._ask()

    @property
    def credit(self) -> Credit | None:
        """The credit shown, or None."""
        return self._credit.found

    @property
    def lens(self) -> LogitLens | None:
        """The logit lens shown, or None."""
        return self._lens.found

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being computed; whether that was reached in time."""
        return self._finding.wait(timeout)

    def sleep(self) -> None:
        """Follow nothing and compute no further while the panel is not seen."""
        super().sleep()
        if not self.wait(0.0):
            self._request = None

    def wake(self) -> None:
        """Follow again, and compute what was left or has changed."""
        super().wake()
        if self._request is None:
            self.callbacks.guard(self._ask)()

    def still(self) -> str:
        """The present state as HTML that needs no kernel and no network."""
        with self.session.lock:
            view = self.views[self.view]
            shown = view.figure.still() if view.found is not None else ""
            return f"<p>{escape(self._words)}</p>{shown}" if shown else super().still()

    # what a change does

    @tl.observe("view", "method")
    def _on_choice(self, _: Any) -> None:
        if hasattr(self, "_finding"):
            self.callbacks.guard(self._ask)()

    def _on_target(self) -> None:
        if not self.target.offering:
            self._ask()

    def _on_step_box(self, change: Any) -> None:
        if not self._showing:
            self.session.step = change["new"]

    def _ask(self) -> None:
        session = self.session
        with session.lock:
            steps = self.views[self.view].steps
            step = min(session.step, steps - 1)
            self._show_controls(step, steps)
            self.target.offer(step)
            self._request = Request(
                self.view, self.method, session.layer, session.row, step, self.target.klass
            )
        self._tell(say("computing …"))
        self._finding.later(self._request)

    def _ask_nothing(self) -> None:
        self._request = None

    def _show_controls(self, step: int, steps: int) -> None:
        self._showing = True
        try:
            self.step.max = steps - 1
            self.step.value = step
        finally:
            self._showing = False
        self.step.layout.display = "none" if steps == 1 else None
        self._method.layout.display = None if self.view == CREDIT else "none"

    # in the background

    def _find(self, request: Request) -> None:
        view, session = self.views[request.view], self.session
        try:
            text = view.show(request, lambda: request is self._request)
        except Overtaken:
            return
        except Exception as error:
            with self.session.lock:
                if request is not self._request:
                    return  # the session changed meanwhile: what failed was no question
                view.found = None
                self._show(request.view)
                if isinstance(error, NoAnswerError):
                    self._tell(say("No credit: there is no answer that it could be given for."))
                    return
                no_lens = isinstance(error, ReadoutError) and request.view == LENS
                self._tell("")
                observed = isinstance(session.now, ObservedLayer)
                missing = isinstance(error, GrulensError if observed else CellError)
                if missing or no_lens or no_head(error):
                    what = (
                        say("credit by {method}", method=say(request.method))
                        if request.view == CREDIT else say(LENS)
                    )  # fmt: skip
                    self._tell(say("No {what}: {why}.", what=what, why=error))
                    return
            raise
        with self.session.lock:
            if request is self._request:
                self._show(request.view)
                self._tell(*text)

    def _show(self, chosen: str) -> None:
        for name, view in self.views.items():
            shown = name == chosen and view.found is not None
            view.picture.layout.display = None if shown else "none"

    def _tell(self, text: str, hint: str = "") -> None:
        self._words = text
        self._status.value = (
            f'<div role="status">{escape(text)}</div>'
            f'<div class="grulens-quiet">{escape(hint)}</div>'
        )
