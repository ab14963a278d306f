"""Repeating the rows that a model is given, and splitting what it returns again.

Rows are repeated next to each other, (batch, copy): rows that a model wants sorted by length stay
sorted. Which dimension of which argument is the batch nobody says; so `guess_batch_dims` lists
candidates, and whoever uses one has to compare what comes out with an ordinary run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import fields, is_dataclass
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

CANDIDATES = 12

BatchDims = tuple[int | None, ...]
"""For each leaf the dimension that is repeated, or None."""


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """A nested value with each leaf changed: tensors, packed sequences, lists of numbers.

    >>> map_leaves({"a": (torch.ones(2), "text")}, lambda leaf: leaf.sum())
    {'a': (tensor(2.), 'text')}
    """
    if isinstance(value, Tensor | PackedSequence) or _is_numbers(value):
        return change(value)
    if isinstance(value, MutableMapping):
        changed = {key: map_leaves(item, change) for key, item in value.items()}
        if all(changed[key] is item for key, item in value.items()):
            return value
        twin: Any = copy.copy(value)
        for key, item in changed.items():
            twin[key] = item
        return twin
    if isinstance(value, tuple | list):
        items = [map_leaves(item, change) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        other: Any = copy.copy(value)
        for field in fields(value):
            object.__setattr__(other, field.name, map_leaves(getattr(value, field.name), change))
        return other
    return value


def list_leaves(value: Any) -> list[Any]:
    """The leaves of a nested value, in order."""
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(value, keep)
    return found


def guess_batch_dims(given: Any, batch: int) -> Iterator[BatchDims]:
    """Which dimensions of what a model is given may be its batch, the likeliest first.

    >>> next(guess_batch_dims((torch.zeros(3, 5, 2), {"h_0": torch.zeros(1, 3, 4)}), batch=3))
    (0, 1)
    """
    found: list[list[int | None]] = []
    for leaf in list_leaves(given):
        shape = leaf.shape if isinstance(leaf, Tensor) else (_rows(leaf),)
        dims: list[int | None] = [dim for dim, size in enumerate(shape) if size == batch]
        found.append([*dims, None])
    return islice((g for g in product(*found) if any(d is not None for d in g)), CANDIDATES)


def repeat_rows(given: Any, dims: BatchDims, copies: int) -> Any:
    """What a model is given, its rows repeated.

    >>> repeat_rows(([1, 2], torch.tensor([[1.0], [2.0]])), (0, 0), 2)
    ([1, 1, 2, 2], tensor([[1.], [1.], [2.], [2.]]))
    """
    rest = iter(dims)

    def repeat(leaf: Any) -> Any:
        dim = next(rest)
        if dim is None:
            return leaf
        if isinstance(leaf, Tensor):
            return leaf.repeat_interleave(copies, dim)
        if isinstance(leaf, PackedSequence):
            rows, lengths = pad_packed_sequence(leaf, batch_first=True)
            rows, lengths = (t.repeat_interleave(copies, 0) for t in (rows, lengths))
            return _packed(rows, lengths, leaf)
        return type(leaf)(item for item in leaf for _ in range(copies))

    return map_leaves(given, repeat)


def split_copies(output: Any, like: Any, batch: int, copies: int) -> Iterator[Any]:
    """The output of each copy, as an ordinary run returns it.

    Args:
        output: what the model returned for repeated rows.
        like: what it returned for the rows themselves.
        batch: how many rows these are.
        copies: how often they were repeated.

    Raises:
        ValueError: the two are not alike.
    """
    if copies == 1:
        return iter([output])
    leaves, ordinary = list_leaves(output), list_leaves(like)
    if len(leaves) != len(ordinary):
        raise ValueError("outputs of another structure")
    parts = [_parts(many, one, batch, copies) for many, one in zip(leaves, ordinary, strict=True)]
    if isinstance(output, Tensor):
        return iter(parts[0])
    return (_with(output, [part[c] for part in parts]) for c in range(copies))


def _with(output: Any, new: list[Any]) -> Any:
    rest = iter(new)
    return map_leaves(output, lambda _: next(rest))


def _parts(many: Any, one: Any, batch: int, copies: int) -> Any:
    if isinstance(many, PackedSequence):
        rows, lengths = pad_packed_sequence(many, batch_first=True)
        return [_packed(rows[c::copies], lengths[c::copies], one) for c in range(copies)]
    if not isinstance(many, Tensor):
        if _rows(many) == _rows(one):
            return [many] * copies
        return [type(many)(many[c::copies]) for c in range(copies)]
    if many.shape == one.shape:
        return [many] * copies
    differ = [d for d, (a, b) in enumerate(zip(many.shape, one.shape, strict=True)) if a != b]
    (dim,) = differ  # raises ValueError if there are several
    size = one.shape[dim]
    if size % batch or many.shape[dim] != copies * size:
        raise ValueError(f"shapes {tuple(many.shape)} and {tuple(one.shape)}")
    # rows may have been flattened with what lies behind them, (batch and time, class)
    behind = () if size == batch else (size // batch,)
    shape = (*one.shape[:dim], batch, copies, *behind, *one.shape[dim + 1 :])
    parts = many.reshape(shape).unbind(dim + 1)
    return [part.reshape(one.shape) for part in parts] if behind else parts


def _packed(rows: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    is_sorted = like.sorted_indices is None
    return pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=is_sorted)


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and not hasattr(value, "_fields")
        and bool(value)
        and all(isinstance(item, int | float) for item in value)
    )


def _rows(leaf: Any) -> int:
    if isinstance(leaf, PackedSequence):
        return int(leaf.batch_sizes[0])
    return len(leaf)


def count_bytes(value: Any) -> int:
    """How much memory the tensors of a nested value take."""
    data = (leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in list_leaves(value))
    return sum(t.numel() * t.element_size() for t in data if isinstance(t, torch.Tensor))
