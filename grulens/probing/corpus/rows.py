"""The rows of a scanned part run again, side by side: their states, what they read, and labels.

A scan keeps no states. What was read is enough to make them anew, and the least and largest value
of every window, which it has kept, say whether they are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from torch import nn

from grulens.errors import ScanError
from grulens.probing.corpus.scan.abreast import abreast
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import WINDOW, Part, extremes, unpacked
from grulens.probing.corpus.scan.replay import nearness, run_again
from grulens.probing.corpus.scan.scan_part import numbers


@dataclass(frozen=True)
class Rows:
    """Rows of one length that ran side by side.

    Attributes:
        rows: (row,) which rows of the part.
        read: (row, step, ...) what stood at each step: an id, or some numbers.
        states: (row, step, unit) of each layer, by its number.
    """

    rows: tuple[int, ...]
    read: Shaped[ndarray, "row step ..."]
    states: dict[int, Float[ndarray, "row step unit"]]

    def labels(self, part: Part, many: int) -> Bool[ndarray, "label row step"]:
        """Whether each label of the scan holds, of so many.

        Args:
            part: the part that the rows are of.
            many: how many labels the scan has.
        """
        steps, windows = self.read.shape[1], _windows(part, self.rows)
        held = np.zeros((many, len(self.rows), steps), bool)
        for one, words in zip(held, () if part.labels is None else part.labels, strict=False):
            bits = unpacked(words[windows].reshape(-1))
            one[...] = bits.reshape(len(self.rows), -1)[:, :steps]
        return held


def rerun(model: nn.Module, part: Part, manifest: Manifest, layer: int) -> Iterator[Rows]:
    """Run all rows of a part again, in an order that depends on nothing but the part.

    Args:
        model: the model, in eval mode.
        part: the part.
        manifest: what the scan was made with.
        layer: the number of the layer.

    Raises:
        ScanError: what the model took is not kept; or it does not do what it did.
    """
    every = range(len(part.rows))
    for chosen in side_by_side((part, manifest, every)):
        yield rows_again(model, part, manifest, [layer], chosen)


def rows_again(
    model: nn.Module, part: Part, manifest: Manifest, layers: Sequence[int], chosen: Sequence[int]
) -> Rows:
    """Run some rows of a part again, and compare them with what the scan has kept of them.

    Args:
        model: the model, in eval mode.
        part: the part.
        manifest: what the scan was made with.
        layers: the numbers of the layers whose states are wanted.
        chosen: the rows, of one length and form.

    Raises:
        ScanError: what the model took is not kept; or it does not do what it did.
    """
    steps, windows = int(part.rows[chosen[0], 2]), _windows(part, chosen)
    read = np.stack([part.again(row, 0, steps) for row in chosen])
    at, names = [part.batch_row(row) for row in chosen], [manifest.layers[i].name for i in layers]
    found = run_again(model, part.form(chosen[0]), read, at, names, manifest.call)
    every = {}
    for layer, name in zip(layers, names, strict=True):
        states, mask = found[name].h, found[name].mask
        if mask.shape != read.shape[:2] or not mask.all():
            raise _other(part, f"layer {name!r} has other rows or steps")
        values = every[layer] = numbers(states)
        near = nearness(states)
        for end, ends in zip(("low", "high"), extremes(values, mask.cpu().numpy()), strict=True):
            kept = part.index(layer, end)[:, windows]
            apart = np.abs(kept - ends) / np.maximum(1, np.abs(kept))
            if not float(apart.max()) <= near:
                far = f"{float(apart.max()):.2g}"
                raise _other(part, f"states of layer {name!r} are {far} from those that were kept")
    return Rows(tuple(chosen), read, every)


def side_by_side(
    *scanned: tuple[Part, Manifest, Sequence[int]],
) -> Iterator[list[int]]:
    """Which rows run together: of one length and one form, and never as many as steps.

    Args:
        scanned: a part, what it was scanned with, and the order in which its rows are counted. Of
            several parts, rows of one number have one length.
    """
    part, _, every = scanned[0]
    lengths = part.rows[list(every), 2]
    for length in np.unique(lengths)[::-1].tolist():
        alike: dict[tuple[str, ...], list[int]] = {}
        for number in np.flatnonzero(lengths == length).tolist() if length else []:
            forms = tuple(repr(part.form(rows[number])) for part, _, rows in scanned)
            alike.setdefault(forms, []).append(number)
        groups = []
        for same in alike.values():
            size = min(abreast(made.batch, made.room, length) for _, made, _ in scanned)
            size = 1 if any(part.form(rows[same[0]]).alone for part, _, rows in scanned) else size
            groups += [same[i : i + size] for i in range(0, len(same), size)]
        if any(len(one) == length > 1 for one in groups):  # which is which must be seen
            groups = [half for one in groups for half in (one[:1], one[1:]) if half]
        yield from groups


def _windows(part: Part, rows: Sequence[int]) -> Int[ndarray, "row window"]:
    """The windows of rows of one length."""
    length = int(part.rows[rows[0], 2])
    found: ndarray = part.rows[list(rows), 3][:, None] + np.arange(-(-length // WINDOW))
    return found


def _other(part: Part, why: str) -> ScanError:
    return ScanError(
        f"part {part.number} does not run as it did in the scan: {why}. It was run row by row, in "
        "eval mode: what else does the model go by?"
    )
