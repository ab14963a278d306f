"""What a causal trace found: how much of an answer comes back, for each block of units and step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from grulens.probing.edits import positions
from grulens.stopped import stopped
from grulens.tables import html_table


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """How much of the clean answer comes back with the clean state of some units at one step.

    Attributes:
        layer: the layer that was patched.
        signal: the signal that was patched.
        units: the blocks of units, each a tuple; (None,) is one block of all.
        times: the steps.
        share: (block, time) or (block, time, batch): 0 is the corrupted answer, 1 the clean one;
            NaN where an interrupt came first.
        clean: the readout of the clean run, () or (batch,).
        corrupted: the readout of the corrupted run, () or (batch,).
        done: bool (block, time), False where an interrupt came first.
    """

    layer: str
    signal: str
    units: tuple[tuple[int, ...] | None, ...]
    times: tuple[int, ...]
    share: Tensor
    clean: Tensor
    corrupted: Tensor
    done: Bool[Tensor, "block time"]

    @property
    def blocks(self) -> tuple[str, ...]:
        """What to call each block: "units 0 to 7"."""
        return tuple(positions.words(block, "unit") for block in self.units)

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know, in words; "" if nothing."""
        return stopped(int(self.done.sum()), self.done.numel(), "run")

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a number: units, time, row (of several) and share.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd  # noqa: PLC0415 - pandas is optional

        at = np.indices(tuple(self.share.shape)).reshape(self.share.dim(), -1)
        columns: dict[str, Any] = {
            "units": np.array(self.blocks, dtype=object)[at[0]],
            "time": np.array(self.times, dtype=np.int64)[at[1]],
        }
        if self.share.dim() == 3:
            columns["row"] = at[2]
        return pd.DataFrame(columns | {"share": self.share.cpu().double().flatten().numpy()})

    def __repr__(self) -> str:
        blocks, times = len(self.units), len(self.times)
        parts = [repr(self.layer), f"{blocks} block{'s' * (blocks != 1)}"]
        parts += [f"{times} step{'s' * (times != 1)}"]
        parts += [self.note] if self.note else []
        return f"Trace({', '.join(parts)})"

    def _repr_html_(self) -> str:
        share = self.share.cpu().double()
        share = share.nanmean(2) if share.dim() == 3 else share
        rank = share.flatten().nan_to_num(nan=-torch.inf)
        top = rank.argsort(descending=True, stable=True)[: min(10, int(self.done.sum()))].tolist()
        rows = [
            (self.blocks[i // len(self.times)], self.times[i % len(self.times)], f"{rank[i]:.3g}")
            for i in top
        ]
        caption = f"recovered share, {self.signal} of {self.layer}: the {len(top)} largest of "
        caption += f"{self.done.numel()}" + (f" ({self.note})" if self.note else "")
        return html_table(("units", "step", "share"), rows, caption)
