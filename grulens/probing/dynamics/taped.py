"""A function of states whose calls of torch are played again, without the code that makes them.

A search asks for one step hundreds of times, and to run a module for it is mostly Python: all steps
before this one, hooks, copies. What the step makes of its states is a few calls of torch. They are
noted once, and from then on made again with other states. What the code reads off the states (the
side of a branch, a shape) is compared each time: where it is another, the code itself runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.overrides import TorchFunctionMode

from grulens.models.observe.reading.slope import pulled
from grulens.models.observe.trace import name_of, writes

Of = Callable[[Float64[Tensor, "point state"]], tuple[Tensor, ...]]
"""From states to tensors with a row for each of them."""
MISSES = 8
"""So often the code may have gone another way than was noted, before it runs each time."""
CLOSE = 1e-9
"""How far, as a share, a noted function may be from what the code makes."""
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout)
_OF_SHAPE = frozenset(
    ("__len__", "device", "dim", "dtype", "element_size", "is_complex", "is_cuda", "is_sparse",
     "is_floating_point", "layout", "ndim", "ndimension", "nelement", "numel", "shape", "size")
)  # fmt: skip
"""What says the same of all tensors of one shape and dtype."""


class Taped:
    """A function of states, played again wherever that gives what it gives itself.

    Args:
        of: the function. Its rows do not act on each other.

    >>> def of(states):
    ...     return (states.tanh() * 2,)
    >>> taped = Taped(of)
    >>> taped(torch.zeros(3, 1).double())[0].shape
    torch.Size([3, 1])
    """

    def __init__(self, of: Of) -> None:
        self._of = of
        self._tapes: dict[int, _Tape] = {}
        self._misses = 0

    def __call__(self, states: Float64[Tensor, "point state"]) -> tuple[Tensor, ...]:
        """What the function makes of some states."""
        count = _rounded(len(states))
        if not len(states) or self._misses > MISSES:
            return self._of(states)
        tape = self._tapes.get(count)
        # so that there are few tapes: a row more or less makes no other
        padded = torch.cat([states, states[-1:].expand(count - len(states), -1)])
        if tape is not None:
            made = tape.played(padded)
            if made is not None:
                return tuple(one[: len(states)] for one in made)
            self._misses += 1
        tape = self._noted(padded.detach())
        if tape is None:
            self._misses += 1
        else:
            self._tapes[count] = tape
        return self._of(states)

    def _noted(self, states: Tensor) -> _Tape | None:
        """A tape for so many states; None where it would be another function."""
        first, then = _Notes(), _Notes()
        with torch.enable_grad():
            try:
                # what is kept of other states must be right for these
                tape = first.tape((0.9 * states).requires_grad_(), self._of)
                if tape is None:
                    return None
                wanted = _with_slope(lambda given: then.run(given, self._of), states)
            except Exception:  # what fails with the states themselves says so there
                return None
            if wanted is None or not first.found() <= then.found():
                return None
            return tape if _are_close(wanted, _with_slope(tape.played, states)) else None


def _rounded(count: int) -> int:
    """The next of 2, 3, 4, 6, 8, 12, 16 and so on.

    >>> [_rounded(count) for count in (1, 3, 5, 7, 9, 100)]
    [2, 3, 6, 8, 12, 128]
    """
    size = 2
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def _with_slope(of: Any, states: Tensor) -> list[Tensor] | None:
    """What a function makes, and its derivative along one direction."""
    before = states.clone().requires_grad_()
    made = of(before)
    if made is None:
        return None
    generator = torch.Generator().manual_seed(0)
    ways = [torch.randn(1, *one.shape, generator=generator, dtype=torch.double) for one in made]
    return [*(one.detach() for one in made), *pulled(made, [before], [w.to(before) for w in ways])]


def _are_close(wanted: list[Tensor], found: list[Tensor] | None) -> bool:
    return found is not None and all(
        torch.allclose(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True)
        for one, other in zip(wanted, found, strict=True)
    )


@dataclass(frozen=True)
class _Slot:
    """A tensor that is made of the states, by its number."""

    number: int


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of torch.

    Attributes:
        func: torch's function.
        args: its arguments, a `_Slot` for every tensor that is made of the states.
        kwargs: those by name.
        result: what it gave, in the same way.
        shapes: the shape of every tensor of it, in order.
        graph: whether autograd followed it.
        reads: the memory of what it works on.
        writes: the memory of what it makes or writes over.
        needed: whether it is made again even if nobody reads what it makes.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    shapes: tuple[torch.Size, ...]
    graph: bool
    reads: frozenset[int]
    writes: frozenset[int]
    needed: bool


@dataclass(frozen=True, eq=False)
class _Tape:
    """Calls of torch that make something of states.

    Attributes:
        calls: in order.
        slots: how many tensors they make.
        made: which of them, or what else, is the result.
    """

    calls: tuple[_Call, ...]
    slots: int
    made: tuple[Any, ...]

    def played(self, states: Tensor) -> tuple[Tensor, ...] | None:
        """What they make of other states; None where the code would go another way."""
        held: list[Any] = [None] * self.slots
        held[0] = states
        graph = torch.is_grad_enabled()
        for call in self.calls:
            args, kwargs = _filled(call.args, held), _filled(call.kwargs, held)
            try:
                if graph and not call.graph:
                    with torch.no_grad():
                        result = call.func(*args, **kwargs)
                else:
                    result = call.func(*args, **kwargs)
            except Exception:  # the code may catch that
                return None
            if not _take(result, call, held):
                return None
        found: tuple[Tensor, ...] = _filled(self.made, held)
        return found


class _Notes(TorchFunctionMode):
    """Notes the calls of torch that work on what is made of some states."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []
        self._slots: dict[int, int] = {}
        self._held: list[Tensor] = []
        """All tensors that were met, so that no other comes to have the id or the memory of one."""
        self._fixed: dict[int, tuple[Tensor, int]] = {}
        """What is not made of the states, and how often it had been written over."""
        self._written: set[int] = set()
        """The memory of what was not made of the states until they were written there."""
        self._seen: dict[int, ref[Tensor]] = {}
        """What the calls made that work on nothing that is made of the states."""
        self._found: dict[int, Tensor] = {}
        """What no call made that was seen."""
        self._fails = False

    def run(self, states: Tensor, of: Of) -> tuple[Tensor, ...]:
        """What a function makes of some states: all that is made of them there is noted."""
        self._slot(states)
        with self:
            return of(states)

    def found(self) -> set[int]:
        """The ids of the tensors that no call made that was seen.

        In another run one that was there before is the same. One that is not was made of the
        states perhaps: by a script, inside torch.vmap, or where torch calls no modes.
        """
        return {*self._found}

    def tape(self, states: Tensor, of: Of) -> _Tape | None:
        """The calls of a function, as far as its result needs them; None where some are missing."""
        made = self.run(states, of)
        result = self._named(made)
        fixed = all(one._version == then for one, then in self._fixed.values())
        if self._fails or not fixed:
            return None
        needed = {_memory(one) for one in made}
        calls: list[_Call] = []
        for call in reversed(self._calls):
            if call.needed or call.writes & needed:
                calls.append(call)
                needed |= call.reads
        return _Tape(tuple(reversed(calls)), len(self._slots), result)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, name_of(func)
        given = [one for one in _leaves((args, kwargs)) if isinstance(one, Tensor)]
        alive = any(id(one) in self._slots for one in given)
        if self._fails or name in _OF_SHAPE:
            return func(*args, **kwargs)
        for one in given:
            self._meet(one)
        if name == "__iter__":  # an iterator can be read once
            return iter(self.__torch_function__(torch.unbind, types, args, kwargs))
        if not alive:
            self._fails = not all(map(self._is_fixed, given))
            result = func(*args, **kwargs)
            self._seen |= {id(one): ref(one) for one in _leaves(result) if isinstance(one, Tensor)}
            return result
        target = kwargs.get("out", args[0] if writes(name) and args else None)
        if isinstance(target, Tensor) and id(target) not in self._slots:
            self._begin_anew(target)
        noted = self._named(args), self._named(kwargs)
        graph = torch.is_grad_enabled()
        fails, self._fails = self._fails, True  # where it raises, and the code may catch that
        result = func(*args, **kwargs)
        self._fails = fails
        self._fails |= func.__name__ == "__set__"  # x.data = y
        self._fails |= not isinstance(kwargs.get("out", self._held[0]), Tensor)
        self._fails |= torch.is_inference_mode_enabled() or not _is_known(result)
        if self._fails:
            return result
        made = [one for one in _leaves(result) if isinstance(one, Tensor)]
        reads = frozenset(_memory(one) for one in given if id(one) in self._slots)
        for one in made:
            self._slot(one)
        over = [target] if isinstance(target, Tensor) else []
        self._calls.append(
            _Call(
                func,
                *noted,
                self._named(result),
                tuple(one.shape for one in made),
                graph,
                reads,
                frozenset(_memory(one) for one in (*made, *over)),
                # a number that it gives, or a size, may decide where the code goes
                needed=not over,
            )
        )
        return result

    def _meet(self, value: Tensor) -> None:
        seen = self._seen.get(id(value))
        if id(value) not in self._slots and (seen is None or seen() is not value):
            self._found[id(value)] = value

    def _slot(self, value: Tensor) -> None:
        self._held.append(value)
        self._slots.setdefault(id(value), len(self._slots))

    def _begin_anew(self, target: Tensor) -> None:
        """What is written over here begins each time as it was now."""
        self._fails |= not self._is_fixed(target) or target.requires_grad
        memory, then = _memory(target), target.detach().clone()
        self._slot(target)
        slot = _Slot(self._slots[id(target)])
        self._calls.append(
            _Call(
                torch.clone,
                (then,),
                {},
                slot,
                (then.shape,),
                True,
                frozenset(),
                frozenset([memory]),
                needed=False,
            )
        )
        self._written.add(memory)

    def _is_fixed(self, value: Tensor) -> bool:
        """Whether a tensor that nobody has seen made of the states is none of theirs."""
        return not value.requires_grad and (
            not self._written or _memory(value) not in self._written
        )

    def _named(self, value: Any) -> Any:
        """A value with the slots of what is made of the states."""
        if isinstance(value, Tensor):
            number = self._slots.get(id(value))
            if number is not None:
                return _Slot(number)
            self._meet(value)
            self._fails |= not self._is_fixed(value)
            self._fixed.setdefault(id(value), (value, value._version))
            return value
        return _mapped(self._named, value)


