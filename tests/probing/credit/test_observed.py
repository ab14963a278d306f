"""Credit where a cell was observed: of what the model itself is given, as captum has it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor, nn

from grulens import ablate, clamp
from grulens.credit import input_x_gradient, integrated_gradients
from grulens.errors import EditError, LayerError, RecordingError, SignalError
from tests import loops
from tests.intact import Intact
from tests.loops import INPUTS, UNITS, Loop
from tests.widgets.observed_cells import made

STEPS = 12


def inputs(steps: int = 7, rows: int = 3) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(1)).double()


def last(output: Tensor) -> Tensor:
    return output[:, -1, 0]


def test_it_is_that_of_the_same_gru() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    known = model.known()
    given: dict[str, Any] = {"readout": lambda output: output[0][:, -1, 0]}
    for ask in (integrated_gradients, input_x_gradient):
        more = (
            {"progress": False, "baseline": 0.5, "steps": 8} if ask is integrated_gradients else {}
        )
        found = ask(model, x, readout=last, **more)
        wanted = ask(known, x, **given, **more)
        assert torch.allclose(found.inputs, wanted.inputs, atol=1e-12)
        assert torch.allclose(found.bias, wanted.bias, atol=1e-12)
        assert (found.layer, wanted.layer, found.initial.shape) == ("x", "l0", (3, 0))
        own = ask(known, x, input_of="input", **given, **more)
        assert torch.allclose(own.inputs, wanted.inputs, atol=1e-12)
        assert own.layer == "input"


@pytest.mark.parametrize("name", ["norm", "decay", "two", "conv"])
def test_it_is_that_of_captum(name: str) -> None:
    model, x = made(name)
    model, x = model.double(), x.double()

    def score(value: Tensor) -> Tensor:
        out: Tensor = model(value).reshape(len(value), -1)[:, -1]
        return out

    found = integrated_gradients(
        model, x, readout=lambda out: out.reshape(2, -1)[:, -1], steps=STEPS, progress=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_path = IntegratedGradients(score).attribute(x, n_steps=STEPS, method="gausslegendre")
        by_slope = InputXGradient(score).attribute(x.clone().requires_grad_())
    assert torch.allclose(found.inputs, by_path.flatten(2), atol=1e-10)
    assert float(found.gap.abs().max()) < 1e-2
    slopes = input_x_gradient(model, x, readout=lambda out: out.reshape(2, -1)[:, -1])
    assert torch.allclose(slopes.inputs, by_slope.flatten(2), atol=1e-10)


class Wrapped(nn.Module):
    """Time first, with a number for each row beside, and a first state."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Loop()

    def forward(self, series: Tensor, offset: Tensor, *, start: Tensor) -> Tensor:
        x = series.transpose(0, 1) + offset[:, None]
        out: Tensor = self.inner(x, start)
        return out


def test_one_argument_is_credited_and_the_others_stay() -> None:
    torch.manual_seed(0)
    model, x = Wrapped().double(), inputs()
    offset, start = torch.randn(3, INPUTS).double(), torch.randn(3, UNITS).double()
    given = (x.transpose(0, 1), offset), {"start": start}

    def ask(name: str | None) -> Any:
        return integrated_gradients(
            model, inputs=given, input_of=name, readout=last, steps=8, progress=False
        )

    with pytest.raises(LayerError, match="input_of= one of 'series', 'offset', 'start'"):
        ask(None)
    shapes = {"series": (3, 7, INPUTS), "offset": (3, 1, INPUTS), "start": (3, 1, UNITS)}
    for name, shape in shapes.items():
        found = ask(name)
        assert tuple(found.inputs.shape) == shape
        assert float(found.gap.abs().max()) < 1e-5
    without = model(torch.zeros_like(given[0][0]), offset, start=start)
    assert torch.allclose(ask("series").bias, last(without), atol=1e-12)
    plain = integrated_gradients(
        model.inner, x + offset[:, None], start, input_of="h", readout=last, steps=8, progress=False
    )
    assert torch.allclose(ask("start").inputs, plain.inputs, atol=1e-12)


def test_a_row_without_a_batch_and_a_class() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Loop()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x[None])
            return out

    torch.manual_seed(0)
    model, x = Single().double(), inputs(rows=1)
    for step in (2, -1):
        found = integrated_gradients(model, x[0], target=1, step=step, steps=8, progress=False)
        wanted = integrated_gradients(model.inner, x, target=1, step=step, steps=8, progress=False)
        assert torch.equal(found.inputs, wanted.inputs)
        assert bool((found.tokens[0, 3:] == 0).all()) is (step == 2)


def test_edits_are_in_force_and_means_are_those_of_the_run_asked_about() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    edits = [clamp("cell", "z", 0, value=0.25), ablate("cell", units=1, to="mean")]
    found = integrated_gradients(model, x, readout=last, edits=edits, steps=8, progress=False)
    known = [clamp("l0", "z", 0, value=0.25), ablate("l0", units=1, to="mean")]
    wanted = integrated_gradients(
        model.known(),
        x,
        readout=lambda output: output[0][:, -1, 0],
        edits=known,
        steps=8,
        progress=False,
    )  # fmt: skip
    assert torch.allclose(found.inputs, wanted.inputs, atol=1e-12)
    assert torch.allclose(found.bias, wanted.bias, atol=1e-12)
    plain = integrated_gradients(model, x, readout=last, steps=8, progress=False)
    assert not torch.allclose(found.inputs, plain.inputs, atol=1e-3)


class Detached(loops.Lines):
    """Its state is handed on as numbers alone."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, h.detach())


class FirstAxis(nn.Module):
    """Time first; with as many rows as steps nobody sees that from the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Loop()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.transpose(0, 1))
        return out


class Words(nn.Module):
    """It reads tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(5, INPUTS), Loop()

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.inner(self.embed(tokens))
        return out


def test_what_cannot_be_right_is_refused() -> None:
    torch.manual_seed(0)
    x = inputs(steps=3, rows=3).float()
    for ask in (integrated_gradients, input_x_gradient):
        with pytest.raises(RecordingError, match=r"moves with the model's input 'x'.*its graph"):
            ask(Detached(), x, readout=last)
        with pytest.raises(RecordingError, match="depends on other rows of 'x'"):
            ask(FirstAxis(), x, readout=last)
        with pytest.raises(SignalError, match="credit what the model itself is given"):
            ask(Loop(), x, readout=last, input_of="cell")
        with pytest.raises(LayerError, match="'nothing'"):
            ask(Loop(), x, readout=last, input_of="nothing")
    with pytest.raises(RecordingError, match="no floating tensor"):
        integrated_gradients(Words(), torch.zeros(2, 4).long(), readout=last)
    words = Words()
    vectors = words.embed(torch.tensor([[1, 2, 3]])).detach()
    assert integrated_gradients(words.inner, vectors, readout=last).inputs.shape == (1, 3, INPUTS)
    with pytest.raises(EditError, match=r"broadcasts to the model's input .* = \(3, 3, 5\)"):
        integrated_gradients(Loop(), x, readout=last, baseline=torch.zeros(2))


def test_nothing_of_the_model_is_different_afterwards() -> None:
    torch.manual_seed(0)
    model, x = Loop().double(), inputs()
    intact, before = Intact(model), x.clone()
    integrated_gradients(model, x, readout=last, steps=3, progress=False)
    assert intact.broken() == []
    assert torch.equal(x, before)
