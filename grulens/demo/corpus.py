"""The text the character model learns: the Python standard library's own source.

It is on every machine that runs Python, so nothing is downloaded and nothing is shipped, and
Python's own tokenizer says afterwards what is a string, a comment or an open bracket. The files are
named one by one, because the standard library differs between Python versions: what a version from
3.12 to 3.14 is known to have removed or moved was left out.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

from grulens.errors import DemoError

_TRAIN: Final = """
    _collections_abc _markupbase _osx_support _py_abc _pyio _strptime _threading_local
    _weakrefset abc argparse ast asyncio/base_events asyncio/base_subprocess asyncio/coroutines
    asyncio/events asyncio/futures asyncio/locks asyncio/protocols asyncio/queues
    asyncio/runners asyncio/selector_events asyncio/sslproto asyncio/staggered
    asyncio/subprocess asyncio/taskgroups asyncio/tasks asyncio/timeouts asyncio/transports
    base64 bdb bisect bz2 cProfile cmd code codecs codeop collections/__init__ colorsys
    compileall concurrent/futures/_base concurrent/futures/process concurrent/futures/thread
    contextlib copy copyreg ctypes/util dataclasses difflib dis doctest email/_encoded_words
    email/_header_value_parser email/_parseaddr email/_policybase email/base64mime email/charset
    email/contentmanager email/errors email/feedparser email/generator email/header
    email/headerregistry email/parser email/policy email/quoprimime email/utils enum filecmp
    fileinput fnmatch ftplib functools genericpath getopt getpass gettext glob graphlib hashlib
    heapq hmac html/__init__ html/parser http/__init__ http/client http/cookiejar http/cookies
    http/server imaplib importlib/_bootstrap importlib/_bootstrap_external importlib/abc
    importlib/util inspect io ipaddress json/__init__ json/encoder json/tool linecache locale
    logging/__init__ logging/config lzma mailbox mimetypes modulefinder
    multiprocessing/connection multiprocessing/context multiprocessing/forkserver
    multiprocessing/heap multiprocessing/managers multiprocessing/pool multiprocessing/process
    multiprocessing/queues multiprocessing/reduction multiprocessing/resource_sharer
    multiprocessing/resource_tracker multiprocessing/shared_memory multiprocessing/sharedctypes
    multiprocessing/spawn multiprocessing/synchronize multiprocessing/util netrc numbers
    operator optparse os pdb pickle pickletools pkgutil platform plistlib poplib posixpath
    pprint profile pstats pty py_compile pyclbr pydoc queue quopri random re/__init__
    re/_compiler re/_constants re/_parser reprlib rlcompleter runpy sched selectors shelve
    shutil site smtplib socket socketserver ssl stat statistics subprocess symtable tabnanny
    tarfile tempfile threading timeit tokenize tomllib/_parser trace traceback tracemalloc types
    typing unittest/__init__ unittest/async_case unittest/case unittest/loader unittest/main
    unittest/mock unittest/result unittest/runner unittest/suite unittest/util urllib/request
    urllib/robotparser uuid warnings wave weakref webbrowser wsgiref/handlers wsgiref/headers
    wsgiref/simple_server wsgiref/util wsgiref/validate xml/dom/minidom xml/etree/ElementTree
    xml/sax/saxutils xmlrpc/client xmlrpc/server zipapp zipimport zoneinfo/_common
    zoneinfo/_tzpath
"""

_HELD_OUT: Final = """
    asyncio/streams calendar configparser csv email/message fractions gzip json/decoder
    logging/handlers shlex textwrap urllib/parse zoneinfo/_zoneinfo
"""

TRAIN_FILES: Final = tuple(f"{name}.py" for name in _TRAIN.split())
HELD_OUT_FILES: Final = tuple(f"{name}.py" for name in _HELD_OUT.split())

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
VOCABULARY: Final = "\n" + "".join(map(chr, range(32, 127))) + REPLACEMENT

# what a class is called on screen: every character by itself, save the two that cannot be seen
LABELS: Final = tuple({"\n": "\\n", " ": "␣"}.get(character, character) for character in VOCABULARY)

_CLASS: Final = {character: index for index, character in enumerate(VOCABULARY)}
_CLASS["\t"] = _CLASS[" "]


def encode(text: str) -> Int[Tensor, " time"]:
    r"""Turn text into classes, one a character.

    A tab counts as one space; what is neither printable ASCII nor a newline becomes the
    replacement character.

    Args:
        text: any string.

    Returns:
        (time,) int64, positions in `VOCABULARY`; time is ``len(text)``.

    >>> encode("a\n~")
    tensor([66,  0, 95])
    >>> decode(encode("é\t|"))
    '� |'
    """
    unknown = _CLASS[REPLACEMENT]
    return torch.tensor([_CLASS.get(character, unknown) for character in text], dtype=torch.int64)


def decode(ids: Int[Tensor, "*axes"]) -> str:
    """Turn classes back into text.

    Args:
        ids: integers, positions in `VOCABULARY`: (time,), or one row (1, time).

    Returns:
        One character a class.

    Raises:
        DemoError: more than one row, or a class that is not in the vocabulary.

    >>> decode(torch.tensor([[66, 67, 68]]))
    'abc'
    """
    if ids.ndim > 1 and ids.shape[:-1].numel() != 1:
        raise DemoError(
            f"decode takes one row of classes, (time,) or (1, time); got {tuple(ids.shape)}"
        )
    row = ids.reshape(-1).tolist()
    for index in row:
        if not 0 <= index < len(VOCABULARY):
            raise DemoError(
                f"class {index} is not in the vocabulary of {len(VOCABULARY)} characters"
            )
    return "".join(VOCABULARY[index] for index in row)


def read_sources(names: Iterable[str], *, root: Path | None = None) -> dict[str, str]:
    """Read files of the standard library, with newlines made one kind and tabs made spaces.

    Args:
        names: paths relative to the standard library, such as `HELD_OUT_FILES`.
        root: another place to read from; None is the running Python's standard library.

    Returns:
        Name to text, in the order of `names`.

    Raises:
        DemoError: a file is not there (a trimmed or zipped Python).

    >>> list(read_sources(["textwrap.py"]))
    ['textwrap.py']
    """
    base = Path(sysconfig.get_paths()["stdlib"]) if root is None else root
    texts = {}
    for name in names:
        try:
            raw = (base / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DemoError(
                f"{name} of the standard library cannot be read in {base}; "
                "the character model's text needs a Python installed with its sources"
            ) from error
        texts[name] = raw.expandtabs(8)
    return texts
