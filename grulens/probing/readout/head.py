"""The linear readout of a layer: what turns its states into the numbers of a model's answer.

Questions about a class (which units speak for it, which step wrote it) need the direction in which
the model reads the state. It is found, never guessed: the model runs once, and the nn.Linear whose
inputs are this layer's states, bit for bit, is the one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from grulens.arguments import Frame, Inputs, MethodName
from grulens.errors import ReadoutError, shown
from grulens.models.adapters.closed import look
from grulens.models.call.invocation import Given, arguments
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.layers import check_layer, layers
from grulens.models.observed import ObservedLayer
from grulens.models.record import record
from grulens.models.recording import LayerRecording, Recording
from grulens.models.restore.interrupts import Uninterrupted
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

ROWS = 512
"""Inputs of an nn.Linear that are compared; that many equal by chance are none."""
#: Where among what an nn.Linear reads the states of a layer begin.
_Found: TypeAlias = dict[tuple[nn.Linear, str], list[int]]


@dataclass(frozen=True, eq=False, repr=False)
class Head(Result):
    """A linear readout of a layer's states: h weight^T + bias.

    Attributes:
        name: path of the nn.Linear in the model.
        layer: the layer whose states it reads.
        weight: (class, unit).
        bias: (class,), zero where the nn.Linear has none.
        joined: what it reads beside this layer: (class, unit) by layer, such as the other
            direction. It adds its own part to every class.
        states_only: whether this layer and the joined ones are all that it reads.
    """

    name: str
    layer: str
    weight: Float[Tensor, "klass unit"]
    bias: Float[Tensor, " klass"]
    joined: Mapping[str, Tensor]
    states_only: bool

    def __call__(self, h: Float[Tensor, "*any unit"]) -> Float[Tensor, "*any klass"]:
        """What these states (..., unit) say of every class, the bias included."""
        return linear(h, self.weight.to(h), self.bias.to(h))

    def to_frame(self) -> Frame:
        """The weights as a pandas DataFrame: a line a class, a column a unit.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return frame(self.weight, index="class", columns="unit")

    def over(self, layers: Iterable[str]) -> dict[str, Float[Tensor, "klass unit"]]:
        """The weights (class, unit) of those of these layers that it reads, by name."""
        weights = {**self.joined, self.layer: self.weight}
        return {name: weights[name] for name in layers if name in weights}

    def __repr__(self) -> str:
        classes, units = self.weight.shape
        beside = f", beside {', '.join(self.joined)}" if self.joined else ""
        size = f"{so_many(classes, 'class')}, {so_many(units, 'unit')}"
        return f"Head({self.name!r} of {self.layer!r}, {size}{beside})"

    def _repr_html_(self) -> str:
        classes, units = self.weight.shape
        row = (self.name, self.layer, classes, units, ", ".join(self.joined), self.states_only)
        return html_table(
            ("nn.Linear", "reads", "classes", "units", "beside", "nothing else"), [row]
        )


def head_of(
    model: nn.Module,
    *args: Any,
    layer: str | None = None,
    call: MethodName = None,
    inputs: Inputs = None,
    **kwargs: Any,
) -> Head:
    """The nn.Linear that reads a layer's states.

    Args:
        model: any module that holds a recurrent layer.
        *args: its own arguments; it runs once, and is afterwards as it was.
        layer: the layer; None is the last one that an nn.Linear reads.
        call: the name of the method that is the run; None is the model itself; as for `record`.
        inputs: all arguments of the run as (args, kwargs), as for `record`.
        **kwargs: the model's own keyword arguments.

    Returns:
        A `Head`. Of several nn.Linear that read the layer, the one whose result is the model's
        output or a part of it.

    Raises:
        ReadoutError: no nn.Linear reads the layer's states as they are (something stands between,
            such as dropout in training mode or a normalisation); another nn.Linear comes after it;
            or several do, and nothing tells them apart.
        LayerError: the layer did not run.

    >>> class Tagger(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.out(self.rnn(x)[0])
    >>> head_of(Tagger(), torch.randn(1, 5, 3))
    Head('out' of 'rnn.l0', 2 classes, 4 units)
    """
    heard, recording, found = _heard(model, call, arguments(args, kwargs, inputs))
    if layer is not None:
        check_layer(layer, list(recording), "did not run on this input; what ran is", model)
    wanted = layer or _last([name for name in recording if any(n == name for _, n in found)])
    linears = [linear_ for linear_, name in found if name == wanted]
    if not linears:
        raise ReadoutError(
            f"no nn.Linear of this model reads the states of layer "
            f"{shown(layer or _last(list(recording)))} as they are; "
            "give head=..., an nn.Linear or a function from (..., unit) to (..., class)"
        )
    return _head(_one(linears, heard, recording, wanted), wanted, heard, recording, found)


