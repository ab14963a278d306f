"""How a phrase is said on screen: its text, its number, and the ink that is read on its colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from grulens.views.figure.palette import LEVELS, WHITE_INK
from grulens.views.figure.tokens import number, visible_text
from grulens.words import say


@runtime_checkable
class Phrase(Protocol):
    """What is drawn of a group of tokens; see `grulens.probing.phrases.merging.Group`."""

    @property
    def first(self) -> int:
        """Position of its first token."""

    @property
    def stop(self) -> int:
        """The position after its last one."""

    @property
    def score(self) -> float:
        """What it contributes."""

    @property
    def interaction(self) -> float:
        """What its parts contribute together."""

    @property
    def parts(self) -> tuple[int, ...]:
        """The groups it was made of; () for a token."""

    @property
    def order(self) -> int:
        """When it was made; 0 for a token."""

    @property
    def height(self) -> int:
        """How many groups lie over each other in it."""


def as_score(value: float) -> str:
    """A score as it is shown.

    >>> as_score(-0.4), as_score(-0.0), as_score(0.012), as_score(float("nan"))
    ('−0.40', '0.00', '0.012', 'NaN')
    """
    return number(value, ".2f" if abs(value) >= 0.1 or value == 0 else ".2g")


def ink(score: float, ends: tuple[float, float]) -> str:
    """The colour in which a text is read on the colour of a score."""
    share = (score - ends[0]) / (ends[1] - ends[0])
    code = round(min(1.0, max(0.0, share)) * (LEVELS - 1)) if share == share else 0  # noqa: PLR0124
    return "#FFFFFF" if WHITE_INK["difference"][code] else "#000000"


def words(tokens: Sequence[object] | None, group: Phrase, limit: int = 60) -> str:
    """The text of a group, every character visible; characters without spaces in between.

    >>> from grulens.probing.phrases.merging import Group
    >>> words(["a", " ", "b"], Group(0, 3, 0.0)), words(["not", "good"], Group(0, 2, 0.0))
    ('a␣b', 'not good')
    """
    if tokens is None:
        last = group.stop - 1
        if group.first == last:
            return say("step {numbers}", numbers=last)
        return say("steps {first} to {last}", first=group.first, last=last)
    parts = [
        visible_text(t, limit) for t in tokens[group.first : min(group.stop, group.first + limit)]
    ]
    between = "" if all(len(str(t)) <= 1 or str(t)[0] == " " for t in tokens) else " "
    text = between.join(parts)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe(text: str, group: Phrase, target: str) -> str:
    """What a group does, as a sentence.

    >>> from grulens.probing.phrases.merging import Group
    >>> describe("not good", Group(0, 2, -0.9, -1.4, (0, 1), 1, 1), "+")
    'not good adds −0.90 to +; −1.40 of it only as its two parts are together'
    """
    score, together = as_score(group.score), as_score(group.interaction)
    if not group.order:
        return say("{phrase} adds {score} to {answer}", phrase=text, score=score, answer=target)
    return say(
        "{phrase} adds {score} to {answer}; {together} of it only as its two parts are together",
        phrase=text, score=score, answer=target, together=together,
    )  # fmt: skip
