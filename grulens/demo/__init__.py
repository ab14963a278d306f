"""The bundled models: one that reads Python source, one that remembers three bits, one a letter.

They are here so that every page of grulens can show a real, trained GRU at once, without a download
and without waiting. `load` gives the first; the second, `flip_flop`, trains in seconds; the third,
`last_capital`, has two units, so that a person can follow every number of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from grulens.demo import flip_flop, last_capital
from grulens.demo.character_model import CharacterModel
from grulens.errors import DemoError

__all__ = ["WEIGHTS", "CharacterModel", "Demo", "flip_flop", "last_capital", "load"]

WEIGHTS: Final = Path(__file__).with_name("characters.safetensors")


class Demo(NamedTuple):
    """The bundled character model and its two translators.

    Attributes:
        model: the trained `CharacterModel`, in eval mode.
        encode: text to the model's input, (1, time) int64, one class a character.
        decode: classes, (time,) or (1, time), back to text.
    """

    model: CharacterModel
    encode: Callable[[str], Tensor]
    decode: Callable[[Tensor], str]


def load(path: Path | None = None) -> Demo:
    """Load the bundled character model; MODEL_CARD.md says how it was made and how good it is.

    Args:
        path: another safetensors file that `grulens.demo.train_characters` wrote; None is the one
            that comes with the package.

    Returns:
        A fresh `Demo` at each call: model, encode, decode.

    Raises:
        DemoError: the file is missing or does not hold this model.

    >>> model, encode, decode = load()
    >>> model(encode("import re")).shape, model.training
    (torch.Size([1, 9, 97]), False)
    """
    file = WEIGHTS if path is None else path
    try:
        weights = load_file(file)
    except FileNotFoundError as error:
        raise DemoError(
            f"the demo model's weights are not there: {file}; "
            "`python -m grulens.demo.train_characters` makes them again"
        ) from error
    except SafetensorError as error:
        raise DemoError(f"{file} is not a safetensors file: {error}") from error
    with torch.random.fork_rng(devices=[]):  # drawing weights only to overwrite them
        model = CharacterModel()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DemoError(f"{file} does not hold the demo model: {reason}") from error
    model.eval()
    return Demo(model, model.encode, model.decode)
