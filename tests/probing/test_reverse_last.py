"""The last step of a layer is the one it read last: its rows' ends, or where it is reverse, 0."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import grulens
from grulens import NeuronTable, Session, record
from grulens.credit import logit_lens
from grulens.memory import attention
from grulens.models.recording import Recording
from grulens.probing.layer import last_read
from grulens.probing.units.statistics import neurons

LENGTHS = [3, 6, 4]


def both() -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(2, 3, batch_first=True, bidirectional=True)


def recorded(packed: bool) -> tuple[nn.GRU, Recording, torch.Tensor]:
    """A run of both directions, and torch's own last states (direction, batch, unit)."""
    rnn, x = both(), torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1))
    given = (
        pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
        if packed
        else x
    )
    return rnn, record(rnn, given), rnn(given)[1].detach()


@pytest.mark.parametrize("packed", [False, True])
def test_the_table_of_units_has_torchs_own_last_states(packed: bool) -> None:
    _, run, h_n = recorded(packed)
    for direction, name in enumerate(("l0", "l0_reverse")):
        layer = run[name]
        assert torch.allclose(neurons(layer).last_h, h_n[direction].mean(0), atol=1e-6)
        for row in range(3):
            assert torch.allclose(neurons(layer, row).last_h, h_n[direction, row], atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_where_each_row_was_read_last(packed: bool) -> None:
    _, run, _ = recorded(packed)
    ends = [n - 1 for n in LENGTHS] if packed else [5, 5, 5]
    assert last_read(run["l0"]).tolist() == ends
    assert last_read(run["l0_reverse"]).tolist() == [0, 0, 0]
    assert attention(run["l0"]).last.tolist() == ends
    assert attention(run["l0_reverse"]).last.tolist() == [0, 0, 0]
    assert attention(run["l0"], rows=[0, 2]).last.tolist() == [ends[0], ends[2]]


class Twice(nn.Module):
    """Its layer is called twice in a run, the second time on fewer steps."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = both()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rnn(x)
        found: torch.Tensor = self.rnn(x[:, :4])[1]
        return found


def test_of_several_calls_the_last_one_counts() -> None:
    model, x = Twice(), torch.randn(3, 6, 2)
    run = record(model, x)
    h_n = model(x).detach()
    assert last_read(run["rnn.l0"]).tolist() == [9, 9, 9]
    assert last_read(run["rnn.l0_reverse"]).tolist() == [6, 6, 6]
    assert attention(run["rnn.l0_reverse"]).last.tolist() == [6, 6, 6]
    for direction, name in enumerate(("rnn.l0", "rnn.l0_reverse")):
        assert torch.allclose(neurons(run[name]).last_h, h_n[direction].mean(0), atol=1e-6)


class Beside(Twice):
    """Its layer is called with three rows, with one, and with three again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        found: torch.Tensor = self.rnn(x[:1, :5])[1]
        return torch.cat([self.rnn(x[:, :2])[1], found], 1)


def test_of_calls_with_other_rows_each_row_has_its_own_last_step() -> None:
    model, x = Beside(), torch.randn(3, 6, 2)
    run = record(model, x)
    h_n = model(x).detach()
    # six steps, four and two of the three rows; five of the one
    assert last_read(run["rnn.l0"]).tolist() == [11, 11, 11, 4]
    assert last_read(run["rnn.l0_reverse"]).tolist() == [10, 10, 10, 0]
    for direction, name in enumerate(("rnn.l0", "rnn.l0_reverse")):
        session = Session(model, x, layer=name)
        assert session.step == (11, 10)[direction]
        for row in range(4):
            assert torch.allclose(neurons(run[name], row).last_h, h_n[direction, row], atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_attention_tells_of_the_state_that_was_read_last(packed: bool) -> None:
    _, run, _ = recorded(packed)
    for name in ("l0", "l0_reverse"):
        found = attention(run[name])
        html = found._repr_html_()
        for row, t in enumerate(found.last.tolist()):
            weights, initial = found.at(t)
            largest = f"{float(weights[row].amax(0).mean()):.1%}"
            share = f"{float(initial[row].mean()):.1%}"
            assert f"<td>{row}</td><td>{t}</td><td>{largest}</td><td>{share}</td>" in html
            # it has read every step of its row
            steps = LENGTHS[row] if packed else 6
            assert int((weights[row].sum(1) > 0).sum()) == steps


@pytest.mark.parametrize("packed", [False, True])
def test_figures_begin_with_the_state_that_was_read_last(packed: bool) -> None:
    rnn, run, _ = recorded(packed)
    for row in range(3):
        view = grulens.plot(attention(run["l0_reverse"]), row=row)
        assert "the state after step 0" in str(view.document.to_json())
        view.close()
    x = torch.randn(2, 6, 2)
    head = nn.Linear(3, 4)
    lens = logit_lens(rnn, x, head=head, layer="l0_reverse")
    assert lens.last.tolist() == [0, 0]
    html = lens._repr_html_()
    assert html.index("<td>0</td>") < html.index("<td>5</td>")
    long = logit_lens(rnn, torch.randn(1, 30, 2), head=head, layer="l0_reverse")._repr_html_()
    assert "<td>0</td>" in long
    assert "<td>29</td>" not in long
    forward = logit_lens(rnn, torch.randn(1, 30, 2), head=head, layer="l0")._repr_html_()
    assert "<td>29</td>" in forward
    assert "<td>0</td>" not in forward


def test_a_session_opens_at_the_step_that_was_read_last() -> None:
    rnn, x = both(), torch.randn(3, 6, 2)
    assert Session(rnn, x).step == 5
    assert Session(rnn, x, layer="l0_reverse").step == 0
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    assert Session(rnn, packed, readout=lambda out: out[1][0]).step == LENGTHS[0] - 1


def test_the_table_on_screen_says_which_state_it_shows() -> None:
    rnn, x = both(), torch.randn(3, 6, 2)
    table = NeuronTable(rnn, x, layer="l0_reverse")
    assert torch.allclose(
        torch.from_numpy(table.columns()["last_h"]), rnn(x)[1][1, 0].detach(), atol=1e-6
    )
    titles = [column.title for column in table._table.root.columns]
    assert any("its beginning in a reverse layer" in title for title in titles)
    table.close()
