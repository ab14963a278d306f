"""Contextual decomposition of whole models: stacks, both directions, rows of any length, calls."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import ablate, editing, plot, record
from grulens.errors import (
    EditError,
    LayerError,
    PositionError,
    ReadoutError,
    RecordingError,
    StoppedWarning,
)
from grulens.probing.credit.relevance import layerwise_relevance
from grulens.probing.phrases import split as split_file
from grulens.probing.phrases.agglomerate import agglomerate
from grulens.probing.phrases.credit import contextual_credit
from grulens.probing.phrases.decomposition import contextual_decomposition
from grulens.probing.phrases.interactions import interactions
from grulens.probing.phrases.merging import merging
from grulens.probing.readout.head import head_of
from tests import reference
from tests.cells.phrases.test_decomposition import written_out
from tests.drawn import Case, cases
from tests.intact import Intact


def through_the_stack(case: Case, row: int, inside: np.ndarray) -> dict[str, np.ndarray]:
    """beta of every direction of the last level (time, unit), up to the row's end."""
    end, module = case.lengths[row], case.module
    x = case.rows[row, :end].numpy()
    held = x * inside[:end, None]
    found = {}
    for level in range(module.num_layers):
        states, parts = [], []
        for way, suffix in enumerate(("", "_reverse")[: 1 + module.bidirectional]):
            w = reference.weights(module, f"_l{level}{suffix}")
            turn = slice(None, None, -1 if way else 1)
            h_0 = np.zeros(module.hidden_size)
            if case.h_0 is not None:
                h_0 = case.h_0[level * (1 + module.bidirectional) + way, row].numpy()
            beta, gamma = written_out(w, x[turn], held[turn], h_0)
            found[f"l{level}{suffix}"] = beta[turn]
            states.append((beta + gamma)[turn])
            parts.append(beta[turn])
        x, held = np.concatenate(states, 1), np.concatenate(parts, 1)
    return found


@settings(max_examples=20)
@given(cases(dtypes=(torch.float64,)), st.booleans(), st.integers(0, 99))
def test_parts_go_through_stacks_directions_and_packed_rows(
    case: Case, first: bool, seed: int
) -> None:
    steps = case.rows.shape[1]
    wanted = (torch.rand(2, steps, generator=torch.Generator().manual_seed(seed)) < 0.5).tolist()
    level = case.module.num_layers - 1
    layer = f"l{0 if first else level}"
    found = contextual_decomposition(case.module, *case.args, phrases=wanted, layer=layer)
    run = record(case.module, *case.args)
    torch.testing.assert_close(found.h, run[layer].h)
    torch.testing.assert_close(found.beta + found.gamma, run[layer].h.expand_as(found.beta))
    for phrase, row in np.ndindex(2, len(case.rows)):
        want = through_the_stack(case, row, np.array(wanted[phrase]))
        end = case.lengths[row]
        for name, part in found.parts.items():
            got = part[phrase, row].numpy()
            np.testing.assert_allclose(got[:end], want[name], atol=1e-10, rtol=1e-10)
            assert (got[end:] == 0).all()


def model(bidirectional: bool = False, **options: Any) -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(
        3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional, **options
    ).double()


def x(batch: int = 2, steps: int = 6) -> Tensor:
    return torch.randn(batch, steps, 3, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("both", [False, True])
def test_without_biases_the_whole_is_all_there_is_and_an_empty_phrase_nothing(both: bool) -> None:
    found = contextual_decomposition(model(both, bias=False), x(), phrases=[None, [], slice(2, 4)])
    torch.testing.assert_close(found.beta[0], found.h)
    assert found.beta[1].eq(0).all()
    assert found.beta[2, :, :2].eq(0).all() != both  # a reverse layer below hears what comes later
    assert found.beta[2, :, 2:].ne(0).all()
    assert found.inside.sum(2).tolist() == [[6, 6], [0, 0], [2, 2]]


def test_scores_rest_and_bias_are_the_logits() -> None:
    class Tagger(nn.Module):
        def __init__(self, both: bool) -> None:
            super().__init__()
            self.rnn, self.out = model(both), nn.Linear(4 * (1 + both), 5).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0])

    for both in (False, True):
        tagger = Tagger(both)
        intact = Intact(tagger)
        found = contextual_decomposition(tagger, x(), phrases=[slice(0, 2), [1, 4]])
        assert intact.broken() == []
        assert found.layer == "rnn.l1"
        assert found.scores.shape == (2, 2, 6, 5)
        torch.testing.assert_close(found.logits, tagger(x()))
        torch.testing.assert_close(
            found.scores + found.rest + found.bias, found.logits.expand(2, -1, -1, -1)
        )
        again = contextual_decomposition(tagger, x(), phrases=[slice(0, 2), [1, 4]],
                                         layer="rnn.l1", head=tagger.out)  # fmt: skip
        torch.testing.assert_close(again.scores, found.scores)
        assert head_of(tagger, x()).name == "out"


