"""What each unit of a layer does over a run, in a row of numbers: where to look first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.arguments import Frame
from grulens.cells.memory.timescales import half_life
from grulens.cells.signal import Signalling
from grulens.cells.space import Fold
from grulens.models.recording import LayerRecording
from grulens.probing.layer import keeping, keeps_a_share, kept_of, last_read
from grulens.results import frame
from grulens.words import so_many

LOW, HIGH = 0.1, 0.9


@dataclass(frozen=True, eq=False, repr=False)
class Neurons:
    """One number a unit, over valid steps and rows; each (unit,), float32, and an attribute.

    For every kind of cell `mean_h` and `spread_h`, mean and standard deviation of the state, and
    `last_h`, the state at the step that was read last, mean over rows: at a row's end, or at its
    beginning where the layer is a reverse one. For each of its gates, such as the z of a GRU,
    `z_low` and `z_high`: the share of steps with the gate below 0.1 and above 0.9. For the gate
    that keeps the memory its mean, `mean_z`, and `half_life`: the steps until half of a memory is
    gone at that mean, ln 2 / -ln(mean z). Of an observed cell `half_life` is that of the mean share
    a of h = a h_prev + b; NaN where that is negative.

    Attributes:
        values: all of them by name.
    """

    values: dict[str, Float[Tensor, " unit"]]

    def __getattr__(self, name: str) -> Any:
        found = vars(self).get("values", {})
        if name not in found:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it has {', '.join(found)}"
            )
        return found[name]

    def __len__(self) -> int:
        return len(self.values["mean_h"])

    def columns(self) -> dict[str, np.ndarray]:
        """Every column by name, as numpy arrays."""
        return {name: values.numpy() for name, values in self.values.items()}

    def to_frame(self) -> Frame:
        """The same as a pandas DataFrame, one row a unit.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame(self.columns(), index="unit")

    def __repr__(self) -> str:
        return f"Neurons({so_many(len(self), 'unit')})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        columns = self.columns()
        top = np.argsort(-columns["spread_h"])[:10]
        rows = [(u, *(f"{columns[name][u]:.3g}" for name in columns)) for u in top]
        return html_table(("unit", *columns), rows, f"the 10 of {len(self)} units that vary most")


def neurons(layer: LayerRecording, row: int | None = None, fold: Fold | None = None) -> Neurons:
    """Statistics of every unit of a recorded layer.

    Args:
        layer: the layer.
        row: one row of the batch; None takes all.
        fold: makes the units of a state over space channels, before anything is counted; None
            leaves them units.

    >>> import torch
    >>> from grulens import record
    >>> run = record(torch.nn.GRU(3, 4), torch.zeros(5, 2, 3))
    >>> table = neurons(run["l0"])
    >>> table, table.mean_z.shape
    (Neurons(4 units), torch.Size([4]))
    """
    rows = slice(None) if row is None else slice(row, row + 1)
    mask = layer.mask[rows]

    def valid(signal: Tensor) -> Float[Tensor, "step unit"]:
        part = signal[rows].detach()
        part = part if fold is None else fold(part)
        # a long run's signals are large: copied only where there is something to leave out
        return (part.flatten(0, 1) if bool(mask.all()) else part[mask]).float().cpu()

    def part_of(where: Tensor) -> Float[Tensor, " unit"]:
        return where.sum(0) / len(where)

    h = valid(layer.h)
    ends = last_read(layer)[rows].to(layer.h.device)
    there = (ends >= 0).nonzero()[:, 0]
    last = layer.h[rows].detach()[there, ends[there]].float().cpu()
    last = last if fold is None else fold(last)
    found = {"mean_h": h.mean(0), "spread_h": h.std(0, correction=0)}
    gates = {
        gate.name: valid(layer.signal(gate.name)) for gate in layer.cell.signals if gate.is_gate
    }
    keep = keeping(layer.cell)
    if keep is not None:
        found[f"mean_{keep}"] = gates[keep].mean(0)
    if keeps_a_share(layer.cell):
        share = valid(kept_of(layer, "half_life")).mean(0)
        found["half_life"] = half_life(share).where(share >= 0, torch.nan)
    for name, gate in gates.items():
        found |= {f"{name}_low": part_of(gate < LOW), f"{name}_high": part_of(gate > HIGH)}
    return Neurons(found | {"last_h": last.mean(0)})


def names(cell: Signalling) -> tuple[str, ...]:
    """What `neurons` says of the units of such a cell, by name and in order.

    >>> import torch
    >>> from grulens.cells.kinds.rnn import RNN
    >>> names(RNN(torch.ones(1, 1), torch.ones(1, 1), None, None))
    ('mean_h', 'spread_h', 'last_h')
    """
    keep, gates = keeping(cell), [signal.name for signal in cell.signals if signal.is_gate]
    mean = () if keep is None else (f"mean_{keep}",)
    life = ("half_life",) if keeps_a_share(cell) else ()
    ends = (f"{gate}_{end}" for gate in gates for end in ("low", "high"))
    return ("mean_h", "spread_h", *mean, *life, *ends, "last_h")
