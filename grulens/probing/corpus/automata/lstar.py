"""Angluin's L*: the smallest automaton that answers as the network does, from questions alone.

The table of Angluin 1987 (Inf. Comput. 75:87) holds what the network says of prefixes followed by
suffixes; prefixes with different rows are different states. A counterexample gives one new suffix,
found by halving (Rivest and Schapire 1993, Inf. Comput. 103:299). Weiss, Goldberg and Yahav 2018
(arXiv:1711.09576) took a recurrent network as the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.words import Symbol, Word

Row = tuple[bool, ...]


@runtime_checkable
class Oracle(Protocol):
    """What says which words are accepted."""

    known: dict[Word, bool]

    def ask(self, words: list[Word]) -> None:
        """Have the answers of these words in `known`."""


Counterexample = Callable[["Table", DFA], Word | None]
"""From a table and its automaton to a word on which that is wrong, or None."""


class Table:
    """The observation table.

    Args:
        oracle: what says which words are accepted.
        symbols: the alphabet.

    Attributes:
        prefixes: words that lead to different states, one a state, in the order of the states.
        suffixes: what tells the states apart.
    """

    def __init__(self, oracle: Oracle, symbols: Sequence[Symbol]) -> None:
        self.oracle, self.symbols = oracle, symbols
        self.prefixes: list[Word] = [()]
        self.suffixes: list[Word] = [()]

    def row(self, prefix: Word) -> Row:
        """What the oracle says of a prefix followed by each suffix."""
        known = self.oracle.known
        return tuple(known[prefix + suffix] for suffix in self.suffixes)

    def after(self, prefix: Word) -> list[Word]:
        """A prefix, one symbol longer."""
        return [(*prefix, place) for place in range(len(self.symbols))]

    def close(self) -> None:
        """Ask, and take in prefixes, until every step from a state leads to a state."""
        rows: set[Row] = set()
        done = 0
        while done < len(self.prefixes):
            new = self.prefixes[done:]
            done = len(self.prefixes)
            heads = [*new, *(longer for prefix in new for longer in self.after(prefix))]
            self.oracle.ask([head + suffix for head in heads for suffix in self.suffixes])
            rows.update(self.row(prefix) for prefix in new)
            for longer in (longer for prefix in new for longer in self.after(prefix)):
                if (row := self.row(longer)) not in rows:
                    rows.add(row)
                    self.prefixes.append(longer)

    def dfa(self) -> DFA:
        """The automaton of a closed table."""
        state = {self.row(prefix): number for number, prefix in enumerate(self.prefixes)}
        table = [
            [state[self.row(longer)] for longer in self.after(prefix)] for prefix in self.prefixes
        ]
        return DFA(self.symbols, table, [self.oracle.known[prefix] for prefix in self.prefixes])

    def learn(self, dfa: DFA, word: Word) -> None:
        """Take in the suffix of a counterexample that shows a state to be two.

        Up to some step the oracle says of the state that the automaton is in what it says of the
        word itself, and after it something else: halving finds such a step.
        """
        low, high = 0, len(word)
        first = self._said(dfa, word, 0)
        while high - low > 1:
            middle = (low + high) // 2
            if self._said(dfa, word, middle) == first:
                low = middle
            else:
                high = middle
        self.suffixes.append(word[high:])

    def _said(self, dfa: DFA, word: Word, step: int) -> bool:
        asked = self.prefixes[dfa.end(word[:step])] + word[step:]
        self.oracle.ask([asked])
        return self.oracle.known[asked]


def lstar(
    oracle: Oracle, symbols: Sequence[Symbol], counterexample: Counterexample
) -> Iterator[DFA]:
    """The automata of L*, each with more states than the one before; the last has stood the search.

    Args:
        oracle: what says which words are accepted; it knows the empty word.
        symbols: the alphabet.
        counterexample: the search for a word on which an automaton is wrong.

    >>> from grulens.probing.corpus.automata.dfa import DFA
    >>> class Threes:  # accepts words whose length three divides
    ...     def __init__(self):
    ...         self.known = {(): True}
    ...     def ask(self, words):
    ...         self.known.update((word, len(word) % 3 == 0) for word in words)
    >>> def search(table, dfa):
    ...     return next(((0,) * n for n in range(9) if dfa.answer((0,) * n) != (n % 3 == 0)), None)
    >>> list(lstar(Threes(), ("a",), search))
    [DFA(2 states, alphabet 'a'), DFA(3 states, alphabet 'a')]
    """
    table = Table(oracle, symbols)
    while True:
        table.close()
        dfa = table.dfa()
        yield dfa
        word = counterexample(table, dfa)
        if word is None:
            return
        table.learn(dfa, word)
