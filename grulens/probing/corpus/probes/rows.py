"""The rows of a scanned part run again, side by side: their states, ids and labels.

A scan keeps no states. Its ids are enough to make them anew, and the least and largest value of
every window, which it has kept, say whether they are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from numpy import ndarray
from torch import nn

from grulens.errors import ScanError
from grulens.models.record import record
from grulens.probing.corpus.scan.manifest import Manifest
from grulens.probing.corpus.scan.part import WINDOW, Part, extremes, unpacked
from grulens.probing.corpus.scan.replay import HALF, NEAR
from grulens.probing.corpus.scan.scan_part import numbers


@dataclass(frozen=True)
class Rows:
    """Rows of one length that ran side by side.

    Attributes:
        rows: (row,) which rows of the part.
        ids: (row, step).
        states: (row, step, unit).
        labels: (label, row, step) whether each label of the scan holds.
    """

    rows: tuple[int, ...]
    ids: Integer[ndarray, "row step"]
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
        ScanError: the corpus was not one of ids; or the model does not do what it did.
    """
    if part.ids is None:
        raise ScanError(
            f"the inputs of part {part.number} were no ids, and are not kept: they cannot be run "
            "again"
        )
    scanned, turned = manifest.layers[layer], False
    for chosen, windows in _side_by_side(part, manifest.batch):
        steps = int(part.rows[chosen[0], 2])
        ids = part.ids[windows].reshape(len(chosen), -1)[:, :steps]
        given = torch.from_numpy(ids.astype(np.int64))
        for turn in (turned, not turned):
            args = (given.T if turn else given,)
            found = record(model, layers=[scanned.name], call=manifest.call, inputs=(args, {}))
            states, mask = found[scanned.name].h, found[scanned.name].mask
            if mask.shape == given.shape and mask.all():
                turned = turn
                break
        else:
            raise _other(part, f"layer {scanned.name!r} has other rows or steps")
        values = numbers(states)
        near = NEAR if states.dtype in (torch.float32, torch.float64) else HALF
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
        yield Rows(tuple(chosen), ids, values, held)


def _side_by_side(
    part: Part, batch: int
) -> Iterator[tuple[Sequence[int], Int[ndarray, "row window"]]]:
    """Rows of one length, and the windows of each; never as many rows as steps."""
    lengths = part.rows[:, 2]
    for length in np.unique(lengths)[::-1].tolist():
        same = np.flatnonzero(lengths == length).tolist() if length else []
        groups = [same[i : i + batch] for i in range(0, len(same), batch)]
        if any(len(one) == length > 1 for one in groups):  # which is which must be seen
            groups = [half for one in groups for half in (one[:1], one[1:]) if half]
        for one in groups:
            yield one, part.rows[one, 3][:, None] + np.arange(-(-length // WINDOW))


def _other(part: Part, why: str) -> ScanError:
    return ScanError(
        f"part {part.number} does not run as it did in the scan: {why}. It was run by its ids "
        "alone, in eval mode: what else did the model take then?"
    )
