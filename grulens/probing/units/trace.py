"""Where a run keeps what it knows: the clean run's states put into a corrupted one, step by step.

Two runs differ in one thing and end in two answers. If the state of the clean run, put into the
corrupted one at one step, brings the clean answer back, then at that step those units held what
makes the difference. This is causal tracing (Meng et al. 2022, "Locating and Editing Factual
Associations in GPT", arXiv:2202.05262), for a state that goes on through time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from grulens.arguments import BlockSize, Frame, Given, MethodName, Positions, Times, Units
from grulens.errors import EditError, PositionError, ReadoutError, SourceError, shown
from grulens.job import stopped, tell
from grulens.models.call.invocation import Given as Arguments
from grulens.models.call.invocation import fresh
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.record import record
from grulens.models.recording import LayerRecording
from grulens.probing.edits import positions
from grulens.probing.edits.edit import Edit, patch
from grulens.probing.edits.sources import Source
from grulens.probing.readout.readout import Readout, check_readout
from grulens.probing.units.experiment import floating
from grulens.probing.units.sweep import run_sweep
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

MEMORY = 512 * 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Result):
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
    units: tuple[Positions, ...]
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

    def to_frame(self) -> Frame:
        """A pandas DataFrame, one row a number: units, time, row (of several) and share.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        at = np.indices(tuple(self.share.shape)).reshape(self.share.dim(), -1)
        columns: dict[str, Any] = {
            "units": np.array(self.blocks, dtype=object)[at[0]],
            "time": np.array(self.times, dtype=np.int64)[at[1]],
        }
        if self.share.dim() == 3:
            columns["row"] = at[2]
        return frame(columns | {"share": self.share.cpu().double().flatten().numpy()})

    def __repr__(self) -> str:
        parts = [repr(self.layer), so_many(len(self.units), "block")]
        parts += [so_many(len(self.times), "step")]
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


def trace_patch(
    model: nn.Module,
    clean: Given,
    corrupted: Given,
    layer: str,
    readout: Readout,
    *,
    units: Units = None,
    times: Times = None,
    block: BlockSize = None,
    signal: str = "h",
    call: MethodName = None,
    memory: int = MEMORY,
    progress: bool = True,
) -> Trace:
    """Put the clean run's state into the corrupted run at each step, and see what comes back.

    The recovered share is (readout(patched) - readout(corrupted)) / (readout(clean) -
    readout(corrupted)): Meng et al. 2022 call its numerator the indirect effect.

    Args:
        model: any module that holds a recurrent layer.
        clean: what the model is given in the clean run: one argument, a tuple of arguments, a
            dict of named ones, or both as (tuple, dict).
        corrupted: the same for the corrupted run; as many steps, and as many rows unless the clean
            run has one, which then serves for all.
        layer: name of the layer to patch.
        readout: from the model's output to one number a row, (batch,), or to one number, ():
            a logit, the difference of two, a log probability.
        units: int, slice, sequence of int, bool mask (unit,): which units to patch; None is all.
        times: int, slice, sequence of int, bool mask (time,): at which steps; None is each.
        block: how many units are patched at a time; None is all of `units` at once.
        signal: "h", or a gate "r", "z", "n".
        call: the name of the method that is the run; None is the model itself; as for `record`.
        memory: bytes that the runs done at a time may hold, as for `sweep`.
        progress: whether to show a progress bar.

    Returns:
        A `Trace`. A KeyboardInterrupt ends it early: what is done by then is returned, with a
        `StoppedWarning` that says how much that is.

    Raises:
        ReadoutError: the readout is not one number a row, not finite, or the same for both runs:
            then there is nothing to recover.
        SourceError: the runs have different lengths, or rows that do not fit.
        LayerError, PositionError, EditError: as for `sweep`.

    >>> _ = torch.manual_seed(0)
    >>> rnn = nn.GRU(1, 4, batch_first=True)
    >>> one, other = torch.ones(1, 5, 1), torch.ones(1, 5, 1)
    >>> other[0, 2] = -1.0
    >>> found = trace_patch(rnn, one, other, "l0", lambda out: out[0][:, -1].sum(1),
    ...                     progress=False)
    >>> found, found.share.shape
    (Trace('l0', 1 block, 5 steps), torch.Size([1, 5, 1]))
    >>> (found.share[0, :, 0] > 0.5).tolist()
    [False, False, True, True, True]
    """
    check_readout(readout)
    # each from the random numbers with which every run of the sweep begins
    with as_it_was(model):
        known = record(model, layers=layer, call=call, inputs=fresh(_arguments(clean)))
    source, answer = known[layer], _numbers(readout(known.output))
    blocks = _blocks(units, block, source)
    given = _arguments(corrupted)
    # known before the long part begins: whether the runs fit, and differ
    with as_it_was(model):
        known = record(model, layers=layer, call=call, inputs=fresh(given))
    _check_lengths(source, known[layer])
    _gap(answer, _numbers(readout(known.output)))
    del known
    values: Any = Source.of(source, layer, signal)  # read once, for all edits

    def put_in(name: str, chosen: Positions, at: int) -> Edit:
        return patch(name, signal, chosen, source=values, at=at)

    found = run_sweep(
        model, given, layer=layer, readout=lambda output: _numbers(readout(output)),
        make_edit=put_in, units=blocks, times=slice(None) if times is None else times,
        method="exact", sample=1, call=call, memory=memory, progress=progress,
    )  # fmt: skip
    made = Trace(
        layer=layer,
        signal=signal,
        units=found.units,
        times=found.times or (),
        share=found.effect / _gap(answer, found.baseline),
        clean=answer,
        corrupted=found.baseline,
        done=found.done,
    )
    if made.note:
        tell("trace_patch", made.note)
    return made


