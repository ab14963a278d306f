"""Drawn GRUs and drawn inputs for them: what the property tests run over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2}


@dataclass
class Case:
    """A module, its arguments as a user would give them, and the same thing in rows."""

    module: nn.RNNBase
    args: tuple[Any, ...]
    rows: Tensor  # (batch, time, input), zero on padding
    lengths: list[int]
    h_0: Tensor | None  # (level and direction, batch, unit)
    c_0: Tensor | None = None  # of an LSTM, likewise

    @property
    def names(self) -> list[str]:
        ways = ("", "_reverse") if self.module.bidirectional else ("",)
        return [f"l{level}{way}" for level in range(self.module.num_layers) for way in ways]

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.rows.dtype]

    def __repr__(self) -> str:
        return f"Case({self.module}, rows {tuple(self.rows.shape)}, lengths {self.lengths})"


def same_bits(one: Any, other: Any) -> bool:
    """Whether two outputs of an nn.GRU are equal bit for bit."""
    if isinstance(one, PackedSequence):
        return torch.equal(one.data, other.data) and torch.equal(one.batch_sizes, other.batch_sizes)
    if isinstance(one, tuple):
        return all(map(same_bits, one, other))
    return torch.equal(one, other)


def flat(output: Any) -> list[Tensor]:
    """The tensors of what an nn.GRU, nn.LSTM or nn.RNN returns."""
    body, last = output
    ends = list(last) if isinstance(last, tuple) else [last]
    return [body.data if isinstance(body, PackedSequence) else body, *ends]


@st.composite
def cases(
    draw: st.DrawFn,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64, torch.bfloat16),
    forms: Sequence[str] = ("batch first", "time first", "unbatched", "packed"),
    dropout: bool = False,
    kinds: Sequence[Callable[..., nn.RNNBase]] = (nn.GRU,),
) -> Case:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    dtype, form = draw(st.sampled_from(dtypes)), draw(st.sampled_from(forms))
    batch = 1 if form == "unbatched" else draw(st.integers(1, 4))
    steps, width, units = (draw(st.integers(1, n)) for n in (6, 4, 5))
    levels = draw(st.integers(1, 3))
    module = draw(st.sampled_from(list(kinds)))(
        width,
        units,
        num_layers=levels,
        bias=draw(st.booleans()),
        batch_first=form == "batch first" or (form == "packed" and draw(st.booleans())),
        dropout=0.4 if dropout and levels > 1 else 0.0,
        bidirectional=draw(st.booleans()),
    ).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    rows = torch.randn(batch, steps, width, dtype=dtype)
    lengths = [steps] * batch
    count = levels * (2 if module.bidirectional else 1)
    h_0 = torch.randn(count, batch, units, dtype=dtype) if draw(st.booleans()) else None
    given: Tensor | PackedSequence
    if form == "packed":
        lengths = draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
        lengths[draw(st.integers(0, batch - 1))] = steps
        rows[torch.arange(steps) >= torch.tensor(lengths)[:, None]] = 0
        ordered = sorted(lengths, reverse=True)
        if draw(st.booleans()):
            lengths = ordered
            rows[torch.arange(steps) >= torch.tensor(lengths)[:, None]] = 0
        laid_out = rows if module.batch_first else rows.transpose(0, 1)
        given = pack_padded_sequence(
            laid_out, lengths, module.batch_first, enforce_sorted=lengths == ordered
        )
    elif form == "unbatched":
        given = rows[0]
    else:
        given = rows if module.batch_first else rows.transpose(0, 1)
    args: tuple[Any, ...] = (given,)
    c_0 = None
    if h_0 is not None:
        state: Any = h_0[:, 0] if form == "unbatched" else h_0
        if isinstance(module, nn.LSTM):
            c_0 = torch.randn_like(h_0)
            state = state, c_0[:, 0] if form == "unbatched" else c_0
        args = (given, state)
    return Case(module, args, rows, lengths, h_0, c_0)
