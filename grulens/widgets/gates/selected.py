"""What is selected, in numbers: some units at some steps of one signal, as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from grulens.widgets.session.seen import Seen
from grulens.widgets.session.session import Session


def selected(session: Session, signal: str, *, difference: bool = False) -> dict[str, Any]:
    """The selected units at the selected steps, of the row shown; where none is, all of them.

    Args:
        session: what is looked at.
        signal: the name of the signal.
        difference: of the edited run less the one without edits.

    Returns:
        "step"; "token", if steps have names; "run" and "signal", the same in each line; then a
        column of numbers for each unit, by its name, as exact as the model's own. A step at which
        the row has ended has no line.

    >>> session = Session(torch.nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    >>> session.units, session.times = (2,), (0, 5)
    >>> found = selected(session, "z")
    >>> [*found], found["step"].tolist(), found["run"], found["unit 2"].dtype.name
    (['step', 'run', 'signal', 'unit 2'], [0, 5], ['baseline', 'baseline'], 'float32')
    """
    with session.lock:
        seen, tokens = Seen(session), session.tokens
        mask = session.before.mask[session.row].tolist()
        steps = [step for step in session.times or range(len(mask)) if mask[step]]
        values = seen.folded(session.now.signal(signal)[session.row])
        run = "baseline" if session.edited is session.baseline else "edited"
        if difference:
            values = values - seen.folded(session.before.signal(signal)[session.row])
            run = "edited minus baseline"
        exact = values if values.dtype == torch.float64 else values.float()
        numbers = exact.cpu().numpy()[steps]
        found: dict[str, Any] = {"step": np.array(steps, np.int64)}
        if tokens is not None:
            found["token"] = [tokens[step] for step in steps]
        found |= {"run": [run] * len(steps), "signal": [signal] * len(steps)}
        units = seen.chosen(session.units) or range(numbers.shape[1])
        return found | {seen.key(unit): numbers[:, unit] for unit in units}
