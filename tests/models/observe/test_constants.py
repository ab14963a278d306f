"""What a cell's code reads besides tensors may change between two runs: each is read as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import ablate, editing, record, recording, sweep
from grulens.errors import NothingRanWarning, RecordingError, UnsupportedLayerError

pytestmark = pytest.mark.unchecked

UNITS, INPUTS, STEPS = 4, 3, 6
SHARED = {"leak": 0.9}
Keeps = Callable[["Cell", Tensor], Tensor | float]
Change = Callable[[nn.Module], None]


class Cell(nn.Module):
    """A loop of steps, with constants and a flag that stand beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.gate = nn.Linear(INPUTS + UNITS, UNITS)
        self.new = nn.Linear(INPUTS + UNITS, UNITS)
        self.leak, self.dt, self.flag, self.calls = 0.9, 0.1, False, 0

    def n(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.new(torch.cat([x, h], 1)))

    def z(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(torch.cat([x, h], 1)))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        self.calls += 1
        h = x.new_zeros(len(x), UNITS) if h is None else h
        for now in x.unbind(1):
            h = self.step(now, h)
        return h


class Leaky(Cell):
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self.leak * h + self.n(x, h)


class Euler(Cell):
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.dt * (self.n(x, h) - h)


class Shared(Cell):
    """Its constant stands in no attribute of its own."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.add(self.n(x, h), h, alpha=SHARED["leak"])


class Before(Cell):
    """A flag lets the state decay before the mix."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        n, z = self.n(x, h), self.z(x, h)
        if self.flag:
            h = 0.5 * h
        return z * h + (1 - z) * n


class Behind(Cell):
    """A flag adds a share of the state behind the mix."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.z(x, h)
        new = z * h + (1 - z) * self.n(x, h)
        if self.flag:
            new = new + 0.25 * h
        return new


class Either(Cell):
    """A flag says which value is mixed."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        n, z = self.n(x, h), self.z(x, h)
        share = z if not self.flag else 0.5 * z
        return share * h + (1 - z) * n


def shared(value: float) -> Callable[[nn.Module], None]:
    return lambda _: SHARED.update(leak=value)


def to(name: str, value: Any) -> Callable[[nn.Module], None]:
    return lambda model: setattr(model, name, value)


CHANGES: list[tuple[type[Cell], Callable[[nn.Module], None], Keeps]] = [
    (Leaky, to("leak", 0.5), lambda c, z: 0.5),
    (Euler, to("dt", 0.25), lambda c, z: 0.75),
    (Shared, shared(0.5), lambda c, z: 0.5),
    (Before, to("flag", True), lambda c, z: 0.5 * z),
    (Behind, to("flag", True), lambda c, z: z + 0.25),
    (Either, to("flag", True), lambda c, z: 0.5 * z),
]
changed = pytest.mark.parametrize(("kind", "change", "keeps"), CHANGES)


@pytest.fixture(autouse=True)
def shared_as_it_was() -> Any:
    yield
    SHARED["leak"] = 0.9


def given(steps: int = STEPS) -> Tensor:
    return torch.linspace(-2, 2, 2 * steps * INPUTS).reshape(2, steps, INPUTS).sin()


def by_hand(model: Cell, x: Tensor, keeps: Keeps) -> tuple[Tensor, Tensor]:
    """The states, and the share that each step keeps, in float64."""
    exact, x = copy.deepcopy(model).double(), x.double()
    h, states, shares = x.new_zeros(len(x), UNITS), [], []
    with torch.no_grad():
        for now in x.unbind(1):
            shares.append(torch.zeros_like(h) + keeps(exact, exact.z(now, h)))
            h = exact.step(now, h)
            states.append(h)
    return torch.stack(states, 1), torch.stack(shares, 1)


@changed
def test_the_first_run_after_a_change_is_right(kind: Any, change: Any, keeps: Keeps) -> None:
    model, x = kind(), given()
    record(model, x)
    change(model)
    model.calls = 0
    run = record(model, x)
    assert model.calls == 1, "what the attempt with the old equation did stays in the model"
    assert torch.equal(run.output, model(x))
    h, a = by_hand(model, x, keeps)
    torch.testing.assert_close(run["cell"].h.double(), h, rtol=0, atol=1e-5)
    torch.testing.assert_close(run["cell"].a.double(), a, rtol=0, atol=1e-5)