def test_phrases_of_packed_rows_count_from_each_rows_end() -> None:
    packed = pack_padded_sequence(x(), torch.tensor([3, 6]), True, enforce_sorted=False)
    found = contextual_decomposition(model(), packed, phrases=[-1, slice(-2, None), 4])
    where = [[i for i, held in enumerate(row) if held] for row in found.inside.flatten(0, 1)]
    assert where == [[2], [5], [1, 2], [4, 5], [], [4]]
    assert found.beta[0, 0, 2].ne(0).all()
    assert found.beta[:, 0, 3:].eq(0).all()


@pytest.mark.parametrize("handed_on", [False, True])
def test_calls_that_hand_their_state_on_are_one_past(handed_on: bool) -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = model()

        def forward(self, x: Tensor) -> Tensor:
            h, outputs = None, []
            for part in x.split(2, 1):
                out, h = self.rnn(part, h)
                h = h if handed_on else h.flip(0)
                outputs.append(out)
            return torch.cat(outputs, 1)

    decoder = Decoder()
    found = contextual_decomposition(decoder, x(), phrases=[1, 5])
    whole = contextual_decomposition(decoder.rnn, x(), phrases=[1, 5])
    if handed_on:
        torch.testing.assert_close(found.beta, whole.beta)
        torch.testing.assert_close(found.h, whole.h)
    else:  # what a call began with is nobody's phrase
        assert found.beta[0, :, 2:].eq(0).all()
        assert found.beta[0, :, 1].ne(0).all()


def test_few_phrases_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contextual_decomposition(model(True), x())
    monkeypatch.setattr(split_file, "ELEMENTS", 100)
    torch.testing.assert_close(contextual_decomposition(model(True), x()).beta, whole.beta)


def test_precision_is_as_asked_and_never_16_bits() -> None:
    exact = contextual_decomposition(model(), x(), phrases=[2]).beta
    single = model().float()
    assert contextual_decomposition(single, x().float(), phrases=[2]).beta.dtype is torch.float32
    double = contextual_decomposition(single, x().float(), phrases=[2], dtype=torch.float64)
    assert double.beta.dtype is torch.float64
    torch.testing.assert_close(double.beta, exact, atol=1e-6, rtol=1e-5)
    half = contextual_decomposition(model().bfloat16(), x().bfloat16(), phrases=[2])
    assert half.beta.dtype is torch.float32
    torch.testing.assert_close(half.beta.double(), exact, atol=0.02, rtol=0.1)


def test_under_autocast_nothing_more_is_rounded_than_the_run_was() -> None:
    torch.manual_seed(0)
    rnn, head, values = nn.GRU(3, 4, 2, batch_first=True), nn.Linear(4, 2), x().float()
    with torch.autocast("cpu"):
        found = contextual_decomposition(rnn, values, head=head)
        scores, logits = found.scores, found.logits
        credit = contextual_credit(rnn, values, head=head, target=1)
        relevance = layerwise_relevance(rnn, values, head=head, target=1)
    torch.testing.assert_close(scores, found.scores)
    torch.testing.assert_close(logits, head(found.h).detach())
    torch.testing.assert_close(credit.score, logits[:, -1, 1])
    assert float(relevance.gap.abs().max()) < 1e-6
    plain = contextual_decomposition(rnn, values, head=head)
    torch.testing.assert_close(found.beta, plain.beta, atol=0.02, rtol=0.05)


