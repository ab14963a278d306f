"""Texts from data are shown as characters, whatever they hold."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grulens.views.figure.tokens import plain, visible_name, visible_text

# What BokehJS 3.9 looks for in titles and axis labels before it hands them to MathJax.
TEX = re.compile(r"\$\$[^]*?\$\$|\\\[[^]*?\\\]|\\\([^]*?\\\)".replace("[^]", r"[\s\S]"))


@given(st.text(alphabet="$\\[]()x ", max_size=12))
def test_no_title_can_become_tex(text: str) -> None:
    assert not TEX.search(plain(text))
    assert plain(text).replace("\u2060", "") == text


@given(st.text(max_size=40))
def test_every_character_is_visible_and_the_length_has_a_bound(text: str) -> None:
    shown = visible_text(text, limit=10)
    assert 0 < len(shown) <= 10
    assert shown.isprintable()
    assert " " not in shown


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "<img␣src=x␣onerror=aler…"),
        ("\u202eabc", "\\u202eabc"),
        ("\u00a0", "\\u00a0"),
        (7, "7"),
        (None, "None"),
        ("é函", "é函"),
    ],
)
def test_tokens(token: object, shown: str) -> None:
    assert visible_text(token) == shown


@given(st.text(alphabet="a \n\t\u202e␣", max_size=40))
def test_a_name_keeps_the_spaces_between_its_words_and_no_others(text: str) -> None:
    shown = visible_name(text, limit=60)
    assert 0 < len(shown) <= 60
    assert shown.isprintable()
    assert shown == shown.strip()
    assert "  " not in shown
    assert shown.replace(" ", "␣") == visible_text(text, limit=60)
    assert shown.count(" ") == len(re.findall(r"(?<=[^\s]) (?=[^\s])", text))
