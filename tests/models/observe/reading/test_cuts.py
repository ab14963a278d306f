"""A share of the state that goes by no graph is in no derivative, and is said by its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import record
from grulens.dynamics import jacobian_at, lyapunov_along, observed_step
from grulens.errors import RecordingError
from grulens.memory import gradient_flow

UNITS = 3
Step = Callable[["Gated", Tensor, Tensor], Tensor]


class Gated(nn.Module):
    """A GRU without a reset gate, in a loop, its step as it is given."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.new = nn.Linear(2 + UNITS, UNITS), nn.Linear(2 + UNITS, UNITS)
        self.step = step

    def z(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(torch.cat([x, h], 1)))

    def n(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.new(torch.cat([x, h], 1)))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for x_t in x.unbind(1):
            h = self.step(self, x_t, h)
        return h


def mixed(z: Tensor, h: Tensor, n: Tensor) -> Tensor:
    return z * h + (1 - z) * n


def without_a_graph(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    z, n = m.z(x, h), m.n(x, h)
    with torch.no_grad():
        kept = z * h
    return kept + (1 - z) * n


def rounded(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    z = m.z(x, h)
    return mixed(z + (torch.round(8 * z) / 8 - z).detach(), h, m.n(x, h))


CUT: dict[str, tuple[str, Step]] = {
    "the state": ("detach", lambda m, x, h: mixed(m.z(x, h), h.detach(), m.n(x, h))),
    "a product": ("mul", without_a_graph),
    "what a gate reads": ("detach", lambda m, x, h: mixed(m.z(x, h.detach()), h, m.n(x, h))),
    "what a candidate reads": ("data", lambda m, x, h: mixed(m.z(x, h), h, m.n(x, h.data))),
    "a gate": ("detach", lambda m, x, h: mixed(m.z(x, h).detach(), h, m.n(x, h))),
    "a gate that is rounded": ("detach", rounded),
}
X = torch.ones(2, 4, 2)


@pytest.mark.parametrize("what", CUT)
def test_a_share_that_goes_by_no_graph_is_said_by_its_line(what: str) -> None:
    name, step = CUT[what]
    run = record(Gated(step), X, grad=True)
    assert run["cell"].cell.form.candidate is not None
    asks: list[Callable[[Any], Any]] = [
        lambda run: jacobian_at(run, 2), gradient_flow, lyapunov_along
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(RecordingError, match=rf"without their graph \({name}, line \d+ of "):
            ask(run)
    with pytest.raises(RecordingError, match=r"otherwise than autograd says \(by .*\.detach\(\)"):
        observed_step(Gated(step), X, t=2)


def cancelled(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    p = m.gate(torch.cat([x, h], 1))
    most = p.max(1, keepdim=True).values.detach()
    e = torch.exp(p - most)
    return mixed(e / e.sum(1, keepdim=True), h, m.n(x, h))


def beside(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    m.last = h.detach() * 2  # type: ignore[assignment]
    made = torch.zeros_like(h) + h.new_zeros(()) + (h > 0.9).float()
    with torch.no_grad():
        m.size = m.gate.weight.data.norm() + h.norm()  # type: ignore[assignment]
    return mixed(m.z(x, h), h, m.n(x, h) + 0.0 * made.detach())


def test_what_goes_beside_the_graph_and_into_no_state_is_no_matter() -> None:
    run = record(Gated(beside), X, grad=True)
    step = observed_step(Gated(beside), X, t=2)
    wanted = step.slope(run["cell"].h[:1, 1].detach().double())[0]
    assert torch.allclose(jacobian_at(run, 2, rows=0).total[0].double(), wanted, atol=1e-6)


def test_what_cancels_is_asked_of_the_step_itself() -> None:
    with pytest.raises(RecordingError, match=r"observed_step\(model, \.\.\.\)\.slope has it"):
        jacobian_at(record(Gated(cancelled), X, grad=True), 2)
    states = torch.rand(1, UNITS, dtype=torch.double) - 0.5
    step = observed_step(Gated(cancelled), X, t=2)
    plain = observed_step(
        Gated(lambda m, x, h: mixed(m.gate(torch.cat([x, h], 1)).softmax(1), h, m.n(x, h))), X, t=2
    )
    assert torch.allclose(step.slope(states), plain.slope(states), atol=1e-9)


def short(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    z = torch.sigmoid(m.gate(torch.cat([x, h], 1)).float()).to(x.dtype)
    return mixed(z, h, m.n(x, h))


def test_what_rounds_to_fewer_digits_on_the_way_is_no_cut() -> None:
    step = observed_step(Gated(short), X, t=2)
    states = torch.rand(1, UNITS, dtype=torch.double) - 0.5
    plain = observed_step(Gated(lambda m, x, h: mixed(m.z(x, h), h, m.n(x, h))), X, t=2)
    assert torch.allclose(step.slope(states), plain.slope(states), atol=1e-5)


def in_some(m: Gated, x: Tensor, h: Tensor) -> Tensor:
    return mixed(m.z(x, h), torch.where(h > 0, h.detach(), h), m.n(x, h))


def test_a_share_that_is_left_out_at_some_states_only_is_said() -> None:
    step = observed_step(Gated(lambda m, x, h: mixed(m.z(x, h), h, m.n(x, h))), X, t=2)
    states = torch.tensor([[-0.5, -0.4, -0.3], [-0.5, 0.4, -0.3]], dtype=torch.double)
    step.check(states)
    with pytest.raises(RecordingError, match="otherwise than autograd says"):
        observed_step(Gated(in_some), X, t=2).check(states)
