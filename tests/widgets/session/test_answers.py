"""Answers of every shape: a lens opens on each, and where it shows none says what would show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from grulens import Lens, NeuronTable, Session, ablate, clamp
from grulens.credit import CreditBars
from grulens.dynamics import PhasePortrait
from grulens.errors import NoAnswerError, ReadoutError
from grulens.memory import GateMemory
from grulens.phrases import PhraseTree
from grulens.probing.readout.suggestion import fits, suggestions

B, T, H = 2, 6, 8
MOVED = "movedim(-1, 1).flatten(0, 1)"


class Net(nn.Module):
    """A GRU, and anything made of its states."""

    def __init__(self, make: Callable[[Tensor], Any], fold: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(1 if fold else 3, H, batch_first=True)
        self.out = nn.Linear(H, 4)
        self.make, self.fold = make, fold

    def forward(self, x: Tensor) -> Any:
        # channel-independent, as forecasters are: each channel of a row is a row of the layer
        x = x.mT.reshape(-1, x.shape[1], 1) if self.fold else x
        return self.make(self.rnn(x)[0])


@dataclass
class Dataclass:
    loss: Tensor
    logits: Tensor


class Named(NamedTuple):
    loss: Tensor
    logits: Tensor


class Thing:
    def __init__(self, logits: Tensor) -> None:
        self.name, self.logits = "thing", logits


def x(batch: int = B) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, T, 3)


#: What is read as it is: how it is made of the states (batch, time, unit), the answer's shape, and
#: the same by hand, of row 1.
READ: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "one number a row": (lambda h: h[:, -1, 0], lambda h: h[1, -1:, :1]),
    "classes a row": (lambda h: h[:, -1], lambda h: h[1, -1:]),
    "one number a step": (lambda h: h[..., 0], lambda h: h[1, :, :1]),
    "classes a step": (lambda h: h, lambda h: h[1]),
    "time first": (lambda h: h.transpose(0, 1), lambda h: h[1]),
    "a list of steps": (lambda h: list(h.unbind(1)), lambda h: h[1]),
    "a tuple of steps": (lambda h: h.unbind(1), lambda h: h[1]),
    "a list of numbers a step": (lambda h: list(h[..., 0].unbind(1)), lambda h: h[1, :, :1]),
    "a dict with a list of steps": (lambda h: {"out": list(h.unbind(1))}, lambda h: h[1]),
    "a dict": (lambda h: {"loss": h.sum(), "logits": h}, lambda h: h[1]),
    "a dict of ids and numbers": (lambda h: {"ids": h.long(), "h": h[:, 0]}, lambda h: h[1, :1]),
    "a tuple": (lambda h: (h, h[:, -1]), lambda h: h[1]),
    "a tuple of two alike": (lambda h: (h[:, 0], h[:, 1]), lambda h: h[1, :1]),
    "a dataclass": (lambda h: Dataclass(h.sum(), h), lambda h: h[1]),
    "an array": (lambda h: h.detach().numpy(), lambda h: h[1]),
    "an object": (Thing, lambda h: h[1]),
    "a named tuple": (lambda h: Named(h.sum(), h), lambda h: h[1]),
}

#: What is not: how it is made, and what the answer of row 1 is by the line that is said.
UNREAD: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "four dimensions": (lambda h: h.view(B, T, 2, 4), lambda h: h[1]),
    "five": (lambda h: h.view(B, T, 2, 2, 2), lambda h: h[1]),
    "four, time first": (lambda h: h.transpose(0, 1).reshape(T, B, 2, 4), lambda h: h[1]),
    "two alike for two steps": (lambda h: (h[:, 0], h[:, 1]), lambda h: h[1, :2]),
    "a list of other steps": (lambda h: list(h[:, :4].unbind(1)), lambda h: h[1, :4]),
    "a list of pictures": (lambda h: list(h.view(B, T, 2, 4).unbind(1)), lambda h: h[1]),
    "one answer for all": (lambda h: h.mean(0)[-1], lambda h: h.mean(0)[-1:]),
    "a number for all": (lambda h: h.mean(), lambda h: h.mean()[None, None]),
    "classes as numbers": (lambda h: h.argmax(-1), lambda h: h.argmax(-1)[1, :, None].float()),
    "a Python number": (lambda h: float(h.mean()), lambda h: h.mean()[None, None]),
    "another batch": (
        lambda h: h[:1, -1].repeat(3, 1),
        lambda h: h[:1, -1].repeat(3, 1).view(1, -1),
    ),
    "an answer for each pair": (lambda h: h.mean(0, keepdim=True)[:, -1], lambda h: h.mean(0)[-1:]),
    "complex numbers": (torch.fft.fft, lambda h: torch.fft.fft(h)[1].abs()),
}


def readouts_of(error: NoAnswerError | None) -> list[Callable[[Any], Tensor]]:
    """The readouts that a message gives, run as the lines of code that they are."""
    assert error is not None
    if len(error.lines) == 1:
        assert str(error).endswith(f"this would show it: {error.lines[0]}")
    else:
        several = f"{len(error.lines)} layouts fit by size, and which one is right is not known:"
        assert str(error).endswith("\n    ".join([several, *error.lines]))
    return [made(line) for line in error.lines]


def made(line: str) -> Callable[[Any], Tensor]:
    names: dict[str, Any] = {"torch": torch}
    exec(line, names)
    found: Callable[[Any], Tensor] = names["readout"]
    return found


#: Those that could be laid out otherwise, too; meant is the first line.
SEVERAL = {"four, time first": 2, "two alike for two steps": 2}


def steps_for(kind: str) -> int:
    return 2 if kind == "two alike for two steps" else T


@pytest.mark.parametrize("kind", READ)
def test_what_has_an_answer_for_each_row_is_read(kind: str) -> None:
    make, by_hand = READ[kind]
    net = Net(make)
    session = Session(net, x())
    assert session.unread is None
    session.row = 1
    h = session.baseline["rnn.l0"].h
    torch.testing.assert_close(session.answer_before.values, by_hand(h))
    session.add(ablate("rnn.l0", [0, 1]))
    assert float(session.moved.max()) > 0


@pytest.mark.parametrize("kind", UNREAD)
def test_what_has_none_says_which_readout_would_show_it(kind: str) -> None:
    make, by_hand = UNREAD[kind]
    net, given = Net(make), x()[:, : steps_for(kind)]
    lens = Lens(net, given)
    session = lens.session
    line = lens.notices._lines[2]
    assert line.layout.display is None
    assert "No answer is shown" in lens.notices._unread.value
    readouts = readouts_of(session.unread)
    assert len(readouts) == SEVERAL.get(kind, 1)
    readout = readouts[0]
    session.add(clamp("rnn.l0", "h", [0, 1], value=1.0))
    assert float(session.now.h[..., 0].min()) == 1
    with pytest.raises(NoAnswerError, match=r"this would show it|layouts fit by size"):
        _ = session.answer_now
    other = Lens(net, given, readout=readout)
    assert other.session.unread is None
    assert other.notices._lines[2].layout.display == "none"
    other.session.row = 1
    h = other.session.baseline["rnn.l0"].h
    torch.testing.assert_close(other.session.answer_before.values.float(), by_hand(h))
    other.session.add(clamp("rnn.l0", "h", [0, 1], value=1.0))
    other.session.units = (0,)


@pytest.mark.parametrize(
    ("make", "lines", "by_hand"),
    [
        (  # a horizon for each channel: the rows of the layer are channels of rows
            lambda h: h.view(B, 3, T, H)[..., -1, :5].mT,
            ["output.movedim(-1, 1).flatten(0, 1)", "output.repeat_interleave(3, 0)"],
            lambda h: h[4, -1, :5],
        ),
        (
            lambda h: h.view(B, 3, T, H)[..., -1, 0],
            ["output.flatten(0, 1)", "output.repeat_interleave(3, 0)"],
            lambda h: h[4, -1, :1],
        ),
        (
            lambda h: h.view(B, 3, T, H)[..., -1, :],
            ["output.flatten(0, 1)", "output.repeat_interleave(3, 0)"],
            lambda h: h[4, -1],
        ),
        (  # nodes of a graph, slots of a scene: one answer for three rows of the layer
            lambda h: h.view(B, 3, T, H)[..., -1, :4].mean(1),
            ["output.repeat_interleave(3, 0)"],
            lambda h: h[3:, -1, :4].mean(0),
        ),
        (  # beams, samples: several answers a row
            lambda h: h[:, -1, :4].repeat_interleave(2, 0),
            ["output.unflatten(0, (6, -1))"],
            lambda h: h[4, -1, :4].expand(2, 4),
        ),
    ],
)
def test_another_batch_than_the_layers(make: Any, lines: list[str], by_hand: Any) -> None:
    net = Net(make, fold=True)
    lens = Lens(net, x())
    error = lens.session.unread
    assert error is not None
    assert list(error.lines) == [f"readout=lambda output: {line}" for line in lines]
    assert "for the 6 rows of this layer" in str(error)
    session = Session(net, x(), readout=readouts_of(error)[0])
    session.row = 4
    found = session.answer_before.values.squeeze()
    torch.testing.assert_close(found, by_hand(session.before.h).squeeze())


def test_every_screen_works_without_an_answer(tmp_path: Path) -> None:
    net = Net(lambda h: h.view(*h.shape[:2], 2, 4))
    lens = Lens(net, x())
    session = lens.session
    session.units = (1, 2)
    lens.toggles.ablate.click()
    lens.gates.controls.sliders["z"].value = 0.5
    assert lens.toggles._effects.wait(20.0)
    assert [line.effect.value for line in lens.toggles.lines] == ["", ""]
    assert lens.table.measure.disabled
    assert not lens.gates._output.visible
    for name in ("memory", "motion", "credit", "phrases"):
        lens.studies.shown = name
        getattr(lens.studies.opened[name], "wait", lambda _: None)(30.0)
    opened = lens.studies.opened.values()
    screens = (lens, lens.gates, lens.toggles, lens.table, *opened)
    assert [screen._errors.value for screen in screens] == [""] * 8
    credit = lens.studies.opened["credit"]
    assert "there is no answer that it could be given for" in credit._status.value
    page = lens.save(tmp_path / "lens.html").read_text(encoding="utf-8")
    assert "update gate of units 1, 2 times 0.5" in lens.still()
    assert '"signal":"z","how":"scale","value":0.5,"units":[1,2]' in page
    session.row = 1
    session.set_input(x(1)[:, :3])
    assert [screen._errors.value for screen in screens] == [""] * 8


@pytest.mark.parametrize("kind", [GateMemory, NeuronTable, CreditBars, PhasePortrait, PhraseTree])
def test_each_screen_by_itself_says_that_there_is_none(kind: Any) -> None:
    screen = kind(Net(lambda h: h.view(B, T, 2, 4)), x())
    getattr(screen, "wait", lambda _: None)(30.0)
    assert "output.flatten(2)" in screen.notices._unread.value
    assert screen._errors.value == ""
    screen.close()


def test_the_logit_lens_needs_no_answer() -> None:
    class Deep(Net):
        def forward(self, x: Tensor) -> Any:
            return self.out(self.rnn(x)[0]).view(B, T, 2, 2)

    session = Session(Deep(lambda h: h), x())
    assert session.unread is not None
    panel = CreditBars(session)
    panel.view = "logit lens"
    assert panel.wait(30.0)
    assert panel._errors.value == ""
    assert panel.lens is not None
    flat = session.baseline.output.flatten(2)
    torch.testing.assert_close(panel.lens.logits, flat)


def test_a_readout_that_fails_on_one_layer_does_not_on_another() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.channels, self.rows = (
                nn.GRU(1, 4, batch_first=True),
                nn.GRU(3, 5, batch_first=True),
            )

        def forward(self, x: Tensor) -> Tensor:
            by_channel = self.channels(x.mT.reshape(-1, T, 1))[0][:, -1].view(B, -1)
            return torch.cat([by_channel, self.rows(x)[0][:, -1]], 1)

    lens = Lens(Two(), x())
    session = lens.session
    assert session.layer == "channels.l0"
    assert session.unread is not None
    assert not lens.gates._output.visible
    lens.layer.value = "rows.l0"
    assert session.unread is None
    assert lens.gates._output.visible
    assert lens.notices._lines[2].layout.display == "none"
    assert not lens.table.measure.disabled
    session.add(ablate("rows.l0", 1))
    assert float(session.moved.max()) > 0
    lens.layer.value = "channels.l0"
    assert lens.notices._lines[2].layout.display is None
    assert lens.table.measure.disabled
    assert [p._errors.value for p in (lens, lens.gates, lens.table, lens.toggles)] == [""] * 4


def test_a_readout_of_the_users_own_with_another_shape_is_said_too() -> None:
    session = Session(Net(lambda h: h), x(), readout=lambda out: out.repeat(2, 1, 1)[:3])
    error = session.unread
    assert "it is (3, 6, 8)" in str(error)
    assert fits(readouts_of(error)[0](session.baseline.output), B)
    with pytest.raises(ReadoutError, match="got NoneType"):
        _ = Session(Net(lambda h: h), x(), readout=lambda out: None).unread


def test_columns_are_classes_where_they_have_names() -> None:
    net = Net(lambda h: h[:, -1, :T])
    assert Session(net, x()).answer_before.values.shape == (T, 1)  # as many as steps
    labels = [f"c{i}" for i in range(T)]
    session = Session(net, x(), labels=labels)
    assert session.answer_before.values.shape == (1, T)
    assert session.answer_before.scale == "logits"


def test_an_unbatched_answer_is_that_of_the_one_row() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][-1]

    session = Session(One(), x(1)[0])
    assert session.answer_before.values.shape == (1, 4)


def test_what_holds_no_number_has_no_line() -> None:
    session = Session(Net(lambda h: None), x())
    assert session.unread is not None
    assert session.unread.lines == ()
    assert "the output (NoneType) has no such tensor" in str(session.unread)
    for output in (
        None,
        "text",
        {},
        [],
        torch.empty(0),
        torch.zeros(2, 0),
        object(),
        {(1, 2): "a"},
    ):
        assert suggestions(output, 2) == []


def test_a_packed_answer_and_a_hostile_key_are_lines_of_code() -> None:
    packed = pack_padded_sequence(torch.zeros(3, 4, 5), [4, 2, 2], batch_first=True)
    for output in (
        {"a": packed},
        {"a'); import os; ('": torch.zeros(3, 2, 2, 2)},
        [np.zeros((3, 2))],
    ):
        for batch in (3, 1, 6, 7):
            lines = suggestions(output, batch)
            assert lines
            for line in lines:
                names: dict[str, Any] = {"torch": torch}
                exec(line, names)
                assert fits(names["readout"](output), batch)
                assert "os" not in names


@pytest.mark.parametrize(
    ("shape", "batch", "ways"),
    [  # samples, steps of a horizon, channels that are rows of the layer
        ((2, 6, 3), 6, ["transpose(0, 1)", MOVED, "repeat_interleave(3, 0)"]),
        ((2, 3, 3), 6, ["flatten(0, 1)", MOVED, "repeat_interleave(3, 0)"]),
        (
            (1, 3, 3),
            3,
            ["transpose(0, 1)", "flatten(0, 1)", MOVED, "repeat_interleave(3, 0)"],
        ),
        ((2, 2, 2, 2), 2, ["flatten(2)", "transpose(0, 1).flatten(2)"]),
        ((2, 5, 2, 2), 2, ["flatten(2)"]),
    ],
)  # fmt: skip
def test_layouts_that_fit_by_chance_are_all_said(
    shape: tuple[int, ...], batch: int, ways: list[str]
) -> None:
    output = torch.zeros(shape)  # as numbers all layouts of it are alike
    lines = suggestions(output, batch)
    assert set(lines) >= {f"readout=lambda output: output.{way}" for way in ways}
    assert len(lines) == len(ways)
    assert all(fits(made(line)(output), batch) for line in lines)


def test_numbers_of_tokens_are_said_to_be_no_quantities() -> None:
    ids = torch.zeros(2, 6, dtype=torch.long)
    (line,) = suggestions(ids, 2)
    assert (
        line
        == "readout=lambda output: output.float()  # numbers of tokens or classes, not quantities"
    )
    assert made(line)(ids).shape == (2, 6)
    lines = suggestions({"ids": ids, "logits": torch.zeros(2, 6, 2, 2)}, 2)
    assert lines == ["readout=lambda output: output['logits'].flatten(2)"]


def test_a_lens_lists_the_layouts_that_fit() -> None:
    lens = Lens(Net(lambda h: h.view(B, 3, T, H)[..., -1, :6].mT, fold=True), x())
    said = lens.notices._unread.value
    assert "3 layouts fit by size, and which one is right is not known:" in said
    assert said.count("<code>readout=lambda output: output.") == 3
    assert said.count("readout=") == 3


def test_without_an_answer_no_tree_is_built() -> None:
    tree = PhraseTree(Net(lambda h: h.view(B, T, 2, 4)), x())
    said = tree._built.value
    assert "No phrases: there is no answer" in said
    tree.build.click()
    assert tree.wait(20.0)
    assert tree._errors.value == ""
    assert tree.tree is None
    assert tree._built.value == said


@pytest.mark.parametrize("classes", [1, 3])
def test_an_answer_without_time_has_no_step(classes: int, tmp_path: Path) -> None:
    net = Net(lambda h: h[:, -1, 0] if classes == 1 else h[:, -1, :3])
    lens = Lens(net.eval(), torch.randn(B, T, 3))
    lens.session.add(ablate("rnn.l0", 0))
    output = lens.gates._output
    was, now = lens.session.answer_before.values[0], lens.session.answer_now.values[0]
    bars = output.classes.source.data
    assert sorted(bars["before"]) == pytest.approx(sorted(was.tolist()))
    assert sorted(bars["after"]) == pytest.approx(sorted(now.tolist()))
    assert output.classes.root.visible
    assert not output.along_time[1].visible
    assert output.classes.root.title.text == "output"
    assert output.mark.data == {"step": []}
    assert "output moved" in lens.toggles._moved.value
    assert "step" not in lens.toggles._moved.value
    still = lens.still()
    page = lens.save(tmp_path / "lens.html", weights=False).read_text(encoding="utf-8")
    assert ">step 0<" not in still
    assert "output at step 0" not in page
    if classes == 1:
        assert "<code>output</code>" in still
        assert '"label",["output"]' in page
    lens.close()


class Ratio(nn.Module):
    """Each unit in parts of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.rnn(x)[0]
        return h / h[..., :1]


def test_an_output_that_is_no_number_has_not_moved_by_so_much() -> None:
    lens = Lens(Ratio(), torch.ones(1, 5, 2), scale="value")
    assert "output moved by" in lens.toggles._moved.value
    lens.session.add(ablate("rnn.l0", 0, at=slice(3, None)))
    said = lens.toggles._moved.value
    assert "not known: at 2 of 5 steps" in said
    assert lens.toggles._effects.wait(20.0)
    assert lens.toggles.lines[0].effect.value == "not known"
