"""The derivative of a loss by what was recorded, as torch.autograd.grad gives it by any tensor.

A loss depends on the model's output, and torch's kernel computes that without ever holding a gate
or a step's state as a tensor of its own. So the way back is in two parts: torch says how the loss
depends on the states that each call gave out; and within a call, the recurrence is run again step
by step, with nothing added to a signal, and differentiated by that nothing. It is the total
derivative: what a change of a signal at one step does to all later ones is part of it, as for a
`shift` of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from grulens.cells.changes import Change, Program
from grulens.errors import GraphCutWarning, RecordingError
from grulens.models.call.segment import Segment

if TYPE_CHECKING:
    from grulens.models.recording import LayerRecording


class Recorded(Tensor):
    """A recorded signal of a run with a graph: a tensor as any other, except to autograd.grad."""

    origin: tuple[LayerRecording, str]
    steps: Sequence[Tensor] = ()
    """The tensors of the run itself, one a step, where the signal was read in the run."""
    laid: torch.Size = torch.Size()
    """The shape of a state in the run."""
    axis: int = 0
    """The axis of that along which its rows lie."""

    @classmethod
    def of_steps(
        cls,
        layer: LayerRecording,
        signal: str,
        value: Tensor,
        steps: Sequence[Tensor],
        laid: torch.Size,
        axis: int,
    ) -> Tensor:
        """A signal of an observed layer, and what it was in the run.

        Args:
            layer: the layer.
            signal: its name.
            value: its value.
            steps: what it was, step by step.
            laid: the shape of a state in the run.
            axis: along which axis of that its rows lie.
        """
        made: Recorded = value.as_subclass(cls)
        made.origin, made.steps, made.laid, made.axis = (layer, signal), steps, laid, axis
        return made

    @classmethod
    def of(cls, layer: LayerRecording, signal: str, value: Tensor) -> Tensor:
        """A signal of a layer; a run without a graph has plain ones."""
        if any(segment.node is None for segment in layer.segments):
            return value
        made: Recorded = value.as_subclass(cls)
        made.origin = layer, signal
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            way = _gradients if func is torch.autograd.grad else func
            return way(*args, **(kwargs or {}))


def _gradients(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
    **more: Any,
) -> tuple[Tensor | None, ...]:
    """What torch.autograd.grad gives, where some of `inputs` were recorded."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if any(isinstance(one, Recorded) and one.steps for one in inputs):
        return _by_steps(
            outputs, inputs, grad_outputs, retain_graph=retain_graph, create_graph=create_graph,
            allow_unused=allow_unused, materialize_grads=materialize_grads, **more,
        )  # fmt: skip
    layers = {id(one.origin[0]): one.origin[0] for one in inputs if isinstance(one, Recorded)}
    segments = [segment for layer in layers.values() for segment in layer.segments]
    nodes = list({id(node): node for s in segments if (node := s.body) is not None}.values())
    # a recorded input, or gates read without a graph, are no part of one themselves
    own = [one for one in inputs if one.requires_grad or not isinstance(one, Recorded)]
    if more.get("is_grads_batched"):
        raise RecordingError(
            "is_grads_batched=True differentiates inside torch.vmap, where no recurrence can be "
            "run again: ask for one derivative after the other"
        )
    # all but h are computed or copied beside the run: nothing of the model reads them
    beside = [
        (name, value)
        for layer in layers.values()
        for name in layer.names
        if name != "h"
        for value in layer.read(name)
    ]
    found = torch.autograd.grad(
        outputs, [*own, *nodes, *(value for _, value in beside)], grad_outputs,
        retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True,
        **more,
    )  # fmt: skip
    direct = dict(zip(map(id, own), found, strict=False))
    through = dict(zip(map(id, nodes), found[len(own) :], strict=False))
    in_loss = [
        name
        for (name, _), value in zip(beside, found[len(own) + len(nodes) :], strict=True)
        if value is not None
    ]
    if in_loss and any(isinstance(one, Recorded) and one.origin[1] != "h" for one in inputs):
        raise RecordingError(
            f"this loss is computed from the recorded {', '.join(dict.fromkeys(in_loss))} itself, "
            "which was computed beside the run, so only its derivative by h is the total one: take "
            "a loss of the model's output, or of h"
        )
    for layer in layers.values():
        if any(through[id(segment.body)] is not None for segment in layer.segments):
            _warn_of_cuts(layer)
    results: list[Tensor | None] = []
    for one in inputs:
        value = direct.get(id(one))
        if isinstance(one, Recorded):
            value = _by_signal(one, value, through, create_graph)
        if value is None and materialize_grads:
            value = torch.zeros_like(one)
        if value is None and not allow_unused:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior."
            )
        results.append(value)
    return tuple(results)


