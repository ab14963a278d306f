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
from grulens.widgets.session.advice import advised
from grulens.widgets.session.session import Session

Told = Callable[[int], object]


@dataclass(frozen=True)
class Method:
    """A way of giving credit.

    Attributes:
        find: from the session, a step of its output, a class, and a function to be called between
            two turns, with no lock held, to the credit of all rows. What that function raises is
            to be let through: nobody wants the answer any more.
        of_readout: whether what is credited is the session's readout of the model with the edits;
            else it is a logit of the model's own linear readout, without the edits.
    """

    find: Callable[[Session, int, int, Told], Credit]
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


def _integrated(session: Session, step: int, klass: int, told: Told) -> Credit:
    return integrated_gradients(
        session.model, readout=score_of(session, step, klass), input_of=credited(session),
        edits=session.on, progress=told, call=session.call, inputs=session.given,
    )  # fmt: skip


def _times_gradient(session: Session, step: int, klass: int, told: Told) -> Credit:
    return input_x_gradient(
        session.model, readout=score_of(session, step, klass), input_of=credited(session),
        edits=session.on, call=session.call, inputs=session.given,
    )  # fmt: skip


def _of_head(method: Callable[..., Credit]) -> Callable[[Session, int, int, Told], Credit]:
    """A method that takes the linear readout itself apart, for the class of that number."""

    def find(session: Session, step: int, klass: int, told: Told) -> Credit:
        run: dict[str, Any] = {"call": session.call, "inputs": session.given}
        answers = session.answer_before.values
        with advised(session):
            head = head_of(session.model, **run)
        steps = session.baseline[head.layer].shape[1]
        place: int | str = FINAL if len(answers) == 1 < steps else step
        if len(head.weight) != answers.shape[1]:
            raise ReadoutError(
                f"{head!r} is what this method takes apart, and the session's readout has "
                f"{answers.shape[1]} classes: look at it by gradients"
            )
        return method(session.model, target=klass, step=place, head=head, **run)

    return find


#: What a screen offers, by name, in the order of its menu.
METHODS: Final[dict[str, Method]] = {
    "integrated gradients": Method(_integrated),
    "input × gradient": Method(_times_gradient),
    "relevance (LRP)": Method(_of_head(layerwise_relevance), of_readout=False),
    "contextual decomposition": Method(_of_head(contextual_credit), of_readout=False),
}
