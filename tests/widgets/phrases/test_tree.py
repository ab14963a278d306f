"""The screen of a tree of phrases: what it builds is what `agglomerate` gives, and it lets go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import grulens
from grulens import Session, ablate
from grulens.errors import GrulensError, ReadoutError
from grulens.phrases import PhraseTree, agglomerate
from grulens.widgets.phrases import build


@pytest.fixture
def session(model: nn.Module) -> Session:
    return Session(model, "abcdab", layer="rnn.l1")


@pytest.fixture
def screen(session: Session) -> Iterator[PhraseTree]:
    made = PhraseTree(session)
    yield made
    made.close()
    assert made.wait(10.0)


def built(screen: PhraseTree) -> PhraseTree:
    screen.build.click()
    assert screen.wait(10.0)
    assert not screen._errors.value
    return screen


def same(screen: PhraseTree, **asked: Any) -> None:
    session = screen.session
    options = {"layer": session.layer, "row": session.row, "by": screen.by, "progress": False}
    want = agglomerate(session.model, *session.args, **{**options, **asked})
    assert screen.tree is not None
    assert (screen.tree.groups, screen.tree.target) == (want.groups, want.target)


def test_before_it_is_built_it_says_what_it_does(screen: PhraseTree) -> None:
    assert "Joins neighbouring tokens into phrases" in screen._built.value
    assert "Joins" not in built(screen)._built.value


def test_it_builds_what_agglomerate_gives(screen: PhraseTree, session: Session) -> None:
    assert screen._shown.layout.display == "none"
    likeliest = int(session.answer_before.values[5].argmax())
    same(built(screen), target=likeliest)
    assert screen._shown.layout.display is None
    assert "6 tokens" in screen._built.value
    assert screen._boxes.figure.title.text == f"phrases for {'abcd'[likeliest]} at step 5 · rnn.l1"
    screen.target.value = 2
    assert screen.tree is None  # of another class
    same(built(screen), target=2)
    screen.against.value = 0
    assert screen.tree is None
    same(built(screen), target=(2, 0))
    assert "phrases for c against a at step 5" in screen.still()
    screen.against.value = 2  # against itself is against nothing
    same(built(screen), target=2)
    screen.by = "score"
    same(built(screen), target=2)
    session.step = 3
    assert screen.tree is None
    same(built(screen), target=2, step=3)
    assert len(built(screen).tree.tokens) == 4  # type: ignore[union-attr]


def test_a_group_chosen_is_steps_chosen_and_said(screen: PhraseTree, session: Session) -> None:
    screen.target.value = 1
    tree = built(screen).tree
    assert tree is not None
    group = tree.merges[0]
    for listener in screen._boxes._phrase_listeners:
        listener(group)
    assert session.times == group.tokens
    assert screen.phrase.value == 1
    text = "".join("abcdab"[t] for t in group.tokens)
    assert f"{text} adds " in screen._chosen.value
    assert "as its two parts are together" in screen._chosen.value
    screen.phrase.value = 3
    assert session.times == tree.merges[2].tokens
    session.times = (2,)
    assert screen.phrase.value == 0
    assert session.times == (2,)
    assert "c adds " in screen._chosen.value
    screen.phrase.value = 1
    screen.phrase.value = 0
    assert session.times == ()
    assert screen._chosen.value == '<span role="status"></span>'


def test_it_is_of_the_model_without_edits_and_says_so(screen: PhraseTree, session: Session) -> None:
    before = built(screen).tree
    session.add(ablate("rnn.l1", 1))
    assert screen.tree is before
    assert "of the model without the edits" in screen._built.value
    assert built(screen).tree is not None
    assert screen.tree.groups == before.groups  # type: ignore[union-attr]


class Held:
    """Every pause waits until the test lets it go on."""

    def __init__(self) -> None:
        self.paused, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def sleep(self, _: float) -> None:
        self.paused.release()
        assert self.go_on.acquire(timeout=10)

    def until_paused(self, times: int = 1) -> None:
        for i in range(times):
            assert self.paused.acquire(timeout=10)
            if i + 1 < times:
                self.go_on.release()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held()
    monkeypatch.setattr(build, "time", made)
    monkeypatch.setattr("grulens.job.INTERVAL", -1.0)
    yield made
    made.go_on.release(1000)


def test_stopped_what_is_built_stays(screen: PhraseTree, held: Held) -> None:
    screen.build.click()
    held.until_paused(8)
    assert screen.build.description == "stop"
    bar = screen._building.bar
    assert (bar.value, bar.max, bar.layout.display) == (8, 11, None)
    assert "building, 70 %" in screen._built.value
    assert len(screen._boxes.source.data["left"]) == 4
    screen.build.click()
    held.go_on.release(1000)
    assert screen.wait(10.0)
    assert screen.tree is not None
    assert (len(screen.tree.merges), screen.tree.complete) == (2, False)
    assert "6 tokens, stopped after 2 of 5 merges" in screen._built.value
    assert screen.build.description == "build"
    assert built(screen).tree.complete  # type: ignore[union-attr]


def test_the_kernel_is_free_between_two_groups(
    screen: PhraseTree, session: Session, held: Held
) -> None:
    screen.build.click()
    held.until_paused()
    session.add(ablate("rnn.l0", 1))
    assert float(session.divergence.max()) > 0
    held.go_on.release(1000)
    assert screen.wait(10.0)
    assert screen.tree is not None
    assert screen.tree.complete


@pytest.mark.parametrize(
    "change",
    [
        lambda screen: setattr(screen.session, "layer", "rnn.l0"),
        lambda screen: screen.session.set_input("abcc"),
        lambda screen: setattr(screen.target, "value", 3),
        lambda screen: setattr(screen, "by", "score"),
        lambda screen: setattr(screen.session, "step", 2),
    ],
)
def test_a_tree_of_what_is_no_longer_asked_goes(
    screen: PhraseTree, held: Held, change: Callable[[PhraseTree], None]
) -> None:
    screen.build.click()
    held.until_paused(8)
    change(screen)
    assert screen.tree is None
    held.go_on.release(1000)
    assert screen.wait(10.0)
    assert screen.tree is None
    assert "Joins neighbouring tokens" in screen._built.value


def test_each_row_has_its_own(model: nn.Module) -> None:
    screen = PhraseTree(model, torch.tensor([[0, 1, 2, 1], [3, 2, 2, 0]]), layer="rnn.l1")
    screen.target.value = 1
    same(built(screen), target=1)
    screen.session.row = 1
    assert screen.tree is None
    same(built(screen), target=1)


def test_what_cannot_be_read_is_said_and_goes(session: Session) -> None:
    screen = PhraseTree(session)
    session.layer = "rnn.l0"
    screen.build.click()
    assert screen.wait(10.0)
    said = "No phrases: no nn.Linear of this model reads the states of layer &#x27;rnn.l0&#x27;"
    assert said in screen._built.value
    assert "credit by integrated gradients needs no linear readout" in screen._built.value
    assert screen._errors.value == ""
    assert screen.build.description == "build"
    session.layer = "rnn.l1"
    assert "No phrases" not in screen._built.value
    built(screen)
    screen.close()


def test_a_classifier_is_read_where_its_rows_end() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.rnn(x)[1]
            return self.out(torch.cat([h[-2], h[-1]], 1))

    torch.manual_seed(0)
    screen = PhraseTree(Classifier(), torch.randn(1, 5, 3))
    same(built(screen), target=int(screen.session.answer_before.values[0].argmax()), step="final")
    assert screen.tree is not None
    assert screen.tree.score == pytest.approx(float(screen.session.answer_before.values.max()))
    assert "at the end" in screen.still()
    assert [name for name, _ in screen.target.options][1:] == ["class 0", "class 1", "class 2"]


def test_classes_are_those_of_the_readout(model: nn.Module) -> None:
    screen = PhraseTree(model, "abcd", layer="rnn.l1", readout=lambda out: out[..., :2])
    assert len(screen.target.options) == 3
    screen.target.value = 1
    same(built(screen), target=1)
    assert [name for name, _ in screen.target.options] == ["the likeliest", "a", "b", "c", "d"]
    assert screen.target.value == 1


def test_it_is_in_the_picture_that_outlives_the_kernel(screen: PhraseTree) -> None:
    assert "<svg" not in screen.still()
    assert "<svg" in built(screen).still()
    assert "phrases for " in screen.still()
    assert repr(screen) == "PhraseTree(Tagger, rnn.l1, 0 of 0 edits on)"


def test_a_tree_is_plotted(session: Session) -> None:
    tree = agglomerate(session.model, *session.args, target=(1, 0), progress=False)
    view = grulens.plot(tree, tokens="abcdab")
    assert repr(view) == f"plot of {tree!r}"
    boxes, strip = view.document.roots[0].children
    assert boxes.title.text == "phrases for class 1 against 0 · rnn.l1"
    assert strip.name == "tokens, coloured by what each contributes alone"
    assert "<svg" in str(view._repr_mimebundle_())
    with pytest.raises(GrulensError, match="3 tokens for a figure of 6 steps"):
        grulens.plot(tree, tokens="abc")
    with pytest.raises(ReadoutError, match="a tree of phrases is of one class"):
        grulens.plot(tree, output=1)
    view.close()


class Mixed(nn.Module):
    """A GRU upon an LSTM; the head reads the GRU alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 3, batch_first=True)
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.gru(self.lstm(x)[0])[0])
        return out


def test_why_nothing_was_built_is_of_the_layer_shown() -> None:
    torch.manual_seed(0)
    session = Session(Mixed(), torch.randn(1, 4, 3))
    session.layer = "lstm.l0"
    panel = PhraseTree(session)
    panel.build.click()
    assert panel.wait(20.0)
    assert "layer &#x27;lstm.l0&#x27;" in panel._built.value
    session.layer = "gru.l0"
    assert panel._errors.value == ""
    assert "lstm" not in panel._built.value
    panel.build.click()
    assert panel.wait(20.0)
    assert panel._errors.value == ""
    assert panel.tree is not None
    panel.close()
