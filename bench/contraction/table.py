"""The table of the contraction, from the stored rows."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

COLUMNS = (
    "network",
    "Q",
    "method",
    "forward, s",
    "copies",
    "forward + backward, s",
    "copies",
    "peak, tensors",
    "peak, MiB",
    "of copy bandwidth",
    "runs",
    "difference",
    "of the gates' gradient",
)
LEAST_SITES = 20
"""Memory is not given in smaller tensors: the pages of the program itself are more than those."""


def table(rows: Iterable[dict[str, Any]]) -> str:
    """All rows, as Markdown."""
    return "\n".join([header(), *(line(row) for row in rows)])


def header() -> str:
    """The first two lines."""
    return "\n".join([_row(COLUMNS), _row(["---"] * len(COLUMNS))])


def line(row: dict[str, Any]) -> str:
    """One row: medians; a reason instead of figures where there are none."""
    method = row["method"] if row["device"] == "cpu" else f"{row['method']} ({row['device']})"
    head = [row["network"], str(row["sites"]), method]
    if "infeasible" in row:
        return _row([*head, row["infeasible"], *["-"] * (len(COLUMNS) - 4)])
    figures = [
        _figure(value, form)
        for name in ("forward", "both")
        for value, form in ((median(row, name), ".3g"), (copies(row, name), ",.1f"))
    ]
    return _row([*head, *figures, *_peak(row), _bandwidth(row), _runs(row), *_differences(row["differences"])])


def copies(row: dict[str, Any], name: str) -> float | None:
    """How many copies of the tensor take as long as the forward pass or forward + backward."""
    seconds, copy = median(row, name), median(row, "copy")
    return None if seconds is None or copy is None else seconds / copy


def median(row: dict[str, Any], name: str) -> float | None:
    """The median of all runs, if there are any."""
    runs = row.get("seconds", {}).get(name)
    return statistics.median(runs) if runs else None


def bytes_of(row: dict[str, Any]) -> int:
    """Of the dense tensor."""
    return int(4 * 2 ** row["sites"])


def _peak(row: dict[str, Any]) -> list[str]:
    """Peak memory in dense tensors and in MiB."""
    peak = row["peak_bytes"]
    if peak is None:
        return ["-", "-"]
    tensors = f"{peak / bytes_of(row):.1f}" if row["sites"] >= LEAST_SITES else "-"
    return [tensors, f"{peak / 2**20:,.0f}"]


def _bandwidth(row: dict[str, Any]) -> str:
    """Bytes per second of forward + backward, each tensor moved only as often as it must, over those of the copy."""
    count = copies(row, "both")
    return "-" if count is None else f"{row['least_moves'] / 2 / count:.1%}"  # a copy reads one tensor and writes one


def _differences(found: dict[str, float]) -> list[str]:
    """Of the tensor from the reference; and of the gates' gradient, the worse of the two that were measured."""
    gates = max((found[name] for name in ("gates", "homogeneity") if name in found), default=None)
    return [_figure(found.get("result"), ".0e"), _figure(gates, ".0e")]


def _runs(row: dict[str, Any]) -> str:
    """How many runs the medians are of."""
    return str(len(row["seconds"]["forward"])) if row["seconds"] else "-"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