def heads_of(model: nn.Module, call: str | None, given: Given) -> list[Head]:
    """Every nn.Linear that reads states as they are, each as the readout of the last such layer.

    Which of them answers is for the caller to see, by comparing; so those of a model with several
    answers are all here.

    Args:
        model: the model; it runs once, and is afterwards as it was.
        call: the model's method that is the run, or None.
        given: its arguments, positional and named.
    """
    heard, recording, found = _heard(model, call, given)
    made = []
    for linear_ in {linear_: None for linear_, _ in found}:
        wanted = _last([name for name in recording if (linear_, name) in found])
        with suppress(ReadoutError):
            made.append(_head(linear_, wanted, heard, recording, found))
    return made


def _heard(
    model: nn.Module, call: str | None, given: Given
) -> tuple[_Listening, Recording, _Found]:
    """A run, what every nn.Linear was given in it, and where the states of which layer stand."""
    # says by name why a model cannot be opened
    if layers(model).observed:
        # a cell is looked for in runs of which nothing is to be heard
        with as_it_was(model):
            record(model, call=call, inputs=given)
    with as_it_was(model), _Listening(model) as heard:
        recording = record(model, call=call, inputs=given)
    heard.forget_inner(recording.output)
    states = {name: _Known(layer_) for name, layer_ in recording.items()}
    found = {
        (linear_, name): starts
        for name in recording
        for linear_, inputs in heard.inputs.items()
        if (starts := states[name].starts(inputs))
    }
    return heard, recording, found


def _head(
    linear_: nn.Linear, wanted: str, heard: _Listening, recording: Recording, found: _Found
) -> Head:
    """An nn.Linear as the readout of a layer whose states it reads."""
    weight = linear_.weight.detach().clone()  # training may go on: what was found stays
    taken, joined = found[linear_, wanted], dict[str, Tensor]()
    for name in recording:
        for start in found.get((linear_, name), ()):
            units = recording[name].shape[2]
            part = weight[:, start : start + units]
            if name == wanted and start != taken[0]:
                raise ReadoutError(
                    f"{heard.names[linear_]!r} reads layer {wanted!r} more than once; give head=..."
                )
            if name != wanted:
                joined[name] = part
    units = recording[wanted].shape[2]
    width = units + sum(part.shape[1] for part in joined.values())
    bias = (
        linear_.bias.detach().clone() if linear_.bias is not None else weight.new_zeros(len(weight))
    )
    return Head(
        heard.names[linear_], wanted, weight[:, taken[0] : taken[0] + units], bias, joined,
        width == weight.shape[1],
    )  # fmt: skip


def head_for(
    model: nn.Module, given: Given, run: Recording, layer: str | None, head: Any, call: str | None
) -> Head:
    """The linear readout that a question is about: the one that is found, or the one given.

    Args:
        model: the model.
        given: its arguments, positional and named.
        run: its run.
        layer: the layer that is read; None is the last one that a linear readout reads.
        head: an nn.Linear over the layer's units or over those of both directions side by side, a
            `Head`, or None to find it.
        call: the model's method that was the run, or None.

    Raises:
        ReadoutError: none is found, or the one given does not fit.
        LayerError: no such layer.
    """
    if layer is not None:
        check_layer(layer, list(run), "did not run on this input; what ran is", model)
    if head is None:
        return head_of(model, layer=layer, call=call, inputs=given)
    if isinstance(head, Head):
        if layer is not None and layer != head.layer:
            raise ReadoutError(f"{head!r} reads another layer than {layer!r}")
        return head
    name = last_layer(run) if layer is None else layer
    if not isinstance(head, nn.Linear):
        raise ReadoutError(
            f"head must be an nn.Linear over the states of layer {name!r}, or a Head, got "
            f"{shown(head)}; only what is linear can be shared among its parts"
        )
    return fitted(head, name, run)


def fitted(head: nn.Linear, layer: str, run: Recording) -> Head:
    """An nn.Linear that the user gave, as the readout of one direction, or of both.

    Raises:
        ReadoutError: it reads neither so many numbers.
    """
    forward = layer.removesuffix("_reverse")
    directions = [name for name in (forward, f"{forward}_reverse") if name in run]
    for names in ([layer], directions):
        widths = [run[name].shape[2] for name in names]
        if sum(widths) == head.in_features:
            weights = dict(zip(names, torch.split(head.weight.detach(), widths, 1), strict=True))
            weight = weights.pop(layer)
            bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach()
            return Head("head", layer, weight, bias, weights, True)
    both = sum(run[name].shape[2] for name in directions)
    raise ReadoutError(
        f"head reads {so_many(head.in_features, 'number')}; layer {layer!r} has "
        + so_many(run[layer].shape[2], "unit")
        + (f", both directions {both}" if len(directions) > 1 else "")
    )


