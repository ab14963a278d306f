"""The automaton of a network: found, compared by length, refused where it is none."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens.corpus import DFA, Automaton, automaton
from grulens.errors import AutomatonError, FidelityError, ModelError, ReadoutError, StoppedWarning
from grulens.job import Job
from grulens.probing.corpus.automata.acceptor import Acceptor
from grulens.probing.corpus.automata.fidelity import Agreement, measure, shortened
from grulens.probing.corpus.automata.sampling import KINDS, Counts
from grulens.probing.corpus.automata.words import Word
from tests.intact import Intact
from tests.probing.corpus.automata.tomita import TOMITA, Follows

QUICK: dict[str, Any] = {"progress": False, "lengths": (4, 9), "sample": 25, "tries": 150}


def last(model: nn.Module, word: str) -> bool:
    return bool(model(torch.tensor([list(map(int, word))])).reshape(-1)[-1] > 0)


@pytest.mark.parametrize("number", TOMITA)
def test_lstar_finds_the_automaton_that_a_network_follows(number: int) -> None:
    found = automaton(
        Follows(TOMITA[number]).eval(), "01", progress=False, lengths=(9, 30), tries=300
    )
    assert found.dfa.minimised() == TOMITA[number].minimised()
    assert len(found.dfa) == len(TOMITA[number])
    assert {one.share for one in found.fidelity} == {1.0}
    assert {one.length for one in found.fidelity} == {9, 30}
    assert found.counterexamples == ()
    assert found.note == "the model takes no empty input: the empty word was not asked"
    size = len(TOMITA[number])
    assert (
        repr(found) == f"Automaton('lstar', {size} states, fidelity 1.000 or more up to length 30)"
    )


def test_a_cluster_for_each_state_gives_the_automaton_too() -> None:
    six = TOMITA[6]
    found = automaton(Follows(six), "01", method="clusters", clusters=6, budget=800, **QUICK)
    assert found.dfa.minimised() == six.minimised()
    assert found.overall == 1.0
    assert found.layers == ("rnn.l0",)
    assert found.centres is not None
    assert found.centres.shape == (6, 6)
    assert found.determinism is not None
    assert bool((found.determinism == 1).all())
    assert found.asked <= 800


def test_clusters_that_are_deterministic_and_wrong_are_refused() -> None:
    """One cluster leads to itself at every step, and answers as the majority does."""
    model = Follows(TOMITA[6])
    found = automaton(model, "01", method="clusters", clusters=1, budget=800, **QUICK)
    assert found.overall == 1.0
    assert found.worst is not None
    assert found.worst.share <= 0.7
    assert repr(found).startswith("Automaton('clusters', no automaton of this network: both agree")
    with pytest.raises(
        FidelityError, match=r"no automaton of the network: both agree on \d+ of"
    ) as e:
        _ = found.dfa
    assert "try method='lstar'" in str(e.value)
    assert found.hypothesis is not None
    for word in found.counterexamples:
        assert last(model, word) != found.hypothesis.accepts(word)
    assert list(map(len, found.counterexamples)) == sorted(map(len, found.counterexamples))
    assert "next state" not in found._repr_html_()
    assert "they differ on" in found._repr_html_()


class Drifts(nn.Module):
    """It accepts an even number of 1, and every word of more than seven symbols."""

    def forward(self, ids: Tensor) -> Tensor:
        even = 1.0 - 2.0 * (ids.cumsum(1) % 2)
        return torch.where(torch.arange(ids.shape[1]) > 6, 1.0, even)[..., None]


def test_a_small_automaton_that_holds_on_short_words_is_kept_where_long_ones_need_a_large_one() -> (
    None
):
    found = automaton(Drifts(), "01", states=5, progress=False, lengths=(3, 6, 12), tries=100)
    assert found.hypothesis is not None
    assert found.hypothesis.minimised() == DFA("01", [[0, 1], [1, 0]], [True, False])
    with pytest.raises(FidelityError, match="up to length 6 it is one: lengths="):
        _ = found.dfa
    assert "an automaton of more than 5 states was needed before an automaton stood" in found.note
    assert len(found.counterexamples[0]) == 8
    short = automaton(Drifts(), "01", states=5, progress=False, lengths=(3, 6), tries=100)
    assert len(short.dfa) == 2
    # with room, the automaton that counts to seven is found, and it is exact
    whole = automaton(
        Drifts(), "01", progress=False, lengths=(3, 6, 12), sample=40, tries=300, empty=True
    )
    assert whole.note == ""
    assert len(whole.dfa) == 15
    assert whole.dfa.difference(short.dfa) == "00000001"


class Says:
    """An oracle by a function, for what is not about networks."""

    def __init__(self, accepts: Callable[[Word], bool], known: list[Word]) -> None:
        self.accepts, self.takes_empty = accepts, True
        self.known = {word: accepts(word) for word in known}

    def ask(self, words: Any) -> None:
        self.known.update((word, self.accepts(word)) for word in words)


@pytest.mark.unchecked
def test_fidelity_is_what_counting_all_words_says() -> None:
    dfa, size = TOMITA[4], 7
    built: list[Word] = [(0, 0, 1, 0, 1, 0, 0), (1,) * 7, (0,) * 7]
    oracle: Any = Says(lambda word: sum(word) % 3 == 0, built)
    wrong: list[Word] = []
    job: Job[list[Agreement]] = Job()
    measure(oracle, dfa, [size], 10_000, 0, job, wrong.append)
    assert job.result is not None
    by = {one.kind: one for one in job.result}
    left = [w for n in range(2, 8) for w in product((0, 1), repeat=n) if w not in built]
    for kind, words in {
        "uniform": left,
        "accepted": [word for word in left if dfa.answer(word)],
        "rejected": [word for word in left if not dfa.answer(word)],
    }.items():
        agree = [word for word in words if dfa.answer(word) == (sum(word) % 3 == 0)]
        assert by[kind] == Agreement(2, size, kind, len(words), len(agree), True)
        assert by[kind].interval == (by[kind].share,) * 2
    near = by["near"]
    assert 0 < near.words <= len(left)
    assert not near.every
    assert near.interval[0] < near.share < near.interval[1]
    together = by["network accepts"].words + by["network rejects"].words
    assert together == len(left)
    taken = [word for word in left if sum(word) % 3 == 0]
    agree = [word for word in taken if dfa.answer(word)]
    assert by["network accepts"] == Agreement(
        2, size, "network accepts", len(taken), len(agree), True
    )
    assert set(wrong) == {w for w in left if dfa.answer(w) != (sum(w) % 3 == 0)}


def test_wilsons_interval_is_the_one_of_the_paper() -> None:
    # the roots of (p - x)² = z² x (1 - x) / n
    found = Agreement(4, 9, "uniform", 50, 45, False)
    for end in found.interval:
        assert (0.9 - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 50, rel=1e-6)
    assert Agreement(4, 9, "uniform", 50, 50, False).interval[1] == pytest.approx(1)


@pytest.mark.parametrize("number", TOMITA)
def test_words_are_counted_and_drawn_evenly(number: int) -> None:
    dfa, rng = TOMITA[number], random.Random(0)
    for said in (True, False):
        counts = Counts(dfa, said)
        every = [w for w in product((0, 1), repeat=6) if dfa.answer(w) is said]
        assert counts.total(6) == len(every)
        assert list(counts.every(6)) == every
        if every:
            drawn = [counts.draw(rng, 6) for _ in range(40 * len(every))]
            assert set(drawn) == set(every)
    assert Counts(dfa, True).total(90) + Counts(dfa, False).total(90) == 2**90


@pytest.mark.unchecked
def test_a_counterexample_is_made_as_short_as_leaving_out_makes_it() -> None:
    dfa = DFA("01", [[0, 0]], [False])
    oracle: Any = Says(lambda word: sum(word) >= 3, [])
    assert shortened(oracle, dfa, (0, 1, 0, 0, 1, 1, 0, 1)) == (1, 1, 1)


def test_the_same_seed_gives_the_same_and_another_seed_other_words() -> None:
    model = Follows(TOMITA[3])
    options = {"method": "clusters", "clusters": 3, "budget": 500, **QUICK}
    one, again, other = (automaton(model, "01", seed=seed, **options) for seed in (0, 0, 1))
    assert repr(one) == repr(again)
    assert one.fidelity == again.fidelity
    assert one.hypothesis == again.hypothesis
    assert one.centres is not None
    assert again.centres is not None
    assert torch.equal(one.centres, again.centres)
    assert other.fidelity != one.fidelity


# how the model is asked


class Tagged(nn.Module):
    """A model around another, which reads a mark first, or last, or words itself."""

    def __init__(self, inside: nn.Module, where: str = "") -> None:
        super().__init__()
        self.inside, self.where = inside, where

    def encode(self, word: str) -> list[int]:
        return ["ab".index(letter) for letter in word]

    def forward(self, ids: Tensor) -> Tensor:
        return self.inside(ids)


def with_mark(first: bool) -> tuple[nn.Module, Callable[[str], Tensor]]:
    """A network of Tomita 5 with a third symbol that changes nothing, as a mark."""
    five = TOMITA[5]
    table = [[*row, state] for state, row in enumerate(five.transitions)]
    model = Follows(DFA("01#", table, five.accepting))

    def encode(word: str) -> Tensor:
        marked = f"#{word}" if first else f"{word}#"
        return torch.tensor([["01#".index(letter) for letter in marked]])

    return model, encode


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("method", ["lstar", "clusters"])
def test_a_mark_at_the_beginning_or_the_end(first: bool, method: Any) -> None:
    model, encode = with_mark(first)
    found = automaton(model, "01", method=method, encode=encode, clusters=12, budget=900, **QUICK)
    assert found.dfa.minimised() == TOMITA[5].minimised()
    assert "empty word" not in found.note  # with a mark it can be asked


def test_words_become_inputs_by_the_models_own_encode_by_place_and_as_they_are() -> None:
    two = TOMITA[2]
    own = automaton(Tagged(Follows(two)), "ab", **QUICK)
    assert own.dfa.accepts("baba")
    assert automaton(Follows(two), "ab", **QUICK).dfa == own.dfa
    ids = automaton(Follows(two), [1, 0], **QUICK).dfa
    assert ids.accepts([1, 0, 1, 0])
    assert ids.difference(DFA([0, 1], two.transitions, two.accepting)) is None
    given = automaton(
        Follows(two), ["no", "yes"], encode=lambda word: [int(s == "yes") for s in word], **QUICK
    )
    assert given.dfa.accepts(("yes", "no"))


class TimeFirst(nn.Module):
    def __init__(self, dfa: DFA) -> None:
        super().__init__()
        self.inside = Follows(dfa, classes=2)

    def answers(self, ids: Tensor) -> Tensor:
        return self.inside(ids.T).transpose(0, 1)

    def forward(self, ids: Tensor) -> Tensor:
        raise RuntimeError("this is not the run")


def test_a_batch_on_another_axis_and_a_run_of_another_name() -> None:
    model = TimeFirst(TOMITA[7])
    found = automaton(model, "01", call="answers", batch_dim=1, **QUICK)
    assert found.dfa.minimised() == TOMITA[7].minimised()
    with pytest.raises(
        AutomatonError, match=r"does not run on the word '\d+' as it is encoded, torch"
    ):
        automaton(model, "01", **QUICK)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("every", [True, False])
def test_an_answer_is_a_logit_or_two_classes_at_each_step_or_the_last(
    classes: int, every: bool
) -> None:
    found = automaton(Follows(TOMITA[1], classes, every), "01", **QUICK)
    assert found.dfa == TOMITA[1]


class Probability(Follows):
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).sigmoid()


def test_probabilities_are_refused_until_it_is_said_what_accepts() -> None:
    model = Probability(TOMITA[1])
    with pytest.raises(ReadoutError, match=r"every number lies between 0 and 1 \(0.269 to 0.731\)"):
        automaton(model, "01", **QUICK)
    for accepts in (
        lambda out: out[:, -1, 0] > 0.5,
        lambda out: out[:, -1] - 0.5,
        lambda out: (out[:, -1, 0] > 0.5).tolist(),
    ):
        assert automaton(model, "01", accepts=accepts, **QUICK).dfa == TOMITA[1]


class Gives(nn.Module):
    """What a function of the ids gives."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, ids: Tensor) -> Any:
        return self.make(ids)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda ids: torch.zeros(*ids.shape, 3),
            r"is \(1, 4, 3\) and \(1, 6, 3\): say what accepts",
        ),
        (lambda ids: torch.zeros(len(ids), 2, 2), r"is \(1, 2, 2\) and \(1, 2, 2\)"),
        (lambda ids: ids, "holds no floating tensor"),
        (lambda ids: torch.full(ids.shape, torch.nan), "1 word must have as many finite answers"),
    ],
)
def test_an_output_that_does_not_say_what_is_accepted_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ReadoutError, match=words):
        automaton(Gives(make), "01", **QUICK)


