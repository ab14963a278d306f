"""One number a row of what a model answers, as a function of what one of its layers reads.

Credit is given along this function: from the layer's input and first state to the score, or from
what the model itself was given where the layer was observed. Each value of it is a run of the whole
model that leaves nothing behind, with the lock free in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import EditError, PositionError, ReadoutError, SignalError, shown
from grulens.models.call.invocation import Given, fresh, invocation
from grulens.models.call.place import EditLike
from grulens.models.instrument.editing import ran
from grulens.models.instrument.given import GivenRun, Means
from grulens.models.instrument.reads import Reads, nudged
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.instrument.watch import Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.layers import layers
from grulens.models.observed import ObservedLayer
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.probing.credit.model_input import ModelInput, floating
from grulens.probing.credit.target import FINAL, check_target, difference, in_each_row
from grulens.probing.readout.readout import Readout, check_readout, first_tensor, rows


class Score:
    """A model's score, and the input and first state that a layer had in one run.

    Or what the model itself was given there: a floating tensor among its arguments.

    Args:
        model: the user's model.
        given: its arguments, (args, kwargs).
        target: a class of the model's answer, or a class and the one it is compared with; or None.
        step: where the answer is read for that class.
        readout: in place of both, from the model's output to (batch,), or to one number where
            there is one row.
        input_of: the layer, or the name of an argument of the model; None is the first layer that
            runs, and the only floating argument where that was observed.
        edits: what is changed on the way.
        call: its method that is the run, or None.

    Attributes:
        layer: the layer, or the argument.
        x: its input in that run (batch, time, input), zero on padding; or the argument.
        h_0: its state before the first step (batch, unit); of an argument without units.
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
        arguments = dict(floating(model, given, call)) if isinstance(input_of, str) else {}
        named = isinstance(input_of, str) and input_of in arguments
        argument = input_of if named and not _is_layer(model, input_of) else None
        wanted = None if input_of is None or argument else [input_of]
        with as_it_was(model):
            run = record(model, layers=wanted, edits=self.edits, call=call, inputs=fresh(given))
            self.watchable = Watchable.of(model)
        self.layer = next(iter(run))
        recorded = run[self.layer]
        recorded.check_one_batch("credit")
        self.mask: Tensor = recorded.mask
        self.input: ModelInput | None = None
        observed = isinstance(recorded, ObservedLayer)
        if argument or (observed and input_of is None):
            self.input = ModelInput.of(model, given, call, recorded, argument)
            self.layer, self.x = self.input.name, self.input.x
            self.h_0 = self.x.new_zeros(len(self.x), 0)
        elif observed:
            raise SignalError(
                f"layer {self.layer!r} was observed in its module's own forward, and what its "
                "input is, only that knows; credit what the model itself is given: input_of= the "
                "name of its argument"
            )
        else:
            self.x, self.h_0 = recorded.x, recorded.segments[0].h_0
        self.readout: Readout = readout or partial(self._class, target, step)
        # first of all runs: the means to which edits refer are those of this one
        self._means: Means = {}
        self._unedited: Recording | None = None
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
            if self.input is not None and not self._checked:
                (first,) = torch.autograd.grad(
                    score[0], leaves[:1], retain_graph=True, materialize_grads=True
                )
                self.input.check_rows(first, len(self.x))
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
        what = f"layer {self.layer!r}"
        if self.input is not None:
            what, instead = f"the model's input {self.layer!r}", "ask sweep, which needs none"
        reads.check(moved, leaves, what, instead)
        self._checked = True

    def _run(self, x: Tensor, h_0: Tensor, reads: Reads | None = None) -> Tensor:
        if self.input is not None:
            return self._run_given(self.input, x, reads)
        run = GivenRun(self.watchable, self.layer, x, h_0, self._means)
        run.reads = reads
        again = invocation(self.model, fresh(self.given), self.call)
        output = ran(again, Watch(self.watchable, self.edits), run)
        run.check_whole()
        score = self._read(output)
        if reads is not None:
            reads.note("the score", score)
        return score

    def _run_given(self, argument: ModelInput, x: Tensor, reads: Reads | None) -> Tensor:
        """A run of the model on other values of what it is given."""
        again = invocation(self.model, argument.given(self.given, x), self.call)
        watch = Watch(self.watchable, self.edits)
        if reads is not None and watch.observed:
            # what they read of each other is part of the graph, or was cut off
            watch = Watch(self.watchable, self.edits, keep=tuple(watch.observed), graph=True)
        watch.reads = reads
        output = ran(again, watch, unedited=self._unedited)
        self._unedited = watch.run.unedited
        score = self._read(output)
        if reads is not None:
            for name in watch.observed:
                for segment in watch.run.segments.get(name, ()):
                    held: Any = segment  # an observed cell has its own
                    for signal, values in held.read.items():
                        reads.note(f"{signal} of layer {name!r}", values)
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


def _is_layer(model: nn.Module, name: str) -> bool:
    found = layers(model)
    return name in {one.name for one in (*found, *found.observed)}


def _is_last(step: Any) -> bool:
    return type(step) is int and step == -1


def baseline_of(score: Score, baseline: Any) -> Tensor:
    """What a layer or a model reads at the start of a path, (batch, time, input).

    Zero on the padding of a layer.

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
                return wide if score.input else wide.masked_fill(~score.mask[..., None], 0)
    except (RuntimeError, NotImplementedError, OverflowError):
        pass  # it does not fit, whatever the reason
    came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(baseline)
    whose = "model's" if score.input else "layer's"
    raise EditError(
        "baseline must be a finite number, or a tensor of them that broadcasts to the "
        f"{whose} input (batch, time, input) = {tuple(x.shape)}; got {came}"
    )
