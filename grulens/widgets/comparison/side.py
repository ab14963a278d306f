"""What a run is compared with: another row, the run without edits, another text, another model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import nn

from grulens.errors import GrulensError
from grulens.models.recording import Recording
from grulens.probing.readout.readout import Answer
from grulens.views.figure.tokens import number, visible_name
from grulens.widgets.session.session import Session
from grulens.words import message, say

PLAIN: Final = message("without the edits")
ROW: Final = message("another row")
TEXT: Final = message("another text")
MODEL: Final = message("another model")


@dataclass(frozen=True, eq=False)
class Side:
    """One row of one run.

    Attributes:
        session: whose run it is, which names its steps and reads its answers.
        run: the run.
        row: the row of it.
        name: what it is called on the screen.
    """

    session: Session
    run: Recording
    row: int
    name: str

    def tokens(self, layer: str) -> list[str] | None:
        """What its steps are called; None where they have numbers."""
        return self.session.tokens_of(layer, self.row)

    def answer(self, layer: str) -> Answer:
        """What it answers.

        Raises:
            NoAnswerError: its output cannot be read.
        """
        batch, steps, _ = self.run[layer].shape
        return self.session.answers.of(self.run, self.row, batch, steps)

    def class_names(self, answer: Answer) -> list[str]:
        """What the classes of its answer are called."""
        classes = answer.values.shape[1]
        return self.session.answers.names(classes, range(classes))


def offered(session: Session) -> list[str]:
    """What the run shown can be compared with, what was made last first."""
    found = [MODEL] if session.other is not None else []
    if session.edited is not session.baseline:
        found.append(PLAIN)
    if len(session.before.h) > 1:
        found.append(ROW)
    if session.coder.encode is not None:
        found.append(TEXT)
    return found


class Beside:
    """Makes what stands beside the run of a session, and keeps it while it holds.

    A text and a model run with the edits of the session, as far as these fit.

    Args:
        session: the session.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._texted: tuple[Any, Session] | None = None
        self._modelled: tuple[Any, Session] | None = None

    def plain(self) -> tuple[Side, Side]:
        """The run shown and the run without edits."""
        session = self.session
        return (
            Side(session, session.edited, session.row, say("with the edits")),
            Side(session, session.baseline, session.row, say("without")),
        )

    def rows(self, other: int) -> tuple[Side, Side]:
        """The row shown and another one."""
        session = self.session
        return (
            Side(session, session.edited, session.row, say("row {numbers}", numbers=session.row)),
            Side(session, session.edited, other, say("row {numbers}", numbers=other)),
        )

    def text(self, text: str) -> tuple[Side, Side]:
        """The input shown and another text."""
        session = self.session
        key = (text, session.standing, session.evaluate, session.call)
        if self._texted is None or not _same(self._texted[0], key):
            self._texted = key, self._like(session.model, text)
        made = self._edited(self._texted[1])
        return (
            Side(session, session.edited, session.row, say("this text")),
            Side(made, made.edited, 0, say("the other text")),
        )

    def model(self) -> tuple[Side, Side]:
        """The model shown and another one, which is given the same input; or another session."""
        session, other = self.session, self.session.other
        names = (say("this model"), say("the other model"))
        if isinstance(other, Session):
            made = other
        else:
            if session.excerpt is not None:
                raise GrulensError(
                    "an excerpt of a corpus begins in the states of this model, which another one "
                    "has not: give another Session, session.other = Session(...)"
                )
            key = (other, session._input, session.evaluate)
            if self._modelled is None or not _same(self._modelled[0], key):
                tokens = session._input.naming.tokens
                self._modelled = key, self._like(other, inputs=session.given, tokens=tokens)
            made = self._edited(self._modelled[1])
        row = min(session.row, len(made.before.h) - 1)
        return (
            Side(session, session.edited, session.row, names[0]),
            Side(made, made.edited, row, names[1]),
        )

    def _like(self, model: nn.Module, *args: Any, **options: Any) -> Session:
        """A session that reads and runs as this one does."""
        session = self.session
        answers, coder = session.answers, session.coder
        made = Session(
            model, *args, readout=answers.readout if answers.given else None, scale=answers.scale,
            labels=session.labels if session._named else None, encode=coder.encode,
            decode=coder.decode, call=session.call, **options,
        )  # fmt: skip
        made.evaluate = session.evaluate
        return made

    def _edited(self, made: Session) -> Session:
        slots = made.fitted(self.session.slots)
        if slots != made.slots:
            made.enforce(slots)
        elif made.look():
            made.run_again()
        return made


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(x is y or (isinstance(x, str | bool) and x == y) for x, y in zip(a, b, strict=True))


def sentence(this: Side, beside: Side, layer: str, places: tuple[int, int], apart: float) -> str:
    """Both answers and how far they are apart, in one sentence.

    Args:
        this: one side.
        beside: the other.
        layer: the layer shown.
        places: which step of each answer.
        apart: how far they are apart: bits, or a difference.
    """
    said, shares, is_value = [], [], False
    for side, place in zip((this, beside), places, strict=True):
        answer = side.answer(layer)
        shown = answer.shown[place]
        is_value = answer.scale == "value"
        best = int(shown.argmax())
        said.append(side.class_names(answer)[best])
        shares.append(
            number(float(shown[best]), ".3g") if is_value else _percent(float(shown[best]))
        )
    if is_value:
        return say(
            "{this}: {said} {share}; {other}: {other_said} {other_share}; {apart} apart",
            this=this.name, said=visible_name(said[0]), share=shares[0], other=beside.name,
            other_said=visible_name(said[1]), other_share=shares[1],
            apart=number(abs(apart), ".3g"),
        )  # fmt: skip
    bits = f"{apart:.2g}"
    if said[0] == said[1]:
        return say(
            "Both say {said}: {this} {share}, {other} {other_share}; {bits} bits apart",
            said=_seen(said[0]), this=this.name, share=shares[0], other=beside.name,
            other_share=shares[1], bits=bits,
        )  # fmt: skip
    return say(
        "{this} says {said}, {share}; {other} says {other_said}, {other_share}; {bits} bits apart",
        this=this.name, said=_seen(said[0]), share=shares[0], other=beside.name,
        other_said=_seen(said[1]), other_share=shares[1], bits=bits,
    )  # fmt: skip


def _seen(name: str) -> str:
    return say("“{name}”", name=visible_name(name))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def top(
    this: Side, beside: Side, layer: str, places: tuple[int, int], most: int = 8
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes that count most in either answer: names, of beside and of this (class,)."""
    shown = [
        side.answer(layer).shown[place]
        for side, place in zip((beside, this), places[::-1], strict=True)
    ]
    names = this.class_names(this.answer(layer))
    best = shown[0].abs().maximum(shown[1].abs()).topk(min(most, len(names))).indices
    best = best[shown[1][best].argsort(descending=True)]
    return [names[i] for i in best.tolist()], shown[0][best].numpy(), shown[1][best].numpy()
