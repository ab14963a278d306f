"""What is said of observed cells: names, bounds, places in the code."""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import GateSliders, Recording, ablate, clamp, editing, layers, record, recording
from grulens.errors import CellError, RecordingError, SignalError, UnsupportedLayerError
from grulens.memory import timescales
from tests.models.adapters.test_closed import Alike
from tests.models.observe.zoo import INPUT, SPECIES, UNITS, Plain, zeros


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("MaskedProduct", "m", "mask (keeps the state at 0)"),
        ("MaskedWhere", "m", "mask (keeps the state at 0)"),
        ("MaskedInPlace", "ended", "mask (keeps the state at 1)"),
        ("EpisodeStart", "is_first", "mask (lets nothing of the state before through at 1)"),
        ("EpisodeEnd", "m", "mask (makes the state zero at 0)"),
    ],
)
def test_a_mask_says_what_it_does_and_goes_from_0_to_1(kind: str, name: str, words: str) -> None:
    species = next(one for one in SPECIES if one.name == kind)
    model, args = species.made()
    signal = next(iter(record(model, *args).values())).cell.signal(name)
    assert (signal.words, signal.low, signal.high) == (words, 0, 1)


def test_what_was_1_alone_is_said_to_be_no_mask() -> None:
    species = next(one for one in SPECIES if one.name == "MaskedProduct")
    model, (x, mask) = species.made()
    signal = record(model, x, torch.ones_like(mask))["cell"].cell.signal("m")
    assert (signal.words, signal.high) == ("part of the mix", float("inf"))


def test_signals_called_as_styles_of_a_lens_are_styled_as_signals() -> None:
    class Own(Plain):
        def step(self, x: Tensor, h: Tensor) -> Tensor:
            row, line, off = self.x(x).sigmoid().chunk(3, -1)
            return row * line * h + off * line * torch.tanh(self.h(h)[..., :UNITS])

    panel = GateSliders(Own(), torch.randn(2, 4, INPUT))
    sliders = panel.controls.sliders
    styles = ("line", "off")
    assert set(styles) < set(sliders)
    for name in styles:
        assert f"grulens-{name}" not in sliders[name]._dom_classes
        assert f"grulens-signal-{name}" in sliders[name]._dom_classes
    panel.close()


def test_a_module_that_could_be_registered_is_listed_once() -> None:
    found = layers(nn.ModuleDict({"one": Alike(), "rnn": nn.GRU(3, 4)}))
    assert [part.name for part in found.observed] == ["one"]
    assert [part.name for part in found.closed] == ["one"]
    text = repr(found)
    assert "one: Alike" not in text
    assert text.count("not opened: 'one'") == 1
    assert text.endswith("looks for the gates of 'one' in a run, registered or not")
    html = found._repr_html_()
    assert html.count("<td>one</td>") == 1
    assert "looks for the gates in a run" in html
    assert repr(layers(Alike())).startswith("not opened: 'the model itself'")


