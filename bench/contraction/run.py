"""Measure every row, print it, and store the result."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.contraction.goals import LARGE, missed
from bench.contraction.methods import METHODS
from bench.contraction.networks import Network
from bench.contraction.process import RowFailed
from bench.contraction.process import run as run_row
from bench.contraction.row import SEED, Task
from bench.contraction.table import header, line
from bench.record import provenance, store

SITES = (12, 14, 16, 18, 20, 22, 24, 26)
DEEP = Network(24, depth=8)
GPU_SITES = 28
"""A size besides, that is measured on a GPU alone."""


def tasks(sites: Sequence[int]) -> Iterator[list[Task]]:
    """The rows of each network; the first one's values are what the others are compared with."""
    ours_on = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for network in _networks(sites):
        peers = [Task(network, method) for method in METHODS if method != "ours"]
        yield [*peers, *(Task(network, "ours", device) for device in ours_on)]


def _networks(sites: Sequence[int]) -> list[Network]:
    """An inner layer, a first layer and a network of 2 of each size."""
    return [
        *(Network(count, given=True) for count in sites),
        *(Network(count) for count in sites),
        *(Network(count, depth=2) for count in sites),
    ]


def extremes() -> Iterator[list[Task]]:
    """The deep and the large networks, of which the peers have no room for the gradient."""
    yield [Task(DEEP, "ours", measures="memory")]
    yield [Task(LARGE, "tensordot", measures="forward"), Task(LARGE, "ours")]
    if torch.cuda.is_available():
        yield from ([Task(network, "ours", "cuda")] for network in _networks([GPU_SITES]))


def run(sites: Sequence[int] | None) -> list[str]:
    """Run the benchmark.

    Args:
        sites: Only these sizes, and nothing is stored; None for all.

    Returns:
        The goals that were missed, if all was measured.
    """
    rows: list[dict[str, Any]] = []
    print(header())
    for group in tasks(SITES) if sites is None else tasks(sites):
        rows.extend(_measured(group))
    if sites is not None:
        return []
    for group in extremes():
        rows.extend(_measured(group))
    origin = provenance("make bench-contraction", [SEED])
    store(
        "contraction",
        {"provenance": {**origin, "threads": os.cpu_count(), "versions": _versions()}, "rows": rows},
    )
    return missed(rows)


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
