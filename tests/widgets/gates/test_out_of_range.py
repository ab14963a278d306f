"""A gate that an edit takes out of 0 to 1 is remarked, for as long as it is there."""

import torch
from torch import nn

from grulens import GateSliders
from grulens.probing.edits.edit import clamp, scale, shift
from grulens.widgets.gates.out_of_range import out_of_range
from grulens.widgets.session.session import Session


def layer() -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(3, 4, batch_first=True)


def test_the_steps_are_those_of_the_row_at_which_a_unit_is_beyond() -> None:
    session = Session(layer(), torch.randn(2, 6, 3))
    session.add(scale("l0", "z", units=[1], by=2.5, at=slice(1, 5), rows=0))
    past = int((session.now.signal("z")[0] > 1).any(-1).sum())
    assert 1 < past <= 4
    assert f"z is out of 0 to 1 at {past} steps, " in out_of_range(session)
    session.row = 1
    assert not out_of_range(session)


def test_below_0_counts_too_and_each_gate_has_its_sentence() -> None:
    session = Session(layer(), torch.randn(1, 6, 3))
    session.add(clamp("l0", "r", units=[0], value=-1.0, at=2))
    session.add(scale("l0", "z", by=9.0))
    assert out_of_range(session).startswith("r is out of 0 to 1 at 1 step, ")
    assert " z is out of 0 to 1 at 6 steps, " in out_of_range(session)


def test_steps_of_padding_are_none() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(
        torch.randn(2, 6, 3), torch.tensor([6, 2]), batch_first=True
    )
    session = Session(layer(), packed)
    session.add(scale("l0", "z", by=20.0))
    session.row = 1
    assert " at 2 steps, " in out_of_range(session)


def test_what_is_no_gate_or_stays_within_is_not_remarked() -> None:
    session = Session(layer(), torch.randn(1, 6, 3))
    session.add(scale("l0", "n", by=9.0))
    session.add(scale("l0", "h", by=9.0))
    session.add(shift("l0", "z", by=8.0))
    session.add(scale("l0", "r", by=0.5))
    assert not out_of_range(session)


def test_the_screen_says_it_for_as_long_as_it_is_so() -> None:
    screen = GateSliders(layer(), torch.randn(1, 6, 3))
    assert screen._out.layout.display == "none"
    screen.controls.sliders["z"].value = 2.0
    assert " where no gate goes by itself; its colours end there." in screen._out.value
    assert screen._out.layout.display is None
    screen.colors = "all it is"  # then they go as far as it does
    assert " where no gate goes by itself.<" in screen._out.value
    screen.colors, screen.difference = "all it can be", True  # nor has a difference such ends
    assert " where no gate goes by itself.<" in screen._out.value
    screen.difference = False
    assert "; its colours end there." in screen._out.value
    screen.session.undo()
    assert screen._out.layout.display == "none"
