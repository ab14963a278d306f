"""Which runs a page makes again, what it is told of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grulens import Lens, Session, ablate, clamp, scale, shift
from grulens.errors import RecordingError
from grulens.widgets.session import running as told
from grulens.widgets.session.running import running

WORDS = ["the", "film", "was", "not", "bad"]


class Tagger(nn.Module):
    """Words through a table, two levels of both directions and a linear readout."""

    labels = ("good", "bad", "so so")

    def __init__(
        self, kind: type[nn.RNNBase] = nn.GRU, *, between: nn.Module | None = None
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 3)
        self.low = kind(3, 4, batch_first=True, bidirectional=True)
        self.between = between or nn.Identity()
        self.high = kind(8, 3, batch_first=True, bidirectional=True)
        self.out = nn.Linear(6, 3)

    def encode(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    def decode(self, ids: Tensor) -> list[str]:
        return [WORDS[int(i)] for i in ids]

    def read(self, h: Tensor) -> Tensor:
        said: Tensor = self.out(h)
        return said

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(self.high(self.between(self.low(self.table(ids))[0]))[0])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_page_is_told_all_of_a_stack_that_reads_words(kind: type[nn.RNNBase]) -> None:
    session = Session(Tagger(kind), "the film was not bad")
    signal = session.before.cell.signals[0].name
    session.add(shift("low.l0", signal, [1, 2], by=0.7, at=-1))
    session.add(ablate("low.l0_reverse", 1, to="mean"))
    session.add(clamp("low.l0_reverse", "h", value=[1.0, 2.0, 3.0, 4.0]))
    found = running(session)
    layers = found.described.network["layers"]
    assert [layer["reads"] for layer in layers] == [[], []] + [["low.l0", "low.l0_reverse"]] * 2
    assert found.given == [0, 1, 2, 3, 4]
    assert found.spelling is not None
    assert found.spelling.words
    assert found.spelling.ids == {word: i for i, word in enumerate(WORDS)}
    assert found.answered is not None
    assert found.answered.read.each
    first, second, third = found.edits
    how = "before" if session.before.cell.signals[0].activated else "add"
    assert (first["how"], first["units"], first["steps"]) == (how, [1, 2], [4])
    assert (second["how"], len(second["value"]), second["units"]) == ("set", 4, [1])
    assert (third["value"], third["units"], third["steps"]) == ([1.0, 2.0, 3.0, 4.0], None, None)
    assert found.apart < 1e-6


class Numbers(nn.Module):
    def __init__(self, read: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.read = nn.LSTM(2, 4, bidirectional=True), nn.Linear(8, 2), read

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.read(self, *self.rnn(x))
        return said


@pytest.mark.parametrize(
    ("read", "ends", "finish", "pick"),
    [
        (lambda m, out, _: m.out(out[-1]), False, "none", None),
        (lambda m, _, last: m.out(torch.cat([*last[0]], 1)), True, "none", None),
        (lambda m, out, _: m.out(out[-1]).softmax(-1), False, "softmax", None),
        (lambda m, out, _: m.out(out[-1]).softmax(-1)[:, 1:], False, "softmax", 1),
        (lambda m, out, _: m.out(out[-1]).log_softmax(-1), False, "log_softmax", None),
        (lambda m, out, _: m.out(out[-1]).sigmoid()[:, :1], False, "sigmoid", 0),
    ],
)
def test_the_readout_is_found_whatever_is_made_of_it(
    read: Any, ends: bool, finish: str, pick: int | None
) -> None:
    found = running(Session(Numbers(read), torch.randn(6, 3, 2)))
    assert found.answered is not None, found.unanswered
    assert (found.answered.finish, found.answered.pick) == (finish, pick)
    assert (found.answered.read.each, found.answered.read.ends) == (False, ends)
    assert len(found.given) == 12
    assert found.unspelled == "the input is numbers and no text"


def test_a_readout_that_is_not_linear_leaves_the_states() -> None:
    found = running(
        Session(Numbers(lambda m, out, _: m.out(out).tanh().mean(0)), torch.randn(6, 1, 2))
    )
    assert found.answered is None
    assert found.unanswered == "it is no linear map of the layers' states"
    bare = running(Session(nn.GRU(3, 4, batch_first=True, bidirectional=True), torch.ones(1, 6, 3)))
    assert bare.answered is not None  # its output is its states


def test_an_answer_that_is_no_number_is_told_to_be_none() -> None:
    found = running(
        Session(Numbers(lambda m, out, _: m.out(out).mean(0) / 0), torch.randn(6, 1, 2))
    )
    assert found.answered is None
    assert found.unanswered == "it is infinite or no number (NaN) at some step"


@pytest.mark.parametrize(
    ("read", "classes"), [(None, 2), (lambda output: output[1].transpose(0, 1), 3)]
)
def test_of_several_answers_it_is_the_one_that_is_read(read: Any, classes: int) -> None:
    model = Numbers(lambda m, out, _: (m.out(out), m.more(out), out))
    model.more = nn.Linear(8, 3)
    found = running(Session(model, torch.randn(6, 1, 2), readout=read))
    assert found.answered is not None, found.unanswered
    assert len(found.answered.read.bias) == classes


class Taught(nn.Module):
    """A second layer that begins in what the first one ended in, through a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.GRU(2, 3, batch_first=True), nn.GRU(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(x, self.one(x)[1].tanh())[0]
        return out


class Steps(nn.Module):
    """Words through two cells, one after the other at each step."""

    encode, decode, labels = Tagger.encode, Tagger.decode, WORDS

    def __init__(self, kind: type[nn.RNNCellBase], fed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out, self.fed = nn.Embedding(5, 3), nn.Linear(4, 5), fed
        self.low, self.high = kind(3, 3), kind(3, 4)

    def forward(self, ids: Tensor) -> Tensor:
        low = high = None
        x, said = self.table(ids[:, 0]), list[Tensor]()
        for t in range(ids.shape[1]):
            x = x if self.fed else self.table(ids[:, t])
            low, high = (state := self.low(x, low)), self.high(self._h(state), high)
            said.append(self.out(self._h(high)))
            x = self.table(said[-1].argmax(1))
        return torch.stack(said, 1)

    @staticmethod
    def _h(state: Any) -> Tensor:
        h: Tensor = state[0] if isinstance(state, tuple) else state
        return h


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_a_loop_over_the_steps_runs_where_it_hands_on_what_it_has(
    kind: type[nn.RNNCellBase],
) -> None:
    session = Session(Steps(kind, fed=False), "the film was not bad")
    session.add(clamp("low", "h", [1], value=0.3, at=slice(-2, None)))
    found = running(session)
    assert [layer["reads"] for layer in found.described.network["layers"]] == [[], ["low"]]
    assert (found.given, found.edits[0]["steps"]) == ([0, 1, 2, 3, 4], [3, 4])
    assert found.spelling is not None, found.unspelled
    assert found.answered is not None, found.unanswered
    with pytest.raises(RecordingError, match="low is called step by step, and what it reads is"):
        running(Session(Steps(kind, fed=True), "the film was not bad"))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 3)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h) * torch.sigmoid(x[:, t, :1])
        return h


