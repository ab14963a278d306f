import numpy as np
import pytest
import torch

from grulens.demo.character_model import CharacterModel
from grulens.demo.ground_truth import ground_truth
from grulens.demo.unit_scores import QUESTIONS, auc, correlation, score_units
from grulens.errors import DemoError

SOURCE = "def f(a, b=[1]):\n    # say\n    return {'a': (a, 'bc')}\n"


@pytest.fixture
def model() -> CharacterModel:
    torch.manual_seed(0)
    return CharacterModel()


def test_auc_is_the_share_of_pairs_won():
    values = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    answers = np.random.default_rng(1).random(40) < 0.3
    for unit, found in enumerate(auc(values, answers)):
        yes, no = values[answers, unit], values[~answers, unit]
        won = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
        assert found == pytest.approx(won.mean())


def test_correlation_is_numpys():
    values = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    counts = np.arange(30) % 7
    expected = [np.corrcoef(values[:, unit], counts)[0, 1] for unit in range(2)]
    assert correlation(values, counts) == pytest.approx(expected, abs=1e-6)


def test_every_unit_is_ranked_by_strength(model):
    found = score_units(model, [SOURCE])
    assert tuple(found) == QUESTIONS
    for question, ranked in found.items():
        strengths = [one.strength for one in ranked]
        assert strengths == sorted(strengths, reverse=True)
        assert sorted(one.unit for one in ranked) == list(range(192))
        for one in ranked:
            folded = abs(one.score)
            if question.startswith("in_"):
                folded = max(one.score, 1 - one.score)
            assert one.strength == pytest.approx(folded)


def test_a_unit_made_to_copy_the_answer_is_found(model):
    class Answering(torch.nn.Module):
        def forward(self, embedded):
            states = torch.zeros(1, embedded.shape[1], 192)
            states[0, :, 5] = -torch.from_numpy(ground_truth(SOURCE).in_string).float()
            return states, None

    model.rnn = Answering()
    best = score_units(model, [SOURCE])["in_string"][0]
    assert best == (5, 0.0, 1.0)


def test_limit_reads_less(model):
    whole, part = score_units(model, [SOURCE]), score_units(model, [SOURCE], limit=45)
    assert whole["depth"] != part["depth"]
    assert whole == score_units(model, [SOURCE], limit=len(SOURCE))


def test_nothing_to_score_against_is_said(model):
    with pytest.raises(DemoError, match="at least one source text"):
        score_units(model, [])
    with pytest.raises(DemoError, match="in_string is False at every character"):
        score_units(model, ["x = 1\n"])