@pytest.mark.parametrize(
    ("accepts", "words"),
    [
        (
            lambda out: out,
            r"accepts must give, for 1 word, 1 truth value, .* torch.float32 \(1, 4, 1\)",
        ),
        (lambda out: None, "it gave None"),
        (lambda out: out[:, -1, 0].long(), r"it gave torch.int64 \(1,\)"),
        (lambda out: ["yes"], "it gave"),
    ],
)
def test_an_accepts_that_gives_something_else_is_refused(accepts: Any, words: str) -> None:
    with pytest.raises(ReadoutError, match=words):
        automaton(Follows(TOMITA[1]), "01", accepts=accepts, **QUICK)


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda word: word, r"encode must give a tensor with one row at axis 0"),
        (lambda word: torch.tensor([int(s) for s in word]), r"it gave a tensor \(4,\)"),
    ],
)
def test_an_encode_that_gives_no_row_is_refused(encode: Any, words: str) -> None:
    with pytest.raises(AutomatonError, match=words):
        automaton(Follows(TOMITA[1]), "01", encode=encode, **QUICK)


def test_words_that_are_encoded_to_several_shapes_are_run_one_by_one() -> None:
    options: dict[str, Any] = {**QUICK, "sample": 5, "tries": 20, "lengths": (4,)}

    def encode(word: str) -> list[int]:
        return [int(symbol) for symbol in (word if word[0] == "0" else f"{word}00")]

    model, accepts = Follows(TOMITA[6]), lambda out: out[:, -1, 0]
    found = automaton(model, "01", encode=encode, accepts=accepts, **options)
    assert "one by one: " in found.note
    assert "must be encoded to one shape" in found.note
    assert found.dfa.accepts("1" + "1" * 3) == bool(
        accepts(model(torch.tensor([[1] * 4 + [0] * 2]))) > 0
    )


