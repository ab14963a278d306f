"""A callback's error must be seen: a front end drops what a widget callback raises or prints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, ParamSpec

from grulens import errors
from grulens.views.figure.tokens import valid
from grulens.words import ENGLISH, language, message, say

P = ParamSpec("P")
Show = Callable[[Exception], object]
Clear = Callable[[], object]

#: What an error is about, by its class or the nearest above it.
_KINDS: Final[dict[type[BaseException], str]] = {
    errors.ModelError: message("something about the model"),
    errors.CellError: message("weights that make no cell"),
    errors.LayerError: message("no such layer"),
    errors.RecordingError: message("this run cannot be recorded"),
    errors.EmptySequenceError: message("a sequence without steps"),
    errors.WeightsChangedError: message("the weights have changed"),
    errors.EditError: message("this edit is not possible"),
    errors.SignalError: message("the layer has no such signal"),
    errors.PositionError: message("out of range"),
    errors.SourceError: message("the source of the patch does not fit"),
    errors.ReadoutError: message("the output cannot be read so"),
    errors.AutomatonError: message("no automaton can be made of this"),
    errors.ScanError: message("a question that the scan cannot answer"),
    errors.FileError: message("a file that cannot be read or written so"),
    errors.MissingPackageError: message("a package is missing"),
    errors.GrulensError: message("this cannot be done"),
    MemoryError: message("not enough memory"),
    Exception: message("an error in the code that ran"),
}


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


def title_of(error: BaseException) -> str:
    """What a screen calls an error: its name and its own words, which are English.

    In another language they come after what the error is about.

    >>> title_of(errors.PositionError("units must lie in 0..3, got 7"))
    'PositionError: units must lie in 0..3, got 7'
    """
    name = f"{type(error).__name__}: {error}"
    if language() != ENGLISH:
        kind = next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), "")
        name = " · ".join(filter(None, [say(kind), name]))
    return valid(name)
