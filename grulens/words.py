"""The words on screen, in the language of whoever reads them.

A message is written in English where it is shown, and looked up in gettext catalogues when it is
shown:

    say("run")                                      a word, a title, a hover, a sentence
    say("row {row} of {batch}", row=1, batch=8)     with what stands in it, by name
    say_n("{n} edit", "{n} edits", n)               where it depends on a number; {n} is given
    say_as("verb", "set")                           a word that has two meanings: which one is meant
    message("multiply the gate")                    a constant: itself here, `say(constant)` later

What results and errors say as well as screens is English unless it is given `say=say`; what they
count, `so_many(3, "step")` says.

The first argument is always the message itself, in quotes, so that a test can find it; a whole
sentence is one message, since other languages have another order of words. Without a catalogue that
has it, a message is said in English, as it was written. JavaScript says `say("step {i}", { i })` in
the same way, by a `say` of its own that looks into what Python hands to it: `of_script(source)`.

The catalogues of a language are the `.po` files in `locale/LANGUAGE/`, `views.po` for what stands
in `views/` and so on, sorted by file; what two floors say stands in the one of the lower floor.
They are read when the language is first spoken; a new folder is a new language. An error on a
screen has a title that says what it is about; its own words, docstrings, names of layers and
signals, and code stay English. What is in no catalogue is found by
tests/test_words.py, what is shown past them by tests/widgets/test_words.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeAlias

from grulens.errors import LanguageError, shown

FOLDER: Final = Path(__file__).with_name("locale")
ENGLISH: Final = "en"
#: Where a person says which language programs speak, what counts most first.
VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
#: Where JupyterLab keeps which language a person has chosen in its menu, in its settings.
CHOSEN: Final = "@jupyterlab/translation-extension/plugin.jupyterlab-settings"
#: What says a message: `say`, or `english`.
Say: TypeAlias = Callable[..., str]
#: A message in JavaScript.
IN_SCRIPT: Final = re.compile(r'\bsay\("([^"\\]+)"')
#: Where a value stands in a message, and marks of its ends while it is put there.
_PLACE: Final = re.compile(r"\{[^{}]*\}")
_EDGE: Final = "\ue000"
_HAN, _OTHER = "[\u4e00-\u9fff]", "[0-9A-Za-z%−]"
_SPACE: Final = re.compile(f"(?<={_HAN}){_EDGE}+(?={_OTHER})|(?<={_OTHER}){_EDGE}+(?={_HAN})")
_NO_SPACE: Final = re.compile(f"(?<={_HAN})(?:{_EDGE} | {_EDGE})(?={_HAN})")

_set: str | None = None


def language(name: Any = None) -> str:
    """Set the language of the screens that are made from now on, or tell which one it is.

    Unless it is set, it is the one chosen in JupyterLab's menu, else that of the variables
    LANGUAGE, LC_ALL, LC_MESSAGES and LANG, where there is a catalogue of it; else English. A screen
    that is open already keeps its words, but for those that it writes anew: make it again.

    Args:
        name: "en" or "zh", with or without a country: "zh_CN", "zh-Hans"; None changes nothing.

    Returns:
        The language that is spoken.

    Raises:
        LanguageError: there is no catalogue of that language.

    >>> language("zh_CN"), say("update gate")
    ('zh', '更新门')
    >>> language("en"), say("update gate")
    ('en', 'update gate')
    """
    global _set  # noqa: PLW0603  # one process speaks one language, in every thread
    if name is not None:
        _set = meant(name)
    return _set or _of_the_notebook()


def chosen() -> str | None:
    """The language that was set, or None."""
    return _set


def meant(name: Any) -> str:
    """The language of a name such as "zh_CN".

    Raises:
        LanguageError: there is no catalogue of it.
    """
    known = _known(name) if isinstance(name, str) else None
    if known is None:
        raise LanguageError(
            f"the screens speak {' and '.join(map(repr, languages()))}; got {shown(name)}"
        )
    return known


def languages() -> list[str]:
    """The languages there are: English, and one for each folder of catalogues."""
    return [ENGLISH, *sorted(path.name for path in FOLDER.iterdir() if path.is_dir())]


def say(text: str, /, **values: object) -> str:
    """A message in the language that is spoken, with these values in it."""
    said = _catalogue(language()).gettext(text) if text else ""
    return _filled(said, values) if values else said


def say_n(one: str, many: str, n: int, /, **values: object) -> str:
    """A message that depends on a number, which stands in it as `{n}`."""
    return _filled(_catalogue(language()).ngettext(one, many, n), {"n": n, **values})


def say_as(meaning: str, text: str, /, **values: object) -> str:
    """A message that is said in several ways; the meaning is English for whoever translates."""
    said = _catalogue(language()).pgettext(meaning, text)
    return _filled(said, values) if values else said


def of_script(source: str, name: str | None = None) -> dict[str, str]:
    """The messages in a script, each with how it is said where that is not as it is written.

    Args:
        source: the script.
        name: in which language; None is the one that is spoken.

    >>> of_script('title = say("reset gate"); text = say("step {i}", { i });')
    {}
    """
    catalogue = _catalogue(name or language())
    return {
        text: said for text in IN_SCRIPT.findall(source)
        if (said := catalogue.gettext(text)) != text
    }  # fmt: skip


def english(text: str, /, **values: object) -> str:
    """A message as it is written: for those who take a `say` and are not asked for a screen."""
    return text.format(**values) if values else text


def so_many(number: int, noun: str) -> str:
    """So many of something, as results and errors say it in English; on screens `say_n` does.

    >>> so_many(1, "step"), so_many(0, "step"), so_many(1200, "class")
    ('1 step', '0 steps', '1,200 classes')
    """
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """An English noun behind a number.

    >>> plural("unit", 1), plural("unit", 2)
    ('unit', 'units')
    """
    return noun if number == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"


def message(text: str) -> str:
    """A message that is said later, by `say`: itself."""
    return text


def _filled(said: str, values: Mapping[str, object]) -> str:
    """A message with its values in it; what meets Chinese has a space where it is none itself.

    >>> _filled("{units}的 {signal}", {"units": "单元 3", "signal": "更新门"})
    '单元 3 的更新门'
    """
    filled = _PLACE.sub(rf"{_EDGE}\g<0>{_EDGE}", said).format(**values)
    return _NO_SPACE.sub("", _SPACE.sub(" ", filled)).replace(_EDGE, "")


def _known(name: str) -> str | None:
    """The language there is of a name such as "zh_CN.UTF-8"; None where there is none."""
    base = re.split(r"[-_.@]", name.strip().lower())[0]
    base = ENGLISH if base in ("c", "posix") else base
    return base if base in languages() else None


@cache
def _of_the_notebook() -> str:
    """The language of the notebook's locale, as it is when it is first asked for."""
    given = [_in_jupyterlab()] if "ipykernel" in sys.modules else []
    variable = next(filter(None, map(os.environ.get, VARIABLES)), "")
    wanted = [*filter(None, [*given, *variable.split(":")])]
    return next(filter(None, map(_known, wanted)), ENGLISH)


