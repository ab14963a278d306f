"""Tomita's seven languages, and networks that are built to follow an automaton exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grulens.corpus import DFA

#: What each accepts: 1*; (10)*; no odd run of 0 after an odd run of 1; no 000; an even number of
#: each; as many 0 as 1, modulo 3; 0*1*0*1*.
TOMITA: dict[int, DFA] = {
    1: DFA("01", [[1, 0], [1, 1]], [True, False]),
    2: DFA("01", [[2, 1], [0, 2], [2, 2]], [True, False, False]),
    3: DFA("01", [[0, 1], [2, 0], [3, 4], [2, 4], [4, 4]], [True, True, False, True, False]),
    4: DFA("01", [[1, 0], [2, 0], [3, 0], [3, 3]], [True, True, True, False]),
    5: DFA("01", [[1, 2], [0, 3], [3, 0], [2, 1]], [True, False, False, False]),
    6: DFA("01", [[1, 2], [2, 0], [0, 1]], [True, False, False]),
    7: DFA("01", [[0, 1], [2, 1], [2, 3], [4, 3], [4, 4]], [True, True, True, True, False]),
}


class Follows(nn.Module):
    """An Elman network that follows an automaton: a unit for each state and symbol.

    Unit (s, a) is 1 where symbol a was just read in state s, and 0 else (Minsky 1967): a step is
    relu(W_ih x + W_hh h - 1), which is 1 where both the symbol and the state fit.

    Args:
        dfa: the automaton.
        classes: 1 for a logit, 2 for two classes.
        every: whether it answers at every step, or at the last one alone.
    """

    def __init__(self, dfa: DFA, classes: int = 1, every: bool = True) -> None:
        super().__init__()
        states, size = len(dfa), len(dfa.alphabet)
        self.every = every
        self.embed = nn.Embedding(size, size)
        self.rnn = nn.RNN(size, states * size, batch_first=True, nonlinearity="relu", bias=True)
        self.out = nn.Linear(states * size, classes)
        self.start = nn.Parameter(torch.zeros(states * size), requires_grad=False)
        with torch.no_grad():
            self.embed.weight.copy_(torch.eye(size))
            for weight in (*self.rnn.parameters(), *self.out.parameters()):
                weight.zero_()
            self.rnn.bias_ih_l0.fill_(-1)
            for state in range(states):
                for symbol in range(size):
                    unit, to = state * size + symbol, dfa.transitions[state][symbol]
                    self.rnn.weight_ih_l0[unit, symbol] = 1
                    # the units of the next state are ready where this one is on
                    self.rnn.weight_hh_l0[to * size : (to + 1) * size, unit] = 1
                    self.out.weight[-1, unit] = 2.0 if dfa.accepting[to] else 0.0
            self.out.bias[-1] = -1.0
            # before the first symbol some unit that leads to the start is on, if there is one
            leads = (self.rnn.weight_hh_l0[dfa.start * size] == 1).nonzero()
            assert len(leads), "no step leads to the start"
            self.start[leads[0]] = 1

    def forward(self, ids: Tensor) -> Tensor:
        h_0 = self.start.expand(1, len(ids), -1).contiguous()
        out = self.out(self.rnn(self.embed(ids), h_0)[0])
        return out if self.every else out[:, -1]
