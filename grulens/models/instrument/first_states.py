"""Runs that begin in states of somebody's choice, where the model itself begins in its own.

A run of the middle of a sequence begins in the state that its beginning left. Torch's own layers
take a first state beside their input; here they are given one, whatever the model hands them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from grulens.models.restore import added
from grulens.models.restore.interrupts import Uninterrupted


def takes_first_state(module: nn.Module) -> bool:
    """Whether a layer can be given the state in which it begins: torch's own that go forward.

    >>> takes_first_state(nn.GRU(2, 3)), takes_first_state(nn.GRUCell(2, 3))
    (True, False)
    """
    return isinstance(module, nn.RNNBase) and not module.bidirectional and not module.proj_size


@dataclass(frozen=True, eq=False)
class FirstStates:
    """The states in which runs begin, every row in the same one: `with first():`.

    Only the thread that opens the block is meant, and each of the layers must be called once a run:
    a second call would begin there again.

    Attributes:
        of: of each layer its states (level, unit), h alone or h and c.

    >>> import torch
    >>> rnn = nn.GRU(2, 3, batch_first=True)
    >>> first = FirstStates({rnn: (torch.full((1, 3), 0.5),)})
    >>> x = torch.zeros(4, 5, 2)
    >>> with first():
    ...     h, _ = rnn(x)
    >>> torch.equal(h, rnn(x, torch.full((1, 4, 3), 0.5))[0]), torch.equal(h, rnn(x)[0])
    (True, False)
    """

    of: Mapping[nn.RNNBase, tuple[Float[Tensor, "level unit"], ...]]

    def __call__(self) -> Uninterrupted:
        """A block in which runs begin in these states."""
        return _Begun(self.of)


class _Begun(Uninterrupted):
    def __init__(self, of: Mapping[nn.RNNBase, tuple[Tensor, ...]]) -> None:
        self._of = of
        self._thread = 0
        self._undo: list[Callable[[], None]] = []

    def begin(self) -> None:
        self._thread = threading.get_ident()
        for module in self._of:
            handle = module.register_forward_pre_hook(self._give, with_kwargs=True)
            self._undo.append(added.hook(module, handle))

    def end(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _give(self, module: nn.RNNBase, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return None
        x = args[0] if args else kwargs["input"]
        kwargs = {name: value for name, value in kwargs.items() if name != "hx"}
        states = [one.to(module.get_parameter("weight_hh_l0")) for one in self._of[module]]
        if isinstance(x, PackedSequence) or x.dim() == 3:
            packed = isinstance(x, PackedSequence)
            rows = int(x.batch_sizes[0]) if packed else x.shape[0 if module.batch_first else 1]
            states = [one[:, None].expand(-1, rows, -1).contiguous() for one in states]
        kwargs["hx"] = states[0] if len(states) == 1 else tuple(states)
        return args[:1], kwargs
