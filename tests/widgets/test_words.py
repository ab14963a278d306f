"""No word on a screen is said past the catalogues: each is opened in a language that marks all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grulens import CompareView, Lens, Session, ablate, clamp, corpus, words
from grulens.widgets.rows import RowTable
from grulens.widgets.studies import STUDIES
from tests import spoken
from tests.widgets.conftest import Tagger

#: What is no word of ours: names of the model's, of its layers and of signals, tokens, equations.
DATA = (
    "rnn.l0", "rnn.l1", "Tagger", "abcdab", "bcdab", "cdab", "dab", "ab", "dcbadc", "h_prev",
    "prev", "max |", "PC", "AUC",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_catalogue", lambda name: spoken.Marked())


def of_study(name: str) -> Callable[[Session, Path], Any]:
    def make(session: Session, folder: Path) -> Any:
        if name == "corpus":
            texts = ["abab", "dcba", "aabb"]
            session.scan = corpus.scan(
                session.model, texts, folder / "s",
                labels={"a": lambda ids: [True, False, False, True]},
                on=0.0, progress=False,
            )  # fmt: skip
        lens = Lens(session)
        lens.studies.shown = name
        study: Any = lens.studies.opened[name]
        if name == "phrases":
            study.build.click()
        study.wait(60.0)
        assert "failed" not in study.callbacks.box.value
        return study

    return make


def of_corpus(*, model: bool = True) -> Callable[[Session, Path], Any]:
    def make(session: Session, folder: Path) -> Any:
        tagger = session.model.to(torch.bfloat16)
        scan = corpus.scan(
            tagger, ["abab" * 70, "dcba"], folder / "s", on=0.0, progress=False,
            labels={"a": lambda ids: [i % 3 == 0 for i in range(len(ids))]},
        )  # fmt: skip
        screen = corpus.Corpus(scan if model else corpus.open_scan(scan.path))
        screen.units = [1, 2]
        if model:
            screen.view.where.value = "a"
            assert "half" in screen.view.contexts.shown["said"]
            screen.open_place(screen.view.found.places[0])
        screen.moments.find.click()
        assert screen.wait(60.0)
        assert "failed" not in screen.callbacks.box.value
        return screen

    return make


def whole(session: Session, folder: Path) -> Lens:
    lens = Lens(session)
    lens.pick.value = True
    lens.table.measure.click()
    lens.table.wait(60.0)
    lens.gates.callbacks.show(ValueError("of the model's own, and stays as it is"))
    lens.gates.callbacks.clear()
    return lens


MADE: dict[str, Callable[[Session, Path], Any]] = {
    "lens": whole,
    "rows": lambda session, _: RowTable(session),
    "corpus by itself": of_corpus(),
    "corpus by itself, without the model": of_corpus(model=False),
    "compare two": lambda session, _: CompareView(session),
    **{name: of_study(name) for name in STUDIES},
}


@pytest.mark.parametrize("name", MADE)
def test_every_word_of_a_screen_is_looked_up(name: str, model: Tagger, tmp_path: Path) -> None:
    ids = torch.tensor([[0, 1, 2, 3, 0, 1], [3, 2, 1, 0, 3, 2]])
    session = Session(model, ids, truth=[0, 1], layer="rnn.l1")
    session.add(ablate("rnn.l1", 3))
    session.add(clamp("rnn.l1", "z", [1, 2], value=0.5, at=slice(1, 4)))
    session.units, session.times = (1,), (1, 2)
    session.pin(2, name="")
    screen = MADE[name](session, tmp_path)
    said = [*spoken.of_widget(screen), ("still", screen.still())]
    left = spoken.past(said, (*DATA, repr(screen)))
    assert not left, "\n".join(one[:300] for one in left)
