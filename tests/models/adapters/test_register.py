"""Classes that are not torch's: registered, compared with themselves, recorded and edited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import grulens
from grulens import Cell, ablate, clamp, editing, record
from grulens.adapters import SequenceAdapter, StepAdapter, register
from grulens.errors import AdapterError, UnsupportedLayerError


class Step(nn.Module):
    """A cell of every convention, with its weights in two linear maps."""

    def __init__(
        self, reset_after: bool = True, swapped: bool = False, order: str = "rzn",
        gate: Any = torch.sigmoid, candidate: Any = torch.tanh,
    ) -> None:  # fmt: skip
        super().__init__()
        self.x, self.h = nn.Linear(3, 12), nn.Linear(4, 12)
        self.reset_after, self.swapped, self.order = reset_after, swapped, order
        self.gate, self.candidate = gate, candidate

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        h = x.new_zeros(len(x), 4) if h is None else h
        a = dict(zip(self.order, self.x(x).chunk(3, 1), strict=True))
        b = dict(zip(self.order, self.h(h).chunk(3, 1), strict=True))
        r, z = self.gate(a["r"] + b["r"]), self.gate(a["z"] + b["z"])
        z = 1 - z if self.swapped else z
        if self.reset_after:
            inner = r * b["n"]
        else:
            at = self.order.index("n")
            weight, bias = self.h.weight.chunk(3)[at], self.h.bias.chunk(3)[at]
            inner = (r * h) @ weight.t() + bias
        return (1 - z) * self.candidate(a["n"] + inner) + z * h


class Loop(nn.Module):
    """A sequence over steps; it returns its states alone."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, states = None, []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            states.append(h)
        return self.head(torch.stack(states, 1))


