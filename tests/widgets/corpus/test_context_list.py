"""Lines of text on the colours of their values: what stands there is read on every page."""

from __future__ import annotations

import re

import numpy as np
import pytest

from grulens.probing.corpus.scan.place import Context, Place
from grulens.views.corpus.contexts import CUT
from grulens.views.figure.palette import COLORS, LEVELS, PAGES, linear
from grulens.widgets.corpus.context_list import ContextList, Line, looks


def luminance(color: str) -> float:
    long = color if len(color) == 7 else "#" + "".join(2 * c for c in color[1:])
    return float((linear((long,)) @ [0.2126, 0.7152, 0.0722])[0])


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("signal", COLORS)
def test_ink_is_read_on_every_ground_also_beside_what_is_meant(signal: str) -> None:
    values = np.repeat(np.linspace(-1.0, 1.0, LEVELS), 2)
    found = looks(values, [True, False] * LEVELS, signal, (-1.0, 1.0))
    assert len(found["looks"]) > LEVELS
    assert sorted(set(found["look"])) == list(range(len(found["looks"])))
    for look in found["looks"]:
        for ground, ink in zip(look[::2], look[1::2], strict=True):
            assert not ground or contrast(ground, ink) >= 4.5, look
    # beside what is meant a ground pales into the page it is on
    for at in range(2, len(values), 26):
        inside, beside = (found["looks"][found["look"][i]] for i in (at, at + 1))
        for mine, paler, page in zip(inside[::2], beside[::2], PAGES.values(), strict=True):
            assert contrast(paler, page) <= contrast(mine, page)


def test_none_of_a_count_is_the_page_and_more_of_it_stands_out_more() -> None:
    found = looks(np.arange(4.0), [True] * 4, "weight", (0.0, 3.0))
    none, *some = (found["looks"][i] for i in found["look"])
    assert none == ["", "", "", ""]
    for at, page in ((0, PAGES["light"]), (2, PAGES["dark"])):
        out = [contrast(look[at], page) for look in some]
        assert out == sorted(out)
        assert out[-1] > 2.5


def test_no_text_is_paler_than_its_ink() -> None:
    pale = re.findall(r"([^{}]+)\{[^}]*opacity:", re.sub(r"/\*.*?\*/", "", ContextList._css))
    assert all("curve" in rule for rule in pale)


def test_what_has_no_value_has_no_ground() -> None:
    place = Place(0, 0, 0, 0, 0, 2)
    listed = ContextList()
    listed.show([Line("1", Context(place, ("a", "b"), (), None), place, np.zeros((0, 2), bool))],
                [], (0.0, 1.0))  # fmt: skip
    line = listed.shown["lines"][0]
    assert (line["looks"], line["look"]) == ([], [])


def test_a_token_that_is_cut_is_whole_where_one_points_at_it() -> None:
    found, word = ContextList(), "antidisestablishmentarianism"
    context = Context(Place(0, 0, 0, 0, 0, 2), (word, "a"), (), (0.5, 1.0))
    found.show([Line("1", context, context.place, np.zeros((0, 2), bool))], [], (-1.0, 1.0))
    (line,) = found.shown["lines"]
    assert line["spaced"] is False
    assert line["tokens"][0] == f"{word[: CUT * 3 - 1]}…"
    assert line["tips"] == [f"step 0: 0.500 · {word}", "step 1: 1.000"]
