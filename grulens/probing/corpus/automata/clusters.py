"""States by clusters of hidden states, steps and answers by majority.

Hidden states of a network that follows an automaton lie in clouds, one or more a state (Giles et
al. 1992, Neural Comput. 4:393; k-means: Wang et al. 2018, Neural Comput. 30:2568). That a step from
a cluster nearly always leads to the same cluster does not make the automaton right: how often it
does is kept as `determinism`, and says nothing about the answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grulens.errors import AutomatonError
from grulens.models.call.invocation import Given
from grulens.models.record import record
from grulens.models.recording import Recording
from grulens.probing.corpus.automata.acceptor import Acceptor, SpentError
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.kmeans import Array, kmeans, nearest
from grulens.probing.corpus.automata.search import random_word
from grulens.probing.corpus.automata.words import Symbol, Word, all_words, written
from grulens.probing.layer import layer_of

#: States that k-means looks at, at most.
POINTS = 20_000


@dataclass(frozen=True, eq=False)
class Clustered:
    """An automaton of clusters.

    Attributes:
        dfa: the automaton; state i is cluster i, the next is the start, whose state is one and no
            cloud; where some step was never seen a last state, which rejects, stands for what is
            not known.
        layers: whose states they are, side by side.
        centres: the centre of each cluster (cluster, unit), float64.
        determinism: the share of a cluster's steps with a symbol that lead where most of them do,
            (cluster, symbol); NaN where there is none.
        overall: the same over all steps.
        missing: how many clusters have no step with some symbol.
        left: how many of the user's own words were not recorded, because of the budget.
    """

    dfa: DFA
    layers: tuple[str, ...]
    centres: Float[Tensor, "cluster unit"]
    determinism: Float[Tensor, "cluster symbol"]
    overall: float
    missing: int
    left: int


class Visits:
    """Which states the network is in after which words.

    Args:
        acceptor: the network.
        layer: the layer whose states are clustered, or None for all of them.

    Attributes:
        states: the states (unit,) by word.
        layers: the names of the layers.
    """

    def __init__(self, acceptor: Acceptor, layer: str | None) -> None:
        self.acceptor, self.layer = acceptor, layer
        self.states: dict[Word, Array] = {}
        self.layers: tuple[str, ...] = ()
        self._offset: int | None = None

    def add(self, words: Iterable[Word]) -> None:
        """Record words, and keep the state after each of their prefixes.

        Raises:
            AutomatonError: there is no state of the network for each of them.
        """
        for some in self.acceptor.batches(word for word in words if word):
            if self._offset is None:
                self._offset = self._find_offset(some[0])
            states = self._recorded(some)
            for row, word in enumerate(some):
                for step in range(len(word) + 1):
                    self.states[word[:step]] = states[row, step + self._offset]

    def _recorded(self, words: Sequence[Word]) -> Array:
        """The states before and after every step (row, step, unit), float64."""
        acceptor = self.acceptor

        def run(given: Given) -> Recording:
            return record(acceptor.model, layers=self._names(), call=acceptor.call, inputs=given)

        recording = acceptor.run(words, run)
        chosen = [layer_of(recording, name) for name in recording]
        self.layers = tuple(layer.name for layer in chosen)
        parts = []
        for layer in chosen:
            after, before = layer.state.detach(), layer.state_prev.detach()[:, :1]
            parts.append(torch.cat([before, after], 1).flatten(2))
        sizes = {part.shape[:2] for part in parts}
        if len(sizes) > 1 or parts[0].shape[0] != len(words):
            raise AutomatonError(
                f"layers {', '.join(self.layers)} have not one row for each word and the same "
                "steps: say which one has, layer="
            )
        return torch.cat(parts, 2).double().cpu().numpy()

    def _names(self) -> list[str] | None:
        return None if self.layer is None else [self.layer]

    def _find_offset(self, word: Word) -> int:
        """How many steps come before the first symbol: those of a mark at the beginning, say.

        The state after a prefix of a word is the one after the prefix alone. In a layer that reads
        from the end, or looks ahead, there is no such state.
        """
        word = (word * 3)[: max(3, len(word))]
        whole = self._recorded([word])[0]
        short = word[: len(word) - 1]
        part = self._recorded([short])[0]
        for offset in range(len(whole) - 1 - len(word), -1, -1):
            step = offset + len(short)
            if step < len(part) and np.allclose(
                whole[: step + 1], part[: step + 1], rtol=1e-4, atol=1e-5
            ):
                return offset
        raise AutomatonError(
            f"the states of {', '.join(self.layers)} after the symbols of a word "
            f"({written(short, self.acceptor.symbols)!r}) are others when the word goes on: it "
            "reads from the end, looks ahead or has no step for each symbol. An automaton of "
            "clusters needs a state after each prefix: choose another layer=, or method='lstar'"
        )


def clustered(
    acceptor: Acceptor,
    words: Sequence[Word],
    *,
    clusters: int,
    layer: str | None,
    longest: int,
    budget: int,
    seed: int,
) -> Clustered:
    """The automaton of the clusters of a network's states.

    Args:
        acceptor: the network.
        words: words of the user's own, which are recorded first.
        clusters: how many clusters.
        layer: the layer whose states are clustered, or None for all of them.
        longest: how long random words are at most.
        budget: how many words may be recorded and asked, each prefix being one.
        seed: where random words and the starts of k-means come from.

    Raises:
        AutomatonError: the network has no state after each prefix of a word.
    """
    visits = Visits(acceptor, layer)
    chosen = _chosen(acceptor.symbols, words, longest, budget, seed)
    visits.add(chosen)
    left = len(set(words).difference(visits.states, [()]))
    known = list(visits.states)
    try:
        acceptor.ask(known)
    except SpentError:  # what is known by then is enough
        known = [word for word in known if word in acceptor.known]
    known = [word for word in known if word]
    points = np.stack([visits.states[word] for word in known])
    if not np.isfinite(points).all():
        raise AutomatonError(f"states of {', '.join(visits.layers)} are not finite")
    centres = kmeans(points[:: -(-len(points) // POINTS)], clusters, seed)
    label = dict(zip(known, nearest(points, centres).tolist(), strict=True))
    return _majority(visits, label, centres, left)


def _majority(visits: Visits, label: dict[Word, int], centres: Array, left: int) -> Clustered:
    """Steps and answers by majority; the steps from the start are as they were."""
    acceptor, count = visits.acceptor, len(centres)
    size, start, unknown = len(acceptor.symbols), count, count + 1
    steps = np.zeros((count, size, count), dtype=np.int64)
    votes = np.zeros((count, 2), dtype=np.int64)
    first = [unknown] * size
    for word, here in label.items():
        votes[here, int(acceptor.known[word])] += 1
        if len(word) > 1:
            steps[label[word[:-1]], word[-1], here] += 1
        else:
            first[word[0]] = here
    seen, most = steps.sum(2), steps.max(2)
    missing = int((seen == 0).any(1).sum())
    table = [*np.where(seen > 0, steps.argmax(2), unknown).tolist(), first]
    accepting = [*(votes[:, 1] > votes[:, 0]).tolist(), acceptor.known[()]]
    if missing or unknown in first:
        table.append([unknown] * size)
        accepting.append(False)
    with np.errstate(invalid="ignore"):
        shares = torch.from_numpy(most / seen)
    dfa = DFA(acceptor.symbols, table, accepting, start)
    overall = float(most.sum() / max(1, seen.sum()))
    return Clustered(dfa, visits.layers, torch.from_numpy(centres), shares, overall, missing, left)


def _chosen(
    symbols: Sequence[Symbol], words: Sequence[Word], longest: int, budget: int, seed: int
) -> list[Word]:
    """Words to record: the user's, short ones, random ones, until their prefixes are the budget."""
    rng, size = random.Random(seed), len(symbols)
    prefixes: set[Word] = set()
    chosen: list[Word] = []

    def take(word: Word) -> bool:
        new = {word[:step] for step in range(len(word) + 1)} - prefixes
        if len(prefixes) + len(new) > budget:
            return False
        prefixes.update(new)
        chosen.append(word)
        return True

    short = (word for length in range(1, longest + 1) for word in all_words(size, length))
    for number, word in enumerate(short):
        if number >= budget // 4 or not take(word):
            break
    for word in words:
        take(word)
    while take(random_word(rng, size, rng.randint(1, longest))) and len(chosen) < budget:
        pass
    return chosen or [(0,)]
