"""Which steps follow one another: of all rows told apart at once, and of each row alone."""

from __future__ import annotations

import torch
from torch import nn

from grulens import record
from grulens.probing.trajectories import of_each_row, trajectories
from tests.probing.memory.test_flow import Agent


def test_rows_are_told_apart_as_each_row_alone_is() -> None:
    torch.manual_seed(0)
    done = (torch.rand(5, 9) < 0.3).float()
    layer = record(Agent(), torch.randn(5, 9, 3), done)["cell"]
    some = torch.tensor([True, True, False, True, True])
    found = [(row, one.begin, one.stop) for row, one in of_each_row(layer, some)]
    wanted = [
        (row, one.begin, one.stop)
        for row in (0, 1, 3, 4)
        for one in trajectories(layer, torch.arange(5) == row)
    ]
    assert found == wanted
    assert len(found) > 4
    begins = {(row, t) for row in (0, 1, 3, 4) for t in range(9) if t == 0 or done[row, t]}
    assert {(row, begin) for row, begin, _ in found} == begins


def test_a_packed_call_is_one_trajectory_a_row() -> None:
    rnn = nn.GRU(2, 3, batch_first=True, bidirectional=True)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(2, 5, 2), torch.tensor([5, 3]), True)
    layer = record(rnn, packed)["l0_reverse"]
    found = [(row, one.order(row).tolist()) for row, one in of_each_row(layer, torch.ones(2) > 0)]
    assert found == [(0, [4, 3, 2, 1, 0]), (1, [2, 1, 0])]
