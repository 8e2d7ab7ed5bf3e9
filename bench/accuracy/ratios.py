"""How many bytes this project's networks take where the peers are as accurate."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.accuracy.methods import METHODS
from bench.accuracy.points import Point, bytes_points, front
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.storage import in_bits
from bench.accuracy.table import bytes_of, header, line, percent, seeds_told

OWN = tuple(name for name, method in METHODS.items() if method.bits)
"""Methods that are trained in few bits, which no peer is."""
LIKEWISE = tuple(name for name, method in METHODS.items() if method.natural and name not in OWN)
"""A peer's form with this project's training."""
PEERS = tuple(name for name in METHODS if name not in {*OWN, *LIKEWISE})
_DENSE_BYTES = 2
"""Of a number that stayed dense, with every method: half precision."""


def ratios_table(result: dict[str, Any]) -> str:
    """A row for each budget and own method in each number of bits: its bytes over what others need.

    The others are the peers, once with the dense numbers of the rest on both sides too; and, where any was run, a
    peer's form with this project's training.
    """
    points = {method: bytes_points(result, method) for method in METHODS}
    peers, likewise = (
        front([point for method in methods for point in points[method]]) for methods in (PEERS, LIKEWISE)
    )
    dense = _DENSE_BYTES * PROBLEMS[result["problem"]].dense
    columns = ["numbers", "method", "stored as", "accuracy", "bytes"]
    columns += ["peers need", "ratio", "ratio with the dense rest"]
    if likewise:
        columns += [f"{', '.join(method for method in LIKEWISE if points[method])} needs", "ratio"]
    lines = header(columns)
    for row in result["rows"]:
        for bits in METHODS[row["method"]].bits:
            storage = in_bits(bits).name
            found = percent(row, storage)
            if found is None:
                continue
            seeds = seeds_told(row, storage, result["least_seeds"])
            size = bytes_of(row, storage)
            cells = [f"≤ {row['budget']:,}", row["method"], storage, f"{found.mean:.2f}{seeds}", f"{size:,}"]
            needed = bytes_needed(peers, found.mean)
            cells += [_told(needed), _ratio(size, needed), _ratio(size, needed, dense)]
            if likewise:
                needed = bytes_needed(likewise, found.mean)
                cells += [_told(needed), _ratio(size, needed)]
            lines.append(line(cells))
    return "\n".join(lines)


class Needed(NamedTuple):
    """Bytes that an accuracy takes.

    Args:
        bytes: As many, or at most as many.
        at_most: Whether no smaller point was run, which might be as accurate too.
    """

    bytes: float
    at_most: bool = False


def _told(needed: Needed | None) -> str:
    """What others need."""
    if needed is None:
        return "none is as accurate"
    return f"{'≤ ' if needed.at_most else ''}{needed.bytes:,.0f}"


def _ratio(size: int, needed: Needed | None, dense: int = 0) -> str:
    """How much of what others need a size is, with the bytes of dense numbers added to both."""
    if needed is None:
        return "-"
    return f"{'≥ ' if needed.at_most else ''}{(size + dense) / (needed.bytes + dense):.2f}"


def bytes_needed(points: Sequence[Point], accuracy: float) -> Needed | None:
    """Bytes at which a front reaches an accuracy, between two of its points along a line over the bytes' logarithm.

    Args:
        points: The front.
        accuracy: In percent.

    Returns:
        None if no point is as accurate.
    """
    above = next((i for i, point in enumerate(points) if 100 - point.error.mean >= accuracy), None)
    if above is None:
        return None
    if above == 0:
        return Needed(points[0].size, at_most=100 - points[0].error.mean > accuracy)
    worse, better = points[above - 1], points[above]
    part = (worse.error.mean - (100 - accuracy)) / (worse.error.mean - better.error.mean)
    return Needed(worse.size * math.exp(part * math.log(better.size / worse.size)))
