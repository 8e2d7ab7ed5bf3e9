"""Accuracy against numbers and against bytes, as figures."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bench.accuracy.methods import METHODS
from bench.accuracy.points import Point, bytes_points, front, numbers_points
from bench.figures import save

COLOURS = {method: f"C{i}" for i, method in enumerate(METHODS)}


def plot(result: dict[str, Any], folder: Path) -> None:
    """Draw both figures.

    Args:
        result: As folded.
        folder: Of the SVG files.
    """
    by_numbers = {method: numbers_points(result, method) for method in METHODS}
    by_bytes = {method: front(bytes_points(result, method)) for method in METHODS}
    _figure(by_numbers, "numbers stored for the three layers", folder / "accuracy_numbers.svg")
    _figure(by_bytes, "bytes stored for the three layers", folder / "accuracy_bytes.svg")


def _figure(points: dict[str, list[Point]], label: str, path: Path) -> None:
    """One line a method; the bars are the standard deviation."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for method, found in points.items():
        if found:
            bars = [point.error.deviation for point in found]
            sizes, errors = [point.size for point in found], [point.error.mean for point in found]
            axes.errorbar(
                sizes, errors, bars, fmt="o-", color=COLOURS[method], label=method, markersize=4, linewidth=1, capsize=2
            )
    axes.set_xlabel(label)
    axes.set_ylabel("test error, %")
    _logarithmic(axes)
    axes.legend()
    save(figure, path)


def _logarithmic(axes: Axes) -> None:
    """Both axes, the error with plain numbers."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
