"""Writes the table of the rows into docs/paper.md, and those that were run into README.md."""

import json
from collections.abc import Mapping
from typing import Any

from bench.markers import DOCS, write_between
from bench.paper.rows import ROWS, TITLES, Published, Row
from bench.readme import README
from bench.record import RESULTS

HEADER = (
    "| network, data: encoded layers | weights | allowed | stored | accuracy before | after fit | after fine-tuning "
    "| the paper: numbers stored, accuracy | seconds (job) |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def write() -> None:
    """Put the tables between their markers."""
    stored = json.loads((RESULTS / "paper.json").read_text())
    write_between(DOCS / "paper.md", "paper", f"{table(stored)}\n\n{note(stored)}")
    write_between(README, "paper", table(stored, only_run=True))


def table(stored: Mapping[str, Any], only_run: bool = False) -> str:
    """A line a row.

    Args:
        stored: Results by the row's name.
        only_run: Leave out rows that were not run.
    """
    lines = [line(row, stored.get(row.name)) for row in ROWS if row.name in stored or not only_run]
    return "\n".join([HEADER, *lines])


def line(row: Row, found: Mapping[str, Any] | None) -> str:
    """One row; without a result, what it takes to get one."""
    paper = published(row.published)
    if found is None:
        option = f"--{row.data} ARCHIVE" if row.data.startswith("cifar") else "--mnist FOLDER"
        return f"| {row.title} | | {row.parameters:,} | not run: give `{option}` | | | | {paper} | |"
    before, fit, final = (f"{100 * found[name]:.2f}" for name in ("baseline", "after_fit", "final"))
    return (
        f"| {row.title} | {found['original']:,} | {row.parameters:,} | {found['compressed']:,} | {before} | {fit} "
        f"| **{final}** | {paper} | {found['seconds']['job']:,.0f} |"
    )


def published(figures: Published | None) -> str:
    """The paper's figures, with the data they are of."""
    if figures is None:
        return "not in its abstract"
    return f"{figures.parameters}, {figures.before} → {figures.after} ({TITLES[figures.data]})"


def note(stored: Mapping[str, Any]) -> str:
    """Where the numbers come from: a line a row that was run."""
    return "\n".join(
        f"- {row.title}: trained for {found['epochs']} epochs on {found['images']:,} images, "
        f"{found['samples']:,} to test; 95 % interval of the last accuracy "
        f"{' to '.join(f'{100 * end:.2f}' for end in found['interval_95']['final'])}. "
        f"At {found['provenance']['commit']}, {found['provenance']['machine']['cores']} cores of "
        f"{found['provenance']['machine']['processor']}, seed {found['provenance']['seeds'][0]}."
        for row in ROWS
        if (found := stored.get(row.name)) is not None
    )
