"""The readouts that would show an output, as lines of code that work for this very one.

What an output is made of is not for grulens to guess; but which tensors are in it, and how each
could be laid out with a row for each row of a layer, can be tried and said. Sizes may agree by
chance, so every layout that fits is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain
from math import prod
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

Row = list[Tensor] | tuple[Tensor, ...]

WHOLE: Final = "  # numbers of tokens or classes, not quantities"


class Part(NamedTuple):
    """A tensor in an output.

    Attributes:
        code: the Python that gets it from `output`.
        value: the tensor; of several alike in a row, as steps give them, the list or tuple.
    """

    code: str
    value: Tensor | Row


def parts(output: Any) -> Iterator[Part]:
    """The tensors of an output in their order, however nested; lists of tensors alike as one.

    >>> for part in parts({"loss": torch.zeros(()), "steps": [torch.zeros(2), torch.zeros(2)]}):
    ...     print(part.code)
    output['loss']
    output['steps']
    """
    return _parts("output", output)


def suggestions(output: Any, batch: int) -> list[str]:
    """The readouts that show an output with one answer for each of a layer's rows.

    Args:
        output: the model's whole output.
        batch: rows of the layer.

    Returns:
        Lines such as "readout=lambda output: output.flatten(2)", each tried on this output and
        each another layout of the first tensor that has one; none where there is no number in it.

    >>> suggestions(torch.zeros(2, 6, 2, 4), batch=2)
    ['readout=lambda output: output.flatten(2)']
    >>> len(suggestions(torch.zeros(2, 6, 3), batch=6))  # steps or channels may be its rows
    3
    """
    found = [part for part in parts(output) if _size(part)]
    # a loss is a number, too, but what is looked for has one for each row
    found.sort(key=lambda part: (_size(part) == 1, _is_whole(part.value)))
    for code, value in found:
        if lines := _layouts(code, value, batch):
            note = WHOLE if _is_whole(value) else ""
            return [f"readout=lambda output: {line}{note}" for line in lines]
    for part in found:
        code, numbers = _floating(*part)
        if fits(numbers.reshape(1, -1).expand(batch, -1), batch):
            return [f"readout=lambda output: {code}.reshape(1, -1).expand({batch}, -1)"]
    return []


def fits(value: Tensor, batch: int) -> bool:
    """Whether a tensor is (batch, time, class), (batch, class), (batch, time) or (batch,)."""
    return (
        value.is_floating_point() and value.dim() in (1, 2, 3) and len(value) == batch
        and value.numel() > 0
    )  # fmt: skip


def _parts(code: str, value: Any) -> Iterator[Part]:
    if isinstance(value, PackedSequence):
        padded = pad_packed_sequence(value, batch_first=True)[0]
        name = "torch.nn.utils.rnn.pad_packed_sequence"
        yield Part(f"{name}({code}, batch_first=True)[0]", padded)
    elif isinstance(value, Tensor):
        yield Part(code, value)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield Part(f"torch.as_tensor({code})", torch.as_tensor(value))
    elif isinstance(value, int | float):
        yield Part(f"torch.tensor(float({code}))", torch.tensor(float(value)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str | int):
                yield from _parts(f"{code}[{key!r}]", item)
    elif is_row(value):
        yield Part(code, value)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _parts(f"{code}[{place}]", item)
    elif not isinstance(value, type):
        named = [f.name for f in fields(value)] if is_dataclass(value) else _attributes(value)
        for name in named:
            yield from _parts(f"{code}.{name}", getattr(value, name))


def is_row(value: Any) -> TypeGuard[Row]:
    """Whether a value is a list or tuple of several floating tensors that look alike."""
    return (
        type(value) in (list, tuple) and len(value) > 1
        and all(isinstance(item, Tensor) and item.is_floating_point() for item in value)
        and len({item.shape for item in value}) == 1
    )  # fmt: skip


def _attributes(value: Any) -> list[str]:
    """The tensors that an object of any kind keeps, by name."""
    held = getattr(value, "__dict__", {})
    return [
        name for name, item in held.items()
        if isinstance(name, str) and name.isidentifier() and not name.startswith("_")
        and isinstance(item, Tensor)
    ]  # fmt: skip


def _size(part: Part) -> int:
    values = [part.value] if isinstance(part.value, Tensor) else part.value
    return sum(value.numel() for value in values if _has_values(value))


def _has_values(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_meta and not value.is_quantized


def _is_whole(value: Tensor | Row) -> bool:
    """Whether these are whole numbers, such as those of tokens."""
    return isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex())


def _floating(code: str, value: Tensor | Row) -> tuple[str, Tensor]:
    if not isinstance(value, Tensor):
        code, value = f"torch.stack({code})", torch.stack(list(value))
    if value.is_complex():
        code, value = f"{code}.abs()", value.abs()
    if not value.is_floating_point():
        code, value = f"{code}.float()", value.float()
    return code, value


def _layouts(code: str, value: Tensor | Row, batch: int) -> list[str]:
    """The layouts of a tensor that fit; two are one where each place holds the same.

    Tried on numbers of the places: of a tensor's own values some may be equal.
    """
    whole_code, whole = _floating(code, value)
    places = torch.arange(whole.numel(), dtype=torch.float64).view(whole.shape)
    if not isinstance(value, Tensor) and whole.dim() > 1 and whole.shape[1] == batch:
        ways = _flat(f"torch.stack({code}, 1)", places.transpose(0, 1))
        if len(places) == batch:
            ways = chain(ways, _flat(whole_code, places))
    else:
        ways = _ways(whole_code, places, batch)
    found: dict[str, Tensor] = {}
    for line, laid in ways:
        if fits(laid, batch) and not any(torch.equal(laid, other) for other in found.values()):
            found[line] = laid
    return list(found)


def _ways(code: str, value: Tensor, batch: int) -> Iterator[tuple[str, Tensor]]:
    """Ways to lay a tensor out with its rows first, the likeliest first."""
    yield code, value
    shape, dims = tuple(value.shape), value.dim()
    if dims > 1 and shape[0] == batch:
        yield from _flat(code, value)
    if dims > 1 and shape[1] == batch:
        yield from _flat(f"{code}.transpose(0, 1)", value.transpose(0, 1))
    for last in range(1, dims):
        if prod(shape[: last + 1]) == batch:
            yield from _flat(f"{code}.flatten(0, {last})", value.flatten(0, last))
    if dims > 2 and shape[0] * shape[-1] == batch:
        # channels last, each of them a row of the layer
        yield from _flat(f"{code}.movedim(-1, 1).flatten(0, 1)", value.movedim(-1, 1).flatten(0, 1))
    if dims and shape[0] and batch % shape[0] == 0:
        times = batch // shape[0]
        yield from _flat(
            f"{code}.repeat_interleave({times}, 0)", value.repeat_interleave(times, 0)
        )  # the answer of the sample that each row is a part of
    if dims > 1 and shape[0] % batch == 0 and shape[0] > batch:
        split = value.reshape(batch, -1, *shape[1:])
        yield from _flat(f"{code}.unflatten(0, ({batch}, -1))", split)


def _flat(code: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor with its rows first, with no more than a time and a class axis behind them."""
    yield (f"{code}.flatten(2)", value.flatten(2)) if value.dim() > 3 else (code, value)
