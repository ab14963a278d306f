"""The pages that run in the manual: made anew in every build, by `save` itself, in each language.

    python docs/live.py 07_forecasting   runs that notebook to its lens, and keeps its network

Those of the bundled models need nothing. What a notebook trains takes minutes, so the trained
network is kept (`lenses/`), with the lens as it stands there and the states at its last step: a
build makes the model of it, compares these, and opens and saves a lens.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from base64 import b64decode
from html import escape
from pathlib import Path
from typing import Any, Final

import nbformat
import numpy as np
import torch
from torch import Tensor, nn

import grulens
from grulens import Cell, CellPage, Lens, clamp, record, scale, shift
from grulens.adapters import GRUStack
from grulens.demo import last_capital, load

HERE: Final = Path(__file__).parent
NOTEBOOKS: Final = HERE.parent / "notebooks"
KEPT: Final = HERE / "lenses"
#: By notebook: its page, the cell whose screen the page is in the manual, by how that begins, and
#: what is seen there, for who does not see it.
SHOWN: Final = {
    "00_the_article_answered": (
        "00_the_article_answered", "example = task(1, 36)",
        "a GRU that says the last number written, its update gate held at 1 where one is",
    ),
    "01_tour": ("tour", "lens = Lens(", "unit 137 of a character model in and after a docstring"),
    "02_how_a_gru_works": (
        "02_how_a_gru_works", "example = task(1, 36)",
        "the update gate of a GRU that says the last number written",
    ),
    "03_units_that_track_code": (
        "03_units_that_track_code", 'snippet = """',
        "three units that follow text, brackets and indentation in Python code",
    ),
    "05_flip_flop_dynamics": (
        "05_flip_flop_dynamics", "pulses = torch.zeros(",
        "a memory of three bits, its update gate held at 0.9 from step 30 on",
    ),
    "06_sentiment": (
        "06_sentiment", "def now():",
        "a critic reads 'the film is not funny', its update gate held at 1 at the word not",
    ),
    "07_forecasting": (
        "07_forecasting", "sliders = GateSliders(",
        "a forecaster goes on without its thermometer, the update gate of six units held at 0.98",
    ),
    "08_your_own_gru": (
        "08_your_own_gru", 'text = "Babc',
        "a cell written by hand names the last capital letter, its update gate held from step 8 on",
    ),
    "10_what_units_encode": (
        "10_what_units_encode", "again = tested_on.replay(",
        "unit 137 of a character model in a comment in which it goes further than anywhere else",
    ),
}  # fmt: skip
#: Those of them that a Chinese notebook has, and what is seen there; they lie in `zh/`.
SHOWN_IN_CHINESE: Final = {
    "00_the_article_answered": "GRU 要报出最近写下的数；在写入的那一步，更新门固定为 1",
    "01_tour": "字符模型的单元 137，从文档字符串里到文档字符串之后",
    "02_how_a_gru_works": "GRU 的更新门，这个 GRU 要报出最近写下的数",
    "10_what_units_encode": "字符模型的单元 137，读的是它取值最高的那段注释",
}
#: Of what a saved page holds, that which says what the network and the lens are.
HELD: Final = (
    "model", "network", "arrays", "given", "tokens", "spelling", "answer", "edits", "shown",
    "recorded",
)  # fmt: skip
EDITS: Final = {"set": (clamp, "value"), "scale": (scale, "by"), "before": (shift, "by")}
TEXT: Final = '''def greet(name):
    """Say hello to the person."""
    print(name)
    return len(name)
'''
#: Two of the windows in which notebook 10 finds its unit 137 to go furthest; the second follows.
FURTHEST: Final = """end(test_exr)

#--------------------#
# Small test program #
#--------------------#

def test():
    import sys
    recursive = """


def save_all(folder: Path) -> None:
    """Write the pages into a folder, and those in Chinese into `zh/` in it."""
    for language, there in (("zh", folder / "zh"), ("en", folder)):
        there.mkdir(parents=True, exist_ok=True)
        grulens.language(language)
        save_in(language, there)


