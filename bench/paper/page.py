"""Writes the table of the rows into docs/paper.md, and those that were run into README.md."""

from collections.abc import Sequence

from bench.lenet5_mnist import summary
from bench.markers import DOCS, write_between
from bench.paper.goals import difference
from bench.paper.results import Result, Results
from bench.paper.rows import ROWS, TITLES, Published, Row
from bench.paper.run import PATH
from bench.readme import README, percent, spread
from bench.record import described

HEADER = (
    "| network, data: encoded layers | numbers | allowed | stored | accuracy before | after fit | after fine-tuning "
    "| points | the paper: numbers, accuracy, points | seconds (job) |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def write() -> None:
    """Put the tables between their markers."""
    results = Results(PATH)
    write_between(DOCS / "paper.md", "paper", f"{table(results)}\n\n{note(results)}".rstrip())
    write_between(README, "paper", measured(results))


def table(results: Results) -> str:
    """A line a row, those that were not run too."""
    return "\n".join([HEADER, *(line(row, results.of(row)) for row in ROWS)])


def measured(results: Results) -> str:
    """The rows that were run."""
    lines = [line(row, runs) for row in ROWS if (runs := results.of(row))]
    return "\n".join([HEADER, *lines]) if lines else "None of them is stored yet."


def line(row: Row, runs: Sequence[Result]) -> str:
    """One row, the median over its seeds; without a result, what it takes to get one."""
    paper = published(row.published)
    if not runs:
        return f"| {row.title} | | {row.parameters:,} | not run: give `{row.option}` | | | | | {paper} | |"

    stored = spread(summary([found["compressed"] for found in runs]), "{:,.0f}")
    before, fit, final = (
        percent(summary([found[name] for found in runs])) for name in ("baseline", "after_fit", "final")
    )
    points = spread(summary([difference(found) for found in runs]), "{:+.2f}")
    seconds = spread(summary([found["seconds"]["job"] for found in runs]), "{:,.0f}")
    return (
        f"| {row.title} | {runs[0]['original']:,} | {row.parameters:,} | {stored} | {before} | {fit} | **{final}** "
        f"| {points} | {paper} | {seconds} |"
    )


def published(figures: Published | None) -> str:
    """The paper's figures, with the data they are of."""
    if figures is None:
        return "not in its abstract"
    return (
        f"{figures.original} → {figures.parameters}, {figures.before:.2f} → {figures.after:.2f}, "
        f"{figures.difference:+.2f} "
        f"({TITLES[figures.data]})"
    )


def note(results: Results) -> str:
    """Where the numbers come from: a line a row and seed."""
    return "\n".join(_source(row, found) for row in ROWS for found in results.of(row))


def _source(row: Row, found: Result) -> str:
    where = found["provenance"]
    low, high = (100 * end for end in found["interval_95"]["final"])
    return (
        f"- {row.title}: original and compressed network are trained on the same {found['images']:,} images, the "
        f"original for {found['epochs']} epochs; {found['samples']:,} to test; 95 % interval of the last accuracy "
        f"{low:.2f} to {high:.2f}. "
        f"At {where['commit']}, {described(where['machine'])}, "
        f"seed {where['seeds'][0]}."
    )
