"""In which windows of a part each unit goes furthest under each label, counted while it is scanned.

The extremes of a window say how far a unit goes there, and not at the steps of a label. To find
that out later, windows are run again; so the furthest few of each unit, label and end are kept,
with their values. All other windows of the part go less far than the last of these. Windows in
which a label holds at all steps, or at none, need no such place: their extremes say it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Shaped, UInt64
from numpy import ndarray

from grulens.probing.corpus.scan.part import WINDOW, unpacked

#: So many windows of each unit, label and end are kept.
KEPT: Final = 20
#: They take a tenth of the index of a part at most: a window of it for so many times each label.
SHARE: Final = 10
#: One input of a part, and the step of it at which a row begins, in one number.
SHIFT: Final = 40
NONE: Final = np.iinfo(np.int64).max


class Furthest:
    """The windows in which units go furthest under labels.

    Args:
        units: how many units there are.
        labels: how many labels.
    """

    def __init__(self, units: int, labels: int) -> None:
        shape = labels, 2, KEPT, units
        #: how far each goes, up or down; its row by its place in the corpus; its window
        self.far = np.full(shape, -np.inf, np.float32)
        self.row, self.window = np.full(shape, NONE), np.full(shape, NONE)

    def add(
        self,
        values: Float[ndarray, "row step unit"],
        words: UInt64[ndarray, "label row window"],
        whole: UInt64[ndarray, "row window"],
        rows: Int[ndarray, " row"],
        first: Int[ndarray, " row"],
        fast: Any = None,
    ) -> None:
        """Look at the values of a run.

        Args:
            values: (row, step, unit), float32.
            words: a bit a step, whether each label holds there.
            whole: the same of the steps that are there.
            rows: the place of each row in the corpus; of two rows the lower one is first.
            first: the first window of each row.
            fast: the module of what is compiled, or None.
        """
        if fast is not None:
            fast.furthest(values, words, whole, rows, first, self.far, self.row, self.window)
            return
        many, steps, _ = values.shape
        for label, word in enumerate(words):
            chosen = np.where(word == whole, np.uint64(0), word)
            bits = unpacked(chosen.reshape(-1)).reshape(many, -1)[:, :steps]
            row, step = np.nonzero(bits)
            if not len(row):
                continue
            window = step // WINDOW
            begins = np.flatnonzero(np.diff(row * bits.size + window, prepend=-1))
            there = values[row, step]
            at = rows[row[begins]], first[row[begins]] + window[begins]
            self._take(label, 0, np.maximum.reduceat(there, begins, axis=0), *at)
            self._take(label, 1, -np.minimum.reduceat(there, begins, axis=0), *at)

    def _take(
        self,
        label: int,
        end: int,
        far: Float[ndarray, "window unit"],
        rows: Int[ndarray, " window"],
        windows: Int[ndarray, " window"],
    ) -> None:
        """Take in windows that may be among the furthest."""
        held = [each[label, end] for each in (self.far, self.row, self.window)]
        may = far >= held[0][-1]
        for unit in np.flatnonzero(may.any(0)):
            new = np.flatnonzero(may[:, unit])
            if len(new) > 4 * KEPT:
                values = far[new, unit]
                new = new[values >= np.partition(values, -KEPT)[-KEPT]]
            each = [
                np.concatenate([kept[:, unit], more])
                for kept, more in zip(held, (far[new, unit], rows[new], windows[new]), strict=True)
            ]
            best = np.lexsort((each[2], each[1], -each[0]))[:KEPT]
            for kept, one in zip(held, each, strict=True):
                kept[:, unit] = one[best]

    def written(
        self, number: Int[ndarray, " window"]
    ) -> tuple[Float32[ndarray, "unit label 2 kept"], Int32[ndarray, "unit label 2 kept"]] | None:
        """How far each goes, and its window, -1 for none; None where a part is too short for any.

        Args:
            number: the number under which each window is written.
        """
        labels = len(self.far)
        most = min(KEPT, len(number) // (SHARE * max(labels, 1)))
        if not labels or not most:
            return None
        far, window = (each[:, :, :most].transpose(3, 0, 1, 2) for each in (self.far, self.window))
        found = window != NONE
        at = np.where(found, number[np.where(found, window, 0)], -1).astype(np.int32)
        signs = np.array([1, -1], np.float32)[:, None]
        # of two zeros it is the one without a sign, as in the index
        return np.ascontiguousarray(far * signs + np.float32(0)), at


def places(documents: Shaped[ndarray, " row"], starts: Shaped[ndarray, " row"]) -> ndarray:
    """The place of each row in the corpus, by its input and the step of it at which it begins."""
    found: ndarray = (documents.astype(np.int64) << SHIFT) | starts.astype(np.int64)
    return found


def bound(
    far: Float[ndarray, " window"],
    cut: Bool[ndarray, " window"],
    sign: np.float32,
    kept: tuple[Float32[ndarray, " kept"], Int32[ndarray, " kept"]] | None,
) -> tuple[Float[ndarray, " window"], Bool[ndarray, " window"], Int[ndarray, " window"]]:
    """How far windows go at most, by those that were kept; which go so far; after which they come.

    Of two windows that go as far, the one that comes first is the further. One that was not kept
    goes less far than the last that was, or as far and comes after it.

    Args:
        far: how far each window goes at most, by all else that is known.
        cut: in which windows the label holds at some steps, and not at others.
        sign: 1 where up is further, else -1.
        kept: how far the windows go that were kept, and which they are.
    """
    after, known = np.arange(len(far)), np.zeros(len(far), bool)
    if kept is None:
        return far, known, after
    values, at = kept
    there = at >= 0
    if there.all():
        far = np.where(cut, np.minimum(far, sign * values[-1]), far)
        after = np.where(cut, np.maximum(after, at[-1]), after)
    else:
        far = far.copy()
    far[at[there]], known[at[there]], after[at[there]] = sign * values[there], True, at[there]
    return far, known, after
