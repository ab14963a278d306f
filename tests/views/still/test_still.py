"""The still picture needs nothing from outside and lets nothing from inside out."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from grulens.cells import kinds
from grulens.views.figure.palette import COLORS
from grulens.views.still import lens as still
from grulens.views.still.automaton import automaton
from grulens.views.still.units import MOST, units

H = kinds.GRU.signals[-1]

HOSTILE = "</b><img src=x onerror=alert(1)>\"'"


def whole() -> str:
    h = np.linspace(-1, 1, 12).reshape(3, 4)
    return still.compose(
        still.heatmap(
            h, signal=H, units=np.array([5, 1, 0]), layer=HOSTILE, selected=[1, 2, 5], times=[3]
        ),
        still.tokens(h[0], signal=H, tokens=[HOSTILE] * 4, name=HOSTILE),
        still.output([HOSTILE], np.array([0.25]), np.array([0.75]), step=2, quantity=HOSTILE),
        still.edits([HOSTILE]),
    )


def test_it_is_self_contained_and_escaped() -> None:
    html = whole()
    assert "<img src=x" not in html
    assert "onerror=alert(1)>" not in html
    assert html.count("&lt;img") >= 4
    assert not re.search(r"<script|https?:|url\(", html)
    assert set(re.findall(r'src="([^,]*),', html)) == {"data:image/png;base64"}


def test_it_says_what_is_there() -> None:
    html = whole()
    for words in ("state h", "units 1–2, 5", "step 3", "before", "after", "0.250", "0.750", ">5<"):
        assert words in html


def test_the_picture_has_the_values_colours() -> None:
    values = np.array([[-1.0, 1.0, 0.5]])
    mask = np.array([True, True, False])
    html = still.heatmap(values, signal=H, units=np.arange(1), mask=mask)
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    picture = Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGBA")
    assert picture.size == (3, 1)
    first, second, padding = (picture.getpixel((i, 0)) for i in range(3))
    assert "#{:02X}{:02X}{:02X}".format(*first[:3]) == COLORS[H][0]
    assert "#{:02X}{:02X}{:02X}".format(*second[:3]) == COLORS[H][-1]
    assert padding[3] == 0


def test_it_has_a_bound() -> None:
    values = np.random.default_rng(0).normal(size=(800, 3000))
    html = still.heatmap(values, signal=H, units=np.arange(800))
    html += still.tokens(values[0], signal=H, tokens=["word"] * 3000)
    assert len(html) < 1_000_000
    assert "and 2200 more steps" in html


def test_every_number_of_a_colour_bar_has_the_minus_of_figures() -> None:
    bar = still.heatmap(np.zeros((1, 2)), signal=H, units=np.arange(1), ends=(-0.75, 0.25))
    assert all(f">{end}<" in bar for end in ("0.25", "−0.25", "−0.75"))


def test_no_edits_are_said() -> None:
    assert still.edits([]) == "<div>no edits</div>"


@pytest.mark.parametrize(("count", "all_of_them"), [(20, True), (21, False)])
def test_rows_with_names_are_named_one_by_one_as_long_as_there_is_room(
    count: int, all_of_them: bool
) -> None:
    names = [f"<label {row}>" for row in range(count)]
    text = still.heatmap(
        np.zeros((count, 3)), signal="difference", units=names, down="label", ends=(-1.0, 1.0)
    )
    assert ("&lt;label 7&gt;" in text) is all_of_them
    assert "&lt;label 0&gt;" in text
    assert "<label" not in text
    assert ">label<" in text


def test_the_first_units_of_a_table_stand_in_its_order_with_what_has_room() -> None:
    count = MOST + 3
    data = {
        "unit": np.arange(count),
        "called": [HOSTILE] * count,
        **{f"z_{end}": np.full(count, 0.25) for end in ("low", "high")},
        **{f"{HOSTILE}{i}": np.zeros(count) for i in range(20)},
        "bars": ["A]y!"] * count,
    }
    html = units(data, np.arange(count)[::-1], signals=kinds.GRU.signals, title=HOSTILE)
    assert "<img" not in html
    rows = [int(row) for row in re.findall(r"<tr[^>]*><td[^>]*>(\d+)<", html)]
    assert rows == list(range(count))[: -MOST - 1 : -1]
    assert "and 3 more" in html
    assert html.count("25%") == 2 * MOST
    assert 2 < html.count("<th ") < 10


def test_an_automaton_has_an_arrow_for_each_pair_of_states_with_all_its_symbols() -> None:
    table, ends = [[1, 1, 0], [2, 0, 1], [2, 2, 2]], [True, False, True]
    html = automaton(table, ends, 1, ["a", HOSTILE[:8], "c"], title=HOSTILE)
    assert "<img" not in html
    assert html.count("<circle") == 3 + 2
    assert html.count("marker-end") == 2 + 3 + 1
    assert ">a, &lt;/b&gt;&lt;img<" in html
    assert ">→1<" in html
    inside = {float(y) for y in re.findall(r'<text x="[^"]+" y="([^"]+)"', html)}
    (high,) = re.findall(r'height="(\d+)" viewBox', html)
    assert 0 < min(inside) < max(inside) < float(high)
