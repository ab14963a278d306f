"""What phrases contribute as figures of their own, without a session around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bokeh.models import HoverTool

from grulens.errors import GrulensError, ReadoutError, shown
from grulens.probing.edits import positions
from grulens.probing.phrases.agglomerate import Hierarchy
from grulens.probing.phrases.decomposition import Decomposition
from grulens.probing.phrases.interactions import Interactions
from grulens.tables import html_table
from grulens.views.credit.bars import TokenBars
from grulens.views.figure.tokens import number, visible_name
from grulens.views.phrases.tree import PhraseBoxes
from grulens.views.still import lens as still
from grulens.views.still import phrases as still_phrases
from grulens.widgets.plot.registry import Figure, PlotOptions, check_enough, draws, position
from grulens.widgets.plot.units import array, over_time
from grulens.words import say

#: Pairs that a still picture lists, the strongest first.
FEW = 30


@draws(Hierarchy)
def draw_phrases(found: Hierarchy, options: PlotOptions) -> Figure:
    """Boxes over the tokens; a tap outlines the steps of a phrase."""
    tokens, output = options.tokens, options.output
    if output is not None:
        raise ReadoutError(f"output={shown(output)}: a tree of phrases is of one class, give None")
    check_enough(tokens, len(found.tokens))
    target = found.target
    classes = (
        f"{target}" if isinstance(target, int)
        else say("{one} against {other}", one=target[0], other=target[1])
    )  # fmt: skip
    title = say("phrases for class {name} · {layer}", name=classes, layer=found.layer) + (
        f" ({found.note})" if found.note else ""
    )
    boxes = PhraseBoxes()
    boxes.update(found.groups, tokens=tokens, title=title)
    boxes.on_phrase(lambda group: boxes.select(range(group.first, group.stop)))
    boxes.on_times(boxes.select)
    return boxes.root, lambda: still.compose(
        still_phrases.phrases(found.groups, tokens=tokens, title=title)
    )


@draws(Interactions)
def draw_interactions(found: Interactions, options: PlotOptions) -> Figure:
    """A bar for each pair of phrases: what they contribute beyond what each does alone.

    Raises:
        GrulensError: there are no pairs.
    """
    if not found.pairs:
        raise GrulensError(f"{found!r}: no pair to draw; its scores are of one phrase")
    row = options.row_of(found.scores.shape[1], "these interactions")
    words = _phrases(found.phrases, options.tokens)
    names = [f"{words[a]} + {words[b]}" for a, b in found.pairs]
    values, done = array(found.values[:, row]), found.done.cpu().numpy()
    title = say("together beyond each alone · {layer}", layer=found.layer)
    title += f" ({found.note})" * bool(found.note)
    bars = TokenBars()
    bars.update(values, tokens=names, mask=done, title=title, measure=say("change of the score"),
        names=True,
    )  # fmt: skip
    bars.bars.name, bars.bars.xaxis.axis_label = say("interaction of each pair"), say("pair")
    bars.bars.select_one(HoverTool).tooltips = [
        (say("phrases"), "@token"), (say("together"), "@credit{0.00000}"),
    ]  # fmt: skip
    bars.on_times(bars.select)

    def draw() -> str:
        strongest = np.argsort(-np.abs(np.where(done, values, 0.0)), kind="stable")[:FEW]
        rows = [
            (words[found.pairs[i][0]], words[found.pairs[i][1]], number(values[i], ".4g"))
            for i in strongest.tolist()
            if done[i]
        ]
        return still.compose(html_table((say("phrase"), say("and"), say("together")), rows, title))

    return bars.root, draw


@draws(Decomposition)
def draw_decomposition(found: Decomposition, options: PlotOptions) -> Figure:
    """What each phrase adds to a class at every step, over the tokens of a row; of one, a line.

    The class is `output`, or the likeliest at the last step of the row. Where there is no linear
    readout it is the size of the phrase's part of the state.
    """
    row = options.row_of(len(found.mask), "this decomposition")
    steps = found.mask[row].nonzero().flatten()
    tokens = options.tokens_of(found.mask.shape[1])
    if found.head is None:
        if options.output is not None:
            raise ReadoutError(f"output={shown(options.output)}: {found.why}")
        values, measure = found.beta[:, row].double().norm(dim=-1), say("part of the state, norm")
    else:
        logits = found.logits[row]
        klass = int(logits[steps[-1]].argmax()) if len(steps) else 0
        if options.output is not None:
            klass = position(options.output, logits.shape[-1], "class", "this decomposition")
        values, measure = (
            found.scores[:, row, :, klass],
            say("part of the output")
            if logits.shape[-1] == 1
            else say("part of class {n}", n=klass),
        )
    return over_time(
        array(values[:, steps]), _phrases(found.phrases, tokens), steps.tolist(), tokens,
        measure=measure, layer=found.layer, down=say("phrase"),
    )  # fmt: skip


def _phrases(phrases: Sequence[positions.Index], tokens: Sequence[str] | None) -> list[str]:
    """What to call each phrase: the tokens where they are known, else its steps."""
    if tokens is None:
        return [positions.words(phrase, "step", say) for phrase in phrases]
    return [visible_name(_text(phrase, tokens)) for phrase in phrases]


def _text(phrase: positions.Index, tokens: Sequence[str]) -> str:
    if positions.is_relative(phrase):  # of each row's own end
        return positions.words(phrase, "step", say)
    if isinstance(phrase, int | tuple):
        places = np.ravel(phrase)
        places = np.flatnonzero(places) if places.dtype == bool else places
        check_enough(tokens, int(places.max(initial=-1)) + 1)
    named = [
        token
        for token, here in zip(tokens, positions.mask(phrase, len(tokens)).tolist(), strict=True)
        if here
    ]
    return ("" if all(len(part) <= 1 or part[0] == " " for part in named) else " ").join(named)
