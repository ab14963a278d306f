"""Whether a gradient reaches all that a value does: what a model detaches goes on as numbers alone.

A model that cuts its graph (`h = h.detach()` between two calls of a cell, as in truncated
backpropagation through time) computes what it would without, and its gradients are silent about
what was cut off. So what each call reads is noted in two runs, the second one with the numbers
moved a little: what moves with them and has no way back to them in the graph was cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils._pytree import tree_leaves

from grulens.errors import RecordingError
from grulens.models.derivative import leads_back


@dataclass(eq=False)
class Reads:
    """What the modules under watch read in one run, and its answer, in order.

    Attributes:
        found: of each tensor what read it, its values, and where it comes from in the graph.
    """

    found: list[tuple[str, Tensor, Node | None]] = field(default_factory=list)
    _calls: Counter[str] = field(default_factory=Counter)

    def call(self, layer: str, given: Any) -> None:
        """Note what one call of a layer's module is given."""
        self._calls[layer] += 1
        self.note(f"what call {self._calls[layer]} of layer {layer!r} reads", given)

    def note(self, what: str, value: Any) -> None:
        """Note tensors by what they are; copies, for the model may write over them."""
        self.found += [
            (what, one.detach().clone(), one.grad_fn)
            for one in tree_leaves(value)
            if isinstance(one, Tensor) and one.is_floating_point()
        ]

    def check(self, moved: Reads, sources: Sequence[Tensor], of: str, instead: str) -> None:
        """Raise unless gradients by `sources` say of all that is read how it moves with them.

        Args:
            moved: what was read when these had other values.
            sources: leaves of the graph.
            of: what they are, in words: "layer 'l0'".
            instead: what needs no gradient.

        Raises:
            RecordingError: the model cut its graph.
        """
        known = {get_gradient_edge(leaf).node: True for leaf in sources}
        for (what, value, node), (_, other, _) in zip(self.found, moved.found, strict=False):
            same = value.shape != other.shape or torch.equal(value, other)
            if not same and not leads_back(node, known):
                raise RecordingError(
                    f"{what} moves with {of}, and the model hands it on without its "
                    "graph (.detach(), .data, torch.no_grad(), numpy), so gradients leave that "
                    f"way out: expected a graph without a cut; {instead}, or let the model keep "
                    "its graph"
                )


def nudged(values: Iterable[Tensor]) -> list[Tensor]:
    """Tensors moved a little: enough to show in what is computed, too little to turn a choice.

    >>> (moved,) = nudged([torch.zeros(3)])
    >>> bool(moved.all()), bool(moved.abs().max() < 1e-4)
    (True, True)
    """
    random = torch.Generator().manual_seed(0)
    return [
        value.detach() + by.to(value)
        for value in values
        for size in [max(torch.finfo(value.dtype).eps, torch.finfo(torch.float32).eps)]
        for by in [16 * size * torch.randn(value.shape, generator=random)]
    ]