def save_in(language: str, folder: Path) -> None:
    """Write the pages that are shown in a language, which is the one spoken."""
    lens = Lens(load().model, TEXT)
    lens.session.units = [137]
    lens.save(folder / "tour.html")
    lens.session.add(clamp("rnn.l0", "z", 137, value=1.0, at=slice(TEXT.index("hello"), None)))
    lens.session.step = TEXT.index("print(") + 4
    lens.save(folder / "held.html")
    lens.close()
    for stem, text, units in (
        (
            "03_units_that_track_code",
            constant("03_units_that_track_code", "snippet"),
            [137, 115, 2],
        ),
        ("10_what_units_encode", FURTHEST, [137]),
    ):
        if not is_shown(stem, language):
            continue
        lens = Lens(load().model, text)
        lens.session.units = units
        lens.save(folder / f"{stem}.html")
        lens.close()
    for path in sorted(KEPT.glob("*.json")):
        if not is_shown(path.stem, language):
            continue
        lens = kept(json.loads(path.read_text()))
        lens.save(folder / f"{path.stem}.html")
        lens.close()
    CellPage(last_capital.load(), "aBab?bAa?", about=last_capital.ABOUT).save(folder / "cell.html")


def is_shown(stem: str, language: str) -> bool:
    """Whether a notebook is there in a language, with its page."""
    return language == "en" or stem in SHOWN_IN_CHINESE


def with_page(notebook: Any, stem: str, up: str, in_chinese: bool) -> None:
    """Put the page in place of the picture of the screen that it is, in a notebook's copy.

    Args:
        notebook: the copy.
        stem: which notebook it is.
        up: from where the copy stands to the manual's first page, such as "../".
        in_chinese: whether it is the Chinese one.
    """
    if stem not in SHOWN:
        return
    name, begins, seen = SHOWN[stem]
    (at,) = (i for i, cell in enumerate(notebook.cells) if cell.source.startswith(begins))
    cell = notebook.cells[at]
    cell.outputs = [one for one in cell.outputs if not _is_of_a_screen(one)]
    title = f"The lens of this notebook as a page that runs: {seen}"
    if in_chinese:
        name, title = f"zh/{name}", f"本笔记本的 Lens，可在网页中运行：{SHOWN_IN_CHINESE[stem]}"
    frame = f'<iframe class="live" src="{up}live/{name}.html" title="{escape(title)}" height="760" loading="lazy"></iframe>'  # noqa: E501
    notebook.cells.insert(at + 1, nbformat.v4.new_markdown_cell(f"```{{raw}} html\n{frame}\n```"))


def _is_of_a_screen(output: Any) -> bool:
    """Whether an output is a screen, or the still picture that stands beside it."""
    data = output.get("data")
    return data is not None and ("text/html" not in data or "grulens-still" in data["text/html"])


def constant(stem: str, name: str) -> str:
    """A text that a notebook gives a name."""
    for cell in nbformat.read(NOTEBOOKS / f"{stem}.ipynb", 4).cells:
        if cell.source.startswith(f"{name} = "):
            first = ast.parse(cell.source).body[0]
            return str(ast.literal_eval(first.value))  # type: ignore[attr-defined]
    raise LookupError(f"{stem} gives no text the name {name}")


