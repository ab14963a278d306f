"""Further screens of a lens: made when opened, asleep when not seen, up to date when seen again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import traitlets as tl
from torch import nn

from grulens import Lens, Session, clamp
from grulens.errors import GrulensError
from grulens.widgets.session.panel import Panel
from grulens.widgets.studies import NONE, STUDIES, Studies, register_study


@pytest.fixture
def studies(session: Session) -> Iterator[Studies]:
    made = Studies(session)
    yield made
    made.close()


def test_nothing_is_made_before_it_is_opened(studies: Studies) -> None:
    assert studies.opened == {}
    assert studies.still() == ""


@pytest.mark.parametrize("name", STUDIES)
def test_each_opens_on_the_session_and_without_an_error(studies: Studies, name: str) -> None:
    studies._choice.value = name
    panel = studies.opened[name]
    getattr(panel, "wait", lambda: None)()  # for what is computed in the background
    assert panel.session is studies.session
    assert panel in studies.children
    assert (studies._errors.value, panel._errors.value) == ("", "")
    assert studies.still() == panel.still() != ""


def test_a_screen_without_a_picture_leaves_its_name_on_no_page(studies: Studies) -> None:
    studies.shown = "phrases"
    assert "PhraseTree" in studies.still()
    assert studies.settled() == ""
    studies.shown = "memory"
    assert studies.settled() == studies.still() != ""


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


class Counts(Panel):
    """A study from outside."""

    def still(self) -> str:
        return f"<p>{self.session.steps} steps & counting</p>"


def test_a_study_from_outside_is_offered_by_the_next_lens(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grulens.widgets.studies.STUDIES", known := dict(STUDIES))
    register_study("counts", Counts, "how many steps there are")
    register_study("loaded", f"{__name__}:Counts", "the same, by name")
    assert list(known)[-2:] == ["counts", "loaded"]
    lens = Lens(session)
    choice = lens.studies._choice
    assert choice.options[-2:] == (("counts", "counts"), ("loaded", "loaded"))
    assert choice.tooltips[-2:] == ("how many steps there are", "the same, by name")
    choice.value = "counts"
    panel = lens.studies.opened["counts"]
    assert type(panel) is Counts
    assert panel.session is session
    assert panel.still() in lens.still()
    lens.close()
    assert panel.comm is None


def test_a_name_that_is_taken_or_a_class_that_is_no_screen_is_refused(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grulens.widgets.studies.STUDIES", known := dict(STUDIES))
    for name in ("credit", NONE):
        with pytest.raises(GrulensError, match=f"there is a study called '{name}' already"):
            register_study(name, Counts, "again")
    with pytest.raises(GrulensError, match=r"must be a class of screens \(Panel\), got .*dict"):
        register_study("other", dict, "none")
    with pytest.raises(GrulensError, match=r'must be a class or "module:Class", got .not one.'):
        register_study("other", "not one", "none")
    with pytest.raises(GrulensError, match="the name of a study must be a text"):
        register_study("", Counts, "none")
    assert known == STUDIES
    with pytest.raises(tl.TraitError, match="must be one of nothing, cell, compare, memory"):
        studies.shown = "other"
    assert studies.shown == NONE


def test_a_name_that_leads_to_no_screen_says_so_where_it_is_opened(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grulens.widgets.studies.STUDIES", dict(STUDIES))
    register_study("wrong", "collections:OrderedDict", "none")
    studies = Studies(session)
    studies.shown = "wrong"
    assert "must be a class of screens" in studies._errors.value
    studies.shown = "memory"
    assert studies._errors.value == ""
    studies.close()
