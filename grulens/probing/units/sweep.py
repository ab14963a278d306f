"""Which units matter, when, and through which path: one edited run for each of them.

An edited run says what one unit does. To say it of all units takes as many runs, which share
everything but the edit; so they are done side by side, as many at a time as keep the processor's
matrix units full and fit into the memory that the caller allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import EditError, shown
from grulens.models.call.invocation import Given, arguments, fresh
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.layers import check_layer, find, named
from grulens.models.record import record
from grulens.probing.edits.five import ablate
from grulens.probing.readout.readout import Readout, check_readout, first_tensor
from grulens.probing.units.gradient import Estimates, kinds_of, rank_correlation
from grulens.probing.units.looks import Looks
from grulens.probing.units.peak_memory import Held
from grulens.probing.units.question import Question, floating
from grulens.probing.units.repeat import bytes_of
from grulens.probing.units.request import Asked
from grulens.probing.units.runs import Answer, SideBySide, one_by_one
from grulens.probing.units.swept import Sweep
from grulens.stopped import tell

SURE = 4
"""So much less than `memory` what is known to be needed must be, to leave the rest unmeasured."""
METHODS = ("exact", "gradient")
STEP_BYTES = 3 * 2**20
"""What the gates of one step may take; more, and they leave the cache before they are used."""


def sweep(
    model: nn.Module,
    *args: Any,
    layer: str,
    readout: Readout = first_tensor,
    make_edit: Callable[..., Any] = ablate,
    units: Any = None,
    times: Any = None,
    method: Any = "exact",
    sample: Any = 16,
    memory: Any = 512 * 2**20,
    progress: bool = True,
    call: Any = None,
    inputs: Any = None,
    **kwargs: Any,
) -> Sweep:
    """Edit each unit of a layer in a run of its own, and see how far the readout moves.

    Args:
        model: any module that holds a GRU.
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
        RecordingError: the layer did not run.

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
    make_edit: Callable[..., Any],
    units: Any,
    times: Any,
    method: Any,
    sample: Any,
    call: Any,
    memory: Any,
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
    question, plain = ask(model, given, layer, readout, call)
    asked = Asked.of(question.recording, units, times, make_edit)
    if method == "gradient":
        return _estimated(question, plain, asked, sample, memory, progress)
    return _exact(question, plain, asked, memory, progress)


def ask(
    model: nn.Module, given: Given, layer: str, readout: Readout, call: str | None = None
) -> tuple[Question, Any]:
    """The unedited run: the question with its baseline, and the model's output."""
    check_readout(readout)
    modules = [named(path, module) for path, module in find(model).items()]
    check_layer(layer, [n for names in modules for n, _ in names.values()], model=model)
    module, names, backwards = next(
        (module, [name for name, _ in names.values()], bool(key[1]))
        for module, names in zip(find(model).values(), modules, strict=True)
        for key, (name, _) in names.items()
        if name == layer
    )
    with as_it_was(model), Looks(module) as looks:
        known = record(model, layers=names, call=call, inputs=fresh(given))
    with as_it_was(model):
        known[layer].check_one_batch("a sweep")
        baseline = floating(readout(known.output))
    question = Question(
        model, given, call, layer, backwards, readout, known, baseline, looks=looks.seen
    )
    return question, known.output


def _exact(question: Question, plain: Any, asked: Asked, memory: int, progress: bool) -> Sweep:
    found: dict[int, tuple[Tensor, Tensor]] = {}
    side_by_side = SideBySide(question, plain)
    at_once = runs_at_once(question, plain, memory)
    _fill(found, _answers(question, side_by_side, asked, asked.runs, at_once), asked.runs, progress)
    batched = side_by_side.guess is not None
    return _result(question, asked, found, method="exact", batched=batched)


