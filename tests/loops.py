"""Gated cells written as loops in Python, which grulens opens by the equation their states obey."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUTS, UNITS = 5, 6


class Loop(nn.Module):
    """A GRU as torch computes it, in a loop of its own; it holds the weights of an nn.GRUCell."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(INPUTS, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        h = x.new_zeros(len(x), UNITS) if h is None else h
        found = []
        for x_t in x.unbind(1):
            a, b = self.x(x_t).chunk(3, 1), self.h(h).chunk(3, 1)
            r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
            n = torch.tanh(a[2] + r * b[2])
            h = (1 - z) * n + z * h
            found.append(h)
        return torch.stack(found, 1)

    def known(self) -> nn.GRU:
        """The same GRU, which is opened by its weights."""
        made = nn.GRU(INPUTS, UNITS, batch_first=True).to(self.x.weight)
        with torch.no_grad():
            for own, line in (("ih", self.x), ("hh", self.h)):
                getattr(made, f"weight_{own}_l0").copy_(line.weight)
                getattr(made, f"bias_{own}_l0").copy_(line.bias)
        return made


class Lines(nn.Module):
    """What the loops below compute their gates with."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(INPUTS + UNITS, UNITS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), UNITS)
        found = []
        for x_t in x.unbind(1):
            h = self.step(x_t, h)
            found.append(h)
        return torch.stack(found, 1)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
        return (1 - z) * h + z * n


class Masked(Lines):
    """Where a row's first input is not above 0, its state stays."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.where(x[:, :1] > 0, super().step(x, h), h)


class Augru(Lines):
    """The update gate times an attention score (Zhou et al. 2019, arXiv:1809.03672)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], 1)
        score = torch.sigmoid(x[:, :1])
        z, n = torch.sigmoid(self.one(both)), torch.tanh(self.two(both))
        u = score * z
        return (1 - u) * h + u * n


class MinGRU(Lines):
    """Gate and candidate of the input alone (Feng et al. 2024, arXiv:2410.01201)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, torch.zeros_like(h)], 1)
        z, n = torch.sigmoid(self.one(both)), self.two(both)
        return (1 - z) * h + z * n


class Leaky(Lines):
    """A leaky RNN: the share that it keeps is a number."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.75 * h + 0.25 * torch.tanh(self.one(torch.cat([x, h], 1)))


class Zoneout(Lines):
    """Each unit keeps its state at random (Krueger et al. 2017, arXiv:1606.01305)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        kept = (torch.rand_like(h) < 0.3).to(h.dtype)
        return kept * h + (1 - kept) * super().step(x, h)


class Decayed(Lines):
    """The state decays before it is mixed (GRU-D: Che et al. 2018, arXiv:1606.01865)."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, torch.exp(-x[:, :1].relu()) * h)


class Clipped(Lines):
    """The mix is clipped."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return super().step(x, h).clamp(-0.2, 0.2)


class LSTM(nn.Module):
    """An LSTM; where `coupled`, its input gate is what its forget gate leaves (CIFG)."""

    def __init__(self, coupled: bool = False) -> None:
        super().__init__()
        self.line, self.coupled = nn.Linear(INPUTS + UNITS, 4 * UNITS), coupled

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), UNITS)
        found = []
        for x_t in x.unbind(1):
            i, f, g, o = self.line(torch.cat([x_t, h], 1)).chunk(4, 1)
            f = torch.sigmoid(f)
            i = 1 - f if self.coupled else torch.sigmoid(i)
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            found.append(h)
        return torch.stack(found, 1)

    def known(self) -> nn.LSTM:
        """The same LSTM, which is opened by its weights."""
        made = nn.LSTM(INPUTS, UNITS, batch_first=True).to(self.line.weight)
        with torch.no_grad():
            made.weight_ih_l0.copy_(self.line.weight[:, :INPUTS])
            made.weight_hh_l0.copy_(self.line.weight[:, INPUTS:])
            made.bias_ih_l0.copy_(self.line.bias)
            made.bias_hh_l0.zero_()
        return made