def test_what_cannot_be_split_is_said() -> None:
    rnn, head = model(), nn.Linear(4, 2).double()
    found = contextual_decomposition(rnn, x(), layer="l0")
    assert repr(found) == "Decomposition('l0', 6 phrases, batch 2, time 6, unit 4)"
    assert "step 5" in found._repr_html_()
    with pytest.raises(ReadoutError, match=r"no nn\.Linear of this model reads .*'l0'"):
        _ = found.scores
    with pytest.raises(PositionError, match="step 9 is out of range for layer 'l1', which has 6"):
        contextual_decomposition(rnn, x(), phrases=[[1, 9]])
    for phrases in (3, [], "abc", {0: 1}):
        with pytest.raises(PositionError, match="phrases must be a sequence of phrases"):
            contextual_decomposition(rnn, x(), phrases=phrases)
    with pytest.raises(LayerError, match="layer 'l7' did not run"):
        contextual_decomposition(rnn, x(), layer="l7")
    with pytest.raises(ReadoutError, match="head reads 3 numbers; layer 'l1' has 4 units"):
        contextual_decomposition(rnn, x(), head=nn.Linear(3, 2))
    with pytest.raises(ReadoutError, match=r"head must be an nn\.Linear over the states of layer"):
        contextual_decomposition(rnn, x(), head=torch.sigmoid)
    with pytest.raises(EditError, match=r"dtype must be torch\.float32, torch\.float64 or None"):
        contextual_decomposition(rnn, x(), dtype=torch.int8)
    with editing(rnn, ablate("l0", 1)), pytest.raises(RecordingError, match="ran with an edit"):
        contextual_decomposition(rnn, x(), head=head)
    with pytest.raises(RecordingError, match=r"'l1' does not read the states .* call model\.eval"):
        contextual_decomposition(model(dropout=0.5).train(), x(), head=head)


def test_a_token_alone_is_a_credit_and_the_rest_is_named() -> None:
    rnn, head = model(), nn.Linear(4, 3).double()
    credit = contextual_credit(rnn, x(), target=2, head=head, step=4)
    each = contextual_decomposition(rnn, x(), head=head)
    torch.testing.assert_close(credit.tokens, each.scores[:, :, 4, 2].mT)
    torch.testing.assert_close(credit.score, head(rnn(x())[0])[:, 4, 2].detach())
    ledger = credit.ledger(1)
    assert abs(ledger["gap"]) < 1e-12
    assert abs(ledger["interactions"]) > 1e-6
    whole = contextual_decomposition(rnn, x(), head=head, phrases=[None])
    torch.testing.assert_close(
        credit.others["biases and h_0"], whole.rest[0, :, 4, 2]
    )  # what the whole input does not make
    against = contextual_credit(rnn, x(), target=(2, 0), head=head, step=4)
    zero = contextual_credit(rnn, x(), target=0, head=head, step=4)
    torch.testing.assert_close(against.inputs, credit.inputs - zero.inputs)


def test_the_final_states_of_both_directions_are_read_at_their_own_ends() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = model(True), nn.Linear(8, 3).double()

        def forward(self, x: Any) -> Tensor:
            h = self.rnn(x)[1]
            return self.out(torch.cat([h[-2], h[-1]], 1))

    classifier = Classifier()
    packed = pack_padded_sequence(x(), torch.tensor([3, 6]), True, enforce_sorted=False)
    for given_ in (x(), packed):
        credit = contextual_credit(classifier, given_, target=1, step="final")
        torch.testing.assert_close(credit.score, classifier(given_)[:, 1].detach())
    last = contextual_credit(classifier, x(), target=1)
    assert not torch.allclose(last.score, classifier(x())[:, 1])
    for step, words in (("first", "step must be an int"), (9, "step 9 is out of range"),
                        (4, "step 4 is past row 0, which has 3 steps")):  # fmt: skip
        with pytest.raises(PositionError, match=words):
            contextual_credit(classifier, packed, target=1, step=step)
    for target in (3, -4, "a", (0, 1, 2), True):
        with pytest.raises(ReadoutError, match="target must be a class, or a pair"):
            contextual_credit(classifier, x(), target=target)


class Sentiment(nn.Module):
    """Words good, not, and others; the answer is the second unit.

    Unit 0 turns to 1 at "not", unit 1 to tanh(3) at "good", or to tanh(-3) if unit 0 is on: only
    at "good" is the reset gate open through which unit 0 pulls it to the other side. Both keep
    their state at every other word.
    """

    words = ("it", "is", "not", "good", "at", "all")

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 2, batch_first=True).double()  # input: is it "not", is it "good"
        self.out = nn.Linear(2, 1, bias=False).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            w, u = self.rnn.weight_ih_l0, self.rnn.weight_hh_l0
            b = self.rnn.bias_ih_l0
            b[0:2], w[1, 1] = -20.0, 40.0  # r of unit 1 opens at "good"
            b[2:4], w[2, 0], w[3, 1] = 20.0, -40.0, -40.0  # z opens for their own word
            w[4, 0], w[5, 1], u[5, 0] = 20.0, 3.0, -6.0
            self.out.weight[0, 1] = 1.0

    def forward(self, text: str) -> Tensor:
        kinds = [[float(word == "not"), float(word == "good")] for word in text.split()]
        return self.out(self.rnn(torch.tensor([kinds]).double())[0])


