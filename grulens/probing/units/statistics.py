"""What each unit of a layer does over a run, in a row of numbers: where to look first."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from grulens.cells.memory.timescales import half_life
from grulens.models.recording import LayerRecording
from grulens.probing.layer import last_read
from grulens.results import frame

LOW, HIGH = 0.1, 0.9


@dataclass(frozen=True, eq=False, repr=False)
class Neurons:
    """One number a unit, over valid steps and rows; each (unit,), float32.

    Attributes:
        mean_h: mean state.
        spread_h: standard deviation of the state.
        mean_z: mean update gate.
        half_life: steps until half of a memory is gone at that mean, ln 2 / -ln(mean z).
        r_low: share of steps with the reset gate below 0.1.
        r_high: share above 0.9.
        z_low: share of steps with the update gate below 0.1.
        z_high: share above 0.9.
        last_h: state at the step that was read last, mean over rows: at a row's end, or at its
            beginning where the layer is a reverse one.
    """

    mean_h: Float[Tensor, " unit"]
    spread_h: Float[Tensor, " unit"]
    mean_z: Float[Tensor, " unit"]
    half_life: Float[Tensor, " unit"]
    r_low: Float[Tensor, " unit"]
    r_high: Float[Tensor, " unit"]
    z_low: Float[Tensor, " unit"]
    z_high: Float[Tensor, " unit"]
    last_h: Float[Tensor, " unit"]

    def __len__(self) -> int:
        return len(self.mean_h)

    def columns(self) -> dict[str, np.ndarray]:
        """Every column by name, as numpy arrays."""
        return {field.name: getattr(self, field.name).numpy() for field in fields(self)}

    def to_frame(self) -> Any:
        """The same as a pandas DataFrame, one row a unit.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame(self.columns(), index="unit")

    def __repr__(self) -> str:
        return f"Neurons({len(self)} units)"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        columns = self.columns()
        top = np.argsort(-columns["spread_h"])[:10]
        rows = [(u, *(f"{columns[name][u]:.3g}" for name in columns)) for u in top]
        return html_table(("unit", *columns), rows, f"the 10 of {len(self)} units that vary most")


def neurons(layer: LayerRecording, row: int | None = None) -> Neurons:
    """Statistics of every unit of a recorded layer.

    Args:
        layer: the layer.
        row: one row of the batch; None takes all.

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
        # a long run's signals are large: copied only where there is something to leave out
        return (part.flatten(0, 1) if bool(mask.all()) else part[mask]).float().cpu()

    def share(where: Tensor) -> Float[Tensor, " unit"]:
        return where.sum(0) / len(where)

    h, r, z = valid(layer.h), valid(layer.r), valid(layer.z)
    ends = last_read(layer)[rows].to(layer.h.device)
    there = (ends >= 0).nonzero()[:, 0]
    last = layer.h[rows].detach()[there, ends[there]].float().cpu()
    mean_z = z.mean(0)
    return Neurons(
        mean_h=h.mean(0),
        spread_h=h.std(0, correction=0),
        mean_z=mean_z,
        half_life=half_life(mean_z),
        r_low=share(r < LOW),
        r_high=share(r > HIGH),
        z_low=share(z < LOW),
        z_high=share(z > HIGH),
        last_h=last.mean(0),
    )
