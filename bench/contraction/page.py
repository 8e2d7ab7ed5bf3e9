"""Writes the table and the figure of the page from the stored result."""

import json
from typing import Any

from bench.contraction.plot import plot
from bench.contraction.table import table
from bench.markers import DOCS, write_between
from bench.record import RESULTS, described


def write() -> None:
    """Put both into the folder of the documentation."""
    result = json.loads((RESULTS / "contraction.json").read_text())
    write_between(DOCS / "contraction.md", "contraction", f"{table(result['rows'])}\n\n{note(result)}")
    plot(result["rows"], DOCS / "contraction.svg")


def note(result: dict[str, Any]) -> str:
    """Where the numbers come from."""
    where = result["provenance"]
    machine, peers = where["machine"], where["versions"]
    versions = ", ".join(f"{name} {number or 'not installed'}" for name, number in peers.items())
    return (
        f"`{where['command']}` at {where['commit']}, {described(machine)}, {where['threads']} threads, "
        f"torch {machine['torch']}, {versions}; "
        "every run is in `bench/results/contraction.json`."
    )