@changed
def test_one_step_from_zeros_is_no_proof_after_a_change(
    kind: Any, change: Any, keeps: Keeps
) -> None:
    model, x = kind(), given()
    record(model, x)
    change(model)
    with pytest.raises(RecordingError, match="none: record one of more steps, and they are found"):
        record(model, x[:, :1])
    # which is so
    a = by_hand(model, x, keeps)[1]
    torch.testing.assert_close(record(model, x)["cell"].a.double(), a, rtol=0, atol=1e-5)
    one = record(model, x[:, :1])["cell"]
    torch.testing.assert_close(one.a.double(), a[:, :1], rtol=0, atol=1e-5)


@changed
def test_a_block_says_so_too(kind: Any, change: Any, keeps: Keeps) -> None:
    model, x = kind(), given()
    record(model, x)
    change(model)
    with pytest.raises(RecordingError, match="looked for anew"), recording(model):
        model(x[:, :1])
    with recording(model) as runs:
        model(x)
    a = by_hand(model, x, keeps)[1]
    torch.testing.assert_close(runs[0]["cell"].a.double(), a, rtol=0, atol=1e-5)


def test_what_is_other_is_named() -> None:
    model, x = Leaky(), given()
    record(model, x)
    model.leak = 0.5
    with pytest.raises(RecordingError, match=r"line \d+ of .*`self.leak \* h`\) is given 0.5 for"):
        record(model, x[:, :1])
    model = Behind()
    record(model, x)
    model.flag = True
    with pytest.raises(RecordingError, match="add makes more of its state, and did not run there"):
        record(model, x[:, :1])


@pytest.mark.parametrize("kind", [kind for kind, *_ in CHANGES])
def test_one_step_is_opened_where_nothing_changed(kind: Any) -> None:
    model, x = kind(), given()
    whole = record(model, x)["cell"]
    model.calls, model.unused = 7, "another"
    for h in ((), (x.new_zeros(2, UNITS),), (x.new_zeros(1, UNITS).expand(2, -1),)):
        one = record(model, x[:, :1], *h)["cell"]
        assert torch.equal(one.a, whole.a[:, :1])
    # of another number of rows
    torch.testing.assert_close(record(model, x[:1, :1])["cell"].a, one.a[:1])
    with recording(model) as runs:
        model(x[:, :1])
    assert torch.equal(runs[0]["cell"].a, one.a)


class Outside(Cell):
    """Its gates are made of all steps before its loop, which takes each step out of them."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self.cut = cut
        self.z_of, self.n_of = nn.Linear(INPUTS, UNITS), nn.Linear(INPUTS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        z, n = torch.sigmoid(self.z_of(x)), self.n_of(x)
        both, first = torch.cat([z, n], -1), z.transpose(0, 1)
        h, states = x.new_zeros(len(x), UNITS), []
        for at in range(x.shape[1]):
            if self.cut == "index":
                z_now, n_now = z[:, at], n[:, at]
            elif self.cut == "steps first":
                z_now, n_now = first[at], n[:, at : at + 1].squeeze(1)
            else:
                z_now, n_now = both[:, at].chunk(2, -1)
            keeps = 1 - z_now
            if self.flag:
                keeps = 0.5 * keeps
            h = keeps * h + z_now * n_now
            states.append(h)
        return torch.stack(states, 1)


@pytest.mark.parametrize("cut", ["index", "steps first", "both"])
def test_one_step_cuts_nothing_off_what_was_made_before_the_loop(cut: str) -> None:
    model, x = Outside(cut), given()
    whole = record(model, x)["cell"]
    one = record(model, x[:, :1])["cell"]
    torch.testing.assert_close(one.a, whole.a[:, :1])
    torch.testing.assert_close(one.h, whole.h[:, :1])
    model.flag = True
    with pytest.raises(RecordingError, match=r"zeros before each step .* known to run as when"):
        record(model, x[:, :1])


def test_a_step_from_another_state_proves_it_by_itself() -> None:
    model, x = Leaky(), given()
    record(model, x)
    record(model, x[:, :1], torch.ones(2, UNITS))
    model.leak = 0.5
    with pytest.raises(RecordingError, match=r"does not obey h = 0\.9 h_prev"):
        record(model, x[:, :1], torch.ones(2, UNITS))


class Square(Cell):
    """A flag makes it another thing than a gated cell."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        n, z = self.n(x, h), self.z(x, h)
        return z * h * h + (1 - z) * n if self.flag else z * h + (1 - z) * n


