"""The session: what the widgets share, without any widget."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from traitlets import TraitError

from grulens import Session, ablate, clamp, record, scale
from grulens.errors import GrulensError, LayerError, NoLayerError, PositionError, ReadoutError


def test_text_is_encoded_and_names_the_steps(session: Session) -> None:
    assert session.tokens == list("abcdab")
    assert session.steps == 6
    assert session.step == 5
    assert session.layer == "rnn.l0"
    assert session.answer_before.scale == "logits"


def test_numbers_are_named_by_labels(model: nn.Module) -> None:
    session = Session(model, torch.tensor([[3, 0], [1, 2]]))
    assert session.tokens == ["d", "a"]
    session.row = 1
    assert session.tokens == ["b", "c"]


def test_a_shorter_row_is_shown_at_a_step_that_it_has() -> None:
    rows = nn.utils.rnn.pack_sequence([torch.randn(6, 3), torch.randn(4, 3)])
    session = Session(nn.GRU(3, 4, bidirectional=True), rows)
    session.row = 1
    assert session.step == 3
    session.row, session.step, session.layer = 0, 5, "l0_reverse"
    session.row = 1
    assert session.step == 0  # what it read last
    session.step = 2
    session.row = 0
    assert session.step == 2


def test_edits_change_the_run_and_off_brings_the_baseline_back(session: Session) -> None:
    session.add(ablate("rnn.l0", 2))
    assert float(session.now.h[..., 2].abs().max()) == 0
    assert float(session.divergence.sum()) > 0
    session.switch(lambda slot: False)
    assert session.edited is session.baseline
    assert float(session.divergence.sum()) == 0


def test_edits_act_in_the_order_of_the_list(session: Session) -> None:
    session.add(clamp("rnn.l0", "h", 0, value=0.5))
    session.add(scale("rnn.l0", "h", 0, by=0.5))
    assert float(session.now.h[0, 0, 0]) == 0.25
    session.move(session.slots[1].key, -1)
    assert [slot.edit.kind for slot in session.slots] == ["scale", "clamp"]
    assert float(session.now.h[0, 0, 0]) == 0.5


def test_undo_and_redo(session: Session) -> None:
    first = ablate("rnn.l0", 0)
    session.add(first)
    session.add(ablate("rnn.l1", 1))
    session.undo()
    assert [slot.edit for slot in session.slots] == [first]
    session.undo()
    assert not session.slots
    assert not session.can_undo
    session.redo()
    session.redo()
    assert len(session.slots) == 2
    assert not session.can_redo
    session.undo()
    session.add(first)
    assert not session.can_redo


def test_a_drag_is_one_undo(session: Session) -> None:
    held = None
    for value in (0.1, 0.2, 0.3):
        new = scale("rnn.l0", "z", by=value)
        session.put(held, new)
        held = new
    assert [slot.edit for slot in session.slots] == [held]
    session.undo()
    assert not session.slots


LOOKS: dict[str, Callable[[Session], object]] = {
    "other units": lambda session: setattr(session, "units", (1,)),
    "other steps": lambda session: setattr(session, "times", (2,)),
    "another step": lambda session: setattr(session, "step", 2),
    "another layer": lambda session: setattr(session, "layer", "rnn.l1"),
    "another input": lambda session: session.set_input("abc"),
    "another edit": lambda session: session.add(ablate("rnn.l1", 1)),
}


@pytest.mark.parametrize("look", LOOKS)
def test_who_looked_elsewhere_between_has_two_undos(session: Session, look: str) -> None:
    edits = [scale("rnn.l0", "z", by=value) for value in (0.1, 0.2, 0.3, 0.4)]
    session.put(None, edits[0])
    session.put(edits[0], edits[1])
    LOOKS[look](session)
    session.put(edits[1], edits[2])
    session.put(edits[2], edits[3])
    session.undo()
    assert session.slots[0].edit == edits[1]
    if look == "another edit":
        session.undo()
    session.undo()
    assert not session.slots
    assert not session.can_undo


def test_put_none_removes(session: Session) -> None:
    edit = scale("rnn.l0", "z", by=0.5)
    session.put(None, edit)
    session.put(edit, None)
    assert not session.slots
    session.put(edit, None)  # there is nothing to remove: nothing happens
    assert not session.slots


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (ablate("rnn.l9"), LayerError),
        (ablate("rnn.l0", 99), PositionError),
        (ablate("rnn.l0", at=99), PositionError),
    ],
)
def test_a_bad_edit_changes_nothing(session: Session, edit: object, error: type) -> None:
    session.add(ablate("rnn.l0", 0))
    slots, edited = session.slots, session.edited
    with pytest.raises(error):
        session.add(edit)
    assert session.slots == slots
    assert session.edited is edited
    session.undo()
    assert not session.slots


def test_a_shorter_input_switches_off_what_reaches_past_it(session: Session) -> None:
    long, short = ablate("rnn.l0", 0, at=[4, 5]), ablate("rnn.l1", 1)
    session.add(long)
    session.add(short)
    session.set_input("abc")
    assert session.tokens == list("abc")
    assert [slot.mismatch for slot in session.slots] == ["steps 4, 5 of 3", ""]
    assert [slot.on for slot in session.slots] == [False, True]
    assert session.on == [short]
    assert torch.equal(
        session.edited.output, record(session.model, *session.args, edits=[short]).output
    )
    session.set_input("dcbabc")
    assert session.on == [long, short]
    assert torch.equal(
        session.edited.output, record(session.model, *session.args, edits=[long, short]).output
    )


def test_an_edit_off_by_hand_stays_off_when_it_fits_again(session: Session) -> None:
    session.add(ablate("rnn.l0", 0, at=5))
    session.switch(lambda slot: False)
    session.set_input("abc")
    session.set_input("abcdab")
    assert session.on == []
    session.set_input("abc")
    session.switch(lambda slot: True)  # it is wanted, and waits
    assert session.on == []
    session.set_input("abcdab")
    assert len(session.on) == 1


def test_undo_under_another_input_marks_what_does_not_fit_it(session: Session) -> None:
    session.add(ablate("rnn.l0", 0, at=5))
    session.remove(session.slots[0].key)
    session.set_input("abc")
    session.undo()
    assert session.slots[0].mismatch == "step 5 of 3"
    session.set_input("abcdab")
    assert session.slots[0].on
    session.redo()
    assert not session.slots
    session.set_input("abc")
    with pytest.raises(PositionError):
        session.add(ablate("rnn.l0", 0, at=5))  # what is new must fit
    assert not session.slots


def test_another_input_keeps_the_edits(session: Session) -> None:
    session.units, session.times = (4, 1, 1), (5, 2)
    assert session.units == (1, 4)
    session.add(ablate("rnn.l0", 0))
    session.set_input("abcd")
    assert session.times == (2,)
    assert session.step == 3
    assert float(session.now.h[..., 0].abs().max()) == 0


def test_layers_can_be_chosen_by_name_only(session: Session) -> None:
    session.units = (1,)
    session.layer = "rnn.l1"
    assert session.units == ()
    with pytest.raises(
        LayerError, match=r"did not run on this input; what ran is rnn\.l0, rnn\.l1"
    ):
        session.layer = "rnn.l7"
    assert session.layer == "rnn.l1"


def test_dropout_draws_the_same_masks_before_and_after() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=True).train()
    state = torch.get_rng_state()
    session = Session(rnn, torch.ones(1, 6, 3))
    session.add(scale("l0", "z", by=1.0))
    assert float((session.edited["l1"].h - session.baseline["l1"].h).abs().max()) < 1e-6
    assert torch.equal(state, torch.get_rng_state())


def test_the_code_makes_the_same_run(session: Session, model: nn.Module) -> None:
    session.add(ablate("rnn.l0", [1, 3], to="mean", at=slice(1, 4)))
    session.add(clamp("rnn.l1", "z", 2, value=0.75))
    session.add(scale("rnn.l1", "r", by=0.5))
    session.switch(lambda slot: slot.edit.kind != "scale")
    names = {"model": model, "x": session.args[0]}
    exec(session.code(), names)
    assert torch.equal(names["run"].output, session.edited.output)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("ab", "2 tokens for a run of 6 steps"),
        ([["a"], ["b"], ["c"]], "tokens of 3 rows for a run of 1 row"),
    ],
)
def test_tokens_must_fit(model: nn.Module, tokens: object, message: str) -> None:
    with pytest.raises(GrulensError, match=message):
        Session(model, "abcdab", tokens=tokens)


def test_a_model_without_a_gru_is_refused_by_name() -> None:
    with pytest.raises(NoLayerError, match=r"holds no nn\.GRU"):
        Session(nn.Linear(2, 2), torch.ones(1, 2))


def test_readouts(model: nn.Module) -> None:
    ids = torch.tensor([[0, 1, 2]])
    last = Session(model, ids, readout=lambda out: out[:, -1])
    assert last.answer_before.values.shape == (1, 4)
    value = Session(model, ids, readout=lambda out: out[..., 0], scale="value")
    assert value.answer_before.values.shape == (3, 1)
    value.add(ablate("rnn.l0"))
    change = value.answer_now.values - value.answer_before.values
    assert torch.equal(value.divergence, change[:, 0])
    sure = Session(model, ids, readout=lambda out: out.softmax(-1))
    assert sure.answer_before.scale == "probability"
    with pytest.raises(ReadoutError, match="must return a floating tensor, got int"):
        _ = Session(model, ids, readout=lambda out: 3).answer_before


def test_kl_equals_its_formula(session: Session) -> None:
    session.add(ablate("rnn.l0"))
    p = session.answer_before.values.double().softmax(-1)
    q = session.answer_now.values.double().softmax(-1)
    expected = (p * (p / q).log2()).sum(-1)
    torch.testing.assert_close(session.divergence.double(), expected, atol=1e-6, rtol=1e-5)


def test_time_first_output_is_turned(model: nn.Module) -> None:
    rnn = nn.GRU(3, 4)
    session = Session(rnn, torch.randn(7, 2, 3))
    session.row = 1
    torch.testing.assert_close(session.answer_before.values, record(rnn, *session.args)["l0"].h[1])


class Classes(nn.Module):
    """Three classes for a whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[1][-1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["neg"], r"1 label for a readout of 3 classes.*got \['neg'\]"),
        (list("abcd"), "4 labels for a readout of 3 classes"),
        ([], "0 labels for"),
        ("abc", "labels must be a list with one name a class, got 'abc'"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_words(labels: object, message: str) -> None:
    with pytest.raises(GrulensError, match=message):
        Session(Classes(), torch.ones(1, 12, 3), labels=labels)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"abc", "labels must be a list"),
        ({"a", "b", "c"}, "labels must be a list"),
        ({0: "a", 1: "b", 2: "c"}, "got a dict, whose order says nothing of the classes"),
        (torch.arange(3), "labels must be a list with one name a class, got tensor"),
        ([["a", "b", "c"]], r"and item 0 is \['a', 'b', 'c'\]"),
        ([{"a": 1}, "b", "c"], "and item 0 is {'a': 1}"),
        (3, "labels must be a list of texts, got 3"),
    ],
)
def test_labels_of_another_kind_are_refused_in_words(labels: object, message: str) -> None:
    with pytest.raises(GrulensError, match=message):
        Session(Classes(), torch.ones(1, 12, 3), labels=labels)