def _estimated(
    question: Question, plain: Any, asked: Asked, sample: int, memory: int, progress: bool
) -> Sweep:
    runs = sorted(asked.runs)
    kinds = kinds_of(question, map(asked.edits, runs))
    estimates = Estimates(question, kinds)
    found = {}
    for run in runs:
        effect, direct = estimates.of(asked.edits(run))
        found[run] = question.baseline + effect, question.baseline + direct
    places = torch.linspace(0, len(runs) - 1, min(sample, len(runs))).round().long().tolist()
    measured: dict[int, tuple[Tensor, Tensor]] = {}
    side_by_side = SideBySide(question, plain)
    at_once = runs_at_once(question, plain, memory)
    chosen = [runs[place] for place in places]
    _fill(measured, _answers(question, side_by_side, asked, chosen, at_once), chosen, progress)
    sampled = sorted(measured)
    pairs = [torch.stack([of[run][0] for run in sampled]) - question.baseline
             for of in (found, measured)] if sampled else []  # fmt: skip
    return _result(
        question, asked, found, method="gradient", batched=side_by_side.guess is not None,
        rank_correlation=rank_correlation(*pairs) if pairs else float("nan"),
        sample=tuple(asked.index(run) for run in sampled), wanted=len(chosen),
    )  # fmt: skip


def _fill(
    found: dict[int, tuple[Tensor, Tensor]],
    answers: Iterator[Answer],
    runs: Sequence[int],
    progress: bool,
) -> None:
    """Take answers until they end or the user has had enough."""
    from tqdm.auto import tqdm  # noqa: PLC0415 - it looks for a notebook, and loads its widgets

    with tqdm(total=len(runs), desc="sweep", unit="run", disable=not progress) as bar:
        try:
            for run, edited, direct in answers:
                found[run] = edited, direct
                bar.update()
        except KeyboardInterrupt:
            pass


def _result(
    question: Question, asked: Asked, found: dict[int, tuple[Tensor, Tensor]], **more: Any
) -> Sweep:
    baseline = question.baseline
    blank = torch.full_like(baseline, float("nan"))
    runs = range(len(asked.runs))
    shape = (*asked.shape, *baseline.shape)
    edited, direct = (
        torch.stack([found.get(run, (blank, blank))[way] for run in runs]).reshape(shape)
        if runs
        else baseline.new_empty(shape)
        for way in (0, 1)
    )
    return Sweep(
        layer=question.layer,
        units=asked.units,
        times=asked.times,
        baseline=baseline,
        effect=edited - baseline,
        direct=direct - baseline,
        recurrent=edited - direct,
        done=torch.tensor([run in found for run in runs], dtype=torch.bool).reshape(asked.shape),
        **more,
    )


def _answers(
    question: Question,
    side_by_side: SideBySide,
    asked: Asked,
    runs: Sequence[int],
    at_once: int,
) -> Iterator[Answer]:
    chunks = _even(runs, at_once)
    for number, chunk in enumerate(chunks):
        if number == 0:
            first = side_by_side.first(chunk, asked.edits)
            if first is None:
                yield from one_by_one(question, runs, asked.edits)
                return
            yield from first
        else:
            yield from side_by_side.answers(chunk, asked.edits)


def runs_at_once(question: Question, plain: Any, memory: int) -> int:
    """How many runs fit: into the cache as far as their gates go, into `memory` altogether."""
    layer = question.recording
    batch, steps, units = layer.shape
    value = layer.h.element_size()
    fast = max(1, max(STEP_BYTES // (3 * units * value), 128) // batch)
    # the states, a copy of them in the model's own layout and a mask; what goes into the model, and
    # what comes out of it: it is kept twice, edited and direct
    states = batch * steps * units
    each = (3 * value + 1) * states + bytes_of(question.given) + 2 * bytes_of(plain)
    inside = bytes_of(plain)
    if SURE * fast * (each + inside) > memory:
        with as_it_was(question.model), Held() as held:
            question.run()
        inside = held.peak
    # one copy more than runs: the one in which nothing is changed
    return max(1, min(fast, memory // (each + inside) - 1))


def _even(runs: Sequence[int], at_once: int) -> list[Sequence[int]]:
    chunks = -(-len(runs) // at_once)
    size = -(-len(runs) // max(1, chunks))
    return [runs[start : start + size] for start in range(0, len(runs), max(1, size))]