class Ungated(Cell):
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        n, z = self.n(x, h), self.z(x, h)
        return n if self.flag else z * h + (1 - z) * n


class Away(Cell):
    """A flag takes its numbers out of torch."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.z(x, h)
        h = z * h + (1 - z) * self.n(x, h)
        return torch.from_numpy(h.detach().numpy()) if self.flag else h


class Interrupted(Cell):
    """At one of its steps it is made by another line."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        h = x.new_zeros(len(x), UNITS) if h is None else h
        for at, now in enumerate(x.unbind(1)):
            h = self.n(now, h) if self.flag is at else self.step(now, h)
        return h

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.z(x, h)
        return z * h + (1 - z) * self.n(x, h)


def keeps_z(_: Cell, z: Tensor) -> Tensor:
    return z


REFUSED: list[tuple[type[Cell], Change, Change, Keeps]] = [
    (Euler, to("dt", 0.0), to("dt", 0.25), lambda c, z: 0.75),
    (Leaky, to("leak", 0.0), to("leak", 0.5), lambda c, z: 0.5),
    (Shared, shared(0.0), shared(0.5), lambda c, z: 0.5),
    (Square, to("flag", True), to("flag", False), keeps_z),
    (Ungated, to("flag", True), to("flag", False), keeps_z),
    (Away, to("flag", True), to("flag", False), keeps_z),
    (Interrupted, to("flag", 3), to("flag", False), keeps_z),
]
refused = pytest.mark.parametrize(("kind", "as_it_is", "change", "keeps"), REFUSED)


@refused
def test_what_was_refused_is_opened_once_it_is_a_gated_cell(
    kind: Any, as_it_is: Any, change: Any, keeps: Keeps
) -> None:
    model, x = kind(), given()
    as_it_is(model)
    for _ in range(2):
        with pytest.raises(UnsupportedLayerError):
            record(model, x)
    change(model)
    a = by_hand(model, x, keeps)[1]
    torch.testing.assert_close(record(model, x)["cell"].a.double(), a, rtol=0, atol=1e-5)


@refused
def test_a_block_opens_what_was_refused(
    kind: Any, as_it_is: Any, change: Any, keeps: Keeps
) -> None:
    model, x = kind(), given()
    as_it_is(model)
    with pytest.raises(UnsupportedLayerError):
        record(model, x)
    with pytest.raises(UnsupportedLayerError, match="is another since, record a run"):
        editing(model, ablate("cell", 0)).__enter__()
    with torch.no_grad(), recording(model) as runs:
        model(x)
        change(model)
        model(x)
    a = by_hand(model, x, keeps)[1]
    (run,) = runs
    torch.testing.assert_close(run["cell"].a.double(), a, rtol=0, atol=1e-5)
    with torch.no_grad(), editing(model, ablate("cell", 0)):
        assert not model(x)[:, 0].any()


class Two(nn.Module):
    """One cell beside another."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other, self.both = one, other, True

    def forward(self, x: Tensor) -> Tensor:
        held = self.one(x)
        held = held[0][:, -1] if isinstance(held, tuple) else held
        return held + self.other(x) if self.both else held  # type: ignore[no-any-return]


@refused
def test_what_was_refused_beside_another_cell_is_opened(
    kind: Any, as_it_is: Any, change: Any, keeps: Keeps
) -> None:
    x = given()
    for one, names in ((Leaky(), ["one", "other"]), (Gru(), ["one.l0", "other"])):
        SHARED["leak"] = 0.9
        model = Two(one, kind())
        as_it_is(model.other)
        assert [*record(model, x, observe=True)] == names[:1]
        change(model.other)
        with torch.no_grad(), recording(model) as runs:
            model(x)
        run = record(model, x, observe=True)
        assert [*run] == names
        if isinstance(one, Leaky):
            assert [*runs[0]] == names
            # one step shows nothing, and what is known is kept
            assert [*record(model, x[:, :1])] == names
        a = by_hand(model.other, x, keeps)[1]
        torch.testing.assert_close(run["other"].a.double(), a, rtol=0, atol=1e-5)


def test_a_cell_that_did_not_run_beside_a_layer_is_found_once_a_flag_lets_it() -> None:
    model, x = Two(Gru(), Behind()), given()
    model.both = False
    assert [*record(model, x)] == ["one.l0"]
    model.both = True
    assert [*record(model, x)] == ["one.l0", "other"]


class Counts(Cell):
    """It carries no state, and counts its calls."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        self.calls += 1
        SEEN.put(self.calls)
        return torch.stack([self.gate.bias for _ in range(2)]).sum(0)