def last_layer(run: Recording) -> str:
    """The layer that ran last, the forward direction before the reverse one."""
    forward = [name for name in run if not run[name].segments[0].reverse]
    return (forward or list(run))[-1]


class _Listening(Uninterrupted):
    """What every nn.Linear was given and gave, in the order in which they last ran."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {
            module: name for name, module in model.named_modules() if isinstance(module, nn.Linear)
        }
        self.inner = {part for gru in look(model).opened.values() for part in gru.modules()}
        self.inputs: dict[nn.Linear, list[Tensor]] = {}
        self.outputs: dict[nn.Linear, Tensor] = {}
        self._hooks: list[Any] = []

    def begin(self) -> None:
        for module in self.names:
            self._hooks.append(module.register_forward_hook(self._hear))

    def _hear(self, module: nn.Linear, args: Any, output: Tensor) -> None:
        if args and isinstance(args[0], Tensor):
            self.inputs[module] = [*self.inputs.pop(module, ()), args[0].detach()]
            self.outputs[module] = output.detach()

    def end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def forget_inner(self, output: Any) -> None:
        """Leave out what registered layers are made of.

        Such an nn.Linear reads states, but answers nobody, unless what it gave is in the output.
        """
        for module in [*self.inputs]:
            if module in self.inner and not _within(self.outputs[module], output):
                del self.inputs[module], self.outputs[module]


class _Known:
    """The states of a layer, to be found again in what others read."""

    def __init__(self, layer: LayerRecording) -> None:
        self.units = layer.shape[2]
        self.dtype = layer.h.dtype
        self._rows = {hash(row) for row in _bytes(layer.h.detach()[layer.mask])}

    def starts(self, inputs: list[Tensor]) -> list[int]:
        """Where among an nn.Linear's input features these states stand."""
        width = inputs[0].shape[-1]
        if width < self.units or inputs[0].dtype != self.dtype:
            return []
        rows = torch.cat([part.reshape(-1, width) for part in inputs])
        rows = rows[:: -(-len(rows) // ROWS)]
        places = sorted({*range(0, width - self.units + 1, self.units), width - self.units})
        return [start for start in places if self._holds(rows[:, start : start + self.units])]

    def _holds(self, rows: Tensor) -> bool:
        valid = rows[rows.ne(0).any(1)]  # padding is zero, and no state
        return len(valid) > 0 and all(hash(row) in self._rows for row in _bytes(valid))


def _bytes(rows: Tensor) -> Iterator[bytes]:
    whole = rows.contiguous().cpu().view(torch.uint8).numpy()
    return (row.tobytes() for row in whole)


def _last(names: list[str]) -> str:
    """The last of these layers, the forward direction before the reverse one."""
    forward = [name for name in names if not name.endswith("_reverse")]
    return (forward or names or [""])[-1]


def _one(
    linears: list[nn.Linear], heard: _Listening, recording: Recording, layer: str
) -> nn.Linear:
    """Of the nn.Linear that read a layer, the one that answers for the model."""
    answers = [m for m in linears if _within(heard.outputs[m], recording.output)]
    if len(answers) == 1:
        return answers[0]
    names = ", ".join(repr(heard.names[m]) for m in linears)
    if isinstance(recording[layer], ObservedLayer):
        # it may as well be one of those that the cell is made of: they read the state before
        reads, gives = ("reads", "it gives") if len(linears) == 1 else ("read", "they give")
        raise ReadoutError(
            f"{names} {reads} layer {layer!r}, which was observed, and what {gives} is not the "
            "model's output; give head=..., a function from (..., unit) to (..., class)"
        )
    last = list(heard.inputs)[-1]
    if len(linears) > 1:
        raise ReadoutError(
            f"several nn.Linear read this layer: {names}; give head=... to say which"
        )
    if last is not linears[0]:
        raise ReadoutError(
            f"{names} reads this layer, but {heard.names[last]!r} comes after it, so it does not "
            "answer for the model; give head=..., a function from (..., unit) to (..., class)"
        )
    return linears[0]


def _within(tensor: Tensor, output: Any) -> bool:
    """Whether a model's output is this tensor or holds it."""
    if isinstance(output, Tensor):
        return output.shape == tensor.shape and torch.equal(output, tensor)
    if isinstance(output, Mapping):
        return any(_within(tensor, item) for item in output.values())
    return isinstance(output, tuple | list) and any(_within(tensor, item) for item in output)