@pytest.mark.unchecked
def test_labels_are_any_list_of_names() -> None:
    for labels in (np.array(["no", "yes", "why"]), iter(["no", "yes", "why"])):
        session = Session(Classes(), torch.ones(1, 12, 3), labels=labels)
        assert sorted(session.top(0)[0]) == ["no", "why", "yes"]


def test_labels_that_fit_name_the_classes() -> None:
    x = torch.ones(1, 12, 3)
    session = Session(Classes(), x, labels=("no", "yes", "why"))
    assert sorted(session.top(0)[0]) == ["no", "why", "yes"]
    # two of the classes are what the readout shows: two names
    two = Session(Classes(), x, readout=lambda out: out[:, :2], labels=["no", "yes"])
    assert sorted(two.top(0)[0]) == ["no", "yes"]


def test_labels_are_held_against_every_input() -> None:
    """What the classes are may depend on the input: here they are its steps."""
    rnn = nn.GRU(3, 4, batch_first=True)
    session = Session(
        rnn, torch.ones(1, 5, 3), readout=lambda out: out[0][..., 0], scale="logits",
        labels=list("abcde"),
    )  # fmt: skip
    before = session.baseline
    with pytest.raises(ReadoutError, match="5 labels for a readout of 6 classes"):
        session.set_input(torch.ones(1, 6, 3))
    assert session.baseline is before


def test_a_models_own_labels_may_be_anything(model: nn.Module) -> None:
    model.labels = ["a", "b"]
    session = Session(model, torch.tensor([[0, 1, 2]]))
    assert "class 3" in session.top(0)[0]


def test_half_a_surrogate_pair_becomes_the_replacement_character(model: nn.Module) -> None:
    session = Session(
        model, torch.tensor([[0, 1]]), tokens=["a\ud83d", "\ud83d\ude00"],
        labels=["\udc80", "b", "c", "d"],
    )  # fmt: skip
    assert session.tokens == ["a\ufffd", "\U0001f600"]
    assert session.labels[0] == "\ufffd"


@pytest.mark.parametrize("given", [[1.5], [True, False], "12", torch.tensor([True])])
def test_what_is_no_whole_number_is_no_unit(session: Session, given: object) -> None:
    with pytest.raises(TraitError, match="units takes whole numbers"):
        session.units = given
    session.units = np.array([2, 1])
    assert session.units == (1, 2)
