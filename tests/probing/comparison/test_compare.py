"""Two runs beside each other: which steps, what differs, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Comparison, Recording, compare, plot, record, shift
from grulens.errors import CellError, GrulensError, PositionError, ReadoutError, SignalError


class Classifier(nn.Module):
    def __init__(self, units: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(4, units, batch_first=True), nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.rnn(x)[0]
        scores: Tensor = self.out(states[:, -1])
        return scores


@pytest.fixture
def run() -> Recording:
    torch.manual_seed(0)
    return record(Classifier(), torch.randn(3, 6, 4))


def test_rows_of_a_batch_differ_by_what_was_recorded(run: Recording) -> None:
    found, layer = compare(run, run, rows=(0, 2), scale="logits"), run["rnn.l0"]
    for name in "rznh":
        signal = layer.signal(name).double()
        torch.testing.assert_close(found.difference(name), signal[2] - signal[0])
    sizes = (layer.h[2].double() - layer.h[0].double()).abs()
    torch.testing.assert_close(found.per_unit(), sizes.mean(0))
    torch.testing.assert_close(found.per_step(), sizes.mean(1))
    assert found.ranked()[0] == sizes.mean(0).argmax()
    assert found.answer_steps.tolist() == [[0, 0]]
    p, q = run.output[0].double().log_softmax(0), run.output[2].double().log_softmax(0)
    bits = (p.exp() * (p - q)).sum() / torch.tensor(2.0).log()
    torch.testing.assert_close(found.answer_difference[0].double(), bits, atol=1e-6, rtol=1e-5)
    assert found.note == ""


def test_before_and_after_an_edit(run: Recording) -> None:
    torch.manual_seed(0)
    model, x = Classifier(), torch.randn(1, 6, 4)
    plain = record(model, x)
    edited = record(model, x, edits=[shift("rnn.l0", "z", 2, by=3.0, at=3)])
    change = compare(plain, edited).difference("z")
    assert change[:3].abs().max() < 1e-6  # the processor may round a step alone otherwise
    assert change[3].argmax() == 2


def test_packed_rows_are_aligned_from_their_own_starts() -> None:
    rnn, x = nn.GRU(4, 5, batch_first=True), torch.randn(2, 6, 4)
    run = record(rnn, pack_padded_sequence(x, [6, 3], batch_first=True))
    found = compare(run["l0"], run["l0"], rows=(0, 1))
    assert found.steps.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found.alone == ((3, 4, 5), ())
    assert found.difference().shape == (3, 5)
    assert "3 alone" in repr(found)


def test_tokens_put_in_move_nothing_and_stand_alone() -> None:
    rnn = nn.GRU(4, 5, batch_first=True)
    a, b = (record(rnn, torch.randn(1, steps, 4)) for steps in (4, 5))
    tokens = list("abcd"), ["a", "X", "Y", "b", "z"]
    found = compare(a, b, align="tokens", tokens=tokens)
    # a, b; X and Y are put in; c d have one other in their place, and which of them is not known
    assert found.steps.tolist() == [[0, 0], [1, 3]]
    assert found.alone == ((2, 3), (1, 2, 4))
    one = compare(a, b, align="tokens", tokens=("abcd", "abXcd"))
    assert one.steps.tolist() == [[0, 0], [1, 1], [2, 3], [3, 4]]
    assert one.alone == ((), (2,))
    replaced = compare(a, a, align="tokens", tokens=("abcd", "aXYd"))
    assert replaced.steps.tolist() == [[i, i] for i in range(4)]


def test_a_long_text_is_aligned_in_time() -> None:
    # all that is equal at both ends is no part of the search
    rnn = nn.GRU(1, 2, batch_first=True)
    a, b = record(rnn, torch.zeros(1, 9000, 1)), record(rnn, torch.zeros(1, 9001, 1))
    text = "abab" * 2250
    found = compare(a, b, align="tokens", tokens=(text, f"{text[:5000]}Q{text[5000:]}"))
    assert found.alone == ((), (5000,))


def test_checkpoints_of_other_sizes_have_answers_only(run: Recording) -> None:
    other = record(Classifier(units=7), torch.randn(3, 6, 4))
    found = compare(run, other, scale="logits")
    assert "5 units in a" in found.refused
    for ask in (found.difference, found.ranked, found.per_unit, found.to_frame):
        with pytest.raises(CellError, match="no unit of one is a unit of the other"):
            ask()
    assert found.answer_difference.shape == (1,)
    assert found.answer_difference[0] > 0
    with pytest.raises(CellError, match="no unit of one"):
        plot(found)
    lstm = record(nn.LSTM(4, 5, batch_first=True), torch.randn(1, 6, 4))
    assert "an LSTM in b" in compare(run["rnn.l0"], lstm["l0"]).refused
    again = record(Classifier(), torch.randn(3, 6, 4))
    assert "trained on from the other" in compare(run, again).note


def test_answers_that_do_not_fit_are_said_and_refused() -> None:
    class Ahead(nn.Module):  # as many answers as it is told
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 5, batch_first=True)

        def forward(self, x: Tensor, ahead: int) -> Tensor:
            states: Tensor = self.rnn(x)[0]
            return states[:, -1:].repeat(1, ahead, 1)

    model, x = Ahead(), torch.randn(1, 6, 4)
    found = compare(record(model, x, 2), record(model, x, 3))
    assert "2 and 3 steps" in found.note
    assert len(found.answer_difference) == 0
    layer = record(model, x, 2)["rnn.l0"]
    assert "one layer of a run has no answer" in compare(layer, layer).note
    with pytest.raises(ReadoutError, match="no answers to compare: answers are not compared: one"):
        _ = compare(layer, layer).answer_difference


def test_a_row_without_steps_has_no_number() -> None:
    run = record(nn.GRU(4, 5, batch_first=True), torch.randn(1, 3, 4))
    found = compare(run, run, align="tokens", tokens=("abc", "def"))
    assert found.steps.shape == (3, 2)  # replaced one by one
    longer = record(nn.GRU(4, 5, batch_first=True), torch.randn(1, 4, 4))
    found = compare(run, longer, align="tokens", tokens=("abc", "defg"))
    assert found.difference().shape == (0, 5)
    with pytest.raises(PositionError, match="no step of one row"):
        found.ranked()
    assert "Comparison('l0', 0 steps, 7 alone)" in found._repr_html_().replace("&#x27;", "'")


def test_it_is_a_table_a_figure_and_a_file(run: Recording, tmp_path: Path) -> None:
    found = compare(run, run, rows=(0, 1), tokens=("abcdef", "ABCDEF"), scale="logits")
    table = found.to_frame()
    assert list(table.columns) == ["unit", "r", "z", "n", "h", "h_most", "step_a", "step_b"]
    at = found.difference()[:, 3].abs().argmax()
    assert table["step_b"][3] == at
    assert table["h_most"][3] == pytest.approx(float(found.difference()[at, 3]))
    again = Comparison.load(found.save(tmp_path / "found"))
    assert torch.equal(again.difference("r"), found.difference("r"))
    assert again.tokens == (tuple("abcdef"), tuple("ABCDEF"))
    assert torch.equal(again.answer_difference, found.answer_difference)
    shown = plot(found, output="z")
    assert "z of b − a · rnn.l0" in shown._html()
    assert "a→A" in shown._html()
    with pytest.raises(SignalError, match="signal must be one of r, z, n, h, got 'q'"):
        plot(found, output="q")


def test_what_cannot_be_meant_is_refused(run: Recording) -> None:
    with pytest.raises(PositionError, match="rows must be a pair"):
        compare(run, run, rows=1)  # type: ignore[arg-type]
    with pytest.raises(PositionError, match="row must be a whole number below 3"):
        compare(run, run, rows=(0, 3))
    with pytest.raises(GrulensError, match=r"align must be one of steps, tokens, got 'words'"):
        compare(run, run, align="words")  # type: ignore[arg-type]
    with pytest.raises(GrulensError, match="needs tokens"):
        compare(run, run, align="tokens")
    with pytest.raises(GrulensError, match="5 tokens of b for its row of 6 steps"):
        compare(run, run, tokens=("abcdef", "abcde"))
    with pytest.raises(ReadoutError, match="scale must be one of"):
        compare(run, run, scale="bits")  # type: ignore[arg-type]
    with pytest.raises(SignalError, match="signal must be one of r, z, n, h"):
        compare(run, run).difference("f")
