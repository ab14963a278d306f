"""How long each unit of a layer holds its state, and how often its gates are shut or open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.arguments import Number, Numbers, Rows, SignalName, Units, Whole
from grulens.cells.kinds.gru import Cell
from grulens.cells.memory.timescales import above, below, counts, half_life
from grulens.errors import GrulensError, PositionError, SignalError, shown
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import gru_of, layer_of
from grulens.results import Result, frame

GATES = tuple(signal for signal in Cell.signals if signal.is_gate)
"""The gates whose saturation is counted: the half-life is that of a GRU's update gate."""


@dataclass(frozen=True, eq=False, repr=False)
class Timescales(Result):
    """Half-lives and saturation of every unit, over the valid steps of a recording; float64.

    Attributes:
        layer: the layer.
        steps: how many valid steps were counted, over all rows.
        half_life: steps until half of the state is gone at the mean update gate (unit,).
        quantiles: which shares of the steps `spread` is given for.
        spread: the half-life of single steps, (unit, quantile): for so many of them it is no
            longer than this.
        low: a gate under it counts as shut.
        high: a gate over it counts as open.
        r_low: share of steps with the reset gate under `low` (unit,).
        r_high: share over `high` (unit,).
        z_low: share of steps with the update gate under `low` (unit,).
        z_high: share over `high` (unit,).
        r_counts: how many steps fall into each part of [0, 1], (unit, bin), int64.
        z_counts: the same of the update gate.
    """

    layer: str
    steps: int
    half_life: Float[Tensor, " unit"]
    quantiles: tuple[float, ...]
    spread: Float[Tensor, "unit quantile"]
    low: float
    high: float
    r_low: Float[Tensor, " unit"]
    r_high: Float[Tensor, " unit"]
    z_low: Float[Tensor, " unit"]
    z_high: Float[Tensor, " unit"]
    r_counts: Int[Tensor, "unit bin"]
    z_counts: Int[Tensor, "unit bin"]

    @property
    def edges(self) -> Float[Tensor, " edge"]:
        """Where the parts of the histograms begin, and where the last one ends (bin + 1,)."""
        return torch.linspace(0, 1, self.z_counts.shape[1] + 1, dtype=torch.float64)

    def histogram(self, gate: SignalName, units: Units = None) -> Float[Tensor, " bin"]:
        """The share of steps that a gate spends in each part of [0, 1], over some or all units.

        Args:
            gate: "r" or "z".
            units: int, slice, sequence of int or bool mask; None is all.

        Raises:
            SignalError: there is no such gate.
            PositionError: there are no such units.
        """
        names = [one.name for one in GATES]
        if not isinstance(gate, str) or gate not in names:
            raise SignalError(f"gate must be one of {', '.join(names)}, got {shown(gate)}")
        counted: Tensor = getattr(self, f"{gate}_counts")
        where = positions.chosen(units, len(counted), "unit", f"layer {self.layer!r}")
        chosen = counted[where].sum(0)
        return chosen.double() / chosen.sum().clamp(min=1)

    def __len__(self) -> int:
        return len(self.half_life)

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a unit: half_life, its quantiles, and the shares.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        spread = {f"half_life_{q:g}": self.spread[:, i] for i, q in enumerate(self.quantiles)}
        shares = {name: getattr(self, name) for name in ("r_low", "r_high", "z_low", "z_high")}
        columns = {"half_life": self.half_life, **spread, **shares}
        return frame(columns, index="unit")

    def __repr__(self) -> str:
        units = f"{len(self)} unit{'' if len(self) == 1 else 's'}"
        return f"Timescales({self.layer!r}, {units}, {self.steps} steps)"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        longest = self.half_life.argsort(descending=True, stable=True)[:10].tolist()
        names = [f"{100 * q:g}% of steps" for q in self.quantiles]
        head = ("unit", "half-life", *names, f"r < {self.low:g}", f"r > {self.high:g}",
                f"z < {self.low:g}", f"z > {self.high:g}")  # fmt: skip
        lives = torch.cat([self.half_life[:, None], self.spread], 1)
        shares = torch.stack([self.r_low, self.r_high, self.z_low, self.z_high], 1)
        rows = [
            (u, *(f"{v:.3g}" for v in lives[u].tolist()), *(f"{v:.0%}" for v in shares[u].tolist()))
            for u in longest
        ]
        caption = f"{self.layer}: the {len(rows)} of {len(self)} units with the longest half-lives"
        return html_table(head, rows, caption)


