"""The search for a word on which an automaton and a network differ, within a stated budget.

No search among words proves that there is none. It looks first where automata that are too small
go wrong: from every state, over every step, along what tells the states apart (the W-method: Chow
1978, IEEE Trans. Softw. Eng. 4:178; with random middles as in Fujiwara et al. 1991, 17:591), then
at random words of all lengths, with symbols that are more or less common in each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from grulens.probing.corpus.automata.acceptor import Acceptor, SpentError
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.lstar import Table
from grulens.probing.corpus.automata.words import Word, all_words

#: So many words are asked before an answer is looked at.
BLOCK = 256
#: So many words, the shortest, are all tried.
SHORT = 500


class Search:
    """Looks for counterexamples, from short words to long ones.

    A network that follows a small automaton on short words may leave it on long ones, and an
    automaton of all its answers would then be large and say little. So the automaton that no word
    up to a length has shown to be wrong is kept, for each length, before longer words are tried.

    Args:
        acceptor: the network.
        words: words of the user's own, which are tried first.
        tries: how many words an automaton must stand at each length.
        lengths: how long words may be, one stage after the other.
        states: how many states an automaton may have.
        enough: whether an automaton that stood a length is good enough; asked where it is shown to
            be wrong on longer words, and then the search ends with it.
        rng: where random words come from.

    Attributes:
        stood: the automata that stood the search, each up to another length.
        against: the word that showed the last one to be wrong though it was good enough, or None.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        words: Iterable[Word],
        *,
        tries: int,
        lengths: Sequence[int],
        states: int,
        enough: Callable[[DFA], bool],
        rng: random.Random,
    ) -> None:
        self.acceptor, self.words, self.tries, self.rng = acceptor, list(words), tries, rng
        self.stages, self.states, self.enough = list(lengths), states, enough
        self.stood: list[DFA] = []
        self.against: Word | None = None

    def __call__(self, table: Table, dfa: DFA) -> Word | None:
        """A word on which the automaton is wrong; None if none is found, or it is good enough.

        Raises:
            SpentError: it has more states than it may have.
        """
        if len(dfa) > self.states:
            raise SpentError(f"an automaton of more than {self.states} states was needed")
        while self.stages:
            wrong = self._at(table, dfa, self.stages[0])
            if wrong is not None:
                if self.stood and self.stood[-1] is dfa and self.enough(dfa):
                    self.against = wrong
                    return None
                return wrong
            self.stood.append(dfa)
            self.stages.pop(0)
        return None

    def _at(self, table: Table, dfa: DFA, longest: int) -> Word | None:
        """A word up to a length on which the automaton is wrong."""
        wrong = self._first((w for w in self.acceptor.known if len(w) <= longest), dfa)
        if wrong is not None:
            return wrong
        size = len(table.symbols)
        fits = (word for word in self._systematic(table, size, longest) if len(word) <= longest)
        # of what is systematic a half at most, whatever the alphabet
        systematic = islice(fits, self.tries // 2)
        own = (word for word in self.words if len(word) <= longest or len(self.stages) == 1)
        stream = chain(own, systematic, self._random(table, size, longest))
        while some := list(islice(stream, BLOCK)):
            self.acceptor.ask(some)
            wrong = self._first(some, dfa)
            if wrong is not None:
                return wrong
        return None

    def _first(self, words: Iterable[Word], dfa: DFA) -> Word | None:
        """The shortest of some words on which the automaton is wrong."""
        known = self.acceptor.known
        wrong = [word for word in words if dfa.answer(word) != known[word]]
        return min(wrong, key=lambda word: (len(word), word), default=None)

    def _systematic(self, table: Table, size: int, longest: int) -> Iterator[Word]:
        short = (word for length in range(longest + 1) for word in all_words(size, length))
        yield from islice(short, SHORT)
        for middle in (1, 2):
            for prefix in table.prefixes:
                for between in all_words(size, middle):
                    for suffix in table.suffixes:
                        yield prefix + between + suffix

    def _random(self, table: Table, size: int, longest: int) -> Iterator[Word]:
        """As many as are left of `tries`, from states and from nowhere in turn."""
        rng = self.rng
        for number in range(self.tries - self.tries // 2):
            length = round(longest ** rng.random())  # as many of 2 to 4 as of 20 to 40
            middle = random_word(rng, size, length)
            if number % 2:
                prefix, suffix = rng.choice(table.prefixes), rng.choice(table.suffixes)
                left = longest - len(prefix) - len(suffix)
                middle = middle if left < 1 else prefix + middle[:left] + suffix
            yield middle


def random_word(rng: random.Random, size: int, length: int) -> Word:
    """A random word; in half of them some symbols are more common than others.

    >>> len(random_word(random.Random(0), 2, 5))
    5
    """
    if rng.random() < 0.5:
        return tuple(rng.randrange(size) for _ in range(length))
    weights = [rng.random() ** 3 + 1e-3 for _ in range(size)]
    return tuple(rng.choices(range(size), weights, k=length))
