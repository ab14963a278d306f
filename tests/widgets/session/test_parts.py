"""Parts of the lens fold away, sleep meanwhile, and stay so in the next lens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from grulens import Lens
from grulens.errors import GrulensError
from grulens.widgets.session import parts


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_FOLDED", set())


@pytest.fixture
def lens() -> Iterator[Lens]:
    made = Lens(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    yield made
    made.close()


def test_a_part_folds_away_by_its_button_and_by_name(lens: Lens) -> None:
    areas, chosen = lens.gates.areas, lens.parts
    assert chosen.box.layout.display == "none"
    chosen.open.value = True
    assert chosen.box.layout.display is None
    assert [*chosen.buttons] == ["text", "sliders", "answer", "map", "edits", "units"]
    chosen.buttons["map"].value = False
    assert chosen.hidden == ("map",)
    assert areas["map"].layout.display == "none"
    chosen.hidden = ("units", "text")
    assert chosen.hidden == ("text", "units")
    assert areas["map"].layout.display is None
    assert areas["text"].layout.display == lens.table.layout.display == "none"
    assert [chosen.buttons[name].value for name in ("text", "map", "units")] == [False, True, False]
    with pytest.raises(GrulensError, match=r"hidden holds names of parts, text, .*; got 'maps'"):
        chosen.hidden = ("maps",)
    assert chosen.hidden == ("text", "units")


def test_a_table_that_is_not_seen_follows_when_it_is_seen_again(lens: Lens) -> None:
    lens.parts.hidden = ("units",)
    assert lens.table._asleep
    lens.session.set_input(torch.zeros(1, 9, 3))
    assert lens.table._missed
    lens.parts.hidden = ()
    assert not lens.table._asleep
    assert lens.table._missed == {}


def test_the_next_lens_begins_as_the_last_one_was_left(lens: Lens) -> None:
    lens.parts.hidden = ("edits",)
    again = Lens(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    assert again.parts.hidden == ("edits",)
    assert again.gates.areas["edits"].layout.display == "none"
    again.parts.hidden = ()
    again.close()
    assert lens.parts.hidden == ("edits",)
