"""Which tensor networks are contracted together: those that are alike, as many as leave room for a gradient."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from adtn.structure import AnyStructure

_T = TypeVar("_T")


def batches(
    items: Iterable[_T],
    structure: Callable[[_T], AnyStructure],
    rest: Callable[[_T], Hashable],
    most_entries: int,
) -> Iterator[list[_T]]:
    """Put items together that have equal structures, and are alike in the rest too.

    Args:
        items: In any order; it is kept within a batch.
        structure: Of an item.
        rest: What else must be equal.
        most_entries: Of a batch of several.
    """
    alike: dict[Hashable, list[_T]] = {}
    for item in items:
        alike.setdefault((structure(item), rest(item)), []).append(item)
    for group in alike.values():
        most = max(1, most_entries // structure(group[0]).size)
        for start in range(0, len(group), most):
            yield group[start : start + most]
