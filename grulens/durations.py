"""A number of steps in words."""

from __future__ import annotations

import math

from grulens.words import message, say


def steps(value: float, never: str = message("no number of steps")) -> str:
    """A time in steps, to three digits; `never` is what to say of one without an end.

    >>> steps(2.345), steps(1.0), steps(1047.2), steps(2.5e7), steps(math.inf, "never")
    ('2.35 steps', '1 step', '1,050 steps', '2.5e+07 steps', 'never')
    """
    if math.isnan(value):
        return say("not a number")
    if math.isinf(value):
        return say(never)
    text = f"{value:.3g}"
    if 1000 <= value < 1e6:
        text = f"{float(text):,.0f}"
    return say("1 step") if text == "1" else say("{n} steps", n=text)
