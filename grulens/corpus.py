"""From one input to many: the finite automaton that a network follows, with its fidelity.

`automaton` builds it, by questions (L*) or from clusters of hidden states, and compares it with the
network on words that it was not built from; the result is an `Automaton`, and its `.dfa` a `DFA`.
"""

from __future__ import annotations

from grulens.lazy import lazy
from grulens.probing.corpus.automata.automaton import Automaton, automaton
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.fidelity import Agreement

__all__ = ["Agreement", "Automaton", "DFA", "automaton"]  # noqa: RUF022 - as sorted() has it

__getattr__, __dir__ = lazy(__name__, __all__, {})
