"""Credit and a logit lens as figures of their own, without a session around them."""

from __future__ import annotations

from grulens.probing.credit.credit import Credit
from grulens.probing.credit.logit_lens import LogitLens
from grulens.probing.readout.head import Head
from grulens.widgets.credit.figures import CreditFigure, LensFigure
from grulens.widgets.plot.matrix import matrix
from grulens.widgets.plot.registry import Figure, PlotOptions, draws, position
from grulens.widgets.session.class_list import numbered
from grulens.words import say


@draws(Credit)
def draw_credit(found: Credit, options: PlotOptions) -> Figure:
    """A bar for each step of a row, and the ledger; a tap outlines steps."""
    batch, steps, _ = found.inputs.shape
    row, tokens = options.row_of(batch, "this credit"), options.tokens_of(steps)
    figure = CreditFigure()
    note = f" ({found.note})" if found.note else ""
    figure.update(
        found, row, tokens=tokens, title=f"{say(found.method)} · {found.layer}{note}",
        mask=None if found.mask is None else found.mask[row].cpu().numpy(),
    )  # fmt: skip
    figure.bars.on_times(figure.bars.select)
    return figure.root, figure.still


@draws(LogitLens)
def draw_logit_lens(found: LogitLens, options: PlotOptions) -> Figure:
    """Lines of the likeliest classes of a row, and the units' shares in one; a tap chooses a step.

    Shown at first is the step read last; the class is `output`, or the likeliest at the step.
    """
    batch, steps, classes = found.logits.shape
    row, tokens, klass = options.row_of(batch, "this lens"), options.tokens_of(steps), None
    if options.output is not None:
        klass = position(options.output, classes, "class", "this lens")
    figure = LensFigure()

    def show(step: int) -> None:
        chosen = int(found.top(step, 1)[0][row, 0]) if klass is None else klass
        figure.update(
            found, row, step, chosen, tokens=tokens, probability=classes > 1,
            names=lambda of: numbered(classes, of),
        )  # fmt: skip

    figure.on_step(show)
    show(max(0, int(found.last[row])))
    return figure.root, figure.still


@draws(Head)
def draw_head(found: Head, options: PlotOptions) -> Figure:
    """The weight of each unit in each class, or in the one that `output` names."""
    classes = list(range(len(found.weight)))
    if options.output is not None:
        classes = [position(options.output, len(classes), "class", f"readout {found.name!r}")]
    return matrix(
        found.weight[classes], rows=numbered(len(found.weight), classes), down=say("class"),
        across=say("unit"), measure=say("weight"),
        title=say("{name} of {layer}", name=found.name, layer=found.layer),
    )  # fmt: skip