SEEN: SimpleQueue[int] = SimpleQueue()
"""What Python itself holds in C is followed by nobody, and not put back after a look."""


def seen() -> list[int]:
    return [SEEN.get() for _ in range(SEEN.qsize())]


def test_beside_a_layer_a_run_is_looked_at_once() -> None:
    model, x = Two(Gru(), Counts()), given()
    for _ in range(3):
        record(model, x)
    # it is run for the look, and for each record
    assert seen() == [1, 1, 2, 3]
    model.other.dt = 0.3
    record(model, x)
    assert seen() == [4, 4]
    model.own = "something"
    record(model, x)
    assert seen() == [5, 5]


class Unused(Leaky):
    """It holds a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.GRUCell(INPUTS, UNITS)


class UnusedSquare(Square):
    def __init__(self) -> None:
        super().__init__()
        self.idle, self.flag = nn.GRUCell(INPUTS, UNITS), True


def test_where_the_layer_that_is_opened_never_runs_the_loop_beside_it_is_named() -> None:
    model, x = Unused(), given()
    said = (
        r"\(idle\)\. 'the model itself' \(Unused\) .*: with record\(model, \.\.\., observe=True\)"
    )
    with pytest.raises(RecordingError, match=said):
        record(model, x)
    with pytest.warns(NothingRanWarning, match=r"\(idle\)\. .*observe=True"), recording(model):
        model(x)
    assert [*record(model, x, observe=True)] == ["cell"]
    square = UnusedSquare()
    with pytest.raises(RecordingError, match=r"\(idle\); and no gated cell was .*the square"):
        record(square, x, observe=True)


def Gru() -> nn.GRU:  # noqa: N802 - stands where classes stand
    return nn.GRU(INPUTS, UNITS, batch_first=True)


def test_a_model_that_holds_its_state_makes_its_step_once() -> None:
    class Holding(Leaky):
        held: Tensor | None = None

        def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
            self.held = super().forward(x + 0.1 * torch.rand(1), self.held).detach()
            return self.held

    model, other, x = Holding(), Holding(), given()
    outputs = []
    for one, run in ((model, lambda x: record(model, x).output), (other, other)):
        torch.manual_seed(5)
        run(x)
        one.leak = 0.5
        outputs += [(run(x), torch.rand(1))]
    (here, drawn), (there, drawn_there) = outputs
    assert torch.equal(here, there)
    assert torch.equal(drawn, drawn_there)


def test_beside_a_layer_that_is_opened_by_its_weights() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.own = nn.GRU(INPUTS, INPUTS, batch_first=True), Leaky()

        def forward(self, x: Tensor) -> Tensor:
            return self.own(self.gru(x)[0])  # type: ignore[no-any-return]

    model, x = Both(), given()
    record(model, x, observe=True)
    assert [*record(model, x[:, :1], observe=True)] == ["gru.l0", "own"]
    model.own.leak = 0.5
    with pytest.raises(RecordingError, match=r"given 0\.5 for 0\.9.* record one of more steps"):
        record(model, x[:, :1], observe=True)
    assert float(record(model, x, observe=True)["own"].a[0, 0, 0]) == 0.5


def test_a_sweep_after_a_change_looks_anew() -> None:
    model, x = Euler(), given()
    record(model, x)
    model.dt = 0.25
    found = sweep(model, x, layer="cell", readout=lambda out: out, progress=False)
    assert found.effect.shape == (UNITS, 2, UNITS)
    assert record(model, x)["cell"].cell.equation == "h = 0.75 h_prev + 0.25 n"


def test_what_one_step_did_not_show_more_steps_do() -> None:
    model, x = Leaky(), given()
    for _ in range(2):
        with pytest.raises(Exception, match="no step was seen to make a state"):
            record(model, x[:, :1])
    assert record(model, x)["cell"].shape == (2, STEPS, UNITS)
