"""The packages of the libraries: imported when they are needed, and never online."""

import difflib
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from jobs.problems import ProblemError

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Read by the packages when they are imported. Nothing here asks for a download; with these none could be made."""


def imported(library: str) -> Any:
    """The package of a library.

    Args:
        library: "torchvision", "timm" or "transformers".

    Raises:
        ProblemError: `architecture_unavailable`: it is not installed, or cannot be imported.
    """
    if find_spec(library) is None:
        raise ProblemError(
            "architecture_unavailable",
            f"expected a worker with the extra '{library}' (pip install 'adtn[{library}]'), this one lacks {library}",
        )
    os.environ.update(OFFLINE)
    try:
        with _without_broken_torchvision(library):
            return import_module(library)
    except Exception as error:  # a package may fail in any way while it is imported
        raise ProblemError(
            "architecture_unavailable",
            f"{library} {version(library)} is installed on the worker, but cannot be imported beside torch "
            f"{torch.__version__}: {first_line(error)}",
        ) from error


def unknown(name: str, known: Collection[str]) -> ProblemError:
    """The problem of a name that a library does not have.

    Args:
        name: "LIBRARY/NAME".
        known: Names that the library has.
    """
    library, _, wanted = name.partition("/")
    lowered = {other.lower(): other for other in known}
    close = [lowered[other] for other in difflib.get_close_matches(wanted.lower(), lowered, n=5)]
    hint = f"; did you mean {' or '.join(f'{library}/{other}' for other in close)}?" if close else ""
    return ProblemError(
        "unknown_architecture",
        f"expected one of the {len(known)} classifiers of {library} {version(library)}, got {name[:140]!r}{hint}",
    )


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


@contextmanager
def _without_broken_torchvision(library: str) -> Iterator[None]:
    """Let transformers find no torchvision where it cannot be imported: only the reading of images needs it."""
    if library != "transformers" or "transformers" in sys.modules or _is_sound("torchvision"):
        yield
        return
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # as the import system notes an absent module
    try:
        import_module("transformers.modeling_utils")  # looks for torchvision once, and remembers
        yield
    finally:
        del sys.modules["torchvision"]


def _is_sound(package: str) -> bool:
    """Whether a package can be imported, or is not installed at all."""
    try:
        return find_spec(package) is None or bool(import_module(package))
    except Exception:  # what is wrong with it does not matter here
        return False