class Network(nn.Module):
    """A network of a notebook: an embedding or numbers, one GRU, a linear readout at each step."""

    def __init__(self, held: dict[str, Any]) -> None:
        super().__init__()
        arrays = {None: None, **{name: array(one) for name, one in held["arrays"].items()}}
        network = held["network"]
        (layer,), (read,) = network["layers"], network["head"]["reads"]
        table, units = arrays[network["input"]["table"]], layer["units"]
        self.embedding = None
        if table is not None:
            self.embedding = nn.Embedding.from_pretrained(table.reshape(-1, layer["width"]))
        matrices = [arrays[layer[f"weight_{part}"]].reshape(3 * units, -1) for part in ("ih", "hh")]
        biases = [arrays[layer[f"bias_{part}"]] for part in ("ih", "hh")]
        self.rnn = GRUStack(Cell(*matrices, *biases, reset_after=layer["reset_after"]))
        self.head = nn.Linear(units, network["head"]["classes"])
        self.head.weight.data = arrays[read["weight"]].reshape(-1, units)
        self.head.bias.data = arrays[network["head"]["bias"]]
        self.labels = held["answer"]["labels"]

    def forward(self, x: Tensor) -> Tensor:
        """What it answers at each step."""
        out: Tensor = self.head(self.rnn(x if self.embedding is None else self.embedding(x))[0])
        return out


def array(told: dict[str, str]) -> Tensor:
    """Numbers as a page holds them."""
    return torch.from_numpy(np.frombuffer(b64decode(told["data"]), told["dtype"]).astype("f4"))


def kept(held: dict[str, Any]) -> Lens:
    """The lens of a network that was kept."""
    # by the name that its class has in the notebook
    model = type(held["model"], (Network,), {})(held)
    given = torch.tensor(held["given"])
    x = given[None] if model.embedding is not None else given.reshape(1, -1, model.rnn.input_size)
    (states,) = held["recorded"].values()
    apart = (record(model, x)["rnn.l0"].h[0, -1] - torch.tensor(states)).abs().max()
    if apart > 1e-4:
        raise ValueError(f"{held['model']} makes other states than in its notebook: {apart:.0e}")
    spelt: dict[str, Any] = {}
    if held["spelling"] is not None:
        ids = held["spelling"]["ids"]
        names = {number: name for name, number in ids.items()}
        spelt["encode"] = lambda text: [ids[character] for character in text]
        spelt["decode"] = lambda row: "".join(names[int(number)] for number in row)
    lens = Lens(model, x, tokens=held["tokens"], scale=held["answer"]["scale"], **spelt)
    shown = held["shown"]
    session = lens.session
    lens.gates.signal, session.step = shown["signal"], shown["step"]
    session.units, session.times = shown["units"], shown["times"]
    lens.gates.controls.mode.value = shown["mode"]
    for edit in held["edits"]:
        make, value = EDITS[edit["how"]]
        session.add(
            make(
                "rnn.l0", edit["signal"], edit["units"], at=edit["steps"], **{value: edit["value"]}
            )
        )
    return lens


def keep(stem: str) -> None:
    """Run a notebook as far as its lens, and keep the network and the lens."""
    from nbclient import NotebookClient  # noqa: PLC0415

    notebook = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", 4)
    cells = notebook.cells
    begins = SHOWN[stem][1]
    (at,) = (i for i, cell in enumerate(cells) if cell.source.startswith(begins))
    screen = cells[at].source.splitlines()[-1]
    with tempfile.TemporaryDirectory() as folder:
        code = f"""from grulens import Lens
lens = Lens({screen}.session)
gates = getattr({screen}, "gates", {screen})
lens.gates.signal, lens.gates.controls.mode.value = gates.signal, gates.controls.mode.value
lens.save("page.html")"""
        notebook.cells = [*cells[: at + 1], nbformat.v4.new_code_cell(code)]
        NotebookClient(notebook, timeout=None, resources={"metadata": {"path": folder}}).execute()
        page = Path(folder, "page.html").read_text(encoding="utf-8")
    found = re.search(r'id="grulens-data">(.*?)</script>', page)
    if found is None:
        raise ValueError(f"the lens of {stem} does not run in a page")
    told = json.loads(found[1])
    KEPT.mkdir(exist_ok=True)
    made = json.dumps({name: told[name] for name in HELD}, ensure_ascii=False, indent=0)
    (KEPT / f"{stem}.json").write_text(made + "\n", encoding="utf-8")


if __name__ == "__main__":
    for stem in sys.argv[1:]:
        keep(stem)
