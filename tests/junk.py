"""Things that no function expects, by name: what a person may pass by mistake, or out of malice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_sequence

TEXTS = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "quotes": "\"'`</textarea>&amp;",
    "control": "a\x00b\x1b[31m\r\n\t\x7f",
    "right to left": "\u202egnp.exe\u202c \u05d0\u05d1",
    "long": "w" * 20_000,
    "surrogate": "\ud800",
    "combining": "e" + "\u0301" * 300,
    "empty": "",
    "blank": " \u00a0\u200b",
}


class Mute:
    """It can be neither shown nor compared, measured or gone through."""

    def _no(self, *_: Any) -> Any:
        raise RuntimeError("no such thing")

    __repr__ = __str__ = __eq__ = __len__ = __iter__ = __bool__ = __getitem__ = _no  # type: ignore[assignment]
    __hash__ = object.__hash__


class Lying(list[Any]):
    """A list that says it is long and is empty."""

    def __len__(self) -> int:
        return 5


class FloatLike:
    """A number to `float`, and nothing else."""

    def __float__(self) -> float:
        return 0.5


THINGS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "huge int": lambda: 10**30,
    "huge minus": lambda: -(10**30),
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1e308": lambda: 1e308,
    "complex": lambda: 1j,
    "bytes": lambda: b"l0",
    "list": list,
    "nested": lambda: [[1, [2]], [3]],
    "ragged": lambda: [[1.0], [1.0, 2.0]],
    "itself": lambda: _loop(),  # noqa: PLW0108 - it is defined below
    "mixed": lambda: [1, "a", None],
    "bools and ints": lambda: [True, 1, False],
    "many": lambda: list(range(1000)),
    "tuple": lambda: (0,),
    "set": lambda: {0},
    "dict": lambda: {"l0": 1},
    "range": lambda: range(3),
    "slice": lambda: slice(1, 3),
    "slice of floats": lambda: slice(0.5, None),
    "slice of huge": lambda: slice(-(10**30), 10**30, 10**30),
    "slice of step 0": lambda: slice(None, None, 0),
    "generator": lambda: (i for i in range(3)),
    "function": lambda: lambda *args, **kwargs: None,
    "class": lambda: nn.GRU,
    "module": lambda: nn.Linear(2, 2),
    "object": object,
    "mute": Mute,
    "lying": Lying,
    "float-like": FloatLike,
    "numpy int": lambda: np.int64(1),
    "numpy float": lambda: np.float32(0.5),
    "numpy objects": lambda: np.array([object(), None], object),
    "numpy text": lambda: np.array(["a", "b"]),
    "numpy mask": lambda: np.array([True, False]),
    "numpy 0-d": lambda: np.array(3),
    "numpy empty": lambda: np.zeros((0, 3), np.float32),
    "numpy readonly": lambda: _readonly(),  # noqa: PLW0108
    "tensor": lambda: torch.randn(4),
    "tensor 0-d": lambda: torch.tensor(0.5),
    "tensor empty": lambda: torch.empty(0),
    "tensor of nan": lambda: torch.full((4,), float("nan")),
    "tensor int": lambda: torch.tensor([0, 1]),
    "tensor uint8": lambda: torch.tensor([0, 1], dtype=torch.uint8),
    "tensor bool": lambda: torch.tensor([True, False, True, False]),
    "tensor wrong mask": lambda: torch.tensor([True, False]),
    "tensor half": lambda: torch.randn(4).half(),
    "tensor complex": lambda: torch.randn(4, dtype=torch.complex64),
    "tensor expanded": lambda: torch.randn(1).expand(4),
    "tensor strided": lambda: torch.randn(2, 6, 6).transpose(0, 2)[::2, ::2],
    "tensor learned": lambda: torch.zeros(4, requires_grad=True),
    "tensor 3-d": lambda: torch.randn(2, 5, 3),
    "tensor no rows": lambda: torch.zeros(0, 5, 3),
    "tensor no steps": lambda: torch.zeros(2, 0, 3),
    "tensor 5-d": lambda: torch.zeros(1, 1, 1, 1, 1),
    "tensor meta": lambda: torch.empty(2, 5, 3, device="meta"),
    "tensor sparse": lambda: torch.eye(4).to_sparse(),
    "tensor double": lambda: torch.randn(2, 5, 3).double(),
    "tensor infinite": lambda: torch.full((2, 5, 3), float("inf")),
    "packed": lambda: pack_sequence([torch.randn(5, 3), torch.randn(2, 3)]),
    **{f"text {name}": (lambda text=text: text) for name, text in TEXTS.items()},  # type: ignore[misc]
}


def _loop() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


def _readonly() -> Any:
    array = np.ones(4, np.float32)
    array.setflags(write=False)
    return array


class Thing:
    """One of them, drawn: it prints as its name, since some can print nothing."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def __repr__(self) -> str:
        return f"<{self.name}>"


def things(**good: Any) -> st.SearchStrategy[Thing]:
    """Any of the things, or as often one of those that fit, by name."""
    fitting = st.sampled_from(sorted(good)).map(lambda name: Thing(name, good[name]))
    bad = st.sampled_from(sorted(THINGS)).map(lambda name: Thing(name, THINGS[name]()))
    return fitting | bad if good else bad
