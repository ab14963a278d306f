"""How a page turns a text into ids where the model's `encode` is one id a character or one a word.

It is found by asking `encode` and `decode`, and holds only what comes back the same: a character or
a word that is not among these is refused by the page, by name, and never taken for another one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import torch

from grulens.probing.coder import Coder

#: Ids whose names are asked for one by one.
MOST: Final = 20_000
#: So many of them stand in the text that is tried.
TRIED: Final = 24


@dataclass(frozen=True)
class Spelling:
    """The ids of characters, or of words with white space between them.

    Attributes:
        words: whether each id is a word; else a character.
        ids: the id of each.
        example: a text of some of them.
    """

    words: bool
    ids: dict[str, int]
    example: str

    def parts(self, text: str) -> list[str]:
        """The characters or the words of a text."""
        return text.split() if self.words else list(text)


def spelling(coder: Coder, size: int) -> Spelling | None:
    """How texts become ids; None where it is neither by character nor by word.

    Args:
        coder: encodes texts and names ids.
        size: so many ids there are.

    >>> letters = Coder(lambda text: [ord(c) - 97 for c in text],
    ...                 lambda ids: "".join(chr(97 + int(i)) for i in ids))
    >>> found = spelling(letters, 3)
    >>> found.ids, found.words, len(found.example)
    ({'a': 0, 'b': 1, 'c': 2}, False, 24)
    """
    names = coder.names(torch.arange(size)) if size <= MOST else None
    if names is None:
        return None
    for words in (False, True):
        known = {
            name: number for number, name in reversed([*enumerate(names)])
            if (name.split() == [name] if words else len(name) == 1)
            and coder._gives(name, torch.tensor([number]))
        }  # fmt: skip
        known = {name: known[name] for name in names if name in known}
        if not known:
            continue
        draw = random.Random(0)
        # all of them once, and some of them in any order
        for count in (1, len(known)):
            some = draw.sample([*known], len(known)) if count > 1 else []
            some += draw.choices([*known], k=TRIED)
            text = (" " if words else "").join(some)
            if not coder._gives(text, torch.tensor([known[name] for name in some])):
                break
        else:
            return Spelling(words, known, (" " if words else "").join(some[-TRIED:]))
    return None
