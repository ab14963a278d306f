"""The ways of giving credit that a screen offers, and the number that is credited.

A method is one function; a list of them is what a screen's menu shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from grulens.errors import ReadoutError
from grulens.models.observed import ObservedLayer
from grulens.probing.credit.credit import Credit
from grulens.probing.credit.gradients import input_x_gradient, integrated_gradients
from grulens.probing.credit.relevance import layerwise_relevance
from grulens.probing.credit.target import FINAL
from grulens.probing.phrases.credit import contextual_credit
from grulens.probing.readout.head import head_of
from grulens.widgets.session.session import Session
from grulens.widgets.session.unavailable import advised
from grulens.words import message

#: Called with how many more steps of the computation are done; what it raises ends it.
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Method:
    """A way of giving credit.

    Attributes:
        find: from the session, a step of its output, a class and a `Progress` to the credit of all
            rows. It calls the last one between two runs, with no lock held, and catches nothing
            that this raises: nobody wants the answer any more.
        of_readout: whether the score is the session's readout of the model with the edits; else it
            is a logit of the model's own linear readout, without the edits.
    """

    find: Callable[[Session, int, int, Progress], Credit]
    of_readout: bool = True


def score_of(session: Session, step: int, klass: int) -> Callable[[Any], Tensor]:
    """The session's readout at a step and class, for every row (batch,), in its graph."""
    batch, steps, _ = session.before.shape

    def score(output: Any) -> Tensor:
        values = session.answers.rows(output, batch, steps)
        return values[:, min(step, values.shape[1] - 1), klass]

    return score


def credited(session: Session) -> str | None:
    """Whose input is credited: the layer's, or the model's own where the layer was observed."""
    return None if isinstance(session.now, ObservedLayer) else session.layer


def _integrated(session: Session, step: int, klass: int, progress: Progress) -> Credit:
    return integrated_gradients(
        session.model, readout=score_of(session, step, klass), input_of=credited(session),
        edits=session.on, progress=progress, call=session.call, inputs=session.given,
    )  # fmt: skip


def _times_gradient(session: Session, step: int, klass: int, progress: Progress) -> Credit:
    return input_x_gradient(
        session.model, readout=score_of(session, step, klass), input_of=credited(session),
        edits=session.on, call=session.call, inputs=session.given,
    )  # fmt: skip


def _of_head(method: Callable[..., Credit]) -> Callable[[Session, int, int, Progress], Credit]:
    """A method that takes the linear readout itself apart, for the class of that number."""

    def find(session: Session, step: int, klass: int, progress: Progress) -> Credit:
        run: dict[str, Any] = {"call": session.call, "inputs": session.given}
        answers = session.answer_before.values
        with advised(session):
            head = head_of(session.model, **run)
        steps = session.baseline[head.layer].shape[1]
        place: int | str = FINAL if len(answers) == 1 < steps else step
        if len(head.weight) != answers.shape[1]:
            raise ReadoutError(
                f"{head!r} is what this method takes apart, and the session's readout has "
                f"{answers.shape[1]} classes: choose integrated gradients, or input × gradient"
            )
        return method(session.model, target=klass, step=place, head=head, **run)

    return find


#: What a screen offers, by name, in the order of its menu.
METHODS: Final[dict[str, Method]] = {
    message("integrated gradients"): Method(_integrated),
    message("input × gradient"): Method(_times_gradient),
    message("relevance (LRP)"): Method(_of_head(layerwise_relevance), of_readout=False),
    message("contextual decomposition"): Method(_of_head(contextual_credit), of_readout=False),
}
