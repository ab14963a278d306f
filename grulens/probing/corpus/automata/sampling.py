"""Words of one length to compare a network and an automaton on, drawn in four ways.

Words drawn evenly are seldom those that matter: of the 2^40 words of 40 symbols, 1* has one. So
words are also drawn evenly from those that the automaton accepts and from those that it rejects,
which is exact, by counting the ways through it; and near misses, one symbol away from a word that
the automaton accepts or that the network was seen to accept. What it was seen to accept is made
longer by repeating a part, as a language with an automaton allows (the pumping lemma), or two parts
equally often, as one without allows that needs a counter, such as aⁿbⁿ (Bar-Hillel, Perles and
Shamir 1961): its long words are seldom met otherwise, and the automaton would not be compared on
any.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.words import Word, all_words

KINDS: Final = ("uniform", "accepted", "rejected", "near")
#: Where so few words are left to draw from, all are listed, in place of drawing.
FEW: Final = 2_000


class Counts:
    """How many words of a length an automaton accepts from each state, and even draws of them.

    Args:
        dfa: the automaton.
        accepted: whether its accepted words are meant, or those that it rejects.

    >>> ones = Counts(DFA("01", [[1, 0], [1, 1]], [True, False]), True)
    >>> ones.total(40), ones.draw(random.Random(0), 4)
    (1, (1, 1, 1, 1))
    """

    def __init__(self, dfa: DFA, accepted: bool) -> None:
        self.dfa = dfa
        self._ways = [[int(end is accepted) for end in dfa.accepting]]

    def total(self, length: int) -> int:
        """How many words of a length there are."""
        return self._from(length)[self.dfa.start]

    def draw(self, rng: random.Random, length: int) -> Word:
        """One of them; there must be one."""
        word, state = [], self.dfa.start
        for left in range(length - 1, -1, -1):
            ways = self._from(left)
            row = self.dfa.transitions[state]
            number = rng.randrange(sum(ways[to] for to in row))
            for place, to in enumerate(row):
                number -= ways[to]
                if number < 0:
                    word.append(place)
                    state = to
                    break
        return tuple(word)

    def every(self, length: int) -> Iterator[Word]:
        """All of them, in order."""
        todo: list[tuple[Word, int]] = [((), self.dfa.start)]
        while todo:
            word, state = todo.pop()
            left = length - len(word)
            if not left:
                yield word
                continue
            row = self.dfa.transitions[state]
            ways = self._from(left - 1)
            todo += [((*word, place), to) for place, to in reversed([*enumerate(row)]) if ways[to]]

    def _from(self, length: int) -> list[int]:
        while len(self._ways) <= length:
            last = self._ways[-1]
            self._ways.append([sum(last[to] for to in row) for row in self.dfa.transitions])
        return self._ways[length]


class Sampler:
    """Draws words on which a network and an automaton are compared.

    Args:
        dfa: the automaton.
        accepted: words that the network was seen to accept.
        seed: where random words come from.
    """

    def __init__(self, dfa: DFA, accepted: Sequence[Word], seed: int) -> None:
        self.size, self.rng = len(dfa.alphabet), random.Random(seed)
        self.counts = {"accepted": Counts(dfa, True), "rejected": Counts(dfa, False)}
        self.seeds = [word for word in accepted if word]

    def over(
        self, kind: str, lengths: Sequence[int], wanted: int, known: Callable[[Word], bool]
    ) -> tuple[list[Word], bool]:
        """The same from several lengths, as many of each as of the others."""
        words: list[Word] = []
        whole = True
        for place, length in enumerate(reversed(lengths)):
            share = -(-(wanted - place) // len(lengths))  # of the longest ones first
            some, every = self.draw(kind, length, share, known) if share > 0 else ([], False)
            words += some
            whole = whole and every
        return words, whole

    def draw(
        self, kind: str, length: int, wanted: int, known: Callable[[Word], bool]
    ) -> tuple[list[Word], bool]:
        """Different words of a kind and length that are not known, and whether these are all.

        Args:
            kind: one of `KINDS`.
            length: how long they are.
            wanted: how many, if there are so many.
            known: whether a word is known, and so not wanted.
        """
        every = self._every(kind, length)
        if every is not None:
            new = [word for word in every if not known(word)]
            return sorted(self.rng.sample(new, min(wanted, len(new)))), len(new) <= wanted
        found: dict[Word, None] = {}
        for _ in range(5 * wanted):
            word = self._one(kind, length)
            if word is not None and not known(word):
                found[word] = None
            if len(found) == wanted:
                break
        return list(found), False

    def _every(self, kind: str, length: int) -> list[Word] | None:
        """All words of a kind and length, where they are few."""
        if kind == "uniform":
            few = length * self.size <= FEW and self.size**length <= FEW
            return list(all_words(self.size, length)) if few else None
        if kind in self.counts and self.counts[kind].total(length) <= FEW:
            return list(self.counts[kind].every(length))
        return None

    def _one(self, kind: str, length: int) -> Word | None:
        if kind == "uniform":
            return tuple(self.rng.randrange(self.size) for _ in range(length))
        return self._near(length) if kind == "near" else self.counts[kind].draw(self.rng, length)

    def _near(self, length: int) -> Word | None:
        """A near miss; or a word that the network accepts, a part of it repeated to the length."""
        rng = self.rng
        counts = self.counts["accepted"]
        if self.seeds and rng.random() < 0.5:
            seed, change = rng.choice(self.seeds), rng.random() < 0.5
            two = _stretched_twice(rng, seed, length) if rng.random() < 0.5 else None
            word = two or _stretched(rng, seed, length)
        elif counts.total(length):
            word, change = counts.draw(rng, length), True
        else:
            return None
        if change and word:
            at = rng.randrange(length)
            word = (*word[:at], rng.randrange(self.size), *word[at + 1 :])
        return word


def _stretched(rng: random.Random, word: Word, length: int) -> Word:
    """A word made as long as that by repeating or leaving out a part of it."""
    begin = rng.randrange(len(word))
    end = rng.randrange(begin + 1, len(word) + 1)
    head, part, tail = word[:begin], word[begin:end], word[end:]
    times = max(0, length - len(head) - len(tail)) // len(part) + 1
    stretched = head + part * times
    return (stretched[: max(0, length - len(tail))] + tail)[:length]


def _stretched_twice(rng: random.Random, word: Word, length: int) -> Word | None:
    """A word made as long as that by repeating two parts equally often; None if it does not fit.

    >>> {_stretched_twice(random.Random(seed), (0, 1), 6) for seed in range(9)} - {None}
    {(0, 0, 0, 1, 1, 1)}
    """
    if len(word) < 2:
        return None
    one, two = sorted(rng.sample(range(len(word)), 2))
    ends = rng.randint(one + 1, two), rng.randint(two + 1, len(word))
    parts = word[one : ends[0]], word[two : ends[1]]
    more, left = divmod(length - len(word), sum(map(len, parts)))
    if left or more < 0:
        return None
    return (
        word[:one]
        + parts[0] * (more + 1)
        + word[ends[0] : two]
        + parts[1] * (more + 1)
        + word[ends[1] :]
    )