class Together(Follows):
    """The rows of a batch act on each other."""

    def forward(self, ids: Tensor) -> Tensor:
        out = super().forward(ids)
        return out - out.mean(0) + 1.5 if len(out) > 1 else out


class OneOnly(Follows):
    def forward(self, ids: Tensor) -> Tensor:
        if len(ids) > 1:
            raise ValueError("one row")
        return super().forward(ids)


@pytest.mark.parametrize(
    ("kind", "why"), [(Together, "the rows beside it"), (OneOnly, "no two words at once .*one row")]
)
@pytest.mark.parametrize("method", ["lstar", "clusters"])
def test_rows_that_cannot_stand_beside_each_other_are_run_one_by_one(
    kind: Any, why: str, method: Any
) -> None:
    options = {**QUICK, "sample": 5, "tries": 20, "lengths": (4,), "budget": 60, "clusters": 6}
    found = automaton(kind(TOMITA[6]), "01", method=method, **options)
    assert found.dfa.minimised() == TOMITA[6].minimised()
    assert re.search(f"words were run one by one: .*{why}", found.note)


def test_training_mode_random_numbers_and_kept_states_are_as_they_were() -> None:
    class Noisy(Follows):
        def forward(self, ids: Tensor) -> Tensor:
            self.seen = ids
            return nn.functional.dropout(super().forward(ids), 0.9, self.training)

    model = Noisy(TOMITA[5]).train()
    model.seen = torch.zeros(1)
    intact = Intact(model)
    for method in ("lstar", "clusters"):
        found = automaton(model, "01", method=method, clusters=8, budget=500, **QUICK)  # type: ignore[arg-type]
        assert found.dfa.minimised() == TOMITA[5].minimised()
        assert intact.broken() == []


