"""Numbers under the mouse: a format that BokehJS does not know makes another number of them."""

from __future__ import annotations

import re
from pathlib import Path

import grulens

FIELD = re.compile(r"@[\w{}]*?\{([^a-z{}][^{}]*)\}")
#: Decimals and per cent: no zero of these has a minus. BokehJS shows "0.0e+0" of 5e-16 as +0.000.
KNOWN = re.compile(r"0(\.0+)?( %)?|%\.\dg")


def test_every_number_has_a_format_that_is_known() -> None:
    sources = sorted(Path(grulens.__file__).parent.rglob("*.py"))
    forms = [
        (path.name, form)
        for path in sources
        for form in FIELD.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(forms) > 20
    assert [(name, form) for name, form in forms if not KNOWN.fullmatch(form)] == []
