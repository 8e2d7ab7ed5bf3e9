"""Text in the languages that the identifier knows: messages of Django, cut into pieces of one length."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from bench.published.messages import Message, messages, prose
from bench.published.packages import Package, fetched
from bench.published.samples import Samples, Split

DJANGO = Package("Django", "5.2.7", "59a13a6515f787dec9d97a0438cd2efac78c8aca1c80025244b0fe507fe0754b", "BSD-3-Clause")
LENGTH = 32
"""Characters of a sample."""
SOURCE, ANY_TRANSLATED = "en", "de"
"""The language of the messages themselves, and one whose files list them."""
FOLDERS = {"no": "nb"}
"""Languages that Django has under another name."""
TEST_SHARE = 5
"""One message in so many is for the test split."""


def samples(languages: Mapping[str, int], index_of: Callable[[str], int]) -> Samples:
    """Pieces of text as indices of their characters, with their languages.

    Args:
        languages: The class of each.
        index_of: The index that the model gives a character.
    """
    folder = fetched(DJANGO)
    splits = []
    for test in (False, True):
        pieces, labels = [], []
        for language, label in languages.items():
            found = pieces_of(texts_in(folder, language, test=test))
            pieces += [[float(index_of(character)) for character in piece] for piece in found]
            labels += [label] * len(found)
        splits.append(Split(torch.tensor(pieces), torch.tensor(labels)))
    return Samples(*splits)


def texts_in(folder: Path, language: str, *, test: bool) -> list[str]:
    """The different texts of one split in one language.

    The digest of the message decides over the split of all of its translations, so that no message is in both.
    """
    name = ANY_TRANSLATED if language == SOURCE else FOLDERS.get(language, language)
    files = sorted(folder.glob(f"django/**/locale/{name}/LC_MESSAGES/*.po"))
    found = (message for file in files for message in messages(file) if is_test(message.source) == test)
    return list(dict.fromkeys(filter(None, map(prose, _in_language(found, language)))))


def _in_language(found: Iterable[Message], language: str) -> Iterable[str]:
    for message in found:
        yield from (message.source,) if language == SOURCE else message.translations


def is_test(source: str) -> bool:
    """Whether a message is for the test split."""
    return hashlib.sha256(source.encode()).digest()[0] % TEST_SHARE == 0


def pieces_of(texts: Iterable[str]) -> list[str]:
    """Texts one after the other, cut into pieces of `LENGTH` characters; what is left at the end is dropped."""
    joined = " ".join(texts)
    return [joined[start : start + LENGTH] for start in range(0, len(joined) - LENGTH + 1, LENGTH)]
