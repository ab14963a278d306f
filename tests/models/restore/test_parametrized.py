"""Weights that are not parameters: the cell that is read is the one that ran, and nothing moves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import grulens
from grulens import ablate, editing, record, scale
from tests import reference


class Noisy(nn.Module):
    """Another weight each time it is asked for."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (0.5 + torch.rand(()))


class Loop(nn.Module):
    """A cell called step by step, each time with weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, states = None, []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            states.append(h)
        return torch.stack(states, 1)


class Sequence(nn.Module):
    """The same of a whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def old(function: Callable[..., Any]) -> Callable[[nn.Module, str], Any]:
    def apply(module: nn.Module, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are deprecated, and many models have them
            function(module, name)

    return apply


HOW: dict[str, Callable[[nn.Module, str], Any]] = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "noise": lambda module, name: parametrize.register_parametrization(module, name, Noisy()),
    "old weight norm": old(nn.utils.weight_norm),
    "old spectral norm": old(nn.utils.spectral_norm),
    "pruned": lambda module, name: prune.l1_unstructured(module, name, 0.5),
}
KINDS = {"GRU": (Sequence, "gru", "gru.l0", "_l0"), "GRUCell": (Loop, "cell", "cell", "")}


def made(how: str, kind: str, training: bool = True) -> tuple[nn.Module, str]:
    """The same model each time (deepcopy refuses a parametrized GRU)."""
    make, path, layer, suffix = KINDS[kind]
    torch.manual_seed(0)
    model = make()
    for weight in ("weight_ih", "weight_hh"):
        HOW[how](model.get_submodule(path), weight + suffix)
    torch.manual_seed(7)
    return model.train(training), layer


def moved(model: nn.Module) -> list[Tensor]:
    """What a run may move on: the state of a norm, and the random numbers."""
    return [*(value.clone() for value in model.state_dict().values()), torch.get_rng_state()]


def same(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


EVERY = pytest.mark.parametrize("how", HOW)
BOTH = pytest.mark.parametrize("kind", KINDS)


@EVERY
@BOTH
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_recorded_run_is_the_plain_run(how: str, kind: str, training: bool, grad: bool) -> None:
    x = torch.randn(2, 5, 3)
    plain, _ = made(how, kind, training)
    with torch.set_grad_enabled(grad):  # the kernel rounds another way for computed weights
        outputs = [plain(x) for _ in range(3)]
    expected = moved(plain)
    model, layer = made(how, kind, training)
    runs = [record(model, x, grad=grad) for _ in range(3)]
    assert same([run.output for run in runs], outputs)
    assert same(moved(model), expected)
    for run in runs:
        assert run.residual < 1e-6
        assert torch.equal(run[layer].h, run.output)


@EVERY
@BOTH
def test_an_edited_run_moves_the_model_on_as_the_plain_run(how: str, kind: str) -> None:
    x = torch.randn(2, 5, 3)
    plain, _ = made(how, kind)
    expected = [plain(x), plain(x)]
    after = moved(plain)
    model, layer = made(how, kind)
    first = record(model, x, edits=scale(layer, "z", by=1.0)).output  # an edit of no effect
    with editing(model, scale(layer, "z", by=1.0)):
        second = model(x)
    torch.testing.assert_close(first, expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(second, expected[1], atol=1e-6, rtol=0)
    assert same(moved(model), after)


@EVERY
@BOTH
def test_the_recorded_cell_is_the_one_that_ran(how: str, kind: str) -> None:
    x = torch.randn(1, 1, 3)
    model, layer = made(how, kind)
    run = record(model, x, edits=())[layer]
    weights = [tensor.double().numpy() for tensor in run.cell.parameters]
    step = reference.step(reference.Weights(*weights), x[0, 0].double().numpy(), np.zeros(4))
    for signal in ("r", "z", "n", "h"):
        np.testing.assert_allclose(run.signal(signal)[0, 0], step[signal], atol=1e-6)
    assert not any(tensor.requires_grad for tensor in run.cell.parameters)


@EVERY
@BOTH
def test_asking_for_the_layers_moves_nothing(how: str, kind: str) -> None:
    model, layer = made(how, kind)
    model(torch.randn(2, 5, 3))
    before = moved(model)
    held = dict(vars(model.get_submodule(layer.split(".")[0])))
    assert [found.name for found in grulens.layers(model)] == [layer]
    assert same(moved(model), before)
    after = vars(model.get_submodule(layer.split(".")[0]))
    assert all(after[name] is value for name, value in held.items())


@BOTH
def test_each_call_of_a_noisy_loop_keeps_its_own_weights(kind: str) -> None:
    model, layer = made("noise", kind)
    x = torch.randn(2, 40, 3)
    if kind == "GRU":  # called once a step
        calls = lambda v: torch.cat([model(v[:, t : t + 1]) for t in range(40)], 1)  # noqa: E731
        outer = nn.Module()
        outer.add_module("inner", model)
        outer.forward = calls  # type: ignore[method-assign]
        run = record(outer, x)
        layer = f"inner.{layer}"
    else:
        run = record(model, x)
    assert len(run[layer].calls) == 40
    assert run[layer].residual < 1e-6


@EVERY
@BOTH
def test_gradients_reach_what_the_weights_are_made_of(how: str, kind: str) -> None:
    x = torch.randn(2, 5, 3)
    grads = []
    for recorded in (True, False):
        model, layer = made(how, kind)
        out = record(model, x, grad=True)[layer].h if recorded else model(x)
        out.pow(2).sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert grads[0]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_a_pruned_weight_is_recorded_as_zeros() -> None:
    model, layer = made("pruned", "GRU")
    cell = record(model, torch.randn(2, 5, 3))[layer].cell
    assert (cell.weight_hh == 0).float().mean() == 0.5


def test_tied_weights_and_weights_of_a_functional_call() -> None:
    gru = nn.GRU(4, 4, 2, batch_first=True)
    gru.weight_hh_l1, gru.weight_ih_l1 = gru.weight_hh_l0, gru.weight_ih_l0
    x = torch.randn(2, 5, 4)
    run = record(gru, x)
    assert torch.equal(run.output[0], gru(x)[0])
    assert torch.equal(run["l1"].cell.weight_hh, run["l0"].cell.weight_hh)
    assert run.residual < 1e-6

    halved = {name: value.detach() / 2 for name, value in gru.named_parameters()}
    with editing(gru, ablate("l1", 0)):
        edited = torch.func.functional_call(gru, halved, (x,))[0]
    twin = nn.GRU(4, 4, 2, batch_first=True)
    twin.load_state_dict({name: value / 2 for name, value in gru.state_dict().items()})
    torch.testing.assert_close(edited, record(twin, x, edits=ablate("l1", 0)).output[0])


def test_weights_that_moved_to_another_dtype_or_were_assigned() -> None:
    x = torch.randn(2, 5, 3)
    gru = nn.GRU(3, 4, batch_first=True, device="meta")
    gru.load_state_dict(nn.GRU(3, 4, batch_first=True).state_dict(), assign=True)
    assert torch.equal(record(gru, x).output[0], gru(x)[0])
    gru.double()
    run = record(gru, x.double())
    assert run["l0"].z.dtype == torch.float64
    assert run.residual < 1e-14