@pytest.mark.parametrize(
    ("model", "given", "why"),
    [
        (Tagger(between=nn.LayerNorm(8)), torch.tensor([[1, 2, 3]]), "what layer high.l0 reads is"),
        (Taught(), torch.ones(1, 5, 2), "with changes in all layers, the states of layer two.l0"),
        (Loop(), torch.randn(1, 4, 2), "was called 4 times"),
        (nn.GRU(2, 3, dropout=0.5, num_layers=2), torch.randn(5, 1, 2), "what layer l1 reads"),
    ],
)
def test_what_a_page_cannot_make_is_refused_with_the_reason(
    model: nn.Module, given: Tensor, why: str
) -> None:
    with pytest.raises(RecordingError, match=why):
        running(Session(model, given))


def test_a_mean_that_other_edits_change_is_refused() -> None:
    session = Session(Tagger(), "the film was not bad")
    session.add(ablate("high.l0", 1, to="mean"))
    with pytest.raises(RecordingError, match=r"the mean of layer high\.l0, which edits of"):
        running(session)


def test_large_weights_are_rounded_or_stay_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Session(nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3))
    session.add(scale("l0", "z", by=0.5))
    lens, page = Lens(session), tmp_path / "lens.html"
    assert running(session).apart < 1e-6
    assert "rounded to float16" not in lens.save(page).read_text(encoding="utf-8")
    monkeypatch.setattr(told, "FULL", 100)
    found = running(session)
    assert found.dtype == "f2"
    assert "rounded to float16" in lens.save(page).read_text(encoding="utf-8")
    assert 1e-6 < found.apart < 1e-2
    monkeypatch.setattr(told, "MOST", 100)
    with pytest.raises(RecordingError, match="weights are 0 MB as float16"):
        running(session)
    assert "cannot run here, because its weights" in lens.save(page).read_text(encoding="utf-8")
    lens.close()


