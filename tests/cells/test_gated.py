"""What a step keeps of its state is read off what the cell does, whatever its gates are called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from grulens import record
from grulens.adapters import RecurrentCell, Signal, StepAdapter, activated, register
from grulens.cells.gated import gated, is_gated
from grulens.cells.kinds.ugrnn import UGRNN
from grulens.cells.signal import NAMED
from grulens.dynamics import find_fixed_points
from grulens.errors import CellError
from grulens.memory import attention, timescales
from tests.kinds import EVERY, Loop, Step, made

KEEP = Signal("a", "gate", 0.0, 1.0, "keep")
ALSO = Signal("b", "other gate", 0.0, 1.0, "keep")
STATE = Signal("h", "state", -math.inf, math.inf, "state", activated=False)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "q"):  # what the classes below add is taken away again
        monkeypatch.setitem(NAMED, name, NAMED.get(name, ()))


def two_gates(output: Any, wide: float = 1.0) -> type[RecurrentCell]:
    """A kind with two gates, `wide` times a sigmoid, and an output of its own."""

    @dataclass(frozen=True, eq=False, repr=False)
    class Two(RecurrentCell):
        kind: ClassVar[str] = "two"
        blocks: ClassVar[tuple[str, ...]] = ("a", "b")
        signals: ClassVar[tuple[Signal, ...]] = (KEEP, ALSO, STATE)

        def compute(self, products: Tensor, state: Tensor, edit: Any = None) -> dict[str, Tensor]:
            pre = (products + linear(state, self.weight_hh, self.bias_hh)).chunk(2, -1)
            _, a = activated("a", pre[0], lambda v: wide * torch.sigmoid(v), edit)
            _, b = activated("b", pre[1], torch.sigmoid, edit)
            return {"a": a, "b": b}

        def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
            found: Tensor = output(signals["a"], signals["b"], state)
            return found

    return Two


@pytest.fixture
def opened() -> Any:
    register(Step, StepAdapter(lambda module: module.of))
    yield
    register(Step, None)


SHARES: dict[str, tuple[Any, Any, float]] = {
    "a product": (lambda a, b, h: a * b * h + 1 - a, lambda a, b: a * b, 1.0),
    "swapped": (lambda a, b, h: (1 - a) * h + a * b, lambda a, b: 1 - a, 1.0),
    "scaled": (lambda a, b, h: 0.1 * a * h + b, lambda a, b: 0.1 * a, 3.0),
}


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("name", SHARES)
def test_half_lives_are_those_of_what_a_step_keeps(name: str) -> None:
    output, share, wide = SHARES[name]
    cell = two_gates(output, wide)(torch.randn(8, 3), torch.randn(8, 4), None, None)
    run = record(Loop(cell), torch.randn(2, 6, 3))
    layer = run["cell"]
    kept = share(layer.a.double(), layer.b.double()).mean((0, 1))
    found = timescales(run).half_life.double()
    torch.testing.assert_close(found, -math.log(2) / kept.log(), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("opened")
def test_a_mix_has_attention_and_two_free_gates_have_none() -> None:
    swapped = two_gates(SHARES["swapped"][0])
    cell = swapped(torch.randn(8, 3), torch.randn(8, 4), None, None)
    run = record(Loop(cell), torch.randn(2, 6, 3))
    # no signal of it is a candidate by role, so nothing is taken for one
    with pytest.raises(CellError, match="layer 'cell' is a two, whose step is no such mix"):
        attention(run)


def test_what_bends_or_mixes_units_keeps_no_share() -> None:
    for output in (
        lambda a, b, h: torch.tanh(a * h + b),
        lambda a, b, h: a * h.flip(-1) + b,
        lambda a, b, h: a * b,
    ):
        kind = two_gates(output)
        assert not is_gated(kind(torch.randn(8, 3), torch.randn(8, 4), None, None))


def test_a_kind_is_asked_once_in_each_convention_and_size() -> None:
    asked = 0

    def output(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return a * h + b

    kind = two_gates(output)
    for number in range(5):
        torch.manual_seed(number)
        assert is_gated(kind(torch.randn(8, 3), torch.randn(8, 4), None, None))
    once = asked
    assert is_gated(kind(torch.randn(6, 3), torch.randn(6, 3), None, None))
    assert asked == 2 * once
    other = two_gates(lambda a, b, h: torch.tanh(output(a, b, h)))
    assert not is_gated(other(torch.randn(8, 3), torch.randn(8, 4), None, None))


def test_what_is_a_share_by_chance_of_the_weights_is_none() -> None:
    @dataclass(frozen=True, eq=False, repr=False)
    class Wide(two_gates(lambda a, b, h: a * h + b)):  # type: ignore[misc]
        def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
            return signals["a"] * state + state @ self.weight_hh[:3]

    assert not is_gated(Wide(torch.zeros(6, 2), torch.eye(3).repeat(2, 1), None, None))


@dataclass(frozen=True, eq=False, repr=False)
class Held(UGRNN):
    """Keeps more of its state where a number that it holds is larger; other numbers do nothing."""

    held: Any = 0.5

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        found = super().output(signals, state)
        return found if float(self.held[0]) < 1 else torch.tanh(found)


def test_what_a_cell_holds_that_is_no_key_is_asked_each_time() -> None:
    for held, wanted in (
        (torch.zeros(1), True),
        (torch.ones(1), False),
        ([0.0], True),
        ([1], False),
    ):
        made_ = Held(torch.randn(8, 3), torch.randn(8, 4), None, None, held=held)
        assert is_gated(made_) is wanted


def test_a_search_lays_its_weights_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    over, times = RecurrentCell.over, 0

    def counted(self: Any, change: Any) -> Any:
        nonlocal times
        times += 1
        return over(self, change)

    kind = two_gates(lambda a, b, h: a * h + b * (1 - b))
    cell = kind(torch.randn(6, 2), torch.randn(6, 3), None, None)
    monkeypatch.setattr(RecurrentCell, "over", counted)
    find_fixed_points(cell, starts=torch.rand(4, 3), progress=False)
    assert times == 1


@pytest.mark.parametrize("kind", [k for k in EVERY if len(k.states) == 1], ids=lambda k: k.kind)
def test_the_form_of_each_kind_is_its_step(kind: type[RecurrentCell]) -> None:
    cell, x = made(kind, 0, 4), torch.randn(5, 2).double()
    state = torch.randn(5, 4).double()
    signals = cell.compute(cell.project(x), state)
    form = gated(cell, signals, state)
    if kind.kind == "RNN":
        assert form is None
        return
    assert form is not None
    assert form.candidate is not None
    after = cell.step(cell.project(x), state)
    torch.testing.assert_close(form.keep * state + form.write, after)
    mix = form.keep * state + (1 - form.keep) * signals[form.candidate]
    torch.testing.assert_close(mix, after)


def test_a_state_that_only_stands_in_float64_is_no_fixed_point() -> None:
    # h = a h_prev + b b: far out a rounds to 1 and b to 0, and nothing moves any more
    kind = two_gates(lambda a, b, h: a * h + b * (1 - b))
    hidden = torch.cat([torch.eye(3) * 9, -torch.eye(3) * 9])
    cell = kind(torch.zeros(6, 2), hidden, None, None)
    starts = torch.tensor([[90.0, 80.0, 95.0], [0.1, 0.2, 0.3]])
    found = find_fixed_points(cell, starts=starts, progress=False)
    far = starts[:1].double()
    wide = cell.over(torch.Tensor.double)
    assert torch.equal(wide.step(wide.project(far.new_zeros(1, 2)), far), far)
    assert not bool(found.converged[0])
    # where a is 1 whatever the state is, nothing is slowed down: a line of them is there
    line = two_gates(lambda a, b, h: h + a * (b - 0.5))
    still = line(torch.zeros(6, 2), torch.zeros(6, 3), None, None)
    assert bool(find_fixed_points(still, starts=starts, progress=False).converged.all())
