"""A deterministic finite automaton as data: run, compared, made small, written down.

Whether two automata accept the same words, and if not which shortest word tells them apart, is
decided exactly (Hopcroft and Karp 1971): an automaton can be compared with the language that a
network was meant to learn.
"""

from __future__ import annotations

import json
import operator
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grulens.arguments import Accepting, AlphabetLike, Transitions, WordLike
from grulens.errors import AutomatonError, FileError, shown
from grulens.probing.corpus.automata.words import Symbol, Word, read_word, symbols_of, written
from grulens.results import frame
from grulens.tables import html_table
from grulens.words import so_many

#: The version of the file format; a file of another one is refused.
FORMAT = 1
KEYS = ("format", "alphabet", "transitions", "accepting", "start")
#: How many states a table shows.
SHOWN = 40


@dataclass(frozen=True, repr=False)
class DFA:
    """A deterministic finite automaton; two are equal if they are the same, state by state.

    Attributes:
        alphabet: the symbols: a text, or a sequence of texts or of whole numbers.
        transitions: the next state, by state and symbol, (state, symbol).
        accepting: whether a word that ends in the state is accepted, (state,).
        start: the state before the first symbol.

    Raises:
        AutomatonError: these make no automaton.

    >>> even = DFA("ab", [[0, 1], [1, 0]], [True, False])  # an even number of b
    >>> even
    DFA(2 states, alphabet 'ab')
    >>> even.accepts("abba"), even.run("ab")
    (True, (0, 0, 1))
    """

    alphabet: AlphabetLike
    transitions: Transitions
    accepting: Accepting
    start: int = 0

    def __post_init__(self) -> None:
        symbols = symbols_of(self.alphabet)
        rows = self.transitions if isinstance(self.transitions, list | tuple) else ()
        table = tuple(tuple(row) if isinstance(row, list | tuple) else () for row in rows)
        ends = self.accepting if isinstance(self.accepting, list | tuple) else ()
        states = len(table)
        fits = all(
            len(row) == len(symbols) and all(_is_state(to, states) for to in row) for row in table
        )
        if not states or not fits or not _is_state(self.start, states):
            raise AutomatonError(
                "transitions must give, for each state and symbol, the next state, a whole number "
                f"below the number of states, and start must be one; got {len(symbols)} symbols, "
                f"transitions {shown(self.transitions)} and start {shown(self.start)}"
            )
        if len(ends) != states or any(type(end) is not bool for end in ends):
            raise AutomatonError(
                f"accepting must say True or False for each of {states} states, got "
                f"{shown(self.accepting)}"
            )
        for name, value in (("alphabet", symbols), ("transitions", table), ("accepting", ends)):
            object.__setattr__(self, name, tuple(value))

    def __len__(self) -> int:
        return len(self.transitions)

    def run(self, word: WordLike) -> tuple[int, ...]:
        """The states on the way of a word, the first one included.

        Args:
            word: a text, or a sequence of symbols.

        Raises:
            AutomatonError: it is no word over this alphabet.
        """
        states = [self.start]
        for place in read_word(word, self.alphabet):
            states.append(self.transitions[states[-1]][place])
        return tuple(states)

    def accepts(self, word: WordLike) -> bool:
        """Whether a word is accepted.

        Raises:
            AutomatonError: it is no word over this alphabet.
        """
        return bool(self.accepting[self.run(word)[-1]])

    def end(self, word: Word) -> int:
        """The state in which a word ends that is given by the places of its symbols."""
        state = self.start
        for place in word:
            state = self.transitions[state][place]
        return state

    def answer(self, word: Word) -> bool:
        """Whether a word is accepted that is given by the places of its symbols."""
        return bool(self.accepting[self.end(word)])

    def minimised(self) -> DFA:
        """The smallest automaton of the same words (Moore 1956), its states in order of first use.

        Two automata over one alphabet accept the same words exactly if their minimised ones are
        equal.

        >>> DFA("a", [[1], [2], [1]], [True, False, True]).minimised()
        DFA(2 states, alphabet 'a')
        """
        reached = self._reached()
        block = {state: int(self.accepting[state]) for state in reached}
        while True:
            sign = {s: (block[s], *(block[to] for to in self.transitions[s])) for s in reached}
            number: dict[tuple[int, ...], int] = {}
            finer = {state: number.setdefault(sign[state], len(number)) for state in reached}
            if len(number) == len(set(block.values())):
                break
            block = finer
        # states in the order reached, so the first of each block numbers it
        first: dict[int, int] = {}
        for state in reached:
            first.setdefault(finer[state], state)
        return DFA(
            self.alphabet,
            [[finer[to] for to in self.transitions[state]] for state in first.values()],
            [self.accepting[state] for state in first.values()],
        )

    def product(self, other: DFA, accept: Callable[[bool, bool], bool] = operator.and_) -> DFA:
        """The automaton that runs both at once.

        Args:
            other: an automaton over the same symbols, in any order.
            accept: from what the two say to what it says: `operator.and_` is the words of both,
                `or_` those of either, `xor` those on which they differ.

        Raises:
            AutomatonError: the other is no automaton over these symbols.

        >>> even = DFA("a", [[1], [0]], [True, False])
        >>> third = DFA("a", [[1], [2], [0]], [True, False, False])
        >>> sixth = even.product(third)
        >>> len(sixth), [n for n in range(13) if sixth.accepts("a" * n)]
        (6, [0, 6, 12])
        """
        places = self._places_in(other)
        pairs = {(self.start, other.start): 0}
        table: list[list[int]] = []
        for one, two in (todo := [*pairs]):
            row = []
            for symbol, place in enumerate(places):
                pair = self.transitions[one][symbol], other.transitions[two][place]
                if pair not in pairs:
                    todo.append(pair)
                row.append(pairs.setdefault(pair, len(pairs)))
            table.append(row)
        said = [bool(accept(self.accepting[one], other.accepting[two])) for one, two in pairs]
        return DFA(self.alphabet, table, said)

    def difference(self, other: DFA) -> str | tuple[Symbol, ...] | None:
        """The shortest word that one of the two accepts and the other does not, or None.

        Args:
            other: an automaton over the same symbols, in any order.

        Raises:
            AutomatonError: the other is no automaton over these symbols.

        >>> even = DFA("a", [[1], [0]], [True, False])
        >>> even.difference(DFA("a", [[1], [2], [2]], [True, False, True]))
        'aaa'
        >>> even.difference(even.minimised()) is None
        True
        """
        both = self.product(other, operator.xor)
        way: dict[int, Word] = {both.start: ()}
        todo = deque([both.start])
        while todo:
            state = todo.popleft()
            if both.accepting[state]:
                return written(way[state], self.alphabet)
            for place, to in enumerate(both.transitions[state]):
                if to not in way:
                    way[to] = (*way[state], place)
                    todo.append(to)
        return None

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row a state: the next state for each symbol, and `accepting`.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        by_symbol = zip(map(str, self.alphabet), zip(*self.transitions, strict=True), strict=True)
        columns = {symbol: list(states) for symbol, states in by_symbol}
        return frame({**columns, "accepting": list(self.accepting)}, index="state")

    def to_dot(self) -> str:
        """The automaton in Graphviz' language: `dot -Tsvg` draws it.

        >>> print(DFA("ab", [[0, 0]], [True]).to_dot())
        digraph {
          rankdir=LR; node [shape=circle];
          start [shape=none, label=""]; start -> 0;
          0 [shape=doublecircle];
          0 -> 0 [label="a, b"];
        }
        """
        lines = ["digraph {", "  rankdir=LR; node [shape=circle];"]
        lines += [f'  start [shape=none, label=""]; start -> {self.start};']
        lines += [f"  {s} [shape=doublecircle];" for s, end in enumerate(self.accepting) if end]
        for state, row in enumerate(self.transitions):
            labels: dict[int, list[str]] = {}
            for symbol, to in zip(self.alphabet, row, strict=True):
                labels.setdefault(to, []).append(str(symbol))
            for to, names in labels.items():
                text = ", ".join(names).replace("\\", "\\\\").replace('"', '\\"')
                text = text.replace("\n", "\\\\n").replace("\r", "\\\\r")
                lines.append(f'  {state} -> {to} [label="{text}"];')
        return "\n".join([*lines, "}"])

    def to_dict(self) -> dict[str, Any]:
        """The automaton in plain values, as JSON holds them; `from_dict` reads them."""
        return {
            "format": FORMAT,
            "alphabet": list(self.alphabet),
            "transitions": [list(row) for row in self.transitions],
            "accepting": list(self.accepting),
            "start": self.start,
        }

    @classmethod
    def from_dict(cls, held: Any) -> DFA:
        """What `to_dict` gave.

        Raises:
            AutomatonError: these values make no automaton.
        """
        if not isinstance(held, dict) or set(held) != set(KEYS) or held["format"] != FORMAT:
            raise AutomatonError(
                f"an automaton in plain values has the keys {', '.join(KEYS)}, and format "
                f"{FORMAT}; got {shown(held)}"
            )
        return cls(*(held[key] for key in KEYS[1:]))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the automaton to a JSON file, which `load` reads.

        Args:
            path: where to; a file that is there is overwritten.

        Raises:
            OSError: the file cannot be written.
        """
        place = _path(path)
        place.write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")
        return place

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DFA:
        """Read what `save` wrote.

        Raises:
            FileError: the file holds no automaton.
            OSError: the file cannot be read.
        """
        place = _path(path)
        try:
            return cls.from_dict(json.loads(place.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{place} holds no DFA: {error}") from error

    def __repr__(self) -> str:
        states = so_many(len(self), "state")
        alphabet = written(tuple(range(len(self.alphabet))), self.alphabet)
        return f"DFA({states}, alphabet {shown(alphabet, 60)})"

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{'→ ' if state == self.start else ''}{state}",
                "accepts" if self.accepting[state] else "",
                *row,
            )
            for state, row in enumerate(self.transitions[:SHOWN])
        ]
        more = f", the first {SHOWN}" if len(self) > SHOWN else ""
        caption = f"{self!r}: the next state for each symbol{more}"
        return html_table(("state", "", *map(str, self.alphabet)), rows, caption)

    def _reached(self) -> list[int]:
        """The states that some word leads to, nearest first."""
        reached = {self.start: None}
        for state in (todo := [self.start]):
            for to in self.transitions[state]:
                if to not in reached:
                    reached[to] = None
                    todo.append(to)
        return list(reached)

    def _places_in(self, other: Any) -> list[int]:
        """For each symbol its place in the alphabet of another automaton."""
        if not isinstance(other, DFA) or set(other.alphabet) != set(self.alphabet):
            raise AutomatonError(
                f"{self!r} is compared with a DFA over the same symbols, got {shown(other)}"
            )
        places = {symbol: place for place, symbol in enumerate(other.alphabet)}
        return [places[symbol] for symbol in self.alphabet]


def _is_state(value: Any, states: int) -> bool:
    return type(value) is int and 0 <= value < states


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise FileError(f"path must be the name of a file, got {shown(path)}")
    return Path(path)
