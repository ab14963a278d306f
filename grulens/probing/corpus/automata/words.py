"""Words over an alphabet, as people write them and as places of their symbols.

A symbol is a text or a whole number. Where each is one character, a word is a text; else it is a
tuple of symbols. Inside, a word is a tuple of places in the alphabet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from grulens.errors import AutomatonError, shown

Symbol = str | int
Word = tuple[int, ...]
"""The symbols of a word, each by its place in the alphabet."""


def symbols_of(alphabet: Any) -> tuple[Symbol, ...]:
    """The symbols of an alphabet, in order.

    Raises:
        AutomatonError: it is no sequence of different texts, or of different whole numbers.

    >>> symbols_of("ab"), symbols_of([3, 5])
    (('a', 'b'), (3, 5))
    """
    whole = isinstance(alphabet, str | list | tuple | range)
    symbols = tuple(alphabet) if whole else ()
    kinds = {type(symbol) for symbol in symbols}
    if kinds not in ({str}, {int}) or len(set(symbols)) < len(symbols) or "" in symbols:
        raise AutomatonError(
            "an alphabet is a text or a sequence of different symbols, all of them texts or all "
            f"whole numbers, such as '01' or [0, 1]; got {shown(alphabet)}"
        )
    return symbols


def is_text(symbols: Iterable[Symbol]) -> bool:
    """Whether words are texts: every symbol is one character."""
    return all(isinstance(symbol, str) and len(symbol) == 1 for symbol in symbols)


def read_word(word: Any, symbols: Sequence[Symbol]) -> Word:
    """A word as places of its symbols.

    Raises:
        AutomatonError: it is no word over these symbols.

    >>> read_word("bab", ("a", "b")), read_word([5, 3], (3, 5))
    ((1, 0, 1), (1, 0))
    """
    if isinstance(word, list | tuple) or (isinstance(word, str) and is_text(symbols)):
        found = [place_of(symbol, symbols) for symbol in word]
        if None not in found:
            return tuple(place for place in found if place is not None)
    what = "a text" if is_text(symbols) else "a sequence of symbols"
    listed = ", ".join(map(repr, symbols[:20])) + (", ..." if len(symbols) > 20 else "")
    raise AutomatonError(f"a word is {what}, over {listed}; got {shown(word)}")


def place_of(symbol: Any, symbols: Sequence[Symbol]) -> int | None:
    """The place of a symbol; None if it is none of them."""
    fits = type(symbol) in (str, int) and symbol in symbols
    return symbols.index(symbol) if fits else None


def written(word: Word, symbols: Sequence[Symbol]) -> str | tuple[Symbol, ...]:
    """A word as people write it: a text, or a tuple of symbols.

    >>> written((1, 0, 1), ("a", "b")), written((1, 0), (3, 5))
    ('bab', (5, 3))
    """
    found = tuple(symbols[place] for place in word)
    return "".join(map(str, found)) if is_text(symbols) else found


def all_words(symbols: int, length: int) -> Iterator[Word]:
    """Every word of a length, in order.

    >>> list(all_words(2, 2))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    yield from product(range(symbols), repeat=length)
