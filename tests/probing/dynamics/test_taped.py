"""A function played again from its calls of torch gives what its code gives, or the code runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from grulens.probing.dynamics.taped import MISSES, Taped

WEIGHT = torch.linspace(-1, 1, 9, dtype=torch.double).reshape(3, 3)
STATES = [torch.randn(4, 3, generator=torch.Generator().manual_seed(n)).double() for n in range(6)]


class Counted:
    """A function that counts how often its code runs."""

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        self.of, self.times = of, 0

    def __call__(self, states: Tensor) -> tuple[Tensor, ...]:
        self.times += 1
        return (self.of(states),)


def slope(of: Callable[[Tensor], tuple[Tensor, ...]], states: Tensor) -> Tensor:
    before = states.clone().requires_grad_()
    (found,) = torch.autograd.grad(of(before)[0].square().sum(), before)
    return found


def agree(of: Callable[[Tensor], Tensor]) -> int:
    """How often the code runs while it is asked often; all answers are compared."""
    counted = Counted(of)
    taped = Taped(counted)
    for states in STATES:
        assert torch.allclose(taped(states)[0], of(states), atol=1e-12)
        assert torch.allclose(slope(taped, states), slope(Counted(of), states), atol=1e-12)
    return counted.times


def in_pieces(states: Tensor) -> Tensor:
    a, b = torch.cat([states @ WEIGHT, states], 1).chunk(2, 1)
    h = a + 1
    h[:, 1:] *= 2
    rows = torch.stack([one.sum(0, keepdim=True).expand(3) for one in h])
    return (1 - h) * (2 * b).tanh_() + rows


def into_a_buffer(states: Tensor) -> Tensor:
    buffer = torch.ones(len(states), 2, 3).double()
    buffer[:, 0] = states
    return (buffer * 2).sum(1)


def beside_a_buffer(states: Tensor) -> Tensor:
    out = torch.ones(len(states), 5, 3).double()
    out[:, 0] = states
    return states.tanh()


def by_shape(states: Tensor) -> Tensor:
    count, _ = states.shape
    return states.view(count, 1, -1).mean(1) * states.size(1) * (2 if states.dim() == 2 else 1)


def without_graph(states: Tensor) -> Tensor:
    with torch.no_grad():
        share = torch.sigmoid(states)
    return share * states


class Scaled(torch.autograd.Function):
    """A function of somebody's own, whose calls torch does not see."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return 2 * value

    @staticmethod
    def backward(ctx: Any, way: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * way


def by_a_function_of_its_own(states: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = Scaled.apply(states)  # type: ignore[no-untyped-call]
    return found * states


@pytest.mark.parametrize(
    "of",
    [in_pieces, into_a_buffer, beside_a_buffer, by_shape, without_graph, by_a_function_of_its_own],
)
def test_calls_are_noted_once(of: Callable[[Tensor], Tensor]) -> None:
    assert agree(of) == 3  # to note it, to compare it, and for its own first answer


def test_calls_that_the_result_does_not_need_are_not_made_again() -> None:
    taped = Taped(Counted(beside_a_buffer))
    taped(STATES[0])
    [tape] = taped._tapes.values()
    assert [call.func for call in tape.calls] == [Tensor.tanh]


def test_a_branch_is_gone_as_the_code_would_go_it() -> None:
    def branching(states: Tensor) -> Tensor:
        return states.exp() if bool((states.sum() > 0).item()) else states * 2

    def picking(states: Tensor) -> Tensor:
        return states * 2 if len(states[states > 1]) % 2 else states * 3

    for of in (branching, picking):
        sides = {round(float((of(states) / states)[0, 0]), 6) for states in STATES}
        assert len(sides) > 1
        assert agree(of) > 3


def test_what_goes_another_way_each_time_runs_as_it_stands() -> None:
    counted = Counted(lambda states: states * float(states.max()))
    taped = Taped(counted)
    for number in range(3 * MISSES):
        states = STATES[0] + number
        assert torch.equal(taped(states)[0], states * states.max())
    before = counted.times
    taped(STATES[1])
    assert counted.times == before + 1


class Surrogate(torch.autograd.Function):
    """A step whose derivative is made up, as spiking networks have it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return (value > 0).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, way: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * way


def test_what_torch_does_not_see_runs_as_it_stands() -> None:
    def surrogate(states: Tensor) -> Tensor:
        found: Tensor = Surrogate.apply(states)  # type: ignore[no-untyped-call]
        return found * states

    def by_numpy(states: Tensor) -> Tensor:
        return states * torch.from_numpy(states.detach().numpy().copy())

    def by_another_view(states: Tensor) -> Tensor:
        buffer = torch.ones(len(states), 2, 3).double()
        other = buffer[:, 0]
        buffer[:, 0] = states
        return other * states

    def counting(states: Tensor) -> Tensor:
        one = torch.ones(1).double()
        found = states + one
        one += 1
        return found * (states + one)

    def side(row: Tensor) -> Tensor:
        return (row > 0).double()

    def flat_in_vmap(states: Tensor) -> Tensor:
        # the same at all states that lie close to each other
        found: Tensor = torch.func.vmap(side)(states.detach())
        return (found + 1) * states

    def failing(states: Tensor) -> Tensor:
        try:
            torch.linalg.cholesky(states[:, :1, None])
        except torch.linalg.LinAlgError:
            return states * 2
        return states * 3

    for of in (surrogate, by_numpy, by_another_view, counting, flat_in_vmap, failing):
        assert agree(of) > 2 * len(STATES), of.__name__


def test_the_code_runs_where_a_call_fails() -> None:
    def caught(states: Tensor) -> Tensor:
        try:
            root: Tensor = torch.linalg.cholesky(states[:, :1, None])
        except torch.linalg.LinAlgError:
            return states * 2
        return states + root[:, :, 0]

    counted = Counted(caught)
    taped = Taped(counted)
    for states in (STATES[0].abs() + 1, -STATES[0].abs() - 1, STATES[1].abs() + 1):
        assert torch.allclose(taped(states)[0], caught(states), atol=1e-12)
    assert counted.times == 3 + 2  # noted once; at the second a call fails, and no other is noted


def test_any_number_of_rows() -> None:
    counted = Counted(in_pieces)
    taped = Taped(counted)
    for count in (*range(40), 33, 3):
        states = torch.randn(count, 3).double()
        if not count:
            continue
        assert torch.allclose(taped(states)[0], in_pieces(states), atol=1e-12)
    assert counted.times == 3 * len(taped._tapes) == 3 * 10