class Layered(nn.Module):
    """Takes sequences, its own way: time first, and the output in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, num_layers=2, bidirectional=True)

    def forward(self, x: Tensor, *, start: Tensor | None = None) -> dict[str, Tensor]:
        output, last = self.gru(x, start)
        return {"states": output, "last": last}


UPPER = Cell(torch.zeros(12, 4), torch.zeros(12, 4), None, None)


def of_step(m: Step) -> Cell:
    return Cell(m.x.weight, m.h.weight, m.x.bias, m.h.bias)


@pytest.fixture
def taught() -> Iterator[Any]:
    kinds = []

    def teach(kind: type[nn.Module], adapter: StepAdapter | SequenceAdapter) -> None:
        kinds.append(kind)
        register(kind, adapter)

    yield teach
    for kind in kinds:
        register(kind, None)


def layered_cells(m: Layered) -> list[tuple[Cell, Cell]]:
    def cell(suffix: str) -> Cell:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Cell(*(getattr(m.gru, kind + suffix) for kind in kinds))

    return [(cell(f"_l{level}"), cell(f"_l{level}_reverse")) for level in range(2)]


def test_a_step_class_is_opened_exactly(taught: Any) -> None:
    taught(Step, StepAdapter(of_step))
    model, x = Loop(Step()), torch.randn(2, 6, 3)
    layer = record(model, x)["step"]
    assert grulens.layers(model)[0].kind == "Step"
    assert layer.h.shape == (2, 6, 4)
    assert layer.residual < 1e-6
    plain = nn.GRUCell(3, 4)
    with torch.no_grad():
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for name, value in zip(names, of_step(model.step).parameters, strict=True):
            getattr(plain, name).copy_(value)
    other = record(Loop(plain), x)["step"]
    for signal in ("h", "r", "z", "n"):
        assert torch.allclose(layer.signal(signal), other.signal(signal), atol=1e-6)


@pytest.mark.parametrize("reset_after", [True, False])
def test_an_edit_acts_in_it(taught: Any, reset_after: bool) -> None:
    def cell(m: Step) -> Cell:
        return Cell(m.x.weight, m.h.weight, m.x.bias, m.h.bias, reset_after=reset_after)

    taught(Step, StepAdapter(cell))
    model, x = Loop(Step(reset_after)), torch.randn(2, 6, 3)
    with torch.no_grad():
        expected = model(x)
    run = record(model, x, edits=[ablate("step", 1), clamp("step", "z", 2, value=0.5, at=3)])
    assert torch.equal(run["step"].h[..., 1], torch.zeros(2, 6))
    assert torch.all(run["step"].z[:, 3, 2] == 0.5)
    assert run.residual < 1e-6
    assert not torch.allclose(run.output, expected)
    # by hand: the loop with the edits in it
    h = torch.zeros(2, 4)
    with torch.no_grad():
        for t in range(3):
            h = model.step(x[:, t], h)
            h[:, 1] = 0
    assert torch.allclose(run["step"].h[:, 2], h, atol=1e-6)
    assert torch.equal(model(x).detach(), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reset_after": False}, "side of the product (reset_after=False)"),
        ({"swapped": True}, "z and 1 - z swapped (Cell.z_swapped)"),
        ({"order": "zrn"}, "rows in the order z, r, n"),
        (
            {"order": "nzr", "reset_after": False},
            "rows in the order n, z, r (reorder them to r, z, n) and the ",
        ),
        ({"gate": nn.functional.hardsigmoid}, "gate=Keras 3's hard sigmoid"),
        ({"candidate": torch.relu}, "candidate=torch.relu"),
    ],
)
@pytest.mark.parametrize("edited", [False, True])
def test_a_wrong_convention_is_an_error_that_says_the_right_one(
    taught: Any, options: dict[str, Any], said: str, edited: bool
) -> None:
    taught(Step, StepAdapter(of_step))
    torch.manual_seed(1)
    model = Loop(Step(**options))
    edits = [ablate("step", 1)] if edited else []
    with pytest.raises(AdapterError, match="does not say what the module computes") as raised:
        record(model, 3 * torch.randn(2, 6, 3), edits=edits)
    assert said in str(raised.value)
    assert "differ by" in str(raised.value)
    assert "forward" not in vars(model.step)


def test_nothing_known_fits(taught: Any) -> None:
    taught(Step, StepAdapter(of_step))
    model = Loop(Step(gate=torch.cos))
    with pytest.raises(
        AdapterError, match=r"No convention that grulens knows fits; the nearest differs by"
    ):
        record(model, torch.randn(2, 6, 3))


def test_an_input_that_tells_nothing_settles_nothing(taught: Any) -> None:
    """Without a state before it, a step says nothing about the place of the reset gate."""
    taught(Step, StepAdapter(of_step))
    step = Step(reset_after=False)
    with torch.no_grad():
        step.h.bias.zero_()
    record(step, torch.randn(2, 3))
    with pytest.raises(AdapterError, match="reset_after=False"):
        record(step, torch.randn(2, 3), torch.randn(2, 4))


def test_a_sequence_class_with_names_and_layout_of_its_own(taught: Any) -> None:
    taught(Layered, SequenceAdapter(
        layered_cells,
        arguments=lambda m, x, start=None: (x.transpose(0, 1), start),
        states=lambda m, out: out["states"].transpose(0, 1),
        result=lambda m, h, h_n: {"states": h.transpose(0, 1), "last": h_n},
    ))  # fmt: skip
    model, x, start = Layered(), torch.randn(7, 2, 3), torch.randn(4, 2, 4)
    with torch.no_grad():
        plain = model(x, start=start)
    run = record(nn.ModuleDict({"enc": model})["enc"], x, start=start)
    # the nn.GRU inside is a part of it, and not named again
    assert list(run) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert torch.equal(run.output["states"], plain["states"])
    reference = record(model.gru, x, start)
    edits = [ablate("l0_reverse", 2, at=slice(1, 3)), clamp("l1", "r", value=0.0)]
    edited, expected = (
        record(model, x, start=start, edits=edits),
        record(model.gru, x, start, edits=edits),
    )
    for name in run:
        assert torch.allclose(run[name].h, reference[name].h, atol=1e-6)
        assert torch.allclose(edited[name].h, expected[name].h, atol=1e-6)
    assert torch.allclose(edited.output["last"], expected.output[1], atol=1e-6)


def test_defaults_read_what_nn_gru_returns(taught: Any) -> None:
    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(3, 4)

        def forward(self, x: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return self.gru(x, h_0)

    def cell(m: Twin) -> Cell:
        return Cell(m.gru.weight_ih_l0, m.gru.weight_hh_l0, m.gru.bias_ih_l0, m.gru.bias_hh_l0)

    taught(Twin, SequenceAdapter(cell, batch_first=False))
    model, x = Twin(), torch.randn(5, 2, 3)
    with editing(model, ablate("l0", 0)):
        output, h_n = model(x)
    assert torch.all(output[..., 0] == 0)
    assert torch.all(h_n[..., 0] == 0)
    assert record(model, x)["l0"].h.shape == (2, 5, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
    layer = record(model, packed)["l0"]
    assert layer.mask.sum() == 8
    assert layer.residual < 1e-6
    taught(Twin, SequenceAdapter(cell))
    with pytest.raises(AdapterError):  # time is not the second axis
        record(Twin(), torch.randn(5, 2, 3))


def test_gradients_flow_through_computed_weights(taught: Any) -> None:
    """Three separate matrices, put together by the adapter."""

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.ParameterList([nn.Parameter(torch.randn(4, 3)) for _ in range(3)])
            self.u = nn.ParameterList([nn.Parameter(torch.randn(4, 4)) for _ in range(3)])

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            r = torch.sigmoid(x @ self.w[0].t() + h @ self.u[0].t())
            z = torch.sigmoid(x @ self.w[1].t() + h @ self.u[1].t())
            n = torch.tanh(x @ self.w[2].t() + (r * h) @ self.u[2].t())
            return z * h + (1 - z) * n

    taught(Three, StepAdapter(
        lambda m: Cell(torch.cat(list(m.w)), torch.cat(list(m.u)), None, None, reset_after=False)
    ))  # fmt: skip
    model, x, h = Three(), torch.randn(2, 3), torch.randn(2, 4)
    layer = record(model, x, h, grad=True)["cell"]
    layer.z.sum().backward()
    assert model.w[1].grad is not None
    assert layer.residual < 1e-6
    with editing(model, ablate("cell", 0)):
        model(x, h).sum().backward()
    assert model.u[2].grad is not None
    assert torch.all(model.u[2].grad[0] == 0)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (StepAdapter(lambda m: 3), "expected a cell .* or a sequence of them"),
        (StepAdapter(lambda m: m.nothing), "'cells' of the StepAdapter of Step failed with Attr"),
        (StepAdapter(lambda m: [of_step(m), UPPER]), "gives 2 cells"),
        (
            StepAdapter(of_step, arguments=lambda m, x, h: x),
            "must give the input and the first state",
        ),
        (StepAdapter(of_step, arguments=lambda m, x, h: (x[0], h)), r"gives x as \(3,\)"),
        (
            StepAdapter(of_step, arguments=lambda m, x, h: (x, h[:, :1])),
            r"gives h_prev as \(2, 1\)",
        ),
        (StepAdapter(of_step, arguments=lambda m, x, h: (x.double(), h)), "torch.float64"),
        (StepAdapter(of_step, state=lambda m, out: out[0]), "gives state as"),
        (
            StepAdapter(of_step, result=lambda m, h: (h, h)),
            "gives a tuple of 2; the module returned",
        ),
        (
            StepAdapter(of_step, result=lambda m, h: h[0]),
            r"gives a tensor \(4,\) where the module returned",
        ),
        (StepAdapter(of_step, result=lambda m, h: 2 * h), "gives values that differ"),
    ],
)
def test_a_mistake_in_an_adapter_is_named(taught: Any, adapter: StepAdapter, message: str) -> None:
    taught(Step, adapter)
    with pytest.raises(AdapterError, match=message):
        record(Step(), torch.randn(2, 3), torch.randn(2, 4))


def test_what_the_module_refuses_it_refuses_first(taught: Any) -> None:
    taught(Step, StepAdapter(of_step))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        record(Step(), torch.randn(2, 9), torch.randn(2, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Step(), StepAdapter(of_step)), "takes a class of torch.nn.Module.*pass its class"),
        ((int, StepAdapter(of_step)), "takes a class of torch.nn.Module"),
        ((Step, of_step), "must be a StepAdapter or a SequenceAdapter"),
    ],
)
def test_register_takes_a_class_and_an_adapter(arguments: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        register(*arguments)


def test_a_class_that_looks_like_a_gru_is_named_with_the_lines_that_register_it() -> None:
    model = nn.Sequential(Loop(Step()))
    with pytest.raises(UnsupportedLayerError) as raised:
        record(model, torch.randn(2, 6, 3), observe=False)
    text = str(raised.value)
    assert "'0.step' (Step) looks like a GRU of 4 units" in text
    lines = [line.strip() for line in text.splitlines()[1:5]]
    assert lines[1] == "from grulens.adapters import StepAdapter, register"
    try:
        exec("\n".join(lines), {"Step": Step})
        assert record(model, torch.randn(2, 6, 3)).residual < 1e-6
    finally:
        register(Step, None)


class Matrices(nn.Module):
    """Keras' way round: (input, 3 units)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(inputs, 12)), nn.Parameter(torch.randn(4, 12))
        self.b = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor, h_prev: Tensor) -> Tensor:
        return x @ self.W + h_prev @ self.U


