"""The bundled language model: it reads Python source one character at a time and guesses the next.

One GRU layer, small enough to look at unit by unit, large enough that single units come to follow
strings, comments and brackets.
"""

from __future__ import annotations

from typing import Final

from jaxtyping import Float, Int
from torch import Tensor, nn

from grulens.demo import corpus

UNITS: Final = 192
EMBEDDING: Final = 48


class CharacterModel(nn.Module):
    """A GRU language model over characters; `rnn` is the layer that grulens opens.

    Attributes:
        embedding: a vector for each of the 97 characters.
        rnn: one `nn.GRU` layer, batch first.
        readout: from the state to one logit a character.
        labels: the printable name of each class, in the order of the logits.

    >>> model = CharacterModel()
    >>> model(model.encode("import re")).shape
    torch.Size([1, 9, 97])
    """

    labels: tuple[str, ...] = corpus.LABELS

    def __init__(self, units: int = UNITS, embedding: int = EMBEDDING) -> None:
        """Build an untrained model.

        Args:
            units: hidden size of the GRU.
            embedding: size of a character's vector, the GRU's input.
        """
        super().__init__()
        classes = len(corpus.VOCABULARY)
        self.embedding = nn.Embedding(classes, embedding)
        self.rnn = nn.GRU(embedding, units, batch_first=True)
        self.readout = nn.Linear(units, classes)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time class"]:
        """Predict the character that follows each of these.

        Args:
            ids: (batch, time) int64, from `encode`.

        Returns:
            (batch, time, class) float32 logits: those at t are for the character at t + 1.
        """
        states, _ = self.rnn(self.embedding(ids))
        logits: Tensor = self.readout(states)
        return logits

    def encode(self, text: str) -> Int[Tensor, "1 time"]:
        """Turn text into the model's input, one row (1, time) of classes, int64."""
        return corpus.encode(text).unsqueeze(0)

    def decode(self, ids: Int[Tensor, "*axes"]) -> str:
        """Turn classes, (time,) or one row (1, time), back into text."""
        return corpus.decode(ids)
