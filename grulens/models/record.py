"""Record a run of a model: one call, and nothing of the model is different afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from grulens.arguments import Edits, Inputs, LayerNames, MethodName
from grulens.errors import NoLayerError, RecordingError
from grulens.models.call.invocation import arguments, invocation
from grulens.models.instrument.editing import edits_in_force, names, ran
from grulens.models.instrument.watch import AGAIN, Watch
from grulens.models.instrument.watchable import Watchable
from grulens.models.layers import own_states
from grulens.models.observe.again import tell_if_other
from grulens.models.recording import Recording
from grulens.models.restore.interrupts import grads
from grulens.models.restore.untouched import undone
from grulens.models.restore.versions import version


def record(
    model: nn.Module,
    *args: Any,
    edits: Edits = (),
    layers: LayerNames = None,
    call: MethodName = None,
    inputs: Inputs = None,
    grad: bool = False,
    observe: bool | None = None,
    **kwargs: Any,
) -> Recording:
    """Run `model(*args, **kwargs)`, or a method of it, and keep what its recurrent layers did.

    The model's output is bit for bit what it is without recording (of an LSTM, what it is under
    `torch.no_grad()`, where torch runs it by another kernel on the CPU). States are kept as they
    were; gates are computed when they are first asked for. A model that torch.compile made fast
    runs as it was written (its output is that of the uncompiled model), and is compiled as before
    afterwards; its layers are named as if it were not compiled. Under `torch.autocast` (on the
    CPU; elsewhere it is refused) the gates are as exact as the precision to which it rounds them.

    Args:
        model: any module that holds recurrent layers: nn.GRU, nn.LSTM, nn.RNN, cells of them, a
            registered class, or a class of your own that carries a state.
        *args: the model's own arguments.
        edits: what to change on the way, in order; see `editing`.
        layers: names of the layers to keep; None keeps all.
        call: the name of the method, or of the submodule, whose call is the run ("generate",
            "encoder"); None is the model itself.
        inputs: all arguments of the run as (args, kwargs), in place of `*args` and `**kwargs`; for
            a model that has keyword arguments of the same names as this function.
        grad: keep the graph. What is computed from the recorded signals then has gradients, and a
            loss of the output can be differentiated by them: `torch.autograd.grad(loss,
            run["l0"].h)` is the total derivative by that state: its effect through later states is
            included, as in the derivative by the amount of a `shift`. (`loss.backward()` leaves no
            `.grad` in them.) Where the model detaches a state between two calls, the derivative
            ends there, and torch.autograd.grad warns of that (`GraphCutWarning`).
        observe: whether cells that grulens does not know are opened by the equation that their
            states obey, which is found in a run before this one; None does so where a module may
            carry a state of its own, and holds no layer that is opened otherwise.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Recording`: a mapping from layer name to `LayerRecording`, and the model's output.

    Raises:
        NoLayerError, UnsupportedLayerError: there is nothing to record.
        LayerError: a name that is not in this model.
        EditError: an edit that does not fit.
        EmptySequenceError: a sequence of no steps.
        DropoutMaskError: training mode with dropout between layers on cuDNN.
        RecordingError: none of its layers ran; or one ran where it cannot be recorded: its weights
            and its input on different devices, inside torch.vmap, or with `grad=True` inside
            torch.utils.checkpoint.

    Warns:
        NonFiniteWarning: NaN or infinity entered a layer.
        LeftBehindWarning: the runs in which observed cells were looked for have left something
            behind, and the model returns something else than it would.

    >>> import torch
    >>> rnn = nn.GRU(3, 4, bidirectional=True, batch_first=True)
    >>> recording = record(rnn, torch.zeros(2, 5, 3))
    >>> recording
    Recording(l0, l0_reverse)
    >>> recording["l0_reverse"].h.shape
    torch.Size([2, 5, 4])
    >>> run = record(rnn, torch.zeros(2, 5, 3), grad=True)
    >>> by_z, = torch.autograd.grad(run.output[0][:, -1].sum(), run["l0"].z)
    >>> by_z.shape
    torch.Size([2, 5, 4])
    """
    chosen = tuple(edits) if isinstance(edits, Sequence) else (edits,)
    given = arguments(args, kwargs, inputs)

    def watch() -> Watch:
        watchable = Watchable.in_run(model, given, call, observe)
        kept = names(layers)
        return Watch(watchable, chosen, keep=kept, graph=grad, marks=call != "forward")

    first = watch()  # it says what is no model
    return _or_anew(invocation(model, given, call), first, watch)


def _or_anew(run: Callable[[], object], first: Watch, another: Callable[[], Watch]) -> Recording:
    """A run under a watch; where its observed cells are others since, under another one.

    What the first attempt did to the model is undone then.

    Args:
        run: the run.
        first: the watch.
        another: makes another one, for which the cells are looked for in this very run.
    """
    if first.new or not first.observed:
        return recorded(run, first)
    given = [one for one in tree_leaves(_given(run)) if isinstance(one, Tensor)]
    written = [version(one) for one in given]
    try:
        with undone(first.model, lambda: first.refused):
            return recorded(run, first)
    except RecordingError as error:
        if not first.refused or [version(one) for one in given] != written:
            raise
        said = str(error).removesuffix(AGAIN)
    with suppress(NoLayerError):
        watch = another()
        if watch.observed:
            return recorded(run, watch)
    raise RecordingError(
        f"{said}. Its gates were looked for anew in this run, which shows none: record one of more "
        "steps, and they are found"
    )


def _given(run: Callable[[], object]) -> tuple[Any, ...]:
    """What a run is given."""
    return (*run.args, *run.keywords.values()) if isinstance(run, partial) else ()


def recorded(run: Callable[[], object], watch: Watch) -> Recording:
    """Make a run under a watch, and keep what that saw.

    Raises:
        RecordingError: none of the layers to record ran.
    """
    with grads(watch.graph):
        output = ran(run, watch)
    edits = (*edits_in_force(watch), *watch.edits)
    recording = watch.recording(watch.run, output, edits)
    if not edits:
        tell_if_other(output, watch.before)
    if recording:
        return recording
    if inspect.isawaitable(output) | inspect.isgenerator(output):
        raise RecordingError(
            f"the run gave back a {type(output).__name__}, which has not run yet: record what runs "
            "it in a block, `with recording(model) as runs:`"
        )
    if watch.observed:
        watch.refuse()
        raise RecordingError(
            "none of the sites at which the cells of this model were found was met in this run: "
            f"its code, or what is around it, is another since{AGAIN}"
        )
    held = ", ".join(name for all_ in watch.names.values() for name in all_.values())
    own = own_states(watch.model, watch.modules.values())
    raise RecordingError(f"none of the layers to record ran in this forward ({held}){own}")
