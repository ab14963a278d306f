"""A state that is not opened is an error that says where, why, what is nearest, and what to do."""

from __future__ import annotations

import functools
import operator
import re
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grulens import clamp, editing, layers, record, recording
from grulens.errors import (
    LayerError,
    NoLayerError,
    NothingRanWarning,
    RecordingError,
    UnsupportedLayerError,
)
from tests.intact import Intact
from tests.models.adapters.test_closed import quiet
from tests.models.observe.zoo import (
    INPUT,
    UNITS,
    Beam,
    Changing,
    Elsewhere,
    Highway,
    NoGate,
    Plain,
    Rotated,
    Summed,
    zeros,
)

OFF = r"off by [\d.e-]+ at step 1, [\d.e-]+ at step 2, [\d.e-]+ at step 3"


class Squared(Plain):
    """The state before stands in it twice."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x)[:, :UNITS])
        return z * h * h + (1 - z)


class TwiceBent(Plain):
    """A function of a function of the mix."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(F.layer_norm(super().step(x, h), (UNITS,)))


class Continuous(Plain):
    """The closed-form cell of Hasani et al. 2022: its gate mixes two new values."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        one, two, gate = torch.tanh(self.x(x) + self.h(h)).chunk(3, 1)
        t = torch.sigmoid(gate)
        return one * (1 - t) + two * t


class Divided(Plain):
    """The step of a liquid time constant (Hasani et al. 2021)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        f = torch.sigmoid(self.x(x) + self.h(h))[:, :UNITS]
        return (h + 0.1 * f) / (1 + 0.1 * f)


class Parts(Plain):
    """A clockwork RNN: a part of its units rests in every second step (Koutnik et al. 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(UNITS, size) for size in (3, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            parts = [*h.chunk(2, 1)]
            for k, part in enumerate(self.parts):
                if t % (k + 1) == 0:
                    parts[k] = torch.tanh(part(h) + x[:, t, :1])
            h = torch.cat(parts, 1)
        return h


class Asked(Plain):
    """A mask that is looked at first, as nothing is to be done where it is True nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            new = self.step(now, h)
            mask = torch.full((len(x), 1), t in (1, 2, 4))
            if mask.any():
                new = torch.where(mask, h, new)
            h = new
        return h


class Chosen(Plain):
    """One step of a function of its own."""

    def other(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x)[:, :UNITS])
        return z * h + (1 - z) * 0.5

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            step = self.other if t == 3 else self.step
            h = step(now, h)
        return h


class ThreeAndOne(Plain):
    """Of three steps one is made by another line."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            z, n, _ = self.x(now).chunk(3, 1)
            z, n = torch.sigmoid(z), torch.tanh(n + self.h(h)[:, :UNITS])
            if t % 3 == 1:
                h = z * h + (1 - z) * n
                continue
            h = z * h + 0.5 * n
        return h


class Spread(nn.Module):
    """A gate for each head, spread over its units by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(INPUT, 8), nn.Linear(INPUT, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 2, 4)
        for now in x.unbind(1):
            g, v = torch.sigmoid(self.gate(now)), self.value(now).view(-1, 2, 4)
            h = torch.einsum("bh,bhc->bhc", g, h) + torch.einsum("bh,bhc->bhc", 1 - g, v)
        return h


class Turning(nn.Module):
    """Complex states (LRU, Orvieto et al. 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.angle = nn.Parameter(torch.rand(UNITS)), nn.Parameter(torch.rand(UNITS))
        self.b = nn.Linear(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        by = torch.exp(torch.complex(-torch.exp(self.size), self.angle))
        h = torch.zeros(len(x), UNITS, dtype=torch.complex64)
        for now in x.unbind(1):
            h = by * h + self.b(now)
        return h.real


class Picked(Plain):
    """A step of some rows only, which are picked out and written back."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            rows = now[:, 0] > -0.5
            new = self.step(now[rows], h[rows])
            h = h.clone()
            h[rows] = new
        return h


class Selected(Plain):
    """Rows that change places."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            h = self.step(now, h.index_select(0, torch.tensor([1, 0])))
        return h


class Late(Plain):
    """Another law after some steps."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            new = self.step(now, h)
            h = new if t < 4 else 0.5 * new + 0.5 * h
        return h


