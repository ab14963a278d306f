"""What a sweep found: one effect a unit, or a unit and time, and how it splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from grulens.errors import EditError, shown
from grulens.probing.edits import positions
from grulens.stopped import stopped

Method = Literal["exact", "gradient"]
PATHS = ("effect", "direct", "recurrent")


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """One edited run a unit, or a unit and time: how far the readout moved, and through which path.

    Attributes:
        layer: the layer that was edited.
        units: the units, or groups of units, in the order in which they were asked for.
        times: the times, or None; with rows of several lengths, a negative time counts from each
            row's own end.
        baseline: the readout of the unedited run, `(*readout)`.
        effect: readout(edited run) - readout(unedited run), `(unit, *readout)` or
            `(unit, time, *readout)`; NaN where an interrupt came first.
        direct: the same with the edit put on the layer's states after its recurrence had run
            unedited: what an ordinary forward hook would show.
        recurrent: effect - direct: what came through the recurrence.
        done: bool (unit,) or (unit, time), False where an interrupt came first.
        method: "exact", or "gradient" for first-order estimates.
        batched: whether many runs were done side by side. False where the model does not let its
            rows be repeated (it couples them, draws random numbers, takes one row without a
            batch): then they ran one after another.
        rank_correlation: Spearman's, of the estimates with the exact effects of the sample;
            NaN for an exact sweep.
        sample: the runs of that sample, as indices (unit,) or (unit, time) into `effect`.
        wanted: how many runs it was to have; an interrupt leaves fewer.
    """

    layer: str
    units: tuple[Any, ...]
    times: tuple[int, ...] | None
    baseline: Tensor
    effect: Tensor
    direct: Tensor
    recurrent: Tensor
    done: Bool[Tensor, "..."]  # noqa: UP037  (jaxtyping's any shape)
    method: Method = "exact"
    batched: bool = True
    rank_correlation: float = float("nan")
    sample: tuple[tuple[int, ...], ...] = ()
    wanted: int = 0

    @property
    def stopped(self) -> str:
        """Where an interrupt came before all of it was done: after how much; else ""."""
        noun = "unit" if self.times is None else "run"
        return stopped(int(self.done.sum()), self.done.numel(), noun) or stopped(
            len(self.sample), self.wanted, "exact run"
        )

    def size(self, by: str = "effect") -> Tensor:
        """The mean absolute size of each effect, (unit,) or (unit, time), float64.

        Args:
            by: "effect", "direct" or "recurrent".

        Raises:
            EditError: `by` is none of them.
        """
        if not isinstance(by, str) or by not in PATHS:
            raise EditError(f"by must be one of {', '.join(PATHS)}, got {shown(by)}")
        values: Tensor = getattr(self, by)
        return (
            values.detach().double().abs().reshape(*self.done.shape, self.baseline.numel()).mean(-1)
        )

    def order(self, by: str = "effect") -> tuple[Any, ...]:
        """The units by falling mean absolute size of their effects; those not done come last.

        Args:
            by: "effect", "direct" or "recurrent".
        """
        return tuple(self.units[place] for place in self._places(by))

    def _places(self, by: str = "effect") -> list[int]:
        size = self.size(by)
        size = size if self.times is None else size.nanmean(1)
        rank = torch.where(size.isnan(), -1.0, size)
        return rank.argsort(descending=True, stable=True).tolist()

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a number: unit, time, output_0, ..., and the three effects.

        A group of units stands there as a tuple; `time` is there if the sweep had times, and
        `output_i` for each dimension of the readout that has more than one position.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd  # noqa: PLC0415 - pandas is optional

        shape = tuple(self.effect.shape)
        index = np.indices(shape, sparse=False).reshape(len(shape), -1)
        units = np.empty(len(self.units), dtype=object)
        units[:] = self.units
        if all(isinstance(unit, int) for unit in self.units):
            units = units.astype(np.int64)
        columns: dict[str, Any] = {"unit": units[index[0]]}
        if self.times is not None:
            columns["time"] = np.asarray(self.times, dtype=np.int64)[index[1]]
        runs = self.done.dim()
        for dim, size in enumerate(shape[runs:]):
            if size > 1:
                columns[f"output_{dim}"] = index[runs + dim]
        for name in PATHS:
            columns[name] = getattr(self, name).detach().cpu().flatten().double().numpy()
        return pd.DataFrame(columns)

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know, in words; "" if nothing."""
        notes = []
        notes.append(self.stopped)
        if self.method == "gradient":
            notes.append(
                f"first-order estimates; rank correlation with {len(self.sample)} exact effects "
                f"{self.rank_correlation:.2f}"
            )
        elif not self.batched:
            notes.append("one run after another: the model's rows cannot be repeated")
        return "; ".join(note for note in notes if note)

    def __repr__(self) -> str:
        parts = [repr(self.layer), _count(len(self.units), "unit")]
        parts += [] if self.times is None else [_count(len(self.times), "time")]
        parts += [f"readout {tuple(self.baseline.shape)}"]
        parts += [self.note] if self.note else []
        return f"Sweep({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from grulens.tables import html_table  # noqa: PLC0415 - only for display

        sizes = {name: self.size(name) for name in PATHS}
        top = self._places()[:10]
        rows = []
        for place in top:
            unit = self.units[place]
            name = unit if isinstance(unit, int) else positions.words(unit, "unit")
            means = (sizes[path][place].nanmean() for path in PATHS)
            rows.append((name, *(f"{float(mean):.3g}" for mean in means)))
        caption = f"mean |effect| on the readout, {self.layer}: the {len(top)} largest of "
        caption += _count(len(self.units), "unit")
        caption += "" if self.times is None else f", over {_count(len(self.times), 'time')}"
        return html_table(
            ("unit", *PATHS), rows, caption + (f" ({self.note})" if self.note else "")
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
