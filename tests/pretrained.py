"""Networks that other people published, from the packages that the test requirements install.

Both packages want something at import that a test must not depend on: g2p_en lets nltk fetch its
data, uzmorph_bigru asks a part of setuptools that is gone. That is seen to here, in one place.
"""

import importlib
import sys
import types
import warnings
from importlib.resources import files

import pytest
import torch
from torch import nn


def published(name):
    """A module of a test requirement; one that is missing is a failure, never a skipped test."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.fail(f'{error}; the test requirements have it: pip install -e ".[test]"')


def g2p():
    """g2p_en's own G2p; nltk fetches nothing, and with an empty dictionary all is predicted."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it leaves files open
        patch.setattr(published("nltk").data, "find", lambda *_: True)
        module = published("g2p_en.g2p")
        patch.setattr(module, "cmudict", types.SimpleNamespace(dict=dict))
        return module.G2p()


class Pronouncer(nn.Module):
    """g2p_en's network in torch: a GRU reads the letters, a loop of cells says the phonemes."""

    START, STOP, MOST = 2, 3, 20

    def __init__(self, weights):
        super().__init__()
        width, units = weights["enc_emb"].shape[1], weights["enc_w_hh"].shape[1]
        self.letters = nn.Embedding(len(weights["enc_emb"]), width)
        self.encoder = nn.GRU(width, units, batch_first=True)
        self.sounds = nn.Embedding(len(weights["dec_emb"]), width)
        self.decoder = nn.GRUCell(width, units)
        self.say = nn.Linear(units, len(weights["fc_b"]))
        theirs = {"letters.weight": "enc_emb", "sounds.weight": "dec_emb"}
        theirs |= {"say.weight": "fc_w", "say.bias": "fc_b"}
        for ours, short in (("weight", "w"), ("bias", "b")):
            for part in ("ih", "hh"):
                theirs[f"encoder.{ours}_{part}_l0"] = f"enc_{short}_{part}"
                theirs[f"decoder.{ours}_{part}"] = f"dec_{short}_{part}"
        self.load_state_dict({a: torch.from_numpy(weights[b]) for a, b in theirs.items()})
        self.eval()

    def forward(self, letters):
        """Letters (1, time) to phonemes (said,), the likeliest each time."""
        _, last = self.encoder(self.letters(letters))
        h, sound, said = last[0], torch.tensor([self.START]), []
        for _ in range(self.MOST):
            h = self.decoder(self.sounds(sound), h)
            sound = self.say(h).argmax(1)
            if sound == self.STOP:
                break
            said.append(sound)
        return torch.cat(said) if said else sound[:0]


def analyzer():
    """uzmorph_bigru's own analyzer, which asks pkg_resources for its files."""
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, path: str(files(package) / path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", resources)
        return published("uzmorph_bigru").uzmorph_bigru()
