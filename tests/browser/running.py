"""What a page that runs answers, beside what torch answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grulens import record
from grulens.probing.edits.edit import Edit

ANSWER = """() => {
  const {before, after} = grulens.runs(), of = (run) => Array.from(
    {length: before.answer ? ANSWERS : 0}, (_, t) => grulens.answer(run, t));
  return [of(before), of(after)];
}"""


def is_torchs(page: Any, model: nn.Module, given: Any, *edits: Edit, answers: int) -> None:
    """The page's answers (time, class) are those of the model with these edits."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    found = page.evaluate(ANSWER.replace("ANSWERS", str(answers)))
    for values, on in zip(found, ((), edits), strict=True):
        there = record(model, given, edits=on).output[0].detach().reshape(answers, -1)
        assert (torch.tensor(values) - there).abs().max() < 1e-5 * there.abs().max().clamp(min=1)