def library(folder: Path, name: str, text: str) -> Any:
    """A module of an installed package."""
    file = folder / "site-packages" / name / "wrappers.py"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(f"{name}_wrappers", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lines_are_those_of_the_model_and_not_of_a_library_that_wraps_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap = library(
        tmp_path,
        "loggers",
        "def logged(function):\n"
        "    def wrapped(*args, **kwargs):\n"
        "        return function(*args, **kwargs)\n"
        "    return wrapped\n",
    ).logged
    for name in ("sigmoid", "tanh"):
        monkeypatch.setattr(torch, name, wrap(getattr(torch, name)))

    class Own(Plain):
        def forward(self, x: Tensor) -> Tensor:
            h = zeros(x)
            for now in x.unbind(1):
                gate = torch.sigmoid(self.x(now)[:, :UNITS] + self.h(h)[:, :UNITS])
                h = gate * h + (1 - gate) * torch.tanh(self.x(now)[:, UNITS : 2 * UNITS])
            return h

    layer = record(Own(), torch.randn(2, 6, INPUT))["cell"]
    assert layer.cell.equation == "h = z h_prev + (1 - z) n"
    for name, text in (("z", "torch.sigmoid("), ("n", "torch.tanh(")):
        where, code = layer.cell.lines[name]
        assert "test_words.py" in where
        assert code.startswith(text)


def test_lines_of_a_model_out_of_a_library_are_its_own(tmp_path: Path) -> None:
    made = library(
        tmp_path,
        "cells",
        "import torch\n"
        "class Cell(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.gate, self.new = torch.nn.Linear(7, 4), torch.nn.Linear(7, 4)\n"
        "    def forward(self, x, h):\n"
        "        both = torch.cat([x, h], 1)\n"
        "        z = torch.sigmoid(self.gate(both))\n"
        "        return z * h + (1 - z) * torch.tanh(self.new(both))\n",
    ).Cell

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = made()

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for now in x.unbind(1):
                h = self.cell(now, h)
            return h

    layer = record(Own(), torch.randn(2, 6, 3))["cell"]
    assert layer.cell.lines["z"][0] == "line 8 of wrappers.py, sigmoid"


CELL = """
class Minimal(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(7, 4), nn.Linear(3, 4)

    def forward(self, x):
        h, out = x.new_zeros(len(x), 4), []
        for x_t in x.unbind(1):
            z = torch.sigmoid(self.gate(torch.cat([x_t, h], 1)))
            h = z * h + (1 - z) * torch.tanh(self.new(x_t))
            out.append(h)
        return torch.stack(out, 1)
"""


def test_a_line_of_a_notebook_is_one_of_a_cell_and_of_no_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{os.sep}tmp{os.sep}ipykernel_123{os.sep}2197087216.py"
    kept = len(CELL), None, CELL.splitlines(keepends=True), name
    monkeypatch.setitem(linecache.cache, name, kept)
    given = {"nn": nn, "torch": torch, "__name__": "__main__"}
    exec(compile(CELL, name, "exec"), given)
    layer = record(given["Minimal"](), torch.randn(2, 6, 3))["cell"]
    assert layer.cell.lines["z"][0] == "line 10 of a notebook cell, sigmoid"


def test_an_error_says_a_word_with_its_article() -> None:
    class MinimalCell(Plain):
        pass

    run = record(MinimalCell(), torch.randn(2, 6, INPUT))
    with pytest.raises(SignalError, match="is a MinimalCell and has no signal 'q'"):
        record(MinimalCell(), torch.randn(2, 6, INPUT), edits=[clamp("cell", "q", 0, value=0.0)])
    assert run["cell"].cell.kind == "MinimalCell"


class TwoSums(nn.Module):
    """The attention of RWKV without its bonus: two sums that decay alike, by equal expressions."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.both = nn.Parameter(torch.rand(UNITS)), nn.Linear(INPUT, 2 * UNITS)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        a, b, above, below = zeros(x), zeros(x), [], []
        for now in x.unbind(1):
            k, v = self.both(now).chunk(2, 1)
            a = torch.exp(-torch.exp(self.decay)) * a + torch.exp(k) * v
            b = torch.exp(-torch.exp(self.decay)) * b + torch.exp(k)
            above.append(a)
            below.append(b)
        return above, below


def test_of_equal_expressions_each_state_has_its_own() -> None:
    torch.manual_seed(0)
    model, x = TwoSums(), torch.randn(2, 6, INPUT)
    plain = record(model, x)
    assert list(plain) == ["cell.a", "cell.b"]
    first = inspect.getsourcelines(TwoSums.forward)[1] + 4
    assert f"b2: torch.exp(k), line {first} of test_words.py, exp" in plain["cell.a"].form
    for number, layer in enumerate(plain.values()):
        mine = [name for name in layer.cell.form.symbols if name != "v"]
        assert [layer.cell.lines[name][0] for name in mine] == [
            f"line {first + number} of test_words.py, exp"
        ] * len(mine)
        for name in layer.cell.form.symbols:
            run = record(model, x, edits=[clamp(layer.name, name, 1, value=0.25, at=2)])
            for other, states in zip(plain.values(), run.output, strict=True):
                assert torch.equal(torch.stack(states, 1), other.h) is (other is not layer)


def test_the_share_of_a_state_that_is_read_through_a_bend_is_called_as_a_grus() -> None:
    class Decoder(Plain):
        """Reads its own answer."""

        def forward(self, x: Tensor) -> Tensor:
            h = answer = zeros(x)
            for now in x.unbind(1):
                both = self.x(now) + self.h(answer)
                z, n = torch.sigmoid(both[:, :UNITS]), torch.tanh(both[:, UNITS : 2 * UNITS])
                h = (1 - z) * h + z * n
                answer = torch.tanh(h)
            return h

    model, x = Decoder(), torch.randn(2, 6, INPUT)
    layer = record(model, x)["cell"]
    assert layer.cell.equation == "h = (1 - z) h_prev + z n"
    assert layer.cell.signal("z").words == "update gate (takes the candidate at 1)"
    assert torch.equal(layer.h[:, -1], model(x))


def test_a_gate_that_lets_the_candidate_in_is_an_lstms_input_gate() -> None:
    class Coupled(Plain):
        """An LSTM that forgets as much as it takes in."""

        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(UNITS, UNITS)

        def forward(self, x: Tensor) -> Tensor:
            h = c = zeros(x)
            for now in x.unbind(1):
                both = self.x(now) + self.h(h)
                i, g = torch.sigmoid(both[:, :UNITS]), torch.tanh(both[:, UNITS : 2 * UNITS])
                c = (1 - i) * c + i * g
                h = torch.sigmoid(self.out(h)) * torch.tanh(c)
            return h

    layer = record(Coupled(), torch.randn(2, 6, INPUT))["cell"]
    assert layer.cell.equation == "c = (1 - i) c_prev + i g; h = o tanh(c)"
    assert layer.cell.signal("i").words == "input gate (takes the cell candidate at 1)"
    assert layer.cell.signal("g").words == "cell candidate"


def test_a_value_that_begins_an_expression_has_not_the_name_of_the_whole() -> None:
    class Phased(Plain):
        def forward(self, x: Tensor) -> Tensor:
            c, h, phase = zeros(x), zeros(x), x.unbind(2)
            for t, now in enumerate(x.unbind(1)):
                i, f, o = (self.x(now) + self.h(h)).chunk(3, -1)
                new = torch.sigmoid(f) * c + torch.tanh(i)
                k = phase[0][:, t, None].sigmoid() * 0.5
                c = k * new + (1 - k) * c
                h = torch.sigmoid(o) * torch.tanh(c)
            return h

    layer = record(Phased(), torch.randn(2, 6, INPUT))["cell"]
    # the code's `new` is the sum and its `k` the product: the mix has neither
    assert not {"new", "k", "phase"} & set(layer.names)
    assert {code for _, code in layer.cell.lines.values()} >= {"torch.sigmoid(f)"}


class Unseen(Plain):
    """Its gate is made by code in which no call of torch is seen."""

    def forward(self, x: Tensor) -> Tensor:
        h = zeros(x)
        for now in x.unbind(1):
            with torch._C.DisableTorchFunction():
                z = torch.sigmoid(self.h(h)[:, :UNITS])
            h = z * h + (1 - z) * torch.tanh(self.x(now)[:, :UNITS] + self.h(h)[:, :UNITS])
        return h


def test_what_unseen_code_makes_at_every_step_is_not_said_to_be_made_before_the_loop() -> None:
    model, x = Unseen(), torch.randn(2, 6, INPUT)
    layer = record(model, x)["cell"]
    assert layer.cell.lines["z"][0].endswith(", made outside of what was seen")
    held = record(model, x, edits=[clamp("cell", "z", 1, value=1.0)])["cell"]
    assert bool((held.h[..., 1] == 0).all())


class Modal(Plain):
    """Zoneout: it mixes in another way in training."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        new, kept = super().step(x, h), torch.full_like(h, 0.25)
        kept = torch.bernoulli(kept) if self.training else kept
        return kept * h + (1 - kept) * new


def test_a_cell_is_looked_for_in_each_mode_of_training() -> None:
    torch.manual_seed(0)
    model, x = Modal().eval(), torch.randn(2, 6, INPUT)
    hold = clamp("cell", "z", 1, value=1.0)
    still = record(model, x)["cell"].cell.equation
    drawn = record(model.train(), x)["cell"].cell.equation
    assert drawn != still
    for mode, equation in ((False, still), (True, drawn)):
        model.train(mode)
        with torch.no_grad(), recording(model) as runs, editing(model, hold):
            model(x)
        assert runs[0]["cell"].cell.equation == equation
        assert bool((runs[0]["cell"].h[..., 1] == 0).all())


class Constant(nn.Module):
    """A cell with a factor that is no part of a step."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, UNITS), nn.Linear(UNITS, UNITS)
        self.leak, self.how = nn.Parameter(torch.rand(UNITS)), how

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        if self.how == "bent":
            rate = torch.exp(-self.leak)
        elif self.how == "product":
            rate = 0.5 * self.leak
        else:
            rate = 1 - 0.5 * self.leak
        for x_t in x.unbind(1):
            z = torch.sigmoid(self.x(x_t) + self.h(h))
            if self.how == "inside":
                h = 0.5 * self.leak * h + z * torch.tanh(self.x(x_t))
            else:
                h = rate * h + z * torch.tanh(self.x(x_t))
        return h


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("bent", "torch.exp(-self.leak)"),
        ("product", "0.5 * self.leak"),
        ("difference", "1 - 0.5 * self.leak"),
        ("inside", "self.leak"),
    ],
)
def test_a_factor_made_before_the_loop_is_said_as_the_code_makes_it(how: str, text: str) -> None:
    torch.manual_seed(0)
    model = Constant(how)
    layer = record(model, torch.randn(2, 4, INPUT))["cell"]
    where, said = layer.cell.lines["f"]
    assert where.endswith("made before the loop")
    assert said == text
    rates = {"bent": torch.exp(-model.leak), "product": 0.5 * model.leak, "inside": model.leak}
    assert torch.equal(layer.f[0, 1], rates.get(how, 1 - 0.5 * model.leak))
    held = record(model, torch.randn(2, 4, INPUT), edits=[clamp("cell", "f", 1, value=0.25)])
    kept = held["cell"].a
    assert bool((kept[..., 1] == (0.125 if how == "inside" else 0.25)).all())


class BothWays(nn.Module):
    """Loops there and back."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.x, self.h, self.how = nn.Linear(INPUT, UNITS), nn.Linear(UNITS, UNITS), how

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = torch.sigmoid(self.x(x) + self.h(h))
        return z * h + (1 - z) * torch.tanh(self.x(x))

    def forward(self, x: Tensor) -> Tensor:
        there, back = list[Tensor](), list[Tensor]()
        if self.how == "calls":
            return torch.cat([
                self.loop(x),
                self.loop(x.flip(1)).flip(1),
            ], 2)  # fmt: skip
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            there.append(h)
        h = x.new_zeros(len(x), UNITS)
        for t in reversed(range(x.shape[1])):
            h = self.step(x[:, t], h)
            back.insert(0, h)
        return torch.cat([torch.stack(there, 1), torch.stack(back, 1)], 2)

    def loop(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), UNITS), list[Tensor]()
        for x_t in x.unbind(1):
            h = self.step(x_t, h)
            states.append(h)
        return torch.stack(states, 1)


