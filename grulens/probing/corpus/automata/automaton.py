"""The finite automaton that a network follows, if it follows one.

What is built is compared with the network on words that it was not built from. Below a stated
fidelity it is not shown as an automaton of the network: states and arrows are convincing whether or
not they are right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from grulens.arguments import (
    Accepts,
    AlphabetLike,
    AutomatonMethod,
    EncodeWord,
    Frame,
    Integer,
    LayerName,
    MethodName,
    Number,
    WordsLike,
)
from grulens.errors import AutomatonError, FidelityError, shown
from grulens.job import stopped, tell
from grulens.models.adapters.closed import look
from grulens.probing.corpus.automata.acceptor import Acceptor
from grulens.probing.corpus.automata.build import Build
from grulens.probing.corpus.automata.dfa import DFA
from grulens.probing.corpus.automata.fidelity import (
    WORDS,
    Agreement,
)
from grulens.probing.corpus.automata.sampling import KINDS
from grulens.probing.corpus.automata.words import (
    Symbol,
    Word,
    is_text,
    read_word,
    symbols_of,
    written,
)
from grulens.probing.corpus.numbers import as_number, as_whole
from grulens.results import Result, frame
from grulens.tables import html_table
from grulens.words import so_many

METHODS: Final = ("lstar", "clusters")


@dataclass(frozen=True, eq=False, repr=False)
class Automaton(Result):
    """An automaton that was built from a network, and how far it is one.

    Attributes:
        method: "lstar" or "clusters".
        hypothesis: what was built, whatever its fidelity; None where an interrupt or the budget
            came before anything was. `dfa` is this automaton, where it is one of the network.
        fidelity: how often both answer alike, by length and kind of words; no word was used in
            building.
        counterexamples: words on which they differ, shortest first, ten at most; texts where every
            symbol is one character, else tuples of symbols. Those it was built from are among them.
        threshold: the share of agreement below which, at any length and kind, it is no automaton of
            the network.
        asked: how many words it was built from.
        budget: how many there might have been.
        lengths: the lengths at which fidelity was to be measured.
        done: how many of the comparisons, one a length and kind, were made before an interrupt.
        layers: of clusters, whose states they are.
        centres: of clusters, their centres (cluster, unit); state i is cluster i, and the next
            one the start.
        determinism: of clusters, the share of steps from a cluster with a symbol that lead where
            most of them do (cluster, symbol).
        overall: of clusters, the same over all steps; it says nothing about answers.
        built: the agreement on the words that it was built or chosen by, by what the network says:
            what is wrong there is no automaton of the network either.
        remarks: what must be known of it.
    """

    method: Literal["lstar", "clusters"]
    hypothesis: DFA | None
    fidelity: tuple[Agreement, ...]
    counterexamples: tuple[Any, ...]
    threshold: float
    asked: int
    budget: int
    lengths: tuple[int, ...]
    done: int
    layers: tuple[str, ...] = ()
    centres: Float[Tensor, "cluster unit"] | None = None
    determinism: Float[Tensor, "cluster symbol"] | None = None
    overall: float = float("nan")
    built: tuple[Agreement, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def worst(self) -> Agreement | None:
        """The length and kind of words on which they agree least; None if none was compared."""
        return min((*self.fidelity, *self.built), key=lambda one: one.share, default=None)

    @property
    def why_not(self) -> str:
        """Why this is no automaton of the network, in words; "" where it is one."""
        if self.hypothesis is None:
            return "nothing was built" + (f": {self.note}" if self.note else "")
        if self.stopped:
            return f"its fidelity was not measured to the end, {self.stopped}"
        worst = self.worst
        if worst is None or not self.fidelity:
            return "no word was left on which to compare it with the network"
        if worst.share < self.threshold:
            of = "" if worst in self.fidelity else ", of those it was built from"
            return f"both agree on {worst}{of}, and {self.threshold:g} of them were asked for"
        return ""

    @property
    def dfa(self) -> DFA:
        """The automaton.

        Raises:
            FidelityError: it is no automaton of the network; the message says where they differ.
        """
        why = self.why_not
        if why or self.hypothesis is None:
            raise FidelityError(f"this is no automaton of the network: {why}. {self._advice()}")
        return self.hypothesis

    @property
    def stopped(self) -> str:
        """Where an interrupt came before all of it was done: after how much; else ""."""
        return stopped(self.done, len(self.lengths) * len(KINDS), "comparison")

    @property
    def note(self) -> str:
        """What a reader of the automaton has to know, in words; "" if nothing."""
        return "; ".join(self.remarks)

    def to_frame(self) -> Frame:
        """A pandas DataFrame of the fidelity, one row a length and kind of words.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        rows = self.fidelity
        return frame({
            "shortest": [one.shortest for one in rows],
            "length": [one.length for one in rows],
            "kind": [one.kind for one in rows],
            "words": [one.words for one in rows],
            "agree": [one.agree for one in rows],
            "share": [one.share for one in rows],
            "low": [one.interval[0] for one in rows],
            "high": [one.interval[1] for one in rows],
        })  # fmt: skip

    def __repr__(self) -> str:
        if why := self.why_not:
            return f"Automaton({self.method!r}, no automaton of this network: {shown_short(why)})"
        worst, dfa = self.worst, self.dfa
        states = so_many(len(dfa), "state")
        least = "" if worst is None else f", fidelity {worst.share:.3f} or more"
        return f"Automaton({self.method!r}, {states}{least} up to length {max(self.lengths)})"

    def _repr_html_(self) -> str:
        head = ("words of up to", *WORDS.values())
        by = {(one.length, one.kind): one for one in self.fidelity}
        rows = [
            (length, *(_cell(by.get((length, kind))) for kind in WORDS)) for length in self.lengths
        ]
        said = [f"{self!r}: the share of words on which network and automaton agree"]
        said += [self.note] if self.note else []
        if self.counterexamples:
            said.append(f"they differ on {', '.join(map(_word, self.counterexamples[:3]))}")
        table = html_table(head, rows, ". ".join(said))
        return table if self.why_not else table + self.dfa._repr_html_()

    def _advice(self) -> str:
        said = [".hypothesis is what was built" if self.hypothesis else "Give a larger budget="]
        if self.counterexamples:
            said.append(f".counterexamples where they differ, such as {self.counterexamples[0]!r}")
        good = self._good()
        if good:
            said.append(f"up to length {good} it is one: lengths=")
        other = "method='lstar'" if self.method == "clusters" else "a larger budget= or tries="
        said.append(f"try {other}, or words= of your own, which are looked at first")
        return "; ".join(said)

    def _good(self) -> int:
        """The length up to which it holds everywhere; 0 if nowhere."""
        bad = [one.length for one in self.fidelity if one.share < self.threshold]
        if not bad or self.stopped:
            return 0
        wrong = min(map(len, self.counterexamples), default=min(bad))
        return max((n for n in self.lengths if n < min(*bad, wrong)), default=0)


