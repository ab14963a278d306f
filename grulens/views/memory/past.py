"""Which states of a row belong to its steps, read off the past of each: padding has none."""

from __future__ import annotations

from jaxtyping import Bool, Int
from numpy import ndarray

from grulens.views.figure.raster import own_steps


def has_past(past: Int[ndarray, "time 2"]) -> Bool[ndarray, " time"]:
    """Where there is a past: the first key of none lies after its last.

    >>> from numpy import array
    >>> has_past(array([[0, 0], [0, 1], [1, 0]])).tolist()
    [True, True, False]
    """
    there: Bool[ndarray, " time"] = past[:, 0] <= past[:, 1]
    return there


def own_past(past: Int[ndarray, "time 2"]) -> Int[ndarray, "own 2"]:
    """The past of every step of a row, without the padding behind its last one.

    >>> from numpy import array
    >>> own_past(array([[0, 0], [0, 1], [1, 0]])).tolist()
    [[0, 0], [0, 1]]
    """
    return past[: own_steps(has_past(past))]
