"""nn.LSTM and nn.RNN, recorded, edited and swept, against loops that are written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import grulens
from grulens.adapters import Signal, StepAdapter, kinds, register
from grulens.cells.cell import RecurrentCell
from grulens.cells.kinds.lstm import LSTM
from grulens.cells.signal import NAMED
from grulens.errors import AdapterError, CellError, LayerError, RecordingError, SignalError
from tests.drawn import Case, cases, flat, same_bits
from tests.kinds import EVERY

KINDS = (nn.LSTM, nn.RNN, partial(nn.RNN, nonlinearity="relu"))
Signals = dict[str, np.ndarray]
Change = Callable[[str, np.ndarray, bool], np.ndarray]


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def lstm_step(w: Mapping[str, Any], x: Any, h: Any, c: Any, change: Change) -> Signals:
    pre = w["ih"] @ x + w["hh"] @ h + w["b"]
    made = dict(zip("ifgo", np.split(pre, 4), strict=True))
    for name, value in made.items():
        activate = np.tanh if name == "g" else sigmoid
        made[name] = change(name, activate(change(name, value, True)), False)
    made["c"] = change("c", made["f"] * c + made["i"] * made["g"], False)
    made["h"] = change("h", made["o"] * np.tanh(made["c"]), False)
    return made


def rnn_step(w: Mapping[str, Any], x: Any, h: Any, c: Any, change: Change) -> Signals:
    a = change("a", w["ih"] @ x + w["hh"] @ h + w["b"], False)
    relu = w["nonlinearity"] == "relu"
    return {"a": a, "h": change("h", np.maximum(a, 0) if relu else np.tanh(a), False)}


def by_hand(
    case: Case, edit: tuple[str, Callable[..., Change]] | None = None
) -> dict[str, Signals]:
    """Every signal of every layer in float64, (batch, time, unit); `edit` is made for a place."""
    module, found = case.module, dict[str, Signals]()
    step = lstm_step if isinstance(module, nn.LSTM) else rnn_step
    below, units = case.rows.double().numpy(), module.hidden_size
    batch, steps, _ = below.shape
    ways = ("", "_reverse") if module.bidirectional else ("",)
    for level in range(module.num_layers):
        for way, suffix in enumerate(ways):
            name = f"l{level}{suffix}"
            w: dict[str, Any] = {
                part: getattr(module, f"weight_{part}_{name}").detach().double().numpy()
                for part in ("ih", "hh")
            }
            biases = [getattr(module, f"bias_{part}_{name}", None) for part in ("ih", "hh")]
            w["b"] = sum(0 if b is None else b.detach().double().numpy() for b in biases)
            w["nonlinearity"] = getattr(module, "nonlinearity", None)
            signals: Signals = {}
            for row in range(batch):
                order = list(range(case.lengths[row]))
                key = level * len(ways) + way
                h, c = (
                    np.zeros(units) if v is None else v[key, row].double().numpy()
                    for v in (case.h_0, case.c_0)
                )
                for t in reversed(order) if way else order:
                    change: Change = lambda name, value, before: value  # noqa: E731
                    if edit is not None and edit[0] == name:
                        change = edit[1](row, t)
                    made = step(w, below[row, t], h, c, change)
                    h, c = made["h"], made.get("c", c)
                    for signal, value in made.items():
                        signals.setdefault(signal, np.zeros((batch, steps, units)))[row, t] = value
            found[name] = signals
        below = np.concatenate([found[f"l{level}{suffix}"]["h"] for suffix in ways], 2)
    return found


def close(layer: grulens.LayerRecording, signals: Signals, tolerance: float) -> None:
    for name, value in signals.items():
        np.testing.assert_allclose(
            layer.signal(name).detach().double().numpy(), value, atol=tolerance, err_msg=name
        )


@settings(max_examples=60)
@given(case=cases(dropout=True, kinds=KINDS), training=st.booleans())
def test_no_bit_of_the_output_changes(case: Case, training: bool) -> None:
    module = case.module.train(training)
    torch.manual_seed(1)
    with torch.no_grad():  # an LSTM runs by another kernel where nothing has a gradient
        plain = module(*case.args)
    torch.manual_seed(1)
    recording = grulens.record(module, *case.args)
    assert same_bits(recording.output, plain)
    assert list(recording) == case.names
    assert recording.residual <= case.tolerance * 10


@settings(max_examples=60)
@given(case=cases(dtypes=(torch.float32, torch.float64), kinds=KINDS))
def test_every_signal_equals_the_loop(case: Case) -> None:
    expected = by_hand(case)
    recording = grulens.record(case.module, *case.args)
    # relu has no bound: what is large rounds by its size
    size = max(1.0, *(abs(v).max() for signals in expected.values() for v in signals.values()))
    for name, signals in expected.items():
        close(recording[name], signals, 20 * case.tolerance * size)


EDITS: dict[str, Callable[[str, str], tuple[Any, Callable[[np.ndarray, bool, bool], Any]]]] = {
    "set": lambda layer, s: (
        grulens.clamp(layer, s, 0, value=0.3, at=1),
        lambda v, before, activated: v if before else 0.3,
    ),
    "scaled": lambda layer, s: (
        grulens.scale(layer, s, 0, by=0.5, at=1),
        lambda v, before, activated: v if before else 0.5 * v,
    ),
    "shifted": lambda layer, s: (
        grulens.shift(layer, s, 0, by=0.7, at=1),
        lambda v, before, activated: v + 0.7 if before == activated else v,
    ),
}


@settings(max_examples=80)
@given(
    case=cases(dtypes=[torch.float64], kinds=KINDS),
    kind=st.sampled_from(list(EDITS)),
    data=st.data(),
)
def test_an_edit_is_felt_by_all_that_follows(case: Case, kind: str, data: st.DataObject) -> None:
    layer = data.draw(st.sampled_from(case.names))
    cell = grulens.record(case.module, *case.args)[layer].cell
    signal = data.draw(st.sampled_from(cell.signals))
    if case.rows.shape[1] < 2:
        return
    edit, does = EDITS[kind](layer, signal.name)

    def at(row: int, t: int) -> Change:
        def change(name: str, value: np.ndarray, before: bool) -> np.ndarray:
            if name != signal.name or t != 1:
                return value
            value = value.copy()
            value[0] = does(value[0], before, signal.activated)
            return value

        return change

    expected = by_hand(case, (layer, at))
    run = grulens.record(case.module, *case.args, edits=edit)
    for name, signals in expected.items():
        size = max(1.0, *(abs(v).max() for v in signals.values()))
        close(run[name], signals, 1e-10 * size)
    last = flat(run.output)[-1] if isinstance(case.module, nn.LSTM) else None
    if last is not None and case.h_0 is not None and last.dim() == 3:
        way = case.names[-1]
        ends = [0 if way.endswith("reverse") else n - 1 for n in case.lengths]
        rows = [expected[way]["c"][row, end] for row, end in enumerate(ends)]
        np.testing.assert_allclose(last[-1].detach().numpy(), rows, atol=1e-10)


@settings(max_examples=25)
@given(
    case=cases(dtypes=[torch.float64], kinds=KINDS, forms=("batch first", "time first", "packed")),
    data=st.data(),
)
def test_a_sweep_is_one_edited_run_for_each_unit(case: Case, data: st.DataObject) -> None:
    layer = data.draw(st.sampled_from(case.names))
    cell = grulens.record(case.module, *case.args)[layer].cell
    signal = data.draw(st.sampled_from(cell.signals)).name

    def make(layer: str, unit: int) -> grulens.Edit:
        return grulens.clamp(layer, signal, unit, value=0.2, at=0)

    def readout(output: Any) -> Tensor:
        return torch.cat([tensor.flatten() for tensor in flat(output)])

    found = grulens.sweep(
        case.module, *case.args, readout=readout, layer=layer, make_edit=make, progress=False
    )
    plain = readout(case.module(*case.args))
    for unit in range(case.module.hidden_size):
        run = grulens.record(case.module, *case.args, edits=make(layer, unit))
        assert torch.allclose(found.effect[unit], readout(run.output) - plain, atol=1e-10)


class Mixed(nn.Module):
    """Three kinds, one of them stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = nn.GRU(2, 3, batch_first=True), nn.LSTM(3, 4, batch_first=True)
        self.rnn, self.cell = nn.RNNCell(4, 3), nn.LSTMCell(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lstm(self.gru(x)[0])[0]
        one, two, found = None, None, []
        for t in range(x.shape[1]):
            one = self.rnn(h[:, t], one)
            two = self.cell(one, two)
            found.append(two[0])
        return torch.stack(found, 1)


def test_models_that_mix_kinds_and_loop_over_cells() -> None:
    torch.manual_seed(0)
    model, x = Mixed().double(), torch.randn(2, 6, 2).double()
    assert [(one.name, one.kind) for one in grulens.layers(model)] == [
        ("gru.l0", "GRU"), ("lstm.l0", "LSTM"), ("rnn", "RNNCell"), ("cell", "LSTMCell"),
    ]  # fmt: skip
    run = grulens.record(model, x)
    assert torch.equal(run.output, model(x))
    assert run.residual < 1e-14
    assert run["cell"].c.shape == (2, 6, 5)
    assert torch.allclose(run["cell"].h, run.output)
    # a cell's c at one step, set: the steps before it stay, those after it move
    edited = grulens.record(model, x, edits=grulens.clamp("cell", "c", 0, value=1.0, at=3))
    assert torch.equal(edited.output[:, :3], run.output[:, :3])
    assert torch.allclose(edited["cell"].c[:, 3, 0], torch.ones(2).double())
    after = edited["cell"]
    c = after.f[:, 4] * after.c[:, 3] + after.i[:, 4] * after.g[:, 4]
    assert torch.allclose(c, after.c[:, 4])
    assert not torch.allclose(edited.output[:, 4:], run.output[:, 4:])


class Cells(nn.Module):
    """An LSTM's cell in a loop, that forgets a share of its c by itself."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.cell, self.share = nn.LSTMCell(3, 16), share

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 16)
        for x_t in x.unbind(1):
            h, c = self.cell(x_t, (h, c * self.share))
        return h


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cell_with_c_hands_its_state_on_whoever_computes_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 12, 3).to(dtype)
    assert grulens.record(Cells(1.0).to(dtype), x)["cell"].note == ""
    other = grulens.record(Cells(1 - 1e-4).to(dtype), x)["cell"].note
    assert "another one, which the model made in between" in other


def test_what_a_kind_has_not_got_is_refused_by_name() -> None:
    x = torch.randn(1, 4, 2)
    run = grulens.record(nn.LSTM(2, 3, batch_first=True), x)
    with pytest.raises(AttributeError, match="layer 'l0' is an LSTM and has no 'z'; its signals"):
        _ = run["l0"].z
    with pytest.raises(SignalError, match="is none of x, h_prev, i, f, g, o, c, h"):
        run["l0"].signal("r")
    with pytest.raises(SignalError, match="layer 'l0' is an RNN and has no signal 'z' that could"):
        grulens.record(nn.RNN(2, 3), x, edits=grulens.clamp("l0", "z", value=1.0))
    from grulens import memory

    with pytest.raises(
        CellError, match="h = a h_prev \\+ b; layer 'l0' is an RNN, which keeps none"
    ):
        memory.timescales(grulens.record(nn.RNN(2, 3), x))
    with pytest.raises(CellError, match="layer 'l0' is an LSTM, whose step is no such mix"):
        memory.attention(run)
    with pytest.raises(RecordingError, match="an LSTM, whose state is h and c"):
        grulens.record(nn.LSTM(2, 3), x, grad=True)
    both = nn.ModuleDict({"a": nn.LSTM(2, 3, proj_size=1), "b": nn.GRU(2, 3)})
    with pytest.raises(LayerError, match="an LSTM with projections"):
        grulens.record(both, x, layers=["a.l0"])
    with (
        torch.autocast("cpu"),
        pytest.raises(RecordingError, match=r"an LSTM under torch\.autocast"),
    ):
        grulens.record(nn.LSTM(2, 3), x)


def test_an_rnn_keeps_its_graph() -> None:
    torch.manual_seed(0)
    model, x = nn.RNN(2, 3, batch_first=True).double(), torch.randn(1, 4, 2).double()
    run = grulens.record(model, x, grad=True)
    by_a, by_h = torch.autograd.grad(run.output[0][:, -1].sum(), [run["l0"].a, run["l0"].h])
    slope = 1 - run["l0"].h.detach() ** 2
    assert torch.allclose(by_a, by_h * slope)
    nudged = [
        grulens.record(model, x, edits=grulens.shift("l0", "a", 1, by=d, at=1)).output[0][:, -1]
        for d in (1e-6, -1e-6)
    ]
    assert float((nudged[0] - nudged[1]).sum() / 2e-6) == pytest.approx(float(by_a[0, 1, 1]), 1e-6)


def test_another_kind_with_a_signal_of_that_name_changes_no_edit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model, x = nn.LSTM(2, 3, batch_first=True), torch.randn(1, 4, 2)
    edit = grulens.shift("l0", "c", 0, by=1.0, at=1)
    before = grulens.record(model, x, edits=edit)["l0"].c
    # a candidate that is called c comes out of an activation; the c of an LSTM does not
    monkeypatch.setitem(NAMED, "c", (Signal("c", "candidate", -1.0, 1.0, "candidate"),))
    assert torch.equal(grulens.record(model, x, edits=edit)["l0"].c, before)
    plain = grulens.record(model, x)["l0"].c
    assert torch.allclose(before[0, 1, 0] - plain[0, 1, 0], torch.ones(()))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.LSTMCell])
def test_a_model_may_write_over_the_state_of_an_edited_run(kind: Any) -> None:
    torch.manual_seed(0)
    module, x = kind(2, 3), torch.randn(1, 2)  # of one row, h and c lie in one piece
    with grulens.editing(module, grulens.clamp(grulens.layers(module)[0].name, "f", value=0.5)):
        found = module(x)
        h, c = found if kind is nn.LSTMCell else found[1]
        kept = c.clone()
        h.mul_(2.0)
    assert torch.equal(c, kept)
    c.sum().backward()
    assert (
        module.get_parameter("weight_hh" if kind is nn.LSTMCell else "weight_hh_l0").grad
        is not None
    )


class ByHand(nn.Module):
    """An LSTM's step, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(2, 12), nn.Linear(3, 12)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.x(x) + self.h(state[0])).chunk(4, 1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


def test_a_registered_module_keeps_one_state() -> None:
    def cell(m: ByHand) -> LSTM:
        return LSTM(m.x.weight, m.h.weight, m.x.bias, m.h.bias)

    h = torch.zeros(1, 3)
    register(
        ByHand, StepAdapter(cell, arguments=lambda m, x, hc: (x, hc[0]), state=lambda m, r: r[0])
    )
    try:
        with pytest.raises(AdapterError, match=r"'cells' of .* ByHand: LSTM\(.*\) keeps h and c"):
            grulens.record(ByHand(), torch.zeros(1, 2), (h, h))
    finally:
        register(ByHand, None)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_a_cell_takes_a_batch_of_no_rows(kind: Any) -> None:
    run = grulens.record(kind(2, 3), torch.zeros(0, 2))
    assert run["cell"].shape == (0, 1, 3)


def test_every_signal_of_every_kind_is_known_by_name() -> None:
    for kind in EVERY:
        assert all(signal in NAMED[signal.name] for signal in kind.signals)


class Both(nn.Module):
    """An LSTM and a UGRNN, which both have a c: before an activation only in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.cell = nn.LSTM(2, 3, batch_first=True), Collins()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(len(x), 3)
        for now in x.unbind(1):
            h = self.cell(now, h)
        return self.rnn(x)[0], h


class Collins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(2, 6), nn.Linear(3, 6, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        g, c = (self.x(x) + self.h(h)).chunk(2, 1)
        g = torch.sigmoid(g)
        return g * h + (1 - g) * torch.tanh(c)


def test_of_two_kinds_that_share_a_name_each_is_shifted_in_its_own_place() -> None:
    made = kinds.UGRNN
    register(Collins, StepAdapter(lambda m: made(m.x.weight, m.h.weight, m.x.bias, None)))
    try:
        model, x = Both(), torch.randn(2, 4, 2)
        run = grulens.record(model, x)
        moved = [grulens.shift(name, "c", 1, by=0.5, at=0) for name in ("rnn.l0", "cell")]
        after = grulens.record(model, x, edits=moved)
        lstm = after["rnn.l0"].c[:, 0, 1] - run["rnn.l0"].c[:, 0, 1]
        assert torch.allclose(lstm, torch.full((2,), 0.5))
        own = after["cell"].c[:, 0, 1].atanh() - run["cell"].c[:, 0, 1].atanh()
        assert torch.allclose(own, torch.full((2,), 0.5), atol=1e-5)
    finally:
        register(Collins, None)


def test_of_two_kinds_that_share_a_name_each_has_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NAMED, "c", (LSTM.signals[4],))  # both are put back
    monkeypatch.setitem(NAMED, "q", ())
    shift, new = (grulens.shift("l0", name, 3, by=1.0) for name in ("c", "q"))
    assert shift.words() == "cell state of unit 3 plus 1"

    class Other(RecurrentCell):
        kind = "other"
        blocks = ("c",)
        signals = (
            Signal("c", "new content", -1.0, 1.0, "candidate"),
            Signal("q", "gate of my own", 0.0, 1.0, "read"),
            Signal("h", "state", -1.0, 1.0, "state", activated=False),
        )

        def compute(self, products: Tensor, state: Tensor, edit: Any = None) -> dict[str, Tensor]:
            raise NotImplementedError

        def output(self, signals: Any, state: Tensor) -> Tensor:
            raise NotImplementedError

    of = (torch.zeros(4, 1), torch.zeros(4, 4), None, None)
    other, lstm = Other(*of), LSTM(torch.zeros(16, 1), torch.zeros(16, 4), None, None)
    assert shift.words(lstm.signal("c")) == "cell state of unit 3 plus 1"
    assert shift.words(other.signal("c")) == "new content of unit 3 plus 1 (before the activation)"
    assert shift.words() == "signal c of unit 3 plus 1", "in no run yet it may be either"
    assert new.words() == "gate of my own of unit 3 plus 1 (before the activation)"
