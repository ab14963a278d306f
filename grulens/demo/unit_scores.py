"""Which unit follows what: each unit of the character model, scored against the ground truth.

Two scores serve. For yes-or-no questions (inside a string, inside a comment, inside either) it is
the area under the ROC curve, by the rank-sum formula of Mann and Whitney (1947): the chance that
the unit is higher at a random yes than at a random no. For counts (bracket depth, column,
indentation) it is Pearson's r.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from numpy import ndarray
from scipy.stats import rankdata

from grulens.demo.character_model import CharacterModel
from grulens.demo.ground_truth import ground_truth
from grulens.errors import DemoError

QUESTIONS: Final = ("in_string", "in_comment", "in_text", "depth", "column", "indentation")


class UnitScore(NamedTuple):
    """How well one unit answers one question.

    Attributes:
        unit: index of the unit.
        score: AUC in 0..1 for a yes-or-no question (0.5 is chance, below it the unit goes down at
            a yes), Pearson's r in -1..1 for a count.
        strength: the same without its direction: max(AUC, 1 − AUC), or abs(r).
    """

    unit: int
    score: float
    strength: float


def score_units(
    model: CharacterModel, sources: Iterable[str], *, limit: int | None = None
) -> dict[str, list[UnitScore]]:
    r"""Score every unit's state h against every question, strongest first.

    Args:
        model: the model; each source is read once, from the zero state.
        sources: Python source texts.
        limit: read at most this many characters of each source; the whole source still says
            what is a string. None reads all.

    Returns:
        Question (`QUESTIONS`) to one `UnitScore` a unit, by falling strength.

    Raises:
        DemoError: there is no text, a source does not tokenize, or a question has one answer only.

    >>> scores = score_units(CharacterModel(), ["f('abc', [1])  # x\n  #\n"])
    >>> list(scores), len(scores["in_string"])
    (['in_string', 'in_comment', 'in_text', 'depth', 'column', 'indentation'], 192)
    """
    texts = list(sources)
    if not any(texts):
        raise DemoError("scoring units takes at least one source text with characters in it")
    truths = [ground_truth(text) for text in texts]
    states = np.concatenate([_states(model, text[:limit]) for text in texts if text[:limit]])
    found = {}
    for question in QUESTIONS:
        answers = np.concatenate([getattr(truth, question)[:limit] for truth in truths])
        if (answers == answers[0]).all():
            raise DemoError(
                f"{question} is {answers[0]} at every character: nothing to score against"
            )
        if answers.dtype == bool:
            scores = auc(states, answers)
            strengths = np.maximum(scores, 1 - scores)
        else:
            scores = correlation(states, answers)
            strengths = np.abs(scores)
        order = np.argsort(-strengths, kind="stable")
        found[question] = [
            UnitScore(int(unit), float(scores[unit]), float(strengths[unit])) for unit in order
        ]
    return found


def auc(
    values: Float[ndarray, "time unit"], answers: Bool[ndarray, " time"]
) -> Float[ndarray, " unit"]:
    """Compute each unit's area under the ROC curve, ties counting half (Mann and Whitney 1947).

    Args:
        values: (time, unit) of any float dtype.
        answers: (time,) bool, with both answers in it.

    Returns:
        (unit,) float64 in 0..1.

    >>> auc(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([False, True, False, True]))
    array([0.75])
    """
    yes = int(answers.sum())
    no = len(answers) - yes
    ranks = rankdata(values, axis=0)
    wins: Float[ndarray, " unit"] = (ranks[answers].sum(axis=0) - yes * (yes + 1) / 2) / (yes * no)
    return wins


def correlation(
    values: Float[ndarray, "time unit"], answers: Num[ndarray, " time"]
) -> Float[ndarray, " unit"]:
    """Compute each unit's Pearson correlation with a count; a unit that never moves has 0.

    Args:
        values: (time, unit) of any float dtype.
        answers: (time,) of any number, not constant.

    Returns:
        (unit,) float64 in -1..1.

    >>> correlation(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), np.array([4, 3, 2]))
    array([-1.,  0.])
    """
    moved = values - values.mean(axis=0, dtype=np.float64)
    asked = answers - answers.mean()
    scale = np.linalg.norm(moved, axis=0) * np.linalg.norm(asked)
    product: Float[ndarray, " unit"] = asked @ moved
    r = np.zeros_like(product)
    np.divide(product, scale, out=r, where=scale > 0)
    return r


@torch.no_grad()
def _states(model: CharacterModel, text: str) -> Float[ndarray, "time unit"]:
    states, _ = model.rnn(model.embedding(model.encode(text)))
    array: Float[ndarray, "time unit"] = states[0].numpy()
    return array
