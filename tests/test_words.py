"""The words on screen: each is in the catalogues, and none is said past them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from babel.messages.pofile import read_po

import grulens
from grulens import words
from grulens.cells.kinds import LSTM
from grulens.cells.signal import NAMED
from grulens.errors import LanguageError
from grulens.probing.credit.credit import Credit
from grulens.words import say, say_as, say_n
from tests import spoken

HOUSE = Path(grulens.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
SCRIPTS = sorted(HOUSE.rglob("*.js"))
#: What takes a message first, and how many.
SAYING = {"say": 1, "say_n": 2, "say_as": 2, "message": 1}
#: Arguments by name that are read by people.
READ = {
    "axis_label", "description", "placeholder", "tip", "tips", "title", "tooltip", "tooltips",
}  # fmt: skip
#: What Bokeh puts in there from its columns.
FIELD = re.compile(r"@\w+(\{[^}]*\})?|\{custom\}")
#: Folders of which not all words are in the catalogues yet.
LEFT = ("views/page",)


@pytest.fixture(autouse=True)
def _english_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(words, "_set", None)
    words._of_the_notebook.cache_clear()
    yield
    words._of_the_notebook.cache_clear()


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def said_in(path: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Each message in a file: its line, its meaning or "", and the message (one, many)."""
    if path.suffix == ".js":
        source = path.read_text(encoding="utf-8")
        for found in words.IN_SCRIPT.finditer(source):
            yield source.count("\n", 0, found.start()) + 1, "", (found[1],)
        return
    for call in ast.walk(tree(path)):
        if isinstance(call, ast.Call) and (count := SAYING.get(name_of(call))):
            given = [a.value for a in call.args[:count] if isinstance(a, ast.Constant)]
            meaning = given.pop(0) if name_of(call) == "say_as" and given else ""
            if given:
                yield call.lineno, meaning, tuple(given)


@cache
def catalogue(language: str) -> dict[tuple[str, str], tuple[str, tuple[str, ...], str]]:
    """What a language has: (meaning, message) to (file, all forms of the message, translation)."""
    found: dict[tuple[str, str], tuple[str, tuple[str, ...], str]] = {}
    for path in sorted((words.FOLDER / language).glob("*.po")):
        with path.open("rb") as file:
            entries = [entry for entry in read_po(file, abort_invalid=True) if entry.id]
        for entry in entries:
            ids = entry.id if isinstance(entry.id, tuple) else (entry.id,)
            texts = entry.string if isinstance(entry.string, tuple) else (entry.string,)
            key = (entry.context or "", ids[0])
            assert not entry.fuzzy, f"{path.name}: {ids[0]!r} is fuzzy"
            assert key not in found, f"{ids[0]!r} stands in {found[key][0]} and in {path.name}"
            found[key] = (path.name, ids, texts[0])
    return found


CHINESE = pytest.param("zh", id="zh")


