"""From one input to many: what a unit encodes, and which finite automaton a network follows.

`scan` runs a model over a corpus once and keeps an index, which a `Scan` answers from: `Statistics`
of each unit with the area under the ROC curve for every label, the windows in which a unit goes
furthest (`Top`), and where units are on together (`Match`), each place a `Place` and what stands
there a `Context`; a `Replay` is a place that ran again, an `Excerpt` one as an input
that begins where the row stood, and `open_scan` opens a scan again.
`probe` asks how well labels can be read off the states by linear probes, beside control tasks; the
result is a `Probe`. `cka` says how alike the states of two scans are, layer by layer: a `CKA`.
`automaton` builds an automaton by questions (L*) or from clusters of hidden states, and compares it
with the network on words that it was not built from; the result is an `Automaton`, and its `.dfa` a
`DFA`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grulens.lazy import lazy
from grulens.probing.corpus.automata.automaton import Automaton, automaton
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.fidelity import Agreement
from grulens.probing.corpus.probes.probe import Probe, probe
from grulens.probing.corpus.scan.excerpt import Excerpt
from grulens.probing.corpus.scan.match import Match
from grulens.probing.corpus.scan.place import Context, Place
from grulens.probing.corpus.scan.replay import Replay
from grulens.probing.corpus.scan.scan import scan
from grulens.probing.corpus.scan.scanned import Scan, open_scan
from grulens.probing.corpus.scan.statistics import Statistics
from grulens.probing.corpus.scan.top import Top
from grulens.probing.corpus.similarity.cka import CKA, cka

__all__ = [  # noqa: RUF022 - as sorted() has it
    "Agreement", "Automaton", "CKA", "Context", "Corpus", "DFA", "Excerpt", "Match", "Place",
    "Probe", "Replay", "Scan", "Statistics", "Top", "automaton", "cka", "open_scan", "probe",
    "scan",
]  # fmt: skip

if TYPE_CHECKING:
    from grulens.widgets.corpus.screen import Corpus
else:
    __getattr__, __dir__ = lazy(__name__, __all__, {"Corpus": "grulens.widgets.corpus.screen"})
