"""One input of a session: what the model is given, and what is known of its text and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from grulens.models.call.invocation import Given
from grulens.probing.coder import Coder, ids_in
from grulens.widgets.session.names import Names
from grulens.widgets.session.row_answers import Truth
from grulens.widgets.session.tokens import Naming, TokensBy


@dataclass(frozen=True, eq=False)
class Input:
    """One input.

    Attributes:
        given: the model's own arguments, (args, kwargs).
        typed: the text that the only argument was encoded from; None where no text was given.
        naming: what is known of the names of its steps.
        names: the names of the user's variables where it was given.
        coder: encodes texts, and names ids.
        truth: what each row's answer should be, or None.
    """

    given: Given
    typed: str | None
    naming: Naming
    names: Names
    coder: Coder
    truth: Truth = None

    @classmethod
    def of(
        cls, given: Given, tokens: TokensBy, coder: Coder, names: Names, truth: Truth = None
    ) -> Input:
        """The input that a user gave; a single text is encoded, where there is a way.

        Args:
            given: arguments, or a text.
            tokens: the names of the steps, as a user gave them.
            coder: encodes texts, and names ids.
            names: the names of the user's variables.
            truth: what each row's answer should be.
        """
        args, kwargs = given
        typed = spelled = None
        if len(args) == 1 and isinstance(args[0], str) and coder.encode is not None:
            typed = args[0]
            args = (coder.read(typed),)
            spelled = coder.spelled(args[0], typed)
        naming = Naming(tokens, partial(coder.names, text=typed), ids_in(args, kwargs), spelled)
        return cls((args, kwargs), typed, naming, names, coder, truth)

    def text(self, names: Sequence[Sequence[str]] | None) -> str:
        """Its text as it was given; of ids, a text that encodes to them, or "".

        Args:
            names: the names of the steps of its first layer, one list a row.
        """
        if self.typed is not None:
            return self.typed
        ids, one = self.naming.ids, names[0] if names and len(names) == 1 else None
        return self.coder.written(ids[0], one) if len(ids) == 1 else ""
