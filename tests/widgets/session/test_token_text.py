"""The tokens as a text: what the page is sent, and what it may send back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from grulens.cells.signal import Signal
from grulens.views.figure.palette import BLANK_CODE, NAN_CODE, PALETTE
from grulens.widgets.gates.sliders import GateSliders
from grulens.widgets.session.session import Session
from grulens.widgets.session.token_text import TokenText

Z = Signal("z", "update gate", 0.0, 1.0, "keep")


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" ", " "), ("\n", "⏎"), ("\t", "⇥"), ("", "∅"), ("\x00", "␀"), ("\u2028", "\\u2028"),
        ("שלום", "שלום"), ("\U0001f468\u200d\U0001f467", "\U0001f468\u200d\U0001f467"),
        ("\ud83d", "\ufffd"), ("<b>", "<b>"), ("x" * 81, "x" * 80 + "…"), ("a\nb", "a⏎b"),
    ],
)  # fmt: skip
def test_a_token_is_shown_as_itself_but_for_what_nobody_could_see(token: str, shown: str) -> None:
    text = TokenText()
    text.name([token])
    assert text.tokens["texts"] == [shown]


@pytest.mark.parametrize(
    ("tokens", "spaced"),
    [
        (["the", "film", "a"], True), (list("the film"), False), (["the", " film"], False),
        (["The", "##re", "is"], True), ([], False), (["1", "10", "1", "1"], True),
    ],
)  # fmt: skip
def test_words_are_set_apart_and_letters_are_not(tokens: list[str], spaced: bool) -> None:
    text = TokenText()
    text.name(tokens)
    assert text.tokens["spaced"] is spaced


def test_a_text_from_the_right_runs_to_the_left() -> None:
    text = TokenText()
    text.name(["שלום", "עולם", "ok"])
    assert text.tokens["rtl"]
    text.name(["hello", "world", "עולם"])
    assert not text.tokens["rtl"]


def test_colours_are_a_byte_each_and_what_is_no_value_has_its_own() -> None:
    text = TokenText()
    mask = np.array([True, True, True, False])
    text.paint(np.array([0.0, 1.0, np.nan, 0.5]), signal=Z, mask=mask, name="unit 3")
    assert [*text.painted["codes"]] == [0, 252, NAN_CODE, BLANK_CODE]
    assert text.painted["palette"] == list(PALETTE[Z])
    assert np.frombuffer(text.painted["values"], np.float32)[1] == 1.0
    text.paint(np.array([0.0, 1.0]), signal="difference", ends=(-2.0, 2.0))
    assert [*text.painted["codes"]] == [126, 189]
    assert text.painted["ends"] == ["−2", "2"]


def test_what_a_page_chooses_is_heard_and_nonsense_is_not() -> None:
    text, heard = TokenText(), []
    text.name(list("abcdef"))
    text.on_times(heard.append)
    for content in (
        None, {}, {"kind": "other"}, {"kind": "times", "ends": [1]},
        {"kind": "times", "ends": ["1", 2]}, {"kind": "times", "ends": [True, 2]},
    ):  # fmt: skip
        text._received(None, content, [])
    assert not heard
    text._received(None, {"kind": "times", "ends": [4, 2]}, [])
    text.select(heard[-1])
    text._received(None, {"kind": "times", "ends": [3, 99], "toggle": True}, [])
    text._received(None, {"kind": "times", "ends": None}, [])
    assert heard == [(2, 3, 4), (2, 5), ()]
    assert text.times == [[2, 4]]


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(9, 3), nn.GRU(3, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.out(self.rnn(self.embed(ids))[0])
        return answer


def test_words_choose_the_steps_of_an_edit_and_show_the_answer_there() -> None:
    torch.manual_seed(0)
    screen = GateSliders(Tagger(), torch.tensor([[1, 2, 3, 4]]), tokens=["a", "b", "c", "d"])
    text, session = screen.text, screen.session
    assert text.layout.display is None
    assert not screen._strip.root.visible
    text._received(None, {"kind": "times", "ends": [1, 2]}, [])
    assert (session.times, session.step) == ((1, 2), 2)
    assert (text.times, text.step) == ([[1, 2]], 2)
    before = text.painted["codes"]
    screen.controls.sliders["z"].value = 0.1
    assert session.slots[0].edit.at == slice(1, 3)
    assert text.painted["codes"] != before
    session.units = (1,)
    assert text.painted["name"] == "unit 1 · state h"
    screen.difference = True
    assert text.painted["name"] == "unit 1 · edited − baseline"


def test_numbers_have_lines_and_a_strip_in_place_of_a_text() -> None:
    torch.manual_seed(0)
    screen = GateSliders(nn.GRU(3, 4, batch_first=True), torch.randn(2, 7, 3))
    assert screen.text.layout.display == "none"
    assert screen._strip.root.visible
    assert screen._input.root.visible
    x = screen.session.before.x
    np.testing.assert_allclose(screen._input.source.data["x2"], x[0, :, 2].numpy(), rtol=1e-6)
    screen.session.row = 1
    np.testing.assert_allclose(screen._input.source.data["x0"], x[1, :, 0].numpy(), rtol=1e-6)
    wide = GateSliders(nn.GRU(6, 4, batch_first=True), torch.randn(1, 7, 6))
    assert not wide._input.root.visible


def test_the_hint_goes_with_the_first_edit_and_the_bar_has_the_sliders_in_use() -> None:
    torch.manual_seed(0)
    screen = GateSliders(Tagger(), torch.tensor([[1, 2, 3, 4]]), labels=["neg", "pos"])
    assert screen._hint.layout.display is None
    assert screen.bar.layout.display == "none"
    screen.controls.sliders["n"].value = 0.2
    assert screen._hint.layout.display == "none"
    assert screen.bar.children == (screen.controls.sliders["n"], screen._line)
    assert screen.bar.layout.display is None
    assert "→" in screen._line.value
    screen.session.undo()
    assert screen.bar.layout.display == "none"
    assert screen._hint.layout.display == "none"


def test_a_shorter_row_ends_where_it_ends() -> None:
    torch.manual_seed(0)
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    session = Session(nn.GRU(3, 4), packed, tokens=[list("abcd"), list("xy")])
    screen = GateSliders(session)
    assert screen.text.tokens["texts"] == list("abcd")
    session.row = 1
    assert screen.text.tokens["texts"] == list("xy")
    assert len(screen.text.painted["codes"]) == 2


def test_the_colours_of_map_and_text_reach_over_what_is_chosen() -> None:
    torch.manual_seed(0)
    screen = GateSliders(Tagger(), torch.tensor([[1, 2, 3, 4]]), tokens=["a", "b", "c", "d"])
    screen.signal = "z"
    assert screen._heat._ends == (0.0, 1.0)
    screen.colors = "all it is"
    z = screen.session.now.signal("z").detach()
    assert screen._heat._ends == (pytest.approx(float(z.min())), pytest.approx(float(z.max())))
    assert screen.text.painted["ends"] == [f"{end:g}" for end in screen._heat._ends]
    assert f"{screen._heat._ends[1]:g}" in screen.still()
    screen.colors = "1st to 99th percentile"
    assert screen._heat._ends[0] > float(z.min())
    screen.signal = "h"  # its white stays at zero
    assert screen._heat._ends[0] == -screen._heat._ends[1]
    assert screen._heat._ends[1] <= float(screen.session.now.h.abs().max())
