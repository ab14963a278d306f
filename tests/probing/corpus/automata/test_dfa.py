"""Automata as data: run, made small, compared, written down and read again."""

from __future__ import annotations

import json
import operator
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grulens.corpus import DFA
from grulens.errors import AutomatonError, FileError, GrulensError
from grulens.probing.corpus.automata.words import all_words, read_word, written
from tests.probing.corpus.automata.tomita import TOMITA


@st.composite
def dfas(draw: Any, most: int = 6, alphabet: Any = ("a", "ab", "abc")) -> tuple[Any, ...]:
    """What any automaton is made of, some of its states perhaps out of reach.

    It is made in the test: beartype looks at random items, which Hypothesis forbids while it draws.
    """
    symbols = draw(st.sampled_from(alphabet))
    states = draw(st.integers(1, most))
    state = st.integers(0, states - 1)
    row = st.lists(state, min_size=len(symbols), max_size=len(symbols))
    table = draw(st.lists(row, min_size=states, max_size=states))
    ends = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    return symbols, table, ends, draw(state)


def language(dfa: DFA, longest: int = 5) -> list[bool]:
    words = (word for length in range(longest + 1) for word in all_words(len(dfa.alphabet), length))
    return [dfa.accepts(written(word, dfa.alphabet)) for word in words]


@given(dfas())
def test_a_minimised_one_accepts_the_same_with_the_fewest_states(made: tuple[Any, ...]) -> None:
    dfa = DFA(*made)
    small = dfa.minimised()
    assert language(small) == language(dfa)
    assert small.minimised() == small
    assert small.start == 0
    # states told apart by words of up to as many symbols as there are states: none can be merged
    tails = [word for n in range(len(small) + 1) for word in all_words(len(dfa.alphabet), n)][:60]
    said = {tuple(DFA(small.alphabet, small.transitions, small.accepting, state).answer(tail)
                  for tail in tails) for state in range(len(small))}  # fmt: skip
    assert len(said) == len(small)


@given(dfas(alphabet=("ab",)), dfas(alphabet=("ab", "ba")))
def test_the_difference_is_a_shortest_word_on_which_they_differ(
    first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    one, other = DFA(*first), DFA(*second)
    found = one.difference(other)
    words = ["".join(word) for n in range(9) for word in product("ab", repeat=n)]
    differ = [word for word in words if one.accepts(word) != other.accepts(word)]
    if found is None:
        assert not differ
        same = [DFA("ab", d.transitions, d.accepting, d.start) if d.alphabet == ("a", "b") else
                DFA("ab", [row[::-1] for row in d.transitions], d.accepting, d.start)
                for d in (one, other)]  # fmt: skip
        assert same[0].minimised() == same[1].minimised()
    else:
        assert one.accepts(found) != other.accepts(found)
        assert not differ or len(found) == len(differ[0])


@given(dfas(most=4, alphabet=("ab",)), dfas(most=4, alphabet=("ab",)))
def test_a_product_says_what_both_say(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    one, other = DFA(*first), DFA(*second)
    for accept in (operator.and_, operator.or_, operator.xor):
        both = language(one.product(other, accept), 5)
        assert both == list(map(accept, language(one, 5), language(other, 5)))


@given(dfas())
def test_it_comes_back_from_a_file_and_from_plain_values(made: tuple[Any, ...]) -> None:
    dfa = DFA(*made)
    assert DFA.from_dict(json.loads(json.dumps(dfa.to_dict()))) == dfa
    assert hash(DFA.from_dict(dfa.to_dict())) == hash(dfa)


def test_a_file_is_json_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = TOMITA[4].save(tmp_path / "four.json")
    assert DFA.load(str(path)) == TOMITA[4]
    assert json.loads(path.read_text())["alphabet"] == ["0", "1"]
    for text in ("", "{}", "[" * 99_999, path.read_text().replace("3]", "7]"), "\x00"):
        path.write_text(text)
        with pytest.raises(FileError, match="holds no DFA"):
            DFA.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match="holds no DFA"):
        DFA.load(path)
    with pytest.raises(FileNotFoundError):
        DFA.load(tmp_path / "nowhere")


def test_a_table_a_picture_and_its_words() -> None:
    four = TOMITA[4]
    frame = four.to_frame()
    assert frame.loc[2].tolist() == [3, 0, True]
    assert (frame.index.name, list(frame.columns)) == ("state", ["0", "1", "accepting"])
    assert repr(four) == "DFA(4 states, alphabet '01')"
    assert four.run("0010") == (0, 1, 2, 0, 1)
    html = DFA(["<b>", "&"], [[0, 0]], [True])._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    dot = DFA(['"', "\\", "\n"], [[0, 0, 0]], [False]).to_dot()
    assert r"\", \\" in dot
    assert dot.count("\n") == 4
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot.encode(), check=True, capture_output=True)


def test_words_of_numbers_and_of_longer_symbols_are_tuples() -> None:
    ids = DFA([7, 9], [[1, 0], [0, 1]], [True, False])
    assert ids.accepts([9, 7, 7])
    assert ids.difference(DFA([9, 7], [[1, 0], [0, 1]], [True, False])) == (7,)
    words = DFA(["if", "else"], [[0, 1], [1, 1]], [True, False])
    assert words.run(("if", "else")) == (0, 0, 1)
    assert words.difference(TOMITA_LIKE) == ("else",)


TOMITA_LIKE = DFA(["if", "else"], [[0, 0]], [True])


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("aa", [[0, 0]], [True]), "an alphabet is a text or a sequence of different symbols"),
        (([1, "a"], [[0, 0]], [True]), "all of them texts or all whole numbers"),
        (("", [[]], [True]), "such as '01' or"),
        (("a", [[1]], [True]), "a whole number below the number of states"),
        (("a", [], []), "a whole number below the number of states"),
        (("a", [[True]], [True]), "transitions must give"),
        (("a", [[0]], [True, False]), "must say True or False for each of 1 states"),
        (("a", [[0]], [1]), "must say True or False for each of 1 states"),
        (("a", [[0]], [True], 1), "start must be one; got 1 symbols"),
        ((None, [[0]], [True]), "got None"),
    ],
)
def test_what_makes_no_automaton_is_refused(given: Any, words: str) -> None:
    with pytest.raises(AutomatonError, match=words):
        DFA(*given)


@pytest.mark.unchecked
def test_what_is_no_word_and_no_automaton_is_refused() -> None:
    four = TOMITA[4]
    for word in ("012", 3, None, ["0", 1]):
        with pytest.raises(AutomatonError, match="a word is a text, over '0', '1'; got"):
            four.run(word)
    with pytest.raises(AutomatonError, match="over the same symbols, got 3"):
        four.difference(3)
    with pytest.raises(AutomatonError, match="over the same symbols, got DFA"):
        four.product(DFA("ab", [[0, 0]], [True]))
    for held in (None, {}, four.to_dict() | {"format": 2}, four.to_dict() | {"start": 9}):
        with pytest.raises(AutomatonError):
            DFA.from_dict(held)
    for use in (four.save, DFA.load):
        with pytest.raises(FileError, match="path must be the name of a file"):
            use(3)
    with pytest.raises(GrulensError):
        read_word("ab", ("a",))