def _in_jupyterlab() -> str:
    """The language chosen in JupyterLab; "" where none is, or where its settings lie elsewhere."""
    from jupyter_core.paths import jupyter_config_dir  # noqa: PLC0415  # where there is a kernel

    folder = (
        os.environ.get("JUPYTERLAB_SETTINGS_DIR") or f"{jupyter_config_dir()}/lab/user-settings"
    )
    try:
        settings = Path(folder, CHOSEN).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    found = re.search(r'^\s*"locale"\s*:\s*"([^"]+)"', settings, re.MULTILINE)  # among // comments
    return "" if found is None or found[1] == "default" else found[1]


@cache
def _catalogue(name: str) -> NullTranslations:
    """The catalogues of a language as one."""
    if name == ENGLISH:
        return NullTranslations()
    from babel.messages.mofile import write_mo  # noqa: PLC0415  # English needs no babel
    from babel.messages.pofile import read_po  # noqa: PLC0415

    whole = None
    for path in sorted((FOLDER / name).glob("*.po")):
        with path.open("rb") as file:
            part = read_po(file, locale=name, abort_invalid=True)
        made = BytesIO()
        write_mo(made, part)
        made.seek(0)
        whole, rest = GNUTranslations(made), whole
        if rest is not None:
            whole.add_fallback(rest)
    return whole or NullTranslations()
