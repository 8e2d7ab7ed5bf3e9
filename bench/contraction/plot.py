"""How the time grows with the size, as a figure."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.contraction.table import median
from bench.figures import save

COLOURS = {"tensordot": "C0", "opt_einsum": "C1", "quimb": "C2", "ours": "C3"}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw forward + backward of every network that was measured at several sizes.

    Args:
        rows: Of the stored result.
        path: Of the SVG file.
    """
    names = [name for name in dict.fromkeys(row["network"] for row in rows) if len(_sizes(rows, name)) > 1]
    figure = Figure(figsize=(4 * len(names), 7), layout="constrained")
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for i, name in enumerate(names):
        _panel(axes[0, i], (row for row in rows if row["network"] == name), 1.0, per_entry=False)
        _panel(axes[1, i], (row for row in rows if row["network"] == name), 1e9, per_entry=True)
        axes[0, i].set_title(name)
        axes[1, i].set_xlabel("entries of the tensor")
    axes[0, 0].set_ylabel("forward + backward, s")
    axes[1, 0].set_ylabel("forward + backward, ns per entry")
    axes[0, 0].legend()
    save(figure, path)


def _sizes(rows: Iterable[dict[str, Any]], name: str) -> set[int]:
    return {row["sites"] for row in rows if row["network"] == name}


def _panel(axes: Axes, rows: Iterable[dict[str, Any]], scale: float, per_entry: bool) -> None:
    """One line a method and device."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        seconds = median(row, "both")
        if seconds is not None:
            entries = 1 << row["sites"]
            value = scale * seconds / (entries if per_entry else 1)
            lines.setdefault((row["method"], row["device"]), []).append((entries, value))
    for (method, device), points in lines.items():
        label, style = (method, "o-") if device == "cpu" else (f"{method} ({device})", "s--")
        axes.plot(*zip(*points, strict=True), style, color=COLOURS[method], label=label, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
