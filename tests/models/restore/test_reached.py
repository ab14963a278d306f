"""What a model's code keeps beside its tensors is after extra runs as one plain call leaves it."""

from __future__ import annotations

import array
import itertools
import os
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grulens import record, recording
from grulens.errors import LeftBehindWarning, RecordingError
from grulens.models.restore.untouched import untouched

LIST: list[Any] = []
DICT: dict[str, int] = {}
COUNT = 0
TENSOR = torch.zeros(1)
RANDOM = random.Random(0)


def own_count() -> int:
    global COUNT  # noqa: PLW0603 - the very thing that is tried
    COUNT += 1
    return COUNT


def in_a_list() -> int:
    LIST.append(torch.ones(3))
    return len(LIST)


def in_a_dict() -> int:
    DICT["n"] = DICT.get("n", 0) + 1
    return DICT["n"]


def in_a_tensor() -> float:
    return float(TENSOR.add_(1))


def made_global() -> int:
    global LATE  # noqa: PLW0603 - as above
    LATE = globals().get("LATE", 0) + 1
    return LATE


def in_a_closure() -> Callable[[], int]:
    count, seen = 0, [[1]]

    def more() -> int:
        nonlocal count
        count += 1
        seen[0].append(count)
        return sum(seen[0])

    return more


def of_itself() -> int:
    of_itself.calls += 1  # type: ignore[attr-defined]
    return of_itself.calls  # type: ignore[attr-defined, no-any-return]


of_itself.calls = 0  # type: ignore[attr-defined]


def by_default(seen: list[int] = []) -> int:  # noqa: B006 - the very thing that is tried
    seen.append(1)
    return len(seen)


class Counts:
    """An object that counts, on its class too, and in a slot."""

    __slots__ = ("calls",)
    every = 0

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        type(self).every += 1
        return self.calls + self.every


def appended(held: Any) -> Callable[[], float]:
    return lambda: held.append(1) or float(sum(held))


def counted(held: Any) -> Callable[[], float]:
    def more() -> float:
        held["a"] = held.get("a", 0) + 1
        return float(held["a"])

    return more


def grown(held: Any) -> Callable[[], float]:
    held += 1
    return lambda: float(np.add(held, 1, out=held).sum())


def taken(held: Iterator[int]) -> Callable[[], int]:
    return lambda: next(held)


def read(held: set[int]) -> Callable[[], int]:
    return lambda: held.add(len(held)) or len(held)


def first_replaced(held: list[Tensor]) -> Callable[[], float]:
    def more() -> float:
        held[0] = held[0] + 1
        return float(held[0].sum())

    return more


KEEPS: dict[str, Callable[[], Callable[[], float]]] = {
    "a list of the file": lambda: in_a_list,
    "a dict of the file": lambda: in_a_dict,
    "a global": lambda: own_count,
    "a global made late": lambda: made_global,
    "a tensor of the file": lambda: in_a_tensor,
    "a closure": in_a_closure,
    "a function": lambda: of_itself,
    "a default": lambda: by_default,
    "an object": Counts,
    "a list": lambda: appended([]),
    "a list of tensors": lambda: first_replaced([torch.zeros(2)]),
    "a deque": lambda: appended(deque(maxlen=3)),
    "an array": lambda: appended(array.array("d")),
    "a set": lambda: read(set()),
    "a Counter": lambda: counted(Counter()),
    "an OrderedDict": lambda: counted(OrderedDict()),
    "numbers of numpy": lambda: grown(np.zeros(2)),
    "an iterator": lambda: taken(iter([3, 1, 2, 7, 5])),
    "a zip": lambda: lambda held=zip(range(9), strict=True): next(held)[0],  # noqa: B008
    "Python's random numbers": lambda: random.Random(3).random,
    "random numbers of the file": lambda: RANDOM.random,
    "random numbers of numpy": lambda: np.random.default_rng(3).random,
}  # fmt: skip


class Keeps(nn.Module):
    """A loop that adds up something kept elsewhere, and hands on what it made of it."""

    def __init__(self, keep: Callable[[], float], held: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.keep, self.held = nn.Linear(4, 2), keep, held

    def forward(self, x: Tensor) -> Tensor:
        h, more = x.new_zeros(len(x), 2), self.keep()
        for x_t in x.unbind(1):
            h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x_t, h], 1)))
        return h + more


X = torch.ones(1, 3, 2)


def plain(model: nn.Module) -> list[float]:
    return [float(model(X)[0, 0]) for _ in range(2)]


@pytest.mark.parametrize("kind", KEEPS)
def test_a_look_is_not_felt_by_what_a_model_keeps_elsewhere(kind: str) -> None:
    model = Keeps(KEEPS[kind]())
    with torch.no_grad(), untouched(model):
        wanted = plain(model)
    assert wanted[0] != wanted[1]
    # the look and its trials, the recorded run, and a plain one after it
    first = float(record(model, X).output[0, 0])
    with torch.no_grad():
        assert [first, float(model(X)[0, 0])] == wanted


def test_a_hook_and_an_argument_may_keep_too() -> None:
    seen: list[Tensor] = []

    class Told(Keeps):
        def forward(self, x: Tensor, tell: Callable[[Tensor], None]) -> Tensor:  # type: ignore[override]
            h = super().forward(x)
            tell(h)
            return h

    told: list[Tensor] = []
    model = Told(lambda: 0.0)
    model.line.register_forward_hook(lambda *given: seen.append(given[-1]))
    record(model, X, told.append)
    assert (len(told), len(seen)) == (1, 3)


def test_what_a_class_keeps_is_put_back() -> None:
    class Own(Keeps):
        calls, all = 0, []

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            type(self).late = self.calls  # type: ignore[attr-defined]
            self.all.append(self.late)  # type: ignore[attr-defined]
            return super().forward(x)

    model = Own(lambda: 0.0)
    with untouched(model):
        model(X)
    assert (Own.calls, Own.all, hasattr(Own, "late")) == (0, [], False)
    record(model, X)
    assert (Own.calls, Own.all) == (1, [1])


@pytest.mark.parametrize(
    "made", [lambda: (i for i in range(9)), itertools.count], ids=["a generator", "a count"]
)
def test_what_cannot_be_put_back_is_said(made: Callable[[], Iterator[int]]) -> None:
    model, held = Keeps(lambda: 0.0), made()
    model.keep = taken(held)
    with pytest.raises(RecordingError, match=r"cannot be put back: an iterator \(.*observe=False"):
        record(model, X)
    assert next(held) == 1  # as one call leaves it
    with pytest.warns(LeftBehindWarning, match="which has gone on"), untouched(model):
        model(X)
    record(Keeps(lambda: 0.0, made()), X)  # it is held, and not taken from


def test_what_nobody_can_see_shows_in_the_output() -> None:
    def file() -> float:
        os.environ["KEPT"] = str(int(os.environ.get("KEPT", "0")) + 1)
        return float(os.environ["KEPT"])

    with pytest.warns(LeftBehindWarning, match="something else here than in the run just before"):
        record(Keeps(file), X)
    model = Keeps(file)
    with (
        pytest.warns(LeftBehindWarning, match="something else here"),
        recording(model) as runs,
    ):
        model(X)
    assert len(runs) == 1
    record(model, X)  # no look is made any more
