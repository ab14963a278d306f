"""What a model was given beside what its rows read, so that any row can be given to it again.

A scan keeps what was read at each step: an id, or a few numbers. A model may have taken more, such
as the lengths of its rows, a mask, a number a row, or `None`; and it may take all of it by name.
What follows from the row is made anew, a number a row is kept, and what is neither is said by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Shaped
from numpy import ndarray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

#: So many numbers a step, or a row, are kept at most.
KEPT: Final = 16
#: What the kind of numbers of an array of numpy begins with.
NUMPY: Final = "numpy."


@dataclass(frozen=True)
class Argument:
    """One argument of a call, as it is made again for other rows.

    Attributes:
        kind: "read", what stands at each step; "packed", the same as a PackedSequence; "lengths",
            the steps of each row; "rows", something for each row; "mask", one value at the first
            steps of each row and another after them; "is", a value; or "lost", something that is
            not kept.
        value: of "read", the shape of what stands at one step; of "rows", a value a row; of "mask",
            both values, and how many first steps each row has, or None: all; of "is", the value; of
            "lost", what it was.
        dtype: that of a tensor; "numpy." and that of an array of numpy; or "" where it is neither.
        turned: whether its steps come before its rows.
        bare: whether it has no axis of rows, but is one row.
    """

    kind: str
    value: Any = None
    dtype: str = ""
    turned: bool = False
    bare: bool = False

    def again(self, read: Tensor, rows: Sequence[int]) -> Any:
        """The argument for some rows of the input that run side by side.

        Args:
            read: (row, step, ...) what stands at each step.
            rows: which rows of the input they are.
        """
        many, steps = read.shape[:2]
        made: Any = self.value
        if self.kind in ("read", "packed"):
            made = read.reshape(many, steps, *self.value)
        elif self.kind == "lengths":
            made = [steps] * many
        elif self.kind == "rows":
            made = [self.value[row] for row in rows]
        elif self.kind == "mask":
            inside, after, first = self.value
            ends = [steps if first is None else first[row] for row in rows]
            made = [[inside if at < end else after for at in range(steps)] for end in ends]
        if not self.dtype:
            return made
        if self.dtype.startswith(NUMPY):
            made = np.asarray(made, self.dtype.removeprefix(NUMPY))
            return made.T if self.turned else made
        made = torch.as_tensor(made).to(getattr(torch, self.dtype))
        if self.kind == "packed":
            return pack_padded_sequence(made, torch.tensor([steps] * many), batch_first=True)
        if self.bare:
            return made[0]
        return made.transpose(0, 1) if self.turned else made


@dataclass(frozen=True)
class Form:
    """How an input was given to the model.

    Attributes:
        args: its arguments.
        kwargs: the named ones.
        open: that nothing is known of what the model takes but that it takes the ids, one way round
            or the other.
    """

    args: tuple[Argument, ...] = ()
    kwargs: Mapping[str, Argument] = field(default_factory=dict)
    open: bool = False

    @property
    def every(self) -> tuple[Argument, ...]:
        """All arguments."""
        return *self.args, *self.kwargs.values()

    @property
    def lost(self) -> str:
        """What of it is not kept, in words; "" where all of it can be given again."""
        gone = [*enumerate(self.args), *self.kwargs.items()]
        said = [f"{name!r}: {one.value}" for name, one in gone if one.kind == "lost"]
        return "" if self.open else ", ".join(said)

    @property
    def reads(self) -> bool:
        """Whether what stands at each step is kept."""
        return self.open or any(one.kind in ("read", "packed") for one in self.every)

    @property
    def cut(self) -> bool:
        """Whether some steps of a row can be given to the model as a row."""
        return self.open or all(one.kind in ("read", "is") for one in self.every)

    @property
    def alone(self) -> bool:
        """Whether the model takes one row at a time."""
        return any(one.bare for one in self.every)

    def again(
        self, read: Shaped[ndarray, "row step ..."], rows: Sequence[int]
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments for some rows side by side, in each way in which they may be meant.

        Args:
            read: (row, step, ...) what stands at each step.
            rows: which rows of the input they are.
        """
        given = torch.from_numpy(read.copy())
        if self.open:
            yield (given.long(),), {}
            yield (given.long().T,), {}
            return
        yield (
            tuple(one.again(given, rows) for one in self.args),
            {name: one.again(given, rows) for name, one in self.kwargs.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Form:
        """What `to_dict` gave."""
        args = tuple(Argument(**one) for one in held["args"])
        kwargs = {name: Argument(**one) for name, one in held["kwargs"].items()}
        return cls(args, kwargs, held["open"])


#: An input of which the scan itself made the ids that the model took.
IDS: Final = Form(open=True)


def form_of(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    read: Any,
    lengths: Sequence[int],
    steps: int,
    turned: bool | None = None,
) -> Form:
    """How an input was given.

    Args:
        args: the arguments of the run.
        kwargs: the named ones.
        read: which of them holds what stands at each step; None where that is not known.
        lengths: (row,) how many steps each row has.
        steps: how many steps the longest one has.
        turned: whether steps come before rows in `read`, where their numbers do not tell it.
    """
    return Form(
        tuple(_argument(one, read, lengths, steps, turned) for one in args),
        {name: _argument(one, read, lengths, steps, turned) for name, one in kwargs.items()},
    )


def at_each_step(
    read: Any, rows: int, steps: int, turned: bool | None = None
) -> Shaped[ndarray, "row step ..."] | None:
    """What stands at each step of an input (row, step, ...); None where that cannot be kept.

    Args:
        read: the argument that holds it.
        rows: how many rows the layers had.
        steps: how many steps.
        turned: whether these come first, where their numbers do not tell it.
    """
    if isinstance(read, PackedSequence):
        read = pad_packed_sequence(read, batch_first=True)[0]
    elif not isinstance(read, Tensor) or (rows == steps > 1 and turned is None):
        return None
    read = plain(read)
    if bare(read, rows, steps):
        read = read[None]
    if turned or tuple(read.shape[:2]) != (rows, steps):
        if tuple(read.shape[:2]) != (steps, rows):
            return None
        read = read.transpose(0, 1)
    if read[:1, :1].numel() > KEPT or read.is_complex():
        return None
    found: ndarray = read.contiguous().numpy()
    return found


def plain(given: Tensor) -> Tensor:
    """The same numbers on the CPU, in a kind that numpy has, too."""
    found = given.detach().cpu()
    return found.float() if found.dtype == torch.bfloat16 else found


def bare(given: Tensor, rows: int, steps: int) -> bool:
    """Whether a tensor is numbers (step, number) of a single row, without an axis of rows."""
    shape = tuple(given.shape)
    return (
        given.is_floating_point()
        and (rows == 1 and steps == shape[0])
        and (len(shape) == 2 and shape[1] > 1)
    )


def _argument(
    one: Any, read: Any, lengths: Sequence[int], steps: int, stepped: bool | None
) -> Argument:
    rows = len(lengths)
    if isinstance(one, ndarray) and one.dtype.kind in "biu" and one.dtype.isnative:
        found = _argument(torch.from_numpy(one.copy()), read, lengths, steps, stepped)
        if found.kind in ("lengths", "rows", "mask"):
            return replace(found, dtype=f"{NUMPY}{one.dtype}")
    if isinstance(one, PackedSequence):
        dtype = _named(one.data)
        if one is read:
            return Argument("packed", list(one.data.shape[1:]), dtype)
        return Argument("lost", f"a PackedSequence of {dtype}")
    if isinstance(one, Tensor):
        plain, dtype, shape = one.detach().cpu(), _named(one), tuple(one.shape)
        turned = shape[:2] == (steps, rows) and rows != steps
        if one is read and bare(one, rows, steps):
            return Argument("read", list(shape[1:]), dtype, bare=True)
        if one is read:
            return Argument("read", list(shape[2:]), dtype, bool(stepped) or turned)
        if plain.is_complex():
            return Argument("lost", f"a tensor {shape} of {dtype}")
        if not shape:
            return Argument("is", plain.item(), dtype)
        if shape == (rows,) and plain.tolist() == list(lengths) and plain.dtype != torch.bool:
            return Argument("lengths", dtype=dtype)
        if shape in ((rows, steps), (steps, rows)) and len(shape) == 2:
            at = (plain.T if turned else plain).numpy()
            if (mask := _first_and_rest(at, lengths)) is not None:
                return Argument("mask", mask, dtype, turned)
        if shape[0] == rows and len(shape) <= 2 and plain[0].numel() <= KEPT:
            return Argument("rows", plain.tolist(), dtype)
        return Argument("lost", f"a tensor {shape} of {dtype}")
    if isinstance(one, list | tuple) and all(type(n) in (int, float, bool, str) for n in one):
        if list(one) == list(lengths):
            return Argument("lengths")
        if len(one) == rows:
            return Argument("rows", list(one))
    if one is None or type(one) in (bool, int, float, str):
        return Argument("is", one)
    return Argument("lost", f"a {type(one).__name__}")


def _first_and_rest(at: Shaped[ndarray, "row step"], lengths: Sequence[int]) -> list[Any] | None:
    """Two values, and how many steps of each row have the first of them before all have the other.

    None for a number of steps is all, of rows of these lengths; None at all is that it is not so.

    >>> _first_and_rest(np.array([[1, 1, 1], [1, 0, 0]]), [3, 3])
    [1, 0, [3, 1]]
    >>> _first_and_rest(np.array([[1, 1, 1], [1, 0, 0]]), [3, 1])
    [1, 1, None]
    >>> _first_and_rest(np.array([[1, 0, 1]]), [3])
    """
    inside = at[0, 0]
    first = (at == inside).cumprod(1).sum(1)
    if (first >= np.asarray(lengths)).all():
        return [inside.item(), inside.item(), None]
    rest = at[np.arange(at.shape[1]) >= first[:, None]]
    if (rest == rest[0]).all():
        return [inside.item(), rest[0].item(), first.tolist()]
    return None


def _named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
