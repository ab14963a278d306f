"""The answer at the present step in one line, for where its figure is out of sight."""

from __future__ import annotations

from grulens.views.figure.tokens import number, visible_name
from grulens.widgets.session.session import Session
from grulens.words import say


def answer_line(session: Session) -> str:
    """What the model said at the present step and says now; "" where no answer can be read.

    >>> import torch
    >>> session = Session(torch.nn.GRU(3, 2, batch_first=True), torch.ones(1, 4, 3),
    ...                   readout=lambda output: output[0][..., 0] * 0 + 0.25, scale="value")
    >>> answer_line(session)
    'output 0.25 → 0.25'
    """
    if session.unread:
        return ""
    before = session.answer_before
    step = min(session.step, len(before.values) - 1)
    names, *both = session.top(step)
    was, now = ([float(one) for one in values] for values in both)
    if before.scale == "value":
        return f"{visible_name(names[0])} {number(was[0], '.3g')} → {number(now[0], '.3g')}"
    said = f"{visible_name(names[0])} {_percent(was[0])} → {_percent(now[0])} %"
    if not (first := now.index(max(now))):
        return said
    return say("{said}, now {name} {share} %", said=said, name=visible_name(names[first]),
               share=_percent(now[first]))  # fmt: skip


def _percent(share: float) -> str:
    """A share in percent; what is likely is never said to be impossible."""
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"
