"""What the two views of the credit screen share: a request, and a result with its figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grulens.widgets.credit.target import Target
from grulens.widgets.jupyter.bokeh_view import BokehView
from grulens.widgets.session.session import Session


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be found; each request is another one, even with equal contents."""

    view: str
    method: str
    layer: str
    row: int
    step: int
    klass: int


class Overtaken(Exception):  # noqa: N818 - no error: there is a newer request
    """Nobody wants the answer any more."""


class View(ABC):
    """A result for one answer of a session, and its figure.

    Args:
        session: the session whose answer it is.
        target: the list of classes.
        figure: the figure.

    Attributes:
        found: the result shown, or None.
        figure: its figure.
        picture: the widget that shows the figure.
    """

    found: Any
    figure: Any

    def __init__(self, session: Session, target: Target, figure: Any) -> None:
        self.session, self.target, self.figure = session, target, figure
        self.found = None
        self.picture = BokehView(figure.root, lock=session.lock, retire=False)

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps can be chosen."""

    @abstractmethod
    def show(self, request: Request, wanted: Callable[[], bool]) -> tuple[str, str]:
        """Find the result, and draw it.

        Args:
            request: what is to be found.
            wanted: whether it is still the newest request.

        Returns:
            The result in words, and a hint for the user.

        Raises:
            Overtaken: there is a newer request.
        """
