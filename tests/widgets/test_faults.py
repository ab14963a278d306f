"""Faults under a lens: the error shows, the edits stay, and other threads are not disturbed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from grulens import Lens, Session, ablate, clamp, editing, record, scale
from grulens.errors import ReadoutError
from grulens.widgets.session.after_cells import AFTER_CELLS
from tests.intact import Intact
from tests.widgets.conftest import Tagger

FIRST, OTHER = scale("rnn.l0", "z", by=0.5), clamp("rnn.l0", "h", 1, value=0.25)


def edits(session: Session) -> list[Any]:
    return [slot.edit for slot in session.slots]


def test_a_readout_that_fails_shows_in_the_lens_and_loses_no_edit(model: nn.Module) -> None:
    broken: list[Any] = []

    def readout(out: torch.Tensor) -> Any:
        if broken:
            raise broken[0]
        return out

    lens = Lens(model, "abcdab", readout=readout)
    lens.session.add(FIRST)
    intact = Intact(model)
    broken.append(ZeroDivisionError("the user's own"))
    lens.gates.controls.sliders["r"].value = 0.5
    assert "the user&#x27;s own" in lens.gates._errors.value
    assert edits(lens.session)[0] == FIRST
    assert intact.broken() == []
    broken.clear()
    lens.gates.controls.sliders["r"].value = 0.75
    assert not lens.gates._errors.value
    assert edits(lens.session) == [FIRST, scale("rnn.l0", "r", by=0.75)]


def test_a_readout_that_is_no_answer_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(ReadoutError, match="got NoneType"):
        Lens(model, "abcdab", readout=lambda out: None)
    assert Intact(model).broken() == []


@pytest.mark.parametrize("error", [ZeroDivisionError("hook"), KeyboardInterrupt()])
def test_a_run_that_fails_keeps_the_list_and_the_way_back(
    session: Session, model: nn.Module, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    session.add(FIRST)
    before = session.slots, session.edited
    handle = model.rnn.register_forward_hook(fail)
    intact = Intact(model)
    with pytest.raises(type(error)):
        session.add(OTHER)
    assert (session.slots, session.edited) == before
    assert not session.busy
    assert intact.broken() == []
    handle.remove()
    session.add(OTHER)
    session.undo()
    assert edits(session) == [FIRST]
    session.undo()
    assert session.edited is session.baseline


def test_two_lenses_on_one_model_moved_in_turn(model: nn.Module) -> None:
    one, other = Lens(model, "abcdab"), Lens(model, "dcba")
    alone = [record(model, model.encode(text), edits=edit)["rnn.l1"].h  # type: ignore[operator]
             for text, edit in (("abcdab", FIRST), ("dcba", OTHER))]  # fmt: skip
    for _ in range(2):
        one.session.set_slots(())
        one.session.add(FIRST)
        other.session.set_slots(())
        other.session.add(OTHER)
        assert torch.equal(one.session.edited["rnn.l1"].h, alone[0])
        assert torch.equal(other.session.edited["rnn.l1"].h, alone[1])
    assert Intact(model).broken() == []


def test_two_sessions_in_two_threads_while_a_cell_records(model: nn.Module) -> None:
    texts = ("abcdab", "dcba", "aaaa")
    sessions = [Session(model, text) for text in texts[:2]]
    pairs = zip(texts, (FIRST, OTHER, ablate("rnn.l1")), strict=True)
    right = [record(model, model.encode(text), edits=edit)["rnn.l1"].h  # type: ignore[operator]
             for text, edit in pairs]  # fmt: skip
    intact, wrong = Intact(model), []

    def move(number: int) -> None:
        for _ in range(5):
            sessions[number].set_slots(())
            sessions[number].add((FIRST, OTHER)[number])
            if not torch.equal(sessions[number].edited["rnn.l1"].h, right[number]):
                wrong.append(number)

    threads = [threading.Thread(target=move, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        run = record(model, model.encode("aaaa"), edits=ablate("rnn.l1"))  # type: ignore[operator]
        if not torch.equal(run["rnn.l1"].h, right[2]):
            wrong.append(2)
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert intact.broken() == []


def test_a_lens_inside_a_block_shows_the_edited_model_as_its_baseline(model: nn.Module) -> None:
    plain = Session(model, "abcd").baseline["rnn.l1"].h
    with editing(model, FIRST):
        session = Session(model, "abcd")
        assert not torch.equal(session.baseline["rnn.l1"].h, plain)
        session.add(OTHER)
        both = session.edited["rnn.l1"].h
    session.set_slots(())
    session.set_slots(session.slots)
    expected = record(model, session.args[0], edits=[FIRST, OTHER])["rnn.l1"].h
    assert torch.equal(both, expected)


def test_a_cell_that_runs_wipes_no_error_away(model: nn.Module) -> None:
    lens = Lens(model, "abcdab")
    lens.text.value = "xyz"
    lens.run.click()
    said = lens._errors.value
    assert "ValueError" in said
    AFTER_CELLS()
    assert lens._errors.value == said
    lens.text.value = "abc"
    lens.run.click()
    assert lens._errors.value == ""
    lens.close()


def test_half_a_surrogate_pair_is_seen_as_the_replacement_and_kept() -> None:
    class Reader(Tagger):
        def encode(self, text: str) -> torch.Tensor:
            return torch.tensor([[ord(c) % 4 for c in text]])

    given, typed = "the \ud83d film", "a \udc80 film"
    lens = Lens(Reader().eval(), given)
    assert lens.text.value == "the \ufffd film"
    lens.run.click()
    assert (lens.session.text, lens.session.typed) == (given, given)
    lens.session.set_input(typed)
    assert lens.text.value == "a \ufffd film"
    lens.text.value = given
    lens.run.click()
    assert (lens.text.value, lens.session.typed) == ("the \ufffd film", given)
    assert lens._errors.value == ""
    assert lens.session.tokens == list("the \ufffd film")
    assert (lens.still() + lens.session.code()).encode()
    lens.close()
