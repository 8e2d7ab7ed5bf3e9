"""Measure every row, print it, and store the result."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.contraction.methods import METHODS
from bench.contraction.networks import Network
from bench.contraction.process import RowFailed
from bench.contraction.process import run as run_row
from bench.contraction.row import SEED, Task
from bench.contraction.table import header, line
from bench.record import provenance, store

SITES = (12, 14, 16, 18, 20, 22, 24, 26)
DEEP = Network(24, depth=8)
LARGE = Network(27, depth=2)
LARGE_LIMIT = 8 * 2**30
"""Peak memory that `LARGE` must keep below."""


def tasks(sites: Sequence[int]) -> Iterator[list[Task]]:
    """The rows of each network; the first one's values are what the others are compared with."""
    ours_on = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for network in (
        *(Network(count, given=True) for count in sites),
        *(Network(count) for count in sites),
        *(Network(count, depth=2) for count in sites),
    ):
        peers = [Task(network, method) for method in METHODS if method != "ours"]
        yield [*peers, *(Task(network, "ours", device) for device in ours_on)]


def extremes() -> Iterator[list[Task]]:
    """The deep and the large network, of which the peers have no room for the gradient."""
    yield [Task(DEEP, "ours", measures="memory")]
    yield [Task(LARGE, "tensordot", measures="forward"), Task(LARGE, "ours")]


def run(sites: Sequence[int] | None) -> None:
    """Run the benchmark.

    Args:
        sites: Only these sizes, and nothing is stored; None for all.
    """
    rows: list[dict[str, Any]] = []
    print(header())
    for group in tasks(SITES) if sites is None else tasks(sites):
        rows.extend(_measured(group))
    if sites is not None:
        return
    for group in extremes():
        rows.extend(_measured(group))
    origin = provenance("make bench-contraction", [SEED])
    store(
        "contraction",
        {"provenance": {**origin, "threads": os.cpu_count(), "versions": _versions()}, "rows": rows},
    )
    require(rows)


def require(rows: Sequence[dict[str, Any]]) -> None:
    """Fail where this project's contraction misses what it must do."""
    for row in rows:
        if row["method"] == "ours" and "infeasible" in row:
            raise SystemExit(f"{row}: expected it to be feasible")
        large = row["network"] == LARGE.name and row["sites"] == LARGE.sites and row["device"] == "cpu"
        if row["method"] == "ours" and large and row["peak_bytes"] >= LARGE_LIMIT:
            raise SystemExit(f"{LARGE}: expected a peak of less than {LARGE_LIMIT} bytes, got {row['peak_bytes']}")


def _measured(group: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """The rows of one network, printed as they come."""
    with tempfile.TemporaryDirectory() as folder:
        for task in group:
            try:
                row = run_row(task, Path(folder) / "values.pt")
            except RowFailed as error:
                raise SystemExit(str(error)) from None
            print(line(row), flush=True)
            yield row


def _versions() -> dict[str, str | None]:
    """Of the peers."""
    found: dict[str, str | None] = {}
    for name in ("opt_einsum", "quimb", "cotengra"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
