"""The 3-bit flip-flop: a memory task small enough to train live in a notebook.

Each input channel now and then carries a pulse, +1 or −1; the model must always output the last
pulse of every channel. The answer is known, and so is what a good solution looks like: one stable
fixed point for each of the 8 memories (Sussillo and Barak 2013, doi:10.1162/NECO_a_00409).
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from grulens.errors import DemoError

BITS: Final = 3
UNITS: Final = 64


class FlipFlopModel(nn.Module):
    """A GRU with a linear readout; `rnn` is the layer that grulens opens.

    Attributes:
        rnn: one `nn.GRU` layer, batch first.
        readout: from the state to one number a bit, trained towards −1 and +1.

    >>> FlipFlopModel()(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, units: int = UNITS, bits: int = BITS) -> None:
        """Build an untrained model.

        Args:
            units: hidden size of the GRU.
            bits: number of channels to remember.
        """
        super().__init__()
        self.rnn = nn.GRU(bits, units, batch_first=True)
        self.readout = nn.Linear(units, bits)

    def forward(self, inputs: Float[Tensor, "batch time bits"]) -> Float[Tensor, "batch time bits"]:
        """Remember the last pulse of every channel.

        Args:
            inputs: (batch, time, bits) of −1, 0 and +1.

        Returns:
            (batch, time, bits): close to −1 or +1 once a channel had a pulse, to 0 before.
        """
        states, _ = self.rnn(inputs)
        outputs: Tensor = self.readout(states)
        return outputs


def flip_flop_data(
    batch: int,
    time: int,
    *,
    bits: int = BITS,
    p: float = 0.1,
    generator: Generator | None = None,
) -> tuple[Float[Tensor, "batch time bits"], Float[Tensor, "batch time bits"]]:
    """Draw pulses and the memory they leave.

    Args:
        batch: number of sequences.
        time: steps of each.
        bits: number of channels.
        p: chance of a pulse, per channel and step.
        generator: where the randomness comes from; None is torch's global generator.

    Returns:
        inputs: (batch, time, bits) float32, +1 or −1 at a pulse, 0 elsewhere.
        targets: (batch, time, bits) float32, the channel's last pulse; 0 before the first.

    Raises:
        DemoError: p is not a chance, or a size is less than 1.

    >>> inputs, targets = flip_flop_data(1, 8, bits=1, p=0.4, generator=Generator().manual_seed(11))
    >>> inputs.flatten().int().tolist()
    [1, 0, 0, -1, 0, 0, 0, 1]
    >>> targets.flatten().int().tolist()
    [1, 1, 1, -1, -1, -1, -1, 1]
    """
    if not 0 <= p <= 1:
        raise DemoError(f"p is the chance of a pulse, 0 to 1; got {p}")
    for name, size in (("batch", batch), ("time", time), ("bits", bits)):
        if size < 1:
            raise DemoError(f"{name} must be at least 1; got {size}")
    shape = (batch, time, bits)
    pulses = torch.rand(shape, generator=generator) < p
    signs = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0
    inputs = signs * pulses
    # when the last pulse was, as an index; a channel still waiting points at step 0, which holds 0
    steps = torch.arange(time).view(1, time, 1)
    last = torch.where(pulses, steps, 0).cummax(dim=1).values
    return inputs, inputs.gather(1, last)


def train_flip_flop(
    *,
    seed: int = 0,
    steps: int = 600,
    batch: int = 32,
    time: int = 64,
    units: int = UNITS,
    noise: float = 0.25,
    progress: bool = True,
) -> FlipFlopModel:
    """Train a `FlipFlopModel`; an interrupt (Ctrl-C) keeps what is learned so far.

    Adam on the squared error, the rate falling along a cosine, gradients clipped to norm 1. Without
    noise a memory need only outlast the sequence, and most seeds learn some that fade within a
    thousand steps; noise would push such a memory along, so what is learned are attractors.

    Args:
        seed: seeds weights and data. torch's global RNG state is left as it was.
        steps: number of updates, each on fresh data.
        batch: sequences an update.
        time: steps of each sequence.
        units: hidden size of the GRU.
        noise: standard deviation of what is added to every input while training.
        progress: whether to show a progress bar.

    Returns:
        The model, in eval mode.

    Raises:
        DemoError: the noise is negative.

    >>> train_flip_flop(steps=2, progress=False).training
    False
    """
    if not noise >= 0:
        raise DemoError(f"noise is a standard deviation, 0 or more; got {noise}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FlipFlopModel(units)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        with tqdm(total=steps, disable=not progress, desc="flip-flop", unit="step") as bar:
            try:
                for step in range(steps):
                    inputs, targets = flip_flop_data(batch, time)
                    heard = inputs + noise * torch.randn(inputs.shape)
                    loss = nn.functional.mse_loss(model(heard), targets)
                    optimizer.zero_grad()
                    torch.autograd.backward(loss)
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    bar.update()
                    if step % 10 == 0:
                        bar.set_postfix({"loss": f"{loss.item():.4f}"})
            except KeyboardInterrupt:
                bar.set_description("interrupted, keeping what is learned")
    return model.eval()
