"""Accuracy against numbers and against bytes, as figures."""

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bench.accuracy.methods import METHODS
from bench.accuracy.points import Point, bytes_points, front, numbers_points
from bench.accuracy.ratios import OWN
from bench.figures import save

_STRONG_FIRST = [*range(0, 20, 2), *range(1, 20, 2)]
COLOURS = {method: colormaps["tab20"](i) for method, i in zip(reversed(METHODS), _STRONG_FIRST, strict=False)}
"""Of each method; those of this project, which come last, get the strong ones."""


def plot(result: dict[str, Any], folder: Path, name: str) -> None:
    """Draw both figures.

    Args:
        result: As folded.
        folder: Of the SVG files.
        name: With which their names begin.
    """
    by_numbers = {method: numbers_points(result, method) for method in METHODS}
    by_bytes = {method: front(bytes_points(result, method)) for method in METHODS}
    _figure(by_numbers, "numbers stored for the three layers", folder / f"{name}_numbers.svg")
    _figure(by_bytes, "bytes stored for the three layers", folder / f"{name}_bytes.svg")


def _figure(points: dict[str, list[Point]], label: str, path: Path) -> None:
    """One line a method, with squares for those of this project; the bars are the standard deviation."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for method, found in points.items():
        if found:
            bars = [point.error.deviation for point in found]
            sizes, errors = [point.size for point in found], [point.error.mean for point in found]
            axes.errorbar(
                sizes,
                errors,
                bars,
                fmt="s-" if method in OWN else "o-",
                color=COLOURS[method],
                label=method,
                markersize=4,
                linewidth=1,
                capsize=2,
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
