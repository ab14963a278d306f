"""Other kinds of cell in the lens and in what is saved: each shows the signals that it has."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import traitlets as tl
from torch import Tensor, nn

from grulens import GateSliders, Lens, Session, clamp, scale, shift
from grulens.adapters import RecurrentCell, SequenceAdapter, Signal, activated, register
from grulens.cells.kinds.lstm import LSTM
from grulens.credit import CreditBars
from grulens.phrases import PhraseTree
from grulens.views.figure.palette import ACCENT, PALETTE
from grulens.widgets.dynamics.colors import choices, coloured, unit_of
from tests.widgets.observed_cells import made

SIGNALS = {"RNN": ("h", "a"), "LSTM": ("h", "i", "f", "g", "o", "c")}


def opened(kind: str) -> Session:
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 5, batch_first=True)
    return Session(module, torch.randn(1, 6, 3), readout=lambda out: out[0])


def test_a_mask_stays_between_its_bounds() -> None:
    controls = GateSliders(*made("masked")).controls
    masks = {mode: controls._all[mode, "m"] for mode in ("scale", "set", "shift")}
    for mode in ("scale", "set"):
        assert (masks[mode].min, masks[mode].max, masks[mode].disabled) == (0.0, 1.0, False)
    assert masks["shift"].disabled
    assert "no activation: scale or set it" in masks["shift"].tooltip
    assert controls._all["scale", "z"].max == 2.0
    assert controls._all["shift", "z"].disabled, "it is cut out behind its activation"
    gates = GateSliders(*made("norm")).controls._all
    assert (gates["scale", "z"].max, gates["shift", "z"].disabled) == (2.0, False)
    assert "before the activation" in gates["shift", "z"].tooltip
    plain = GateSliders(opened("RNN")).controls._all["shift", "a"]
    assert (plain.disabled, plain.max) == (False, 8.0)
    assert plain.tooltip == "shift the pre-activation: add to it"


def test_a_slider_that_waits_for_its_run_is_not_set_back_by_another_one_s() -> None:
    session = opened("GRU")
    controls = GateSliders(session).controls
    with session.lock:  # as if another run took its time
        controls.sliders["z"].set_state({"value": 0.1 + 0.2})
        controls.sliders["r"].value = 0.25
    assert controls._moves["scale", "z"].wait(60.0)
    assert [(slot.edit.signal, slot.edit.amount) for slot in session.slots] == [
        ("r", 0.25), ("z", 0.3),
    ]  # fmt: skip
    assert controls.sliders["z"].value == pytest.approx(0.3)


@pytest.mark.parametrize("kind", SIGNALS)
def test_each_shows_its_own_signals_and_moves_them(kind: str) -> None:
    session = opened(kind)
    screen = GateSliders(session)
    assert screen._signal.index == 0
    assert tuple(name for _, name in screen._signal.options) == SIGNALS[kind]
    assert tuple(screen.controls.sliders) == tuple(
        name for name in SIGNALS[kind][1:] if name not in session.now.cell.states
    )
    for name in SIGNALS[kind]:
        screen.signal = name
        assert list(screen._heat.mapper.palette) == list(PALETTE[session.now.cell.signal(name)])
        assert f"{session.now.cell.signal(name).words} {name}" in screen._heat.root.title.text
        assert "<svg" in screen.still() or "data:image" in screen.still()
        screen.difference = True
        screen.difference = False
    with pytest.raises(tl.TraitError, match=f"signal must be one of .*, got {'z'!r}"):
        screen.signal = "z"
    first = next(iter(screen.controls.sliders))
    slider = screen.controls.sliders[first]
    assert slider.style.handle_color == ACCENT[session.now.cell.signal(first)]
    slider.value = 0.25
    assert session.on[0].signal == first
    assert float(session.moved.max()) > 0
    assert screen._errors.value == ""
    screen.controls.resets[first].click()
    assert session.edited is session.baseline
    screen.close()


def test_what_is_set_stays_within_what_a_signal_can_be() -> None:
    session = opened("LSTM")
    screen = GateSliders(session)
    screen.controls.mode.value = "set"
    ends = {name: (s.min, s.max) for name, s in screen.controls.sliders.items()}
    assert ends == {"i": (0, 1), "f": (0, 1), "g": (-1, 1), "o": (0, 1)}
    screen.controls.sliders["f"].value = 1.0
    assert session.on == [clamp("l0", "f", value=1.0)]
    screen.close()
    rnn = GateSliders(opened("RNN"))
    rnn.controls.mode.value = "set"
    assert (rnn.controls.sliders["a"].min, rnn.controls.sliders["a"].max) == (-4.0, 4.0)
    rnn.close()


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_lens_opens_is_still_and_is_saved(kind: str, tmp_path: Path) -> None:
    session = opened(kind)
    session.add(shift("l0", SIGNALS[kind][1], [1], by=2.0))
    lens = Lens(session)
    assert session.on[0].words() in lens.still()
    html = lens.save(tmp_path / "lens.html", weights=False).read_text()
    pickers = re.findall(r'"options":(\[\[.*?\]\])', html)
    offered = [sorted(name for name, _ in json.loads(picker)) for picker in pickers]
    assert sorted(SIGNALS[kind]) in offered
    assert all(panel._errors.value == "" for panel in (lens, lens.gates, lens.toggles))
    lens.close()


class Mixed(nn.Module):
    """Layers of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lstm(self.gru(x)[0])[0]
        return out


