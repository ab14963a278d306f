"""How long each unit of a layer holds its state, and how often its gates are shut or open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grulens.arguments import Frame, Integer, Number, Numbers, Rows, SignalName, Units
from grulens.cells.memory.timescales import above, below, counts, half_life
from grulens.cells.signal import Signal, Signalling
from grulens.cells.space import Fold
from grulens.errors import CellError, GrulensError, PositionError, SignalError, shown
from grulens.models.observed import ObservedLayer
from grulens.models.recording import LayerRecording, Recording
from grulens.probing.edits import positions
from grulens.probing.layer import kept_of, layer_of
from grulens.results import Result, frame
from grulens.words import so_many


@dataclass(frozen=True, eq=False, repr=False)
class Timescales(Result):
    """Half-lives and saturation of every unit, over the valid steps of a recording; float64.

    For each gate of the cell, such as the z of a GRU, there are `z_low` and `z_high`, the share of
    steps with the gate under `low` and over `high` (unit,), and `z_counts`, how many steps fall
    into each part of [0, 1], (unit, bin), int64.

    Attributes:
        layer: the layer.
        steps: how many valid steps were counted, over all rows.
        half_life: steps until half of the state is gone at the mean share that is kept (unit,).
        quantiles: which shares of the steps `spread` is given for.
        spread: the half-life of single steps, (unit, quantile): for so many of them it is no
            longer than this.
        low: a gate under it counts as shut.
        high: a gate over it counts as open.
        gates: the gates of the cell.
        shares: by name the shares of steps, "z_low" and "z_high" of each gate.
        counts: by gate its counts.
        bins: into how many parts of [0, 1] they divide.
    """

    layer: str
    steps: int
    half_life: Float[Tensor, " unit"]
    quantiles: tuple[float, ...]
    spread: Float[Tensor, "unit quantile"]
    low: float
    high: float
    gates: tuple[Signal, ...]
    shares: dict[str, Float[Tensor, " unit"]]
    counts: dict[str, Int[Tensor, "unit bin"]]
    bins: int

    def __getattr__(self, name: str) -> Tensor:
        shares, counts = (vars(self).get(held, {}) for held in ("shares", "counts"))
        known: dict[str, Tensor] = {**shares, **{f"{gate}_counts": n for gate, n in counts.items()}}
        if name not in known:
            raise AttributeError(f"Timescales has no {name!r}; of gates it has {', '.join(known)}")
        return known[name]

    @property
    def edges(self) -> Float[Tensor, " edge"]:
        """Where the parts of the histograms begin, and where the last one ends (bin + 1,)."""
        return torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)

    def histogram(self, gate: SignalName, units: Units = None) -> Float[Tensor, " bin"]:
        """The share of steps that a gate spends in each part of [0, 1], over some or all units.

        Args:
            gate: its name, such as "z".
            units: int, slice, sequence of int or bool mask; None is all.

        Raises:
            SignalError: there is no such gate.
            PositionError: there are no such units.
        """
        if not isinstance(gate, str) or gate not in self.counts:
            names = f"one of {', '.join(self.counts)}" if self.counts else "a gate, and it has none"
            raise SignalError(f"gate must be {names}, got {shown(gate)}")
        counted = self.counts[gate]
        where = positions.chosen(units, len(counted), "unit", f"layer {self.layer!r}")
        chosen = counted[where].sum(0)
        return chosen.double() / chosen.sum().clamp(min=1)

    def __len__(self) -> int:
        return len(self.half_life)

    def to_frame(self) -> Frame:
        """A pandas DataFrame, one row a unit: half_life, its quantiles, and the shares.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        spread = {f"half_life_{q:g}": self.spread[:, i] for i, q in enumerate(self.quantiles)}
        columns = {"half_life": self.half_life, **spread, **self.shares}
        return frame(columns, index="unit")

    def __repr__(self) -> str:
        size = f"{so_many(len(self), 'unit')}, {so_many(self.steps, 'step')}"
        return f"Timescales({self.layer!r}, {size})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        longest = self.half_life.argsort(descending=True, stable=True)[:10].tolist()
        names = [f"{100 * q:g}% of steps" for q in self.quantiles]
        ends = [f"{g.name} {end}" for g in self.gates
                for end in (f"< {self.low:g}", f"> {self.high:g}")]  # fmt: skip
        head = ("unit", "half-life", *names, *ends)
        lives = torch.cat([self.half_life[:, None], self.spread], 1)
        shares = torch.stack([*self.shares.values()], 1) if self.shares else lives[:, :0]
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
    bins: Integer = 20,
) -> Timescales:
    """Half-lives, saturation and histograms of the gates of a recorded layer.

    A half-life is -ln 2 / ln a, at the mean share a that a step keeps of its state and at that of
    each step (a gate as a time scale: Tallec and Ollivier 2018, arXiv:1804.11188). The share is the
    update gate z of a GRU and the forget gate f of an LSTM, whose c it keeps; of an observed cell
    it is the a of h = a h_prev + b, with decays and masks in it, and a state that grows (a > 1) has
    an infinite half-life. The shares of steps at which a gate is shut or open are those of the
    saturation plots of Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078. Padding is left out.

    A half-life says how long a unit holds its state by its gates alone, and not how long the
    network remembers: a candidate may write the old state back at every step. That is taken for new
    as far as an activation bounds it, as the tanh of a GRU does. Of an observed cell that adds a
    unit's own state past every such activation (W h, relu(h + n), tanh(h) alone), or whose state
    comes back by another one that it feeds, half-lives are refused.

    Args:
        recording: a recording, or one layer of it.
        layer: which layer; may be left out for a `LayerRecording`, or where there is one.
        rows: which batch rows: int, slice, sequence of int or bool mask; None is all.
        low: a gate under it counts as shut.
        high: a gate over it counts as open.
        quantiles: which of the half-lives of single steps, each in [0, 1].
        bins: into how many parts of [0, 1] the histograms divide, at most 1000.

    Raises:
        CellError: the cell has no gate that keeps its state; or it was observed, and bends its
            state, keeps a negative share of it, or adds a share of it beside the gates.
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
    return counted(
        layer_of(recording, layer), rows=rows, low=low, high=high, quantiles=quantiles, bins=bins
    )


def counted(
    recorded: LayerRecording,
    *,
    rows: Rows = None,
    low: Number = 0.1,
    high: Number = 0.9,
    quantiles: Numbers = (0.1, 0.5, 0.9),
    bins: Integer = 20,
    fold: Fold | None = None,
) -> Timescales:
    """As `timescales`, of one layer.

    Args:
        recorded: the layer.
        rows: as there.
        low: as there.
        high: as there.
        quantiles: as there.
        bins: as there.
        fold: makes the units of a state over space channels, before anything is counted; None
            leaves them units.
    """
    kept = kept_of(recorded, "the half-life of a unit")
    recorded.check_one_batch("timescales")
    low, high = _number(low, "low"), _number(high, "high")
    wanted = _shares(quantiles)
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= 1000:
        raise GrulensError(f"bins must be an int from 1 to 1000, got {shown(bins)}")
    part = positions.chosen(rows, recorded.shape[0], "row", f"layer {recorded.name!r}")
    mask = recorded.mask[part]
    gates = gates_of(recorded.cell)
    named = [gate.name for gate in gates]
    share, *values = (
        signal[part][mask].detach().double().cpu()
        for signal in (kept, *(recorded.signal(name) for name in named))
    )
    if not len(share):
        raise PositionError(f"rows={shown(rows)} leaves no step of layer {recorded.name!r}")
    edited = any(segment.program for segment in recorded.segments)
    if isinstance(recorded, ObservedLayer) and not edited and bool((share < 0).any()):
        raise CellError(
            f"layer {recorded.name!r} keeps a negative share of its state at some steps, down to "
            f"{float(share.min()):.2g}, which has no half-life: {recorded.cell.equation}"
        )
    if fold is not None:
        share, *values = map(fold, (share, *values))
    shares: dict[str, Tensor] = {}
    for name, value in zip(named, values, strict=True):
        shares |= {f"{name}_low": below(value, low), f"{name}_high": above(value, high)}
    # a half-life rises with the share, so its quantiles are those of the share; half-lives may be
    # infinite, which nothing can be interpolated with
    # (numpy's, because torch's takes no more than 2^24 numbers)
    at = torch.from_numpy(np.quantile(share.numpy(), wanted, axis=0)).T
    return Timescales(
        recorded.name, len(share), half_life(share.mean(0)), wanted, half_life(at), low, high,
        gates, shares, {n: counts(v, bins) for n, v in zip(named, values, strict=True)}, bins,
    )  # fmt: skip


def gates_of(cell: Signalling) -> tuple[Signal, ...]:
    """The gates of a cell whose saturation is counted."""
    return tuple(signal for signal in cell.signals if signal.is_gate)


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
