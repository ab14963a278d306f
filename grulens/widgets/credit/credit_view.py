"""Credit for one answer of a session, found point by point and drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from grulens.probing.credit.credit import Credit
from grulens.views.credit.waterfall import number
from grulens.views.figure.canvas import Positions
from grulens.widgets.credit.figures import CreditFigure
from grulens.widgets.credit.methods import METHODS
from grulens.widgets.credit.target import Target
from grulens.widgets.credit.view import Overtaken, Request, View
from grulens.widgets.session.session import Session

#: Others wait for the model's lock while a run is made; a pause lets one of them have it.
PAUSE: Final = 0.002
HINT: Final = "Tap or drag to select steps; orange is the step whose answer is explained."
ELSEWHERE: Final = (
    "This method explains {}, the layer that the readout reads, by its own steps; the layer shown "
    "is {}."
)
INPUT: Final = (
    "This is credit of {}, which the model itself is given: what an observed layer reads, only its "
    "module knows."
)
QUANTITY: Final = {"logits": "logit of ", "probability": "probability of ", "value": ""}


class CreditView(View):
    """The bars of the credit, and the ledger that adds up to the score."""

    found: Credit | None
    figure: CreditFigure

    def __init__(self, session: Session, target: Target) -> None:
        super().__init__(session, target, CreditFigure())
        self.figure.bars.on_times(self._on_times)

    @property
    def steps(self) -> int:
        """How many steps can be chosen: those of the output."""
        session = self.session
        return session.now.shape[1] if session.unread else len(session.answer_now.values)

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
                mask=mask if stepwise else None, title=f"{found.method} · {found.layer}",
            )  # fmt: skip
            over_time = self.steps == found.inputs.shape[1]
            self.figure.bars.mark(request.step if over_time else None)
            self.select()
            if found.layer not in session.baseline:
                return self._words(found, request), INPUT.format(found.layer)
            if not self._elsewhere:
                return self._words(found, request), HINT
            return self._words(found, request), ELSEWHERE.format(found.layer, session.layer)

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
        what = QUANTITY[scale] + self.target.name(request.klass)
        where = f" at step {request.step}" if self.steps > 1 else ""
        score = number(float(found.score[request.row]))
        parts = [f"{part} {number(v)}" for part, v in found.ledger(request.row).items()]
        edits = ""
        if session.on:
            edits = f"; of the model {'with' if of_readout else 'without'} the edits"
        return f"{what}{where}: {score} = {' + '.join(parts)}{edits}"