def automaton(
    model: nn.Module,
    alphabet: AlphabetLike,
    *,
    method: AutomatonMethod = "lstar",
    encode: EncodeWord = None,
    accepts: Accepts = None,
    empty: bool | None = None,
    words: WordsLike = (),
    lengths: Sequence[Integer] = (5, 10, 20, 40),
    sample: Integer = 200,
    threshold: Number = 0.95,
    budget: Integer = 20_000,
    tries: Integer = 2_000,
    states: Integer = 100,
    clusters: Integer = 10,
    layer: LayerName = None,
    call: MethodName = None,
    batch_dim: Integer = 0,
    seed: Integer = 0,
    progress: bool = True,
) -> Automaton:
    """The finite automaton that a network follows when it accepts and rejects words.

    "lstar" asks the network about words and knows nothing of its insides: Angluin 1987 with the
    network as its oracle, as Weiss, Goldberg and Yahav 2018 (arXiv:1711.09576); counterexamples are
    sought by the W-method and at random, from short words to long ones. The smallest automaton that
    stood that up to one of the `lengths`, and holds at all of them, is taken: many networks follow
    a small automaton on short words and leave it now and then on long ones.

    "clusters" records hidden states, takes each cluster of them (k-means) for a state, and steps
    and answers by majority. What either gives is compared with the network on words that it was not
    built from.

    Every run is in eval mode and leaves the model as it was.

    Args:
        model: any module that holds recurrent layers; for "lstar", any module.
        alphabet: the symbols: a text such as "01", or a sequence of texts or of whole numbers.
        method: "lstar" or "clusters".
        encode: from a word (a text where every symbol is one character, else a tuple of symbols) to
            the model's input, one row: a tensor (1, time, ...), or a list of ids. None takes the
            model's own `encode` for texts; else ids (1, time): whole numbers as they are, texts by
            their place in the alphabet.
        accepts: from the model's output for a batch to which words it accepts (batch,): bool, or
            numbers of which those above 0 accept. None reads the last step of the output's first
            floating tensor: the sign of a single logit, or whether class 1 of two is the larger.
        empty: whether the empty word is accepted. None asks the model; where it takes no empty
            input, whichever gives the smaller automaton.
        words: words of your own, those of the training set, say: "lstar" tries them first,
            "clusters" records them.
        lengths: how long the words are on which fidelity is measured, each with words of up to five
            symbols less; none is longer in building.
        sample: how many words are compared for each length and kind, of those that are left.
        threshold: the share on which both must agree, at each length and kind; with 1.0 "lstar"
            goes on until no counterexample is found.
        budget: how many words it may be built from.
        tries: for "lstar", how many words without a counterexample are enough, at each length.
        states: for "lstar", how many states an automaton may have.
        clusters: for "clusters", how many of them.
        layer: for "clusters" alone, whose states; None is all layers side by side.
        call: the name of the method that is the run; None is the model itself.
        batch_dim: the axis of the rows in the model's input.
        seed: where random words come from: the same seed gives the same automaton.
        progress: whether to show progress bars.

    Returns:
        An `Automaton`: its `.dfa`, fidelity by length, counterexamples. A KeyboardInterrupt ends it
        early, with a `StoppedWarning`: what was built by then is its `.hypothesis`.

    Raises:
        AutomatonError: an alphabet, word or option that is none; the model does not run on words so
            encoded; for "clusters", it has no state after each prefix of a word.
        ReadoutError: the output does not say what is accepted.
        NoLayerError, LayerError: for "clusters", there is no such layer.

    >>> import torch
    >>> class Parity(nn.Module):  # accepts words with an even number of b
    ...     def forward(self, ids):
    ...         return 1.0 - 2.0 * (ids.sum(1) % 2)
    >>> found = automaton(Parity(), "ab", progress=False)
    >>> found
    Automaton('lstar', 2 states, fidelity 1.000 or more up to length 40)
    >>> found.dfa.accepts("abba"), found.counterexamples
    (True, ())
    """
    anything: object = model
    if not isinstance(anything, nn.Module):
        look(anything)  # which says what it is instead
    symbols = symbols_of(alphabet)
    given = _words(words, symbols)
    sizes = _lengths(lengths)
    threshold = _check(method, threshold, empty, encode, accepts, layer)
    sample, budget, tries, states, clusters, batch_dim, seed = (
        _count(value, name, least)
        for value, name, least in (
            (sample, "sample", 1), (budget, "budget", 1), (tries, "tries", 1),
            (states, "states", 1), (clusters, "clusters", 1), (batch_dim, "batch_dim", 0),
            (seed, "seed", 0),
        )
    )  # fmt: skip
    acceptor = Acceptor(
        model, symbols, encode=encode, accepts=accepts, call=call, batch_dim=batch_dim,
        empty=empty, seed=seed,
    )  # fmt: skip
    build = Build(
        acceptor, method, given, lengths=sizes, budget=budget, sample=sample,
        threshold=threshold, seed=seed, progress=progress,
    )  # fmt: skip
    build.run(tries=tries, states=states, clusters=clusters, layer=layer)
    build.compare()
    if build.interrupted:
        tell("automaton", build.interrupted)
    seen = build.clustered
    return Automaton(
        method=method,
        hypothesis=build.dfa,
        fidelity=tuple(build.fidelity),
        counterexamples=tuple(written(word, symbols) for word in build.counterexamples),
        threshold=threshold,
        asked=build.asked,
        budget=budget,
        lengths=sizes,
        done=build.done,
        layers=seen.layers if seen else (),
        centres=seen.centres if seen else None,
        determinism=seen.determinism if seen else None,
        overall=seen.overall if seen else math.nan,
        built=tuple(build.built),
        remarks=tuple(build.remarks),
    )