def test_what_a_model_makes_of_another_text_must_be_what_the_page_makes() -> None:
    class Sorted(Tagger):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids if ids.shape[1] < 9 else ids.sort(1).values)

    found = running(Session(Sorted(), "the film was not bad"))
    assert (found.spelling, found.unspelled) == (
        None, "another text gave another run in the model itself",
    )  # fmt: skip


def test_only_rows_of_a_table_that_can_be_asked_for_are_written() -> None:
    bare = nn.Sequential(nn.Embedding(5, 3), nn.GRU(3, 4, batch_first=True))
    found = running(Session(bare, torch.tensor([[4, 1, 4]])))
    assert (found.given, found.spelling) == ([1, 0, 1], None)
    whole = bare[0].weight.detach().double().numpy()
    assert (found.described.arrays["table"] == whole[[1, 4]].ravel()).all()
    # words that can be typed: all but one that no text gives
    model = Tagger()
    known = {word: 3 if word == "was" else i for i, word in enumerate(WORDS)}
    encode = lambda text: [known[word] for word in text.split()]  # noqa: E731
    typed = running(Session(model, "the film", encode=encode))
    whole = model.table.weight.detach().double().numpy()
    assert typed.spelling is not None
    assert (typed.given, typed.spelling.ids) == ([0, 1], {"the": 0, "film": 1, "not": 2, "bad": 3})
    assert (typed.described.arrays["table"] == whole[[0, 1, 3, 4]].ravel()).all()


def test_a_model_that_has_changed_since_is_not_written() -> None:
    model = Tagger()
    session = Session(model, "the film was not bad")
    with torch.no_grad():
        model.out.bias += 1
    with pytest.raises(RecordingError, match="has changed since"):
        running(session)


def test_a_page_that_cannot_run_shows_the_run_and_says_why(tmp_path: Path) -> None:
    lens = Lens(Loop(), torch.randn(1, 4, 2))
    page = lens.save(tmp_path / "lens.html").read_text(encoding="utf-8")
    assert "it cannot run here, because layer cell was called 4 times in the run" in page
    assert "grulensEngine" not in page
    lens.close()


def test_weights_are_in_the_page_only_where_they_may_be(tmp_path: Path) -> None:
    lens = Lens(Tagger(), "the film was not bad")
    lens.session.add(clamp("low.l0", "z", value=0.25))
    inside = lens.save(tmp_path / "in.html").read_text(encoding="utf-8")
    weight = running(lens.session).described.packed("f4")["low.l0 weight_hh"]["data"]
    assert weight in inside
    assert '"value":0.25' in inside
    assert "The answer is within 1e-07" in inside
    outside = lens.save(tmp_path / "out.html", weights=False).read_text(encoding="utf-8")
    assert weight not in outside
    assert "cannot run" not in outside
    lens.close()
