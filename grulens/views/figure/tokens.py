r"""How a token is shown: every character visible, nothing interpreted.

Tokens come from data nobody has checked. Bokeh draws glyph texts and tick labels as plain text
and escapes what a hover tooltip quotes, so `<img onerror=…>` stays those characters there. Two
things are left: text that a person could not see or that reorders its surroundings, and titles and
axis labels, where Bokeh takes $$…$$, \[…\] and \(…\) for TeX.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count
from typing import Final

from grulens.words import message, say

_SHOWN: Final = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}
_BETWEEN: Final = re.compile(r"(?<=\S) (?=\S)")
#: What stands in the rows and columns of figures, more than one of it.
_MANY: Final = {
    "unit": message("units"), "channel": message("channels"), "slice": message("slices"),
    "step": message("steps"), "place": message("places"), "class": message("classes"),
    "label": message("labels"), "phrase": message("phrases"), "new unit": message("new units"),
    "old unit": message("old units"), "label and accuracy": message("label and accuracies"),
}  # fmt: skip
_TEX: Final = re.compile(r"\$(?=\$)|\\(?=[\[\]()])")


def visible_text(token: object, limit: int = 24) -> str:
    r"""A token with its white space drawn and invisible or reordering characters spelled out.

    >>> visible_text("if x:\n"), visible_text("\t"), visible_text("\u202e"), visible_text("\x00")
    ('if␣x:⏎', '⇥', '\\u202e', '␀')
    >>> visible_text("abcdef", limit=4)
    'abc…'
    """
    # long texts are cut before they are looked at: a token may be a whole file
    return _cut(_visible(str(token)[: limit + 1]), limit)


def visible_name(name: object, limit: int = 24) -> str:
    r"""The name of a class, as `visible_text`; a single space between its words stays a space.

    >>> visible_name("class 3"), visible_name(" "), visible_name("a \n"), visible_name("a  b")
    ('class 3', '␣', 'a␣⏎', 'a␣␣b')
    """
    return _cut(" ".join(map(_visible, _BETWEEN.split(str(name)[: limit + 1]))), limit)


def _visible(text: str) -> str:
    return "".join(map(_character, text)) or _SHOWN[""]


def _cut(shown: str, limit: int) -> str:
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _character(char: str) -> str:
    if char in _SHOWN:
        return _SHOWN[char]
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(char)[0] in "CZ":
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char


def different(names: Sequence[str]) -> list[str]:
    """Names of which no two are the same: a later one has a number.

    >>> different(["a", "b…", "b…", "b…"])
    ['a', 'b…', 'b… (2)', 'b… (3)']
    """
    found: list[str] = []
    for name in names:
        ways = chain([name], (f"{name} ({number})" for number in count(2)))
        found.append(next(way for way in ways if way not in found))
    return found


def number(value: float, form: str = "g", sign: str = "-") -> str:
    """A number as Python formats it, its minus as long as a plus, as figures have it.

    >>> number(-0.5, ".2f"), number(1e-05), number(-0.0001, ".2f"), number(float("nan"))
    ('−0.50', '1e−05', '0.00', 'NaN')
    >>> number(2.0, sign="+")
    '+2'
    """
    return f"{value:{sign}z{form}}".replace("-", "−").replace("nan", "NaN")


def set_apart(tokens: Sequence[str]) -> bool:
    """Whether tokens need room between them: words and numbers do, the letters of a text do not.

    >>> set_apart(["the", "cat"]), set_apart(["the", " cat"]), set_apart([*"cat"])
    (True, False, False)
    >>> set_apart(["1", "10", "2"])
    True
    """
    words = sum(len(token) > 1 for token in tokens)
    if words and all(token.isdecimal() for token in tokens):  # 1 and 10 are not 110
        return True
    parted = any(token != token.strip() or not token for token in tokens)
    return 2 * words > len(tokens) and not parted


def several(word: str) -> str:
    """More than one of what a word names, in the language of the screens.

    >>> several("unit"), several("class")
    ('units', 'classes')
    """
    many = _MANY.get(word)
    return say(many or (f"{word}es" if word.endswith("s") else f"{word}s"))


def valid(text: str) -> str:
    r"""A text that can travel: half a surrogate pair becomes the replacement character.

    A byte decoded with "surrogateescape", or one half of an emoji, is no text that JSON or UTF-8
    can carry: the message to the page that holds it would be lost as a whole.

    >>> valid("a\ud83db") == "a\ufffdb", valid("\ud83d\ude00") == "\U0001f600"
    (True, True)
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(text: str) -> str:
    r"""Text for a title or an axis label that Bokeh cannot take for TeX.

    A word joiner, which has no width, parts the delimiters.

    >>> plain("$$x$$") == "$\u2060$x$\u2060$"
    True
    """
    return _TEX.sub(lambda match: match[0] + "\u2060", text)
