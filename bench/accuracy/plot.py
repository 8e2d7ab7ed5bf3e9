"""Accuracy against numbers and against bytes, as figures."""

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bench.accuracy.methods import METHODS
from bench.accuracy.table import Spread, bytes_of, percent
from bench.figures import save

COLOURS = {method: f"C{i}" for i, method in enumerate(METHODS)}


class Point(NamedTuple):
    """A method at some size: its test error in percent over the seeds."""

    size: int
    error: Spread


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


def numbers_points(result: dict[str, Any], method: str) -> list[Point]:
    """Every budget, as trained."""
    return [
        Point(row["numbers"], _error(found))
        for row in result["rows"]
        if row["method"] == method and (found := percent(row, "fp32")) is not None
    ]


def bytes_points(result: dict[str, Any], method: str) -> list[Point]:
    """Every budget in every form of storage."""
    return [
        Point(bytes_of(row, storage), _error(found))
        for row in result["rows"]
        for storage in METHODS[method].stored_as
        if row["method"] == method and (found := percent(row, storage)) is not None
    ]


def front(points: list[Point]) -> list[Point]:
    """The points than which none is both smaller and better."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.size, point.error.mean)):
        if not kept or point.error.mean < kept[-1].error.mean:
            kept.append(point)
    return kept


def _error(accuracy: Spread) -> Spread:
    return accuracy._replace(mean=100 - accuracy.mean)


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