def _by_steps(
    outputs: Any, inputs: Sequence[Tensor], grad_outputs: Any = None, **options: Any
) -> tuple[Tensor | None, ...]:
    """What torch.autograd.grad gives by signals that were read in the run, and by other tensors."""
    several = [list(one.steps) if isinstance(one, Recorded) else [] for one in inputs]
    flat = [t for one, steps in zip(inputs, several, strict=True) for t in steps or [one]]
    unused = options.pop("allow_unused", None)
    fill = options.pop("materialize_grads", False)
    found = iter(torch.autograd.grad(outputs, flat, grad_outputs, allow_unused=True, **options))
    results: list[Tensor | None] = []
    for one, steps in zip(inputs, several, strict=True):
        grads = [next(found) for _ in steps or [one]]
        if all(grad is None for grad in grads):
            if not (unused or fill):
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
            results.append(torch.zeros_like(one) if fill else None)
        elif not isinstance(one, Recorded) or not steps:
            results.append(grads[0])
        else:
            filled = [
                (torch.zeros_like(step) if grad is None else grad).reshape(one.laid)
                for grad, step in zip(grads, steps, strict=True)
            ]
            results.append(torch.stack(filled).movedim(one.axis + 1, 0).reshape(one.shape))
    return tuple(results)


def leads_back(start: Node | None, known: dict[Node, bool]) -> bool:
    """Whether a node that is known to count lies behind one in a graph.

    Args:
        start: the node; None is outside of every graph.
        known: those that count, True; what is found out about others is added.

    >>> leaf = torch.ones(2, requires_grad=True)
    >>> kept = leaf * 2
    >>> leads_back((kept + 1).grad_fn, {kept.grad_fn: True})
    True
    >>> leads_back((kept.detach() + leaf).grad_fn, {kept.grad_fn: True})
    False
    """
    if start is None:
        return False
    todo = [start]
    while todo:
        node = todo[-1]
        behind = [other for other, _ in node.next_functions if other is not None]
        unknown = [other for other in behind if other not in known]
        found = any(known.get(other) for other in behind)
        if node in known or found or not unknown:
            known.setdefault(node, found)
            todo.pop()
        else:
            todo += unknown
    return known[start]


def _warn_of_cuts(layer: LayerRecording) -> None:
    """Say where a model handed a layer's state on from call to call as numbers alone."""
    for number, (before, after) in enumerate(pairwise(layer.segments), 1):
        node = before.body.grad_fn
        goes_on = node and torch.equal(before.last(), after.h_0)
        if node and goes_on and not leads_back(after.h_0.grad_fn, {node: True}):
            warnings.warn(
                f"call {number + 1} of layer {layer.name!r} begins with the state of the call "
                "before, which the model handed on without its graph (.detach(), .data, "
                "torch.no_grad()): a derivative by an earlier signal leaves out what that does "
                "through this state, which a shift of the signal would show",
                GraphCutWarning,
                stacklevel=5,
            )
            return


def _by_signal(
    one: Recorded, direct: Tensor | None, through: Mapping[int, Tensor | None], graph: bool
) -> Tensor | None:
    layer, signal = one.origin
    grads = [through[id(segment.body)] for segment in layer.segments]
    if all(grad is None for grad in grads):
        return direct
    parts = [
        _within(segment, signal, torch.zeros_like(segment.body) if grad is None else grad, graph)
        for segment, grad in zip(layer.segments, grads, strict=True)
    ]
    return layer.joined(parts)


def _within(segment: Segment, signal: str, grad: Tensor, graph: bool) -> Tensor:
    """The derivative (batch, time, unit) by a signal in one call.

    Args:
        segment: the layer in that call.
        signal: the signal.
        grad: that by the call's body.
        graph: whether it can be differentiated once more.
    """
    out = segment.rows(grad)
    keep = (lambda t: t) if graph else Tensor.detach
    with torch.enable_grad(), segment.precision():
        x, h_0 = (keep(t) for t in (segment.inputs(), segment.h_0))
        cell = segment.cell if graph else segment.cell.over(Tensor.detach)
        bump = torch.zeros_like(out)
        by: Sequence[Tensor]
        if signal == "x":
            x = x + (nothing := torch.zeros_like(x).requires_grad_())
            by = [nothing]
        else:
            start = torch.zeros_like(h_0).requires_grad_()
            bump.requires_grad_()
            h_0, by = h_0 + start, [bump, start]
        where = torch.ones(1, 1, 1, dtype=torch.bool, device=out.device)
        one = out.new_ones(1, 1, 1)
        change = Change("h" if signal in ("x", "h_prev") else signal, where, one, bump)
        program = Program.after(segment.program, change, segment.steps, segment.h_0)
        h = segment.again(cell, x, h_0, program)
        found = torch.autograd.grad(h, by, out, create_graph=graph, materialize_grads=True)
    if signal == "h_prev":
        # what a step read: of the state before it all but what was read of that elsewhere
        return segment.before(found[0] - out, found[1])
    return segment.valid(found[0])
