"""A tree of phrases as a figure of its own, without a session around it."""

from __future__ import annotations

from grulens.errors import ReadoutError, shown
from grulens.probing.phrases.agglomerate import Hierarchy
from grulens.views.phrases.tree import PhraseBoxes
from grulens.views.still import lens as still
from grulens.views.still import phrases as still_phrases
from grulens.widgets.plot.registry import Figure, PlotOptions, check_enough, draws


@draws(Hierarchy)
def draw_phrases(found: Hierarchy, options: PlotOptions) -> Figure:
    """Boxes over the tokens; a tap outlines the steps of a phrase."""
    tokens, output = options.tokens, options.output
    if output is not None:
        raise ReadoutError(f"output={shown(output)}: a tree of phrases is of one class, give None")
    check_enough(tokens, len(found.tokens))
    target = found.target
    classes = f"{target}" if isinstance(target, int) else f"{target[0]} against {target[1]}"
    title = f"phrases for class {classes} · {found.layer}" + (
        f" ({found.note})" if found.note else ""
    )
    boxes = PhraseBoxes()
    boxes.update(found.groups, tokens=tokens, title=title)
    boxes.on_phrase(lambda group: boxes.select(range(group.first, group.stop)))
    boxes.on_times(boxes.select)
    return boxes.root, lambda: still.compose(
        still_phrases.phrases(found.groups, tokens=tokens, title=title)
    )
