"""How the command line prints: results on stdout, everything else on stderr, foreign text made harmless."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

# Wide enough for any table of ours: a file or a pipe has no width that lines would have to fit.
PIPE_WIDTH = 200


def console() -> Console:
    """Stdout, as it is now."""
    return Console(
        width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=not sys.stdout.isatty()
    )


def say(text: str) -> None:
    """Write a line for people to stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Show control characters instead of letting them act on the terminal: names come from files and other people."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def table(*columns: str, title: str | None = None, right: frozenset[str] = frozenset()) -> Table:
    """An empty table; the columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def add_row(to: Table, *cells: object) -> None:
    """Add a row of plain text: brackets in a name are not markup."""
    to.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in cells))


def count(number: int) -> str:
    """A count with thousands separated."""
    return f"{number:,}"


def size(number: int) -> str:
    """Bytes for people."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"


def shape(dims: object) -> str:
    """A shape for people, such as 120 x 400."""
    return " x ".join(str(dim) for dim in dims) if isinstance(dims, list | tuple) and dims else "scalar"


def structure(summary: Mapping[str, Any]) -> str:
    """The summary of a structure for people; the terms of a sum one after the other."""
    if "terms" in summary:
        return " + ".join(structure(term) for term in summary["terms"])
    return (
        f"{summary['sites']} sites, depth {summary['depth']}, gates over up to {summary['gate_sites']} sites, "
        f"{summary['activation']}"
    )


def markup_free(text: str) -> str:
    """Text that rich shows as it is."""
    return escape(printable(text))
