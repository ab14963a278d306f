"""First-order estimates of a sweep: one backward pass instead of one run a unit.

How the readout moves when an edit is faded in, s -> s + a (edited - s) with a going from 0 to 1, is
to first order the sum over the places that the edit touches of d readout / d s times (edited - s),
both taken in the unedited run: attribution patching (Nanda 2023; Syed, Rager and Conmy 2023,
arXiv:2310.10348). The derivative is the total one: what a nudge of a state at one step does to
later states is part of it. So a unit that keeps its memory is counted at every step for what it
still holds of earlier ones, which an edit that sets its state at every step wipes out: such effects
are overestimated. How well the order of the units survives is measured on a sample of exact runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grulens.cells.changes import Change
from grulens.errors import ReadoutError
from grulens.models.call.place import EditLike, Place
from grulens.models.instrument.batched import DirectRun
from grulens.models.instrument.editing import ran
from grulens.models.instrument.reads import Reads, nudged
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.probing.units.experiment import Experiment

Kind = tuple[str, bool]
"""A signal, and whether it is its pre-activation."""


@dataclass(frozen=True, eq=False)
class _Nudge:
    """An edit that adds `amount` (batch, time, unit), which is zero, so that it has a gradient."""

    layer: str
    kind: Kind
    amount: Tensor
    relative: bool = False

    @property
    def signal(self) -> str:
        return self.kind[0]

    def check_units(self, units: int) -> None:
        """It fits: it was made for this layer."""

    def check_steps(self, steps: int) -> None:
        """It fits: it was made for this run."""

    def change(self, place: Place) -> Change:
        amount = self.amount[:, place.start : place.start + place.steps]
        one = amount.new_ones(1, 1, 1)
        return Change(self.kind[0], one.bool(), one, amount, before_activation=self.kind[1])


class Estimates:
    """The gradients of a readout, and what they say of an edit.

    Args:
        experiment: the model, its input and its readout.
        kinds: what the edits change.
    """

    def __init__(self, experiment: Experiment, kinds: Sequence[Kind]) -> None:
        layer = experiment.recording
        self.experiment = experiment
        zeros = {kind: torch.zeros_like(layer.h).requires_grad_() for kind in kinds}
        with as_it_was(experiment.model, grad=True):
            moved, _ = self._run(dict(zip(zeros, nudged(zeros.values()), strict=True)))
        with as_it_was(experiment.model, grad=True):
            reads, values = self._run(zeros)
            self._total = self._gradients(values, zeros)
        leaves = list(zeros.values())
        of = f"layer {experiment.layer!r}"
        reads.check(moved, leaves, of, 'use method="exact"')
        nudges = self._nudges(zeros)
        direct = DirectRun(experiment.watchable, experiment.layer, experiment.unedited, nudges)
        with as_it_was(experiment.model, grad=True):
            output = ran(experiment.run, direct)
            self._direct = self._gradients(experiment.readout(output), zeros)

    def _nudges(self, amounts: Mapping[Kind, Tensor]) -> list[_Nudge]:
        return [_Nudge(self.experiment.layer, kind, amount) for kind, amount in amounts.items()]

    def _run(self, amounts: Mapping[Kind, Tensor]) -> tuple[Reads, Any]:
        """A run with these amounts added: what its modules read, and its readout."""
        watch = Watch(self.experiment.watchable, self._nudges(amounts))
        watch.reads = Reads()
        values = self.experiment.readout(ran(self.experiment.run, watch))
        watch.reads.note("the readout", values)
        return watch.reads, values

    def _gradients(self, values: Any, zeros: dict[Kind, Tensor]) -> dict[Kind, Tensor]:
        """(number of the readout, batch, time, unit) for each kind."""
        if not isinstance(values, Tensor) or not values.requires_grad:
            raise ReadoutError(
                'method="gradient" needs a readout that gradients flow through; this one returns '
                f"{type(values).__name__} without a graph (no .item(), .detach() or numpy in it)"
            )
        numbers = values.flatten()
        parts = [
            torch.autograd.grad(
                number, list(zeros.values()), retain_graph=place < len(numbers) - 1,
                materialize_grads=True,
            )
            for place, number in enumerate(numbers)
        ]  # fmt: skip
        return {
            kind: torch.stack(found)
            for kind, found in zip(zeros, zip(*parts, strict=True), strict=True)
        }

    def of(self, edits: Sequence[EditLike]) -> tuple[Tensor, Tensor]:
        """The effect of some edits and its direct part, each of the readout's shape."""
        experiment = self.experiment
        changes = [edit.change(experiment.place) for edit in edits]
        steps, units = _touched(changes, experiment.place)
        moved: dict[Kind, Tensor] = {}
        for change in changes:
            kind = change.signal, change.before_activation
            where, factor, offset = (
                _part(tensor, steps, units, experiment.place)
                for tensor in (change.where, change.factor, change.offset)
            )
            if change.before_activation:
                before = moved.get(kind, torch.zeros_like(offset))
                after = before + offset
            else:
                signal = experiment.recording.signal(change.signal)
                value = _part(signal, steps, units, experiment.place)
                before = moved.get(kind, torch.zeros_like(value))
                after = factor * (value + before) + offset - value
            moved[kind] = torch.where(where, after, before)
        shape = experiment.baseline.shape
        found = []
        for gradients in (self._total, self._direct):
            sums = experiment.baseline.new_zeros(experiment.baseline.numel())
            for kind, by in moved.items():
                part = gradients[kind][:, :, steps][..., units]
                sums = sums + (part * by).sum((1, 2, 3)).to(sums.dtype)
            found.append(sums.reshape(shape))
        return found[0], found[1]


def kinds_of(experiment: Experiment, runs: Iterator[Sequence[EditLike]]) -> list[Kind]:
    """What the edits of all runs change."""
    found: dict[Kind, None] = {}
    for edits in runs:
        for edit in edits:
            change = edit.change(experiment.place)
            found[change.signal, change.before_activation] = None
    return list(found)


def rank_correlation(estimates: Tensor, exact: Tensor) -> float:
    """Spearman's rank correlation over runs, its mean over the numbers of a readout.

    Args:
        estimates: (run, *readout).
        exact: the same.

    Returns:
        NaN if there are fewer than two runs, or all are alike.

    >>> one = torch.tensor([1.0, 2.0, 3.0])
    >>> rank_correlation(one, one.exp()), rank_correlation(one, -one)
    (1.0, -1.0)
    """
    from scipy.stats import spearmanr  # noqa: PLC0415 - slow to import

    by_number = (v.double().reshape(len(v), -1).t().cpu().numpy() for v in (estimates, exact))
    found = []
    for one, other in zip(*by_number, strict=True):
        if len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0:
            found.append(float(spearmanr(one, other).statistic))
    return round(float(np.mean(found)), 12) if found else float("nan")


def _touched(changes: Sequence[Change], place: Place) -> tuple[slice, Tensor]:
    """The steps from the first to the last and the units that changes touch."""
    steps = torch.zeros(place.steps, dtype=torch.bool)
    units = torch.zeros(place.units, dtype=torch.bool)
    for change in changes:
        where = change.where.any(0).cpu()
        steps |= where.any(1)
        units |= where.any(0)
    found = steps.nonzero().flatten().tolist() or [0]
    index = units.nonzero().flatten().to(place.like.device)
    return slice(found[0], found[-1] + 1), index


def _part(tensor: Tensor, steps: slice, units: Tensor, place: Place) -> Tensor:
    wide = tensor.expand(place.batch, place.steps, place.units)
    return wide[:, steps][..., units]