class Six(nn.Module):
    """A linear map for each gate and source."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for gate in "rzn":
            setattr(self, f"x{gate}", nn.Linear(inputs, 4))
            setattr(self, f"h{gate}", nn.Linear(4, 4))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.xr(x) + self.hr(state)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (Matrices(3), "Cell(m.W.t(), m.U.t(), m.b, None)"),
        (Matrices(4), "Cell(m.W.t(), m.U.t(), m.b, None)"),
        (Six(3), "torch.cat([m.xr.weight, m.xz.weight, m.xn.weight])"),
        (Six(4), "torch.cat([m.hr.weight, m.hz.weight, m.hn.weight])"),
    ],
)
def test_weights_are_found_in_every_usual_form(module: nn.Module, code: str) -> None:
    try:
        text = repr(grulens.layers(module))  # it may be observed, and its weights are said beside
    except UnsupportedLayerError as error:
        text = str(error)
    assert code in text


@pytest.mark.parametrize(
    "module",
    [nn.MultiheadAttention(4, 2), nn.Linear(4, 12),
     nn.TransformerEncoderLayer(4, 2)],
)  # fmt: skip
def test_what_is_no_gru_does_not_look_like_one(module: nn.Module) -> None:
    with pytest.raises(grulens.errors.NoLayerError):
        grulens.layers(module)
