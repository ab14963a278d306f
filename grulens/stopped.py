"""What is said of long work that was stopped before its end.

Ctrl-C ends the work and keeps what is done; the program then goes on with less than it asked for,
and must not do so in silence.
"""

from __future__ import annotations

import warnings

from grulens.errors import StoppedWarning


def stopped(done: int, total: int, noun: str) -> str:
    """That work was stopped, and after how much of it; "" where all of it is done.

    >>> stopped(37, 128, "unit"), stopped(1, 1, "unit")
    ('stopped after 37 of 128 units', '')
    """
    if done == total:
        return ""
    return f"stopped after {done:,} of {total:,} {noun}{'' if total == 1 else 's'}"


def tell(work: str, note: str) -> None:
    """Say at once that work was stopped; `note` is what `stopped` says of it."""
    warnings.warn(f"{work} {note}; what was done by then is kept", StoppedWarning, stacklevel=3)
