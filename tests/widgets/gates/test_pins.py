"""Pinned units stay lines whatever is chosen next, under names of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grulens import Lens, ablate
from grulens.errors import PositionError
from grulens.views.figure.palette import ACCENT, AFTER
from grulens.views.gates.pinned_lines import FOOT, REACH
from grulens.widgets.session.session import Session
from tests.widgets.observed_cells import ConvGRU


@pytest.fixture
def lens() -> Iterator[Lens]:
    torch.manual_seed(0)
    made = Lens(nn.GRU(3, 8, batch_first=True), torch.randn(1, 40, 3))
    yield made
    made.close()


def placed(values: Any, foot: float, ends: tuple[float, float]) -> Any:
    low, high = ends
    return foot + REACH * (np.asarray(values) - low) / (high - low)


def test_the_chosen_units_are_pinned_and_named_by_hand(lens: Lens) -> None:
    session, pin, lines = lens.session, lens.gates.pin, lens.gates._pinned
    assert pin.pin.disabled
    assert not lines.root.visible
    session.units = (2, 5)
    pin.pin.click()
    assert session.pins == {"l0": {2: "", 5: ""}}
    assert pin.name.layout.display == "none"  # a name is one unit's
    session.units = (2,)
    pin.name.value = "in a string"
    session.units = ()
    assert session.pinned == {2: "in a string", 5: ""}
    assert lines.root.visible
    h = session.before.h[0].numpy()
    session.step = 7
    assert lines.said.data["text"][0].startswith("unit 2 · in a string")
    for unit, foot, line in zip((2, 5), (1 + FOOT, FOOT), lines.lines.data["ys"], strict=True):
        np.testing.assert_allclose(line, placed(h[:, unit], foot, (-1, 1)), atol=1e-6)
    session.units = (2,)
    assert pin.name.value == "in a string"
    pin.pin.click()
    assert session.pinned == {5: ""}


def test_lines_are_of_the_signal_shown_over_those_without_edits(lens: Lens) -> None:
    session, lines = lens.session, lens.gates._pinned
    session.pin(3)
    assert lines._before.data["ys"] == []
    session.add(ablate("l0", 3))
    foot = FOOT
    np.testing.assert_allclose(lines.lines.data["ys"][0], placed(np.zeros(40), foot, (-1, 1)))
    before = session.before.h[0, :, 3].numpy()
    np.testing.assert_allclose(
        lines._before.data["ys"][0], placed(before, foot, (-1, 1)), atol=1e-6
    )
    lens.gates.signal = "z"
    assert lines._line.glyph.line_color == ACCENT["keep"]
    lens.gates.difference = True
    assert lines._line.glyph.line_color == AFTER
    assert lines._before.data["ys"] == []
    session.unpin()
    assert session.pins == {}
    assert not lines.root.visible


def test_a_channel_is_pinned_by_its_first_unit() -> None:
    torch.manual_seed(0)
    lens = Lens(ConvGRU(), torch.randn(2, 5, 1, 3, 4), space="mean")
    seen = lens.gates._seen
    lens.session.units = seen.units([1])
    lens.gates.pin.pin.click()
    assert lens.session.pinned == {12: ""}
    assert lens.gates._pinned.said.data["text"][0].startswith("channel 1")
    h = seen.values(lens.session.before.h)[1]
    ends = lens.gates._ends(lens.gates._values())
    np.testing.assert_allclose(
        lens.gates._pinned.lines.data["ys"][0], placed(h, FOOT, ends), atol=1e-6
    )
    lens.close()


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ({"l0": {8: ""}}, r"8 is no unit of layer 'l0', which has 8 \(0 to 7\)"),
        ({"l0": {True: ""}}, "True is no unit"),
        ({"l0": [3]}, "pins are names by unit, by layer"),
        ({"l0": {3: None}}, "the name of a pinned unit is a text, got None"),
        ({"other": dict.fromkeys(range(25), "")}, "24 units of a layer are pinned at most, got 25"),
    ],
)
def test_what_cannot_be_pinned_is_refused(pins: Any, words: str) -> None:
    session = Session(nn.GRU(3, 8), torch.randn(4, 1, 3))
    session.pin(1, name="one")
    with pytest.raises(PositionError, match=words):
        session.pins = pins
    with pytest.raises(PositionError, match="none is given, and none is chosen"):
        session.pin()
    assert session.pins == {"l0": {1: "one"}}