def _memory(value: Tensor) -> int:
    number: int = value.untyped_storage()._cdata
    return number


def _is_known(result: Any) -> bool:
    """Whether a result is made of tensors and what can be compared."""
    return all(isinstance(one, (Tensor, *_PLAIN)) for one in _leaves(result))


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in tuples, lists, dicts and slices."""
    if isinstance(value, dict):
        value = tuple(value.values())
    elif isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, tuple | list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _mapped(of: Callable[[Any], Any], value: Any) -> Any:
    """Tuples, lists, dicts and slices of what a function makes of their parts."""
    if isinstance(value, dict):
        return {name: of(one) for name, one in value.items()}
    if isinstance(value, slice):
        return slice(of(value.start), of(value.stop), of(value.step))
    if isinstance(value, tuple | list):  # a named tuple of torch's is told by its order
        return [*map(of, value)] if isinstance(value, list) else tuple(map(of, value))
    return value


def _filled(value: Any, held: list[Any]) -> Any:
    """A value with tensors in its slots."""
    kind = type(value)
    if kind is _Slot:
        return held[value.number]
    if kind in (tuple, list, dict, slice):
        return _mapped(lambda one: _filled(one, held), value)
    return value


def _take(result: Any, call: _Call, held: list[Any]) -> bool:
    """Put what a call made into its slots; False where it is not of the kind that was noted."""
    shapes, parts, noted = iter(call.shapes), [*_leaves(result)], [*_leaves(call.result)]
    if len(parts) != len(noted):
        return False
    for one, wanted in zip(parts, noted, strict=True):
        if isinstance(wanted, _Slot):
            if one.shape != next(shapes):
                return False
            held[wanted.number] = one
        elif isinstance(one, Tensor) or one != wanted:
            return False
    return True
