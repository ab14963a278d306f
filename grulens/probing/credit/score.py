"""One number a row of what a model answers, as a function of what one of its layers reads.

Credit is given along this function: from the layer's input and first state to the score. Each
value of it is a run of the whole model that leaves nothing behind, with the lock free in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import EditError, PositionError, ReadoutError, shown
from grulens.models.call.invocation import Given, fresh, invocation
from grulens.models.call.place import EditLike
from grulens.models.instrument.editing import ran
from grulens.models.instrument.given import GivenRun, Means
from grulens.models.instrument.reads import Reads, nudged
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.models.record import record
from grulens.probing.credit.target import FINAL, check_target, difference, in_each_row
from grulens.probing.readout.readout import Readout, check_readout, first_tensor, rows


class Score:
    """A model's score, and the input and first state that a layer had in one run.

    Args:
        model: the user's model.
        given: its arguments, (args, kwargs).
        target: a class of the model's answer, or a class and the one it is compared with; or None.
        step: where the answer is read for that class.
        readout: in place of both, from the model's output to (batch,), or to one number where
            there is one row.
        input_of: the layer; None is the first one that runs.
        edits: what is changed on the way.
        call: its method that is the run, or None.

    Attributes:
        layer: the layer.
        x: its input in that run (batch, time, input), zero on padding.
        h_0: its state before the first step (batch, unit).
        mask: (batch, time), False on padding.
        value: the score of that run (batch,).
    """

    def __init__(
        self,
        model: nn.Module,
        given: Given,
        *,
        target: Any = None,
        step: Any = -1,
        readout: Any = None,
        input_of: Any = None,
        edits: Any = (),
        call: Any = None,
    ) -> None:
        if (target is None) == (readout is None):
            raise ReadoutError(
                "credit is of one number a row: give target=..., a class of the model's answer, or "
                "readout=..., a function of its output; one of them"
            )
        if readout is not None:
            check_readout(readout)
            if not _is_last(step):
                raise ReadoutError(
                    f"step={shown(step)} goes with target=...; a readout says itself where it reads"
                )
        self.model, self.given, self.call = model, given, call
        self.edits: Sequence[EditLike] = edits if isinstance(edits, Sequence) else (edits,)
        wanted = None if input_of is None else [input_of]
        with as_it_was(model):
            run = record(model, layers=wanted, edits=self.edits, call=call, inputs=fresh(given))
        self.layer = next(iter(run))
        recorded = run[self.layer]
        recorded.check_one_batch("credit")
        self.x: Tensor = recorded.x
        self.h_0: Tensor = recorded.segments[0].h_0
        self.mask: Tensor = recorded.mask
        self.readout: Readout = readout or partial(self._class, target, step)
        # first of all runs: the means to which edits refer are those of this one
        self._means: Means = {}
        self._checked = False
        self.value = self.at(self.x, self.h_0)

    def at(self, x: Tensor, h_0: Tensor) -> Tensor:
        """The score (batch,) where the layer reads this."""
        with as_it_was(self.model, grad=True):
            return self._run(x, h_0).detach()

    def gradients(self, x: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of the score with respect to x and to h_0.

        Raises:
            ReadoutError: no gradient flows through the readout.
            RecordingError: the model cuts its graph between the layer and the score.
        """
        with as_it_was(self.model, grad=True):
            # leaves of their own: what is handed in may be part of a graph
            leaves = x.detach().requires_grad_(), h_0.detach().requires_grad_()
            reads = None if self._checked else Reads()
            score = self._run(*leaves, reads)
            if not score.requires_grad:
                raise ReadoutError(
                    "credit needs a readout that gradients flow through; this one returns a tensor "
                    "without a graph (no .item(), .detach(), argmax or numpy in it)"
                )
            of_x, of_h_0 = torch.autograd.grad(score.sum(), leaves, materialize_grads=True)
        if reads is not None:
            self._check_graph(reads, leaves)
        return of_x, of_h_0

    def _check_graph(self, reads: Reads, leaves: tuple[Tensor, Tensor]) -> None:
        """Raise RecordingError if a gradient by these leaves would leave something out."""
        moved = Reads()
        with as_it_was(self.model, grad=True):
            x, h_0 = nudged(leaves)
            self._run(x, h_0, moved)
        instead = "ask what asks for no gradient (contextual_credit, layerwise_relevance, sweep)"
        reads.check(moved, leaves, self.layer, instead)
        self._checked = True

    def _run(self, x: Tensor, h_0: Tensor, reads: Reads | None = None) -> Tensor:
        run = GivenRun(self.model, self.layer, x, h_0, self._means)
        run.reads = reads
        again = invocation(self.model, fresh(self.given), self.call)
        output = ran(again, Watch(self.model, self.edits), run)
        run.check_whole()
        score = self._read(output)
        if reads is not None:
            reads.note("the score", score)
        return score

    def _class(self, target: Any, step: Any, output: Any) -> Tensor:
        """The model's own answer for a class at a step (batch,)."""
        batch, steps = self.mask.shape
        classes = rows(output, first_tensor, None, batch, steps).movedim(2, 0)
        values = difference(classes, check_target(target, len(classes)))
        final = isinstance(step, str) and step == FINAL
        if values.shape[1] == 1:
            if not final and not _is_last(step):
                raise PositionError(
                    f'the model answers once a row: step must be -1 or "{FINAL}", got {shown(step)}'
                )
            return values[:, 0]
        if final:
            raise PositionError(
                f'the model answers at every step: step must be an int, not "{FINAL}"'
            )
        ends = torch.full((batch,), values.shape[1])
        if values.shape[1] == steps:
            ends = self.mask.sum(1).cpu()
        where = in_each_row(step, ends, values.shape[1], "the model's answer")
        return values[torch.arange(batch, device=values.device), where.to(values.device)]

    def _read(self, output: Any) -> Tensor:
        score = self.readout(output)
        batch = len(self.x)
        if not isinstance(score, Tensor) or not score.is_floating_point():
            came = score.dtype if isinstance(score, Tensor) else type(score).__name__
            raise ReadoutError(f"a readout must return a floating tensor, got {came}")
        if batch == 1 and score.dim() == 0:
            return score[None]
        if tuple(score.shape) != (batch,):
            raise ReadoutError(
                f"credit is for one number a row: readout must return ({batch},) for these {batch} "
                f"rows{', or one number' if batch == 1 else ''}; it returned {tuple(score.shape)}"
            )
        return score


def _is_last(step: Any) -> bool:
    return type(step) is int and step == -1


def baseline_of(score: Score, baseline: Any) -> Tensor:
    """What a layer reads at the start of a path, (batch, time, input): zero on padding.

    Args:
        score: whose layer it is.
        baseline: a finite number, or a tensor that broadcasts to the layer's input.

    Raises:
        EditError: it is neither.
    """
    x, value = score.x, baseline
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = torch.tensor(float(value))
        if isinstance(value, Tensor) and not value.is_complex():
            wide = value.detach().to(x).broadcast_to(x.shape)
            if bool(wide.isfinite().all()):
                return wide.masked_fill(~score.mask[..., None], 0)
    except (RuntimeError, NotImplementedError, OverflowError):
        pass  # it does not fit, whatever the reason
    came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(baseline)
    raise EditError(
        "baseline must be a finite number, or a tensor of them that broadcasts to the layer's "
        f"input (batch, time, input) = {tuple(x.shape)}; got {came}"
    )