class BentAndNot(Plain):
    """What is bent into the state goes on as well, where a mask lets it through."""

    def forward(self, x: Tensor) -> Tensor:
        h = c = zeros(x)
        for now in x.unbind(1):
            z, n, _ = (self.x(now) + self.h(h)).chunk(3, 1)
            z = torch.sigmoid(z)
            c = z * h + (1 - z) * torch.where(now[:, :1] > 0, c, torch.tanh(n))
            h = torch.tanh(c)
        return h


class Inner(nn.Module):
    """A cell inside of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = Squared(), nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.memory(x))
        return out


# by class: what the message says of it
class Weighed(Plain):
    """The state and its candidate beside each other, weighed by a product."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.tensor([0.6, 0.4]))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        n = torch.tanh(self.x(x)[:, :UNITS] + self.h(h)[:, :UNITS])
        return torch.stack([h, n], -1) @ self.shares


class ByPython(Plain):
    """A mix by Python's own sum."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 1)
        z = torch.sigmoid(z)
        return sum([z * h, (1 - z) * torch.tanh(n)])  # type: ignore[return-value]


class OfPairs(Plain):
    """A mix by Python's own sum, of what a generator makes."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 1)
        z = torch.sigmoid(z)
        pairs = [(z, h), (1 - z, torch.tanh(n))]
        return sum(a * b for a, b in pairs)  # type: ignore[return-value]


class Folded(Plain):
    """A mix of three terms by Python's own reduce."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 1)
        z = torch.sigmoid(z)
        return functools.reduce(operator.add, [z * h, (1 - z) * torch.tanh(n), x[:, :1]])


class Aside(Plain):
    """Leaves two states aside."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            new = self.step(x[:, t], h)
            h = new if t not in (2, 3) else h
        return h


class Rolled(Plain):
    """Its units go round."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, torch.zeros_like(h)) + 0.5 * h.roll(1, 1)


class RolledRows(Plain):
    """Its rows go round."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, torch.zeros_like(h)) + 0.5 * h.roll(1, 0)


class Mapped(Plain):
    """A step of one row, for all rows."""

    def forward(self, x: Tensor) -> Tensor:
        h, step = zeros(x), torch.vmap(self.row)
        for now in x.unbind(1):
            h = step(now, h)
        return h

    def row(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 0)
        z = torch.sigmoid(z)
        return z * h + (1 - z) * torch.tanh(n)


class InAnExtension(Plain):
    """A mix by calls that nobody sees."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 1)
        with torch._C.DisableTorchFunction():
            z = torch.sigmoid(z)
            return z * h + (1 - z) * torch.tanh(n)


class ByNumpy(Plain):
    """A mix by numpy."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, n, _ = (self.x(x) + self.h(h)).chunk(3, 1)
        share, new = torch.sigmoid(z).detach().numpy(), torch.tanh(n).detach().numpy()
        return torch.from_numpy(share * h.detach().numpy() + (1 - share) * new)


