"""Shares of a score add up to it, and what they leave over is shown."""

from __future__ import annotations

import pytest
import torch

from grulens.probing.credit.credit import Credit


def made() -> Credit:
    inputs = torch.tensor([[[1.0, 2.0], [0.5, 0.0]], [[-1.0, 0.0], [0.0, 0.0]]])
    return Credit(
        "a method", "l<0>", torch.tensor([6.0, 1.0]), inputs, torch.tensor([[0.25], [0.0]]),
        torch.tensor([2.0, 2.0]), {"absorbed": torch.tensor([0.125, 0.0])},
    )  # fmt: skip


def test_parts_and_gap_add_up_to_the_score() -> None:
    credit = made()
    assert torch.equal(credit.tokens, torch.tensor([[3.0, 0.5], [-1.0, 0.0]]))
    assert credit.gap.tolist() == [0.125, 0.0]
    for row in (0, 1):
        assert sum(credit.ledger(row).values()) == pytest.approx(float(credit.score[row]))
    assert list(credit.ledger()) == ["inputs", "h_0", "bias", "absorbed", "gap"]


def test_frame_and_words() -> None:
    frame = made().to_frame(1)
    assert frame.credit.tolist() == [-1.0, 0.0]
    assert frame.step.tolist() == [0, 1]
    assert repr(made()) == "Credit('a method' to 'l<0>', batch 2, time 2, largest gap 1.2e-01)"
    assert "l&lt;0&gt;" in made()._repr_html_()
    assert "<td>3.5</td>" in made()._repr_html_()
