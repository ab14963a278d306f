"""How often an automaton answers as its network does, by length, on words it was not built from.

One number hides what matters: an automaton may agree on short words and on no long one, or on every
word that is rejected; one that rejects all of them agrees nearly always with a network of (10)*. So
agreement is counted for each length and each kind of words, by what the automaton says of them and
by what the network says, with Wilson's interval (Wilson 1927, J. Am. Stat. Assoc. 22:209), and the
lowest decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from grulens.job import Job
from grulens.probing.corpus.automata.acceptor import Acceptor
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.sampling import KINDS, Sampler
from grulens.probing.corpus.automata.words import Word
from grulens.words import message

#: Of a normal distribution, 95% lie within so many standard deviations.
Z = 1.959963984540054
#: By so many symbols words of one length may be shorter.
BAND = 5
WORDS = {
    "uniform": message("drawn evenly"),
    "accepted": message("that it accepts"),
    "rejected": message("that it rejects"),
    "near": message("near accepted ones"),
    "network accepts": message("that the network accepts"),
    "network rejects": message("that the network rejects"),
}
"""The kinds of words, and what they are: four that are drawn, and all of those by the answers."""


@dataclass(frozen=True)
class Agreement:
    """How often an automaton and its network agree on words of about one length and one kind.

    Attributes:
        shortest: how many symbols the shortest words may have.
        length: how many the longest may have.
        kind: "uniform", drawn evenly from all words; "accepted" and "rejected", evenly from those
            that the automaton accepts and rejects; "near", one symbol away from accepted ones, or
            accepted ones stretched to the length; "network accepts" and "network rejects", all of
            these together by what the network says.
        words: how many were compared; none of them was used in building.
        agree: on how many of them both answer alike.
        every: whether these are all words of that length and kind that building left.

    >>> found = Agreement(5, 10, "uniform", 200, 190, False)
    >>> found.share, [round(end, 3) for end in found.interval]
    (0.95, [0.91, 0.973])
    """

    shortest: int
    length: int
    kind: str
    words: int
    agree: int
    every: bool

    @property
    def share(self) -> float:
        """The share of words on which both agree."""
        return self.agree / self.words

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval for that share; the share itself where every word was compared."""
        if self.every:
            return self.share, self.share
        n, p = self.words, self.share
        middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        # at the ends both are the share itself, but for rounding
        return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))

    def __str__(self) -> str:
        return (
            f"{self.agree} of {self.words} words of {self.shortest} to {self.length} symbols "
            f"{WORDS[self.kind]}"
        )


def measure(
    acceptor: Acceptor,
    dfa: DFA,
    lengths: Sequence[int],
    sample: int,
    seed: int,
    job: Job[list[Agreement]],
    wrong: Callable[[Word], object],
) -> None:
    """Compare an automaton with its network; the agreements so far are `job.result`.

    Args:
        acceptor: the network, which knows the words that the automaton was built from.
        dfa: the automaton.
        lengths: how long the words are: of each length, and up to five symbols shorter, since a
            language may have no word of that very length.
        sample: how many words of each length and kind.
        seed: where they come from.
        job: is watched, and ends it.
        wrong: called with each word on which they differ.
    """
    built = frozenset(acceptor.known)
    sampler = Sampler(dfa, [word for word in by_length(built) if acceptor.known[word]], seed)
    job.result = []
    for before, length in zip((0, *lengths), lengths, strict=False):
        band = range(max(before + 1, length - BAND), length + 1)
        together: dict[Word, bool] = {}
        whole = False
        for kind in KINDS:
            words, every = sampler.over(kind, band, sample, built.__contains__)
            acceptor.ask(words)
            job.check()
            differ = [word for word in words if dfa.answer(word) != acceptor.known[word]]
            for word in differ:
                wrong(word)
            if words:
                agree = len(words) - len(differ)
                job.result.append(Agreement(band[0], length, kind, len(words), agree, every))
            together.update((word, acceptor.known[word]) for word in words)
            whole = whole or (kind == "uniform" and every)
            if kind == KINDS[-1]:
                job.result += by_answer(dfa, together, band, whole)
            job.advance()


def by_answer(dfa: DFA, answers: dict[Word, bool], band: range, every: bool) -> list[Agreement]:
    """The agreement on words that the network accepts, and on those that it rejects."""
    found = []
    for said, kind in ((True, "network accepts"), (False, "network rejects")):
        words = [word for word, answer in answers.items() if answer is said]
        if words:
            agree = sum(dfa.answer(word) is said for word in words)
            found.append(Agreement(band[0], band[-1], kind, len(words), agree, every))
    return found


def by_length(words: Iterable[Word]) -> list[Word]:
    """Different words from the shortest up: in the same order in every process."""
    return sorted(set(words), key=lambda word: (len(word), word))


def shortened(acceptor: Acceptor, dfa: DFA, word: Word) -> Word:
    """A word on which both differ, without symbols that it does not take for that.

    Spans are left out as long as both still differ, the longest first (Zeller and Hildebrandt 2002,
    IEEE Trans. Softw. Eng. 28:183).
    """
    span = max(1, len(word) // 2)
    while span:
        shorter = [word[:at] + word[at + span :] for at in range(len(word) - span + 1)]
        shorter = [some for some in shorter if some or acceptor.takes_empty]
        acceptor.ask(shorter)
        differ = [some for some in shorter if dfa.answer(some) != acceptor.known[some]]
        if differ:
            word = differ[0]
            span = min(span, len(word))
        else:
            span //= 2
    return word