WORDS: dict[type[nn.Module], tuple[str, ...]] = {
    Squared: (
        r"the state of line \d+ of test_refused.py, add \(`z \* h \* h \+ \(1 - z\)`\), in Squared:"
        r" the square of the state before stands in it",
        rf"nearest: h = .*z: line \d+ of test_refused.py, sigmoid; n: line .*, {OFF}",
        r"grulens.adapters.register",
    ),
    Inner: (r"in 'memory' \(Squared\): the square of the state before", OFF),
    TwiceBent: ("bent more than once: tanh of layer_norm", rf"nearest: h = .* {OFF}"),
    Spread: (
        r"comes into it through einsum \(line \d+\)",
        r"h = z h_prev \+ \(1 - z\) n \(z: line \d+ of .*, sigmoid; n: line \d+ of .*, linear\) "
        r"holds to [\d.e-]+ at all 5 steps compared; it is not opened for the reason above",
        r"Write the mix as a product: z \* h \+ \(1 - z\) \* n",
    ),
    NoGate: (
        r"in NoGate: the state before comes into it through linear \(line \d+\) alone",
        "no unit keeps a share of its own, as in h = a h_prev . b with a = 0. A plain recurrent "
        "network is such a cell, and has no gates",
        "kinds.RNN of its weights",
    ),
    Continuous: (
        r"with a = 0. Its gates \(line \d+\) open and shut new values only",
        rf"nearest: h = .* {OFF}",
    ),
    Divided: (
        r"through div \(line \d+\), which is not taken apart",
        r"a division by a tensor as a product: h \* \(1 / s\) for h / s",
    ),
    Parts: (r"through cat \(line \d+\), where rows or units change places", "with a mask"),
    Asked: (
        r"not all made in one way: from one to the next line \d+ .* is passed 1 to 2 times",
        "True nowhere changes nothing",
    ),
    Chosen: (r"not all made in one way: some are made in .*`z \* h \+ \(1 - z\) \* 0.5`",),
    ThreeAndOne: (r"not all made in one way: some are made in line \d+ .* 0.5 \* n`\)",),
    Rotated: (r"comes into it through linear \(line \d+\) alone", rf"nearest: .* {OFF}"),
    Turning: (
        r"it is complex \(complex64\), and the signals of a layer are real",
        "two real tensors",
    ),
    Beam: (r"through getitem \(line \d+\), where rows or units change places", "with a mask"),
    Selected: (r"through index_select \(line \d+\)", rf"nearest: h = .* {OFF}"),
    Picked: (r"setitem \(`h\[rows\]`\).* change places or are cut out", "torch.where"),
    Elsewhere: (r"numpy \(`h.detach\(\).numpy\(\)`\), in Elsewhere: its numbers are taken out of",),
    InAnExtension: (
        r"linear \(`self.h\(h\)`\), in InAnExtension: argument 1 is another tensor at every step",
        "in scripted or compiled code, in numpy, in an extension",
    ),
    Changing: (
        r"was found, and does not act so when its signals are changed \(off by [\d.e-]+ at step 0",
        "takes another way",
    ),
    Late: (r"the first is made in line \d+ of zoo.py, add, and would be missing",),
    BentAndNot: (r"it is read out of .*, add, which the loop carries itself: that is its state",),
    Summed: (r"h = h_prev \+ now adds up what, as far as is seen, does not depend on it",),
    Weighed: (
        r"through matmul \(line \d+\), where it is laid beside other values \(line \d+, `torch.",
        r"w\[0\] \* h \+ w\[1\] \* n",
    ),
    ByPython: (
        r"`sum\(\[z \* h, \(1 - z\) \* torch.tanh\(n\)\]\)`.*: Python's own sum adds it up",
        r"torch.stack\(\[z \* h, ...\]\).sum\(0\)",
    ),
    OfPairs: (
        r"`sum\(a \* b for a, b in pairs\)`.*: Python's own sum adds it up",
        r"torch.stack\(\[z \* h, ...\]\).sum\(0\)",
    ),
    Folded: (r"`functools.reduce\(.*: Python's own reduce adds it up, several times in one place",),
    Aside: (
        r"from 0, step 3 with that of step 1, step 4 with that of step 1. Its code leaves states",
        r"torch.where\(mask, new, h\)",
    ),
    Rolled: (
        r"roll \(line \d+\), where units of a row change places [^\n]*\n +nearest[^\n]*\nA c",
    ),
    RolledRows: (r"roll \(line \d+\), where rows change places", "Keep the rows where they are"),
    Mapped: ("it is made inside torch.vmap", "give it one batch with all rows"),
    ByNumpy: (
        r"numpy \(`h.detach\(\).numpy\(\)`\), in ByNumpy: its numbers are taken out of torch here",
        r"with torch's own functions",
    ),
    Highway: ("it goes through layers, and not through time",),
}


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_refused_says_where_and_why_and_what_can_be_done(kind: Any) -> None:
    torch.manual_seed(1)
    model, x = kind(), torch.randn(2, 6, INPUT)
    before = Intact(model)
    with pytest.raises(
        UnsupportedLayerError, match=r"^no gated cell was found: the state"
    ) as error:
        record(model, x)
    for words in WORDS[kind]:
        assert re.search(words, str(error.value)), str(error.value)
    assert not before.broken()
    # and is not looked for in vain again: it is listed as what it is
    (closed,) = layers(model).closed
    assert closed.kind in str(error.value)
    assert closed.reason.startswith("was observed and is not opened: the state of line")
    assert not layers(model).observed


