"""What the calls of a layer were given for their state, beside what the call before had returned.

A decoder calls its cell step by step, and may change the state in between: by a mask it goes on
with the state from before a call, at a done flag with a first one, or with one of its own making.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

ROUNDING = 16
"""How many times the spacing of numbers a state that is computed again may be off."""


class Given(NamedTuple):
    """What one call was given, row by row.

    Attributes:
        begin: the step at which the call before began.
        stop: the step at which this one begins.
        next: which rows were given the state that the call before returned.
        again: which others were given the state that the call before was given too.
        first: which others were given zeros, or the state of the first call; some may be both.
    """

    begin: int
    stop: int
    next: Bool[Tensor, " batch"]
    again: Bool[Tensor, " batch"]
    first: Bool[Tensor, " batch"]


class Handing:
    r"""Which states the calls of a layer were given.

    Args:
        calls: the first step of each call that is looked at, and the step behind its last one, with
            which the next call begins.
        before: the state before each step (batch, time, state).
        after: the state after it.
        exact: how many numbers of a state after a step stand there as the model had them, the first
            ones; what a cell keeps beside its output is computed again, and is the same to
            rounding. None is all.

    Attributes:
        given: what each call but the first was given.

    >>> before = torch.tensor([[[0.0], [1.0], [1.0], [0.0]]])
    >>> after = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    >>> print(Handing([(0, 1), (1, 2), (2, 3)], before, after).words().replace(", ", "\n"))
    of the 3 states that its calls were given
    1 is the one from before the last call again (that call wrote nothing into later states)
    and 1 is zero or that of the first call
    """

    def __init__(
        self,
        calls: Sequence[tuple[int, int]],
        before: Tensor,
        after: Tensor,
        exact: int | None = None,
    ) -> None:
        self._calls, self._before, self._after = tuple(calls), before, after
        self._exact = after.shape[2] if exact is None else exact

    @cached_property
    def given(self) -> tuple[Given, ...]:
        before, after = self._before.detach(), self._after.detach()
        found = []
        for begin, stop in self._calls:
            now = before[:, stop]
            on = self._is_handed_on(now, after[:, stop - 1])
            first = (now == before[:, 0]).all(1) | (now == 0).all(1)
            again = (now == before[:, begin]).all(1)
            found.append(Given(begin, stop, on, again & ~on, first & ~on))
        return tuple(found)

    def _is_handed_on(self, now: Tensor, last: Tensor) -> Tensor:
        same, beside = now == last, now[:, self._exact :]
        if beside.shape[1]:
            least = ROUNDING * torch.finfo(now.dtype).eps * beside.abs().clamp(min=1)
            same[:, self._exact :] = (beside - last[:, self._exact :]).abs() <= least
        return same.all(1)

    def words(self, rows: Tensor | None = None) -> str:
        """What was changed between the calls, in words; "" if nothing was.

        Calls that all begin with a first state are runs of their own, and nothing is said.

        Args:
            rows: which rows count (batch,), bool; None is all.
        """
        if not self.given:
            return ""
        next_, again, first = (torch.stack(part) for part in [*zip(*self.given, strict=True)][2:])
        if rows is not None:
            next_, again, first = (part[:, rows.to(part.device)] for part in (next_, again, first))
        count, on = next_.numel(), int(next_.sum())
        if on == count or bool(first.all()):
            return ""
        repeated, begun = int((again & ~first).sum()), int(first.sum())
        said = [
            (repeated, "the one from before the last call again (that call wrote nothing into "
                       "later states)"),
            (begun, "zero or that of the first call"),
            (count - on - repeated - begun, "another one, which the model made in between"),
        ]  # fmt: skip
        parts = [f"{n} {'is' if n == 1 else 'are'} {text}" for n, text in said if n]
        listed = ", and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
        return f"of the {count} states that its calls were given, {listed}"
