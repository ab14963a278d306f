"""The network as an oracle: which words it accepts, each asked once, words of a length in one run.

The answer of a row may not depend on the rows beside it; where it does, or where the model takes
one row only, words are run one by one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.errors import AutomatonError, GrulensError, ReadoutError, shown
from grulens.models.call.invocation import Given, invocation
from grulens.models.instrument.undisturbed import as_it_was
from grulens.models.restore.mode import in_eval
from grulens.probing.corpus.automata.answers import Layout, check_sign, given_scores, layout_of
from grulens.probing.corpus.automata.words import Symbol, Word, is_text, written
from grulens.words import so_many

#: Words in one run, at most; and steps of all of them together.
ROWS, STEPS = 512, 2**16
#: Words of these lengths, so many of each, show how the model answers.
PROBES, PROBED = (4, 6), 13


class SpentError(Exception):
    """What may be used is used up; says what."""


class Acceptor:
    """A model, asked which words it accepts; every answer is kept.

    Args:
        model: the user's model.
        symbols: the alphabet.
        encode: from a word to the model's input, one row; or None.
        accepts: from the model's output to the answers; or None.
        call: the model's method that is the run, or None.
        batch_dim: the axis of the rows in the model's input.
        empty: whether the empty word is accepted; None asks the model.
        seed: of the words that show how the model answers.

    Attributes:
        known: the answers by word.
        takes_empty: whether there is an answer for the empty word.
        alone: why words are run one by one; "" where they are run side by side.
        left: how many more words may be asked; None is any number.
        on_asked: called with the number of words after every run.

    Raises:
        AutomatonError: the model does not run on words that are so encoded.
        ReadoutError: its output does not say what is accepted.
    """

    def __init__(
        self,
        model: nn.Module,
        symbols: Sequence[Symbol],
        *,
        encode: Callable[[Any], Any] | None = None,
        accepts: Callable[[Any], Any] | None = None,
        call: str | None = None,
        batch_dim: int = 0,
        empty: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.symbols, self.call, self.batch_dim = model, symbols, call, batch_dim
        self.accepts, self._layout = accepts, Layout(0, None, None)
        self.encode = _own(model, symbols) if encode is None else encode
        self.known: dict[Word, bool] = {}
        self.alone = ""
        self.left: int | None = None
        self.on_asked: Callable[[int], None] = lambda count: None
        self._look(random.Random(seed))
        self.known[()], self.takes_empty = self._empty(empty)

    def ask(self, words: Iterable[Word]) -> None:
        """Have the answers of these words in `known`.

        Raises:
            SpentError: they are more than may be asked; as many as may be are known then.
        """
        new = list(dict.fromkeys(word for word in words if word not in self.known))
        spent = self.left is not None and len(new) > self.left
        for some in self.batches(new[: self.left]):
            scores = self._scores(self.run(some), len(some))
            for word, score in zip(some, scores.tolist(), strict=True):
                self.known[word] = score > 0
            if self.left is not None:
                self.left -= len(some)
            self.on_asked(len(some))
        if spent:
            raise SpentError("the budget ran out")

    def answer(self, word: Word) -> bool:
        """Whether the model accepts a word."""
        self.ask([word])
        return self.known[word]

    def batches(self, words: Iterable[Word]) -> Iterator[list[Word]]:
        """Words in the runs in which they fit, each of words of one length."""
        by_length: dict[int, list[Word]] = {}
        for word in words:
            by_length.setdefault(len(word), []).append(word)
        for length, some in sorted(by_length.items()):
            rows = 1 if self.alone else max(1, min(ROWS, STEPS // max(1, length)))
            for start in range(0, len(some), rows):
                yield some[start : start + rows]

    def run(self, words: Sequence[Word], run: Callable[[Given], Any] | None = None) -> Any:
        """The model's output for words of one length, with the model as it was afterwards.

        Args:
            words: the words, a row each.
            run: what to do with the arguments in place of calling the model.
        """
        given: Given = ((self.input(words),), {})
        with in_eval(), as_it_was(self.model):
            return invocation(self.model, given, self.call)() if run is None else run(given)

    def input(self, words: Sequence[Word]) -> Tensor:
        """The model's input for words of one length.

        Raises:
            AutomatonError: `encode` gives no row of a tensor, or rows of several shapes.
        """
        rows = [self._row(word) for word in words]
        shapes = {(tuple(row.shape), row.dtype) for row in rows}
        if len(shapes) > 1:
            raise AutomatonError(
                "words of one length must be encoded to one shape, and came as "
                f"{' and '.join(str(shape) for shape, _ in sorted(shapes, key=str)[:3])}"
            )
        return torch.cat(rows, self.batch_dim)

    def _row(self, word: Word) -> Tensor:
        """One word as the model's input."""
        if self.encode is None:
            ids = [s if isinstance(s, int) else i for i, s in ((i, self.symbols[i]) for i in word)]
            found: Any = torch.tensor(ids, dtype=torch.int64, device=_device(self.model))
            return found.unsqueeze(self.batch_dim)  # type: ignore[no-any-return]
        said = written(word, self.symbols)
        found = self.encode(said)
        if isinstance(found, list) and all(type(number) is int for number in found):
            found = torch.tensor(found, dtype=torch.int64).unsqueeze(self.batch_dim)
        fits = isinstance(found, Tensor) and found.dim() > self.batch_dim
        if not fits or found.shape[self.batch_dim] != 1:
            came = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
            raise AutomatonError(
                f"encode must give a tensor with one row at axis {self.batch_dim} (batch_dim), "
                f"such as (1, time), or a list of whole numbers; for {said!r} it gave {came}"
            )
        return found  # type: ignore[no-any-return]

    def _look(self, rng: random.Random) -> None:
        """See how the model answers, and whether the rows of a batch act on each other."""
        words = [
            [tuple(rng.randrange(len(self.symbols)) for _ in range(length)) for _ in range(PROBED)]
            for length in PROBES
        ]
        outputs = [self._tried(some[:1]) for some in words]
        alone = self._layout_and_scores(outputs, 1)
        try:
            outputs = [self.run(some) for some in words]
            together = self._layout_and_scores(outputs, PROBED)
        except ReadoutError:
            raise
        except Exception as error:  # of any kind: one row ran, and several do not
            self.alone = f"the model runs no two words at once ({shown(error, 80)})"
            self._layout_and_scores(outputs, 1)
        else:
            first = together.view(len(PROBES), -1)[:, 0]
            if not torch.allclose(first, alone, rtol=1e-3, atol=1e-4):
                self.alone = "the answer for a row depends on the rows beside it"
                self._layout_and_scores([self._tried(some[:1]) for some in words], 1)
        if self.accepts is None:
            runs = self.batches(word for some in words for word in some)
            every = [self._scores(self.run(some), len(some)) for some in runs]
            check_sign(torch.cat(every), self._layout)

    def _layout_and_scores(self, outputs: list[Any], rows: int) -> Tensor:
        if self.accepts is None:
            self._layout = layout_of(outputs, rows, list(PROBES))
        return torch.cat([self._scores(output, rows) for output in outputs])

    def _tried(self, words: Sequence[Word]) -> Any:
        given = self.input(words)
        try:
            return self.run(words)
        except GrulensError:
            raise
        except Exception as error:
            how = (
                "" if self.encode else ": give encode=, from a word to the model's input (1, time)"
            )
            raise AutomatonError(
                f"the model does not run on the word {written(words[0], self.symbols)!r} as it is "
                f"encoded, {given.dtype} {tuple(given.shape)} ({shown(error, 200)}){how}"
            ) from error

    def _scores(self, output: Any, rows: int) -> Tensor:
        if self.accepts is None:
            scores = self._layout.scores(output).detach()
        else:
            scores = given_scores(self.accepts, output, rows)
        scores = scores.double().cpu()
        if len(scores) != rows or not bool(torch.isfinite(scores).all()):
            raise ReadoutError(
                f"{so_many(rows, 'word')} must have as many finite answers; the "
                f"output gave {shown(scores, 80)}"
            )
        return scores

    def _empty(self, empty: bool | None) -> tuple[bool, bool]:
        """Whether the empty word is accepted, and whether that is known."""
        if empty is not None:
            return empty, True
        try:
            (score,) = self._scores(self.run([()]), 1).tolist()
        except Exception:  # of any kind: many models take no empty input, and say so in their way
            return False, False
        return score > 0, True


def _own(model: nn.Module, symbols: Sequence[Symbol]) -> Callable[[Any], Any] | None:
    """The model's own `encode`, from a text to its input, where words are texts."""
    own = getattr(model, "encode", None)
    if not callable(own) or isinstance(own, nn.Module) or isinstance(symbols[0], int):
        return None
    if not is_text(symbols):
        raise AutomatonError(
            f"{type(model).__name__}.encode takes a text, and a word over symbols of more than one "
            "character is a tuple of them: give encode=, from such a tuple to the model's input"
        )
    found: Callable[[Any], Any] = own
    return found


def _device(model: nn.Module) -> torch.device:
    one = next(model.parameters(), None)
    return torch.device("cpu") if one is None else one.device
