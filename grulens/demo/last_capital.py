"""The last capital letter: a task so small that a GRU of two units learns it, and one can watch it.

A text is made of a, b, A, B and ?. The network is to remember the last capital letter, through any
number of small ones, and to say which it was at each question mark; elsewhere it says nothing. One
unit has to hold a letter until it is asked for, another one to notice that it is asked.

    python -m grulens.demo.last_capital --out last_capital.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from grulens.errors import DemoError

WEIGHTS: Final = Path(__file__).with_name("last_capital.safetensors")
SYMBOLS: Final = "abAB?"
ANSWERS: Final = ("–", "A", "B")
UNITS: Final = 2
#: What it does, in the languages of the screens.
ABOUT: Final = {
    "en": "This network of two units reads one symbol a step. It was trained to remember the last "
    "capital letter, however many small ones follow, and to answer which it was at each question "
    "mark; elsewhere it answers “–”.",
    "zh": "这个网络只有两个单元，每一步读入一个符号。它学会了记住最近出现的大写字母，"
    "无论后面跟着多少个小写字母；遇到问号，就回答那个大写字母，其余各步回答“–”。",
}
#: How often each symbol is drawn.
CHANCES: Final = (0.3, 0.3, 0.1, 0.1, 0.2)


class LastCapital(nn.Module):
    """A GRU of two units over five symbols, and a linear readout of three answers.

    Attributes:
        rnn: one `nn.GRU` layer, batch first; its input is a one at the symbol's place.
        readout: from the state to the answers –, A and B.
        labels: what the answers are called.

    >>> model = LastCapital()
    >>> model(model.encode("aBa?")).shape
    torch.Size([1, 4, 3])
    """

    labels = ANSWERS

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(len(SYMBOLS), UNITS, batch_first=True)
        self.readout = nn.Linear(UNITS, len(ANSWERS))

    def encode(self, text: str) -> Int[Tensor, "1 time"]:
        """A text as numbers of symbols.

        Raises:
            DemoError: the text is empty, or has another character.
        """
        strange = sorted(set(text) - set(SYMBOLS))
        if strange or not text:
            found = f"got {', '.join(map(repr, strange))}" if strange else "there is nothing in it"
            raise DemoError(f"this network reads {', '.join(SYMBOLS)}; {found}")
        return torch.tensor([[SYMBOLS.index(symbol) for symbol in text]])

    def decode(self, ids: Int[Tensor, " time"]) -> str:
        """Numbers of symbols as a text."""
        return "".join(SYMBOLS[int(i)] for i in ids)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time answer"]:
        """Logits of the answers at every step."""
        symbols = nn.functional.one_hot(ids, len(SYMBOLS)).float()
        answers: Tensor = self.readout(self.rnn(symbols)[0])
        return answers


def texts(
    batch: int, time: int, *, generator: Generator | None = None
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Draw texts, and the answer that each of their steps should have.

    Args:
        batch: number of texts.
        time: symbols of each.
        generator: where the randomness comes from; None is torch's global generator.

    Returns:
        ids: (batch, time) int64, 0 to 4.
        answers: (batch, time) int64: 0 is nothing (–), 1 is A, 2 is B.

    >>> ids, answers = texts(1, 9, generator=Generator().manual_seed(5))
    >>> LastCapital().decode(ids[0]), answers.tolist()
    ('Aabba?bB?', [[0, 0, 0, 0, 0, 1, 0, 0, 2]])
    """
    chances = torch.tensor(CHANCES).expand(batch, -1)
    ids = torch.multinomial(chances, time, replacement=True, generator=generator)
    capital = (ids == 2) | (ids == 3)
    last = torch.where(capital, torch.arange(1, time + 1), 0).cummax(1).values
    seen = torch.cat([torch.ones(batch, 1, dtype=torch.int64), ids], 1).gather(1, last)
    answers = torch.where((ids == 4) & (last > 0), seen - 1, 0)
    return ids, answers


def train(*, seed: int = 2, steps: int = 1000, batch: int = 64, time: int = 40) -> LastCapital:
    """Train the network: Adam on the cross entropy, at a rate that falls along a cosine.

    With two units not every start learns it: of the seeds 0 to 3, seed 2 alone answered every
    question of 2,000 texts of 100 symbols.

    Args:
        seed: seeds weights and texts. torch's global RNG state is left as it was.
        steps: number of updates, each on fresh texts.
        batch: texts an update.
        time: symbols of each.

    Returns:
        The model, in eval mode.

    >>> train(steps=1).training
    False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LastCapital()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(steps):
            ids, answers = texts(batch, time)
            loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), answers.flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def load() -> LastCapital:
    """The trained network that comes with the package, in eval mode.

    >>> model = load()
    >>> [ANSWERS[int(i)] for i in model(model.encode("aBab?A?")).argmax(-1)[0]]
    ['–', '–', '–', '–', 'B', '–', 'A']
    """
    with torch.random.fork_rng(devices=[]):  # drawing weights only to overwrite them
        model = LastCapital()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()


def main() -> None:
    """Train the network and write its weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    save_file(train().state_dict(), parser.parse_args().out)


if __name__ == "__main__":
    main()
