"""Which units matter, when, and through which path: one edited run for each of them.

An edited run says what one unit does. To say it of all units takes as many runs, which share
everything but the edit; so they are done side by side, as many at a time as keep the processor's
matrix units full and fit into the memory that the caller allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from grulens.arguments import (
    Frame,
    Inputs,
    Integer,
    MakeEdit,
    MethodName,
    Positions,
    SweepMethod,
    Times,
    UnitGroups,
)
from grulens.errors import EditError, shown
from grulens.job import Job, stopped, tell
from grulens.models.call.invocation import Given, arguments
from grulens.probing.edits import positions
from grulens.probing.edits.edit import ablate
from grulens.probing.readout.readout import Readout, first_tensor
from grulens.probing.units.batched_runs import EditedRuns
from grulens.probing.units.experiment import Experiment, prepare
from grulens.probing.units.gradient import Estimates, kinds_of, rank_correlation
from grulens.probing.units.grid import Grid
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

METHODS = ("exact", "gradient")
Method = Literal["exact", "gradient"]
PATHS = ("effect", "direct", "recurrent")


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
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
    units: tuple[Positions, ...]
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

    def order(self, by: str = "effect") -> tuple[Positions, ...]:
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

    def to_frame(self) -> Frame:
        """A pandas DataFrame, one row a number: unit, time, output_0, ..., and the three effects.

        A group of units stands there as a tuple; `time` is there if the sweep had times, and
        `output_i` for each dimension of the readout that has more than one position.

        Raises:
            MissingPackageError: pandas is not installed.
        """
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
        return frame(columns)

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
        unknown = self.direct[self.done]
        if unknown.numel() and bool(unknown.isnan().all()):
            notes.append(
                "direct effects are not known: the answer reads a signal of the cell besides its "
                "state, or an edited run has other steps"
            )
        return "; ".join(note for note in notes if note)

    def __repr__(self) -> str:
        parts = [repr(self.layer), so_many(len(self.units), "unit")]
        parts += [] if self.times is None else [so_many(len(self.times), "time")]
        parts += [f"readout {tuple(self.baseline.shape)}"]
        parts += [self.note] if self.note else []
        return f"Sweep({', '.join(parts)})"

    def _repr_html_(self) -> str:
        sizes = {name: self.size(name) for name in PATHS}
        top = self._places()[:10]
        rows = []
        for place in top:
            unit = self.units[place]
            name = unit if isinstance(unit, int) else positions.words(unit, "unit")
            means = (sizes[path][place].nanmean() for path in PATHS)
            rows.append((name, *(f"{float(mean):.3g}" for mean in means)))
        caption = f"mean |effect| on the readout, {self.layer}: the {len(top)} largest of "
        caption += so_many(len(self.units), "unit")
        caption += "" if self.times is None else f", over {so_many(len(self.times), 'time')}"
        return html_table(
            ("unit", *PATHS), rows, caption + (f" ({self.note})" if self.note else "")
        )


def sweep(
    model: nn.Module,
    *args: Any,
    layer: str,
    readout: Readout = first_tensor,
    make_edit: MakeEdit = ablate,
    units: UnitGroups = None,
    times: Times = None,
    method: SweepMethod = "exact",
    sample: Integer = 16,
    memory: Integer = 512 * 2**20,
    progress: bool = True,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Sweep:
    """Edit each unit of a layer in a run of its own, and see how far the readout moves.

    Args:
        model: any module that holds a recurrent layer.
        *args: the model's own arguments.
        layer: name of the layer to edit.
        readout: from the model's output to a floating tensor of any one shape; it sees one ordinary
            output a run. By default the first floating tensor of the output.
        make_edit: `make_edit(layer, unit)`, with `at=time` if there are `times`, gives the edit of
            a run, or a sequence of edits, of that layer.
        units: int, slice, sequence of int, bool mask (unit,), or None for all: one run a unit. A
            sequence may hold groups (a sequence of int, a slice, None for all units): one run a
            group, which `make_edit` gets as its unit.
        times: None; or int, slice, sequence of int, bool mask (time,): one run a unit and time.
        method: "exact", one edited run each; or "gradient", first-order estimates from one backward
            pass for each number of the readout.
        sample: how many exact runs a gradient's estimates are compared with.
        memory: bytes that the runs done at a time may hold, beyond the model, one run of it and
            the result; what the system's allocator keeps in reserve comes on top. One run is always
            done.
        progress: whether to show a progress bar.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Sweep`. A KeyboardInterrupt ends it early: what is done by then is returned, with a
        `StoppedWarning` that says how much that is.

    Raises:
        LayerError: no such layer.
        PositionError: units or times out of range.
        EditError: `make_edit` gives no edit of this layer, or another option is none.
        ReadoutError: the readout is no floating tensor, or not always of one shape.
        RecordingError: the layer did not run; or, with method="gradient", the model hands something
            on that moves with the layer, and detaches it, so that no gradient says how.

    >>> rnn = nn.GRU(3, 4, batch_first=True)
    >>> found = sweep(rnn, torch.ones(1, 5, 3), layer="l0", readout=lambda out: out[0][:, -1],
    ...               progress=False)
    >>> found
    Sweep('l0', 4 units, readout (1, 4))
    >>> found.effect.shape, found.batched
    (torch.Size([4, 1, 4]), True)
    """
    found = run_sweep(
        model, arguments(args, kwargs, inputs), layer=layer, readout=readout, make_edit=make_edit,
        units=units, times=times, method=method, sample=sample, call=call, memory=memory,
        progress=progress,
    )  # fmt: skip
    if found.stopped:
        tell("sweep", found.stopped)
    return found


def run_sweep(
    model: nn.Module,
    given: Given,
    *,
    layer: str,
    readout: Readout,
    make_edit: MakeEdit,
    units: UnitGroups,
    times: Times,
    method: SweepMethod,
    sample: Integer,
    call: MethodName,
    memory: Integer,
    progress: bool,
) -> Sweep:
    """A sweep that says nothing when it is interrupted; the arguments: `sweep`."""
    if not isinstance(method, str) or method not in METHODS:
        raise EditError(f"method must be one of {', '.join(METHODS)}, got {shown(method)}")
    if not callable(make_edit):
        raise EditError(f"make_edit must be a function of layer and unit, got {shown(make_edit)}")
    for name, value in (("memory", memory), ("sample", sample)):
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise EditError(f"{name} must be a positive int, got {shown(value)}")
    experiment = prepare(model, given, layer, readout, call)
    grid = Grid.of(experiment.recording, units, times, make_edit)
    if method == "gradient" and experiment.is_observed:
        raise EditError(
            f"layer {layer!r} is observed, and method='gradient' needs a cell that is known by its "
            "weights: use method='exact'"
        )
    if method == "gradient":
        return _estimate(experiment, grid, sample, memory, progress)
    found, batched = _measure(experiment, grid, grid.runs, memory, progress)
    return _result(experiment, grid, found, method="exact", batched=batched)


Found = dict[int, tuple[Tensor, Tensor]]
"""By the number of a run: its readout edited, and edited behind the recurrence."""


def _measure(
    experiment: Experiment, grid: Grid, runs: Sequence[int], memory: int, progress: bool
) -> tuple[Found, bool]:
    """Edited runs until they end or the user has had enough, and whether they were batched."""
    found: Found = {}
    edited_runs = EditedRuns(experiment, grid.edits, memory)
    job: Job[Sweep] = Job("sweep", "run", len(runs))
    with job.watched(bar=progress):
        for answers in edited_runs.answers(runs):
            for run, edited, direct in answers:
                found[run] = edited, direct
                job.advance()
    return found, edited_runs.batched


def _estimate(
    experiment: Experiment, grid: Grid, sample: int, memory: int, progress: bool
) -> Sweep:
    """First-order estimates of all runs, and exact effects of a sample of them."""
    runs, baseline = sorted(grid.runs), experiment.baseline
    estimates = Estimates(experiment, kinds_of(experiment, map(grid.edits, runs)))
    found: Found = {}
    for run in runs:
        effect, direct = estimates.of(grid.edits(run))
        found[run] = baseline + effect, baseline + direct
    places = torch.linspace(0, len(runs) - 1, min(sample, len(runs))).round().long().tolist()
    chosen = [runs[place] for place in places]
    measured, batched = _measure(experiment, grid, chosen, memory, progress)
    sampled = sorted(measured)
    pairs = [torch.stack([of[run][0] for run in sampled]) - baseline
             for of in (found, measured)] if sampled else []  # fmt: skip
    return _result(
        experiment, grid, found, method="gradient", batched=batched,
        rank_correlation=rank_correlation(*pairs) if pairs else float("nan"),
        sample=tuple(grid.index(run) for run in sampled), wanted=len(chosen),
    )  # fmt: skip


def _result(experiment: Experiment, grid: Grid, found: Found, **more: Any) -> Sweep:
    baseline = experiment.baseline
    blank = torch.full_like(baseline, float("nan"))
    runs = range(len(grid.runs))
    shape = (*grid.shape, *baseline.shape)
    edited, direct = (
        torch.stack([found.get(run, (blank, blank))[way] for run in runs]).reshape(shape)
        if runs
        else baseline.new_empty(shape)
        for way in (0, 1)
    )
    return Sweep(
        layer=experiment.layer,
        units=grid.units,
        times=grid.times,
        baseline=baseline,
        effect=edited - baseline,
        direct=direct - baseline,
        recurrent=edited - direct,
        done=torch.tensor([run in found for run in runs], dtype=torch.bool).reshape(grid.shape),
        **more,
    )
