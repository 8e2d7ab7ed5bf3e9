"""How many bytes this project's networks take where the peers are as accurate."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.accuracy.methods import METHODS
from bench.accuracy.storage import in_bits
from bench.accuracy.table import bytes_of, line, percent

OWN = tuple(name for name, method in METHODS.items() if method.bits)
"""Methods that are trained in few bits, which no peer is."""


class Point(NamedTuple):
    """A size and the mean accuracy there, in percent."""

    bytes: int
    accuracy: float


def ratios_table(result: dict[str, Any]) -> str:
    """A row for each budget and own method in each number of bits: its bytes over what the peers need."""
    peers = front([point for row in result["rows"] if row["method"] not in OWN for point in _points(row)])
    lines = [line(["numbers", "method", "stored as", "accuracy", "bytes", "peers need", "ratio"]), line(["---"] * 7)]
    for row in result["rows"]:
        for bits in METHODS[row["method"]].bits:
            storage = in_bits(bits).name
            found = percent(row, storage)
            if found is None:
                continue
            size, needed = bytes_of(row, storage), bytes_needed(peers, found.mean)
            ratio = ["none is as accurate", "-"] if needed is None else [f"{needed:,.0f}", f"{size / needed:.2f}"]
            cells = [f"≤ {row['budget']:,}", row["method"], storage, f"{found.mean:.2f}", f"{size:,}", *ratio]
            lines.append(line(cells))
    return "\n".join(lines)


def front(points: Sequence[Point]) -> list[Point]:
    """The points than which none is both smaller and better, by size."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bytes, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def bytes_needed(points: Sequence[Point], accuracy: float) -> float | None:
    """Bytes at which a front reaches an accuracy, between two of its points along a line over the bytes' logarithm.

    Args:
        points: The front.
        accuracy: In percent.

    Returns:
        None if no point is as accurate; the smallest point's bytes if that is.
    """
    above = next((i for i, point in enumerate(points) if point.accuracy >= accuracy), None)
    if above is None:
        return None
    if above == 0:
        return points[0].bytes
    worse, better = points[above - 1], points[above]
    part = (accuracy - worse.accuracy) / (better.accuracy - worse.accuracy)
    return worse.bytes * math.exp(part * math.log(better.bytes / worse.bytes))


def _points(row: dict[str, Any]) -> list[Point]:
    """A row in every form of storage."""
    forms = METHODS[row["method"]].stored_as
    return [Point(bytes_of(row, form), found.mean) for form in forms if (found := percent(row, form)) is not None]
