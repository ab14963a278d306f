"""The cell close up as a screen: arrow keys, edits, embeddings, and what it cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bokeh.models import Text
from torch import Tensor, nn

from grulens import CellView, Lens, Session, clamp


@pytest.fixture
def screen(session: Session) -> Iterator[CellView]:
    session.step = 0
    made = CellView(session)
    yield made
    made.close()


def bars(screen: CellView) -> dict[str, float]:
    data = screen._figure.bars.source.data
    return dict(zip(data["label"], data["value"].tolist(), strict=True))


def test_arrow_keys_go_on_in_time_and_over_units_and_stay_at_the_ends(screen: CellView) -> None:
    session = screen.session
    screen.arrows._received(screen.arrows, {"across": 2, "down": 1}, [])
    assert (session.step, session.units) == (2, (1,))
    assert (screen.step.value, screen.unit.value) == (2, 1)
    assert screen.found is not None
    assert (screen.found.step, screen.found.unit) == (2, 1)
    screen.move(across=99, down=-99)
    assert (session.step, session.units) == (5, (0,))
    session.step, session.units = 3, (4, 5)
    assert (screen.step.value, screen.unit.value) == (3, 4)
    screen.unit.value = 2
    assert session.units == (2,)


def test_the_bars_are_the_sum_and_a_token_is_one_until_it_is_unfolded(screen: CellView) -> None:
    found = screen.found
    assert found is not None
    for name in found.blocks:
        screen._figure.drawing._listeners[0](name)
        assert screen.signal.value == name
        parts = bars(screen)
        assert parts["token a"] == pytest.approx(found.total(name)["x"])
        assert parts.pop(f"sum of {name}") == pytest.approx(sum(parts.values()), abs=1e-12)
    screen.unfold.value = True
    assert "token a" not in bars(screen)
    assert "input 3" in bars(screen)
    # what a layer above reads is no word
    screen.session.layer = "rnn.l1"
    assert screen.unfold.layout.display == "none"
    assert "input 3" in bars(screen)


def test_the_words_have_the_colour_of_the_page(screen: CellView) -> None:
    glyphs = [one.glyph for one in screen._figure.drawing.root.renderers]
    words = [glyph for glyph in glyphs if isinstance(glyph, Text)]
    # a colour that Python says is the user's, and stays in every theme
    said = [set(glyph.properties_with_values(include_defaults=False)) for glyph in words]
    assert len(said) == 2
    assert not any("text_color" in one for one in said)


def test_what_an_edit_holds_is_said(screen: CellView) -> None:
    screen.session.units = (1,)
    screen.session.add(clamp("rnn.l0", "z", 1, value=1.0))
    assert "Z is what an edit left here" in screen._words.value
    boxes = screen._figure.drawing.boxes.data
    text = dict(zip(boxes["title"], boxes["text"], strict=True))
    assert "an edit left 1" in text["update gate z"]
    assert "→" in text["reset gate r"]
    assert "as an edit left it" in screen.still()


def test_another_kind_of_cell_has_its_own_signals() -> None:
    screen = CellView(nn.LSTM(3, 4), torch.randn(5, 1, 3))
    assert [value for _, value in screen.signal.options] == ["i", "f", "g", "o"]
    titles = screen._figure.drawing.boxes.data["title"]
    assert {"c_prev", "cell state c", "state h"} <= {*titles}
    assert "h = o tanh(c) = " in screen._words.value
    screen.close()


class Leaky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 2)
        for x_t in x.unbind(1):
            h = 0.5 * h + 0.5 * torch.tanh(self.line(torch.cat([x_t, h], 1)))
        return h


def test_what_was_observed_is_refused_by_name() -> None:
    screen = CellView(Leaky(), torch.ones(1, 4, 3))
    assert "was observed in its module" in screen._said.value
    assert screen.picture.layout.display == "none"
    assert "was observed in its module" in screen.still()
    assert screen._errors.value == ""
    screen.move(across=-1, down=1)
    assert screen.session.step == 2
    screen.close()


def test_a_lens_saves_its_picture(session: Session, tmp_path: Path) -> None:
    lens = Lens(session)
    lens.studies.shown = "cell"
    page = lens.save(tmp_path / "lens.html").read_text(encoding="utf-8")
    assert "what adds up to r" in page
    lens.close()
