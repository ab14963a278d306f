"""From a text to a model's input and back: the model's own `encode` and `decode`, or those given.

All that is known is that `encode(text)` gives what the model reads, and `decode(ids)` a text or a
list of texts. Whether an id stands for a character, a word or a piece of a word is found by calling
them, and a name that does not encode to its own id again is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grulens.arguments import Decode, Encode
from grulens.errors import GrulensError, shown


def ids_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among a model's arguments that can be ids: whole numbers, (time,) or by rows."""
    return [
        value for value in (*args, *kwargs.values())
        if isinstance(value, Tensor) and value.dim() in (1, 2) and value.numel()
        and value.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)
    ]  # fmt: skip


class Coder:
    """Encodes a text to a model's input, and says what each step of an input is called.

    Args:
        encode: from a text to the model's input, or None.
        decode: from ids (time,) to a text or a list of texts, or None.
        vocabulary: what each id is called, where that is known without `decode`.

    Attributes:
        listed: whether the last text became a list of ids.

    >>> coder = Coder(lambda text: [ord(c) - 97 for c in text], None)
    >>> ids = coder.read("cab")
    >>> ids, coder.names(ids, "cab")
    (tensor([[2, 0, 1]]), ['c', 'a', 'b'])
    """

    def __init__(
        self,
        encode: Encode,
        decode: Decode,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        self.encode, self.decode, self.vocabulary = encode, decode, vocabulary
        self.listed = False

    @staticmethod
    def of(model: nn.Module, encode: Encode, decode: Decode, labels: Sequence[str] | None) -> Coder:
        """The coder of a model.

        Args:
            model: the model; its own `encode` and `decode` serve where none is given.
            encode: from a text to the model's input, or None.
            decode: from ids (time,) to a text or a list of texts, or None.
            labels: names of the classes; they name ids too where an nn.Embedding has as many rows.

        Raises:
            GrulensError: `encode` or `decode` is no function.
        """
        vocabulary = _vocabulary_of(model, labels)
        return Coder(_own(model, "encode", encode), _own(model, "decode", decode), vocabulary)

    def read(self, text: str) -> Any:
        """The model's input for a text; a list of ids becomes (1, time)."""
        found = text if self.encode is None else self.encode(text)
        ids = isinstance(found, list) and found and all(type(i) is int for i in found)
        self.listed = bool(ids)
        return torch.tensor([found]) if ids else found

    def names(self, ids: Any, text: str | None = None) -> list[str] | None:
        """What to call each id of one row, (time,) or (1, time); None where that is not known.

        Args:
            ids: the ids.
            text: what they were encoded from, if that is known.
        """
        row = one_row(ids)
        if row is None or not len(row):
            return None
        if self.decode is not None:
            found = self._decoded(row)
            if found is not None:
                return found
        if text is not None and self._is_by_character(text, row):
            return list(text)
        words = self.vocabulary
        if words is None or int(row.min()) < 0 or int(row.max()) >= len(words):
            return None
        return [words[number] for number in row.tolist()]

    def spelled(self, given: Any, text: str) -> list[str] | None:
        """The characters of a text, or its words, where each is one step of numbers by itself.

        Args:
            given: what the text was encoded to.
            text: the text.

        >>> import torch
        >>> letters = Coder(lambda text: torch.tensor([[[float(ord(c))] for c in text]]), None)
        >>> letters.spelled(letters.read("cab"), "cab")
        ['c', 'a', 'b']
        """
        rows = _vectors(given)
        if rows is None:
            return None
        for parts in (list(text), text.split()):
            if len(parts) == len(rows):
                alone = {part: _vectors(_quiet(self.read, part)) for part in dict.fromkeys(parts)}
                found = [alone[part] for part in parts]
                if all(
                    one is not None and one.shape == row[None].shape and torch.equal(one[0], row)
                    for one, row in zip(found, rows, strict=True)
                ):
                    return parts
        return None

    def written(self, ids: Any, names: Sequence[str] | None) -> str:
        """A text that is encoded to these ids; "" where none is known."""
        row = one_row(ids)
        if row is None or self.encode is None:
            return ""
        tries = ["".join(names), " ".join(names)] if names else []
        if self.decode is not None:
            whole = _quiet(self.decode, row)
            tries = [whole, *tries] if isinstance(whole, str) else tries
        return next((text for text in tries if self._gives(text, row)), "")

    def reply(self, number: int) -> str:
        """What `decode` does with an id, in words.

        >>> Coder(None, lambda ids: 7).reply(3)
        'gives 7'
        """
        if self.decode is None:
            return "is not there"
        try:
            return f"gives {shown(self.decode(torch.tensor([number])))}"
        except Exception as error:  # of any kind: it is the user's own
            return f"raises {type(error).__name__} ({shown(str(error))})"

    def _decoded(self, row: Tensor) -> list[str] | None:
        whole = _texts(_quiet(self.decode, row))
        if whole is not None and len(whole) == len(row):
            return whole
        names: dict[int, str] = {}
        for i, number in enumerate(row.tolist()):
            if number not in names:
                one = _one(_quiet(self.decode, row[i : i + 1]))
                one = _one(_quiet(self.decode, [number])) if one is None else one
                if one is None:
                    return None
                names[number] = one
        return [names[number] for number in row.tolist()]

    def _is_by_character(self, text: str, row: Tensor) -> bool:
        """Whether each id is that of one character: as many may be so by chance."""
        if len(text) != len(row):
            return False
        first = {character: i for i, character in reversed(list(enumerate(text)))}
        return all(self._gives(c, row[i : i + 1]) for c, i in first.items()) and all(
            int(row[i]) == int(row[first[c]]) for i, c in enumerate(text)
        )

    def _gives(self, text: str, row: Tensor) -> bool:
        found = one_row(_quiet(self.read, text))
        return found is not None and found.shape == row.shape and bool((found == row).all())


def _own(model: nn.Module, name: str, given: Any) -> Any:
    """A function that was given, or the model's own of that name, or None."""
    if given is not None and not callable(given):
        raise GrulensError(f"{name} must be a function, got {shown(given)}")
    own = getattr(model, name, None) if given is None else given
    return own if callable(own) else None


def _vocabulary_of(model: nn.Module, labels: Sequence[str] | None) -> Sequence[str] | None:
    """The names of the classes, where they can be those of the input's ids as well."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if labels is None or (tables and all(t.num_embeddings != len(labels) for t in tables)):
        return None
    return labels


def one_row(ids: Any) -> Tensor | None:
    """Ids (time,) of one row, on the processor; None where they are none."""
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex():
        return None
    if ids.dim() not in (1, 2) or ids.dtype is torch.bool or (ids.dim() == 2 and len(ids) != 1):
        return None
    return ids.detach().reshape(-1).cpu()


def _vectors(given: Any) -> Tensor | None:
    """Numbers (time, feature) of one row; None where they are no such thing."""
    if not isinstance(given, Tensor) or not given.is_floating_point() or given.dim() != 3:
        return None
    return given[0].detach() if len(given) == 1 else None


def _quiet(do: Callable[[Any], Any] | None, what: Any) -> Any:
    """What a user's function makes of something; None where it cannot."""
    try:
        with torch.no_grad():
            return None if do is None else do(what)
    except Exception:  # of any kind: a name is wanted, and without it there are numbers
        return None


def _texts(found: Any) -> list[str] | None:
    is_list = isinstance(found, list | tuple) and all(isinstance(item, str) for item in found)
    return list(found) if is_list else None


def _one(found: Any) -> str | None:
    if isinstance(found, str):
        return found
    texts = _texts(found)
    return texts[0] if texts is not None and len(texts) == 1 else None
