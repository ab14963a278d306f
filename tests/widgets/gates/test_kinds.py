"""Other kinds of cell in the lens and in what is saved: each shows the signals that it has."""

import json
import re
from pathlib import Path

import pytest
import torch
import traitlets as tl
from torch import Tensor, nn

from grulens import GateSliders, Lens, Session, clamp, shift
from grulens.views.figure.palette import ACCENT, PALETTE

SIGNALS = {"RNN": ("h", "a"), "LSTM": ("h", "i", "f", "g", "o", "c")}


def opened(kind: str) -> Session:
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 5, batch_first=True)
    return Session(module, torch.randn(1, 6, 3), readout=lambda out: out[0])


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
        assert list(screen._heat.mapper.palette) == list(PALETTE[name])
        assert f"{session.now.cell.signal(name).words} {name}" in screen._heat.root.title.text
        assert "<svg" in screen.still() or "data:image" in screen.still()
        screen.difference = True
        screen.difference = False
    with pytest.raises(tl.TraitError, match=f"signal must be one of .*, got {'z'!r}"):
        screen.signal = "z"
    first = next(iter(screen.controls.sliders))
    slider = screen.controls.sliders[first]
    assert slider.style.handle_color == ACCENT[first]
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
    html = lens.save(tmp_path / "lens.html").read_text()
    options = re.search(r'"options":(\[\[.*?\]\])', html)
    assert options
    names = [name for name, _ in json.loads(options[1])]
    assert sorted(names) == sorted(SIGNALS[kind])
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
