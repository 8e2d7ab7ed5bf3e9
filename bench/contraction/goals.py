"""What this project's contraction must do, in time and memory on a CPU of two cores, and where a run missed it."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.contraction.networks import Network
from bench.contraction.table import bytes_of, copies, median

Row = dict[str, Any]

LARGE = Network(27, depth=2)
LARGE_LIMIT = 8 * 2**30
"""Peak memory that `LARGE` must keep below."""
SITES = 24
"""Size at which the times are held to account."""
MOST_COPIES = {"inner layer": 90, "first layer": 20}
"""Of the tensor, that forward + backward may take as long as."""
LEAST_GAIN = 20
"""How many times faster than gate by gate an inner TN layer must be."""
MOST_TENSORS = 4
"""Peak memory of forward + backward."""
GROWTH = range(20, 27)
MOST_GROWTH = 1.5
"""How much more an entry may cost in one of these sizes than in another."""
GROWING = ("inner layer", "network of 2")
"""Where it may: a first layer gets cheaper by the entry as it grows."""


def missed(rows: Sequence[Row]) -> list[str]:
    """The goals that were missed, each with what was expected and what was measured.

    Args:
        rows: All of the table; what is missing in it counts as missed.
    """
    ours = [row for row in rows if row["method"] == "ours"]
    impossible = [f"{_name(row)}: expected a result, got {row['infeasible']}" for row in ours if "infeasible" in row]
    measured = [row for row in ours if "infeasible" not in row and row["device"] == "cpu"]
    return [*impossible, *_slow(measured), *_slower_than(rows), *_large(measured), *_uneven(measured)]


def _slow(ours: Sequence[Row]) -> Iterator[str]:
    """In copies of the tensor."""
    for row in ours:
        found = copies(row, "both")
        most = MOST_COPIES.get(row["network"])
        if row["sites"] == SITES and most is not None and found is not None and found > most:
            yield f"{_name(row)}: expected at most {most} copies, got {found:.1f}"


def _slower_than(rows: Sequence[Row]) -> Iterator[str]:
    """Next to gate by gate."""
    times = {
        row["method"]: median(row, "both")
        for row in rows
        if (row["network"], row["sites"], row["device"]) == ("inner layer", SITES, "cpu")
    }
    peer, own = times.get("tensordot"), times.get("ours")
    if peer is None or own is None:
        yield f"inner layer, Q={SITES}: expected the times of tensordot and ours, got none of one of them"
    elif peer < LEAST_GAIN * own:
        yield f"inner layer, Q={SITES}: expected {LEAST_GAIN} times the speed of tensordot, got {peer / own:.1f}"


def _large(ours: Sequence[Row]) -> Iterator[str]:
    """In memory."""
    for row in ours:
        peak = row["peak_bytes"]
        if row["sites"] >= SITES and peak > MOST_TENSORS * bytes_of(row):
            yield f"{_name(row)}: expected a peak of {MOST_TENSORS} tensors, got {peak / bytes_of(row):.2f}"
        if (row["network"], row["sites"]) == (LARGE.name, LARGE.sites) and peak >= LARGE_LIMIT:
            yield f"{_name(row)}: expected a peak of less than {LARGE_LIMIT} bytes, got {peak}"


def _uneven(ours: Sequence[Row]) -> Iterator[str]:
    """In the cost of an entry."""
    for network in GROWING:
        times = {row["sites"]: median(row, "both") for row in ours if row["network"] == network}
        costs = {sites: time / 2**sites for sites, time in times.items() if sites in GROWTH and time is not None}
        if costs and max(costs.values()) > MOST_GROWTH * min(costs.values()):
            shown = ", ".join(f"{1e9 * cost:.1f} ns at Q={sites}" for sites, cost in costs.items())
            yield f"{network}: expected an entry to cost the same within {MOST_GROWTH} times, got {shown}"


def _name(row: Row) -> str:
    return f"{row['network']}, Q={row['sites']}"