@pytest.mark.parametrize("language", [CHINESE])
def test_every_message_is_in_the_catalogues(language: str) -> None:
    there = catalogue(language)
    missing = [
        f"{path.relative_to(HOUSE)}:{line}: {message[0]!r}"
        for path in (*FILES, *SCRIPTS)
        for line, meaning, message in said_in(path)
        if (meaning, message[0]) not in there or not there[meaning, message[0]][2]
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("language", [CHINESE])
def test_the_catalogues_have_nothing_that_nobody_says(language: str) -> None:
    said = {(m, text[0]) for path in (*FILES, *SCRIPTS) for _, m, text in said_in(path)}
    said |= {("", signal.words) for signals in NAMED.values() for signal in signals}
    assert [key for key in catalogue(language) if key not in said] == []


@pytest.mark.parametrize("language", [CHINESE])
def test_what_stands_in_a_message_by_name_stands_in_its_translation(language: str) -> None:
    for _, ids, text in catalogue(language).values():
        wanted = {*spoken.PLACE.findall(" ".join(ids))} - {"{nouns}"}  # what was counted is seen
        assert {*spoken.PLACE.findall(text)} - {"{nouns}"} == wanted, (ids, text)
        assert sorted(spoken.TAG.findall(text)) == sorted(spoken.TAG.findall(ids[-1])), (ids, text)


@pytest.mark.parametrize("language", [CHINESE])
def test_every_signal_of_every_kind_of_cell_has_a_name(language: str) -> None:
    named = {signal.words for signals in NAMED.values() for signal in signals}
    assert {"reset gate", "update gate", "cell state"} <= named
    assert [one for one in sorted(named) if ("", one) not in catalogue(language)] == []


def test_a_message_is_written_where_it_is_said() -> None:
    """An f-string or a sum would be looked up with the values in it, and never found."""
    for path in FILES:
        for call in ast.walk(tree(path)):
            if isinstance(call, ast.Call) and name_of(call) in SAYING:
                for given in call.args[: SAYING[name_of(call)]]:
                    made = isinstance(given, ast.JoinedStr | ast.BinOp)
                    assert not made, f"{path}:{call.lineno}: {ast.unparse(call)}"


def unsaid(node: ast.AST) -> Iterator[str]:
    """The texts in an expression that are in no call of `say`."""
    if isinstance(node, ast.Call) and name_of(node) in SAYING:
        return
    if isinstance(node, ast.FormattedValue):
        yield from unsaid(node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Compare | ast.Subscript):
        return  # what is compared is not shown
    else:
        for part in ast.iter_child_nodes(node):
            yield from unsaid(part)


def test_no_argument_that_is_read_is_plain_english() -> None:
    found = [
        f"{path.relative_to(HOUSE)}:{call.lineno}: {keyword.arg}={text!r}"
        for path in FILES
        if path.relative_to(HOUSE).parts[0] in ("widgets", "views")
        and not str(path.relative_to(HOUSE)).startswith(LEFT)
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in READ and name_of(call) not in ("update_traits",)
        for text in unsaid(keyword.value)
        if spoken.words(FIELD.sub(" ", text))
    ]
    assert not found, "\n".join(found)


#: Where a script of the page gives an element a text.
SHOWN_BY_SCRIPT = re.compile(
    r"""(?:\bbutton\(|\bbutton\([^;]*?\), |\blabelled\(|\bchoice\(|\bmade\("\w+", "[\w -]*", """
    r"""|\btextContent = |\.title = |"aria-label": |"aria-label", |placeholder: )"""
    r"""(["`])((?:(?!\1).)*)\1"""
)


def test_no_text_of_the_page_that_runs_is_plain_english() -> None:
    assert SHOWN_BY_SCRIPT.search('button("run", "run it", act)')
    assert SHOWN_BY_SCRIPT.search("box.textContent = `at ${step}`;")
    found = [
        f"{path.name}: {text}"
        for path in (HOUSE / "views" / "page").glob("running*.js")
        for _, text in SHOWN_BY_SCRIPT.findall(path.read_text(encoding="utf-8"))
        if spoken.words(re.sub(r"\$\{.*", "", text))
    ]
    assert not found, "\n".join(found)


# the language


def test_english_is_what_is_written() -> None:
    grulens.language("en")
    assert say("update gate") == "update gate"
    assert say("row {row} of {batch}", row=1, batch=8) == "row 1 of 8"
    assert [say_n("{n} edit", "{n} edits", n) for n in (1, 2)] == ["1 edit", "2 edits"]
    assert say_as("verb", "set") == "set"
    assert say("") == ""
    assert say("a {") == "a {"


def test_a_script_is_handed_what_it_says() -> None:
    source = (
        'a.title = say("update gate"); b = say("{n} of {n}", { n: say("output gate") }), say(c)'
    )
    assert words.of_script(source) == {}
    grulens.language("zh")
    assert words.of_script(source) == {"update gate": "更新门", "output gate": "输出门"}


@pytest.mark.parametrize(
    ("units", "signal", "text"),
    [
        ("单元 3", "更新门", "单元 3 的更新门设为 1"),
        ("所有单元", "z", "所有单元的 z 设为 1"),
        ("units", "（x）", "units 的（x）设为 1"),
    ],
)
def test_what_meets_chinese_has_a_space_where_it_is_none_itself(
    units: str, signal: str, text: str
) -> None:
    grulens.language("zh")
    values = {"units": units, "signal": signal, "amount": 1}
    assert say("{signal} of {units} set to {amount}", **values) == text


def test_the_parts_of_sums_are_words_on_a_screen() -> None:
    torch.manual_seed(0)
    model = torch.nn.GRU(2, 3, batch_first=True)
    run = grulens.record(model, torch.ones(1, 4, 2), edits=[grulens.shift("l0", "r", by=1.0)])
    close = grulens.close_up(run, "l0", step=2, unit=1)
    parts = {name for name in close.parts("r") if not name[-1].isdigit()}
    one = torch.ones(1)
    shared = Credit("m", "l0", one, torch.ones(1, 2, 1), torch.ones(1, 3), one, {"absorbed": one})
    parts |= {*shared.ledger()} - {"h_0"}
    assert len(parts) > 5
    grulens.language("zh")
    assert not [part for part in parts if say(part) == part]


def test_what_an_lstm_writes_is_its_cell_state_and_no_hidden_state() -> None:
    candidates = {
        kind.kind: next(one for one in kind.signals if one.role == "candidate")
        for kind in (grulens.Cell, LSTM)
    }
    assert [one.title for one in candidates.values()] == ["candidate n", "cell candidate g"]
    grulens.language("zh")
    assert [one.called for one in candidates.values()] == ["候选隐状态 n", "候选细胞状态 g"]


def test_it_is_set_and_told() -> None:
    assert grulens.language("zh") == "zh" == grulens.language()
    assert say("update gate") == "更新门"
    assert say("") == ""
    assert say("in no catalogue, {n}", n=3) == "in no catalogue, 3"
    assert grulens.language("en_GB.UTF-8") == "en" == grulens.language()


@pytest.mark.parametrize("name", ["fr", "", "english", 3, ["zh"], "中文"])
def test_a_language_that_is_not_there_is_refused(name: object) -> None:
    grulens.language("zh")
    with pytest.raises(LanguageError, match=r"the screens speak 'en' and 'zh'; got "):
        grulens.language(name)
    assert grulens.language() == "zh"


@pytest.mark.parametrize(
    ("variables", "spoken"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "fr:zh_CN:en"}, "zh"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "zh-Hans", "LANGUAGE": ""}, "zh"),
    ],
)
def test_unless_set_it_is_the_locale(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], spoken: str
) -> None:
    monkeypatch.setattr(words, "_in_jupyterlab", str)
    for name in words.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert grulens.language() == spoken


