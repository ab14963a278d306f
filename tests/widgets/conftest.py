"""One small model with texts in and logits out, for every widget test."""

import pytest
import torch
from torch import nn

from grulens import Session


class Tagger(nn.Module):
    """Class numbers in, logits out, every step."""

    labels = ("a", "b", "c", "d")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 5)
        self.rnn = nn.GRU(5, 6, num_layers=2, batch_first=True)
        self.out = nn.Linear(6, 4)

    def encode(self, text: str) -> torch.Tensor:
        return torch.tensor([["abcd".index(c) for c in text]])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


@pytest.fixture
def model() -> Tagger:
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture
def session(model: Tagger) -> Session:
    return Session(model, "abcdab")
