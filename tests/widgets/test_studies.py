"""Further screens of a lens: made when opened, asleep when not seen, up to date when seen again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import nn

from grulens import Lens, Session, clamp
from grulens.widgets.studies import KINDS, NONE, Studies


@pytest.fixture
def studies(session: Session) -> Iterator[Studies]:
    made = Studies(session)
    yield made
    made.close()


def test_nothing_is_made_before_it_is_opened(studies: Studies) -> None:
    assert studies.opened == {}
    assert studies.still() == ""


@pytest.mark.parametrize("name", KINDS)
def test_each_opens_on_the_session_and_without_an_error(studies: Studies, name: str) -> None:
    studies._choice.value = name
    panel = studies.opened[name]
    getattr(panel, "wait", lambda: None)()  # for what is computed in the background
    assert panel.session is studies.session
    assert panel in studies.children
    assert (studies._errors.value, panel._errors.value) == ("", "")
    assert studies.still() == panel.still() != ""


def test_one_is_seen_at_a_time_and_the_others_sleep(studies: Studies) -> None:
    session = studies.session
    studies.shown = "motion"
    motion = studies.opened["motion"]
    title = motion._plot.root.title  # type: ignore[attr-defined]
    studies.shown = "memory"
    assert motion.layout.display == "none"
    session.layer = "rnn.l1"
    session.add(clamp("rnn.l1", "z", value=0.5))
    assert title.text == "states of rnn.l0"
    studies.shown = "motion"
    assert motion is studies.opened["motion"]
    assert motion.layout.display is None
    assert title.text == "states of rnn.l1"
    studies.shown = NONE
    assert [panel.layout.display for panel in studies.opened.values()] == ["none", "none"]


def test_what_cannot_be_opened_is_said_and_the_rest_works(model: nn.Module) -> None:
    studies = Studies(Session(model, "a"))
    studies.shown = "motion"
    assert "a plane needs two units and two states" in studies._errors.value
    studies.shown = "memory"
    assert studies._errors.value == ""
    assert "memory" in studies.opened
    studies.close()


def test_a_lens_has_them_and_closes_them(session: Session) -> None:
    lens = Lens(session)
    lens.studies.shown = "memory"
    panel = lens.studies.opened["memory"]
    assert panel.still() in lens.still()
    lens.studies.shown = "motion"
    lens.close()
    assert panel.comm is None
    assert lens.studies.opened["motion"].comm is None
