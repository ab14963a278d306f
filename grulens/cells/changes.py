"""Changes to the signals of a run, as tensors: what an edit becomes once sizes are known.

Every edit there is (set, scale, add) is an affine map of one number, s -> factor * s + offset, and
affine maps compose into affine maps. So however many edits act on a signal, a step of the
recurrence applies one fused operation, and only where that step is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Edit = Callable[[str, Tensor, bool], Tensor]
"""Asked for every signal of a step: its name, its value (..., unit), and whether that is still the
pre-activation; gives the value that goes on."""


@dataclass(frozen=True, eq=False)
class Change:
    """One change to one signal.

    Attributes:
        signal: the signal of the cell, by name.
        where: which values it touches, bool, broadcasting over (batch, time, unit).
        factor: what the value is multiplied by; 0 sets it.
        offset: what is added after that, broadcasting over (batch, time, unit).
        before_activation: added to the pre-activation instead; `factor` is 1 there.
    """

    signal: str
    where: Bool[Tensor, "#batch #time #unit"]
    factor: Float[Tensor, "#batch #time #unit"]
    offset: Float[Tensor, "#batch #time #unit"]
    before_activation: bool = False


class _Affine:
    """All changes of one signal in one map; each tensor broadcasts over (batch, time, unit)."""

    def __init__(self, like: Tensor) -> None:
        self.factor = like.new_ones(1, 1, 1)
        self.offset = like.new_zeros(1, 1, 1)
        self.touched = torch.zeros(1, 1, 1, dtype=torch.bool, device=like.device)
        self.is_set: Tensor | None = None

    def then(self, change: Change) -> None:
        self.touched = self.touched | change.where
        self.offset = torch.where(
            change.where, change.factor * self.offset + change.offset, self.offset
        )
        self.factor = torch.where(change.where, change.factor * self.factor, self.factor)

    def settle(self) -> None:
        """Find out once, not at every step, where the value that was there does not count."""
        is_set = self.factor == 0
        self.is_set = is_set if bool(is_set.any()) else None


class Program:
    """What a run of `steps` steps changes on its way.

    Args:
        changes: in the order in which they act; additions before an activation act first.
        steps: length of the run.
        like: a tensor of the run's dtype and device.

    >>> one = torch.ones(1, 1, 1)
    >>> third = (torch.arange(4) == 2).reshape(1, 4, 1)
    >>> program = Program([Change("h", third, 0 * one, 5 * one)], 4, one)
    >>> program.first, program.stop
    (2, 3)
    >>> program.apply("h", torch.ones(1, 4, 1)).flatten()
    tensor([1., 1., 5., 1.])
    """

    def __init__(self, changes: Sequence[Change], steps: int, like: Tensor) -> None:
        self.steps = steps
        self._before: dict[str, Tensor] = {}
        self._after: dict[str, _Affine] = {}
        touched = torch.zeros(steps, dtype=torch.bool, device=like.device)
        for change in changes:
            touched |= change.where.any(2).any(0)
            if change.before_activation:
                added = torch.where(change.where, change.offset, torch.zeros_like(change.offset))
                so_far = self._before.get(change.signal)
                self._before[change.signal] = added if so_far is None else so_far + added
            else:
                self._after.setdefault(change.signal, _Affine(like)).then(change)
        for map_ in self._after.values():
            map_.settle()
        where = touched.nonzero()  # not as a list: torch 2.6 makes none inside torch.func.grad
        self.first = int(where[0]) if len(where) else steps
        self.stop = int(where[-1]) + 1 if len(where) else steps

    @staticmethod
    def after(program: Program | None, change: Change, steps: int, like: Tensor) -> Program:
        """A program, or none, and one more change at its end."""
        made = Program([change], steps, like)
        if program is not None:
            made._before = dict(program._before)
            for signal, map_ in program._after.items():
                both = made._after[signal] = _Affine(like)
                vars(both).update(vars(map_))
                if signal == change.signal:
                    both.then(change)
                    both.settle()
        return made

    def shift(self, signal: str, pre: Tensor, start: int = 0) -> Tensor:
        """`pre` (batch, time, unit), the pre-activation of steps `start`..., with what is added."""
        added = self._before.get(signal)
        # under autocast a signal may have less precision than states, which a program is made for
        return pre if added is None else (pre + _part(added, start, pre.shape[1])).to(pre.dtype)

    def apply(self, signal: str, value: Tensor, start: int = 0) -> Tensor:
        """`value` (batch, time, unit), `signal` at steps `start`..., after its changes."""
        map_ = self._after.get(signal)
        if map_ is None:
            return value
        steps = value.shape[1]
        factor, offset = _part(map_.factor, start, steps), _part(map_.offset, start, steps)
        changed = torch.addcmul(offset, factor, value)
        if map_.is_set is None:
            return changed.to(value.dtype)
        # where a signal is set, what it was does not count, not even NaN
        return torch.where(_part(map_.is_set, start, steps), offset, changed).to(value.dtype)

    def edit(self, start: int) -> Edit:
        """What it does to values (batch, time, unit) of the steps that begin at `start`."""
        return lambda name, value, before: (
            self.shift(name, value, start) if before else self.apply(name, value, start)
        )

    @property
    def signals(self) -> set[str]:
        """The signals that it changes, before or after their activation."""
        return {*self._before, *self._after}

    @property
    def asked(self) -> set[tuple[str, bool]]:
        """The signals that it changes, and whether before their activation: a step must ask it."""
        return {*((name, True) for name in self._before), *((name, False) for name in self._after)}

    def touched(self, signal: str) -> Bool[Tensor, "#batch #time #unit"] | None:
        """Where `signal` itself is changed, or None."""
        map_ = self._after.get(signal)
        return None if map_ is None else map_.touched

    def reversed(self, lengths: Tensor | None) -> Program:
        """The same changes for a run that reads every row from its own end."""
        back = object.__new__(Program)
        back.steps = self.steps
        back._before = {s: reverse(t, lengths, self.steps) for s, t in self._before.items()}
        back._after = {}
        for signal, map_ in self._after.items():
            flipped = back._after[signal] = object.__new__(_Affine)
            for name, tensor in vars(map_).items():
                turned = None if tensor is None else reverse(tensor, lengths, self.steps)
                setattr(flipped, name, turned)
        if lengths is None:
            back.first, back.stop = self.steps - self.stop, self.steps - self.first
        else:  # rows of several lengths move apart; padding is masked by the run
            back.first, back.stop = 0, self.steps
        return back


def reverse(value: Tensor, lengths: Tensor | None, steps: int | None = None) -> Tensor:
    """Turn time around, each row within its own length; what is behind its end stays there.

    Args:
        value: (batch, time, unit); with `steps` it may broadcast, and what does not vary over
            time comes back as it is.
        lengths: (batch,), int64, or None when all rows are full.
        steps: the number of steps that `value` stands for.

    >>> rows = torch.tensor([[1., 2., 3.], [4., 5., 0.]])[..., None]
    >>> reverse(rows, torch.tensor([3, 2]))[..., 0]
    tensor([[3., 2., 1.],
            [5., 4., 0.]])
    """
    if steps is not None and value.shape[1] == 1 != steps:
        return value
    if lengths is None:
        return value.flip(1)
    time = torch.arange(value.shape[1], device=value.device)
    end = lengths.to(value.device)[:, None]
    index = torch.where(time < end, end - 1 - time, time)
    full = value.expand(len(lengths), -1, -1)
    return full.gather(1, index[..., None].expand(-1, -1, full.shape[2]))


def last_valid(
    value: Float[Tensor, "*any batch time unit"], lengths: Tensor | None
) -> Float[Tensor, "*any batch unit"]:
    """The value at each row's last step, of rows in reading order.

    Args:
        value: (*any, batch, time, unit).
        lengths: (batch,), int64, or None when all rows are full.

    >>> rows = torch.tensor([[1., 2., 3.], [4., 5., 0.]])[..., None]
    >>> last_valid(rows, torch.tensor([3, 2])).flatten(), last_valid(rows, None).flatten()
    (tensor([3., 5.]), tensor([3., 0.]))
    """
    if lengths is None:
        return value[..., -1, :]
    rows = torch.arange(len(lengths), device=value.device)
    return value[..., rows, lengths.to(value.device) - 1, :]


def _part(tensor: Tensor, start: int, steps: int) -> Tensor:
    return tensor if tensor.shape[1] == 1 else tensor[:, start : start + steps]
