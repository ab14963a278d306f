"""The logit lens of a session's layer: what the model would answer at every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from grulens.models.restore.standing import Standing
from grulens.probing.credit.logit_lens import LogitLens, logit_lens
from grulens.probing.readout.head import Head, head_of
from grulens.views.figure.raster import own_steps
from grulens.views.figure.tokens import number, visible_name
from grulens.widgets.credit.figures import LensFigure
from grulens.widgets.credit.target import Target
from grulens.widgets.credit.view import Overtaken, Request, View
from grulens.widgets.session.display_names import unit_name
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import advised
from grulens.words import message, say

HINT: Final = message("Tap a step to look at it.")


class LogitLensView(View):
    """The lines of a few classes, and the shares of units at one step."""

    found: LogitLens | None
    figure: LensFigure

    def __init__(self, session: Session, target: Target) -> None:
        super().__init__(session, target, LensFigure())
        self._of: Any = None
        self._heads: dict[str, Head] = {}
        self._standing: Standing | None = None
        self.figure.on_step(lambda step: setattr(session, "step", step))

    @property
    def steps(self) -> int:
        """How many steps can be chosen: the row's own of the layer."""
        return own_steps(self.session.now.mask[self.session.row].cpu().numpy())

    def show(self, request: Request, wanted: Callable[[], bool]) -> tuple[str, str]:
        """Read the states with the readout, and draw that; see `View.show`.

        Raises:
            ReadoutError: no linear readout reads the layer.
        """
        with self.picture.batch():
            if not wanted():
                raise Overtaken
            lens = self._find(request)
            classes = lens.logits.shape[2]
            names = partial(self.session.answers.names, classes)
            best = int(lens.top(request.step, 1)[0][request.row, 0])
            klass = request.klass if self.target.classes == classes else best
            session = self.session
            values = session.unread is None and session.answer_now.scale == "value"
            probability = classes > 1 and not values
            self.figure.update(
                lens, request.row, request.step, klass, names=names, tokens=session.tokens,
                unit_name=partial(unit_name, session.before.cell), probability=probability,
            )  # fmt: skip
            missing = (
                "" if lens.states_only
                else say("; {head} reads other features too, left out here", head=lens.head)
            )  # fmt: skip
            if not lens.mask[request.row, request.step]:
                return say("Step {step} is padding in this row.", step=request.step), say(HINT)
            if probability:
                value = number(float(lens.probability[request.row, request.step, best]), ".3g")
                text = say(
                    "after step {step} the likeliest is “{name}”, probability {value}",
                    step=request.step, name=visible_name(names([best])[0]), value=value,
                )  # fmt: skip
            else:
                value = number(float(lens.logits[request.row, request.step, klass]), ".3g")
                name = say("output")
                if classes != 1:
                    name = say("“{name}”", name=visible_name(names([klass])[0]))
                text = say("after step {step} the value of {name} is {value}", step=request.step,
                           name=name, value=value)  # fmt: skip
            return text + missing, say(HINT)

    def _find(self, request: Request) -> LogitLens:
        session = self.session
        if self.found is None or self._of != (session.edited, request.layer):
            self.found = None
            if self._standing is not session.standing:
                self._heads, self._standing = {}, session.standing
            run: dict[str, Any] = {"call": session.call, "inputs": session.given}
            with session.studying(), advised(session):
                head = self._heads.get(request.layer)
                if head is None:
                    head = head_of(session.model, layer=request.layer, **run)
                self.found = logit_lens(
                    session.model, layer=request.layer, head=head, edits=session.on, **run
                )
            self._heads[request.layer], self._of = head, (session.edited, request.layer)
        return self.found
