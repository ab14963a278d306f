"""Train the bundled character model: `python -m grulens.demo.train_characters`.

It stands in the package so that the shipped weights can be made again, and judged, by anyone. The
recipe is truncated backpropagation through time: the training text is cut into as many streams as
the batch has rows, and each window starts from the state the last one ended in.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from grulens.demo import corpus
from grulens.demo.character_model import CharacterModel
from grulens.demo.unit_scores import score_units
from grulens.errors import DemoError

# every so often a stream forgets: short inputs, which start from the zero state, must work too
FORGET: Final = 0.02

STEPS: Final = 1500
SEED: Final = 0

_WHAT: Final = (
    "Train the character model on the standard library's source and print how good it is. "
    "Ctrl-C ends the training early; what is learned by then is measured and saved all the same."
)


def train_characters(
    text: str,
    *,
    steps: int = STEPS,
    batch: int = 64,
    window: int = 128,
    rate: float = 1.2e-2,
    seed: int = SEED,
    progress: bool = True,
) -> CharacterModel:
    """Train a `CharacterModel` from scratch; an interrupt (Ctrl-C) keeps what is learned so far.

    Adam with gradients clipped to norm 1, and a rate that rises for the first tenth of the steps
    and then falls along a cosine (Smith and Topin 2018, arXiv:1708.07120, in torch's `OneCycleLR`).

    Args:
        text: what to learn; longer than ``batch * (window + 1)`` characters.
        steps: number of updates.
        batch: number of streams.
        window: characters of each stream that one update sees.
        rate: the highest learning rate.
        seed: seeds the weights and the forgetting. torch's global RNG state is left as it was.
        progress: whether to show a progress bar.

    Returns:
        The model, in eval mode.

    Raises:
        DemoError: the text is too short for the batch and window.

    >>> model = train_characters("spam and eggs " * 40, steps=2, batch=2, window=16, progress=False)
    >>> model.training
    False
    """
    streams = _streams(text, batch, window)
    windows = (streams.shape[1] - 1) // window
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel()
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=max(steps, 2), pct_start=0.1
        )
        state = torch.zeros(1, batch, model.rnn.hidden_size)
        with tqdm(total=steps, disable=not progress, desc="characters", unit="step") as bar:
            try:
                for step in range(steps):
                    start = step % windows * window
                    ids = streams[:, start : start + window + 1]
                    state = state * (torch.rand(batch, 1) >= FORGET)
                    states, last = model.rnn(model.embedding(ids[:, :-1]), state)
                    loss = nn.functional.cross_entropy(
                        model.readout(states).flatten(0, 1), ids[:, 1:].flatten()
                    )
                    optimizer.zero_grad()
                    torch.autograd.backward(loss)
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    state = last.detach()
                    bar.update()
                    if step % 10 == 0:
                        bar.set_postfix({"bits": f"{loss.item() / math.log(2):.3f}"})
            except KeyboardInterrupt:
                bar.set_description("interrupted, keeping what is learned")
    return model.eval()


@torch.no_grad()
def bits_per_character(model: CharacterModel, texts: Iterable[str], *, block: int = 1024) -> float:
    """Measure how well the model predicts text: each text is read once, whole, from the zero state.

    Args:
        model: the model.
        texts: texts of at least two characters; they are read side by side.
        block: characters read at a time; bounds the memory and changes nothing else.

    Returns:
        Mean over all predicted characters of −log2 p(character | those before it), in bits.

    Raises:
        DemoError: no text has two characters, so that nothing is predicted.

    >>> round(bits_per_character(CharacterModel(), ["import re", "pass"])) in (6, 7)
    True
    """
    rows = [corpus.encode(text) for text in texts]
    if not any(len(row) > 1 for row in rows):
        raise DemoError("bits per character take at least one text of two characters")
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    inputs, targets = ids[:, :-1].clamp(min=0), ids[:, 1:]
    state = torch.zeros(1, len(rows), model.rnn.hidden_size)
    total = 0.0
    for start in range(0, inputs.shape[1], block):
        here = slice(start, start + block)
        states, state = model.rnn(model.embedding(inputs[:, here]), state)
        logits = model.readout(states).flatten(0, 1)
        total += nn.functional.cross_entropy(
            logits, targets[:, here].flatten(), ignore_index=-1, reduction="sum"
        ).item()
    return total / math.log(2) / int((targets >= 0).sum())


def _streams(text: str, batch: int, window: int) -> Int[Tensor, "batch time"]:
    ids = corpus.encode(text)
    length = len(ids) // batch
    if length < window + 1:
        raise DemoError(
            f"{len(ids)} characters are too few for {batch} streams with windows of {window}; "
            f"give at least {batch * (window + 1)}"
        )
    return ids[: batch * length].view(batch, length)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and save; run as ``python -m grulens.demo.train_characters``.

    Args:
        arguments: what stands after the command; None reads the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m grulens.demo.train_characters", description=_WHAT
    )
    parser.add_argument("--out", type=Path, default=Path("characters.safetensors"))
    parser.add_argument("--steps", type=int, default=STEPS, help="updates (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    chosen = parser.parse_args(arguments)
    if not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out: the folder {chosen.out.absolute().parent} does not exist")
    torch.set_num_threads(chosen.threads)

    train = corpus.read_sources(corpus.TRAIN_FILES)
    held_out = corpus.read_sources(corpus.HELD_OUT_FILES)
    text = "\n".join(train.values())
    began = time.perf_counter()
    model = train_characters(text, steps=chosen.steps, seed=chosen.seed, progress=not chosen.quiet)
    seconds = time.perf_counter() - began
    bits = bits_per_character(model, held_out.values())
    save_file(model.state_dict(), chosen.out)

    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {chosen.threads} threads"
    )
    print(f"training text: {len(train)} files, {len(text):,} characters; {seconds:.0f} s")
    print(f"held out: {len(held_out)} files, {bits:.4f} bits per character")
    for question, ranked in score_units(model, held_out.values()).items():
        best = ", ".join(f"{found.unit} ({found.score:.3f})" for found in ranked[:3])
        print(f"{question}: unit {best}")
    print(f"{chosen.out}: {chosen.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
