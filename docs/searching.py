"""The search of the manual: English by words and their stems, Chinese by two characters at a time.

Chinese has no spaces, so a text in it is indexed by every pair of characters that stand side by
side, and by each one alone: 更新门 as 更新, 新门, 更, 新 and 门. A question is cut into its pairs,
and finds the pages that have all of them; so it needs no dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from sphinx.search.en import SearchEnglish

HAN: Final = "\u4e00-\u9fff"
#: Chinese in one piece, or a word of another language.
PIECE: Final = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")


class SearchBoth(SearchEnglish):
    """What Sphinx asks of a language: how to cut a text, here and in the browser."""

    lang = "zh"
    language_name = "English"  # by which Sphinx finds the stemmer
    js_splitter_code = f"""
var splitQuery = (query) =>
  query
    .split(/([{HAN}]+)|[^\\p{{Letter}}\\p{{Number}}_]+/u)
    .filter((piece) => piece)
    .flatMap((piece) =>
      /^[{HAN}]{{3,}}$/.test(piece)
        ? [...piece].slice(1).map((_, i) => piece.slice(i, i + 2))
        : [piece]);
"""

    def split(self, input: str) -> list[str]:
        """The words of a text.

        >>> SearchBoth({}).split("GRU 更新门")
        ['GRU', '更', '新', '门', '更新', '新门']
        """
        return [word for piece in PIECE.findall(input) for word in _words(piece)]

    def word_filter(self, word: str) -> bool:
        """Whether a word is worth a place in the index; one Chinese character is."""
        return re.match(f"[{HAN}]", word) is not None or super().word_filter(word)


def _words(piece: str) -> Iterator[str]:
    if re.match(f"[{HAN}]", piece):
        yield from piece
        yield from (piece[i : i + 2] for i in range(len(piece) - 1))
    else:
        yield piece


def setup(app: Any) -> dict[str, Any]:
    """Search so."""
    app.add_search_language(SearchBoth)
    app.config.html_search_language = SearchBoth.lang
    return {"parallel_read_safe": True, "parallel_write_safe": True}
