"""Cells of nobody's library, written as people write theirs: for the screens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NormCell(nn.Module):
    """A GRU with a norm on its gates, called step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.norm = nn.Linear(3 + 4, 12), nn.LayerNorm(12)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, n, z = self.norm(self.line(torch.cat([x, h], 1))).chunk(3, 1)
        n = torch.tanh(torch.sigmoid(r) * n)
        z = torch.sigmoid(z - 1)
        return z * n + (1 - z) * h


class NormGRU(nn.Module):
    """A model around it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = NormCell(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
        out: Tensor = self.head(h)
        return out


class Decaying(nn.Module):
    """A GRU whose state decays before each step, as in GRU-D."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.line, self.new = nn.Linear(3, 4), nn.Linear(7, 4), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, out = x.new_zeros(len(x), 4), []
        for x_t in x.unbind(1):
            gam = torch.exp(-torch.relu(self.decay(x_t)))
            before = gam * h
            z = torch.sigmoid(self.line(torch.cat([x_t, before], 1)))
            n = torch.tanh(self.new(torch.cat([x_t, before], 1)))
            h = (1 - z) * before + z * n
            out.append(h)
        return torch.stack(out, 1)


class TwoStates(nn.Module):
    """c and h, as in an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3 + 4, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4)
        out = []
        for x_t in x.unbind(1):
            i, f, g, o = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack(out, 1)


class ConvGRU(nn.Module):
    """Two channels over 3 by 4 places."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(1 + 2, 4, 3, padding=1)
        self.new = nn.Conv2d(1 + 2, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 2, 3, 4)
        for x_t in x.unbind(1):
            z, r = torch.sigmoid(self.gates(torch.cat([x_t, h], 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x_t, r * h], 1)))
            h = (1 - z) * h + z * n
        out: Tensor = self.head(self.read(h))
        return out

    def read(self, h: Tensor) -> Tensor:
        return h.mean((2, 3))


class Masked(nn.Module):
    """A GRU that leaves its state alone where the last of its inputs says so."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new, self.head = nn.Linear(7, 8), nn.Linear(7, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, mask = x.new_zeros(len(x), 4), (x[:, :, 2] < 1).float()
        for t in range(x.shape[1]):
            r, z = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            m = mask[:, t, None]
            h = m * ((1 - z) * n + z * h) + (1 - m) * h
        out: Tensor = self.head(h)
        return out


STEPS = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
FRAMES = torch.randn(2, 6, 1, 3, 4, generator=torch.Generator().manual_seed(0))
MODELS = {
    "norm": NormGRU, "decay": Decaying, "two": TwoStates, "conv": ConvGRU, "masked": Masked,
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A model of one of these cells, and its input."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]()
    return model, FRAMES if name == "conv" else STEPS
