"""L*, asked of oracles that know: it finds exactly their automaton."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from grulens.corpus import DFA
from grulens.probing.corpus.automata.lstar import Table, lstar
from grulens.probing.corpus.automata.words import Word, read_word
from tests.probing.corpus.automata.test_dfa import dfas
from tests.probing.corpus.automata.tomita import TOMITA


class Knows:
    """An oracle that has an automaton; it counts what it is asked."""

    def __init__(self, dfa: DFA) -> None:
        self.dfa = dfa
        self.known: dict[Word, bool] = {(): dfa.answer(())}

    def ask(self, words: list[Word]) -> None:
        self.known.update((word, self.dfa.answer(word)) for word in words)

    def counterexample(self, table: Table, dfa: DFA) -> Word | None:
        found = self.dfa.difference(dfa)
        return None if found is None else read_word(found, dfa.alphabet)


@given(dfas(most=8))
def test_it_finds_the_smallest_automaton(made: tuple[Any, ...]) -> None:
    dfa = DFA(*made)
    oracle = Knows(dfa)
    found = list(lstar(oracle, dfa.alphabet, oracle.counterexample))
    assert found[-1].minimised() == dfa.minimised()
    assert len(found[-1]) == len(dfa.minimised())
    sizes = [len(one) for one in found]
    assert sizes == sorted(set(sizes))  # each has more states than the one before


@given(dfas(most=5, alphabet=("ab",)))
def test_long_counterexamples_do_as_well(made: tuple[Any, ...]) -> None:
    dfa = DFA(*made)
    oracle = Knows(dfa)

    def long(table: Table, one: DFA) -> Word | None:
        """A counterexample with as long a tail as still tells them apart."""
        word = oracle.counterexample(table, one)
        tails = [] if word is None else [word + (0, 1, 1) * 7 + (1,) * n for n in range(9)]
        return next((w for w in tails if one.answer(w) != dfa.answer(w)), word)

    assert list(lstar(oracle, dfa.alphabet, long))[-1].minimised() == dfa.minimised()


def test_an_automaton_agrees_with_all_that_was_asked() -> None:
    for dfa in TOMITA.values():
        oracle = Knows(dfa)
        last = list(lstar(oracle, dfa.alphabet, oracle.counterexample))[-1]
        assert last.minimised() == dfa.minimised()
        assert all(last.answer(word) == said for word, said in oracle.known.items())
        assert len(oracle.known) < 100
