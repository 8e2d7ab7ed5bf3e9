"""The points of figures and of comparisons: a size, and the test error there."""

from typing import Any, NamedTuple

from bench.accuracy.methods import METHODS
from bench.accuracy.table import Spread, bytes_of, percent


class Point(NamedTuple):
    """A method at some size: its test error in percent over the seeds."""

    size: int
    error: Spread


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