def _words(words: Any, symbols: tuple[Symbol, ...]) -> list[Word]:
    if not isinstance(words, list | tuple):
        one = f": words=[{words!r}]" if isinstance(words, str) and is_text(symbols) else ""
        raise AutomatonError(f"words must be a sequence of words, got {shown(words, 100)}{one}")
    return [read_word(word, symbols) for word in words]


def _lengths(lengths: Any) -> tuple[int, ...]:
    several = isinstance(lengths, list | tuple | range | ndarray | Tensor)
    found = tuple(as_whole(length) or 0 for length in lengths) if several else ()
    if not found or min(found) < 1:
        raise AutomatonError(
            f"lengths must be whole numbers from 1 up, such as (5, 10, 20), got {shown(lengths)}"
        )
    return tuple(sorted(set(found)))


def _check(
    method: Any, threshold: Any, empty: Any, encode: Any, accepts: Any, layer: Any
) -> float:  # fmt: skip
    """The threshold, once all of these are what they must be."""
    if not isinstance(method, str) or method not in METHODS:
        raise AutomatonError(f"method must be one of {', '.join(METHODS)}, got {shown(method)}")
    if layer is not None and method == "lstar":
        raise AutomatonError(
            f"layer= says whose states make clusters, and method='lstar' looks at none, got "
            f"{shown(layer)}: method='clusters', or no layer="
        )
    share = as_number(threshold)
    if share is None or not 0 < share <= 1:
        raise AutomatonError(
            f"threshold must be a share above 0 and up to 1, got {shown(threshold)}"
        )
    if empty is not None and type(empty) is not bool:
        raise AutomatonError(f"empty must be True, False or None, got {shown(empty)}")
    for name, value in (("encode", encode), ("accepts", accepts)):
        if value is not None and not callable(value):
            raise AutomatonError(f"{name} must be a function, got {shown(value)}")
    return share


def _count(value: Any, name: str, least: int) -> int:
    found = as_whole(value)
    if found is None or found < least:
        raise AutomatonError(f"{name} must be a whole number from {least} up, got {shown(value)}")
    return found


def _cell(one: Agreement | None) -> str:
    if one is None:
        return "–"
    low, high = one.interval
    of = f"all {one.words}" if one.every else f"{one.words}"
    band = "" if one.every else f" ({low:.3f} to {high:.3f})"
    return f"{one.share:.3f}{band} of {of}"


def _word(word: Any) -> str:
    return repr(word) if word else "the empty word"


def shown_short(words: str) -> str:
    """The beginning of some words, for a repr."""
    return words if len(words) <= 120 else f"{words[:119]}…"
