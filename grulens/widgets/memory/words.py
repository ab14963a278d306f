"""The numbers of gate attention and of time scales as a person says them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from grulens.durations import steps
from grulens.probing.memory.timescales import Timescales
from grulens.views.figure.tokens import number, visible_text
from grulens.words import message, say

#: Half of a state is half within what float32 can add up.
SLACK = 1e-5
NO_NUMBERS: Final = message("What {state} holds of earlier steps is infinite or no number (NaN).")
#: So many units are told one by one.
FEW = 4


def is_shared(weights: Float[np.ndarray, "*shape"]) -> bool:
    """Whether weights can be shares: none is under 0 or over 1. NaN says nothing of the others.

    >>> is_shared(np.array([0.25, np.nan])), is_shared(np.array([2.0, -1]))
    (True, False)
    """
    return not ((weights <= -SLACK) | (weights >= 1 + SLACK)).any()


def shares(
    weights: Float[np.ndarray, " key"],
    initial: float,
    *,
    at: int,
    past: Int[np.ndarray, " 2"],
    tokens: Sequence[object] | None = None,
    over: str = message("all units"),
    name: str = "",
) -> str:
    """How far back half of a state reaches, and what of it is h_0.

    Args:
        weights: (key,), summing to 1 with `initial`.
        initial: the share of h_0.
        at: the query.
        past: (2,), first and last key of its past.
        tokens: (key,), what to call each step.
        over: which units the weights are the mean of.
        name: not said.

    >>> shares(np.array([0.125, 0.25, 0.5]), 0.125, at=2, past=np.array([0, 2]), tokens="abc")
    'Half of the state after step 2 (c) was written in the last step; 12.5% is h_0 (all units).'
    """
    state, over = _state(tokens, at), say(over)
    if past[1] < past[0]:
        return say("Step {step} is padding in this row.", step=at)
    every = np.append(weights, initial)
    if not np.isfinite(every).all():
        return say(NO_NUMBERS, state=state)
    if not is_shared(every):
        return say(
            "An edit takes a gate out of 0 to 1: what {state} holds of earlier steps grows on the "
            "way, the weights lie between {low} and {high}, and are no shares ({over}).",
            state=state, low=number(weights.min(), ".3g", "+"),
            high=number(weights.max(), ".3g", "+"), over=over,
        )  # fmt: skip
    if initial > 0.5:
        return say("More than half of {state} is h_0: {share} ({over}).", state=state,
                   share=f"{initial:.1%}", over=over)  # fmt: skip
    keys = range(past[0], past[1] + 1)
    # a reverse layer reads from the far end of its past towards the query
    newest = keys if past[0] == at and past[1] != at else reversed(keys)
    held = np.cumsum(weights[list(newest)].astype(np.float64))
    count = int(np.argmax(held >= 0.5 - SLACK)) + 1
    given = {"state": state, "share": f"{initial:.1%}", "over": over}
    if count == 1:
        return say("Half of {state} was written in the last step; {share} is h_0 ({over}).",
                   **given)  # fmt: skip
    return say(
        "Half of {state} was written within the last {count} steps; {share} is h_0 ({over}).",
        count=count, **given,
    )  # fmt: skip


def along(
    adds: Float[np.ndarray, " key"],
    initial: float,
    *,
    at: int,
    past: Int[np.ndarray, " 2"],
    tokens: Sequence[object] | None = None,
    over: str = message("all units"),
    name: str = "",
) -> str:
    """How far a state lies along a direction, and which steps brought it there.

    >>> along(np.array([2.0, -0.5]), 0.25, at=1, past=np.array([0, 1]), name="toward x")
    'The state after step 1 lies +1.75 toward x (all units): +2 from step 0, −0.5 from step 1, \
+0.25 from h_0.'
    """
    if past[1] < past[0]:
        return say("Step {step} is padding in this row.", step=at)
    total = float(adds.sum(dtype=np.float64)) + initial
    if not math.isfinite(total):
        return say(NO_NUMBERS, state=_state(tokens, at))
    strongest = dict.fromkeys((int(adds.argmax()), int(adds.argmin())))
    parts = [
        say(
            "{amount} from step {step}{token}",
            amount=number(adds[place], ".3g", "+"),
            step=place,
            token=_token(tokens, place),
        )
        for place in strongest
        if adds[place]
    ]
    parts.append(
        say("{amount} from h_0", amount=number(initial, ".3g", "+"))
        if initial
        else say("nothing from h_0")
    )
    return say(
        "{state} lies {amount} {name} ({over}): {parts}.", state=_begun(tokens, at),
        amount=number(total, ".3g", "+"), name=name, over=say(over), parts=say(", ").join(parts),
    )  # fmt: skip


def felt(
    gains: Float[np.ndarray, " key"],
    initial: float,
    *,
    at: int,
    past: Int[np.ndarray, " 2"],
    tokens: Sequence[object] | None = None,
) -> str:
    """How far back a change of a state would still be felt.

    Args:
        gains: (key,), 1 at the state itself.
        initial: the gain of h_0; NaN where it is not known.
        at: the query.
        past: (2,), first and last key of its past.
        tokens: (key,), what to call each step.

    >>> felt(np.array([0.001, 0.5, 1.0]), 0.0, at=2, past=np.array([0, 2]), tokens="abc")
    'The state after step 2 (c) feels a change of the state before it by 0.5; less than 1% of one \
made 2 steps before or earlier; h_0 by 0.'
    """
    if past[1] < past[0]:
        return say("Step {step} is padding in this row.", step=at)
    state = _begun(tokens, at)
    by = "" if np.isnan(initial) else f"{initial:.2g}"
    keys = np.arange(past[0], past[1] + 1)
    # a reverse layer reads from the far end of its past towards the query
    back = gains[keys if past[0] == at else keys[::-1]]
    if not np.isfinite(back).all():
        return say(NO_NUMBERS, state=_state(tokens, at))
    if len(back) == 1:
        if not by:
            return say("{state} has nothing before it but h_0, felt not known how much.",
                       state=state)  # fmt: skip
        return say("{state} has nothing before it but h_0, felt by {gain}.", state=state, gain=by)
    text = say("{state} feels a change of the state before it by {gain}; ", state=state,
               gain=f"{float(back[1]):.2g}")  # fmt: skip
    strong = np.flatnonzero(back >= 0.01)
    first = int(strong[-1]) + 1
    if first < len(back):
        text += say("less than 1% of one made {steps} before or earlier; ",
                    steps=steps(float(first)))  # fmt: skip
    else:
        text += say("at least 1% of one made {steps} before; ", steps=steps(len(back) - 1.0))
    return text + (say("h_0 by {gain}.", gain=by) if by else say("h_0 not known how much."))


def lives(found: Timescales, units: Sequence[int], noun: str = "unit") -> str:
    """Half-lives and saturation of the selected units, or of all.

    Args:
        found: time scales.
        units: the selected ones.
        noun: what they are.

    >>> import torch
    >>> from grulens import record
    >>> from grulens.probing.memory.timescales import timescales
    >>> rnn = torch.nn.GRU(1, 1).requires_grad_(False)
    >>> _ = [p.zero_() for p in rnn.parameters()]
    >>> lives(timescales(record(rnn, torch.zeros(4, 1, 1))), (0,))
    'Half of the state is gone: unit 0 after 1 step. Over 4 steps, z is under 0.1 for 0% and \
over 0.9 for 0% of the time, r for 0% and 0%.'
    """
    chosen = list(units) or list(range(len(found)))
    known = found.half_life[chosen]
    if len(chosen) <= FEW:
        each = (
            say("{noun} {number} after {steps}", noun=say(noun), number=u, steps=steps(float(k)))
            for u, k in zip(chosen, known, strict=True)
        )
        life = say("Half of the state is gone: {each}", each=say(", ").join(each))
    else:
        middle = steps(float(known.quantile(0.5, interpolation="higher")))
        longest = chosen[int(known.nan_to_num(nan=-1.0, posinf=math.inf).argmax())]
        life = say(
            "Half of a state is gone after {middle} in the middle one of {n} {noun}s, after "
            "{quickest} in the quickest and {slowest} in the slowest, {noun} {longest}",
            middle=middle, n=len(chosen), noun=say(noun), quickest=steps(float(known.min())),
            slowest=steps(float(known.max())), longest=longest,
        )  # fmt: skip
    # what keeps the memory first
    gates = [one.name for one in sorted(found.gates, key=lambda one: one.role != "keep")]
    ends = [
        [f"{float(found.shares[f'{gate}_{end}'][chosen].mean()):.0%}" for end in ("low", "high")]
        for gate in gates
    ]
    if not gates:
        return say("{life}. {steps} steps were counted.", life=life, steps=found.steps)
    (shut, open_), *others = ends
    rest = [
        say(", {gate} for {shut} and {open}", gate=g, shut=s, open=o)
        for g, (s, o) in zip(gates[1:], others, strict=True)
    ]
    return say(
        "{life}. Over {steps} steps, {gate} is under {low} for {shut} and over {high} for {open} "
        "of the time{rest}.",
        life=life, steps=found.steps, gate=gates[0], low=f"{found.low:g}", shut=shut,
        high=f"{found.high:g}", open=open_, rest="".join(rest),
    )  # fmt: skip


def _state(tokens: Sequence[object] | None, at: int) -> str:
    """The state after a step, inside a sentence."""
    return say("the state after step {step}{token}", step=at, token=_token(tokens, at))


def _begun(tokens: Sequence[object] | None, at: int) -> str:
    """The same where a sentence begins."""
    return say("The state after step {step}{token}", step=at, token=_token(tokens, at))


def _token(tokens: Sequence[object] | None, at: int) -> str:
    return "" if tokens is None else say(" ({token})", token=visible_text(tokens[at]))