@torch.no_grad()
def test_a_word_that_turns_another_round_is_found_as_the_pair_that_it_is() -> None:
    model, text = Sentiment(), "it is not good at all"
    assert float(model("it is good")[0, -1]) == pytest.approx(np.tanh(3), abs=1e-6)
    assert float(model(text)[0, -1]) == pytest.approx(-np.tanh(3), abs=1e-6)
    found = contextual_decomposition(model, text, phrases=[2, 3, [2, 3], [0, 1]])
    alone_not, alone_good, both, neither = found.scores[:, 0, -1, 0].tolist()
    assert alone_good > 0.4
    assert abs(alone_not) < 1e-3  # it speaks through "good" only
    assert both == pytest.approx(-np.tanh(3), abs=1e-3)
    assert neither == 0
    pairs = interactions(model, text, target=0, progress=False)
    assert pairs.pairs[int(pairs.values[:, 0].abs().argmax())] == (2, 3)
    assert float(pairs.values[2, 0]) == pytest.approx(both - alone_not - alone_good, abs=1e-9)
    tree = agglomerate(model, text, target=0, progress=False)
    first = tree.merges[0]
    assert (first.tokens, first.score < -0.9, first.interaction < -1) == ((2, 3), True, True)
    assert tree.at(2, 4) is first


# interactions