def test_advice_and_the_lines_that_register_a_class_both_stand_in_the_message() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.h = nn.Linear(3, 12), nn.Linear(4, 12)

        def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
            (r, z, n), (a, b, c) = self.x(x).chunk(3, 1), self.h(hidden).chunk(3, 1)
            keep = torch.sigmoid(z + b)
            return keep * hidden + (1 - keep) * torch.tanh(n + torch.sigmoid(r + a) * c)

    class Reset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Gated()

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for now in x.unbind(1):
                h = h.clone()
                h[now[:, 0] > 0] = 0
                h = self.cell(now, h)
            return h

    with pytest.raises(UnsupportedLayerError) as error:
        record(Reset(), torch.randn(2, 6, 3))
    text = str(error.value)
    assert "\n    Keep the rows where they are, with a mask" in text
    assert text.count("If it is one, say so:\n    from grulens import Cell\n") == 1


def test_a_state_that_jumps_between_its_steps_says_how_the_rest_is_recorded() -> None:
    class Jumping(nn.Module):
        """A GRU-ODE: its state flows for some steps, and a cell of torch makes it jump."""

        def __init__(self) -> None:
            super().__init__()
            self.flow, self.jump = Plain(), nn.GRUCell(INPUT, UNITS)

        def forward(self, x: Tensor) -> Tensor:
            h = zeros(x)
            for now in x.unbind(1):
                for _ in range(6):
                    h = h + 0.1 * (self.flow.step(now, h) - h)
                h = self.jump(now, h)
            return h

    torch.manual_seed(0)
    model, x = Jumping(), torch.randn(2, 3, INPUT)
    with pytest.raises(RecordingError, match=r"takes another way .* with observe=False"):
        record(model, x)
    assert list(record(model, x, observe=False)) == ["jump"]


class Mapped(Plain):
    """Its rows run one by one, as torch.vmap takes them."""

    def forward(self, x: Tensor) -> Tensor:
        run: Any = super().forward
        return torch.vmap(lambda row: run(row[None])[0])(x)


def test_a_cell_inside_vmap_is_refused_and_says_so() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"inside torch\.vmap\n    .* one batch"):
        record(Mapped(), torch.randn(2, 6, INPUT))


def test_a_refused_cell_beside_an_opened_layer_is_said() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.memory = nn.GRU(INPUT, INPUT, batch_first=True), Squared()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.memory(self.rnn(x)[0])
            return out

    model, x = Both(), torch.randn(2, 6, INPUT)
    assert [part.name for part in layers(model).observed] == ["memory"]
    assert list(record(model, x)) == ["rnn.l0"]
    (closed,) = layers(model).closed
    assert (closed.name, closed.kind) == ("memory", "Squared")
    assert "not opened: 'memory' was observed and is not opened" in repr(layers(model))
    with pytest.raises(LayerError, match=r"'memory' was observed and is not opened: .* square"):
        record(model, x, edits=[clamp("memory", "z", 0, value=1.0)])


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.way = Plain()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.way.step(x, h) if x.dim() == 2 else x


class Once(nn.Module):
    """One step of a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Step()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x[:, 0], zeros(x))
        return out


class Named(nn.Module):
    """A model without a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Plain()

    def generate(self, x: Tensor) -> Tensor:
        out: Tensor = self.part(x)
        return out


def test_a_run_of_one_step_says_that_it_shows_nothing() -> None:
    said = r"'cell' \(Step\) takes a state, 'h', and ran once"
    with pytest.raises(UnsupportedLayerError, match=said) as error:
        record(Once(), torch.randn(2, 6, INPUT))
    assert "register(Step, StepAdapter(cell))" in str(error.value)
    assert "'cell.way'" not in str(error.value)


def test_a_model_without_a_forward_is_told_to_name_its_method() -> None:
    model, x = Named(), torch.randn(2, 6, INPUT)
    with pytest.raises(NoLayerError, match=r"'part' \(Plain\) goes round a loop, and did not run"):
        record(model, x)
    assert list(record(model, x, call="generate")) == ["part"]