def test_two_directions_have_names_that_tell_them_apart() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, INPUT)
    assert list(record(BothWays("lists"), x)) == ["cell.there", "cell.back"]
    first, then = (name.removeprefix("cell.line") for name in record(BothWays("calls"), x))
    assert int(then) == int(first) + 1  # the lines of the two calls, and not that of the state
    line = inspect.getsourcelines(BothWays.forward)[1] + 4
    assert int(first) == line


class Read(nn.Module):
    """An LSTM whose h is made of its c in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, 4 * UNITS), nn.Linear(UNITS, 4 * UNITS)
        self.norm, self.how = nn.LayerNorm(UNITS), how

    def forward(self, x: Tensor) -> Tensor:
        h = c = n = x.new_zeros(len(x), UNITS)
        states = []
        for x_t in x.unbind(1):
            i, f, g, o = (self.x(x_t) + self.h(h)).chunk(4, 1)
            f, i, o = torch.sigmoid(f), torch.sigmoid(i), torch.sigmoid(o)
            c = f * c + i * torch.tanh(g)
            if self.how == "normed":
                h = o * torch.tanh(self.norm(c))
            else:
                n = f * n + i
                h = o * c / n
            states.append(h)
        return torch.stack(states, 1)


@pytest.mark.parametrize(
    ("how", "name", "said"),
    [
        ("normed", "cell", "h = o tanh(layer_norm(c))"),
        ("divided", "cell.c", "h = o c / n"),
    ],
)
def test_h_is_what_the_code_makes_of_c_and_hands_on(how: str, name: str, said: str) -> None:
    torch.manual_seed(0)
    run = record(Read(how), torch.randn(2, 4, INPUT))
    layer = run[name]
    assert layer.cell.equation.endswith(said)
    assert torch.equal(layer.h, run.output)
    if how == "normed":
        held = record(Read(how), torch.randn(2, 4, INPUT), edits=[clamp(name, "h", 1, value=0.5)])
        assert bool((held.output[..., 1] == 0.5).all())


class Phased(nn.Module):
    """A state that moves by a share that is a product of what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUT, UNITS), nn.Linear(UNITS, UNITS)
        self.rate = nn.Parameter(torch.rand(UNITS))

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            k = times[:, t : t + 1] * self.rate
            h = k * torch.tanh(self.x(x[:, t]) + self.h(h)) + (1 - k) * h
        return h