def test_interactions_are_the_unions_beyond_their_parts() -> None:
    rnn, head = model(), nn.Linear(4, 3).double()
    options: dict[str, Any] = {"target": 1, "head": head, "step": -2, "progress": False}
    listed = [slice(0, 2), [1, 3], 4]
    found = interactions(rnn, x(), phrases=listed, pairs="all", **options)
    assert found.pairs == ((0, 1), (0, 2), (1, 2))
    unions = [[0, 1, 3], [0, 1, 4], [1, 3, 4]]
    at = contextual_decomposition(rnn, x(), phrases=[*listed, *unions], head=head)
    scores = at.scores[:, :, -2, 1]
    torch.testing.assert_close(found.scores, scores[:3])
    for place, (a, b) in enumerate(found.pairs):
        torch.testing.assert_close(found.values[place], scores[3 + place] - scores[a] - scores[b])
    matrix = found.matrix(1)
    assert torch.equal(matrix, matrix.mT)
    torch.testing.assert_close(matrix.diag(), found.scores[:, 1])
    assert float(matrix[0, 2]) == float(found.values[1, 1])
    assert interactions(rnn, x(), **options).pairs == tuple((i, i + 1) for i in range(5))
    some = interactions(rnn, x(), phrases=listed, pairs=[(2, 0)], **options)
    torch.testing.assert_close(some.values[0], found.values[1])
    assert some.matrix().isnan().sum() == 4
    assert repr(found) == "Interactions('l1', 3 phrases, 3 pairs, batch 2)"
    assert "steps 1, 3" in found._repr_html_()
    for pairs in ("some", [(0, 3)], [(1, 1)], [(0, 1, 2)], 4, [("a", 0)]):
        with pytest.raises(EditError, match='pairs must be "adjacent", "all" or a sequence'):
            interactions(rnn, x(), phrases=listed, pairs=pairs, **options)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when phrases are asked about for the third time."""
    asked = iter(range(99))
    whole = split_file._parts

    def parts(*args: Any) -> Any:
        if next(asked) == 2:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(split_file, "_parts", parts)


@pytest.mark.usefixtures("interrupted")
def test_interrupted_the_pairs_that_are_done_stay() -> None:
    head = nn.Linear(4, 3).double()
    with pytest.warns(StoppedWarning, match="interactions stopped after 64 of 91 pairs"):
        found = interactions(model(), x(1, 14), target=1, head=head, pairs="all", progress=False)
    assert found.done.tolist() == [True] * 64 + [False] * 27
    assert "stopped after 64 of 91 pairs" in repr(found)
    assert found.values.isnan().sum() == 91 - 64
    assert found.values[:64].isfinite().all()
    assert "Interactions" in found._repr_html_()


@pytest.mark.usefixtures("interrupted")
def test_interrupted_the_merges_that_are_done_stay() -> None:
    head = nn.Linear(4, 3).double()
    with pytest.warns(StoppedWarning, match="agglomerate stopped after 1 of 5 merges"):
        tree = agglomerate(model(), x(), target=1, head=head, progress=False)
    assert (len(tree.tokens), len(tree.merges), tree.complete) == (6, 1, False)
    assert repr(tree) == "Hierarchy('l1', class 1, 6 tokens, stopped after 1 of 5 merges)"
    assert tree.note in plot(tree).document.roots[0].children[0].title.text
    assert np.isnan(tree.rest)


# the tree


@given(
    st.integers(0, 9), st.randoms(use_true_random=False), st.sampled_from(["interaction", "score"])
)
def test_every_merge_is_the_best_of_its_moment(count: int, random: Any, by: Any) -> None:
    scores = {(a, b): random.uniform(-1, 1) for b in range(count + 1) for a in range(b)}
    asked: list[tuple[int, int]] = []

    def score(spans: Any) -> list[float]:
        asked.extend(spans)
        return [scores[span] for span in spans]

    groups = list(merging(score, count, by))
    assert len(groups) == max(0, 2 * count - 1)
    assert len(asked) == len(set(asked)) <= 4 * count  # nothing is asked twice
    left = [(t, t + 1) for t in range(count)]
    for order, group in enumerate(groups[count:], 1):
        unions = [(a[0], b[1]) for a, b in pairwise(left)]
        values = [
            abs(scores[u] - (scores[a] + scores[b] if by == "interaction" else 0))
            for u, a, b in zip(unions, left, left[1:], strict=False)
        ]
        best = int(np.argmax(values))
        assert (group.first, group.stop) == unions[best]
        assert group.order == order
        first, second = (groups[part] for part in group.parts)
        assert group.tokens == first.tokens + second.tokens
        assert group.interaction == pytest.approx(group.score - first.score - second.score)
        assert group.height == 1 + max(first.height, second.height)
        left[best : best + 2] = [unions[best]]


def test_a_score_that_is_no_number_stops_nothing() -> None:
    groups = list(merging(lambda spans: [float("nan") if a else 1.0 for a, _ in spans], 4, "score"))
    assert groups[-1].tokens == (0, 1, 2, 3)


def test_a_tree_is_of_one_row_and_of_what_can_be_heard() -> None:
    rnn, head = model(), nn.Linear(4, 3).double()
    options: dict[str, Any] = {"head": head, "progress": False}
    tree = agglomerate(rnn, x(), target=(1, 0), row=1, step=3, **options)
    assert (len(tree.tokens), tree.row, tree.groups[-1].tokens) == (4, 1, (0, 1, 2, 3))
    logits = head(rnn(x())[0])[1, 3].detach()
    assert tree.score == pytest.approx(float(logits[1] - logits[0]))
    at = contextual_decomposition(rnn, x(), phrases=[g.tokens for g in tree.groups], head=head)
    scores = at.scores[:, 1, 3, 1] - at.scores[:, 1, 3, 0]
    np.testing.assert_allclose([g.score for g in tree.groups], scores.numpy(), atol=1e-12)
    whole = at.rest[-1, 1, 3]
    assert tree.rest == pytest.approx(float(whole[1] - whole[0]))
    assert repr(tree) == "Hierarchy('l1', class 1 against 0, 4 tokens, 3 merges)"
    assert "together" in tree._repr_html_()
    assert list(tree.to_frame()["order"]) == [0, 0, 0, 0, 1, 2, 3]
    other = agglomerate(rnn, x(), target=(1, 0), row=-1, step=3, by="score", **options)
    assert other.row == 1
    assert [g.tokens for g in other.merges] != [g.tokens for g in tree.merges]
    both = agglomerate(model(True), x(), target=0, step=3, progress=False,
                       head=nn.Linear(8, 2).double())  # fmt: skip
    assert len(both.tokens) == 6  # a reverse layer hears what comes later
    packed = pack_padded_sequence(x(), torch.tensor([3, 6]), True, enforce_sorted=False)
    assert len(agglomerate(rnn, packed, target=0, **options).tokens) == 3
    with pytest.raises(PositionError, match="row must be 0 to 1, got 2"):
        agglomerate(rnn, x(), target=0, row=2, **options)
    with pytest.raises(EditError, match="by must be one of interaction, score, got 'size'"):
        agglomerate(rnn, x(), target=0, by="size", **options)
    with pytest.raises(PositionError, match="no group holds exactly the steps 0 up to 9"):
        tree.at(0, 9)


def test_progress_is_shown_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    head = nn.Linear(4, 3).double()
    agglomerate(model(), x(), target=0, head=head)
    interactions(model(), x(), target=0, head=head)
    shown = capsys.readouterr().err
    assert "phrases" in shown
    assert "interactions" in shown