def test_another_kind_of_layer_brings_its_sliders_and_signals() -> None:
    torch.manual_seed(0)
    session = Session(Mixed(), torch.randn(1, 6, 3))
    screen = GateSliders(session)
    screen.signal = "z"
    assert list(screen.controls.sliders) == ["r", "z", "n"]
    session.layer = "lstm.l0"
    assert screen.signal == "h"
    assert list(screen.controls.sliders) == ["i", "f", "g", "o"]
    assert screen._errors.value == ""
    screen.controls.sliders["o"].value = 0.5
    assert session.on[0].layer == "lstm.l0"
    screen.signal = "c"
    session.layer = "gru.l0"
    assert (screen.signal, screen._signal.value) == ("h", "h")
    assert list(screen.controls.sliders) == ["r", "z", "n"]
    assert "grulens-keep-3" in screen._signal._dom_classes
    assert "grulens-memory-6" not in screen._signal._dom_classes
    screen.close()


class UpdateGated(RecurrentCell):
    """The UGRNN (Collins et al. 2016): its g keeps and its c is new; an LSTM's are others."""

    kind = "UGRNN"
    blocks = ("g", "c")
    signals = (
        Signal("g", "update gate", 0.0, 1.0, "keep"),
        Signal("c", "candidate", -1.0, 1.0, "candidate"),
        Signal("h", "state", -1.0, 1.0, "state", activated=False),
    )

    def compute(self, products: Tensor, state: Tensor, edit: Any = None) -> dict[str, Tensor]:
        pre_g, pre_c = (products + state @ self.weight_hh.T).chunk(2, -1)
        g, c = (
            activated(name, pre, function, edit)[1]
            for name, pre, function in (("g", pre_g, torch.sigmoid), ("c", pre_c, torch.tanh))
        )
        return {"g": g, "c": c}

    def output(self, signals: Mapping[str, Tensor], state: Tensor) -> Tensor:
        return torch.lerp(signals["c"], state, signals["g"])


class Gated(nn.Module):
    """Its module, over time."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(3, 8), nn.Linear(4, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(len(x), 4), []
        for step in x.unbind(1):
            g, c = (self.x(step) + self.h(h)).chunk(2, 1)
            h = torch.lerp(c.tanh(), h, g.sigmoid())
            found.append(h)
        return torch.stack(found, 1)


def test_a_name_that_means_another_thing_elsewhere_means_its_own_here(tmp_path: Path) -> None:
    """Words, colours and ranges are those of the layer's cell, not of an LSTM that shares names."""
    assert [LSTM.signals[i].words for i in (2, 4)] == ["cell candidate", "cell state"]
    register(
        Gated,
        SequenceAdapter(
            lambda m: UpdateGated(m.x.weight, m.h.weight, m.x.bias, None),
            result=lambda module, h, h_n: h,
        ),
    )
    try:
        torch.manual_seed(0)
        session = Session(Gated(), torch.randn(1, 6, 3), tokens=list("abcdef"))
        session.add(scale("l0", "g", 1, by=0.5))
        lens = Lens(session)
        lens.gates.signal = "g"
        assert lens.gates._heat.root.title.text == "update gate g · l0"
        assert lens.gates._heat._ends == (0.0, 1.0)
        assert list(lens.gates._heat.mapper.palette) == list(PALETTE["keep"])
        assert lens.gates.text.painted["palette"] == list(PALETTE["keep"])
        assert lens.gates.controls.sliders["g"].style.handle_color == ACCENT["keep"]
        assert (lens.gates.controls.sliders["c"].description) == "c  candidate"
        said = "update gate of unit 1 times 0.5"
        (line,) = lens.toggles.lines
        assert said in line.words.value
        assert ACCENT["keep"] in line.words.value
        assert said in lens.still()
        assert "update gate g · l0" in lens.still()
        titles = " ".join(column.title for column in lens.table._table.root.columns)
        assert "share of steps with the update gate below 0.1" in titles
        html = lens.save(tmp_path / "lens.html").read_text()
        assert '["g","update gate g"]' in html
        assert "candidate c, edited \\u00b7 l0" in html or "candidate c, edited · l0" in html
        assert "cell state" not in html
        assert [words for words, _ in choices(session)][-2:] == [
            f"update gate of unit {unit_of(session)}", f"candidate of unit {unit_of(session)}"
        ]  # fmt: skip
        _, signal, ends, _ = coloured(session, "g")
        assert (signal.role, ends) == ("keep", (0.0, 1.0))
        lens.close()
    finally:
        register(Gated, None)


class Read(nn.Module):
    """A layer that a Linear reads."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0])
        return out


@pytest.mark.parametrize("kind", SIGNALS)
def test_what_rests_on_a_grus_own_equation_is_refused_where_it_would_stand(kind: str) -> None:
    session = Session(Read(kind), torch.ones(1, 4, 3))
    phrases = PhraseTree(session)
    assert f"layer &#x27;rnn.l0&#x27; is an {kind}." in phrases._built.value
    assert phrases.build.layout.display == "none"
    credit = CreditBars(session)
    for method in ("relevance (LRP)", "contextual decomposition"):
        credit.method = method
        assert credit.wait(60.0)
        assert credit._errors.value == ""
        assert f"No credit by {method}: " in credit._status.value
    credit.close()
    phrases.close()
