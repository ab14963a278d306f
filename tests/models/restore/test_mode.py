"""Training mode: what of a model acts in it, and runs in eval that leave the model in its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grulens.models.restore.mode import acts, evaluated, in_eval, in_training, mode_for_run


class Zoneout(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * 0.9 if self.training else h


class Functional(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return F.dropout(h, 0.5, training=self.training)


class Inside(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return torch.stack([F.dropout(part, 0.5, self.training) for part in h])


class Plain(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (nn.Dropout(0.2), "training mode: dropout is on"),
        (nn.Dropout1d(0.2), "training mode: dropout is on"),
        (nn.AlphaDropout(0.2), "training mode: dropout is on"),
        (nn.GRU(2, 3, num_layers=2, dropout=0.1), "training mode: dropout is on"),
        (nn.LSTM(2, 3, num_layers=2, dropout=0.1), "training mode: dropout is on"),
        (Functional(), "training mode: dropout is on"),
        (Inside(), "training mode: dropout is on"),
        (nn.BatchNorm1d(3), "training mode: normalisation reads the batch"),
        (Zoneout(), "training mode: Zoneout may act otherwise in it"),
        (
            nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()),
            "training mode: dropout is on, normalisation reads the batch",
        ),
        (nn.Dropout(0.0), ""),
        (nn.GRU(2, 3), ""),
        (nn.GRU(2, 3, num_layers=2), ""),
        (Plain(), ""),
    ],
)
def test_what_acts_is_said(part: nn.Module, said: str) -> None:
    model = nn.Sequential(nn.GRU(2, 3), nn.ModuleList([part]))
    assert in_training(model) == said
    assert in_training(model.eval()) == ""
    part.train()  # a part alone, in a model that is in eval
    assert in_training(model) == said


def test_in_eval_every_part_is_and_afterwards_none_that_was_not() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout().eval(), Zoneout()))
    before = [module.training for module in model.modules()]
    with evaluated(model):
        assert not any(module.training for module in model.modules())
    assert (
        [module.training for module in model.modules()] == before == [True, True, True, False, True]
    )
    with pytest.raises(ZeroDivisionError), evaluated(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before


def test_runs_are_in_eval_only_where_that_is_asked() -> None:
    drop = nn.Dropout()
    for asked in (True, False):
        with in_eval(asked), mode_for_run(drop):
            assert drop.training is not asked
    with mode_for_run(drop):
        assert drop.training
    assert acts(drop)
