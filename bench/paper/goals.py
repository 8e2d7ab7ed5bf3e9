"""What is asked of a row: the promise of its job, and the accuracy of the original."""

from collections.abc import Mapping
from typing import Any

from bench.paper.rows import TITLES, Row


def difference(found: Mapping[str, Any]) -> float:
    """Accuracy of the compressed network less that of the original, in points."""
    points: float = 100 * (found["final"] - found["baseline"])
    return round(points, 2)


def broken(row: Row, found: Mapping[str, Any]) -> str | None:
    """Why the promise is not kept; None if it is. An accuracy below the original's breaks none."""
    if found["compressed"] <= row.parameters:
        return None
    return f"expected at most {row.parameters} numbers, got {found['compressed']}"


def goals(row: Row, found: Mapping[str, Any]) -> str:
    """Each goal of a row and whether it was reached, in a line for the eye."""
    points = difference(found)
    said = row.published
    paper = (
        ""
        if said is None
        else f"; the paper: {said.original} -> {said.parameters}, {said.before:.2f} -> {said.after:.2f} %, "
        f"{said.difference:+.2f} ({TITLES[said.data]})"
    )
    return (
        f"{found['original']:,} -> {found['compressed']:,} numbers "
        f"(at most {row.parameters:,}: {_reached(broken(row, found) is None)}), "
        f"{100 * found['baseline']:.2f} -> {100 * found['final']:.2f} % "
        f"(not below the original: {_reached(points >= 0)}, {points:+.2f}), {found['seconds']['job']:,.0f} s{paper}"
    )


def _reached(yes: bool) -> str:
    return "reached" if yes else "MISSED"