@pytest.mark.parametrize(
    ("settings", "spoken"),
    [
        ('{\n    // Langpack locale\n    "locale": "zh_CN",\n}', "zh"),
        ('{\n    "locale": "default"\n}', "en"),
        ('{\n    // "locale": "zh_CN"\n}', "en"),
        (None, "en"),
    ],
)
def test_what_was_chosen_in_jupyterlab_counts_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: str | None, spoken: str
) -> None:
    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path))
    monkeypatch.setitem(words.sys.modules, "ipykernel", words)
    if settings is not None:
        file = tmp_path / words.CHOSEN
        file.parent.mkdir(parents=True)
        file.write_text(settings, encoding="utf-8")
    assert grulens.language() == spoken


def test_catalogues_are_in_the_package() -> None:
    assert re.search(r'packages = \["grulens"\]', (HOUSE.parent / "pyproject.toml").read_text())
    assert not re.search(r"\.po|locale", (HOUSE.parent / ".gitignore").read_text())


def test_what_is_counted_in_english_is_counted_in_one_place() -> None:
    by_hand = re.compile(r"""(?<!\w)(['"])e?s\1(?= if | \*|\})|else (['"])e?s\2""")
    assert [
        f"{path.relative_to(HOUSE)}: {line.strip()}"
        for path in FILES
        if path.name != "words.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if by_hand.search(line)
    ] == []
