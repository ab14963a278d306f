"""An automaton while it is built and compared: which is taken, what stopped it, what to say of it.

From short words to long ones L* gives one automaton after the other. Which of them is taken is
decided on words of their own, so that the words of its fidelity are new to it.
"""

from __future__ import annotations

import math
import random
from typing import Final, Literal

from grulens.job import Job
from grulens.probing.corpus.automata.acceptor import Acceptor, SpentError
from grulens.probing.corpus.automata.clusters import Clustered, clustered
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.fidelity import (
    Agreement,
    by_answer,
    by_length,
    measure,
    shortened,
)
from grulens.probing.corpus.automata.lstar import lstar
from grulens.probing.corpus.automata.sampling import KINDS
from grulens.probing.corpus.automata.search import Search
from grulens.probing.corpus.automata.words import Word

#: So many counterexamples are kept, and so many of them made shorter.
KEPT: Final = 10
SHORTENED: Final = 3


class Build:
    """One automaton while it is built and compared.

    Args:
        acceptor: the network.
        method: how it is built.
        words: words of the user's own.
        lengths: how long words are, from short to long.
        budget: how many words it may be built from.
        sample: how many words are compared for each length and kind.
        threshold: the share on which both must agree.
        seed: where random words come from.
        progress: whether to show progress bars.

    Attributes:
        dfa: what was built, or None.
        clustered: what the clusters were, where they were.
        asked: how many words it was built from.
        fidelity: how often both agree, by length and kind of words.
        done: how many of the comparisons were made.
        counterexamples: words on which they differ, shortest first.
        built: the agreement on the words that it was built from.
        remarks: what must be known of it.
        interrupted: what was stopped, and after how much; "" where nothing was.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        method: Literal["lstar", "clusters"],
        words: list[Word],
        *,
        lengths: tuple[int, ...],
        budget: int,
        sample: int,
        threshold: float,
        seed: int,
        progress: bool,
    ) -> None:
        self.acceptor, self.method, self.words = acceptor, method, words
        self.lengths, self.budget, self.sample = lengths, budget, sample
        self.threshold, self.seed, self.progress = threshold, seed, progress
        self.dfa: DFA | None = None
        self.clustered: Clustered | None = None
        self.interrupted = ""
        self.remarks: list[str] = []
        self.asked = self.done = 0
        self.fidelity: list[Agreement] = []
        self.built: list[Agreement] = []
        self.counterexamples: list[Word] = []
        self._held: dict[DFA, int] = {}

    def run(self, *, tries: int, states: int, clusters: int, layer: str | None) -> None:
        """Build it."""
        acceptor = self.acceptor
        job: Job[None] = Job("automaton", "word", self.budget)
        acceptor.left, acceptor.on_asked = self.budget, job.advance
        finished = False
        with job.watched(bar=self.progress):
            if self.method == "lstar":
                self._ask(tries, states)
            else:
                self.clustered = clustered(
                    acceptor, self.words, clusters=clusters, layer=layer, longest=self.lengths[-1],
                    budget=self.budget, seed=self.seed,
                )  # fmt: skip
                self.dfa = self.clustered.dfa
            finished = True
        self.asked = job.done
        acceptor.left, acceptor.on_asked = None, lambda count: None
        if not finished:
            self.interrupted = f"stopped after {job.done:,} of at most {self.budget:,} words"
            self.remarks.append(self.interrupted)

    def _ask(self, tries: int, states: int) -> None:
        search = Search(
            self.acceptor, self.words, tries=tries, lengths=self.lengths, states=states,
            enough=lambda dfa: self.threshold < 1 and self._holds(dfa) == len(self.lengths),
            rng=random.Random(self.seed),
        )  # fmt: skip
        try:
            for dfa in lstar(self.acceptor, self.acceptor.symbols, search):
                # until one has stood some length, the last one is the best that there is
                if search.stood:
                    self.dfa = search.stood[-1]
                elif len(dfa) <= states:
                    self.dfa = dfa
        except SpentError as error:
            self.remarks.append(
                f"{error} before an automaton stood {tries:,} words of up to {search.stages[0]} "
                "symbols"
            )
        candidates = list(dict.fromkeys(search.stood))
        if len(candidates) > 1:
            # the one that holds up to the greatest length; of several the smallest
            self.dfa = max(candidates, key=lambda dfa: (self._holds(dfa), -len(dfa)))
        if search.against is not None and self.dfa is search.stood[-1]:
            self.remarks.append(
                "it is good enough, and not exact: threshold=1.0 looks for one that is"
            )

    def _holds(self, dfa: DFA) -> int:
        """At how many of the lengths, from the shortest up, it agrees often enough.

        It is compared on words of their own, which are not those of its fidelity.
        """
        if dfa not in self._held:
            acceptor, found = self.acceptor, Job[list[Agreement]]()
            kept = acceptor.left, acceptor.on_asked
            acceptor.left, acceptor.on_asked = None, lambda count: None
            sample = max(1, self.sample // 4)
            measure(acceptor, dfa, self.lengths, sample, self.seed + 1, found, lambda _: None)
            acceptor.left, acceptor.on_asked = kept
            bad = [one.length for one in found.result or [] if one.share < self.threshold]
            if self.threshold == 1:
                bad += map(len, self._wrong(dfa))
            self._held[dfa] = sum(length < min(bad, default=math.inf) for length in self.lengths)
        return self._held[dfa]

    def _wrong(self, dfa: DFA) -> list[Word]:
        """The words that were asked on which it is wrong."""
        return [word for word, said in self.acceptor.known.items() if dfa.answer(word) != said]

    def compare(self) -> None:
        """Compare what was built with the network."""
        acceptor, dfa = self.acceptor, self.dfa
        job: Job[list[Agreement]] = Job("fidelity", "comparison", len(self.lengths) * len(KINDS))
        wrong: list[Word] = []
        known = {word: said for word, said in acceptor.known.items() if word}
        self._say()
        if dfa is not None:
            if not acceptor.takes_empty:
                dfa = self.dfa = _smaller(dfa, self.method)
                acceptor.known[()] = dfa.answer(())
            wrong = self._wrong(dfa)
            if not self.interrupted:
                with job.watched(bar=self.progress):
                    measure(acceptor, dfa, self.lengths, self.sample, self.seed, job, wrong.append)
                    self._shorten(dfa, wrong)
                if job.note:
                    self.interrupted = job.note
                    self.remarks.append(f"the comparison {job.note}")
        self.fidelity, self.done = job.result or [], job.done
        self._say_unmet()
        self.counterexamples = by_length(wrong)[:KEPT]
        built = dfa if self.clustered is None else self.clustered.dfa
        if built is not None:  # L* may be wrong there, too: on words that showed that another was
            band = range(1, self.lengths[-1] + 1)
            self.built = by_answer(built, known, band, True)

    def _shorten(self, dfa: DFA, wrong: list[Word]) -> None:
        wrong += [shortened(self.acceptor, dfa, word) for word in by_length(wrong)[:SHORTENED]]

    def _say_unmet(self) -> None:
        """Say at which lengths no word was asked that the network accepts, or rejects."""
        lengths = [one for one in self.fidelity if one.kind == "uniform"]
        for does, says in (("accepts", True), ("rejects", False)):
            asked = {len(word) for word, said in self.acceptor.known.items() if said is says}
            none = [
                str(one.length) for one in lengths
                if asked.isdisjoint(range(one.shortest, one.length + 1))
            ]  # fmt: skip
            if none and asked - {0}:
                self.remarks.append(
                    f"no word of up to {', '.join(none)} symbols was found that the network {does}:"
                    " words= that it does are asked, too"
                )

    def _say(self) -> None:
        acceptor = self.acceptor
        answers = {answer for word, answer in acceptor.known.items() if word}
        if self.dfa is not None and len(answers) == 1:
            does = "accepts" if True in answers else "rejects"
            self.remarks.append(
                f"the network {does} every one of the {self.asked:,} words that were asked: give "
                "words= that it answers otherwise, if there are any"
            )
        if not acceptor.takes_empty:
            self.remarks.append("the model takes no empty input: the empty word was not asked")
        if acceptor.alone:
            self.remarks.append(f"words were run one by one: {acceptor.alone}")
        if self.clustered is not None and self.clustered.left:
            self.remarks.append(
                f"the budget left {self.clustered.left:,} of the words= that were given unrecorded"
            )
        if self.clustered is not None and (missing := self.clustered.missing):
            self.remarks.append(
                f"{missing} of {len(self.clustered.centres)} clusters were never seen to go on "
                "with some symbol: such a step leads to a last state, which rejects"
            )


def _smaller(dfa: DFA, method: str) -> DFA:
    """The automaton, or the one that says the opposite of the empty word, if that is smaller.

    One of clusters keeps its states: no step leads to its start.
    """
    if method == "clusters":
        ends = [end != (state == dfa.start) for state, end in enumerate(dfa.accepting)]
        other = DFA(dfa.alphabet, dfa.transitions, ends, dfa.start)
        return min(dfa, other, key=lambda one: len(one.minimised()))
    states = len(dfa)
    accepting = [*dfa.accepting, not dfa.accepting[dfa.start]]
    table = [*dfa.transitions, dfa.transitions[dfa.start]]
    other = DFA(dfa.alphabet, table, accepting, states).minimised()
    return min(dfa, other, key=len)