def test_a_share_that_is_a_product_of_what_is_given_is_one_share() -> None:
    torch.manual_seed(0)
    model, times = Phased(), torch.rand(2, 4)
    layer = record(model, torch.randn(2, 4, INPUT), times)["cell"]
    assert layer.cell.equation == "h = (1 - z) h_prev + z n"
    assert torch.equal(layer.z, times[..., None] * model.rate)


class Rhythmic(nn.Module):
    """An LSTM that a rhythm opens (Neil et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(INPUT + UNITS, 4 * UNITS)
        self.period = nn.Parameter(torch.rand(UNITS) * 4 + 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = zeros(x)
        for t, now in enumerate(x.unbind(1)):
            phase = torch.remainder(t + 0.5, self.period) / self.period
            falling = torch.where(phase < 0.4, 2 - 5 * phase, 0.01 * phase)
            k = torch.where(phase < 0.2, 5 * phase, falling)
            i, f, g, o = self.gates(torch.cat([now, h], 1)).chunk(4, 1)
            new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            c, h = k * new + (1 - k) * c, k * (o.sigmoid() * new.tanh()) + (1 - k) * h
        return torch.cat([h, c], 1)


def test_a_gate_in_pieces_is_one_and_a_gate_of_another_state_is_no_reset_gate() -> None:
    torch.manual_seed(0)
    model, x = Rhythmic(), torch.randn(2, 8, INPUT)
    run = record(model, x)
    assert {name: layer.cell.equation.partition(" h_prev")[0] for name, layer in run.items()} == {
        "cell.c": "h = (1 + k b2 - k)",
        "cell.h": "h = (1 - z)",
    }
    h, c = run["cell.h"], run["cell.c"]
    assert "reset gate" not in {one.words for one in h.cell.signals}
    torch.testing.assert_close(h.z, c.k)
    assert torch.equal(torch.cat([h.h[:, -1], c.h[:, -1]], 1), run.output)
    held = record(model, x, edits=[clamp("cell.h", "z", 1, value=0.0)])
    assert not held["cell.h"].h[:, :, 1].any()
    assert not held["cell.c"].h[:, :, 1].any()  # the code makes one gate for both


def test_what_turns_the_state_before_around_is_no_forget_gate() -> None:
    class Searched(Plain):
        """A cell that a search has found: its f goes from -1 to 1 (Zoph and Le 2017)."""

        def step(self, x: Tensor, h: Tensor) -> Tensor:
            a, b, d = (self.x(x) + self.h(h)).chunk(3, 1)
            return torch.relu(a) * torch.sigmoid(b) + torch.tanh(d) * h

    cell = record(Searched(), torch.randn(2, 6, INPUT))["cell"].cell
    assert cell.signal("f").words == "factor of the state before"
    assert cell.signal("i").words == "input gate"


class Leaking(nn.Module):
    """A leaky integrator; how its time constants divide is told."""

    def __init__(self, *, product: bool) -> None:
        super().__init__()
        self.line, self.product = nn.Linear(6, 4), product
        self.tau = nn.Parameter(torch.linspace(2, 6, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            moved = torch.tanh(self.line(torch.cat([x_t, h], 1))) - h
            h = h + ((1 / self.tau) * moved if self.product else moved / self.tau)
        return h


def test_a_share_of_the_state_behind_a_division_is_said_and_has_no_half_life(
    tmp_path: Path,
) -> None:
    x = torch.randn(2, 5, 2)
    plain, hidden = (record(Leaking(product=how), x) for how in (True, False))
    assert plain["cell"].note == ""
    assert torch.allclose(plain["cell"].a, 1 - 1 / torch.linspace(2, 6, 4), atol=1e-6)
    hidden.save(tmp_path / "run.safetensors")
    for run in (hidden, Recording.load(tmp_path / "run.safetensors")):
        assert run["cell"].cell.hides == ("b2",)
        assert run["cell"].note.startswith(
            "a share of h_prev may stand in b2, past every activation"
        )
        assert run["cell"].a.shape == (2, 5, 4)
        with pytest.raises(CellError, match=r"the half-life of a unit rests on the share .* b2"):
            timescales(run, "cell")


def test_a_gate_that_is_a_single_number_is_a_signal_of_all_units() -> None:
    class Decaying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.tau = nn.Linear(6, 4), torch.tensor(5.0)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                h = h * torch.exp(-1 / self.tau) + self.line(torch.cat([x_t, h], 1))
            return h

    for batch in (1, 3):
        layer = record(Decaying(), torch.randn(batch, 5, 2))["cell"]
        assert torch.allclose(layer.a, torch.full((batch, 5, 4), -0.2).exp())
        assert torch.equal(layer.signal("f"), layer.a)


class Filtering(nn.Module):
    """A convolution with a gate, over pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.new = (nn.Conv2d(3, 2, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 2, *x.shape[-2:])
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.new(both))
        return h


