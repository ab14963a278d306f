"""The standalone page holds every signal of both runs and nothing that came with the data runs."""

import json
import re
from html import unescape

import numpy as np

from grulens.cells import kinds
from grulens.cells.signal import Signal
from grulens.views.page.page import page

RNG = np.random.default_rng(0)
HOSTILE = "</script><img src=x onerror=alert(1)>"
SIGNALS = ("r", "z", "n", "h")


def runs(units: int = 3, time: int = 4) -> dict[Signal, np.ndarray]:
    return {signal: RNG.random((units, time)) for signal in kinds.GRU.signals}


def whole() -> str:
    return page(
        runs(), runs(), tokens=[HOSTILE] * 4, layer=HOSTILE, columns={HOSTILE: [HOSTILE] * 3},
        divergence=np.ones(4), labels=[[HOSTILE, "b"]] * 4, before=RNG.random((4, 2)),
        after=RNG.random((4, 2)), edits=[HOSTILE], title=HOSTILE, units=[1], step=2,
    )  # fmt: skip


def documents(html: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return list(json.loads(unescape(found[1])).values())


def named(node: object, name: str) -> list[dict[str, object]]:
    """Every model of a type, wherever it stands in the document."""
    if isinstance(node, dict):
        here = [node] if node.get("name") == name and "attributes" in node else []
        return here + [m for value in node.values() for m in named(value, name)]
    if isinstance(node, list):
        return [m for value in node for m in named(value, name)]
    return []


def test_no_network_and_no_markup_from_data() -> None:
    html = whole()
    assert not re.search(r"<script[^>]+src=", html)
    # BokehJS itself holds markup as texts: what is left without scripts is the page
    assert not re.search(r"<link|<img", re.sub(r"(?s)<script.*?</script>", "", html))
    assert HOSTILE not in html
    assert "<img src=x" not in html


def test_it_offers_every_signal_of_both_runs() -> None:
    (document,) = documents(whole())
    signal, run = (select["attributes"] for select in named(document, "Select"))
    assert [option[0] for option in signal["options"]] == list(SIGNALS)
    assert [option[0] for option in run["options"]] == ["edited", "baseline", "edited − baseline"]


def test_without_edits_there_is_one_run() -> None:
    (document,) = documents(page(runs()))
    assert [option[0] for option in named(document, "Select")[1]["attributes"]["options"]] == [
        "baseline"
    ]


def test_scripts_are_the_same_whatever_the_data() -> None:
    (hostile,), (plain,) = documents(whole()), documents(page(runs(), runs()))
    codes = [
        {m["attributes"]["code"] for m in named(document, "CustomJS")}
        for document in (hostile, plain)
    ]
    assert codes[0] == codes[1]
    assert not any("onerror" in code for code in codes[0])
