"""Control tasks: labels that no model was trained on, as often true as the real ones.

A probe that learns which token it stands at can learn any label that goes with the token, and says
then nothing of what the states hold. A control label is a coin that is thrown once for each type of
token and shows the same side wherever the token stands (Hewitt and Liang 2019); or once for each
sequence of the last few tokens, for the states of a character model hold the character itself.

The coin is a hash of the tokens, the label and a seed, so it is the same wherever a part is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt64
from numpy import ndarray


def coins(
    ids: Integer[ndarray, "row step"],
    tokens: int,
    rates: Sequence[float],
    seed: int,
    labels: Sequence[int] | None = None,
) -> Bool[ndarray, "label row step"]:
    """The control labels of some rows.

    Args:
        ids: (row, step).
        tokens: so many of the last tokens decide; before a row begins stands one that is no other.
        rates: (label,) how often each of them is to be true.
        seed: another gives other labels.
        labels: (label,) which of the scan's labels each belongs to, so that a label has the same
            control whichever others are asked for; None is from the first on.

    >>> ids = np.array([[0, 1, 0, 0, 1, 0]])
    >>> once = coins(ids, 1, [0.5], 0)[0, 0]
    >>> bool((once[[0, 3, 5]] == once[2]).all()), bool(once[1] == once[4])
    (True, True)
    """
    key = np.zeros(ids.shape, np.uint64)
    for back in reversed(range(tokens)):
        read = np.full(ids.shape, np.uint64(1 << 63))
        read[:, back:] = ids[:, : max(0, ids.shape[1] - back)].astype(np.int64).astype(np.uint64)
        key = _mixed(key ^ read)
    numbers = np.asarray(range(len(rates)) if labels is None else labels, np.uint64)
    salt = _mixed(numbers ^ _mixed(np.array([seed], np.uint64)))
    drawn = (_mixed(key ^ salt[:, None, None]) >> np.uint64(11)) * 2.0**-53
    held: ndarray = drawn < np.asarray(rates)[:, None, None]
    return held


def _mixed(key: UInt64[ndarray, "*axes"]) -> UInt64[ndarray, "*axes"]:
    """A hash of each number (splitmix64; Steele, Lea and Flood 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: ndarray = key ^ (key >> np.uint64(31))
    return mixed