def _arguments(given: Given) -> Arguments:
    if isinstance(given, Mapping):
        return (), dict(given)
    if type(given) is tuple and [type(part) for part in given] == [tuple, dict]:
        return given
    # a PackedSequence is a tuple too, and one argument
    return (tuple(given) if type(given) is tuple else (given,)), {}


def _numbers(values: Any) -> Tensor:
    """What a readout returned, if it is one finite number, or one a row."""
    numbers: Tensor = floating(values)
    if numbers.dim() > 1:
        raise ReadoutError(
            "a readout for tracing must return one number a row, (batch,), or one number, (); it "
            f"returned {tuple(numbers.shape)}"
        )
    return numbers


def _gap(clean: Tensor, corrupted: Tensor) -> Tensor:
    """What there is to recover, (batch,) or ().

    Raises:
        ReadoutError: it is nothing, or not finite.
    """
    if clean.dim() != corrupted.dim() or (clean.shape != corrupted.shape and len(clean) != 1):
        raise ReadoutError(
            f"the readout returned {tuple(clean.shape)} for the clean run and "
            f"{tuple(corrupted.shape)} for the corrupted one; it must return one number a row"
        )
    gap: Tensor = clean - corrupted
    # no further apart than rounding is not apart: a share of it would be noise
    least = 16 * torch.finfo(gap.dtype).eps * torch.maximum(clean.abs(), corrupted.abs())
    same = ~gap.isfinite() | (gap.abs() <= least)
    if same.any():
        bad = same.reshape(-1).nonzero().flatten().tolist()
        one, other = (v.expand(gap.shape).reshape(-1)[bad[0]] for v in (clean, corrupted))
        where = f" in {positions.words(tuple(bad), 'row')}" if gap.dim() else ""
        raise ReadoutError(
            f"the readout gives {float(one):.6g} for the clean run and {float(other):.6g} for the "
            f"corrupted one{where}: there is nothing to recover. Choose a readout that tells the "
            "two apart, or an input that differs more"
        )
    return gap


def _check_lengths(clean: LayerRecording, corrupted: LayerRecording) -> None:
    if clean.shape[0] not in (1, corrupted.shape[0]):
        raise SourceError(
            f"the clean run of layer {clean.name!r} has {clean.shape[0]} rows and the corrupted "
            f"one {corrupted.shape[0]}; both must have as many, or the clean one a single row"
        )
    lengths, others = (layer.mask.sum(1).tolist() for layer in (clean, corrupted))
    lengths = lengths * (len(others) // len(lengths))
    for row, (one, other) in enumerate(zip(lengths, others, strict=True)):
        if one != other:
            raise SourceError(
                f"row {row} has {one} steps in the clean run of layer {clean.name!r} and {other} "
                "in the corrupted one; a step's state is put into the same step, so both must be "
                "of one length"
            )


def _blocks(units: Units, block: BlockSize, layer: LayerRecording) -> list[Positions]:
    if block is not None and (isinstance(block, bool) or not isinstance(block, int) or block < 1):
        raise EditError(f"block must be a positive int or None, got {shown(block)}")
    if units is None and block is None:
        return [None]
    index = positions.normal(units, "units")
    positions.check(index, layer.shape[2], "unit", f"layer {layer.name!r}")
    chosen = positions.mask(index, layer.shape[2]).nonzero().flatten().tolist()
    if not chosen:
        raise PositionError(f"units={units!r} names no unit of layer {layer.name!r}")
    size = block or len(chosen)
    return [tuple(chosen[start : start + size]) for start in range(0, len(chosen), size)]
