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
        states: (row, step, unit).
        labels: (label, row, step) whether each label of the scan holds.
    """

    rows: tuple[int, ...]
    read: Shaped[ndarray, "row step ..."]
    states: Float[ndarray, "row step unit"]
    labels: Bool[ndarray, "label row step"]


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
    scanned = manifest.layers[layer]
    for chosen, windows in _side_by_side(part, manifest):
        steps = int(part.rows[chosen[0], 2])
        read = np.stack([part.again(row, 0, steps) for row in chosen])
        at = [part.batch_row(row) for row in chosen]
        form = part.form(chosen[0])
        found = run_again(model, form, read, at, [scanned.name], manifest.call)
        states, mask = found[scanned.name].h, found[scanned.name].mask
        if mask.shape != read.shape[:2] or not mask.all():
            raise _other(part, f"layer {scanned.name!r} has other rows or steps")
        values = numbers(states)
        near = nearness(states)
        for name, ends in zip(("low", "high"), extremes(values, mask.cpu().numpy()), strict=True):
            kept = part.index(layer, name)[:, windows]
            apart = np.abs(kept - ends) / np.maximum(1, np.abs(kept))
            if not float(apart.max()) <= near:
                far = f"{float(apart.max()):.2g}"
                raise _other(
                    part, f"states of layer {scanned.name!r} are {far} from those that were kept"
                )
        held = np.zeros((len(manifest.labels), len(chosen), steps), bool)
        for one, words in zip(held, () if part.labels is None else part.labels, strict=False):
            bits = unpacked(words[windows].reshape(-1))
            one[...] = bits.reshape(len(chosen), -1)[:, :steps]
        yield Rows(tuple(chosen), read, values, held)


def _side_by_side(
    part: Part, manifest: Manifest
) -> Iterator[tuple[Sequence[int], Int[ndarray, "row window"]]]:
    """Rows of one length and form, and the windows of each; never as many rows as steps."""
    lengths = part.rows[:, 2]
    for length in np.unique(lengths)[::-1].tolist():
        alike: dict[str, list[int]] = {}
        for row in np.flatnonzero(lengths == length).tolist() if length else []:
            alike.setdefault(repr(part.form(row)), []).append(row)
        groups = []
        for same in alike.values():
            size = abreast(manifest.batch, manifest.room, length)
            size = 1 if part.form(same[0]).alone else size
            groups += [same[i : i + size] for i in range(0, len(same), size)]
        if any(len(one) == length > 1 for one in groups):  # which is which must be seen
            groups = [half for one in groups for half in (one[:1], one[1:]) if half]
        for one in groups:
            yield one, part.rows[one, 3][:, None] + np.arange(-(-length // WINDOW))


def _other(part: Part, why: str) -> ScanError:
    return ScanError(
        f"part {part.number} does not run as it did in the scan: {why}. It was run row by row, in "
        "eval mode: what else does the model go by?"
    )
