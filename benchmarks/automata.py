"""Automata of networks that were trained on Tomita's seven languages (Tomita 1982).

python -m benchmarks.automata [--seeds 5] [--units 24] [--languages 1 2 3 4 5 6 7]

Each network learns to say, after every symbol, whether the word so far is in the language; then L*
asks it, and its hidden states are clustered. "found" is whether the automaton is exactly that of
the language, and where it is not, the shortest word that tells them apart. Fidelity is to the
network, by length, the lowest over six kinds of words: where a network leaves its language on long
words, an automaton that follows the network is another one.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import grulens
from grulens.corpus import DFA, Automaton, automaton

LANGUAGES = {
    1: ("1*", DFA("01", [[1, 0], [1, 1]], [True, False])),
    2: ("(10)*", DFA("01", [[2, 1], [0, 2], [2, 2]], [True, False, False])),
    3: (
        "no odd run of 0 after an odd run of 1",
        DFA("01", [[0, 1], [2, 0], [3, 4], [2, 4], [4, 4]], [True, True, False, True, False]),
    ),
    4: ("no 000", DFA("01", [[1, 0], [2, 0], [3, 0], [3, 3]], [True, True, True, False])),
    5: ("even 0, even 1", DFA("01", [[1, 2], [0, 3], [3, 0], [2, 1]], [True, *[False] * 3])),
    6: ("as many 0 as 1, mod 3", DFA("01", [[1, 2], [2, 0], [0, 1]], [True, False, False])),
    7: (
        "0*1*0*1*",
        DFA("01", [[0, 1], [2, 1], [2, 3], [4, 3], [4, 4]], [True, True, True, True, False]),
    ),
}


class Reader(nn.Module):
    """A GRU that says after every symbol whether the word so far is in the language."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(2, 2)
        self.rnn = nn.GRU(2, units, batch_first=True)
        self.out = nn.Linear(units, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


def alive(dfa: DFA) -> list[bool]:
    """Whether some word leads from a state to one that accepts."""
    found = list(dfa.accepting)
    for _ in range(len(dfa)):
        found = [
            end or any(found[to] for to in row)
            for end, row in zip(found, dfa.transitions, strict=True)
        ]
    return found


def word(dfa: DFA, good: list[bool], length: int, rng: random.Random) -> list[int]:
    """A word that can go on to be one of the language, with one slip in half of them."""
    state, made, slip = dfa.start, [], rng.randrange(2 * length)
    for step in range(length):
        choice = [s for s in (0, 1) if good[dfa.transitions[state][s]] != (step == slip)] or [0, 1]
        made.append(rng.choice(choice))
        state = dfa.transitions[state][made[-1]]
    return made


def trained(dfa: DFA, units: int, seed: int, steps: int, longest: int) -> tuple[Reader, float]:
    """A network, and the share of right answers in the last tenth of its training."""
    torch.manual_seed(seed)
    rng, model, good = random.Random(seed), Reader(units), alive(dfa)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    table, ends = torch.tensor(dfa.transitions), torch.tensor(dfa.accepting)
    right: list[float] = []
    for _ in range(steps):
        length = rng.randint(1, longest)
        rows = [word(dfa, good, length, rng) for _ in range(48)]
        rows += [[rng.randrange(2) for _ in range(length)] for _ in range(16)]
        ids, state, said = torch.tensor(rows), torch.full((64,), dfa.start), []
        for now in ids.unbind(1):
            state = table[state, now]
            said.append(ends[state])
        target = torch.stack(said, 1).float()
        logits = model(ids)[..., 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(float(((logits > 0) == (target > 0)).float().mean()))
    late = right[-max(1, steps // 10) :]
    return model.eval(), sum(late) / len(late)


def by_length(found: Automaton) -> str:
    """The lowest share of agreement at each length."""
    shares = {
        length: min((one.share for one in found.fidelity if one.length == length), default=None)
        for length in found.lengths
    }
    return " ".join(" none" if share is None else f"{share:5.3f}" for share in shares.values())


def line(found: Automaton, target: DFA, seconds: float) -> str:
    """One automaton in words."""
    built: Any = found.hypothesis
    apart = None if built is None else built.difference(target)
    same = "nothing" if built is None else "yes" if apart is None else f"no, {apart!r}"
    small = 0 if built is None else len(built.minimised())
    held = "held" if not found.why_not else "refused"
    return f"{small:4d} {same:16.28} {by_length(found)}  {held:8} {seconds:6.2f} s {found.asked:6d}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line an automaton."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.automata")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--languages", type=int, nargs="+", default=list(LANGUAGES))
    parser.add_argument("--training", type=int, default=600, help="steps of training")
    parser.add_argument("--longest", type=int, default=20, help="words of the training")
    parser.add_argument("--lengths", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--clusters", type=int, nargs="+", default=[20])
    parser.add_argument("--tries", type=int, default=2000, help="words an automaton must stand")
    options = parser.parse_args(argv)
    print(f"grulens {grulens.__version__}, torch {torch.__version__}, Python "
          f"{platform.python_version()}, {torch.get_num_threads()} threads")  # fmt: skip
    print(f"states, found, fidelity at {options.lengths}, threshold 0.95, time, words asked")
    asked: dict[str, Any] = {
        "progress": False, "lengths": tuple(options.lengths), "tries": options.tries,
        "accepts": lambda output: output[:, -1, 0],  # a logit, however little was trained
    }  # fmt: skip
    for number in options.languages:
        name, target = LANGUAGES[number]
        print(f"\nTomita {number}: {name}, {len(target)} states")
        for seed in range(options.seeds):
            model, right = trained(target, options.units, seed, options.training, options.longest)
            print(f"  seed {seed}, {right:.4f} of the answers right when trained")
            jobs: list[tuple[str, dict[str, Any]]] = [("L*", {"method": "lstar"})]
            jobs += [(f"{n} clusters", {"method": "clusters", "clusters": n, "budget": 5000})
                     for n in options.clusters]  # fmt: skip
            for job, how in jobs:
                start = time.perf_counter()
                empty = target.accepts("")
                found = automaton(model, "01", empty=empty, **how, **asked)
                text = line(found, target, time.perf_counter() - start)
                more = "" if job == "L*" else f"  determinism {found.overall:.3f}"
                print(f"    {job:12} {text}{more}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