def test_a_traced_model_is_said_not_to_be_looked_into() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = quiet(lambda: torch.jit.script(nn.Linear(INPUT, 3)))

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    with pytest.raises(NoLayerError, match="scripted and traced modules are not looked into"):
        record(Linear(), torch.randn(2, INPUT))


class ByWeights(nn.Module):
    """A GRU from the weights of a cell that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(INPUT, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h, cell, states = zeros(x), self.cell, []
        for now in x.unbind(1):
            i_r, i_z, i_n = F.linear(now, cell.weight_ih, cell.bias_ih).chunk(3, 1)
            h_r, h_z, h_n = F.linear(h, cell.weight_hh, cell.bias_hh).chunk(3, 1)
            r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
            h = torch.lerp(torch.tanh(i_n + r * h_n), h, z)
            states.append(h)
        return torch.stack(states, 1)


def test_a_cell_that_only_holds_weights_is_observed_where_they_are_used() -> None:
    torch.manual_seed(0)
    model, x = ByWeights(), torch.randn(2, 6, INPUT)
    run = record(model, x)
    (layer,) = run.values()
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    assert layer.name == "cell_2"  # its cell's own name is taken
    called = nn.GRU(INPUT, UNITS, batch_first=True)
    called.load_state_dict({f"{k}_l0": v for k, v in model.cell.state_dict().items()})
    torch.testing.assert_close(layer.z, record(called, x)["l0"].z)
    held = record(model, x, edits=[clamp("cell_2", "z", 1, value=1.0)])["cell_2"]
    assert not held.h[:, :, 1].any()


def test_a_layer_whose_weights_are_looked_at_and_that_runs_is_recorded_alone() -> None:
    class Penalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(INPUT, UNITS)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = zeros(x)
            for now in x.unbind(1):
                h = self.cell(now, h)
            return h, self.cell.weight_hh.norm()

    run = record(Penalised(), torch.randn(2, 6, INPUT))
    assert list(run) == ["cell"]
    assert run["cell"].cell.kind == "GRU"


class UnitsFirst(nn.Module):
    """Its state is (unit, batch), as in a textbook of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Parameter(torch.randn(2 * UNITS, INPUT)), nn.Linear(UNITS, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(UNITS, len(x))
        for now in x.unbind(1):
            both = self.x @ now.T + self.product(h)
            z, n = torch.sigmoid(both[:UNITS]), torch.tanh(both[UNITS:])
            h = z * h + (1 - z) * n
        return h.T

    def product(self, h: Tensor) -> Tensor:
        return self.h.weight @ h


class Turned(UnitsFirst):
    def product(self, h: Tensor) -> Tensor:
        return F.linear(h.T, self.h.weight).T


class Summing(UnitsFirst):
    def product(self, h: Tensor) -> Tensor:
        return torch.einsum("vu,ub->vb", self.h.weight, h)


class Nodes(nn.Module):
    """A weight beside the nodes of a graph, and one beside their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.both = nn.Parameter(torch.rand(3, 3)), nn.Linear(UNITS, 2 * UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(3, UNITS)
        for now in x.unbind(1):
            z, n = (self.both(self.graph @ h) + now.sum()).chunk(2, 1)
            h = torch.sigmoid(z) * h + (1 - torch.sigmoid(z)) * torch.tanh(n)
        return h


@pytest.mark.parametrize("kind", [UnitsFirst, Turned, Summing])
@pytest.mark.parametrize("rows", [2, UNITS])
def test_a_state_that_is_laid_out_unit_by_batch_is_refused(
    kind: type[nn.Module], rows: int
) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"laid out \(unit, batch\)") as error:
        record(kind(), torch.randn(rows, 6, INPUT))
    assert "Lay it out (batch, unit): h @ weight.T for weight @ h" in str(error.value)
    assert "nearest" not in str(error.value)


def test_the_nodes_of_a_graph_are_rows_though_a_weight_adds_them_up() -> None:
    assert record(Nodes(), torch.randn(2, 6, INPUT))["cell"].shape == (3, 6, UNITS)


def test_before_a_run_a_block_says_to_record_and_after_a_refused_one_why_it_was() -> None:
    model, x = Squared(), torch.randn(2, 6, INPUT)
    with pytest.raises(NoLayerError, match=r"a loop: record\(model, \.\.\.\) looks for its gates"):
        editing(model)
    with pytest.raises(UnsupportedLayerError) as refused:
        record(model, x)
    for ask in (lambda: editing(model), lambda: editing(model, clamp("cell", "z", value=1.0))):
        with pytest.raises(UnsupportedLayerError) as error:
            ask()
        said, last = str(error.value).rsplit("\n", 1)
        assert said == str(refused.value)
        assert last.startswith("So it was in the last run. If a constant, a flag or the code is")


def test_a_block_of_recording_says_what_is_refused_in_it() -> None:
    model, x = Squared(), torch.randn(2, 6, INPUT)
    with pytest.warns(NothingRanWarning) as warned, recording(model) as runs:
        model(x)
    assert runs == []
    with pytest.raises(UnsupportedLayerError) as error:
        record(model, x)
    (said,) = warned
    assert str(said.message) == f"no layer that was to be recorded ran in this block: {error.value}"


class Ending(Plain):
    """Goes on with the first rows, where the last ones have ended."""

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        h = zeros(x)
        for t in range(x.shape[1]):
            count = sum(length > t for length in lengths)
            h = self.step(x[:count, t], h[:count])
        return h


def test_rows_that_end_are_named_and_a_mask_is_advised() -> None:
    model, x = Ending(), torch.randn(4, 6, INPUT)
    advice = r"Keep the rows where they are, with a mask: h = torch.where\(mask, new, h\)"
    with pytest.raises(UnsupportedLayerError, match=f"4 rows and 2: rows end(.|\n)*{advice}"):
        record(model, x, [6, 6, 4, 2])
    model = Ending()
    record(model, x, [6, 6, 6, 6])
    gone = rf"rows 2, 3 of layer 'cell' end with step 3.* 2 of 4 .*{advice}"
    with pytest.raises(RecordingError, match=gone), recording(model):
        model(x, [6, 6, 4, 4])
    record(model, x, [6, 6, 6, 6])
    with pytest.raises(UnsupportedLayerError, match=f"4 rows and 2: rows end(.|\n)*{advice}"):
        record(model, x, [6, 6, 4, 4])


class ReadBack(nn.Module):
    """Carries h, and beside its gate a share of tanh(h), which it hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.gate = nn.Linear(INPUT, UNITS), nn.Linear(INPUT, UNITS)
        self.own = nn.Parameter(torch.randn(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        h = y = x.new_zeros(len(x), UNITS)
        states = []
        for now in x.unbind(1):
            new = self.x(now) + self.own * y
            h = h + torch.sigmoid(self.gate(now)) * (new - h)
            y = torch.tanh(h)
            states.append(y)
        return torch.stack(states, 1)


def test_what_is_read_out_of_a_state_that_is_carried_is_none_itself() -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedLayerError, match=r"it is read out of line \d+ of test_refused"):
        record(ReadBack(), torch.randn(2, 5, INPUT))


class Beside(nn.Module):
    """A gated loop, one without gates over its states, and layers behind both."""

    def __init__(self) -> None:
        super().__init__()
        self.gated, self.plain, self.deep = Plain(), NoGate(), nn.ModuleList()
        self.deep.extend(nn.Linear(UNITS, UNITS) for _ in range(3))
        self.runs = SimpleQueue[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.runs.put(1)
        self.plain(x)
        out: Tensor = self.gated(x)
        for layer in self.deep:
            out = out + torch.tanh(layer(out))
        return out


def test_a_loop_without_gates_beside_an_opened_one_is_listed_and_not_looked_for_again() -> None:
    model, x = Beside(), torch.randn(2, 6, INPUT)
    assert [*record(model, x)] == ["gated"]
    (closed,) = layers(model).closed
    assert (closed.name, closed.kind) == ("plain", "NoGate")
    assert "comes into it through linear" in closed.reason
    with pytest.raises(LayerError, match=r"'plain' was observed and is not opened: the state of"):
        record(model, x, layers=["plain"])
    runs = model.runs.qsize()
    record(model, x)
    assert model.runs.qsize() == runs + 1
