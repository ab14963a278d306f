"""A callback's error must be seen: a front end drops what a widget callback raises or prints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

P = ParamSpec("P")
Show = Callable[[Exception], object]
Clear = Callable[[], object]


def guarded(fn: Callable[P, Any], show: Show, clear: Clear | None = None) -> Callable[P, None]:
    """`fn`, with its errors shown in the widget instead of lost, and cleared by its next success.

    Args:
        fn: the callback; its result is dropped.
        show: called with what `fn` raised.
        clear: called after `fn` succeeded.

    >>> def choose(unit):
    ...     if unit > 7:
    ...         raise ValueError(f"no unit {unit}")
    >>> choose = guarded(choose, show=print, clear=lambda: print("fine"))
    >>> choose(9), choose(3)
    no unit 9
    fine
    (None, None)
    """

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            fn(*args, **kwargs)
        except Exception as error:
            show(error)
        else:
            if clear is not None:
                clear()

    return call