class Both(nn.Module):
    """It reads a word from both ends; only the way from the beginning answers."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Follows(TOMITA[1])
        self.back = nn.GRU(2, 3, batch_first=True, bidirectional=True)

    def forward(self, ids: Tensor) -> Tensor:
        self.back(self.one.embed(ids))
        return self.one(ids)


def test_a_layer_that_reads_from_the_end_has_no_state_for_a_prefix() -> None:
    options = {"method": "clusters", "clusters": 4, "budget": 300, **QUICK}
    with pytest.raises(
        AutomatonError, match="are others when the word goes on: it reads from the end"
    ):
        automaton(Both(), "01", **options)
    found = automaton(Both(), "01", layer="one.rnn.l0", **options)
    assert found.dfa.minimised() == TOMITA[1].minimised()
    assert found.layers == ("one.rnn.l0",)


# options


def test_what_options_change() -> None:
    model = Follows(TOMITA[4])
    plain = automaton(model, "01", **QUICK)
    assert plain.dfa.accepts("")
    assert not automaton(model, "01", empty=False, **QUICK).dfa.accepts("")
    fewer = automaton(model, "01", **{**QUICK, "sample": 7})
    many, few = (
        max(one.words for one in found.fidelity if one.kind in KINDS) for found in (plain, fewer)
    )
    assert few <= 7 < many <= 25
    assert {one.length for one in plain.fidelity} <= {4, 9}
    assert automaton(model, "01", **{**QUICK, "tries": 20}).asked < plain.asked
    rough = automaton(model, "01", method="clusters", clusters=2, budget=300, **QUICK)
    assert rough.why_not
    assert rough.hypothesis is not None
    assert len(rough.hypothesis) == 3  # and the start
    more = automaton(model, "01", method="clusters", clusters=8, budget=300, **QUICK)
    assert len(more.dfa) == 9


class Lock(nn.Module):
    """It accepts one word alone."""

    def forward(self, ids: Tensor) -> Tensor:
        key = torch.tensor([0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1])
        same = ids.shape[1] == len(key) and (ids == key).all(1)
        return torch.where(torch.as_tensor(same).expand(len(ids)), 1.0, -1.0)


def test_words_of_the_users_own_find_what_no_search_finds() -> None:
    options = {"progress": False, "lengths": (6, 12), "sample": 20, "tries": 400}
    blind = automaton(Lock(), "01", **options)
    assert "the network rejects every one of the" in blind.note
    assert len(blind.hypothesis or ()) == 1
    seeing = automaton(Lock(), "01", words=["011101001101"], threshold=1.0, **options)
    assert seeing.hypothesis is not None
    assert seeing.hypothesis.accepts("011101001101")
    assert len(seeing.hypothesis) >= 13


class Short(nn.Module):
    """It accepts short words of ones."""

    def forward(self, ids: Tensor) -> Tensor:
        accepted = ids.all(1) & torch.tensor(ids.shape[1] < 4)
        return torch.where(accepted, 1.0, -1.0)


def test_where_no_word_was_compared_that_the_network_accepts_that_is_said() -> None:
    found = automaton(Short(), "01", **QUICK)
    assert "no word of up to 9 symbols was found that the network accepts" in found.note
    assert "no word of up to" not in automaton(Follows(TOMITA[1]), "01", **QUICK).note


def test_a_budget_that_runs_out_says_so() -> None:
    model = Follows(TOMITA[7])
    found = automaton(model, "01", budget=30, **QUICK)
    assert found.asked == 30
    assert "the budget ran out before an automaton stood 150 words of up to 4 symbols" in found.note
    none = automaton(model, "01", budget=1, **QUICK)
    assert none.hypothesis is None
    with pytest.raises(
        FidelityError, match=r"nothing was built: the budget ran out .*larger budget="
    ):
        _ = none.dfa
    assert "no automaton" in repr(none)
    assert "<table" in none._repr_html_()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alphabet": "00"}, "an alphabet is a text or a sequence of different symbols"),
        ({"method": "l*"}, r"method must be one of lstar, clusters, got 'l\*'"),
        ({"words": "01"}, r"words must be a sequence of words, got '01': words=\['01'\]"),
        ({"words": ["02"]}, "a word is a text, over '0', '1'; got '02'"),
        ({"lengths": (0, 3)}, "lengths must be whole numbers from 1 up"),
        ({"lengths": 5}, "lengths must be whole numbers from 1 up"),
        ({"threshold": 0}, "threshold must be a share above 0 and up to 1, got 0"),
        ({"empty": "no"}, "empty must be True, False or None"),
        ({"encode": 3}, "encode must be a function, got 3"),
        ({"accepts": 3}, "accepts must be a function, got 3"),
        ({"sample": 0}, "sample must be a whole number from 1 up, got 0"),
        ({"budget": True}, "budget must be a whole number from 1 up, got True"),
        ({"seed": -1}, "seed must be a whole number from 0 up, got -1"),
        ({"batch_dim": 0.0}, "batch_dim must be a whole number from 0 up"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], words: str) -> None:
    options = {"alphabet": "01", **QUICK, **options}
    with pytest.raises(AutomatonError, match=words):
        automaton(Follows(TOMITA[1]), **options)


@pytest.mark.unchecked
def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a torch.nn.Module, got int"):
        automaton(3, "01")  # type: ignore[arg-type]
    with pytest.raises(
        AutomatonError, match=r"as it is encoded, torch.int64 \(1, 4\) .*give encode="
    ):
        automaton(nn.GRU(1, 2), "01", **QUICK)


# interrupted


@pytest.mark.parametrize("method", ["lstar", "clusters"])
def test_interrupted_while_it_is_built_what_was_built_is_kept(method: Any) -> None:
    calls = []

    def accepts(out: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return out[:, -1, 0]

    model = Follows(TOMITA[7])
    intact = Intact(model)
    options = {**QUICK, "clusters": 10, "budget": 900, "method": method, "accepts": accepts}
    with pytest.warns(StoppedWarning, match=r"automaton stopped after \d+ of at most 900 words"):
        found = automaton(model, "01", **options)
    assert intact.broken() == []
    assert (found.hypothesis is None) == (method == "clusters")
    assert found.fidelity == ()
    with pytest.raises(FidelityError, match="no automaton of the network: "):
        _ = found.dfa
    assert "stopped after" in found._repr_html_()


def test_interrupted_while_it_is_compared_the_counts_are_kept() -> None:
    model, steps = Follows(TOMITA[7]), []

    def accepts(out: Tensor) -> Tensor:
        steps.append(out.shape[1])
        if steps[-1] == 60 and 60 in steps[:-1]:
            raise KeyboardInterrupt
        return out[:, -1, 0]

    options = {**QUICK, "method": "clusters", "clusters": 10, "budget": 300, "accepts": accepts}
    options["lengths"] = (9, 60)
    with pytest.warns(StoppedWarning, match=r"automaton stopped after 5 of 8 comparisons"):
        found = automaton(model, "01", **options)
    assert {one.length for one in found.fidelity} == {9, 60}
    assert found.done == 5
    with pytest.raises(
        FidelityError, match="its fidelity was not measured to the end, stopped after"
    ):
        _ = found.dfa


def test_a_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    automaton(Follows(TOMITA[1]), "01", **{**QUICK, "progress": True})
    shown = capsys.readouterr().err
    assert "automaton" in shown
    assert "fidelity" in shown


# results


def test_a_table_a_figure_and_a_file(tmp_path: Path) -> None:
    model = Follows(TOMITA[6])
    for clusters in (1, 6):
        found = automaton(model, "01", method="clusters", clusters=clusters, budget=300, **QUICK)
        frame = found.to_frame()
        assert list(frame["words"]) == [one.words for one in found.fidelity]
        assert (frame["low"] <= frame["share"]).all()
        again = Automaton.load(found.save(tmp_path / "found"))
        assert again.hypothesis == found.hypothesis
        assert again.fidelity == found.fidelity
        assert again.counterexamples == found.counterexamples
        assert again.why_not == found.why_not
    assert math.isnan(automaton(model, "01", **QUICK).overall)


def test_an_acceptor_asks_each_word_once() -> None:
    asked: SimpleQueue[int] = SimpleQueue()  # what it holds is not put back behind a run

    class Counted(Follows):
        def forward(self, ids: Tensor) -> Tensor:
            asked.put(len(ids))
            return super().forward(ids)

    acceptor = Acceptor(Counted(TOMITA[1]), "01")
    before = asked.qsize()
    acceptor.ask([(0, 1), (1, 1), (0, 1), (1,)])
    acceptor.ask([(1, 1), (1,)])
    assert [asked.get() for _ in range(asked.qsize())][before:] == [1, 2]
    assert acceptor.answer((1, 1))
    assert not acceptor.answer((0, 1))


class Slips(nn.Module):
    """It accepts an even number of 1, but for words with seven 1 in a row."""

    def forward(self, ids: Tensor) -> Tensor:
        ids = nn.functional.pad(ids, (7, 0))
        seven = (ids.unfold(1, 7, 1).sum(-1) == 7).any(1)
        return torch.where(seven, -1.0, 1.0 - 2.0 * (ids.sum(1) % 2))


def test_the_smallest_that_is_good_enough_is_taken_and_an_exact_one_with_a_threshold_of_one() -> (
    None
):
    options: dict[str, Any] = {"progress": False, "lengths": (5, 12), "sample": 60, "seed": 1}
    rough = automaton(Slips(), "01", threshold=0.5, **options)
    assert len(rough.dfa) == 2
    assert rough.note == "it is good enough, and not exact: threshold=1.0 looks for one that is"
    assert rough.counterexamples[0].count("1111111") == 1
    exact = automaton(Slips(), "01", threshold=1.0, **options)
    assert len(exact.dfa) == 15
    assert exact.note == ""
    assert exact.dfa.difference(rough.dfa) == "11111110"[: len(rough.counterexamples[0])] or (
        len(exact.dfa.difference(rough.dfa) or "") == len(rough.counterexamples[0])
    )


def test_words_of_the_users_own_are_recorded_as_far_as_the_budget_goes() -> None:
    options = {"method": "clusters", "clusters": 6, "budget": 120, **QUICK}
    model, own = Follows(TOMITA[6]), ["01" * 40, "0011" * 40]
    found = automaton(model, "01", words=own, **options)
    assert "the budget left 1 of the words= that were given unrecorded" in found.note
    assert "budget" not in automaton(model, "01", **options).note


class Owns(Follows):
    """Its own `encode` takes a text."""

    def encode(self, text: str) -> Tensor:
        return torch.tensor([[int(symbol) for symbol in text]])


def test_a_models_own_encode_is_for_texts_alone() -> None:
    with pytest.raises(AutomatonError, match=r"Owns.encode takes a text, and a word over symbols"):
        automaton(Owns(TOMITA[1]), ["no", "yes"], **QUICK)
    assert automaton(Owns(TOMITA[1]), [0, 1], **QUICK).dfa.accepts([1, 1])


def test_an_automaton_that_rejects_everything_is_none_of_a_network_that_seldom_accepts() -> None:
    found = automaton(Follows(TOMITA[2]), "01", method="clusters", clusters=1, budget=800, **QUICK)
    assert found.hypothesis is not None
    assert found.hypothesis.minimised() == DFA("01", [[0, 0]], [False])
    even = [one.share for one in found.fidelity if one.kind == "uniform"]
    assert min(even) > 0.8
    assert found.why_not.startswith("both agree on 0 of ")
    assert (
        "words of 1 to 9 symbols that the network accepts, of those it was built from, and 0.95"
        in found.why_not
    )
    assert [one.share for one in found.built] == [0.0, 1.0]


def test_words_of_a_length_that_a_language_has_not_are_no_comparison() -> None:
    """Words of three, six, ... symbols alone: of none of the lengths that are asked for."""
    third = DFA("a", [[1], [2], [0]], [True, False, False])
    none = automaton(
        Follows(third), "a", method="clusters", clusters=1, budget=4, lengths=(10, 20),
        sample=20, progress=False,
    )  # fmt: skip
    assert none.hypothesis is not None
    assert not none.hypothesis.accepts("aaa")
    assert "that the network accepts" in none.why_not
    found = automaton(Follows(third), "a", lengths=(10, 20), sample=20, tries=9, progress=False)
    assert found.dfa.minimised() == third


class Counter(nn.Module):
    """It accepts as many 0 as 1 after them, which takes a counter, and so no automaton."""

    def forward(self, ids: Tensor) -> Tensor:
        half = ids.shape[1] // 2
        same = 2 * half == ids.shape[1] and bool(half)
        accepted = torch.tensor(same) & (ids[:, :half] == 0).all(1) & (ids[:, half:] == 1).all(1)
        return torch.where(accepted, 1.0, -1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_language_that_takes_a_counter_is_no_automaton(seed: int) -> None:
    options: dict[str, Any] = {"progress": False, "lengths": (6, 24), "sample": 40, "tries": 400}
    found = automaton(Counter(), "01", seed=seed, **options)
    with pytest.raises(FidelityError, match=r"both agree on \d+ of \d+ words of"):
        _ = found.dfa
    assert any(word == "0" * (len(word) // 2) + "1" * (len(word) // 2)
               for word in found.counterexamples)  # fmt: skip