def test_a_state_of_another_size_is_counted_in_its_own_units(tmp_path: Path) -> None:
    model, x = Filtering(), torch.randn(2, 4, 1, 5, 4)
    first = record(model, x)["cell"]
    units, channels = first.shape[2], first.cell.shape[0]
    small = x[..., :-1, :-1]
    run = record(model, small)
    layer, rows = run["cell"], tuple(small.shape[-2:])
    assert layer.cell.shape == (channels, *rows)
    assert layer.shape[2] == layer.h.shape[2] == channels * rows[0] * rows[1] < units
    run.save(tmp_path / "run.safetensors")
    assert Recording.load(tmp_path / "run.safetensors")["cell"].cell.shape == layer.cell.shape
    last = layer.shape[2] - 1
    off = record(model, small, edits=[ablate("cell", last)])["cell"].h
    assert float(off[..., last].abs().max()) == 0.0
    with (
        pytest.raises(RecordingError, match=r"has the shape .* in this run, and units are counted"),
        editing(model, ablate("cell", 0)),
    ):
        model(x)
    assert record(model, x)["cell"].shape[2] == units
    with editing(model, ablate("cell", units - 1)):
        model(x)


def test_a_state_laid_out_unit_by_batch_beside_its_input_is_refused() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 7))

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(4, len(x))
            for x_t in x.unbind(1):
                z, n = (self.weight @ torch.cat([x_t.T, h], 0)).chunk(2, 0)
                z = torch.sigmoid(z)
                h = z * h + (1 - z) * torch.tanh(n)
            return h

    with pytest.raises(UnsupportedLayerError, match=r"is laid out \(unit, batch\)"):
        record(Turned(), torch.randn(3, 5, 3))


@pytest.mark.parametrize(
    ("made", "equation"),
    [
        (lambda c: torch.relu(c) ** 2, "h = z h_prev + (1 - z) n"),
        (lambda c: c / 2, "c = f c_prev + (1 - f) g; h = o (c / 2)"),
        (lambda c: c / (1 + c.abs()), "c = f c_prev + (1 - f) g; h = o (c / (1 + c.abs()))"),
    ],
)
def test_a_state_that_is_read_out_is_what_the_code_hands_on(made: Any, equation: str) -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(6, 12)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                f, g, o = self.line(torch.cat([x_t, h], 1)).chunk(3, 1)
                f = torch.sigmoid(f)
                c = f * c + (1 - f) * torch.tanh(g)
                h = torch.sigmoid(o) * made(c)
            return h

    cell = record(Reading(), torch.randn(3, 5, 2))["cell"].cell
    assert cell.equation == equation
