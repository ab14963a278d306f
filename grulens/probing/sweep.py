"""Which units matter, when, and through which path: one edited run for each of them.

An edited run says what one unit does. To say it of all units takes as many runs, which share
everything but the edit; so they are done side by side, as many at a time as keep the processor's
matrix units full and fit into the memory that the caller allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from grulens.errors import EditError
from grulens.models.find import check_layer, find, named
from grulens.models.record import record
from grulens.probing.asked import Asked
from grulens.probing.edits import ablate
from grulens.probing.readout import Readout, first_tensor
from grulens.probing.runs import Answer, Question, SideBySide, as_it_was, floating, one_by_one
from grulens.probing.swept import Method, Sweep
from grulens.probing.tiles import bytes_of

METHODS = ("exact", "gradient")
STEP_BYTES = 3 * 2**19
"""What the gates of one step may take; more, and they leave the cache before they are used."""


def sweep(
    model: nn.Module,
    *args: Any,
    layer: str,
    readout: Readout = first_tensor,
    make_edit: Callable[..., Any] = ablate,
    units: Any = None,
    times: Any = None,
    method: Method = "exact",
    sample: int = 16,
    memory: int = 256 * 2**20,
    progress: bool = True,
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
            the result. One run is always done.
        progress: whether to show a progress bar.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Sweep`. A KeyboardInterrupt ends it early: what is done by then is returned.

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
    if method not in METHODS:
        raise EditError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for name, value in (("memory", memory), ("sample", sample)):
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise EditError(f"{name} must be a positive int, got {value!r}")
    question, plain = ask(model, (args, kwargs), layer, readout)
    asked = Asked.of(question.recording, units, times, make_edit)
    return exact(question, plain, asked, memory, progress)


def ask(
    model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]], layer: str, readout: Readout
) -> tuple[Question, Any]:
    """The unedited run: the question with its baseline, and the model's output."""
    modules = [named(path, module) for path, module in find(model).items()]
    check_layer(layer, [name for names in modules for name, _ in names.values()])
    names, backwards = next(
        ([name for name, _ in names.values()], bool(key[1]))
        for names in modules
        for key, (name, _) in names.items()
        if name == layer
    )
    with as_it_was(model):
        known = record(model, *given[0], layers=names, **given[1])
        baseline = floating(readout(known.output))
    return Question(model, given, layer, backwards, readout, known, baseline), known.output


def exact(question: Question, plain: Any, asked: Asked, memory: int, progress: bool) -> Sweep:
    """A sweep of edited runs."""
    from tqdm.auto import tqdm  # noqa: PLC0415 - it looks for a notebook, and loads its widgets

    baseline, count = question.baseline, len(asked.runs)
    edited = baseline.new_full((count, *baseline.shape), float("nan"))
    direct = edited.clone()
    done = torch.zeros(count, dtype=torch.bool)
    side_by_side = SideBySide(question, plain)
    with tqdm(total=count, desc=f"sweep of {question.layer}", disable=not progress) as bar:
        try:
            at_once = runs_at_once(question, plain, memory)
            for run, *answers in _answers(question, side_by_side, asked, at_once):
                edited[run], direct[run] = answers
                done[run] = True
                bar.update()
        except KeyboardInterrupt:
            pass
    runs = (*asked.shape, *baseline.shape)
    return Sweep(
        layer=question.layer,
        units=asked.units,
        times=asked.times,
        baseline=baseline,
        effect=(edited - baseline).reshape(runs),
        direct=(direct - baseline).reshape(runs),
        recurrent=(edited - direct).reshape(runs),
        done=done.reshape(asked.shape),
        batched=side_by_side.guess is not None,
    )


def _answers(
    question: Question, side_by_side: SideBySide, asked: Asked, at_once: int
) -> Iterator[Answer]:
    chunks = _even(asked.runs, at_once)
    for number, chunk in enumerate(chunks):
        if number == 0:
            first = side_by_side.first(chunk, asked.edits)
            if first is None:
                yield from one_by_one(question, asked.runs, asked.edits)
                return
            yield from first
        else:
            yield from side_by_side.answers(chunk, asked.edits)


def runs_at_once(question: Question, plain: Any, memory: int) -> int:
    """How many runs fit: into the cache as far as their gates go, into `memory` altogether."""
    layer = question.recording
    batch, steps, units = layer.shape
    value = layer.h.element_size()
    fast = max(1, STEP_BYTES // (3 * units * value), 128) // batch
    # its states and their copy in the model's layout, what goes into the model, and what comes out
    # of it twice, edited and direct
    states = batch * steps * units * value
    each = 3 * states + bytes_of(question.given) + 3 * bytes_of(plain)
    return max(1, min(fast, memory // each))


def _even(runs: Sequence[int], at_once: int) -> list[Sequence[int]]:
    chunks = -(-len(runs) // at_once)
    size = -(-len(runs) // max(1, chunks))
    return [runs[start : start + size] for start in range(0, len(runs), max(1, size))]