def timescales(
    recording: Recording | LayerRecording,
    layer: str | None = None,
    *,
    rows: Rows = None,
    low: Number = 0.1,
    high: Number = 0.9,
    quantiles: Numbers = (0.1, 0.5, 0.9),
    bins: Whole = 20,
) -> Timescales:
    """Half-lives, saturation and histograms of the gates of a recorded layer.

    A half-life is -ln 2 / ln z, at the mean update gate and at that of each step (a gate as a time
    scale: Tallec and Ollivier 2018, arXiv:1804.11188). The shares of steps at which a gate is shut
    or open are those of the saturation plots of Karpathy, Johnson and Fei-Fei 2015,
    arXiv:1506.02078. Padding is left out.

    A half-life says how long a unit holds its state by itself, and not how long the network
    remembers: a candidate may write the old state back at every step.

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        rows: which batch rows: int, slice, sequence of int or bool mask; None is all.
        low: a gate under it counts as shut.
        high: a gate over it counts as open.
        quantiles: which of the half-lives of single steps, each in [0, 1].
        bins: into how many parts of [0, 1] the histograms divide, at most 1000.

    Raises:
        LayerError: the recording holds no such layer.
        RecordingError: it is no recording, or `layer` is missing.
        PositionError: there are no such rows, or none of their steps is valid.
        GrulensError: another option is no number of the kind asked for.

    >>> from grulens import record
    >>> with torch.no_grad():
    ...     rnn = torch.nn.GRU(3, 4, batch_first=True).requires_grad_(False)
    ...     _ = [p.zero_() for p in rnn.parameters()]  # every gate is at 1/2
    >>> found = timescales(record(rnn, torch.randn(2, 5, 3)), bins=4)
    >>> found, found.spread.shape
    (Timescales('l0', 4 units, 10 steps), torch.Size([4, 3]))
    >>> found.half_life
    tensor([1., 1., 1., 1.], dtype=torch.float64)
    >>> found.histogram("z")
    tensor([0., 0., 1., 0.], dtype=torch.float64)
    """
    recorded = layer_of(recording, layer)
    gru_of(recorded, "the half-life of a unit")
    recorded.check_one_batch("timescales")
    low, high = _number(low, "low"), _number(high, "high")
    wanted = _shares(quantiles)
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= 1000:
        raise GrulensError(f"bins must be an int from 1 to 1000, got {shown(bins)}")
    part = positions.chosen(rows, recorded.shape[0], "row", f"layer {recorded.name!r}")
    mask = recorded.mask[part]
    r, z = (signal[part][mask].detach().double().cpu() for signal in (recorded.r, recorded.z))
    if not len(z):
        raise PositionError(f"rows={shown(rows)} leaves no step of layer {recorded.name!r}")
    # a half-life rises with z, so its quantiles are those of z; half-lives may be infinite, which
    # nothing can be interpolated with
    # (numpy's, because torch's takes no more than 2^24 numbers)
    at = torch.from_numpy(np.quantile(z.numpy(), wanted, axis=0)).T
    return Timescales(
        recorded.name, len(z), half_life(z.mean(0)), wanted, half_life(at), low, high,
        below(r, low), above(r, high), below(z, low), above(z, high),
        counts(r, bins), counts(z, bins),
    )  # fmt: skip


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise GrulensError(f"{what} must be a finite number, got {shown(value)}")
    return float(value)


def _shares(given: Any) -> tuple[float, ...]:
    listed = isinstance(given, list | tuple) and len(given) > 0
    shares = tuple(_number(share, "each of quantiles") for share in given) if listed else ()
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise GrulensError(f"quantiles must be numbers in [0, 1], got {shown(given)}")
    return shares
