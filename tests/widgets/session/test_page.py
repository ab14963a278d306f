"""What marimo asks a screen for: the page that runs, begun as the screen stands."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
import torch
from torch import nn

from grulens import AblationToggles, GateSliders, Lens, NeuronTable, ablate
from grulens.memory import GateMemory


def data(html: str) -> Any:
    found = re.search(r'id="grulens-data">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize("kind", [Lens, GateSliders, NeuronTable, AblationToggles])
def test_a_screen_is_a_page_where_ipywidgets_are_not_drawn(kind: Any) -> None:
    screen = kind(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    screen.session.add(ablate("l0", 2))
    framed = screen._display_()
    told = data(framed.html)
    assert [edit["units"] for edit in told["edits"]] == [[2]]
    assert bool(told["table"]) == (kind in (Lens, NeuronTable))
    assert framed.about == "GRU l0 edited"
    assert "marimo" not in sys.modules
    framed.close()


def test_the_page_begins_as_the_screen_stands() -> None:
    screen = GateSliders(nn.GRU(3, 4, batch_first=True), torch.ones(1, 6, 3))
    screen.signal, screen.order, screen.difference = "z", "activity", True
    screen.colors = "all it is"
    screen.session.pin(2, name="<b>in a string</b>")
    told = data(screen._display_().html)
    seen = {"signal": "z", "order": "activity", "difference": True, "colors": "all it is"}
    assert {name: told["shown"][name] for name in seen} == seen
    assert told["pins"] == [{"layer": "l0", "unit": 2, "name": "<b>in a string</b>"}]


def test_what_no_page_can_show_stays_a_picture() -> None:
    assert not hasattr(GateMemory, "_display_")
