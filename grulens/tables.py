"""The small HTML tables that results show of themselves; all text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", note: str = ""
) -> str:
    """A plain table in the notebook's own style; a note stands behind its caption.

    >>> html_table(["a"], [["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    caption = f"{caption}: {note}" if note else caption
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    heads = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table>{top}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
