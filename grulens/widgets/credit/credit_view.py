"""Credit for one answer of a session, found point by point and drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from grulens.probing.credit.credit import Credit
from grulens.views.figure.canvas import Positions
from grulens.views.figure.raster import own_steps
from grulens.views.figure.tokens import number
from grulens.widgets.credit.figures import CreditFigure
from grulens.widgets.credit.methods import METHODS
from grulens.widgets.credit.target import Target
from grulens.widgets.credit.view import Overtaken, Request, View
from grulens.widgets.session.session import Session
from grulens.words import message, say

#: Others wait for the model's lock while a run is made; a pause lets one of them have it.
PAUSE: Final = 0.002
HINT: Final = message("Tap or drag to select steps; orange is the step whose answer is explained.")
ELSEWHERE: Final = message(
    "This method explains {read}, the layer that the readout reads, by its own steps; the layer "
    "shown is {layer}."
)
INPUT: Final = message(
    "This is credit of {input}, which the model itself is given: what an observed layer reads, "
    "only its module knows."
)
#: What is explained, by the scale of the answer: at any step, and at one.
QUANTITY: Final = {
    "logits": (message("logit of {name}"), message("logit of {name} at step {step}")),
    "probability": (
        message("probability of {name}"), message("probability of {name} at step {step}"),
    ),
    "value": (message("{name}"), message("{name} at step {step}")),
}  # fmt: skip


class CreditView(View):
    """The bars of the credit, and the ledger that adds up to the score."""

    found: Credit | None
    figure: CreditFigure

    def __init__(self, session: Session, target: Target) -> None:
        super().__init__(session, target, CreditFigure())
        self.figure.bars.on_times(self._on_times)

    @property
    def steps(self) -> int:
        """How many steps can be chosen: those of the output, without the row's padding."""
        session = self.session
        own = session.answered if self._answers else session.now.mask[session.row].cpu()
        return own_steps(own.numpy())

    @property
    def _answers(self) -> int:
        """At how many steps the output answers; 0 where it cannot be read."""
        return 0 if self.session.unread else len(self.session.answer_now.values)

    def select(self) -> None:
        """Outline the session's selected steps; they are none of another layer than that shown."""
        with self.picture.batch():
            self.figure.bars.select(() if self._elsewhere else self.session.times)

    def show(self, request: Request, wanted: Callable[[], bool]) -> tuple[str, str]:
        """Find the credit, and draw it; see `View.show`."""

        def progress(_: int) -> None:
            if not wanted():
                raise Overtaken
            time.sleep(PAUSE)

        session = self.session
        if session.unread:
            raise session.unread
        with session.studying():
            found = METHODS[request.method].find(session, request.step, request.klass, progress)
        with self.picture.batch():
            if not wanted():
                raise Overtaken
            self.found = found
            # the model's own input has the steps of the layer shown, or none
            layer = found.layer if found.layer in session.baseline else session.layer
            stepwise = found.inputs.shape[1] == session.baseline[layer].shape[1]
            mask = session.baseline[layer].mask[request.row].cpu().numpy()
            self.figure.update(
                found, request.row,
                tokens=session.tokens_of(layer, request.row) if stepwise else None,
                mask=mask if stepwise else None, title=f"{say(found.method)} · {found.layer}",
            )  # fmt: skip
            over_time = self._answers == found.inputs.shape[1]
            self.figure.bars.mark(request.step if over_time else None)
            self.select()
            if found.layer not in session.baseline:
                return self._words(found, request), say(INPUT, input=found.layer)
            if not self._elsewhere:
                return self._words(found, request), say(HINT)
            hint = say(ELSEWHERE, read=found.layer, layer=session.layer)
            return self._words(found, request), hint

    @property
    def _elsewhere(self) -> bool:
        """Whether the credit is for other steps than those of the layer shown."""
        found, session = self.found, self.session
        if found is None:
            return False
        if found.layer not in session.baseline:
            return found.inputs.shape[1] != session.now.shape[1]
        return found.layer != session.layer

    def _on_times(self, times: Positions) -> None:
        if not self._elsewhere:
            self.session.times = times

    def _words(self, found: Credit, request: Request) -> str:
        """Score, parts and gap in numbers."""
        session = self.session
        of_readout = METHODS[request.method].of_readout
        scale = session.answer_now.scale
        if scale == "probability" and not of_readout:
            scale = "logits"  # the readout's own, before a softmax
        alone, at_step = QUANTITY[scale]
        what = say(at_step if self._answers > 1 else alone, name=self.target.name(request.klass),
                   **({"step": request.step} if self._answers > 1 else {}))  # fmt: skip
        score = number(float(found.score[request.row]), ".3g")
        parts = [f"{say(part)} {number(v, '.3g')}" for part, v in found.ledger(request.row).items()]
        edits = ""
        if session.on:
            edits = (
                say("; of the model with the edits") if of_readout
                else say("; of the model without the edits")
            )  # fmt: skip
        return say(
            "{what}: {quantity}", what=what, quantity=f"{score} = {' + '.join(parts)}{edits}"
        )
