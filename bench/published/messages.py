"""Translated messages of programs, from the `.po` files of gettext: text whose language is known."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NOT_TEXT = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{[^}]*\}|<[^>]*>|&\w+;|\S+://\S+")
"""Placeholders, markup and addresses."""


class Message(NamedTuple):
    """A message in the program's own language, and its translations: none yet, one, or one for each plural form."""

    source: str
    translations: tuple[str, ...]


def messages(path: Path) -> Iterator[Message]:
    """The messages of a `.po` file; its header, which translates the empty message, is left out."""
    entry: dict[str, str] = {}
    keyword = ""
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("#"):
            continue
        if line.startswith('"'):
            entry[keyword] += ast.literal_eval(line)
        elif line.strip():
            keyword, _, text = line.partition(" ")
            entry[keyword] = ast.literal_eval(text)
        else:
            if entry.get("msgid"):
                yield Message(entry["msgid"], tuple(entry[key] for key in entry if key.startswith("msgstr")))
            entry = {}


def prose(text: str) -> str:
    """The words of a message in one line."""
    return " ".join(_NOT_TEXT.sub(" ", text).split())
