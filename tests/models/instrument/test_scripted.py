"""A model with a scripted part that is no GRU: it is swept, edited and differentiated as any."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grulens import Session, ablate, editing, record, sweep
from grulens.models.restore.untouched import untouched


class Head(nn.Module):
    """A readout that counts its calls, keeps its last input, and has running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)
        self.count, self.calls, self.sizes = 0, [0], [torch.zeros(1)]
        self.last, self.total = torch.zeros(1), torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.calls.append(self.count)
        self.last = x
        self.total += 1
        self.sizes[0] += x.shape[0]
        return self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)


class Model(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, batch_first=True), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


X = torch.linspace(-1, 1, 2 * 6 * 3).reshape(2, 6, 3)
AS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda head: torch.jit.trace(head, torch.zeros(2, 6, 5), check_trace=False),
    "frozen": lambda head: torch.jit.freeze(torch.jit.script(head.eval())),
    "in a list": lambda head: nn.Sequential(nn.Identity(), torch.jit.script(head)),
}


def pair(kind: str) -> tuple[Model, Model]:
    """The same model with its head as Python, and scripted."""
    torch.manual_seed(0)
    plain = Model(Head())
    if kind == "frozen":
        plain.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated, and tracing sees a list
        other = Model(AS[kind](copy.deepcopy(plain.head)))
    other.rnn.load_state_dict(plain.rnn.state_dict())
    return plain, other.train(plain.training)


@pytest.mark.parametrize("kind", AS)
def test_it_is_swept_edited_and_differentiated_as_a_plain_model_is(kind: str) -> None:
    plain, scripted = pair(kind)
    for step in range(2):  # a script is compiled again once it has run
        effects = [sweep(m, X, layer="rnn.l0", progress=False).effect for m in (plain, scripted)]
        torch.testing.assert_close(effects[1], effects[0], msg=f"sweep {step}")
    edit = ablate("rnn.l0", [1, 2], to="mean", at=[-2, -1])
    outputs = []
    for model in (plain, scripted):
        with editing(model, edit):
            outputs.append(model(X))
    torch.testing.assert_close(outputs[1], outputs[0])
    assert not torch.allclose(outputs[0], plain(X))
    gradients = []
    for model in pair(kind):
        x = X.clone().requires_grad_()
        run = record(model, x, edits=[edit], grad=True)
        gradients.append(
            torch.autograd.grad(run.output.square().sum(), [x, *model.rnn.parameters()])
        )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one)
    assert float(gradients[0][0].abs().max()) > 1e-3


def state_of(head: nn.Module) -> list[object]:
    kept = [head.count, list(head.calls), head.last.clone(), head.total.clone()]
    return [*kept, head.sizes[0].clone(), *(buffer.clone() for buffer in head.buffers())]


@pytest.mark.parametrize("kind", ["scripted", "frozen"])
def test_what_a_script_keeps_is_afterwards_as_before(kind: str) -> None:
    _, model = pair(kind)
    model(X)
    head, before = model.head, state_of(model.head)
    with untouched(model):
        model(2 * X)
        assert head.count == before[0] + 1
        assert not torch.equal(head.last, before[2])
    after = state_of(head)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_a_session_opens_it() -> None:
    plain, model = pair("scripted")
    edit = ablate("rnn.l0", 1)
    effects = [Session(each.eval(), X).effect(edit) for each in (plain, model)]
    assert effects[0] == pytest.approx(effects[1], rel=1e-5) != 0


def test_a_tensor_that_a_module_keeps_and_changes_in_place_is_put_back() -> None:
    head = Head()
    head(torch.ones(2, 6, 5))
    kept = head.total
    with untouched(head):
        head(torch.ones(2, 6, 5))
        assert int(kept) == 2
    assert head.total is kept
    assert int(kept) == 1


def test_tensors_whose_values_cannot_be_looked_at_are_let_alone() -> None:
    head = Head()
    head.sparse, head.nowhere = torch.eye(2).to_sparse(), torch.empty(3, device="meta")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        head.nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    with untouched(head):
        head(torch.ones(2, 6, 5))
    assert head.count == 0
